"""Wire shapes of timelines. Rules: `timeline.*`; `workyard_queue/timeline/events.py` describes the events."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from workyard_queue.timeline.codes import CODES
from workyard_queue.timeline.diagnosis import Finding
from workyard_queue.timeline.events import KINDS, Event
from workyard_queue.timeline.timeline import Timeline
from workyard_queue.timeline.watch import Row, Seen
from workyard_queue.work.states import NO_HEARTBEAT
from workyard_store.clock import format_instant

from ..wire.values import OnlyTrue
from .common import (
    ENVIRONMENT_ID,
    REQUEST_ID,
    SESSION_ID,
    TIMESTAMP,
    WORK_ID,
    Body,
    Shape,
    Timestamp,
    optional_instant,
)
from .work import StateName

_WorkId = Annotated[str, Field(pattern=WORK_ID)]
_EnvironmentId = Annotated[str, Field(pattern=ENVIRONMENT_ID)]
_NULL: JsonDict = {"type": "null"}
_TEXT: JsonDict = {"type": "string"}
#: The longest wait, seconds.
MOST_SECONDS = 60.0
_Seconds = Annotated[float, Field(ge=0)]


class TimelineEvent(Shape):
    """One event of a work item."""

    id: str = Field(description="Identifies the event; increases within an environment.", pattern=r"^\d+-\d+$")
    environment_id: _EnvironmentId = Field(description="The item's environment.")
    work_id: _WorkId = Field(description="The work item.")
    event: Literal[KINDS] = Field(description="The kind of event; docs/timeline.md describes each.")  # type: ignore[valid-type]
    at: Timestamp = Field(description="When it happened, on the workspace's clock.")
    wall: Timestamp = Field(description="When it was recorded, on the server's clock.")
    before: StateName | None = Field(
        serialization_alias="from", description="The state before the event, if known.", alias="from"
    )
    after: StateName | None = Field(
        serialization_alias="to", description="The state after the event, if known.", alias="to"
    )
    operation: str | None = Field(description="The call that caused it, such as `ack`; null if the clock did.")
    worker_id: str | None = Field(
        description="The caller: `Anthropic-Worker-ID`, or the worker that the token or the last poll belongs to; "
        "null if unknown."
    )
    request_id: Annotated[str, Field(pattern=REQUEST_ID)] | None = Field(description="The `request-id` of the call.")
    user_agent: str | None = Field(description="`User-Agent` of the call.")
    helper: str | None = Field(description="`x-stainless-helper` of the call: the SDK helper that made it.")
    credential: str | None = Field(
        description="The kind of the call's credential and the first 8 hex digits of its SHA-256, or `none`."
    )
    token: str | None = Field(description="The first 8 hex digits of the SHA-256 of the sessions token handed out.")
    age_seconds: _Seconds | None = Field(description="Age of the hand-out that was reclaimed.")
    lease_seconds: _Seconds | None = Field(description="Length of the lease from then on.")
    expected: Annotated[str, Field(pattern=f"{TIMESTAMP}|^{NO_HEARTBEAT}$|^OTHER$")] | None = Field(
        description="The heartbeat that the caller expected; null if omitted, `OTHER` if it is not a heartbeat."
    )
    actual: Timestamp | None = Field(description="The previously stored heartbeat.")
    heartbeat: Timestamp | None = Field(description="The newly stored heartbeat.")
    earlier_life: bool | None = Field(
        description="Whether the caller's token was invalidated when the item was queued again."
    )
    by_message: bool | None = Field(description="Whether a message put the item back into the queue.")
    force: bool | None = Field(description="Whether the stop is forced; null if nobody requested it.")
    cause: str | None = Field(description="Why it was stopped without a request: `session`.")
    keys: Annotated[int, Field(ge=0)] | None = Field(description="Number of metadata keys in the request.")
    rule: str | None = Field(description="The fault rule.")
    do: str | None = Field(description="The effect of the fault rule.")


class Diagnosis(Shape):
    """One sentence of the diagnosis of a work item."""

    code: Literal[tuple(CODES)] = Field(description="The code of the sentence, from the list in docs/timeline.md.")  # type: ignore[valid-type]
    severity: Literal["problem", "note"] = Field(description="Whether it is a problem or only a note.")
    text: str = Field(description="The sentence.")
    at: Timestamp = Field(description="The instant that it refers to.")


class WorkTimeline(Shape):
    """The timeline of a work item so far."""

    work_id: _WorkId = Field(description="The work item.")
    environment_id: _EnvironmentId = Field(description="Its environment.")
    session_id: str = Field(description="The session it serves.", pattern=SESSION_ID)
    state: StateName = Field(description="Its state.")
    now: Timestamp = Field(description="The workspace's current instant.")
    complete: bool = Field(
        description="Whether the timeline still has the item's first event, so that none is missing."
    )
    events: list[TimelineEvent] = Field(description="The events, in order.")
    diagnosis: list[Diagnosis] = Field(description="The diagnosis, ordered by instant.")


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
    """Render a timeline."""
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


class WantedFigures(Body):
    """Queue figures to wait for; those that are given must match exactly."""

    depth: Annotated[int, Field(ge=0)] | None = Field(None, description="Queued items that were not handed out.")
    pending: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Items that were polled and not acknowledged."
    )
    leased: Annotated[int, Field(ge=0)] | None = Field(None, description="Items under lease.")
    workers_polling: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Named workers that polled in the last 30 seconds."
    )
    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"type": "integer"}}}
                for name in ("depth", "pending", "leased", "workers_polling")
            ]
        }
    )

    @model_validator(mode="after")
    def _something(self) -> WantedFigures:
        if not self.model_dump(exclude_none=True):
            raise PydanticCustomError("stats", "Give at least one of depth, pending, leased, workers_polling")
        return self


class WaitUntil(Body):
    """The condition to wait for: exactly one of `state` with `work_id`, `stats`, and `idle`."""

    work_id: str | None = Field(None, description="With `state`: the work item.")
    state: StateName | None = Field(
        None,
        description="The state to wait for; also satisfied if the item has entered and left it since the wait began.",
    )
    stats: WantedFigures | None = Field(None, description="Figures to wait for, summed over the environments.")
    idle: OnlyTrue | None = Field(None, description="Wait until nothing is queued, handed out or under lease.")
    environment_id: str | None = Field(None, description="Consider this environment only.")
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["work_id", "state"],
                    "properties": {"work_id": _TEXT, "state": _TEXT, "stats": _NULL, "idle": _NULL},
                },
                {
                    "required": ["stats"],
                    "properties": {"stats": {"type": "object"}, "work_id": _NULL, "state": _NULL, "idle": _NULL},
                },
                {
                    "required": ["idle"],
                    "properties": {"idle": {"const": True}, "work_id": _NULL, "state": _NULL, "stats": _NULL},
                },
            ]
        }
    )

    @model_validator(mode="after")
    def _one(self) -> WaitUntil:
        if (self.work_id is None) != (self.state is None):
            raise PydanticCustomError("until", "work_id and state must be given together")
        if [self.work_id, self.stats, self.idle].count(None) != 2:
            raise PydanticCustomError("until", "Give exactly one of work_id with state, stats, and idle")
        return self


class Wait(Body):
    """Request to respond when a condition is met."""

    until: WaitUntil = Field(description="The condition to wait for.")
    timeout_seconds: Annotated[float, Field(ge=0, le=MOST_SECONDS, allow_inf_nan=False)] = Field(
        5.0, description="How long to wait at most, in seconds of wall time."
    )
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"until": {"idle": True}},
                {"until": {"work_id": "work_011CZkZ9X2dpNyB7HsEFoRfW", "state": "active"}, "timeout_seconds": 10},
                {"until": {"stats": {"depth": 0, "pending": 0}}},
            ]
        }
    )


class WaitSeen(Shape):
    """The current figures, summed over the environments considered."""

    state: StateName | None = Field(description="The item's state; null if the wait was not for a state.")
    environments: int = Field(ge=0, description="Number of environments considered.")
    depth: int = Field(ge=0, description="Queued items that were not handed out.")
    pending: int = Field(ge=0, description="Items that were polled and not acknowledged.")
    leased: int = Field(ge=0, description="Items under lease.")
    workers_polling: int = Field(ge=0, description="Named workers that polled in the last 30 seconds.")


class Waited(Shape):
    """The condition is met."""

    met: Literal[True] = Field(description="Always true; anything else is an error.")
    waited_ms: int = Field(ge=0, description="How long the wait took, in milliseconds of wall time.")
    seen: WaitSeen = Field(description="The current figures.")


class QueueRow(Shape):
    """An environment's queue."""

    environment_id: _EnvironmentId = Field(description="The environment.")
    workspace: str = Field(description="Its workspace.")
    name: str = Field(description="Its name.")
    type: Literal["cloud", "self_hosted"] = Field(description="Only self-hosted ones have work.")
    depth: int = Field(ge=0, description="Queued items that were not handed out.")
    pending: int = Field(ge=0, description="Items that were polled and not acknowledged.")
    leased: int = Field(ge=0, description="Items under lease: starting, active or stopping.")
    stopped: int = Field(ge=0, description="Stopped items.")
    workers_polling: int = Field(ge=0, description="Named workers that polled in the last 30 seconds.")


class Queues(Shape):
    """Overview of the queues."""

    data: list[QueueRow] = Field(description="The newest environments, at most 200.")
    environments: int = Field(ge=0, description="Total number of environments.")
    events: list[TimelineEvent] = Field(description="The latest events of these environments, in order.")


def render_seen(seen: Seen) -> dict[str, Any]:
    """Render what a wait saw."""
    members = asdict(seen)
    del members["met"]
    return members


def render_row(row: Row) -> dict[str, Any]:
    """Render a queue among others."""
    look = row.look
    return {
        "environment_id": row.environment_id,
        "workspace": row.workspace,
        "name": row.name,
        "type": row.kind,
        "depth": look.depth,
        "pending": look.pending,
        "leased": look.leased,
        "stopped": max(look.items - look.depth - look.pending - look.leased, 0),
        "workers_polling": look.workers_polling,
    }
