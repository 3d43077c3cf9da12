"""Timers: changes in a workspace that happen only through the passage of time; and clock changes that fire them.

Rules: `clock.timers.*`.

| kind            | ends                                        | what follows                                             |
|-----------------|---------------------------------------------|----------------------------------------------------------|
| `startup_lease` | of an item that is `starting`               | it is queued again                                       |
| `lapse`         | the lease of an `active` item               | it is queued again                                       |
| `wind_down`     | the lease of a `stopping` item              | it is stopped                                            |
| `reclaim`       | the workspace's reclaim age of a hand-out   | a poll may take it over; one that names an age goes by that |
| `poller_window` | a worker's last poll is 30 s old            | it counts no more among the workers polling              |
| `agent`         | an instant for which a session's agent waits | it acts, at the clock's new instant                      |
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import get_args

from workyard_store.access import TRUSTED, Access
from workyard_store.errors import EnvironmentNotFound, InvalidRequest
from workyard_store.lua.workspaces import ClockChange
from workyard_store.workspaces.workspaces import ClockReading, Profile, WorkspaceStore

from ..lua.clock import Clock, TimerKind, TimerRow
from ..lua.clock import Timers as TimersCall
from ..sessions.turns import Turns

TIMER_KINDS: tuple[TimerKind, ...] = get_args(TimerKind)
#: Timers that one change of a clock reports, and the timers of each kind that it reports in one environment.
MOST_FIRED = 1000
#: Timers that the search for the next one of a kind reads, in one environment.
_MOST_LOOKED_AT = 1000
#: How often the search for the next timer is repeated because the timer was renewed before the clock reached it.
_MOST_TRIES = 100
#: Environments that are read, or whose agents act, concurrently.
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Timer:
    """A change that happens through the passage of time. `at`: the instant, in microseconds."""

    at: int
    kind: TimerKind
    environment_id: str
    work_id: str | None
    session_id: str | None
    worker_id: str | None


@dataclass(frozen=True, slots=True)
class Timers:
    """Timers in the order of their instants, the first ones. `more`: there are others."""

    rows: list[Timer] = field(default_factory=list)
    more: bool = False


class Clocks:
    """The clocks of all workspaces, and their timers.

    Every method raises `StorageUnavailable` when Redis does not answer.
    """

    def __init__(self, access: Access, workspaces: WorkspaceStore, turns: Turns, *, default_reclaim_ms: int) -> None:
        self._access = access
        self._workspaces = workspaces
        self._turns = turns
        self._default_reclaim_us = default_reclaim_ms * 1000

    async def pending(self, workspace: str, most: int) -> tuple[ClockReading, Timers]:
        """Return a workspace's clock, and the timers that it has ahead."""
        reading = await self._workspaces.clock(workspace)
        return reading, _in_order(await self._pending(workspace, most + 1), most)

    async def change(
        self, workspace: str, change: ClockChange, value: int | None = None
    ) -> tuple[ClockReading, Timers]:
        """Change the clock (see `WorkspaceStore.change_clock`); return it, and the timers that fired.

        All of it is in effect: leases have lapsed, and agents have acted.

        Raises:
            InvalidRequest: time would go back, or too far.
        """
        firing = _Firing(self._access, self._turns, self._default_reclaim_us)
        reading = await self._workspaces.change_clock(workspace, change, value, firing.apply)
        await firing.act()
        return reading, firing.fired()

    async def to_next(self, workspace: str, kind: TimerKind | None = None) -> tuple[ClockReading, Timers]:
        """Move the clock to the next timer, or the next of a kind; return it, and the timers that fired.

        A concurrent call may renew that timer: then the clock moves to the next one. If no timer is ahead, the clock stays
        and nothing fires.

        Raises:
            InvalidRequest: that is past the last instant of clocks.
        """
        firing = _Firing(self._access, self._turns, self._default_reclaim_us)
        for _ in range(_MOST_TRIES):
            ahead = await self._pending(workspace, 1 if kind is None else _MOST_LOOKED_AT)
            chosen = min((row.at for row in ahead if kind in (None, row.kind)), default=None)
            if chosen is None:
                break
            reading = await self._workspaces.move_clock(workspace, "reach", chosen, firing.apply)
            await firing.act()
            if reading is not None and any(kind in (None, row.kind) for row in firing.rows):
                return reading, firing.fired()
        return await self._workspaces.clock(workspace), firing.fired()

    async def jump(self, workspace: str, instant: int) -> None:
        """Move a clock in mode `auto` to an *instant*, unless it has reached it already or its mode has changed.

        An instant past the last instant of clocks is never reached.
        """
        firing = _Firing(self._access, self._turns, self._default_reclaim_us, by_itself=True)
        with suppress(InvalidRequest):
            await self._workspaces.move_clock(workspace, "jump", instant, firing.apply)
        await firing.act()

    async def _pending(self, workspace: str, most: int) -> list[Timer]:
        async def one(environment_id: str) -> list[Timer]:
            try:
                call = TimersCall(reclaim_us=self._default_reclaim_us, most=most)
                reply = await self._access.run(call, environment_id, TRUSTED)
            except EnvironmentNotFound:
                return []  # Half created or half deleted.
            return _timers(environment_id, reply.rows)

        found: list[Timer] = []
        ids = await self._workspaces.environments(workspace)
        for start in range(0, len(ids), _AT_ONCE):
            for rows in await asyncio.gather(*[one(id_) for id_ in ids[start : start + _AT_ONCE]]):
                found += rows
        return found


class _Firing:
    """One change of a clock on its way through the environments, and the timers it fires there."""

    def __init__(self, access: Access, turns: Turns, default_reclaim_us: int, *, by_itself: bool = False) -> None:
        self._access = access
        self._turns = turns
        self._default_reclaim_us = default_reclaim_us
        self._by_itself = by_itself
        self._with_agents: list[str] = []
        self.rows: list[Timer] = []

    async def apply(self, environment_ids: list[str], profile: Profile) -> None:
        """Copy the changed clock to some environments."""
        for rows in await asyncio.gather(*[self._apply(id_, profile) for id_ in environment_ids]):
            self.rows += rows

    async def _apply(self, environment_id: str, profile: Profile) -> list[Timer]:
        rows: list[Timer] = []
        call = Clock(reclaim_us=self._default_reclaim_us, most=MOST_FIRED + 1, by_itself=self._by_itself)
        try:
            while True:
                reply = await self._access.run(call, environment_id, TRUSTED, profile.head)
                rows += _timers(environment_id, reply.rows)
                if not reply.rest:
                    break
            if reply.has_agents:
                self._with_agents.append(environment_id)
        except EnvironmentNotFound:
            pass  # Half created or half deleted.
        return rows

    async def act(self) -> None:
        """Let the agents act that are due."""
        ids, self._with_agents = self._with_agents, []
        for start in range(0, len(ids), _AT_ONCE):
            await asyncio.gather(*[self._turns.take_due(id_) for id_ in ids[start : start + _AT_ONCE]])

    def fired(self) -> Timers:
        """Return the timers that have fired so far."""
        return _in_order(self.rows, MOST_FIRED)


def _timers(environment_id: str, rows: list[TimerRow]) -> list[Timer]:
    return [Timer(row.at, row.kind, environment_id, row.work_id, row.session_id, row.worker_id) for row in rows]


def _in_order(rows: list[Timer], most: int) -> Timers:
    # Those of one instant stay as they came: by environment, and leases in the order in which they lapse.
    ordered = sorted(rows, key=lambda row: row.at)
    return Timers(ordered[:most], len(ordered) > most)
