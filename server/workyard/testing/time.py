"""Helpers for the clock of a workspace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ..schemas.control import Clock as Reading
from .asking import Awaiting, Blocking, Helpers, Steps, helper, read
from .link import Request


class ClockHelpers(Helpers):
    """What is done to the clock of a workspace. Time never goes back; only a reset returns to wall time."""

    @helper
    def read(self) -> Steps[Reading]:
        """Return mode, instant, and what is pending."""
        return read(Reading, (yield Request("GET", _PATH)))

    @helper
    def now(self) -> Steps[datetime]:
        """Return the workspace's instant, UTC."""
        return datetime.fromisoformat((yield Request("GET", _PATH))["now"])

    @helper
    def freeze(self, at: datetime | str | None = None) -> Steps[Reading]:
        """Stop the clock, where it is or at a later instant; what is due by then has fired when this returns."""
        return (yield from _change(mode="frozen", at=_text(at)))

    @helper
    def advance(self, by: float | timedelta) -> Steps[Reading]:
        """Move the clock forward, by seconds or a timedelta; what is due by then has fired when this returns."""
        return (yield from _change(advance_seconds=by.total_seconds() if isinstance(by, timedelta) else by))

    @helper
    def advance_to_next(self) -> Steps[Reading]:
        """Jump to the next timer of the workspace: the end of a lease, a reclaim, …; nothing pending: nothing happens."""
        return (yield from _change(advance_to_next=True))

    @helper
    def auto(self) -> Steps[Reading]:
        """Stand, and jump by itself to the next timer whenever all polls wait and no item is leased."""
        return (yield from _change(mode="auto"))

    @helper
    def real(self) -> Steps[Reading]:
        """Tick on from the current instant."""
        return (yield from _change(mode="real"))


_PATH = "/_emulator/clock"


def _change(**body: object) -> Steps[Reading]:
    return read(Reading, (yield Request("POST", _PATH, body)))


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
