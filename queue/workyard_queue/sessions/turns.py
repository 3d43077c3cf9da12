"""The turns of sessions' agents: when an agent acts, and how its actions are stored exactly once. Owns no agent's behaviour.

An agent is a pure function. A turn reads the agent's input, calls it, and commits the outcome if the session has not
changed meanwhile; otherwise the turn starts again. Any server may take any turn at any time, so a crash between an event
and its turn costs only time: the next access to the session, or the tidy loop, takes the turn.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workyard_store.access import TRUSTED, Access
from workyard_store.errors import EnvironmentNotFound, StorageUnavailable, WorkyardError
from workyard_store.ids import derived_suffix, work_id
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..agent.events import MOST_FILLED
from ..lua.sessions import SessionCommit, SessionDue, SessionTurn
from .records import ChosenScript, Event, event_of, rendered

_log = logging.getLogger("workyard.sessions")

#: Events that one turn reads.
_MOST_EVENTS = 1000
#: Sessions that one search for due ones returns.
_DUE_BATCH = 100
#: How often a turn is retried because the session changed. Each time another change has succeeded.
_MOST_TRIES = 1000
#: Environments that are searched concurrently.
_AT_ONCE = 20
#: Events of a client that an agent acts on; the rest of the stream are events of the agents themselves.
FROM_CLIENTS = ("user.", "system.")


@dataclass(frozen=True, slots=True)
class Step:
    """An agent's reaction to its unseen events.

    Attributes:
        state: its memory for the next step; JSON.
        events: its new events; a missing `id` is made up.
        status: of the session afterwards: `running`, `idle`, `terminated` or `rescheduling`.
        due_at_us: when it must act again even without an event, microseconds; None: never.
        busy: whether a message's turn is not over: if the session's work stops now, it must be queued again. Also true
            for an idle session that waits for the result of a tool.
    """

    state: Any
    events: Sequence[Event]
    status: str
    due_at_us: int | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """The input of one step of an agent. Instants are microseconds of the environment's clock.

    Attributes:
        session_id: whose agent it is.
        script: of the session; JSON.
        state: of the step before; None at first.
        unseen: clients' events since then, oldest first, with `id` and `processed_at`.
        now: the current instant.
        cloud: whether the environment is a cloud one, which no worker serves.
        held_since: since when a worker holds the session's work; None: no worker does.
        metadata: of the session.
    """

    session_id: str
    script: str
    state: Any
    unseen: Sequence[Event]
    now: int
    cloud: bool
    held_since: int | None
    metadata: Mapping[str, str]


class Agent(Protocol):
    """The function that acts for a session: that of `scripts.py`, or a test's. Pure: the same turn gives the same step."""

    def __call__(self, turn: Turn) -> Step:
        """Act."""


class Turns:
    """Takes the turns of all sessions."""

    def __init__(
        self,
        access: Access,
        workspaces: WorkspaceStore,
        agent: Agent,
        default_script: Callable[[str], Awaitable[ChosenScript]],
    ) -> None:
        """Take turns by *agent*; *default_script* gives a workspace's script for sessions that have none yet."""
        self._access = access
        self._workspaces = workspaces
        self._agent = agent
        self._default_script = default_script
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def take(self, environment_id: str, session_id: str) -> None:
        """Let a session's agent act until nothing is left to do now.

        Raises:
            EnvironmentNotFound: the environment is gone.
            StorageUnavailable: Redis did not answer, or others kept changing the session.
        """
        for _ in range(_MOST_TRIES):
            item = work_id(environment_id, session_id)
            read = SessionTurn(session_id=session_id, work_id=item, most_events=_MOST_EVENTS)
            reply = await self._access.run(read, environment_id, TRUSTED)
            if reply.word == "NONE":
                return
            chosen = None if reply.script else await self._default_script(reply.workspace)
            # Each turn may run a heavy script for a message, so no caller waits for all of them.
            text = reply.script if chosen is None else chosen.text
            entries = reply.entries[: max(MOST_FILLED // len(text), 1)]
            events = [rendered(event_of(entry)) for entry in entries]
            step = self._agent(
                Turn(
                    session_id=session_id,
                    script=text,
                    state=json.loads(reply.state),
                    unseen=[event for event in events if event["type"].startswith(FROM_CLIENTS)],
                    now=reply.now,
                    cloud=reply.cloud,
                    held_since=reply.held_since,
                    metadata=json.loads(reply.metadata),
                )
            )
            commit = SessionCommit(
                session_id=session_id,
                work_id=item,
                version=reply.version,
                last_read=int(entries[-1][0].partition("-")[0]) if entries else reply.seen,
                state=json.dumps(step.state, ensure_ascii=False),
                status=step.status,
                due_at=step.due_at_us,
                busy=step.busy,
                script="" if chosen is None else chosen.text,
                source="" if chosen is None else chosen.source,
                events=[_said(session_id, reply.version, n, event) for n, event in enumerate(step.events)],
            )
            await self._access.run(commit, environment_id, TRUSTED)
            if step.due_at_us is not None:
                self.look(environment_id)
        raise StorageUnavailable

    async def take_due(self, environment_id: str) -> None:
        """Take the turns of all due sessions of an environment, and look again when the next one becomes due."""
        failed: set[str] = set()
        due = {""}
        while due:
            try:
                reply = await self._access.run(SessionDue(most=_DUE_BATCH), environment_id, TRUSTED)
                due = set(reply.session_ids) - failed
                for session_id in due:
                    try:
                        await self.take(environment_id, session_id)
                    except WorkyardError:
                        raise
                    except Exception:
                        # An agent that fails must not block all others.
                        _log.exception("the agent of %s failed", session_id)
                        failed.add(session_id)
            except EnvironmentNotFound:
                return
        self._set_timer(environment_id, reply.ahead_us)

    async def make_good(self) -> None:
        """Take every turn that a crash, or the shutdown of a server, left behind."""
        engine, keys = self._access.engine, self._access.keys
        for workspace in await self._workspaces.all():
            ids = await self._workspaces.environments(workspace)
            for start in range(0, len(ids), _AT_ONCE):
                some = ids[start : start + _AT_ONCE]
                # In most, no agent waits for anything.
                waits = await engine.commands(("EXISTS", keys.environment(id_, "due")) for id_ in some)
                await asyncio.gather(*[self.take_due(id_) for id_, one in zip(some, waits, strict=True) if one])

    def look(self, environment_id: str) -> None:
        """Take an environment's due turns in the background: its clock was changed, or an agent waits for an instant."""
        if not self._closing:
            task = asyncio.create_task(self._in_background(environment_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Drop the pending turns; another server, or the next start, takes them."""
        self._closing = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for task in self._tasks:
            task.cancel()

    def _set_timer(self, environment_id: str, ahead_us: int) -> None:
        earlier = self._timers.pop(environment_id, None)
        if earlier is not None:
            earlier.cancel()
        if ahead_us >= 0 and not self._closing:
            loop = asyncio.get_running_loop()
            self._timers[environment_id] = loop.call_later(ahead_us / 1_000_000, self.look, environment_id)

    async def _in_background(self, environment_id: str) -> None:
        try:
            await self.take_due(environment_id)
        except (StorageUnavailable, EnvironmentNotFound) as error:
            _log.warning("agents of %s did not act (%s); they will act at the next access", environment_id, error)


def _said(session_id: str, version: int, number: int, event: Event) -> str:
    """Return an agent's event as it is stored: with an id, and without its date, which its entry has."""
    identified = {"id": "sevt_" + derived_suffix("event", session_id, str(version), str(number)), **event}
    identified.pop("processed_at", None)
    return json.dumps(identified, ensure_ascii=False, separators=(",", ":"))
