"""Helpers for the clock of a workspace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workyard_queue.lua.clock import TimerKind

from ..schemas.clock import ClockAhead, ClockMoved
from . import calls
from .steps import Awaiting, Blocking, Helpers, Steps, helper, read


class ClockHelpers(Helpers):
    """Reads and changes the clock of a workspace. Time never goes back; only a reset returns to wall time."""

    @helper
    def read(self) -> Steps[ClockAhead]:
        """Return the clock's mode and instant, and its pending timers, soonest first."""
        return read(ClockAhead, (yield calls.get_clock()))

    @helper
    def now(self) -> Steps[datetime]:
        """Return the instant of the workspace's clock, in UTC."""
        return datetime.fromisoformat((yield calls.get_clock())["now"])

    @helper
    def freeze(self, at: datetime | str | None = None) -> Steps[ClockMoved]:
        """Stop the clock, at its current instant or at a later one; the result lists the timers that fired."""
        return (yield from _change(mode="frozen", at=_text(at)))

    @helper
    def advance(self, by: float | timedelta) -> Steps[ClockMoved]:
        """Move the clock forward, by seconds or by a timedelta; the result lists the timers that fired."""
        return (yield from _change(advance_seconds=by.total_seconds() if isinstance(by, timedelta) else by))

    @helper
    def advance_to_next(self, timer: TimerKind | None = None) -> Steps[ClockMoved]:
        """Move the clock to the next timer of the workspace, such as the end of a lease, or to the next timer of a kind.
        If no such timer is pending, the clock stays. The result lists the timers that fired."""
        return (yield from _change(advance_to_next=True, timer=timer))

    @helper
    def auto(self) -> Steps[ClockMoved]:
        """Stop the clock, and let it jump to the next timer by itself whenever every poll waits, no other request is under
        way and no item is leased."""
        return (yield from _change(mode="auto"))

    @helper
    def real(self) -> Steps[ClockMoved]:
        """Let the clock run on from its current instant."""
        return (yield from _change(mode="real"))


def _change(**change: object) -> Steps[ClockMoved]:
    return read(ClockMoved, (yield calls.change_clock(**change)))


def _text(instant: datetime | str | None) -> str | None:
    if not isinstance(instant, datetime):
        return instant
    if instant.tzinfo is None:
        raise ValueError("an instant without a time zone; write datetime(…, tzinfo=UTC)")
    return instant.astimezone(UTC).isoformat()


class Clock(Blocking, ClockHelpers):
    """The clock of a workspace."""


class AsyncClock(Awaiting, ClockHelpers):
    """The clock of a workspace; every call is awaited."""
