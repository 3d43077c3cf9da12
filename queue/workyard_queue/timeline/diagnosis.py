"""The diagnosis of a work item's life in plain sentences: pure functions from its events to findings. Reads no store.

`codes.py` has the closed list of findings.
Times in the sentences are the workspace's. If its clock stands still they are wall time, and the sentence says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .codes import CODES, Severity
from .events import Event
from .wording import between, duration, heartbeat_in_words, may_be_same_caller, who

#: What the SDKs' pollers call themselves in `x-stainless-helper`.
_POLLER = "environments-work-poller"
#: This many lapses are a bounce.
_BOUNCES = 3
_HAND_OUTS = ("offered", "reclaimed")
_BEATS = ("beat", "beat_refused", "beat_ended")


@dataclass(frozen=True, slots=True)
class Present:
    """The item's current state. Instants are the workspace's, microseconds; `stands_still`: its clock is frozen;
    `poll_faults`: the fault rules that were applied to polls of its environment, and how often each.
    """

    now: int
    stands_still: bool
    state: str
    lease_ends: int | None
    workers_polling: int
    poll_faults: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence on an item's life, and the instant that it is about, microseconds."""

    code: str
    text: str
    at: int

    @property
    def severity(self) -> Severity:
        """Return `problem` or `note`."""
        return CODES[self.code][0]


@dataclass(slots=True)
class _Life:
    """The events from one entry into the queue to the next, oldest first, and the decisive ones among them.

    `entered`: the event that put the item into the queue; `stop`: the first stop request that changed something; `end`:
    the event that ended this life. `lives`: all lives of the item; this one has the index `number`.
    """

    lives: list[_Life]
    number: int
    entered: Event | None = None
    events: list[Event] = field(default_factory=list)
    hand_outs: list[Event] = field(default_factory=list)
    acked: Event | None = None
    beats: list[Event] = field(default_factory=list)
    stop: Event | None = None
    end: Event | None = None

    def take(self, event: Event) -> None:
        """Add an event."""
        self.events.append(event)
        if event.kind in _HAND_OUTS:
            self.hand_outs.append(event)
        elif event.kind == "acked":
            self.acked = event
        elif event.kind == "beat":
            self.beats.append(event)
        elif event.kind == "stop_asked" and event.before != event.after:
            self.stop = self.stop or event
        if event.kind in ("lapsed", "stop_asked") and event.after in ("queued", "stopped") and self.end is None:
            self.end = event if event.before != event.after else None

    @property
    def holder(self) -> Event | None:
        """Return the last event of the worker that holds the item, or held it at the end."""
        return self.beats[-1] if self.beats else self.acked


def diagnose(events: Sequence[Event], present: Present, *, complete: bool) -> list[Finding]:
    """Return the findings on an item's life, in the order of their instants.

    Args:
        events: all known events of the item, oldest first, with their workers.
        present: its current state.
        complete: whether the first event is among them.
    """
    found: list[Finding] = []
    if not complete and events:
        found.append(Finding("incomplete", "The ring no longer holds the beginning of this timeline.", events[0].at))
    lives = _lives(events)
    for life in lives:
        for rule in _RULES:
            found += rule(life)
    found += _faults(events)
    found += _bounces(lives)
    if lives:
        found += _present(lives[-1], present)
    return sorted(found, key=lambda finding: finding.at)


def _lives(events: Sequence[Event]) -> list[_Life]:
    lives: list[_Life] = []
    for event in events:
        if not lives or event.kind == "enqueued":
            lives.append(_Life(lives, len(lives), event if event.kind == "enqueued" else None))
        lives[-1].take(event)
        if event.kind == "lapsed" and event.after == "queued":
            lives.append(_Life(lives, len(lives), event))
    return lives


# -- rules on one life ----------------------------------------------------------------------------------------


def _hand_outs(life: _Life) -> Iterator[Finding]:
    given = life.hand_outs
    if len(given) < 2:
        return
    first, last = given[0], given[-1]
    if life.acked is None:
        names = ", ".join(dict.fromkeys(who(each) for each in given))
        text = f"Handed out {len(given)} times within {between(first, last)}, to {names}, and never acknowledged."
        yield Finding("never_acknowledged", text, last.at)
    elif last.kind == "reclaimed" and given.index(last) > 0:
        before = given[-2]
        text = (
            f"Taken over by {who(last)}: {who(before)} had not acknowledged it {between(before, last)} after its poll."
        )
        yield Finding("taken_over", text, last.at)


def _refused_acks(life: _Life) -> Iterator[Finding]:
    for event in life.events:
        if event.kind != "ack_refused":
            continue
        acked = life.acked
        if acked is None:
            code = "late_ack"
            text = f"Acknowledged too late by {who(event)}: it was already {event.before}."
        elif len(life.hand_outs) > 1:
            code = "double_delivery"
            text = (
                f"Delivered twice: {who(acked)} acknowledged it, and {who(event)} did too {between(acked, event)} later, "
                f"which was refused with 409. {len(life.hand_outs)} polls had received it."
            )
        else:
            code = "repeated_ack"
            text = (
                f"Acknowledged again {between(acked, event)} later, which was refused with 409: only one poll had "
                "received it, so the response to the first acknowledgement did not arrive."
            )
        yield Finding(code, text, event.at)


def _poller_stop(life: _Life) -> Event | None:
    """Return the stop with which a poller ended an item that no heartbeat had claimed."""
    stop = life.stop
    if stop is None or stop.force or stop.before != "starting" or life.acked is None:
        return None
    # Not every use of the poller sends the header that names it.
    return stop if stop.helper == _POLLER or (stop.helper is None and may_be_same_caller(stop, life.acked)) else None


def _dispatcher(life: _Life) -> Iterator[Finding]:
    stop = _poller_stop(life)
    if stop is None:
        return
    poller = f"the poller of {who(stop)}" if stop.worker_id is not None else f"a poller ({stop.credential})"
    late = next((each for each in life.events[life.events.index(stop) :] if each.kind in _BEATS), None)
    if late is None:
        assert life.acked is not None
        text = (
            f"Stopped by {poller} {between(life.acked, stop)} after it was acknowledged, and nobody has sent a heartbeat: "
            "if the poller's loop hands items to other processes, it returned before they connected."
        )
        yield Finding("stopped_unclaimed", text, stop.at)
        return
    other = late.worker_id is not None and late.worker_id != stop.worker_id
    process = f"the first heartbeat of the process that received it ({late.credential})"
    beats = f"{who(late)}'s first heartbeat" if other else process
    text = (
        f"Stopped by {poller} {between(stop, late)} before {beats}: the dispatcher returned before its sandbox connected. "
        "Poll with auto_stop=False where another process runs the item."
    )
    yield Finding("dispatcher_returned", text, stop.at)


def _lapses(life: _Life) -> Iterator[Finding]:
    lapsed = next((each for each in life.events if each.kind == "lapsed"), None)
    if lapsed is None:
        return
    holder = life.holder
    cause = life.events[max(life.events.index(lapsed) - 1, 0)]
    if cause.kind == "fault" and cause.do == "lose_lease":
        return  # Not caused by a worker: the finding of the fault reports it.
    if lapsed.before == "starting" and life.acked is not None:
        lease = duration(life.acked.lease_us or 0)
        text = f"Acknowledged by {who(life.acked)}, but no heartbeat came within the startup lease of {lease}."
        yield Finding("no_first_heartbeat", text, lapsed.at)
    elif lapsed.before == "active" and holder is not None:
        lease = duration(holder.lease_us or 0)
        after = (each for later in life.lives[life.number + 1 :] for each in later.events)
        late = next((each for each in after if each.kind in _BEATS and may_be_same_caller(each, holder)), None)
        if late is None or late.kind == "beat":
            rest = "it has not been seen since"
        else:
            rest = (
                f"its next heartbeat came {between(holder, late)} after the last one, so it had slept, been "
                "blocked or been cut off"
            )
        text = f"The lease of {who(holder)} lapsed: no heartbeat for {lease}, the length of its last lease; {rest}."
        yield Finding("lease_lapsed", text, lapsed.at)
    elif lapsed.before == "stopping" and life.stop is not None and _poller_stop(life) is None:
        worker = who(holder) if holder is not None else "nobody"
        informed = any(each.kind == "beat_ended" for each in life.events)
        why = (
            "learned of it from a heartbeat and did not stop it"
            if informed
            else "sent no heartbeat and did not learn of it"
        )
        text = (
            f"{_capital(who(life.stop))} requested a stop; {worker} {why}, so it was stopped when its lease "
            f"ended, {between(life.stop, lapsed)} later."
        )
        yield Finding("stop_not_honoured", text, lapsed.at)


def _refused_beats(life: _Life) -> Iterator[Finding]:
    reported: list[tuple[str, Event]] = []
    for number, event in enumerate(life.events):
        if event.kind != "beat_refused":
            continue
        before = [each for each in life.events[:number] if each.kind == "beat"]
        code, text = _refused(life, before, event)
        if any(code == other and may_be_same_caller(event, earlier) for other, earlier in reported):
            continue  # Reported once for each.
        reported.append((code, event))
        yield Finding(code, text, event.at)


def _refused(life: _Life, accepted: Sequence[Event], event: Event) -> tuple[str, str]:
    """Return the finding on a refused heartbeat, given the accepted ones of the same life."""
    earlier = [each for past in life.lives[: life.number] for each in past.events if each.kind in ("acked", "beat")]
    held = [each for each in earlier if may_be_same_caller(each, event)]
    known = [each for each in earlier if each.heartbeat is not None and each.heartbeat == event.expected]
    holder = accepted[-1] if accepted else life.acked if event.before != "queued" else None
    same = next((each for each in accepted if each.expected == event.expected and each.expected is not None), None)
    if event.earlier_life or known or (held and not (holder is not None and may_be_same_caller(holder, event))):
        last = known or held
        since = f" {between(last[-1], event)} after its last accepted step" if last else ""
        taken = accepted[0] if accepted else life.acked
        now = "it was queued again"
        if holder is not None and taken is not None:
            now = f"{who(holder)} had held it for {between(taken, event)}"
        text = (
            f"{_capital(who(event))} had lost the lease when it sent a heartbeat{since}: refused with 412, "
            f"because {now}."
        )
        return "lease_lost", text
    if event.before == "queued":
        return (
            "unacknowledged_heartbeat",
            f"{_capital(who(event))} sent a heartbeat while it was queued: nobody had acknowledged it.",
        )
    if same is not None and (len(life.hand_outs) > 1 or not may_be_same_caller(same, event)):
        text = (
            f"Two workers claimed it: the heartbeat of {who(event)} came {between(same, event)} after that of "
            f"{who(same)}, expected the same value, and was refused with 412."
        )
        return "rival_heartbeat", text
    expected, actual = heartbeat_in_words(event.expected, event), heartbeat_in_words(event.actual, event)
    if same is not None:
        text = (
            f"{_capital(who(event))} repeated its heartbeat {between(same, event)} after that was accepted, "
            f"expecting {expected} again: the response did not arrive, and the repeat was refused with 412 "
            f"(the stored value was {actual})."
        )
        return "repeated_heartbeat", text
    text = (
        f"A heartbeat of {who(event)} was refused with 412: it expected {expected}, but the stored value was {actual}."
    )
    return "stale_heartbeat", text


def _stops(life: _Life) -> Iterator[Finding]:
    for event in life.events:
        if event.kind != "stop_asked":
            continue
        if event.cause is not None:
            yield Finding("session_ended", f"Stopped in state {event.before}, because its session ended.", event.at)
        elif event.before == event.after == "queued":
            text = f"A late stop of {who(event)} was ignored: the item had been queued again, and nobody held it."
            yield Finding("late_stop_ignored", text, event.at)
        elif event.before == "queued":
            given = (
                f"handed out {len(life.hand_outs)} times but not acknowledged" if life.hand_outs else "never handed out"
            )
            yield Finding("stopped_in_queue", f"Stopped in the queue by {who(event)}, {given}.", event.at)
        elif event.before != event.after == "stopped" and _poller_stop(life) is None:
            yield _ended(life, event)


def _ended(life: _Life, event: Event) -> Finding:
    """Report the forced stop that ended a life under lease."""
    holders = [*life.beats, *life.hand_outs, *([life.acked] if life.acked else [])]
    own = any(may_be_same_caller(each, event) for each in holders)
    asked = life.stop
    if not own:
        holder = life.holder
        of = "" if holder is None else f", while {who(holder)} held it"
        text = f"Stopped by force by {who(event)}{_client(event)}{of}: its worker learns of it from its next heartbeat."
        return Finding("forced_by_other", text, event.at)
    if asked is not None and asked is not event:
        text = (
            f"{_capital(who(asked))} requested a stop{_client(asked)}, and {who(event)} stopped it "
            f"{between(asked, event)} later."
        )
        return Finding("stop_honoured", text, event.at)
    beats = f"{len(life.beats)} heartbeat{'' if len(life.beats) == 1 else 's'}"
    since = f", {between(life.acked, event)} after it was acknowledged" if life.acked else ""
    return Finding("served", f"Served and stopped by {who(event)}{since}, with {beats}.", event.at)


def _client(event: Event) -> str:
    return f" ({event.user_agent})" if event.user_agent else ""


def _messages(life: _Life) -> Iterator[Finding]:
    if life.entered is not None and life.entered.by_message:
        text = "A message to its session put it back into the queue: it had been stopped."
        yield Finding("message_requeued", text, life.entered.at)


_RULES: tuple[Callable[[_Life], Iterable[Finding]], ...] = (
    _messages,
    _hand_outs,
    _refused_acks,
    _dispatcher,
    _lapses,
    _refused_beats,
    _stops,
)


# -- rules on the whole ---------------------------------------------------------------------------------------


def _faults(events: Sequence[Event]) -> Iterator[Finding]:
    applied: dict[str, list[int]] = {}
    for number, event in enumerate(events):
        if event.kind == "fault":
            applied.setdefault(event.rule or "", []).append(number)
    for rule, numbers in applied.items():
        event = events[numbers[0]]
        next_event = next((each for each in events[numbers[0] + 1 :] if each.kind != "fault"), None)
        then = f"; next, {between(event, next_event)} later: {_named(next_event)}" if next_event is not None else ""
        times = f", {len(numbers)} times" if len(numbers) > 1 else ""
        what = f" ({event.do})" if event.do else ""
        text = f"The fault rule {rule}{what} was applied to {event.operation or 'a call'} of {who(event)}{times}{then}."
        yield Finding("fault_injected", text, event.at)


def _named(event: Event) -> str:
    return f"{event.kind} {event.before} → {event.after}" if event.after else event.kind


def _bounces(lives: Sequence[_Life]) -> Iterator[Finding]:
    lapses = [
        life.end for life in lives if life.end is not None and life.end.kind == "lapsed" and life.end.after == "queued"
    ]
    if len(lapses) >= _BOUNCES:
        text = (
            f"Queued again {len(lapses)} times within {between(lapses[0], lapses[-1])}, each time because its "
            "lease ended."
        )
        yield Finding("bounced", text, lapses[-1].at)


def _present(life: _Life, present: Present) -> Iterator[Finding]:
    now = present.now
    if present.state == "queued":
        yield from _in_queue(life, present)
    elif present.state in ("starting", "active"):
        holder = life.holder
        if holder is not None:
            left = "" if present.lease_ends is None else f"; its lease ends in {duration(present.lease_ends - now)}"
            since = duration(now - holder.at)
            step = "acknowledged it" if holder is life.acked else "sent its last heartbeat"
            yield Finding("running", f"{_capital(who(holder))} {step} {since} ago and holds it{left}.", now)
    elif present.state == "stopping" and life.stop is not None:
        left = (
            ""
            if present.lease_ends is None
            else f", or it is stopped in {duration(present.lease_ends - now)}, when its lease ends"
        )
        text = (
            f"{_capital(who(life.stop))} requested a stop {duration(now - life.stop.at)} ago; its worker must "
            f"stop it{left}."
        )
        yield Finding("winding_down", text, now)


def _in_queue(life: _Life, present: Present) -> Iterator[Finding]:
    if len(life.hand_outs) == 1:
        given = life.hand_outs[0]
        text = f"Handed out to {who(given)} {duration(present.now - given.at)} ago and not yet acknowledged."
        yield Finding("handed_out", text, present.now)
    elif not life.hand_outs:
        polling = present.workers_polling
        since = f" for {duration(present.now - life.entered.at)}" if life.entered else ""
        still = " The clock stands still." if present.stands_still else ""
        if present.poll_faults:
            rules = " and ".join(f"{name} ({count}×)" for name, count in present.poll_faults)
            text = (
                f"Queued{since} and never handed out: the fault rule {rules} was applied to polls of its "
                f"environment.{still}"
            )
            yield Finding("polls_faulted", text, present.now)
        if polling:
            workers = f"{polling} worker{'' if polling == 1 else 's'} polled in the last 30 s"
            yield Finding("waiting", f"Queued{since}, not handed out yet; {workers}.{still}", present.now)
        elif not present.poll_faults:
            text = f"Queued{since} and never handed out: no named worker polled in the last 30 s.{still}"
            yield Finding("nobody_polls", text, present.now)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
