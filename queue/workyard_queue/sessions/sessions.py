"""Sessions and their events: one method a verb. Owns what goes into a script and what its answer means; who acts for a
session is `turns.py`, who listens to one `streams.py`. Rules: `sessions.*`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from workyard_store.access import ANYWHERE, TRUSTED, Access, Caller
from workyard_store.engine.engine import Reply, Script
from workyard_store.errors import (
    EnvironmentNotFound,
    InvalidRequest,
    SessionIsBusy,
    SessionNotFound,
    SessionOutOfState,
    StorageUnavailable,
)
from workyard_store.ids import canonical_session_id, new_id, work_id
from workyard_store.pages import decode_cursor, encode_cursor
from workyard_store.seeds import Fresh, fresh
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..lua.binder import session_script
from .filters import EventFilter, SessionFilter
from .records import ChosenScript, Event, Session, SessionEvent, event_of, session_of
from .turns import Turns

_RESERVE = session_script("reserve")
_UNRESERVE = session_script("unreserve")
_CREATE = session_script("create")
_GET = session_script("get")
_EVENTS = session_script("events")
_APPEND = session_script("append")
_UPDATE = session_script("update")
_ARCHIVE = session_script("archive")
_DELETE = session_script("delete")
_SCRIPT = session_script("script")

#: Events that ask the agent to go on, which may need a worker again.
_ASKING = ("user.message", "user.define_outcome", "user.tool_confirmation", "user.custom_tool_result")
#: Rows that one read looks through for a page, however few of them are wanted.
_MOST_READ = 1000
#: Times an update is tried again after another change came between. Each time somebody else has succeeded.
_MOST_TRIES = 1000


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _asks(events: Sequence[Event]) -> str:
    return "1" if any(event["type"] in _ASKING for event in events) else "0"


class Sessions:
    """The sessions of all environments of one Redis.

    Every method but `create` and `list` raises `SessionNotFound` for a session the caller does not reach, and each
    `StorageUnavailable` when Redis does not answer.
    """

    def __init__(self, access: Access, workspaces: WorkspaceStore, turns: Turns) -> None:
        self._access = access
        self._places = workspaces.places
        self._workspaces = workspaces
        self._turns = turns

    async def create(
        self,
        environment_id: str,
        caller: Caller,
        *,
        agent: dict[str, Any],
        title: str | None,
        metadata: dict[str, str],
        resources: list[dict[str, Any]],
        vault_ids: list[str],
        script: ChosenScript | None,
        events: Sequence[Event],
    ) -> Session:
        """Create a session from checked values; its agent acts on the first events before this returns.

        Raises:
            EnvironmentNotFound: the caller does not reach the environment.
            InvalidRequest: it is archived.
            LimitReached: it has no room for the session's work.
        """
        session_id = ""

        async def reserve(new: Fresh) -> Reply:
            nonlocal session_id
            session_id = new.id("session")
            most = self._access.limits.items
            return await self._access.run(_RESERVE, environment_id, caller, session_id, most, seeded=new.seeded)

        reply = await fresh(environment_id, reserve)
        if reply[0] == "OK":
            workspace = reply[1]
            number = await self._workspaces.reserve_session(workspace, environment_id, session_id)
            await self._places.add(environment_id, [session_id])

            async def create(new: Fresh) -> Reply:
                return await self._access.run(
                    _CREATE,
                    environment_id,
                    caller,
                    session_id,
                    work_id(environment_id, session_id),
                    number,
                    *map(_dump, (agent, title, metadata, resources, vault_ids)),
                    "" if script is None else script.text,
                    "" if script is None else script.source,
                    self._access.limits.items,
                    *map(_dump, map(new.event, events)),
                    seeded=new.seeded,
                )

            try:
                reply = await fresh(environment_id, create)
            except EnvironmentNotFound:
                # Deleted meanwhile, and perhaps purged: nobody else will remove the place.
                await self._places.remove(workspace, environment_id, [session_id])
                raise
            if reply[0] == "FULL":
                await self._access.run(_UNRESERVE, environment_id, caller, session_id)
                await self._places.remove(workspace, environment_id, [session_id])
        if reply[0] == "FULL":
            raise self._access.limits.full_of_items(environment_id)
        if reply[0] == "ARCHIVED":
            raise InvalidRequest(f"Environment {environment_id} is archived.", rule="sessions.create.archived")
        try:
            _, reply = await self._acted(_GET, session_id, TRUSTED, within=environment_id)
        except SessionNotFound:
            # Deleted meanwhile with its environment, for nobody knows it yet.
            raise EnvironmentNotFound(environment_id) from None
        return session_of(environment_id, session_id, *reply[2:])

    async def get(self, session_id: str, caller: Caller) -> Session:
        """Return a session."""
        environment_id, reply = await self._acted(_GET, session_id, caller)
        return session_of(environment_id, _canonical(session_id), *reply[2:])

    async def update(
        self,
        session_id: str,
        caller: Caller,
        change: Callable[[Session], tuple[dict[str, Any] | None, str | None, dict[str, str], Event | None]],
    ) -> Session:
        """Store what *change* makes of a session: agent, title, metadata, and the event that tells of it. It is called
        again if another change came between.

        Raises:
            InvalidRequest: whatever *change* refuses.
        """
        for _ in range(_MOST_TRIES):
            stored = await self.get(session_id, caller)
            agent, title, metadata, event = change(stored)
            update = (stored.version, "" if agent is None else _dump(agent), _dump(title), _dump(metadata))
            events = [] if event is None else [event]
            _, reply, _ = await self._with_events(
                _UPDATE, stored.id, TRUSTED, update, events, within=stored.environment_id
            )
            if reply[0] == "OK":
                return await self.get(session_id, caller)
        raise StorageUnavailable

    async def set_script(
        self, session_id: str, caller: Caller, script: ChosenScript, state: Callable[[Any], Any]
    ) -> None:
        """Give a session another script, for its turns from now on; *state* makes the agent's new memory of the old.

        Raises:
            SessionIsBusy: it is in mid-turn.
            SessionOutOfState: it is terminated.
        """
        for _ in range(_MOST_TRIES):
            stored = await self.get(session_id, caller)
            reply = await self._access.run(
                _SCRIPT,
                stored.environment_id,
                TRUSTED,
                stored.id,
                work_id(stored.environment_id, stored.id),
                stored.version,
                script.text,
                script.source,
                _dump(state(stored.agent_state)),
            )
            match reply[0]:
                case "OK":
                    return
                case "BUSY":
                    raise SessionIsBusy(session_id)
                case "TERMINATED":
                    raise SessionOutOfState(
                        f"Session {session_id} is terminated and cannot run a script.", rule="agent.script.terminated"
                    )
        raise StorageUnavailable

    async def archive(self, session_id: str, caller: Caller) -> Session:
        """Archive a session that does not run; its work stops. A repeat changes nothing.

        Raises:
            SessionOutOfState: it is running.
        """
        event = {"id": new_id("sevt"), "type": "session.status_terminated"}
        _, reply = await self._settled(_ARCHIVE, session_id, caller, event)
        if reply[0] == "RUNNING":
            raise SessionOutOfState(
                f'Session {session_id} cannot be archived while its status is "{reply[1]}". '
                "Only pending or idle sessions may be archived.",
                rule="sessions.archive.running",
            )
        return await self.get(session_id, caller)

    async def delete(self, session_id: str, caller: Caller) -> None:
        """Delete a session that does not run, with its events; its work stops and stays on record.

        Raises:
            SessionOutOfState: it is running.
        """
        environment_id, reply = await self._settled(_DELETE, session_id, caller)
        if reply[0] == "RUNNING":
            raise SessionOutOfState(
                "Cannot delete session while it is running. Send an interrupt event or wait for the session to complete.",
                rule="sessions.delete.running",
            )
        known = _canonical(session_id)
        await self._places.remove(reply[1], environment_id, [known])
        if reply[2]:
            await self._access.engine.command("ZREM", self._access.keys.environment(environment_id, "sessions"), known)

    async def append(self, session_id: str, caller: Caller, events: Sequence[Event]) -> list[SessionEvent]:
        """Append a client's checked events, let the agent act on them, and return them with their date.

        Raises:
            InvalidRequest: the session is archived or terminated, or a worker's result is sent to a cloud environment.
        """
        results = [n for n, event in enumerate(events) if event["type"] == "user.tool_result"]
        asks = (_asks(events), "1" if results else "0")
        environment_id, reply, sent = await self._with_events(_APPEND, session_id, caller, asks, events)
        match reply[0]:
            case "ARCHIVED":
                raise SessionOutOfState(f"Session {session_id} is archived and takes no events.")
            case "TERMINATED":
                raise SessionOutOfState(f"Session {session_id} is terminated and takes no events.")
            case "CLOUD":
                raise InvalidRequest(
                    f"events.{results[0]}: user.tool_result is only valid in self-hosted environments",
                    rule="sessions.events.cloud-result",
                )
        await self._act(environment_id, _canonical(session_id))
        return [SessionEvent(0, int(reply[1]), event) for event in sent]

    async def events(
        self, session_id: str, caller: Caller, *, wanted: EventFilter, limit: int, page: str | None, order: str
    ) -> tuple[list[SessionEvent], str | None]:
        """Return a page of a session's wanted events, oldest first if *order* is `asc`, and the cursor of the next one.

        Raises:
            InvalidRequest: *page* is not a cursor of this list in this order.
        """
        name = f"events {_canonical(session_id)} {order}"
        behind = "" if page is None else decode_cursor(name, page)
        found: list[SessionEvent] = []
        count = limit + 1
        while len(found) <= limit:
            _, reply = await self._acted(_EVENTS, session_id, caller, order, behind, count)
            part = [event_of(entry) for entry in reply[2]]
            found += filter(wanted.wants, part)
            if len(part) < count:
                break
            behind, count = part[-1].entry, _next_count(count)
        shown = found[:limit]
        return shown, encode_cursor(name, shown[-1].entry) if len(found) > limit else None

    async def newest(self, session_id: str, caller: Caller) -> tuple[str, SessionEvent]:
        """Return a session's environment and its last event."""
        environment_id, reply = await self._acted(_EVENTS, session_id, caller, "desc", "", 1)
        return environment_id, event_of(reply[2][0])

    async def behind(self, environment_id: str, session_id: str, entry: int, count: int) -> list[SessionEvent]:
        """Return up to *count* events after a place, oldest first."""
        _, reply = await self._on_session(_EVENTS, session_id, TRUSTED, "asc", entry, count, within=environment_id)
        return [event_of(each) for each in reply[2]]

    async def _settled(self, script: Script, session_id: str, caller: Caller, *events: Event) -> tuple[str, Reply]:
        """Run a script that ends a session, again until its agent has nothing to do before."""
        for _ in range(_MOST_TRIES):
            environment_id, reply, _ = await self._with_events(script, session_id, caller, (), events)
            if reply[0] != "DUE":
                return environment_id, reply
            await self._act(environment_id, _canonical(session_id))
        raise StorageUnavailable

    async def _act(self, environment_id: str, known: str) -> None:
        """Take a session's turn. If its environment was deleted meanwhile, there is none to take."""
        with suppress(EnvironmentNotFound):
            await self._turns.take(environment_id, known)

    async def _acted(
        self, script: Script, session_id: str, caller: Caller, *arguments: str | int, within: str | None = None
    ) -> tuple[str, Reply]:
        """Run a script that reads a session, again if its agent had to act first."""
        environment_id, reply = await self._on_session(script, session_id, caller, *arguments, within=within)
        if reply[1]:
            await self._act(environment_id, _canonical(session_id))
            environment_id, reply = await self._on_session(
                script, session_id, caller, *arguments, within=environment_id
            )
        return environment_id, reply

    async def _with_events(
        self,
        script: Script,
        session_id: str,
        caller: Caller,
        arguments: tuple[str | int, ...],
        events: Sequence[Event],
        *,
        within: str | None = None,
    ) -> tuple[str, Reply, list[Event]]:
        """Run a script that appends events to a session. Return them with the ids that they have."""
        environment_id, reply = await self._on_session(
            script, session_id, caller, *arguments, *map(_dump, events), within=within
        )
        if reply[0] != "SEED":
            return environment_id, reply, list(events)
        new = Fresh(environment_id, *map(str, reply[1:]))
        sent = [new.event(event) for event in events]
        _, reply = await self._on_session(
            script, session_id, caller, *arguments, *map(_dump, sent), within=environment_id, seeded=new.seeded
        )
        return environment_id, reply, sent

    async def _on_session(
        self,
        script: Script,
        session_id: str,
        caller: Caller,
        *arguments: str | int,
        within: str | None = None,
        seeded: str = "",
    ) -> tuple[str, Reply]:
        """Run a script on a session, in the environment that the caller's token names or one that has the session."""
        known = _canonical(session_id)
        named = within or caller.environment_id
        if named is not None and (reply := await self._try(script, named, caller, known, arguments, seeded)):
            return named, reply
        # A worker whose token has to be good reaches the sessions of its environment only.
        bound = caller.strict and caller.environment_id is not None
        for look in () if within or bound else (self._entered, self._searched):
            for environment_id in await look(known, caller):
                if reply := await self._try(script, environment_id, caller, known, arguments):
                    return environment_id, reply
        raise SessionNotFound(session_id)

    async def _entered(self, known: str, caller: Caller) -> list[str]:
        return await self._places.environments_of(known)

    async def _searched(self, known: str, caller: Caller) -> list[str]:
        """Look through the environments that a caller reaches for work of this session, and enter its place in them: the
        control plane enters none, so that enqueueing for workers whose token names the environment costs nothing."""
        workspace = await self._access.reach(caller)
        workspaces = await self._workspaces.all() if workspace == ANYWHERE else [workspace]
        environments = await asyncio.gather(*map(self._workspaces.environments, workspaces))
        found = []
        for environment_id in await self._places.with_item(known, chain(*environments)):
            # The record comes first: it is what tells a purge that there may be a place.
            if await self._try(_GET, environment_id, caller, known, ()):
                await self._places.add(environment_id, [known])
                found.append(environment_id)
        return found

    async def _try(
        self,
        script: Script,
        environment_id: str,
        caller: Caller,
        known: str,
        arguments: tuple[str | int, ...],
        seeded: str = "",
    ) -> Reply:
        try:
            item = work_id(environment_id, known)
            reply = await self._access.run(script, environment_id, caller, known, item, *arguments, seeded=seeded)
        except EnvironmentNotFound:
            return None
        return None if reply[0] == "MISSING" else reply

    async def list(
        self, workspace: str, *, wanted: SessionFilter, limit: int, page: str | None, order: str
    ) -> tuple[list[Session], str | None]:
        """Return a page of a workspace's wanted sessions, newest first if *order* is `desc`, and the cursor of the next
        one. Those that the control plane enqueued work for are not among them.

        Raises:
            InvalidRequest: *page* is not a cursor of this list in this order.
        """
        name = f"sessions {workspace} {order}"
        behind = None if page is None else decode_cursor(name, page)
        found: list[tuple[int, Session]] = []
        count = limit + 1
        while len(found) <= limit:
            places = await self._places.page(workspace, behind=behind, count=count, newest_first=order == "desc")
            sessions = await asyncio.gather(*[self._listed(id_, environment_id) for id_, environment_id, _ in places])
            for (_, _, number), session in zip(places, sessions, strict=True):
                behind = number
                if session is not None and wanted.wants(session):
                    found.append((number, session))
            if len(places) < count:
                break
            count = _next_count(count)
        shown = found[:limit]
        return [session for _, session in shown], encode_cursor(name, shown[-1][0]) if len(found) > limit else None

    async def _listed(self, session_id: str, environment_id: str) -> Session | None:
        """Return a session of a list, or None: it is being created or deleted."""
        try:
            _, reply = await self._acted(_GET, session_id, TRUSTED, within=environment_id)
        except SessionNotFound:
            return None
        return session_of(environment_id, session_id, *reply[2:])


def _next_count(count: int) -> int:
    """Return how many rows to look through next, after *count* had too few that are wanted."""
    return max(count, min(2 * count, _MOST_READ))


def _canonical(session_id: str) -> str:
    known = canonical_session_id(session_id)
    if known is None:
        raise SessionNotFound(session_id)
    return known
