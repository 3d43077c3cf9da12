"""The timeline of a work item as text, for people: a time axis, who did what, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from workyard_queue.timeline.events import Event
from workyard_queue.timeline.timeline import Timeline
from workyard_queue.timeline.wording import duration
from workyard_queue.work.states import NO_HEARTBEAT
from workyard_store.clock import format_instant

from .terminal import WIDTH, truncate

#: Heartbeats in a row of which only the first and the last are drawn.
_MANY_BEATS = 5


def draw(timeline: Timeline) -> str:
    """Return a drawing of a timeline, each line of at most `WIDTH` columns, without control characters."""
    events = timeline.events
    lines = [f"{timeline.work_id}  {timeline.state}", f"{timeline.session_id} in {timeline.environment_id}"]
    if events:
        span = duration(events[-1].at - events[0].at)
        note = "" if timeline.complete else "; older ones are no longer kept"
        lines.append(f"{len(events)} events in {span} from {format_instant(events[0].at)}{note}")
        lines += ["", f"{'at':>10}  {'later':>8}     {'event':<13} {'state':<20} by"]
        lines += _axis(events)
    lines += ["", "diagnosis:"]
    for finding in timeline.findings:
        mark = "!" if finding.severity == "problem" else "-"
        lines += _wrapped(f"{mark} {finding.code}: {finding.text}")
    return "".join(f"{truncate(line)}\n" for line in lines)


def _axis(events: Sequence[Event]) -> Iterator[str]:
    begin = previous = events[0]
    for event, skipped in _drawn(events):
        if skipped:
            yield f"{'':>10}  {'':>8}  :  ({skipped} more heartbeats)"
        at = f"{(event.at - begin.at) / 1_000_000:.3f} s"
        apart = event.at - previous.at
        later = "" if event is begin else f"+{duration(apart)}" if apart > 0 else "="
        if event.before and event.after and event.before != event.after:
            state = f"{event.before} → {event.after}"
        else:
            state = event.after or event.before or ""
        line = f"{at:>10}  {later:>8}  {_ARROWS.get(event.kind, '|')}  {event.kind:<13} {state:<20} "
        yield line + ", ".join(_told(event))
        previous = event


#: What goes to a worker, comes from one, or is refused it.
_ARROWS = {
    "offered": ">",
    "reclaimed": ">",
    "acked": "<",
    "beat": "<",
    "ack_refused": "x",
    "beat_refused": "x",
    "beat_ended": "x",
    "lapsed": "~",
    "fault": "!",
}


def _drawn(events: Sequence[Event]) -> Iterator[tuple[Event, int]]:
    """Yield the events that are drawn, each with the number of those before it that are not."""
    run: list[Event] = []
    for event in [*events, None]:
        goes_on = event is not None and event.kind == "beat" and event.before == "active"
        if goes_on and event is not None and (not run or run[-1].credential == event.credential):
            run.append(event)
            continue
        many = len(run) >= _MANY_BEATS
        for each in (run[0], run[-1]) if many else run:
            yield each, len(run) - 2 if many and each is run[-1] else 0
        run = []
        if goes_on and event is not None:
            run.append(event)
        elif event is not None:
            yield event, 0


def _told(event: Event) -> Iterator[str]:
    """Yield what an event tells, the least telling last: it may be cut off."""
    if event.operation is None:
        yield "the clock"
    elif event.worker_id is not None:
        yield f"worker {event.worker_id}"
    else:
        yield event.credential or ""
    yield from _details(event)
    client = event.helper or event.user_agent
    if client is not None:
        yield f"via {client}"
    if event.worker_id is not None and event.credential is not None:
        yield event.credential


def _details(event: Event) -> Iterator[str]:
    if event.token is not None:
        yield f"token {event.token}"
    if event.age_us is not None:
        yield f"handed out {duration(event.age_us)} before"
    if event.kind == "beat_refused":
        yield f"expected {_beat(event.expected)}, stored {_beat(event.actual)}"
        if event.earlier_life:
            yield "token of an earlier life"
    if event.lease_us is not None:
        yield f"lease {duration(event.lease_us)}"
    if event.force:
        yield "by force"
    if event.cause is not None:
        yield f"because of its {event.cause}"
    if event.by_message:
        yield "by a message"
    if event.keys is not None:
        yield f"{event.keys} keys"
    if event.rule is not None:
        yield f"rule {event.rule} {event.do or ''}"


def _beat(value: int | str | None) -> str:
    if isinstance(value, int):
        return format_instant(value)[11:]
    return {None: "none", NO_HEARTBEAT: NO_HEARTBEAT}.get(value, "something else")


def _wrapped(text: str) -> Iterator[str]:
    """Yield the lines of a paragraph, those after the first set in."""
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > WIDTH:
            yield line
            line = f"   {word}"
        else:
            line = f"{line} {word}" if line else word
    yield line
