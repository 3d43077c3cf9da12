"""Wire shapes of the journal: requests, and what there must have been of them. Source: docs/journal.md."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from workyard_store.clock import format_instant

from ..journal.entry import Entry
from ..journal.journal import Reading
from ..journal.verify import WORDS, Expectation, Failure, Filter
from ..wire.values import OnlyTrue
from .common import REQUEST_ID, Body, Shape, Timestamp
from .workspaces import WorkspaceId

DEFAULT_ENTRIES = 100
MOST_ENTRIES = 1000
_MOST_EXPECTED = 50
_MOST_COUNTED = 1_000_000
_LONGEST_SPAN_S = 86_400.0
_NULL: JsonDict = {"type": "null"}
_STATUS = "^([1-5][0-9][0-9]|[1-5]xx)$"


def _operation(value: str) -> str:
    if value not in WORDS:
        raise PydanticCustomError(
            "operation", "Not an operation, a group of operations, or any; docs/journal.md lists them"
        )
    return value


Operation = Annotated[str, AfterValidator(_operation), WithJsonSchema({"type": "string", "enum": sorted(WORDS)})]
StatusText = Annotated[str, Field(pattern=_STATUS)]
Named = Annotated[str, Field(min_length=1, max_length=256)]


class JournalError(Shape):
    """Summary of an error response."""

    type: str = Field(description="`error.type`.")
    message: str = Field(description="`error.message`, its first 500 characters.")


class JournalEntry(Shape):
    """One API request and its response; secrets are masked by `***`."""

    number: int = Field(ge=1, description="Its number in the workspace's journal.")
    at: Timestamp = Field(description="When it arrived, wall time.")
    on: str = Field(
        description="The operation, such as `poll` or `environments.create`; `unknown` if there is no route."
    )
    method: str = Field(description="HTTP method.")
    path: str = Field(description="Decoded path; at most 512 characters.")
    query: str = Field(description="Query without `?`; at most 1024 characters.")
    status: int | None = Field(description="Status of the response; null if there was none.")
    duration_ms: float = Field(ge=0, description="Time from the request's head to the end of the response.")
    cut: bool = Field(description="Whether the response was not completed, or the client disconnected first.")
    request_id: str = Field(description="Equal to the response header `request-id`.", pattern=REQUEST_ID)
    environment_id: str | None = Field(description="The environment that it concerns, if known.")
    work_id: str | None = Field(description="The item in the path, or the item that a poll received.")
    session_id: str | None = Field(
        description="The session in the path, or the session of the item that a poll received."
    )
    worker_id: str | None = Field(description="Header `Anthropic-Worker-ID`.")
    user_agent: str | None = Field(description="Header `User-Agent`, its first 256 characters.")
    helper: str | None = Field(description="Header `x-stainless-helper`: the SDK helper that made the call.")
    credential: str = Field(description="Kind of credential and the first digits of its SHA-256, or `none`.")
    retry_count: int | None = Field(
        description="Header `x-stainless-retry-count`: number of earlier attempts by the SDK."
    )
    faults: list[str] = Field(description="Names of the fault rules that were applied.")
    error: JournalError | None = Field(description="Summary of the error, if the response is one.")
    rule: str | None = Field(description="The rule behind the error; `workyard explain` shows it.")
    request_bytes: int = Field(ge=0, description="Length of the request body, as far as it was read.")
    response_bytes: int = Field(ge=0, description="Length of the response body.")


class JournalEntryWithBodies(JournalEntry):
    """The same with the bodies, if `bodies=true`."""

    request_body: str = Field(description="First bytes of the request body (setting `journal_body_bytes`).")
    response_body: str = Field(description="First bytes of the response body, if it is text.")


class JournalPage(Shape):
    """Requests, in the order in which they arrived."""

    data: list[JournalEntryWithBodies | JournalEntry] = Field(description="The requests, newest last.")
    dropped: int = Field(
        ge=0, description="Number of requests dropped in favour of newer ones since the last reset or clearing."
    )
    first: int = Field(ge=1, description="Number of the oldest stored request; `last` + 1 if there is none.")
    last: int = Field(ge=0, description="Number of the newest request; use it as `after` to read on.")
    complete: bool = Field(
        description="Whether every request answered before this one is in the journal. False if a server process did "
        "not reply in time, Redis was unavailable, or the journal is off."
    )


class WorkspaceJournalPage(JournalPage):
    """The requests of one workspace in a list."""

    workspace: WorkspaceId = Field(description="Public id of the workspace.")


class JournalPages(Shape):
    """The requests of all workspaces."""

    data: list[WorkspaceJournalPage] = Field(description="One row per workspace.")


class JournalCount(Shape):
    """A count of requests."""

    count: int = Field(ge=0, description="Stored requests that match the filters.")
    dropped: int = Field(
        ge=0, description="Number of requests dropped in favour of newer ones since the last reset or clearing."
    )
    complete: bool = Field(description="Whether every request answered before this one is in the journal.")


class WorkspaceJournalCount(JournalCount):
    """The count of one workspace in a list."""

    workspace: WorkspaceId = Field(description="Public id of the workspace.")


class JournalCounts(Shape):
    """The counts of all workspaces."""

    data: list[WorkspaceJournalCount] = Field(description="One row per workspace.")


class JournalCleared(Shape):
    """The result of clearing the journal."""

    removed: int = Field(ge=0, description="Number of requests removed.")


class WorkspaceJournalCleared(JournalCleared):
    """The result for one workspace in a list."""

    workspace: WorkspaceId = Field(description="Public id of the workspace.")


class JournalsCleared(Shape):
    """The result for all workspaces."""

    data: list[WorkspaceJournalCleared] = Field(description="One row per workspace.")


def _no(*names: str) -> JsonDict:
    return dict.fromkeys(names, _NULL)


class Expect(Body):
    """An expectation about requests; all filters must match. Without a number: at least one request."""

    on: Operation | None = Field(None, description="The operation, a group such as `sessions`, or `any`.")
    status: StatusText | Annotated[int, Field(ge=100, le=599)] | None = Field(
        None, description="Status of the response: `409`, or `4xx` for a class."
    )
    environment_id: Named | None = Field(None, description="The environment.")
    work_id: Named | None = Field(None, description="The work item.")
    session_id: Named | None = Field(None, description="The session; calls on its work item match too.")
    worker_id: Named | None = Field(None, description="Header `Anthropic-Worker-ID`.")
    request_id: Named | None = Field(None, description="The request's id.")
    at_least: Annotated[int, Field(ge=1, le=_MOST_COUNTED)] | None = Field(None, description="At least this many.")
    at_most: Annotated[int, Field(ge=0, le=_MOST_COUNTED)] | None = Field(None, description="At most this many.")
    exactly: Annotated[int, Field(ge=0, le=_MOST_COUNTED)] | None = Field(None, description="Exactly this many.")
    never: OnlyTrue | None = Field(None, description="None, alone.")
    within_seconds: Annotated[float, Field(gt=0, le=_LONGEST_SPAN_S, allow_inf_nan=False)] | None = Field(
        None,
        description="Count only requests that arrived within one span of wall time of this length; the span with the "
        "most requests is used.",
    )
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"properties": _no("exactly", "never")},
                {
                    "required": ["exactly"],
                    "properties": {"exactly": {"type": "integer"}, **_no("at_least", "at_most", "never")},
                },
                {
                    "required": ["never"],
                    "properties": {"never": {"const": True}, **_no("at_least", "at_most", "exactly")},
                },
            ]
        }
    )

    @model_validator(mode="after")
    def _one_number(self) -> Expect:
        bounds = self.at_least is not None or self.at_most is not None
        if bounds + (self.exactly is not None) + (self.never is not None) > 1:
            raise PydanticCustomError("number", "Give either exactly, or never, or at_least and at_most")
        return self

    @property
    def meant(self) -> Expectation:
        """Return the expectation."""
        at_least, at_most = self.at_least, self.at_most
        if self.exactly is not None:
            at_least, at_most = self.exactly or None, self.exactly
        elif self.never is not None:
            at_most = 0
        elif at_least is None and at_most is None:
            at_least = 1
        which = Filter(
            on=self.on,
            status=None if self.status is None else str(self.status),
            environment_id=self.environment_id,
            work_id=self.work_id,
            session_id=self.session_id,
            worker_id=self.worker_id,
            request_id=self.request_id,
        )
        span = None if self.within_seconds is None else round(self.within_seconds * 1_000_000)
        return Expectation(which, at_least, at_most, span)


class Verify(Body):
    """Request to check which requests were made."""

    expect: list[Expect] = Field(
        min_length=1, max_length=_MOST_EXPECTED, description="Expectations, all of which must hold."
    )
    in_order: bool = Field(
        False,
        description="Each expectation of requests must find one after the request found for the previous expectation.",
    )
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "expect": [
                        {"on": "heartbeat", "status": 200, "at_least": 2},
                        {"on": "ack", "status": "4xx", "never": True},
                    ]
                }
            ]
        }
    )


class Nearest(Shape):
    """The request that is nearest to the expectation: the newest one that differs in the fewest fields."""

    entry: JournalEntry = Field(description="The request.")
    differs: list[str] = Field(description="The fields in which it differs.")


class ExpectationFailure(Shape):
    """An expectation that is not met, or cannot be decided."""

    index: int = Field(ge=0, description="Its index in `expect`.")
    expected: dict[str, Any] = Field(description="The expectation, as given.")
    found: int = Field(ge=0, description="Number of matching requests.")
    result: Literal["failed", "unknown"] = Field(
        description="failed: not met. unknown: the journal has dropped requests that could have changed the result."
    )
    reason: str = Field(description="Human-readable message.")
    matches: list[int] = Field(description="Numbers of the last 10 matching requests.")
    nearest: Nearest | None = Field(description="The nearest request, if too few were found.")


class Verified(Shape):
    """The result of checking the expectations."""

    ok: bool = Field(description="Whether all expectations are definitely met.")
    failures: list[ExpectationFailure] = Field(description="Expectations that are not met.")
    dropped: int = Field(
        ge=0, description="Number of requests dropped in favour of newer ones since the last reset or clearing."
    )
    complete: bool = Field(description="Whether every request answered before this one is in the journal.")


def render_entry(entry: Entry, *, bodies: bool) -> dict[str, Any]:
    """Render a request."""
    shown: dict[str, Any] = {
        "number": entry.number,
        "at": format_instant(entry.at),
        "on": entry.on,
        "method": entry.method,
        "path": entry.path,
        "query": entry.query,
        "status": entry.status or None,
        "duration_ms": entry.took / 1000,
        "cut": entry.cut,
        "request_id": entry.request_id,
        "environment_id": entry.environment_id or None,
        "work_id": entry.work_id or None,
        "session_id": entry.session_id or None,
        "worker_id": entry.worker_id or None,
        "user_agent": entry.user_agent or None,
        "helper": entry.helper or None,
        "credential": entry.credential,
        "retry_count": entry.retries,
        "faults": entry.faults,
        "error": {"type": entry.error_type, "message": entry.error_message} if entry.error_type else None,
        "rule": entry.rule or None,
        "request_bytes": entry.received,
        "response_bytes": entry.sent,
    }
    if bodies:
        shown |= {"request_body": entry.request_body, "response_body": entry.response_body}
    return shown


def render_page(entries: list[Entry], reading: Reading, *, bodies: bool) -> dict[str, Any]:
    """Render some of the requests that were read."""
    return {
        "data": [render_entry(entry, bodies=bodies) for entry in entries],
        "dropped": reading.extent.dropped,
        "first": reading.extent.first,
        "last": reading.extent.last,
        "complete": reading.complete,
    }


def render_verified(given: Verify, failures: list[Failure], reading: Reading) -> dict[str, Any]:
    """Render what became of the expectations."""
    return {
        "ok": not failures,
        "failures": [
            {
                "index": failure.index,
                "expected": given.expect[failure.index].model_dump(exclude_unset=True),
                "found": failure.found,
                "result": "failed" if failure.known else "unknown",
                "reason": failure.reason,
                "matches": failure.matches,
                "nearest": None
                if failure.nearest is None
                else {"entry": render_entry(failure.nearest, bodies=False), "differs": failure.differs},
            }
            for failure in failures
        ],
        "dropped": reading.extent.dropped,
        "complete": reading.complete,
    }
