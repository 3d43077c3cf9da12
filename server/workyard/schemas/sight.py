"""Wire shapes of life lines. Source: issue D, 3; the events are told of in `workyard_queue/timeline.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from workyard_queue.diagnosis import CODES, Finding
from workyard_queue.states import NO_HEARTBEAT
from workyard_queue.timeline import KINDS, Event, Timeline
from workyard_store.clock import format_instant

from .common import ENVIRONMENT_ID, REQUEST_ID, SESSION_ID, TIMESTAMP, WORK_ID, Shape, Timestamp, optional_instant
from .work import StateName

Kind = Literal[
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
    "stopped",
    "revived",
    "metadata",
    "fault",
]
assert get_args(Kind) == KINDS
_WorkId = Annotated[str, Field(pattern=WORK_ID)]
_EnvironmentId = Annotated[str, Field(pattern=ENVIRONMENT_ID)]
_Seconds = Annotated[float, Field(ge=0)]


class LifeEvent(Shape):
    """One event in the life of a work item."""

    id: str = Field(description="Identifies the event; grows within an environment.", pattern=r"^\d+-\d+$")
    environment_id: _EnvironmentId = Field(description="The item's environment.")
    work_id: _WorkId = Field(description="The work item.")
    event: Kind = Field(description="What happened: docs/sight.md tells of each.")
    at: Timestamp = Field(description="When, on the workspace's clock.")
    wall: Timestamp = Field(description="When it was noted, on the server's clock.")
    before: StateName | None = Field(
        serialization_alias="from", description="The state before, if the event tells.", alias="from"
    )
    after: StateName | None = Field(
        serialization_alias="to", description="The state after, if the event tells.", alias="to"
    )
    operation: str | None = Field(description="The call that caused it, such as `ack`; null for what the clock does.")
    worker_id: str | None = Field(
        description="Who called: `Anthropic-Worker-ID`, or the worker whose token or last poll this is; null if unknown."
    )
    request_id: Annotated[str, Field(pattern=REQUEST_ID)] | None = Field(description="The `request-id` of the call.")
    user_agent: str | None = Field(description="`User-Agent` of the call.")
    helper: str | None = Field(description="`x-stainless-helper` of the call: the part of an SDK that made it.")
    credential: str | None = Field(
        description="What the call came with: its kind and the first 8 hex digits of its SHA-256, or `none`."
    )
    token: str | None = Field(description="The first 8 hex digits of the SHA-256 of the sessions token handed out.")
    age_seconds: _Seconds | None = Field(description="How long ago the hand-out was that is taken over from.")
    lease_seconds: _Seconds | None = Field(description="How long the lease runs from then on.")
    expected: Annotated[str, Field(pattern=f"{TIMESTAMP}|^{NO_HEARTBEAT}$|^OTHER$")] | None = Field(
        description="The heartbeat that the caller expected; null if it left that out, `OTHER` if it is no heartbeat."
    )
    actual: Timestamp | None = Field(description="The heartbeat that was stored before.")
    heartbeat: Timestamp | None = Field(description="The heartbeat that is stored now.")
    earlier_life: bool | None = Field(description="Whether the caller's token died when the item was re-queued.")
    by_message: bool | None = Field(description="Whether a message brought the item back into the queue.")
    force: bool | None = Field(description="Whether the stop is by force; null if nobody asked.")
    cause: str | None = Field(description="Why it was stopped though nobody asked: `session`.")
    keys: Annotated[int, Field(ge=0)] | None = Field(description="How many keys of the metadata were named.")
    rule: str | None = Field(description="The fault rule.")
    do: str | None = Field(description="What the fault rule does.")


class Diagnosis(Shape):
    """One sentence on the life of a work item."""

    code: Literal[tuple(CODES)] = Field(description="Which of the sentences of docs/sight.md it is.")  # type: ignore[valid-type]
    severity: Literal["problem", "note"] = Field(description="Whether something went otherwise than a worker wants it.")
    text: str = Field(description="The sentence.")
    at: Timestamp = Field(description="The instant that it is about.")


class WorkTimeline(Shape):
    """The life of a work item so far."""

    work_id: _WorkId = Field(description="The work item.")
    environment_id: _EnvironmentId = Field(description="Its environment.")
    session_id: str = Field(description="The session it serves.", pattern=SESSION_ID)
    state: StateName = Field(description="Its state.")
    now: Timestamp = Field(description="The workspace's instant.")
    complete: bool = Field(description="Whether the first event of its life is still kept, so that none is missing.")
    events: list[LifeEvent] = Field(description="What happened, in order.")
    diagnosis: list[Diagnosis] = Field(description="What that means, in the order of the instants.")


def render_event(event: Event) -> dict[str, Any]:
    """Render an event."""
    expected = format_instant(event.expected) if isinstance(event.expected, int) else event.expected
    return {
        "id": event.entry,
        "environment_id": event.environment_id,
        "work_id": event.work_id,
        "event": event.kind,
        "at": format_instant(event.at),
        "wall": format_instant(event.wall),
        "from": event.before,
        "to": event.after,
        "operation": event.operation,
        "worker_id": event.worker_id,
        "request_id": event.request_id,
        "user_agent": event.user_agent,
        "helper": event.helper,
        "credential": event.credential,
        "token": event.token,
        "age_seconds": _seconds(event.age_us),
        "lease_seconds": _seconds(event.lease_us),
        "expected": expected,
        "actual": optional_instant(event.actual),
        "heartbeat": optional_instant(event.heartbeat),
        "earlier_life": event.earlier_life,
        "by_message": event.by_message,
        "force": event.force,
        "cause": event.cause,
        "keys": event.keys,
        "rule": event.rule,
        "do": event.do,
    }


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / 1_000_000


def _render_finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "text": finding.text,
        "at": format_instant(finding.at),
    }


def render_timeline(timeline: Timeline) -> dict[str, Any]:
    """Render a life line."""
    return {
        "work_id": timeline.work_id,
        "environment_id": timeline.environment_id,
        "session_id": timeline.session_id,
        "state": timeline.state,
        "now": format_instant(timeline.now),
        "complete": timeline.complete,
        "events": [render_event(event) for event in timeline.events],
        "diagnosis": [_render_finding(finding) for finding in timeline.findings],
    }
