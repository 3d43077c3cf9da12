"""`/metrics`, for Prometheus. Source: docs/journal.md."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..observability.metrics import CONTENT_TYPE

router = APIRouter(include_in_schema=False)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the metrics of all server processes on the same Redis."""
    return Response(await request.app.state.services.metrics.text(), media_type=CONTENT_TYPE)
