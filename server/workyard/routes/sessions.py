"""`/v1/sessions` and their events, as far as workers and those who give them work need them. Rules: `sessions.*`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response, StreamingResponse

from workyard_queue.sessions.filters import Dates, EventFilter, SessionFilter
from workyard_queue.sessions.records import Event, merged_metadata, rendered
from workyard_queue.sessions.records import Session as SessionRecord
from workyard_queue.sessions.scripts import METADATA_KEY
from workyard_queue.sessions.streams import Listener
from workyard_store.clock import format_instant
from workyard_store.errors import InvalidRequest, MemoryStoreNotFound, SessionOutOfState
from workyard_store.ids import canonical_session_id, derived_suffix, new_id

from ..checks.call import Call
from ..checks.parameters import QueryBoolean, QueryInteger
from ..checks.permissions import check_events
from ..checks.route import PublicRoute
from ..contract.describe import FULL, event_stream, link, refusals, success
from ..schemas.agents import UNKNOWN, AgentOverrides, AgentReference, overridden, render_session_agent, tools_of
from ..schemas.common import DEFAULT_LIMIT, QueryInstant, render_page
from ..schemas.events import EventPage, EventsSend, EventsSent, EventType, content_of
from ..schemas.sessions import (
    Session,
    SessionCreate,
    SessionDeleted,
    SessionPage,
    SessionUpdate,
    Status,
    render_session,
)
from ..settings import MOUNT
from ..wire.responses import JsonResponse
from ..wire.sse import EventStream, frame
from .environments import Limit, Page

router = APIRouter(prefix="/v1/sessions", tags=["Sessions"], route_class=PublicRoute)

#: Key of a session's metadata that says for it what the setting `memory_mount` says for all.
MOUNT_KEY = "workyard_memory_mount"
_NO_SESSION = {404: "No such session for this caller."}
_STATE = {400: "The request breaks a rule, or the session's status does not allow it; the message says which."}
_GOES_ON = {
    name: link(text, operation, session_id="id")
    for name, operation, text in (
        ("read", "get_session", "Read it."),
        ("change", "update_session", "Rename it."),
        ("send", "send_events", "Send it a message."),
        ("list", "list_events", "List its events."),
        ("follow", "stream_events", "Follow its events."),
        ("archive", "archive_session", "End it, but keep it on record."),
        ("delete", "delete_session", "End it."),
    )
}
Order = Literal["asc", "desc"]
_ORDERS = "`asc`: oldest first; `desc`: newest first. A cursor is valid for its order only."
_REPEATED = "Repeat the parameter for several values; its name may end in `[]`."
_ANY: list[Any] = []
After = Annotated[
    QueryInstant | None, Query(alias="created_at[gt]", description="Only those created after this instant.")
]
Before = Annotated[
    QueryInstant | None, Query(alias="created_at[lt]", description="Only those created before this instant.")
]
Since = Annotated[
    QueryInstant | None, Query(alias="created_at[gte]", description="Only those created at or after this instant.")
]
Until = Annotated[
    QueryInstant | None, Query(alias="created_at[lte]", description="Only those created at or before this instant.")
]
SessionId = Annotated[
    str,
    Path(description="The session's id, `session_…` or `sesn_…`.", examples=["session_011CZkZ9X2dpNyB7HsEFoRfW"]),
]


@router.post(
    "",
    responses=success(Session, "The new session.", **_GOES_ON)
    | refusals(
        400,
        401,
        404,
        409,
        413,
        because=FULL
        | {
            400: "The request breaks a rule, or the environment is archived.",
            404: "No such environment for this caller.",
        },
    ),
)
async def create_session(body: SessionCreate, call: Call) -> Response:
    """Create a session. In a self-hosted environment its work is enqueued in the same step."""
    services = call.services
    call.api_call.environment_id = body.environment_id
    metadata = call.checked_metadata(body.metadata or {})
    own = await services.access.workspace(call.caller) if call.caller.strict else None
    session = await services.sessions.create(
        body.environment_id,
        call.caller,
        agent=await _agent(call, body.agent),
        title=body.title or None,
        metadata=metadata,
        script=await services.scripts.in_metadata(body.environment_id, metadata, workspace=own),
        resources=await _resources(call, body),
        vault_ids=body.vault_ids,
        events=[content_of(event) for event in body.initial_events],
    )
    call.api_call.session_id = session.id
    return JsonResponse(render_session(session))


@router.get(
    "",
    responses=success(
        SessionPage,
        "A page of sessions, newest first by default.",
        next_page=link("Go on while `next_page` is not null.", "list_sessions", page="next_page"),
    )
    | refusals(400, 401),
)
async def list_sessions(
    call: Call,
    limit: Limit = DEFAULT_LIMIT,
    page: Page = None,
    order: Annotated[Order, Query(description=_ORDERS)] = "desc",
    include_archived: Annotated[QueryBoolean, Query(description="Whether to include archived ones.")] = False,
    statuses: Annotated[
        list[Status], Query(description=f"Only sessions with one of these statuses. {_REPEATED}")
    ] = _ANY,
    agent_id: Annotated[str | None, Query(description="Only sessions of this agent.")] = None,
    agent_version: Annotated[
        QueryInteger | None,
        Query(description="Only sessions of this version of `agent_id`; ignored without `agent_id`."),
    ] = None,
    memory_store_id: Annotated[str | None, Query(description="Only sessions that use this memory store.")] = None,
    deployment_id: Annotated[str | None, Query(description="Only sessions of this deployment; matches none.")] = None,
    after: After = None,
    before: Before = None,
    since: Since = None,
    until: Until = None,
) -> Response:
    """List the sessions of the caller's workspace, newest first, except sessions of work that the control plane
    enqueued.
    """
    wanted = SessionFilter(
        include_archived=include_archived,
        agent_id=agent_id,
        agent_version=agent_version,
        memory_store_id=memory_store_id,
        deployment_id=deployment_id,
        statuses=statuses or None,
        created=Dates(after, before, since, until),
    )
    rows, next_page = await call.services.sessions.list(
        await call.services.access.workspace(call.caller), wanted=wanted, limit=limit, page=page, order=order
    )
    return JsonResponse(render_page([render_session(row) for row in rows], next_page))


@router.get("/{session_id}", responses=success(Session, "The session.") | refusals(401, 403, 404, because=_NO_SESSION))
async def get_session(session_id: SessionId, call: Call) -> Response:
    """Read a session, archived or not."""
    return JsonResponse(render_session(await call.services.sessions.get(session_id, call.caller)))


@router.post(
    "/{session_id}",
    responses=success(Session, "The changed session.") | refusals(400, 401, 404, 413, because=_NO_SESSION | _STATE),
)
async def update_session(session_id: SessionId, call: Call, body: SessionUpdate | None = None) -> Response:
    """Change a session's title, metadata, or its agent's tools; omitted fields stay."""
    patch = body or SessionUpdate()
    changed = await call.services.sessions.update(session_id, call.caller, lambda stored: _changed(call, stored, patch))
    return JsonResponse(render_session(changed))


@router.delete(
    "/{session_id}",
    responses=success(SessionDeleted, "It was deleted.")
    | refusals(400, 401, 404, because=_NO_SESSION | {400: "The session is running."}),
)
async def delete_session(session_id: SessionId, call: Call) -> Response:
    """Delete a session that is not running, with its events. Its work is stopped and stays on record."""
    await call.services.sessions.delete(session_id, call.caller)
    return JsonResponse({"id": canonical_session_id(session_id), "type": "session_deleted"})


@router.post(
    "/{session_id}/archive",
    responses=success(Session, "The archived session.")
    | refusals(400, 401, 404, because=_NO_SESSION | {400: "The session is running."}),
)
async def archive_session(session_id: SessionId, call: Call) -> Response:
    """Archive a session that is not running: it is terminated, and its work stopped. A repeat changes nothing."""
    return JsonResponse(render_session(await call.services.sessions.archive(session_id, call.caller)))


@router.post(
    "/{session_id}/events",
    responses=success(EventsSent, "All the events that were sent.")
    | refusals(400, 401, 403, 404, 413, because=_NO_SESSION | _STATE),
)
async def send_events(session_id: SessionId, call: Call, body: EventsSend) -> Response:
    """Send events to a session: either all are accepted or none. A message queues stopped work again."""
    events = [content_of(event) for event in body.events]
    check_events(call.caller, events)
    sent = await call.services.sessions.append(session_id, call.caller, events)
    return JsonResponse({"data": [rendered(event) for event in sent]})


@router.get(
    "/{session_id}/events",
    responses=success(
        EventPage,
        "A page of events.",
        next_page=link("Go on while `next_page` is not null.", "list_events", path="session_id", page="next_page"),
    )
    | refusals(400, 401, 403, 404, because=_NO_SESSION),
)
async def list_events(
    session_id: SessionId,
    call: Call,
    limit: Limit = DEFAULT_LIMIT,
    page: Page = None,
    order: Annotated[Order, Query(description=_ORDERS)] = "asc",
    types: Annotated[list[EventType], Query(description=f"Only events of these types. {_REPEATED}")] = _ANY,
    after: After = None,
    before: Before = None,
    since: Since = None,
    until: Until = None,
) -> Response:
    """List a session's events, oldest first. Date filters compare with `processed_at`."""
    wanted = EventFilter(types or None, Dates(after, before, since, until))
    rows, next_page = await call.services.sessions.events(
        session_id, call.caller, wanted=wanted, limit=limit, page=page, order=order
    )
    return JsonResponse(render_page([rendered(row) for row in rows], next_page))


@router.get(
    "/{session_id}/events/stream",
    responses=event_stream("Each event as it happens: `event:` names its type, `data:` is the event.")
    | refusals(401, 403, 404, 429, because=_NO_SESSION),
    response_class=StreamingResponse,
)
async def stream_events(session_id: SessionId, call: Call) -> Response:
    """Follow a session's events from now on, as server-sent events.

    The stream contains everything that happens after the head of the response, so a client that lists the events
    after connecting has them all. `event: ping` is a keep-alive. The stream ends after
    `session.status_terminated` and `session.deleted`, and when the server shuts down.
    """
    listener = await call.services.streams.listen(session_id, call.caller)
    return EventStream(_frames(listener, call.services.access.wall), listener)


async def _frames(listener: Listener, wall: Any) -> AsyncIterator[bytes]:
    # The head leaves together with the first frame.
    yield _frame({"type": "ping"})
    async for event in listener.events():
        if event == "ping":
            yield _frame({"type": "ping"})
        elif isinstance(event, str):
            identifier = "sevt_" + derived_suffix("deleted", listener.session_id)
            date = format_instant(listener.deleted_at or wall())
            yield _frame({"id": identifier, "type": "session.deleted", "processed_at": date})
        else:
            yield _frame(rendered(event))


def _frame(event: Event) -> bytes:
    return frame(event["type"], event)


async def _agent(call: Call, choice: str | AgentReference | AgentOverrides) -> dict[str, Any]:
    """Return the copy of an agent that a new session takes."""
    agent_id = choice if isinstance(choice, str) else choice.id
    workspace = await call.services.access.workspace(call.caller)
    stored = await call.services.agents.find(workspace, agent_id)
    definition = UNKNOWN if stored is None else stored.definition
    if isinstance(choice, AgentOverrides):
        definition = overridden(definition, choice)
    return render_session_agent(agent_id, definition)


async def _resources(call: Call, body: SessionCreate) -> list[dict[str, Any]]:
    """Return the memory stores of a new session as it shows them, each in a folder of its own."""
    workspace = await call.services.access.workspace(call.caller)
    root = (body.metadata or {}).get(MOUNT_KEY, call.services.settings.memory_mount)
    if re.fullmatch(MOUNT, root) is None:
        raise InvalidRequest(f"metadata.{MOUNT_KEY}: Must be an absolute path or the word workdir", rule="memory.mount")
    shown: list[dict[str, Any]] = []
    for number, resource in enumerate(body.resources):
        field = f"resources.{number}.memory_store_id"
        try:
            store = await call.services.memories.get(workspace, resource.memory_store_id)
        except MemoryStoreNotFound as error:
            raise InvalidRequest(f"{field}: {error.message}", rule="memory.session") from None
        if store.archived_at is not None:
            raise InvalidRequest(f"{field}: Memory store {store.id} is archived.", rule="memory.session")
        if any(other["memory_store_id"] == store.id for other in shown):
            raise InvalidRequest(f"{field}: Memory store {store.id} is listed twice.", rule="memory.session")
        slug = re.sub("[^a-z0-9]+", "-", store.name.lower()).strip("-") or store.id
        names = [slug, *(f"{slug}-{n}" for n in range(2, len(shown) + 2))]
        taken = [other["mount_path"] for other in shown]
        path = next(path for path in (f"{root}/{name}" for name in names) if path not in taken)
        given = {**resource.model_dump(), "access": resource.access or "read_write"}
        place = {"mount_path": None if root == "workdir" else path}
        shown.append(given | {"name": store.name, "description": store.description} | place)
    return shown


def _changed(
    call: Call, stored: SessionRecord, patch: SessionUpdate
) -> tuple[dict[str, Any] | None, str | None, dict[str, str], Event | None]:
    """Return agent, title and metadata after an update, and the event that names what is new."""
    if stored.status == "terminated":
        word = "terminated" if stored.archived_at is None else "archived"
        raise SessionOutOfState(f"Session {stored.id} is {word} and cannot be updated.")
    agent, news = stored.agent, dict[str, Any]()
    if patch.agent is not None:
        if stored.status == "running":
            raise SessionOutOfState(
                f"Session {stored.id} is running: its agent cannot be updated.", rule="sessions.update.running"
            )
        agent = dict(agent or render_session_agent("agent_workyard", UNKNOWN))
        if patch.agent.tools is not None:
            agent["tools"] = tools_of(patch.agent.tools)
        if patch.agent.mcp_servers is not None:
            agent["mcp_servers"] = [server.model_dump() for server in patch.agent.mcp_servers]
        if agent != stored.agent:
            news["agent"] = agent
    title = (patch.title or None) if "title" in patch.model_fields_set else stored.title
    if title is not None and title != stored.title:
        news["title"] = title
    metadata = call.checked_metadata(merged_metadata(stored.metadata, patch.metadata or {}))
    if metadata.get(METADATA_KEY) != stored.metadata.get(METADATA_KEY):
        raise InvalidRequest(
            f"metadata.{METADATA_KEY}: Is only read when a session is created; use PUT "
            f"/_emulator/sessions/{stored.id}/script to replace the script",
            rule="agent.metadata",
        )
    if metadata and metadata != stored.metadata:
        news["metadata"] = metadata
    changes = news or title != stored.title or metadata != stored.metadata
    event = {"id": new_id("sevt"), "type": "session.updated", **news} if changes else None
    return agent, title, metadata, event
