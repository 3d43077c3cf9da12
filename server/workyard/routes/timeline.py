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
_AS_TEXT = {"text/plain": "The timeline, drawn for people."}
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
    responses=success(WorkTimeline, "The life of the item so far.", _AS_TEXT)
    | refusals(400, 404, because={404: "No such work item in the workspace, or in the environment named."}),
)
async def get_timeline(
    work_id: WorkId,
    call: Call,
    workspace: WorkspaceName = None,
    environment_id: Annotated[
        str | None, Query(description="Its environment; left out: the one of the workspace that has the item.")
    ] = None,
    format: Annotated[Literal["json", "text"], Query(description="`text` draws it, in at most 120 columns.")] = "json",
) -> Response:
    """Read the life of a work item: every event, who caused it, and what it means."""
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
    responses=success(Waited, "It has come about.")
    | refusals(
        400,
        404,
        409,
        413,
        because={
            404: "No such work item or environment, or no longer.",
            409: "It has not come about in time; the message tells what was seen last.",
        },
    ),
)
async def wait(body: Wait, call: Call, workspace: WorkspaceName = None) -> Response:
    """Answer when something has come about: an item is in a state, queues have these figures, or nothing is left to do.

    It waits on the server and is told of changes, so that nobody has to ask again and again. Figures are those of the
    workspace, or of all if none is named, unless `until` names an environment. What does not come in time is an error, so
    that a test cannot go on by mistake.
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
        "Each event of a timeline as it happens: `event:` names its kind, `data:` is as in a timeline.",
        "The place of the event, for `since`.",
    )
    | refusals(400, 429),
    response_class=StreamingResponse,
)
async def follow_events(
    call: Call,
    workspace: WorkspaceName = None,
    since: Annotated[
        str | None,
        Query(description="The `id` of an event: tell first what came after it, as far as it is kept.", pattern=_PLACE),
    ] = None,
    seconds: Annotated[
        Annotated[int, Field(ge=0, le=MOST_FOLLOWED_S), AS_QUERY_INTEGER] | None,
        Query(description="End after so many seconds; 0: tell what `since` asks for and end. Left out: go on."),
    ] = None,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="The same, if `since` is left out.", pattern=_PLACE)
    ] = None,
) -> Response:
    """Follow the timelines of the workspace's work items, or of all workspaces if none is named, as server-sent events.

    Nothing that happens after the head of the answer is missed, in environments that are created later too. `event: ping` is
    a sign of life; `event: gap` says that events are missing here: the client was too slow, or they are no longer kept. Who
    comes back with `since` may be told again what happened within a second before it. The stream ends with the
    server, or after `seconds`. An event names the worker only if the call did.
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


@router.get("/queues", tags=_TIMELINE, responses=success(Queues, "The queues and their last events.") | refusals())
async def show_queues(call: Call, workspace: WorkspaceName = None) -> Response:
    """Read the figures of all queues of the workspace, or of all workspaces if none is named, and what happened last.

    The newest 200 environments are shown. `workyard watch` is a view of it.
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
