"""Sessions and their events: one method per verb. Builds the calls of the scripts and interprets their answers. `turns.py`
acts for a session, `streams.py` serves its listeners. Rules: `sessions.*`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from workyard_store.access import ANYWHERE, TRUSTED, Access, Caller
from workyard_store.engine.lua import Refused, Word
from workyard_store.errors import (
    EnvironmentNotFound,
    InvalidRequest,
    SessionIsBusy,
    SessionNotFound,
    SessionOutOfState,
    StorageUnavailable,
)
from workyard_store.ids import canonical_session_id, new_id, work_id
from workyard_store.lua.heads import Archived, Full, Ok
from workyard_store.pages import decode_cursor, encode_cursor
from workyard_store.seeds import SEED, Fresh, fresh
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..agent.events import ASKING
from ..lua.binder import MISSING
from ..lua.sessions import (
    DUE,
    EventsRead,
    Reserved,
    SessionCreate,
    SessionRead,
    SessionReserve,
    SessionScript,
    SessionUnreserve,
)
from . import session_calls
from .filters import EventFilter, SessionFilter
from .records import ChosenScript, Event, Session, SessionEvent, event_of, session_of
from .session_calls import Make, MakeWithEvents, RefusedIn, dump, read_events
from .turns import Turns

T = TypeVar("T")
ReadT = TypeVar("ReadT", SessionRead, EventsRead)

#: Rows that one read fetches for a page, even if the filter accepts few of them.
_MOST_READ = 1000
#: How often an update is retried after a concurrent change. Each time the other change has succeeded.
_MOST_TRIES = 1000


class Sessions:
    """The sessions of all environments of one Redis.

    Every method except `create` and `list` raises `SessionNotFound` for a session the caller does not reach, and each
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

        async def reserve(new: Fresh) -> Reserved | Word[Archived] | Word[Full]:
            nonlocal session_id
            session_id = new.id("session")
            call = SessionReserve(session_id=session_id, most=self._access.limits.items)
            return await self._access.run(call, environment_id, caller, seeded=new.seeded)

        reserved = await fresh(environment_id, reserve)
        word: str = reserved.word
        if reserved.word == "OK":
            workspace = reserved.workspace
            number = await self._workspaces.reserve_session(workspace, environment_id, session_id)
            await self._places.add(environment_id, [session_id])

            async def create(new: Fresh) -> Word[Ok] | Word[Archived] | Word[Full]:
                call = SessionCreate(
                    session_id=session_id,
                    work_id=work_id(environment_id, session_id),
                    number=number,
                    agent=dump(agent),
                    title=dump(title),
                    metadata=dump(metadata),
                    resources=dump(resources),
                    vaults=dump(vault_ids),
                    script="" if script is None else script.text,
                    source="" if script is None else script.source,
                    most_items=self._access.limits.items,
                    events=[dump(new.event(event)) for event in events],
                )
                return await self._access.run(call, environment_id, caller, seeded=new.seeded)

            try:
                word = (await fresh(environment_id, create)).word
            except EnvironmentNotFound:
                # Deleted meanwhile, and perhaps purged: no later step would remove the place.
                await self._places.remove(workspace, environment_id, [session_id])
                raise
            if word == "FULL":
                await self._access.run(SessionUnreserve(session_id=session_id), environment_id, caller)
                await self._places.remove(workspace, environment_id, [session_id])
        if word == "FULL":
            raise self._access.limits.full_of_items(environment_id)
        if word == "ARCHIVED":
            raise InvalidRequest(f"Environment {environment_id} is archived.", rule="sessions.create.archived")
        try:
            _, read = await self._acted(session_calls.get, session_id, TRUSTED, within=environment_id)
        except SessionNotFound:
            # Its environment was deleted meanwhile: no client knows the session's id yet, so it was not deleted alone.
            raise EnvironmentNotFound(environment_id) from None
        return session_of(environment_id, session_id, read)

    async def get(self, session_id: str, caller: Caller) -> Session:
        """Return a session."""
        environment_id, read = await self._acted(session_calls.get, session_id, caller)
        return session_of(environment_id, _canonical(session_id), read)

    async def update(
        self,
        session_id: str,
        caller: Caller,
        change: Callable[[Session], tuple[dict[str, Any] | None, str | None, dict[str, str], Event | None]],
    ) -> Session:
        """Apply *change* to a session's agent, title and metadata, and store it with the event that reports it. *change* is
        called again after a concurrent change.

        Raises:
            InvalidRequest: *change* refuses the update.
        """
        for _ in range(_MOST_TRIES):
            stored = await self.get(session_id, caller)
            agent, title, metadata, event = change(stored)
            record = partial(session_calls.update, version=stored.version, agent=agent, title=title, metadata=metadata)
            events = [] if event is None else [event]
            _, reply, _ = await self._with_events(record, stored.id, TRUSTED, events, within=stored.environment_id)
            if reply.word == "OK":
                return await self.get(session_id, caller)
        raise StorageUnavailable

    async def set_script(
        self, session_id: str, caller: Caller, script: ChosenScript, state: Callable[[Any], Any]
    ) -> None:
        """Give a session another script, for its turns from now on; *state* makes the agent's new memory of the old.

        Raises:
            SessionIsBusy: a turn is in progress.
            SessionOutOfState: it is terminated.
        """
        for _ in range(_MOST_TRIES):
            stored = await self.get(session_id, caller)
            call = SessionScript(
                session_id=stored.id,
                work_id=work_id(stored.environment_id, stored.id),
                version=stored.version,
                script=script.text,
                source=script.source,
                state=dump(state(stored.agent_state)),
            )
            reply = await self._access.run(call, stored.environment_id, TRUSTED)
            match reply.word:
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
        """Archive a session that is not running; its work stops. A repeat changes nothing.

        Raises:
            SessionOutOfState: it is running.
        """
        event = {"id": new_id("sevt"), "type": "session.status_terminated"}
        _, reply = await self._settled(session_calls.archive, session_id, caller, [event])
        if reply.word == "RUNNING":
            raise SessionOutOfState(
                f'Session {session_id} cannot be archived while its status is "{reply.status}". '
                "Only pending or idle sessions may be archived.",
                rule="sessions.archive.running",
            )
        return await self.get(session_id, caller)

    async def delete(self, session_id: str, caller: Caller) -> None:
        """Delete a session that is not running, with its events; its work stops and stays on record.

        Raises:
            SessionOutOfState: it is running.
        """
        environment_id, reply = await self._settled(session_calls.delete, session_id, caller, [])
        if reply.word == "RUNNING":
            raise SessionOutOfState(
                "Cannot delete session while it is running. Send an interrupt event or wait for the session to complete.",
                rule="sessions.delete.running",
            )
        known = _canonical(session_id)
        await self._places.remove(reply.workspace, environment_id, [known])
        if reply.has_place:
            await self._access.engine.command("ZREM", self._access.keys.environment(environment_id, "sessions"), known)

    async def append(self, session_id: str, caller: Caller, events: Sequence[Event]) -> list[SessionEvent]:
        """Append a client's checked events, let the agent act on them, and return them with their date.

        Raises:
            InvalidRequest: the session is archived or terminated, or a worker's result is sent to a cloud environment.
        """
        results = [n for n, event in enumerate(events) if event["type"] == "user.tool_result"]
        asks = any(event["type"] in ASKING for event in events)
        make = partial(session_calls.append, asks=asks, has_results=bool(results))
        environment_id, reply, sent = await self._with_events(make, session_id, caller, events)
        match reply.word:
            case "ARCHIVED":
                raise SessionOutOfState(f"Session {session_id} is archived and takes no events.")
            case "TERMINATED":
                raise SessionOutOfState(f"Session {session_id} is terminated and takes no events.")
            case "CLOUD":
                raise InvalidRequest(
                    f"events.{results[0]}: user.tool_result is only valid in self-hosted environments",
                    rule="sessions.events.cloud-result",
                )
        assert reply.word == "OK"
        await self._act(environment_id, _canonical(session_id))
        return [SessionEvent(0, reply.now, event) for event in sent]

    async def events(
        self, session_id: str, caller: Caller, *, wanted: EventFilter, limit: int, page: str | None, order: str
    ) -> tuple[list[SessionEvent], str | None]:
        """Return a page of a session's wanted events, oldest first if *order* is `asc`, and the cursor of the next one.

        Raises:
            InvalidRequest: *page* is not a cursor of this list in this order.
        """
        name = f"events {_canonical(session_id)} {order}"
        behind = None if page is None else decode_cursor(name, page)
        found: list[SessionEvent] = []
        count = limit + 1
        while len(found) <= limit:
            _, reply = await self._acted(read_events(order, behind, count), session_id, caller)
            part = [event_of(entry) for entry in reply.entries]
            found += filter(wanted.wants, part)
            if len(part) < count:
                break
            behind, count = part[-1].entry, _next_count(count)
        shown = found[:limit]
        return shown, encode_cursor(name, shown[-1].entry) if len(found) > limit else None

    async def newest(self, session_id: str, caller: Caller) -> tuple[str, SessionEvent]:
        """Return a session's environment and its last event."""
        environment_id, reply = await self._acted(read_events("desc", None, 1), session_id, caller)
        return environment_id, event_of(reply.entries[0])

    async def behind(self, environment_id: str, session_id: str, entry: int, count: int) -> list[SessionEvent]:
        """Return up to *count* events after a place, oldest first."""
        make = read_events("asc", entry, count)
        _, reply = await self._on_session(make, session_id, TRUSTED, within=environment_id)
        return [event_of(each) for each in reply.entries]

    async def _settled(
        self,
        make: MakeWithEvents[T],
        session_id: str,
        caller: Caller,
        events: Sequence[Event],
    ) -> tuple[str, T]:
        """Run a script that ends a session; repeat it as long as the session's agent has to act first."""
        for _ in range(_MOST_TRIES):
            try:
                environment_id, reply, _ = await self._with_events(make, session_id, caller, events)
                return environment_id, reply
            except RefusedIn as where:
                if where.refused.word != DUE:
                    raise
                await self._act(where.environment_id, _canonical(session_id))
        raise StorageUnavailable

    async def _act(self, environment_id: str, known: str) -> None:
        """Take a session's turn. If its environment was deleted meanwhile, there is none to take."""
        with suppress(EnvironmentNotFound):
            await self._turns.take(environment_id, known)

    async def _acted(
        self, make: Make[ReadT], session_id: str, caller: Caller, *, within: str | None = None
    ) -> tuple[str, ReadT]:
        """Run a script that reads a session; repeat it if the session's agent had to act first."""
        environment_id, reply = await self._on_session(make, session_id, caller, within=within)
        if reply.is_due:
            await self._act(environment_id, _canonical(session_id))
            environment_id, reply = await self._on_session(make, session_id, caller, within=environment_id)
        return environment_id, reply

    async def _with_events(
        self,
        make: MakeWithEvents[T],
        session_id: str,
        caller: Caller,
        events: Sequence[Event],
        *,
        within: str | None = None,
    ) -> tuple[str, T, list[Event]]:
        """Run a script that appends events to a session; *make* is given their texts, too. Return them with the ids that
        they have."""

        def of(events: Sequence[Event]) -> Make[T]:
            texts = [dump(event) for event in events]
            return lambda known, item: make(known, item, texts)

        try:
            environment_id, reply = await self._on_session(of(events), session_id, caller, within=within)
            return environment_id, reply, list(events)
        except RefusedIn as where:
            if where.refused.word != SEED:
                raise
            environment_id = where.environment_id
            new = Fresh.of(environment_id, where.refused)
        sent = [new.event(event) for event in events]
        _, reply = await self._on_session(of(sent), session_id, caller, within=environment_id, seeded=True)
        return environment_id, reply, sent

    async def _on_session(
        self,
        make: Make[T],
        session_id: str,
        caller: Caller,
        *,
        within: str | None = None,
        seeded: bool = False,
    ) -> tuple[str, T]:
        """Run a script on a session, in the environment that the caller's token names or one that has the session."""
        known = _canonical(session_id)
        named = within or caller.environment_id
        if named is not None and (reply := await self._try(make, named, caller, known, seeded=seeded)):
            return named, reply
        # In mode `strict`, a worker reaches only the sessions of its environment.
        bound = caller.strict and caller.environment_id is not None
        for look in () if within or bound else (self._entered, self._searched):
            for environment_id in await look(known, caller):
                if reply := await self._try(make, environment_id, caller, known):
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
            # The record comes first: from it a purge knows that there may be a place.
            if await self._try(session_calls.get, environment_id, caller, known):
                await self._places.add(environment_id, [known])
                found.append(environment_id)
        return found

    async def _try(
        self, make: Make[T], environment_id: str, caller: Caller, known: str, *, seeded: bool = False
    ) -> T | None:
        call = make(known, work_id(environment_id, known))
        try:
            return await self._access.run(call, environment_id, caller, seeded=seeded)
        except EnvironmentNotFound:
            return None
        except Refused as refused:
            if refused.word == MISSING:
                return None
            raise RefusedIn(environment_id, refused) from None

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
            _, read = await self._acted(session_calls.get, session_id, TRUSTED, within=environment_id)
        except SessionNotFound:
            return None
        return session_of(environment_id, session_id, read)


def _next_count(count: int) -> int:
    """Return how many rows to read next, after *count* rows had too few that the filter accepts."""
    return max(count, min(2 * count, _MOST_READ))


def _canonical(session_id: str) -> str:
    known = canonical_session_id(session_id)
    if known is None:
        raise SessionNotFound(session_id)
    return known
