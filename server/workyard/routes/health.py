"""`/_emulator/health`: whether the server can work. Rules: `control.*`."""

from __future__ import annotations

from enum import Enum

from fastapi import APIRouter
from starlette.responses import Response

from .. import __version__
from ..checks.call import Call
from ..checks.route import ControlRoute
from ..contract.describe import refusals, success
from ..schemas.health import Health
from ..wire.responses import JsonResponse

router = APIRouter(prefix="/_emulator", route_class=ControlRoute)

_SERVER: list[str | Enum] = ["Server"]


@router.get("/health", tags=_SERVER, responses=success(Health, "The server and Redis are available.") | refusals())
async def health(call: Call) -> Response:
    """Check whether the server can work: 503 while Redis is unavailable."""
    services = call.services
    await services.engine.ping()
    fixtures = services.fixtures
    return JsonResponse(
        {
            "status": "ok",
            "engine": services.engine.name,
            "version": __version__,
            "in_flight": len(services.traffic.in_flight),
            "polls_waiting": services.long_poll.blocked,
            "leniencies": {} if fixtures is None else dict(sorted(fixtures.counts.items())),
        }
    )
