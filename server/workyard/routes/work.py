"""`/v1/environments/{environment_id}/work`. Rules: `work.*`, `stats.*`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query
from pydantic import Field
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from workyard_queue.work.states import LONGEST_BLOCK_MS

from ..checks.call import Call
from ..checks.parameters import AS_QUERY_INTEGER, QueryInteger
from ..checks.route import PublicRoute
from ..contract.describe import link, refusals, success
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
from ..wire.responses import JsonResponse
from .environments import EnvironmentId, Limit, Page


class _WorkIdConvertor(StringConvertor):
    """The place of an item's id. The other names that stand there take no method of an item."""

    regex = r"(?!(?:poll|stats)\Z)[^/]+"


register_url_convertor("work_id", _WorkIdConvertor())
router = APIRouter(prefix="/v1/environments/{environment_id}/work", tags=["Work"], route_class=PublicRoute)

WorkId = Annotated[str, Path(description="The work item's id, `work_…`.", examples=["work_011CZkZ9X2dpNyB7HsEFoRfW"])]


@router.get(
    "/poll",
    responses=success(Work | None, "An item handed out, or `null` when there is none.")
    | refusals(
        400,
        401,
        403,
        404,
        429,
        because={400: "A parameter breaks a rule, or the environment is a cloud one, which has no queue."},
    ),
)
async def poll_work(
    environment_id: EnvironmentId,
    call: Call,
    block_ms: Annotated[
        Annotated[int, Field(ge=1, le=LONGEST_BLOCK_MS), AS_QUERY_INTEGER] | None,
        Query(description="How long to wait for work, in milliseconds of wall time; default: no wait."),
    ] = None,
    reclaim_older_than_ms: Annotated[
        Annotated[int, Field(ge=1), AS_QUERY_INTEGER] | None,
        Query(
            description="Reclaim an item that was polled at least this many milliseconds ago and not acknowledged; "
            "default: the workspace's setting, initially 5000."
        ),
    ] = None,
    worker_id: Annotated[
        str | None,
        Header(
            alias="Anthropic-Worker-ID",
            max_length=256,
            description="The worker that polls; counted in `workers_polling`.",
        ),
    ] = None,
) -> Response:
    """Take an item from the queue. It stays `queued` until it is acknowledged.

    Items that were handed out and not acknowledged within the reclaim age come first, then the oldest waiting
    item. A client that disconnects while it waits takes no item with it.
    """
    item = await call.services.long_poll.poll(
        environment_id,
        call.caller,
        worker_id=worker_id and call.caller.named(worker_id),
        reclaim_older_than_ms=reclaim_older_than_ms,
        block_ms=block_ms,
        receive=call.receive,
    )
    if item is None:
        return JsonResponse(None)
    call.api_call.work_id, call.api_call.session_id = item.id, item.session_id
    call.api_call.handed_out = item.traceparent or ""
    return JsonResponse(render_work(item))


@router.get(
    "/stats",
    responses=success(WorkQueueStats, "The queue's figures; zeros and nulls for a cloud environment.")
    | refusals(401, 403, 404, because={404: "No such environment for this caller."}),
)
async def get_work_stats(environment_id: EnvironmentId, call: Call) -> Response:
    """Read the queue's figures; the cost does not depend on the length of the queue."""
    return JsonResponse(render_stats(await call.services.queue.stats(environment_id, call.caller)))


@router.get(
    "",
    responses=success(
        WorkPage,
        "A page of work items, newest first.",
        next_page=link("Go on while `next_page` is not null.", "list_work", path="environment_id", page="next_page"),
    )
    | refusals(
        400,
        401,
        403,
        404,
        because={
            400: "A parameter breaks a rule, or the environment is an archived cloud one.",
            404: "No such environment for this caller, or a cloud one.",
        },
    ),
)
async def list_work(
    environment_id: EnvironmentId,
    call: Call,
    limit: Limit = DEFAULT_LIMIT,
    page: Page = None,
) -> Response:
    """List the environment's work items, newest first, including stopped ones."""
    rows, next_page = await call.services.queue.list(environment_id, call.caller, limit=limit, page=page)
    return JsonResponse(render_page([render_work(row) for row in rows], next_page))


@router.get("/{work_id:work_id}", responses=success(Work, "The item.") | refusals(401, 403, 404))
async def get_work(environment_id: EnvironmentId, work_id: WorkId, call: Call) -> Response:
    """Read a work item."""
    return JsonResponse(render_work(await call.services.queue.get(environment_id, work_id, call.caller)))


@router.post("/{work_id:work_id}", responses=success(Work, "The changed item.") | refusals(400, 401, 403, 404, 413))
async def update_work(
    environment_id: EnvironmentId,
    work_id: WorkId,
    call: Call,
    body: WorkUpdate | None = None,
) -> Response:
    """Patch a work item's metadata."""
    patch = (body.metadata if body else None) or {}
    return JsonResponse(render_work(await call.services.queue.update(environment_id, work_id, call.caller, patch)))


@router.post(
    "/{work_id}/ack",
    responses=success(Work, "The item, which is now `starting`.")
    | refusals(401, 403, 404, 409, because={409: "It is not `queued`."}),
)
async def ack_work(environment_id: EnvironmentId, work_id: WorkId, call: Call) -> Response:
    """Acknowledge a queued item: it leaves the queue, becomes `starting`, and its startup lease begins."""
    return JsonResponse(render_work(await call.services.queue.ack(environment_id, work_id, call.caller)))


@router.post(
    "/{work_id}/heartbeat",
    responses=success(
        WorkHeartbeat,
        "Whether the lease was extended.",
        next_heartbeat=link(
            "Extend the lease, well before `ttl_seconds` have passed.",
            "heartbeat_work",
            path="environment_id work_id",
            expected_last_heartbeat="last_heartbeat",
        ),
    )
    | refusals(400, 401, 403, 404, 412, e412=HeartbeatError),
)
async def heartbeat_work(
    environment_id: EnvironmentId,
    work_id: WorkId,
    call: Call,
    desired_ttl_seconds: Annotated[
        QueryInteger | None,
        Query(
            description="Length of the lease in seconds; values below 1 count as 1, above 3600 as 3600; default: the "
            "workspace's setting, initially 300."
        ),
    ] = None,
    expected_last_heartbeat: Annotated[
        str | None,
        Query(
            description="`NO_HEARTBEAT` to claim, or the `last_heartbeat` of the previous response, byte for byte; "
            "omitted or empty: claim or extend, whoever holds the lease.",
            examples=["NO_HEARTBEAT", "2026-09-16T04:27:29.962294Z"],
        ),
    ] = None,
) -> Response:
    """Claim an acknowledged item, which becomes `active`, or extend its lease.

    On a `stopping` or `stopped` item nothing is compared or written; the response tells the worker to end.
    """
    answer = await call.services.queue.heartbeat(
        environment_id, work_id, call.caller, expected=expected_last_heartbeat, desired_ttl_s=desired_ttl_seconds
    )
    return JsonResponse(render_heartbeat(answer))


@router.post("/{work_id}/stop", responses=success(Work, "The item after the step.") | refusals(400, 401, 403, 404, 413))
async def stop_work(
    environment_id: EnvironmentId,
    work_id: WorkId,
    call: Call,
    body: WorkStop | None = None,
) -> Response:
    """Stop an item: gracefully, so that its worker learns of it and ends, or by force, immediately.

    An item that is already stopped, or can no longer be stopped gracefully, does not change.
    """
    force = body is not None and body.force
    return JsonResponse(render_work(await call.services.queue.stop(environment_id, work_id, call.caller, force=force)))
