"""Wire shapes of the clock and its timers. Rules: `clock.*`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from workyard_queue.clock.timers import MOST_FIRED, Timer, Timers
from workyard_queue.lua.clock import TimerKind
from workyard_store.clock import LAST_INSTANT, format_instant
from workyard_store.workspaces.workspaces import ClockReading

from ..wire.values import OnlyTrue
from .common import ENVIRONMENT_ID, WORK_ID, Body, Rfc3339, Shape, Timestamp
from .workspaces import WorkspaceId

#: Timers that a reading of the clock shows.
MOST_PENDING = 100
_LONGEST_ADVANCE_S = LAST_INSTANT / 1e6
_NULL: JsonDict = {"type": "null"}


def _alone(member: str, value: JsonDict, **more: JsonDict) -> JsonDict:
    """Return the schema of a change that gives this member, and of the others only *more*."""
    others: JsonDict = {
        name: _NULL for name in ("mode", "at", "advance_seconds", "advance_to_next", "timer") if name != member
    }
    return {"required": [member], "properties": {**others, member: value, **more}}


class ClockChange(Body):
    """Request to change a workspace's clock: exactly one of `mode`, `advance_seconds` and `advance_to_next`."""

    mode: Literal["real", "frozen", "auto"] | None = Field(
        None,
        description="real: tick on from the current instant. frozen: stand still. auto: stand still, and jump to the "
        "next timer automatically when every poll waits, no other request is in progress and no item is "
        "leased.",
    )
    at: Rfc3339 | None = Field(
        None, description="With `frozen`: the instant at which the clock stands still; null for the current one."
    )
    advance_seconds: Annotated[float, Field(ge=0, le=_LONGEST_ADVANCE_S, allow_inf_nan=False)] | None = Field(
        None, description="Move the clock forward immediately by this many seconds."
    )
    advance_to_next: OnlyTrue | None = Field(
        None, description="Move the clock to the next timer; if none is pending, the clock does not change."
    )
    timer: TimerKind | None = Field(
        None, description="With `advance_to_next`: go to the next timer of this kind; timers before it fire too."
    )
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                _alone("mode", {"enum": ["real", "auto"]}),
                _alone("mode", {"const": "frozen"}, at={}),
                _alone("advance_seconds", {"type": "number"}),
                _alone("advance_to_next", {"const": True}, timer={}),
            ],
            "examples": [
                {"mode": "frozen", "at": "2031-05-06T12:00:00Z"},
                {"advance_seconds": 6.5},
                {"advance_to_next": True},
                {"advance_to_next": True, "timer": "lapse"},
                {"mode": "auto"},
                {"mode": "real"},
            ],
        }
    )

    @model_validator(mode="after")
    def _one_change(self) -> ClockChange:
        if [self.mode, self.advance_seconds, self.advance_to_next].count(None) != 2:
            raise PydanticCustomError("clock", "mode: Give exactly one of mode, advance_seconds and advance_to_next")
        if self.at is not None and self.mode != "frozen":
            raise PydanticCustomError("clock", "at: Only allowed with mode frozen")
        if self.timer is not None and self.advance_to_next is None:
            raise PydanticCustomError("clock", "timer: Only allowed with advance_to_next")
        return self


class FiredTimer(Shape):
    """An event that the passage of time causes."""

    at: Timestamp = Field(description="When it is, or was, due.")
    timer: TimerKind = Field(
        description="startup_lease, lapse: the lease of an item that is starting (startup_lease) or active (lapse) "
        "ends; the item is queued again. wind_down: the lease of a stopping item ends; the item is "
        "stopped. reclaim: a poll can take over an item that was handed out and not acknowledged. "
        "poller_window: a worker has not polled for 30 s and no longer counts. agent: an agent acts."
    )
    environment_id: str = Field(description="Its environment.", pattern=ENVIRONMENT_ID)
    work_id: Annotated[str, Field(pattern=WORK_ID)] | None = Field(description="Its work item; null if it has none.")
    session_id: str | None = Field(description="The session; null for a poller's window.")
    worker_id: str | None = Field(description="The worker, for a poller's window; otherwise null.")


class PendingTimer(FiredTimer):
    """A pending timer."""

    in_seconds: float = Field(ge=0, description="Seconds until it is due, by the workspace's clock.")


class Clock(Shape):
    """A workspace's clock."""

    mode: Literal["real", "frozen", "auto"] = Field(
        description="real: ticking. frozen: standing still. auto: standing still until every request waits."
    )
    now: Timestamp = Field(description="The workspace's current instant.")
    ahead_seconds: float = Field(description="How far the clock is ahead of wall time, in seconds.")


class ClockAhead(Clock):
    """A workspace's clock and its pending timers."""

    timers: list[PendingTimer] = Field(description="Pending timers, soonest first.", max_length=MOST_PENDING)
    more: bool = Field(description=f"Whether more than {MOST_PENDING} timers are pending.")


class ClockMoved(Clock):
    """A workspace's clock after a change, and the timers that the change fired."""

    fired: list[FiredTimer] = Field(description="Fired timers, in the order of their instants.", max_length=MOST_FIRED)
    more: bool = Field(
        description=f"Whether more than {MOST_FIRED:_} timers fired; only the first ones are listed.".replace("_", " ")
    )


class WorkspaceClock(Clock):
    """The clock of one workspace in a list."""

    workspace: WorkspaceId = Field(description="Public id of the workspace.")


class Clocks(Shape):
    """The clocks of all workspaces."""

    data: list[WorkspaceClock] = Field(description="One row per workspace.")


class WorkspaceClockMoved(ClockMoved):
    """The changed clock of one workspace in a list."""

    workspace: WorkspaceId = Field(description="Public id of the workspace.")


class ClocksMoved(Shape):
    """The clocks of all workspaces after a change."""

    data: list[WorkspaceClockMoved] = Field(description="One row per workspace.")


def render_clock(reading: ClockReading) -> dict[str, Any]:
    """Render a clock."""
    return {"mode": reading.mode, "now": format_instant(reading.now), "ahead_seconds": reading.ahead_us / 1_000_000}


def render_clock_ahead(reading: ClockReading, pending: Timers) -> dict[str, Any]:
    """Render a clock with the timers it has ahead."""
    rows = [{**_timer(row), "in_seconds": max(row.at - reading.now, 0) / 1_000_000} for row in pending.rows]
    return {**render_clock(reading), "timers": rows, "more": pending.more}


def render_clock_moved(reading: ClockReading, fired: Timers) -> dict[str, Any]:
    """Render a clock with the timers that it fired."""
    return {**render_clock(reading), "fired": [_timer(row) for row in fired.rows], "more": fired.more}


def _timer(row: Timer) -> dict[str, Any]:
    return {
        "at": format_instant(row.at),
        "timer": row.kind,
        "environment_id": row.environment_id,
        "work_id": row.work_id,
        "session_id": row.session_id,
        "worker_id": row.worker_id,
    }
