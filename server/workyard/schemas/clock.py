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
        description="real: tick on from the current instant. frozen: stand still. auto: stand still, and jump to the next "
        "timer by itself when every poll waits, nothing is in flight and no item is leased.",
    )
    at: Rfc3339 | None = Field(None, description="With `frozen`: the instant to stand at; null for the current one.")
    advance_seconds: Annotated[float, Field(ge=0, le=_LONGEST_ADVANCE_S, allow_inf_nan=False)] | None = Field(
        None, description="Move the clock forward by this many seconds, at once."
    )
    advance_to_next: OnlyTrue | None = Field(
        None, description="Move the clock to the next timer; if none is pending, it stays as it is."
    )
    timer: TimerKind | None = Field(
        None, description="With `advance_to_next`: go to the next timer of this kind; those before it fire, too."
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
            raise PydanticCustomError("clock", "mode: Give one of mode, advance_seconds and advance_to_next")
        if self.at is not None and self.mode != "frozen":
            raise PydanticCustomError("clock", "at: Goes with mode frozen only")
        if self.timer is not None and self.advance_to_next is None:
            raise PydanticCustomError("clock", "timer: Goes with advance_to_next only")
        return self


class FiredTimer(Shape):
    """Something that time alone brings about."""

    at: Timestamp = Field(description="When it is, or was, time.")
    timer: TimerKind = Field(
        description="startup_lease, lapse: the lease of an item that is starting, active; it is queued again. wind_down: that "
        "of one that is stopping; it is stopped. reclaim: a poll may take over an item that was handed out and not "
        "acknowledged. poller_window: a worker has not polled for 30 s and counts no more. agent: an agent acts."
    )
    environment_id: str = Field(description="Its environment.", pattern=ENVIRONMENT_ID)
    work_id: Annotated[str, Field(pattern=WORK_ID)] | None = Field(description="Its work item; null where it has none.")
    session_id: str | None = Field(description="The session; null of a poller's window.")
    worker_id: str | None = Field(description="The worker, of a poller's window; else null.")


class PendingTimer(FiredTimer):
    """A timer that waits for its time."""

    in_seconds: float = Field(ge=0, description="How long that is by the workspace's clock.")


class Clock(Shape):
    """A workspace's clock."""

    mode: Literal["real", "frozen", "auto"] = Field(
        description="real: ticking. frozen: standing still. auto: standing still until everybody waits."
    )
    now: Timestamp = Field(description="The workspace's instant.")
    ahead_seconds: float = Field(description="How far it is before wall time.")


class ClockAhead(Clock):
    """A workspace's clock, and what waits for it."""

    timers: list[PendingTimer] = Field(description="What is pending, soonest first.", max_length=MOST_PENDING)
    more: bool = Field(description=f"Whether more than {MOST_PENDING} are.")


class ClockMoved(Clock):
    """A workspace's clock after a change, and what that fired."""

    fired: list[FiredTimer] = Field(description="In the order of their instants.", max_length=MOST_FIRED)
    more: bool = Field(
        description=f"Whether more than {MOST_FIRED:_} fired; the first ones are shown.".replace("_", " ")
    )


class WorkspaceClock(Clock):
    """One workspace's clock among all."""

    workspace: WorkspaceId = Field(description="Public id of the workspace.")


class Clocks(Shape):
    """The clocks of all workspaces."""

    data: list[WorkspaceClock] = Field(description="One row a workspace.")


class WorkspaceClockMoved(ClockMoved):
    """One workspace's clock after a change of all."""

    workspace: WorkspaceId = Field(description="Public id of the workspace.")


class ClocksMoved(Shape):
    """The clocks of all workspaces after a change."""

    data: list[WorkspaceClockMoved] = Field(description="One row a workspace.")


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
