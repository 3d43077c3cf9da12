"""`/v1/environments/{environment_id}/work`. Source: contract §4."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response

from workyard_queue.states import LONGEST_BLOCK_MS

from ..dependencies import CallerDep, PublicRoute, QueryInteger, ServicesDep
from ..documentation import refusals, success
from ..responses import JsonResponse
from ..schemas.common import DEFAULT_LIMIT, render_page
from ..schemas.work import (
    HeartbeatError,
    Work,
    WorkHeartbeat,
    WorkPage,
    WorkQueueStats,
    WorkStop,
    WorkUpdate,
    render_heartbeat,
    render_stats,
    render_work,
)
from .environments import EnvironmentId, Limit, Page

router = APIRouter(prefix="/v1/environments/{environment_id}/work", tags=["Work"], route_class=PublicRoute)

WorkId = Annotated[str, Path(description="The work item's id, `work_…`.")]


@router.get(
    "/poll",
    responses=success(Work | None, "An item handed out, or `null` when there is none.") | refusals(400, 401, 404),
)
async def poll_work(
    request: Request,
    environment_id: EnvironmentId,
    services: ServicesDep,
    caller: CallerDep,
    block_ms: Annotated[
        QueryInteger | None,
        Query(ge=1, le=LONGEST_BLOCK_MS, description="How long to wait for work, milliseconds; left out: not at all."),
    ] = None,
    reclaim_older_than_ms: Annotated[
        QueryInteger | None,
        Query(
            ge=1, description="Take over an item that was polled this long ago and not acknowledged; 5000 by default."
        ),
    ] = None,
    worker_id: Annotated[
        str | None,
        Header(alias="Anthropic-Worker-ID", max_length=256, description="Who polls; counted in the statistics."),
    ] = None,
) -> Response:
    """Take an item from the queue. It stays queued until it is acknowledged."""
    item = await services.long_poll.poll(
        environment_id,
        caller,
        worker_id=worker_id,
        reclaim_older_than_ms=reclaim_older_than_ms,
        block_ms=block_ms,
        receive=request.receive,
    )
    return JsonResponse(None if item is None else render_work(item))


@router.get("/stats", responses=success(WorkQueueStats, "The queue's figures.") | refusals(401, 404))
async def get_work_stats(environment_id: EnvironmentId, services: ServicesDep, caller: CallerDep) -> Response:
    """Read the queue's figures; the cost does not depend on its length."""
    return JsonResponse(render_stats(await services.queue.stats(environment_id, caller)))


@router.get("", responses=success(WorkPage, "A page of work items, newest first.") | refusals(400, 401, 404))
async def list_work(
    environment_id: EnvironmentId,
    services: ServicesDep,
    caller: CallerDep,
    limit: Limit = DEFAULT_LIMIT,
    page: Page = None,
) -> Response:
    """List the environment's work items, stopped ones too."""
    rows, next_page = await services.queue.list(environment_id, caller, limit=limit, page=page)
    return JsonResponse(render_page([render_work(row) for row in rows], next_page))


@router.get("/{work_id}", responses=success(Work, "The item.") | refusals(401, 404))
async def get_work(
    environment_id: EnvironmentId, work_id: WorkId, services: ServicesDep, caller: CallerDep
) -> Response:
    """Read a work item."""
    return JsonResponse(render_work(await services.queue.get(environment_id, work_id, caller)))


@router.post("/{work_id}", responses=success(Work, "The changed item.") | refusals(400, 401, 404, 413))
async def update_work(
    environment_id: EnvironmentId,
    work_id: WorkId,
    services: ServicesDep,
    caller: CallerDep,
    body: WorkUpdate | None = None,
) -> Response:
    """Patch a work item's metadata."""
    patch = (body.metadata if body else None) or {}
    return JsonResponse(render_work(await services.queue.update(environment_id, work_id, caller, patch)))


@router.post("/{work_id}/ack", responses=success(Work, "The item, now starting.") | refusals(401, 404, 409))
async def ack_work(
    environment_id: EnvironmentId, work_id: WorkId, services: ServicesDep, caller: CallerDep
) -> Response:
    """Acknowledge an item: it leaves the queue, and its startup lease begins."""
    return JsonResponse(render_work(await services.queue.ack(environment_id, work_id, caller)))


@router.post(
    "/{work_id}/heartbeat",
    responses=success(WorkHeartbeat, "Whether the lease was extended.")
    | refusals(400, 401, 404, 412, e412=HeartbeatError),
)
async def heartbeat_work(
    environment_id: EnvironmentId,
    work_id: WorkId,
    services: ServicesDep,
    caller: CallerDep,
    desired_ttl_seconds: Annotated[
        QueryInteger | None,
        Query(description="Length of the lease in seconds; below 1 counts as 1, above 3600 as 3600; 300 by default."),
    ] = None,
    expected_last_heartbeat: Annotated[
        str | None,
        Query(description="`NO_HEARTBEAT` to claim, or the `last_heartbeat` of the answer before, byte for byte."),
    ] = None,
) -> Response:
    """Claim an acknowledged item, or extend its lease."""
    answer = await services.queue.heartbeat(
        environment_id, work_id, caller, expected=expected_last_heartbeat, desired_ttl_s=desired_ttl_seconds
    )
    return JsonResponse(render_heartbeat(answer))


@router.post("/{work_id}/stop", responses=success(Work, "The item after the step.") | refusals(400, 401, 404, 413))
async def stop_work(
    environment_id: EnvironmentId,
    work_id: WorkId,
    services: ServicesDep,
    caller: CallerDep,
    body: WorkStop | None = None,
) -> Response:
    """Stop an item, gracefully or by force."""
    force = body is not None and body.force
    return JsonResponse(render_work(await services.queue.stop(environment_id, work_id, caller, force=force)))
