"""Calls of the scripts about timers and clocks. Each class is named like its Lua file, which has the rules."""

from __future__ import annotations

from typing import Literal, NamedTuple

from workyard_store.engine.lua import Value
from workyard_store.lua.heads import FOLLOWING, Ok

from .binder import TIMERS, QueueCall

TimerKind = Literal["reclaim", "lapse", "startup_lease", "wind_down", "poller_window", "agent"]


class TimerRow(NamedTuple):
    """A timer, and the instant at which it ends, microseconds. Ids are None where it has none."""

    kind: TimerKind
    at: int
    work_id: str | None
    session_id: str | None
    worker_id: str | None


class Ahead(NamedTuple):
    """The timers that an environment has ahead."""

    word: Ok
    rows: list[TimerRow]


class Timers(QueueCall[Ahead], heads=(TIMERS,), lua="timers"):
    """Read the soonest timers. `reclaim_us`: the server's default reclaim age; `most`: of each kind."""

    reclaim_us: int
    most: int


class Fired(NamedTuple):
    """What a change of the clock fired. `rest`: whether leases are left that have to lapse; `has_agents`: whether an agent waits for an
    instant: 1 or 0 each."""

    word: Ok
    rest: int
    has_agents: int
    rows: list[TimerRow]


class Clock(QueueCall[Fired], heads=(FOLLOWING, TIMERS), lua="clock"):
    """Copy a workspace's clock. `reclaim_us`: the server's default reclaim age; `most`: timers of each kind; `by_itself`: the server
    moves the clock, so no lease ends by that."""

    reclaim_us: int
    most: int
    by_itself: bool


class Waiting(NamedTuple):
    """How many items are leased; wall time of the last change, or 0; the instant of the next timer. Microseconds."""

    word: Ok
    leased: int
    stirred_at: int
    next_at: int | None


class Auto(QueueCall[Waiting], heads=(TIMERS,), lua="auto"):
    """Tell whether an environment only waits. `gone_us`: a worker that has not polled for so long counts as gone; `reclaim_us`: the
    server's default reclaim age; `ages`: the reclaim ages that blocked polls name, microseconds, empty for none."""

    gone_us: int
    reclaim_us: int
    ages: list[Value]
