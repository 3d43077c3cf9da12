"""`/_emulator/clock`: the clocks of workspaces. Rules: `clock.*`."""

from __future__ import annotations

from enum import Enum
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from workyard_store.clock import parse_instant

from ..checks.call import Call
from ..checks.route import ControlRoute
from ..checks.workspace import (
    EVERY,
    NO_WORKSPACE,
    WorkspaceName,
    each_workspace,
    workspace_meant,
    workspace_to_write,
)
from ..contract.describe import FULL, refusals, success
from ..schemas.clock import (
    MOST_PENDING,
    ClockAhead,
    ClockChange,
    ClockMoved,
    Clocks,
    ClocksMoved,
    render_clock,
    render_clock_ahead,
    render_clock_moved,
)
from ..wire.responses import JsonResponse

router = APIRouter(prefix="/_emulator", route_class=ControlRoute)

_CLOCK: list[str | Enum] = ["Clock"]


@router.get(
    "/clock",
    tags=_CLOCK,
    responses=success(ClockAhead | Clocks, "The workspace's clock; all clocks if the request names no workspace.")
    | refusals(),
)
async def get_clock(call: Call, workspace: WorkspaceName = None) -> Response:
    """Read the workspace's clock and its pending timers, soonest first. For all clocks only the instants are
    returned.
    """
    services = call.services
    meant = await workspace_meant(call, workspace)
    if meant not in ("", EVERY):
        return JsonResponse(render_clock_ahead(*await services.clocks.pending(meant, MOST_PENDING)))

    async def one(name: str) -> dict[str, Any]:
        return render_clock(await services.workspaces.clock(name))

    return await each_workspace(services, meant, one)


@router.post(
    "/clock",
    tags=_CLOCK,
    responses=success(ClockMoved | ClocksMoved, "The clock after the change; all clocks for `?workspace=*`.")
    | refusals(400, 409, 413, because=FULL | {400: f"{NO_WORKSPACE} Time never goes back."}),
)
async def change_clock(body: ClockChange, call: Call, workspace: WorkspaceName = None) -> Response:
    """Freeze, advance or release the workspace's clock, or move it to the next timer.

    Everything that the server dates or times out follows the clock, except `block_ms`, which is wall time. The
    clock never goes back and stops at 2200-01-01T00:00:00Z. Every timer that the change ends has fired before the
    response, which lists them: leases have lapsed, agents have acted. Every request that starts after the
    response sees the change.
    """
    clocks = call.services.clocks

    async def one(name: str) -> dict[str, Any]:
        if body.advance_to_next is not None:
            return render_clock_moved(*await clocks.to_next(name, body.timer))
        if body.advance_seconds is not None:
            moved = await clocks.change(name, "advance", round(body.advance_seconds * 1_000_000))
        else:
            assert body.mode is not None
            moved = await clocks.change(name, body.mode, None if body.at is None else parse_instant(body.at))
        return render_clock_moved(*moved)

    return await each_workspace(call.services, workspace_to_write(await workspace_meant(call, workspace)), one)
