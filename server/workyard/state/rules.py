"""Consistency checks of a workspace's state document, before any of it is stored: every reference has a target, and no
content breaks an invariant of the queue. The invariants are those of `workyard_queue.work.invariants` that the document's
form does not already guarantee.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from workyard_queue.agent import Script, calls_of
from workyard_store.clock import format_instant
from workyard_store.errors import InvalidRequest
from workyard_store.ids import work_id
from workyard_store.resources.memories import MOST_STORE_BYTES
from workyard_store.workspaces import configs

from .. import fixtures
from ..schemas.events import SentEvent
from ..wire.errors import path_of
from .shape import (
    VERSION,
    ServerState,
    State,
    StateEnvironment,
    StateEvent,
    StateMemoryStore,
    StateSession,
    StateWork,
    WorkspaceState,
)

_Model = TypeVar("_Model", bound=BaseModel)
#: Problems that one error message names.
_MOST_NAMED = 20
_LEASED = ("starting", "active", "stopping")
_STAGES = ("acknowledged_at", "started_at", "latest_heartbeat_at", "stop_requested_at", "stopped_at")
#: State → the stamps that an item must have, and those it must not have; the others are optional.
_HAS: dict[str, tuple[set[str], set[str]]] = {
    "queued": (set(), set(_STAGES)),
    "starting": ({"acknowledged_at"}, set(_STAGES[1:])),
    "active": (set(_STAGES[:3]), set(_STAGES[3:])),
    "stopping": ({"acknowledged_at", "stop_requested_at"}, {"stopped_at"}),
    "stopped": ({"stop_requested_at", "stopped_at"}, set()),
}
#: Each is never later than the next, if both are present.
_CHAINS = (
    ("created_at", "acknowledged_at", "started_at", "latest_heartbeat_at", "latest_heartbeat_ever_at"),
    ("created_at", "acknowledged_at", "stop_requested_at", "stopped_at"),
    ("started_at", "stop_requested_at"),
)
_SENT: TypeAdapter[Any] = TypeAdapter(SentEvent, config=ConfigDict(defer_build=True))
#: Members of an event that the server adds to what a client sends.
_ADDED = ("id", "outcome_id")


def checked_state(value: dict[str, Any]) -> State:
    """Return the document of a workspace's state.

    Raises:
        InvalidRequest: it is not a state document, has another version, or breaks a rule; the message names the paths.
    """
    state = _shaped(State, value)
    _refuse(_problems(state))
    return state


def checked_server_state(value: Any) -> list[WorkspaceState]:
    """Return the workspaces of a server's state document, or the single workspace of a workspace's document, which names it.

    Raises:
        InvalidRequest: it is neither, has another version, or breaks a rule; the message names the paths.
    """
    if not isinstance(value, dict):
        raise InvalidRequest("The document must be a JSON object")
    if "workspaces" not in value:
        state = checked_state(value)
        if state.workspace is None:
            raise InvalidRequest("workspace: Field required")
        return [state]
    server = _shaped(ServerState, value)
    problems: list[str] = []
    for place, each in enumerate(server.workspaces):
        here = f"workspaces.{place}."
        if each.workspace is None:
            problems.append(f"{here}workspace: Field required")
        problems += [here + problem for problem in _problems(each)]
    problems += _twice(
        (f"workspaces.{place}.workspace", each.workspace) for place, each in enumerate(server.workspaces)
    )
    problems += _twice(
        (f"workspaces.{place}.environments.{n}.id", environment.id)
        for place, each in enumerate(server.workspaces)
        for n, environment in enumerate(each.environments)
    )
    _refuse(problems)
    return server.workspaces


def _shaped(model: type[_Model], value: dict[str, Any]) -> _Model:
    # First: in a document of another version, nothing else can be interpreted.
    version = value.get("version", VERSION)
    if version is True or version != VERSION:
        raise InvalidRequest(f"version: Must be {VERSION}, the only version that this Workyard reads")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        _refuse(f"{path_of(('body', *problem['loc']), value)}: {problem['msg']}" for problem in error.errors())
        raise AssertionError("a refusal without a problem") from None


def _refuse(problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        more = [f"and {len(found) - _MOST_NAMED} more"] if len(found) > _MOST_NAMED else []
        raise InvalidRequest("; ".join(found[:_MOST_NAMED] + more))


def _problems(state: WorkspaceState) -> Iterator[str]:
    if (state.clock.mode == "real") != (state.clock.at is None):
        yield "clock.at: Must be given with the modes frozen and auto, and only with them"
    numbers = [(f"faults.rules.{n}.number", each.number) for n, each in enumerate(state.faults.rules)]
    yield from _twice(numbers)
    yield from (
        f"{path}: Must not be greater than last_number" for path, number in numbers if number > state.faults.last_number
    )
    numbered = [
        *((f"environments.{n}", each.sequence) for n, each in enumerate(state.environments)),
        *((f"skills.{n}", each.sequence) for n, each in enumerate(state.skills)),
        *((f"memory_stores.{n}", each.sequence) for n, each in enumerate(state.memory_stores)),
    ]
    if state.counters.resources is None and (numbered or state.agents):
        yield "counters.resources: Must be a number if a resource was created"
    yield from _numbered(numbered, state.counters.resources or 0, "counters.resources")
    sessions = [
        (f"environments.{n}.sessions.{k}", session.sequence)
        for n, environment in enumerate(state.environments)
        for k, session in enumerate(environment.sessions)
        if session.sequence is not None
    ]
    yield from _numbered(sessions, state.counters.sessions, "counters.sessions")
    yield from _twice((f"agents.{n}.id", each.id) for n, each in enumerate(state.agents))
    yield from _twice((f"skills.{n}.id", each.id) for n, each in enumerate(state.skills))
    for n, skill in enumerate(state.skills):
        yield from _twice((f"skills.{n}.versions.{k}.id", version.id) for k, version in enumerate(skill.versions))
    yield from _twice((f"memory_stores.{n}.id", each.id) for n, each in enumerate(state.memory_stores))
    yield from _twice(
        (f"memory_stores.{n}.memories.{k}.id", memory.id)
        for n, store in enumerate(state.memory_stores)
        for k, memory in enumerate(store.memories)
    )
    for n, store in enumerate(state.memory_stores):
        yield from (f"memory_stores.{n}.{problem}" for problem in _memories(store))
    yield from _twice((f"environments.{n}.id", each.id) for n, each in enumerate(state.environments))
    for n, environment in enumerate(state.environments):
        yield from (f"environments.{n}.{problem}" for problem in _environment(environment))


def _numbered(places: Iterable[tuple[str, int]], most: int, counter: str) -> Iterator[str]:
    named = [(f"{path}.sequence", number) for path, number in places]
    yield from _twice(named)
    yield from (f"{path}: {number} is more than {counter} says" for path, number in named if number > most)


def _twice(places: Iterable[tuple[str, Any]]) -> Iterator[str]:
    seen: dict[Any, str] = {}
    for path, value in places:
        if value is not None and seen.setdefault(value, path) != path:
            yield f"{path}: {value} is already used by {seen[value].rpartition('.')[0]}"


def _memories(store: StateMemoryStore) -> Iterator[str]:
    paths = {memory.path: n for n, memory in enumerate(store.memories)}
    yield from _twice((f"memories.{n}.path", memory.path) for n, memory in enumerate(store.memories))
    for path, n in paths.items():
        above = path.rpartition("/")[0]
        while above:
            if above in paths:
                yield f"memories.{n}.path: {above} is a memory, not a folder"
            above = above.rpartition("/")[0]
    if sum(len(memory.content.encode()) for memory in store.memories) > MOST_STORE_BYTES:
        yield f"memories: A memory store has at most {MOST_STORE_BYTES} bytes of content"


def _environment(environment: StateEnvironment) -> Iterator[str]:
    try:
        configs.check(environment.config.model_dump(), environment.scope)
    except InvalidRequest as refusal:
        yield refusal.message
    dates = [(name, getattr(environment, name)) for name in ("created_at", "updated_at", "archived_at")]
    dates += [
        (f"keys.{n}.{name}", getattr(key, name))
        for n, key in enumerate(environment.keys)
        for name in ("created_at", "revoked_at")
    ]
    dates += [(f"pollers.{n}.polled_at", poller.polled_at) for n, poller in enumerate(environment.pollers)]
    yield from _past(environment, dates)
    yield from _twice((f"keys.{n}.id", key.id) for n, key in enumerate(environment.keys))
    yield from _twice((f"keys.{n}.sha256", key.sha256) for n, key in enumerate(environment.keys))
    yield from _twice((f"pollers.{n}.worker_id", poller.worker_id) for n, poller in enumerate(environment.pollers))
    if environment.config.type == "cloud":
        for name in ("work", "queue", "idempotency_keys"):
            if getattr(environment, name):
                yield f"{name}: A cloud environment has no queue"
        items: dict[str, tuple[int, StateWork]] = {}
    else:
        items = {item.id: (n, item) for n, item in enumerate(environment.work)}
        yield from _twice((f"work.{n}.id", item.id) for n, item in enumerate(environment.work))
        yield from _queue(environment, items)
    for n, again in enumerate(environment.given_twice):
        if again.work_id not in items:
            yield f"given_twice.{n}.work_id: {again.work_id} is not among the work"
        if "\n" in again.worker_id:
            yield f"given_twice.{n}.worker_id: Has a line break"
    sessions = {session.id for session in environment.sessions}
    for n, item in enumerate(environment.work):
        yield from (f"work.{n}.{problem}" for problem in _work(environment, item, sessions))
    yield from _twice((f"sessions.{n}.id", session.id) for n, session in enumerate(environment.sessions))
    for n, session in enumerate(environment.sessions):
        yield from (f"sessions.{n}.{problem}" for problem in _session(environment, session, items))
    entries = [tuple(map(int, event.id.split("-"))) for event in environment.timeline]
    for n, (before, entry) in enumerate(pairwise([(0, 0), *entries])):
        if entry <= before:
            yield f"timeline.{n}.id: Must be greater than the one before"
    for n, event in enumerate(environment.timeline):
        for place, text in (("kind", event.kind), ("work_id", event.work_id)):
            if "\n" in text:
                yield f"timeline.{n}.{place}: Has a line break"
        for name, value in event.details.items():
            if "\n" in name + value:
                yield f"timeline.{n}.details.{name!r}: Has a line break"


def _past(environment: StateEnvironment, dates: Iterable[tuple[str, int | None]]) -> Iterator[str]:
    last = environment.last_step_at
    yield from (f"{path}: Must not be later than last_step_at" for path, at in dates if at is not None and at > last)


def _work(environment: StateEnvironment, item: StateWork, sessions: set[str]) -> Iterator[str]:
    expected = work_id(environment.id, item.session_id)
    reserved = (environment.id, item.id) == (fixtures.ENVIRONMENT, fixtures.WORK)
    if item.id != expected and not reserved:
        yield f"session_id: The work item of {item.session_id} in this environment is {expected}, not {item.id}"
    has, lacks = _HAS[item.state]
    for name in _STAGES:
        there = getattr(item, name) is not None
        if there != (name in has) and (name in has or name in lacks):
            yield f"{name}: An item that is {item.state} has {'one' if name in has else 'none'}"
    for chain in _CHAINS:
        dated = [(name, at) for name in chain if (at := getattr(item, name)) is not None]
        for (before, earlier), (name, at) in pairwise(dated):
            if at < earlier:
                yield f"{name}: {format_instant(at)} is before {before}"
    beats = ("latest_heartbeat_at", "latest_heartbeat_ever_at")  # They may be ahead of the clock by microseconds.
    stamps = ("created_at", *(name for name in _STAGES if name not in beats))
    yield from _past(environment, ((name, getattr(item, name)) for name in stamps))
    if (item.lease_ends_at is not None) != (item.state in _LEASED):
        yield f"lease_ends_at: An item that is {item.state} has {'a' if item.state in _LEASED else 'no'} lease"
    if item.latest_heartbeat_at is not None and item.latest_heartbeat_ever_at is None:
        yield "latest_heartbeat_ever_at: Cannot be null if latest_heartbeat_at is not"
    if item.times_stopped != item.times_revived + (item.state == "stopped"):
        yield f"times_stopped: Is {item.times_stopped} of an item that is {item.state} and was revived {item.times_revived} times"
    if item.deleted_session == "deleted" and item.session_id in sessions:
        yield f"deleted_session: {item.session_id} is listed in sessions"


def _queue(environment: StateEnvironment, items: dict[str, tuple[int, StateWork]]) -> Iterator[str]:
    places: dict[str, int] = {}
    waits = False
    for n, entry in enumerate(environment.queue):
        here = f"queue.{n}"
        if entry.work_id not in items:
            yield f"{here}.work_id: {entry.work_id} is not among the work"
        elif items[entry.work_id][1].state != "queued":
            yield f"{here}.work_id: {entry.work_id} is {items[entry.work_id][1].state}, not queued"
        if places.setdefault(entry.work_id, n) != n:
            yield f"{here}.work_id: {entry.work_id} is in the queue twice"
        if waits and entry.handed_out_at is not None:
            yield f"{here}.handed_out_at: An item before it is waiting: items are handed out in order"
        waits = waits or entry.handed_out_at is None
        dates = ((f"{here}.{name}", getattr(entry, name)) for name in ("entered_at", "handed_out_at"))
        yield from _past(environment, dates)
    for work, (n, item) in items.items():
        if item.state == "queued" and work not in places:
            yield f"work.{n}.state: It is queued, but not in the queue"


def _session(
    environment: StateEnvironment, session: StateSession, items: dict[str, tuple[int, StateWork]]
) -> Iterator[str]:
    if environment.config.type == "self_hosted" and work_id(environment.id, session.id) not in items:
        yield f"id: {session.id} has no work item in this environment"
    if (session.sequence is None) != (session.agent is None):
        yield "agent: Must be null if, and only if, sequence is null"
    if session.sequence is None and environment.config.type == "cloud":
        yield "sequence: Cannot be null in a cloud environment, where no work creates a session"
    if session.archived_at is not None and session.status != "terminated":
        yield f"status: An archived session is terminated, not {session.status}"
    if session.status != "idle" and session.status_since is None:
        yield "status_since: Cannot be null unless the session was always idle"
    dates = ("created_at", "updated_at", "archived_at", "status_since")
    yield from _past(environment, ((name, getattr(session, name)) for name in dates))
    yield from _past(environment, ((f"events.{n}.at", event.at) for n, event in enumerate(session.events)))
    if session.events_seen > len(session.events):
        yield f"events_seen: There are {len(session.events)} events"
    elif session.events_seen < len(session.events) and session.agent_acts_at is None:
        yield "agent_acts_at: Cannot be null while there are events that the agent has not seen"
    if session.status == "terminated" and session.agent_acts_at is not None:
        yield "agent_acts_at: Must be null once the session is terminated"
    for n, (before, event) in enumerate(pairwise(session.events), 1):
        if event.at < before.at:
            yield f"events.{n}.at: Must not be before that of the previous event"
    for n, event in enumerate(session.events):
        yield from (f"events.{n}.event{problem}" for problem in _event(event))
    yield from _agent_state(session)


def _event(event: StateEvent) -> Iterator[str]:
    """Yield the problems of a client's event: the agent reads these events and relies on their shape."""
    if not event.event["type"].startswith(("user.", "system.")):
        return
    sent = {name: value for name, value in event.event.items() if name not in _ADDED}
    try:
        # Check with the API's own types: stored events have passed them.
        _SENT.validate_json(json.dumps(sent))
    except ValidationError as error:
        for problem in error.errors():
            path = path_of(("body", *problem["loc"]), sent)
            yield f"{'.' if path else ''}{path}: {problem['msg']}"


def _agent_state(session: StateSession) -> Iterator[str]:
    """Yield the mismatches between an agent's memory and its script, which the memory indexes."""
    memory = session.agent_state
    if memory is None:
        return
    if session.script is None:
        yield "script: Cannot be null if agent_state is not"
        return
    script: Script = session.script.script
    steps = len(script.steps)
    if not 0 <= memory.step <= steps:
        yield f"agent_state.step: The script has {steps} steps"
    elif memory.open_calls and (memory.step == steps or len(calls_of(script.steps[memory.step])) != len(memory.calls)):
        yield f"agent_state.calls: Must be those of step {memory.step}"
    if memory.reached is not None and not 0 <= memory.reached < steps:
        yield f"agent_state.reached: The script has {steps} steps"
