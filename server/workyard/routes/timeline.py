"""`/_emulator`: what happened to work, and what it waits for. Source: docs/timeline.md."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from enum import Enum
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query
from pydantic import Field
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from workyard_queue.timeline.feed import Follower, Gap
from workyard_queue.timeline.watch import EVERYWHERE, IDLE, Seen, Until
from workyard_store.errors import EnvironmentNotFound, WaitedInVain
from workyard_store.ids import is_id

from ..checks.call import Call
from ..checks.parameters import AS_QUERY_INTEGER
from ..checks.route import ControlRoute
from ..checks.workspace import EVERY, WorkspaceName, workspace_meant
from ..contract.describe import event_stream, refusals, success
from ..schemas.timeline import (
    Queues,
    Wait,
    Waited,
    WaitUntil,
    WorkTimeline,
    render_event,
    render_row,
    render_seen,
    render_timeline,
)
from ..schemas.timeline_text import draw
from ..wire.responses import JsonResponse
from ..wire.sse import EventStream, frame
from .work import WorkId

router = APIRouter(prefix="/_emulator", route_class=ControlRoute)

_TIMELINE: list[str | Enum] = ["Timeline"]
_AS_TEXT = {"text/plain": "The timeline, drawn as text."}
#: Environments and events that `GET /_emulator/queues` shows.
_MOST_ROWS, _MOST_EVENTS = 200, 20
#: The longest time for which events are followed if it is limited, seconds.
MOST_FOLLOWED_S = 3600
_PLACE = r"^[0-9]{1,15}(-[0-9]{1,15})?$"


async def _scope(call: Call, workspace: str | None) -> str:
    """Return the workspace that a call means; `EVERYWHERE` if it names none, or all."""
    meant = await workspace_meant(call, workspace)
    return EVERYWHERE if meant == EVERY else meant


async def _environment_of(call: Call, work_id: str, workspace: str | None) -> str:
    """Return the environment of an item.

    Raises:
        WorkNotFound: none of the workspace has it.
    """
    scope = await _scope(call, workspace)
    workspaces = [scope] if scope != EVERYWHERE else await call.services.workspaces.all()
    return await call.services.timelines.environment_of(work_id, workspaces)


@router.get(
    "/work/{work_id}/timeline",
    tags=_TIMELINE,
    responses=success(WorkTimeline, "The timeline of the item.", _AS_TEXT)
    | refusals(400, 404, because={404: "No such work item in the workspace, or in the given environment."}),
)
async def get_timeline(
    work_id: WorkId,
    call: Call,
    workspace: WorkspaceName = None,
    environment_id: Annotated[
        str | None, Query(description="Its environment; default: the environment of the workspace that has the item.")
    ] = None,
    format: Annotated[
        Literal["json", "text"], Query(description="`text` returns a drawing of at most 120 columns.")
    ] = "json",
) -> Response:
    """Read the timeline of a work item: every event, who caused it, and what it means."""
    if environment_id is None:
        environment_id = await _environment_of(call, work_id, workspace)
    met = await call.services.faults.met_by_polls(environment_id)
    timeline = await call.services.timelines.of(environment_id, work_id, met)
    if format == "text":
        return PlainTextResponse(draw(timeline))
    return JsonResponse(render_timeline(timeline))


@router.post(
    "/wait",
    tags=_TIMELINE,
    responses=success(Waited, "The condition was met.")
    | refusals(
        400,
        404,
        409,
        413,
        because={
            404: "The work item or environment does not exist, or was deleted during the wait.",
            409: "The condition was not met in time; the message shows the last state seen.",
        },
    ),
)
async def wait(body: Wait, call: Call, workspace: WorkspaceName = None) -> Response:
    """Respond when a condition is met: an item is in a state, queues have given figures, or nothing is left to do.

    The server watches for changes, so clients need not poll. Figures are those of the workspace, or of all if the
    request names none, unless `until` names an environment. A timeout is an error, so that a test cannot go on by
    mistake.
    """
    began = time.monotonic()
    wanted = body.until
    until = _until(wanted)
    scope = wanted.environment_id
    if scope is not None and not is_id("env", scope):
        raise EnvironmentNotFound(scope)
    if scope is None and wanted.work_id is not None:
        scope = await _environment_of(call, wanted.work_id, workspace)
    elif scope is None:
        scope = await _scope(call, workspace)
    seen = await call.services.watching.wait(scope, until, body.timeout_seconds, call.receive)
    if not seen.met:
        raise WaitedInVain(body.timeout_seconds, str(until), _in_words(seen, until))
    return JsonResponse({"met": True, "waited_ms": round((time.monotonic() - began) * 1000), "seen": render_seen(seen)})


def _until(wanted: WaitUntil) -> Until:
    if wanted.work_id is not None:
        return Until(wanted.work_id, wanted.state)
    return Until(figures=IDLE if wanted.stats is None else wanted.stats.model_dump(exclude_none=True))


def _in_words(seen: Seen, until: Until) -> str:
    if seen.state is not None:
        return seen.state
    return ", ".join(f"{name} {getattr(seen, name)}" for name in until.figures or {})


@router.get(
    "/events",
    tags=_TIMELINE,
    responses=event_stream(
        "Each timeline event as it happens: `event:` is its kind, `data:` is the same as in a timeline.",
        "The position of the event, for `since`.",
    )
    | refusals(400, 429),
    response_class=StreamingResponse,
)
async def follow_events(
    call: Call,
    workspace: WorkspaceName = None,
    since: Annotated[
        str | None,
        Query(
            description="The `id` of an event: first send the events after it, as far as they are still stored.",
            pattern=_PLACE,
        ),
    ] = None,
    seconds: Annotated[
        Annotated[int, Field(ge=0, le=MOST_FOLLOWED_S), AS_QUERY_INTEGER] | None,
        Query(
            description="End the stream after this many seconds; 0: send what `since` asks for and end. Default: no end."
        ),
    ] = None,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", description="Used in place of `since` if that is omitted.", pattern=_PLACE),
    ] = None,
) -> Response:
    """Follow the timelines of all work items in the workspace, or in all workspaces if the request names none, as
    server-sent events.

    The stream contains everything that happens after the head of the response, including events in environments
    created later. `event: ping` is a keep-alive; `event: gap` marks missing events: the client was too slow, or
    they are no longer stored. A client that reconnects with `since` may receive events from the second before it
    again. The stream ends with the server, or after `seconds`. An event names the worker only if the call did.
    """
    follower = await call.services.following.follow(await _scope(call, workspace), since or last_event_id)
    return EventStream(_frames(follower, math.inf if seconds is None else seconds), follower)


async def _frames(follower: Follower, seconds: float) -> AsyncIterator[bytes]:
    # The head leaves together with the first frame.
    yield frame("ping", {"type": "ping"})
    async for event in follower.events(seconds):
        if isinstance(event, Gap):
            yield frame("gap", {"type": "gap"})
        elif isinstance(event, str):
            yield frame("ping", {"type": "ping"})
        else:
            yield frame(event.kind, render_event(event), event.entry)


@router.get("/queues", tags=_TIMELINE, responses=success(Queues, "The queues and their latest events.") | refusals())
async def show_queues(call: Call, workspace: WorkspaceName = None) -> Response:
    """Read the figures of all queues of the workspace, or of all workspaces if the request names none, and their
    latest events.

    The newest 200 environments are shown. `workyard watch` displays this.
    """
    rows, count = await call.services.watching.table(await _scope(call, workspace), _MOST_ROWS)
    events = await call.services.following.newest([row.environment_id for row in rows], _MOST_EVENTS)
    return JsonResponse(
        {
            "data": [render_row(row) for row in rows],
            "environments": count,
            "events": [render_event(event) for event in events],
        }
    )
