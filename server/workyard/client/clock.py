"""Helpers for the clock of a workspace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workyard_queue.clock.timers import TimerKind

from ..schemas.clock import ClockAhead, ClockMoved
from .connection import Request
from .steps import Awaiting, Blocking, Helpers, Steps, helper, read


class ClockHelpers(Helpers):
    """What is done to the clock of a workspace. Time never goes back; only a reset returns to wall time."""

    @helper
    def read(self) -> Steps[ClockAhead]:
        """Return mode, instant, and the timers that are pending, soonest first."""
        return read(ClockAhead, (yield Request("GET", _PATH)))

    @helper
    def now(self) -> Steps[datetime]:
        """Return the workspace's instant, UTC."""
        return datetime.fromisoformat((yield Request("GET", _PATH))["now"])

    @helper
    def freeze(self, at: datetime | str | None = None) -> Steps[ClockMoved]:
        """Stop the clock, where it is or at a later instant; the answer says what that fired."""
        return (yield from _change(mode="frozen", at=_text(at)))

    @helper
    def advance(self, by: float | timedelta) -> Steps[ClockMoved]:
        """Move the clock forward, by seconds or a timedelta; the answer says what that fired."""
        return (yield from _change(advance_seconds=by.total_seconds() if isinstance(by, timedelta) else by))

    @helper
    def advance_to_next(self, timer: TimerKind | None = None) -> Steps[ClockMoved]:
        """Jump to the next timer of the workspace, such as the end of a lease, or to the next of a kind; if none is
        pending, the clock stays as it is. The answer says what fired."""
        return (yield from _change(advance_to_next=True, timer=timer))

    @helper
    def auto(self) -> Steps[ClockMoved]:
        """Stand, and jump by itself to the next timer when every poll waits, nothing is in flight and no item is leased."""
        return (yield from _change(mode="auto"))

    @helper
    def real(self) -> Steps[ClockMoved]:
        """Tick on from the current instant."""
        return (yield from _change(mode="real"))


_PATH = "/_emulator/clock"


def _change(**body: object) -> Steps[ClockMoved]:
    return read(ClockMoved, (yield Request("POST", _PATH, body)))


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
