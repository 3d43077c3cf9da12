"""Words for spans of time, callers and heartbeats in diagnoses and drawings."""

from __future__ import annotations

from .events import Event


def duration(us: int) -> str:
    """Return a span of time in words of at most two units."""
    if us < 1_000:
        return f"{max(us, 0)} µs"
    if us < 1_000_000:
        return f"{us / 1_000:.3g} ms" if us < 100_000 else f"{us // 1000} ms"
    seconds = us / 1_000_000
    if seconds < 120:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for size, name, smaller, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {small_name}" if rest else "")
    raise AssertionError(us)


def between(earlier: Event, later: Event) -> str:
    """Return the time between two events: the workspace's, or that of the wall clock where that stood still."""
    apart = later.at - earlier.at
    if apart > 0 or "lapsed" in (earlier.kind, later.kind):
        return duration(apart)
    return f"{duration(later.wall - earlier.wall)} of wall time"


def who(event: Event) -> str:
    """Return who caused an event, as far as it is known."""
    if event.worker_id is not None:
        return f"worker {event.worker_id}"
    if event.credential in (None, "none"):
        return "a caller without a credential" if event.credential else "the clock"
    return f"the client with {event.credential}"


def may_be_same_caller(one: Event, other: Event) -> bool:
    """Return whether two events may have the same caller, as far as is known."""
    if one.worker_id is not None and other.worker_id is not None:
        return one.worker_id == other.worker_id
    return (one.credential, one.user_agent) == (other.credential, other.user_agent)


def heartbeat_in_words(value: int | str | None, seen: Event) -> str:
    """Return a heartbeat in words: how long before an event it was."""
    if isinstance(value, int):
        return f"the one of {duration(seen.at - value)} before" if value <= seen.at else "a later one"
    return "none" if value is None else value
