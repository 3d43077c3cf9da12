"""The events of timelines, as the scripts write them and as they are read.

A script writes an event (`note` in `_environment.lua`) in the step that causes it, to a ring that the items of an
environment share. The ring is a stream; its entries have one field `e`, with one line for each value of the event
(`_FIRST`). That costs the embedded engine two thirds of what one field per value costs.

| event         | is written when                                                                    | details                 |
|---------------|------------------------------------------------------------------------------------|-------------------------|
| `enqueued`    | the item entered the queue: new, or brought back by a message to its session        | by_message              |
| `offered`     | a poll got it                                                                       | token                   |
| `reclaimed`   | a poll took it over from an earlier one that had not acknowledged it                | token, age              |
| `acked`       | it was acknowledged                                                                 | lease                   |
| `ack_refused` | an acknowledgement was refused with 409: it was not queued                          |                         |
| `beat`        | a heartbeat was accepted                                                            | expected, actual, heartbeat, lease |
| `beat_refused`| a heartbeat was refused with 412                                                    | expected, actual, earlier_life |
| `beat_ended`  | a heartbeat was answered with `stopping` or `stopped`                               | expected, actual        |
| `lapsed`      | the lease ended: back into the queue, or stopped if a stop had been asked for        |                         |
| `stop_asked`  | a stop was asked for, whatever it changed                                           | force, or cause         |
| `metadata`    | its metadata was changed                                                            | keys                    |
| `fault`       | a fault rule was applied to a call on it                                            | rule, do                |

Details: `token`: first 8 hex digits of the SHA-256 of the sessions token that was handed out; `age`: how long ago the hand-out
was that it is taken over from; `lease`: how long the lease runs from then on; `expected`: the heartbeat that the caller
expected (`NO_HEARTBEAT`, an instant, None if it left that out, `OTHER` for a text that no heartbeat renders as); `actual`: the one
that was stored before; `heartbeat`: the one that is stored now; `earlier_life`: the caller's sessions token died when the item
was re-queued; `cause`: `session` for the end of its session; `keys`: how many were named; `rule`, `do`: the name of the fault rule
and what it does.

Whose events: a call's `worker_id` is its header `Anthropic-Worker-ID` if it has one; else that of the poll whose sessions token it
comes with; else that of the poll with the same credential and client (`User-Agent`) that took the item in this life, or else
in the last one in which there was any, if these were of one worker only. None where that tells nothing. What the clock does (`lapsed`) has no caller.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from ..work.states import NO_HEARTBEAT

#: Kinds of events, in the order of an uneventful life.
KINDS = (
    "enqueued",
    "offered",
    "reclaimed",
    "acked",
    "ack_refused",
    "beat",
    "beat_refused",
    "beat_ended",
    "lapsed",
    "stop_asked",
    "metadata",
    "fault",
)
_TOKEN = "sessions token "


@dataclass(frozen=True, slots=True)
class Event:
    """One event; the table above describes each kind. `at` is the workspace's instant, `wall` the wall clock's, microseconds.

    Attributes:
        entry: its place in the environment's ring.
        before, after: the item's state, None where the event does not say.
        operation, request_id, credential: of the call that caused it, None for what the clock does.
        worker_id, user_agent, helper: who called, None where unknown.
        age_us, lease_us: microseconds.
    """

    entry: str
    environment_id: str
    work_id: str
    kind: str
    at: int
    wall: int
    before: str | None = None
    after: str | None = None
    operation: str | None = None
    request_id: str | None = None
    worker_id: str | None = None
    user_agent: str | None = None
    helper: str | None = None
    credential: str | None = None
    token: str | None = None
    age_us: int | None = None
    lease_us: int | None = None
    expected: int | str | None = None
    actual: int | None = None
    heartbeat: int | None = None
    earlier_life: bool | None = None
    by_message: bool | None = None
    force: bool | None = None
    cause: str | None = None
    keys: int | None = None
    rule: str | None = None
    do: str | None = None

    @property
    def holder_token(self) -> str | None:
        """Return the digits of the sessions token that the call came with."""
        named = self.credential or ""
        return named.removeprefix(_TOKEN) if named.startswith(_TOKEN) else None


def fields_of(event: str) -> dict[str, str]:
    """Read an event as the scripts write it: return its values by their names."""
    values = event.split("\n")
    details = values[len(_FIRST) :]
    first = {name: value for name, value in zip(_FIRST, values, strict=False) if value or name not in _STATES}
    return first | dict(zip(details[::2], details[1::2], strict=True))


def as_event(fields: Mapping[str, str]) -> str:
    """Write an event as the scripts do; *fields*: what `fields_of` returns of it."""
    details = ((name, value) for name, value in fields.items() if name not in _FIRST)
    return "\n".join([*(fields.get(name, "") for name in _FIRST), *chain.from_iterable(details)])


def event_of(environment_id: str, entry: str, event: str) -> Event:
    """Return an event of a timeline; *entry*: its place in the ring, *event*: as the scripts write it."""
    fields = fields_of(event)
    kind = fields["k"]
    # Whichever call noticed that a lease had ended has not caused it.
    by = json.loads(fields["b"]) if fields["b"] and kind != "lapsed" else {}
    number = {name: int(value) for name, value in fields.items() if name in _NUMBERS and _is_number(value)}
    force = fields.get("force")
    lease = number.get("l")
    if lease is not None and kind == "beat":
        lease *= 1_000_000
    return Event(
        entry=entry,
        environment_id=environment_id,
        work_id=fields["w"],
        kind=kind,
        at=int(fields["t"]),
        wall=int(fields["u"]),
        before=fields.get("f") or None,
        after=fields.get("n") or None,
        operation=by.get("o") or None,
        request_id=by.get("r") or None,
        worker_id=by.get("w") or None,
        user_agent=by.get("a") or None,
        helper=by.get("h") or None,
        credential=by.get("c") or None,
        token=fields.get("d") or None,
        age_us=number.get("a"),
        lease_us=lease,
        expected=_expected(fields["x"]) if "x" in fields else None,
        actual=number.get("s"),
        heartbeat=number.get("h"),
        earlier_life=fields.get("dead") == "1" if kind == "beat_refused" else None,
        by_message=fields.get("m") == "1" if kind == "enqueued" else None,
        force=force == "1" if force in ("0", "1") else None,
        cause=fields.get("c") or (force if force not in (None, "0", "1") else None),
        keys=number.get("keys"),
        rule=fields.get("rule"),
        do=fields.get("do"),
    )


#: The first values of each event, in this order: its kind, the work id, when it took effect, the wall clock, who called
#: (`ApiCall.by`), the item's states before and after. After them come pairs of a name and a value. A line each.
_FIRST = ("k", "w", "t", "u", "b", "f", "n")
_STATES = ("f", "n")
_NUMBERS = ("a", "l", "s", "h", "keys")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _expected(told: str) -> int | str | None:
    if told == "ANY":
        return None
    if told == "NONE":
        return NO_HEARTBEAT
    return int(told) if _is_number(told) else told


def attributed(events: Iterable[Event]) -> list[Event]:
    """Return the events of one item, oldest first, each with the worker that caused it, as far as that is known."""
    by_token: dict[str, str] = {}
    by_client: dict[tuple[str | None, str | None], set[str]] = {}
    before: dict[tuple[str | None, str | None], set[str]] = {}
    told: list[Event] = []
    for event in events:
        if event.kind == "enqueued" or (event.kind == "lapsed" and event.after == "queued"):
            before, by_client = before | by_client, {}
        client = (event.credential, event.user_agent)
        if event.kind in ("offered", "reclaimed"):
            if event.worker_id is not None:
                by_client.setdefault(client, set()).add(event.worker_id)
                if event.token is not None:
                    by_token[event.token] = event.worker_id
        elif event.worker_id is None and event.credential is not None:
            known = by_client.get(client) or before.get(client, set())
            worker = by_token.get(event.holder_token or "") or (next(iter(known)) if len(known) == 1 else None)
            event = replace(event, worker_id=worker)
        told.append(event)
    return told


def is_first(event: Event) -> bool:
    """Return whether an event is the first of its item."""
    return event.kind == "enqueued" and event.before is None
