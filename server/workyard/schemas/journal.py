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
        raise PydanticCustomError("operation", "Not an operation, a group of them, or any; docs/journal.md lists them")
    return value


Operation = Annotated[str, AfterValidator(_operation), WithJsonSchema({"type": "string", "enum": sorted(WORDS)})]
StatusText = Annotated[str, Field(pattern=_STATUS)]
Named = Annotated[str, Field(min_length=1, max_length=256)]


class JournalError(Shape):
    """What an answer that is an error says."""

    type: str = Field(description="`error.type`.")
    message: str = Field(description="`error.message`, its first 500 characters.")


class JournalEntry(Shape):
    """One request to the API and its answer; secrets are masked by `***`."""

    number: int = Field(ge=1, description="Its number in the workspace's journal.")
    at: Timestamp = Field(description="When it came, wall time.")
    on: str = Field(description="The operation, such as `poll` or `environments.create`; `unknown` without a route.")
    method: str = Field(description="HTTP method.")
    path: str = Field(description="Path, decoded; 512 characters at most.")
    query: str = Field(description="Query without `?`; 1024 characters at most.")
    status: int | None = Field(description="Status of the answer; null if there was none.")
    duration_ms: float = Field(ge=0, description="From the request's head to the end of the answer.")
    cut: bool = Field(description="Whether the answer did not come to its end, or the client was gone before.")
    request_id: str = Field(description="Equal to the response header `request-id`.", pattern=REQUEST_ID)
    environment_id: str | None = Field(description="The environment that it is about, if one is known.")
    work_id: str | None = Field(description="The item in the path, or the one that a poll was given.")
    session_id: str | None = Field(description="The session in the path, or of the item that a poll was given.")
    worker_id: str | None = Field(description="Header `Anthropic-Worker-ID`.")
    user_agent: str | None = Field(description="Header `User-Agent`, its first 256 characters.")
    helper: str | None = Field(description="Header `x-stainless-helper`: which of the SDKs' helpers calls.")
    credential: str = Field(description="Kind of credential and the first digits of its SHA-256; `none`.")
    retry_count: int | None = Field(description="Header `x-stainless-retry-count`: how often the SDK had tried before.")
    faults: list[str] = Field(description="Names of the fault rules that were applied.")
    error: JournalError | None = Field(description="What the answer says, if it is an error.")
    rule: str | None = Field(description="The rule that such an answer is about: `workyard explain` tells more.")
    request_bytes: int = Field(ge=0, description="Length of the request's body, as far as it was read.")
    response_bytes: int = Field(ge=0, description="Length of the answer's body.")


class JournalEntryWithBodies(JournalEntry):
    """The same with the bodies, if `bodies=true`."""

    request_body: str = Field(description="First bytes of the request's body (setting `journal_body_bytes`).")
    response_body: str = Field(description="First bytes of the answer's body, if that is text.")


class JournalPage(Shape):
    """Requests, in the order they came."""

    data: list[JournalEntryWithBodies | JournalEntry] = Field(description="The requests, newest last.")
    dropped: int = Field(ge=0, description="How many the journal has lost to newer ones since the reset or clearing.")
    first: int = Field(ge=1, description="Number of the oldest that is kept; `last` + 1 if none is.")
    last: int = Field(ge=0, description="Number of the newest; `after` it come those that follow.")
    complete: bool = Field(
        description="Whether every request that was answered before is written. False if a server process did not answer in "
        "time, Redis was away meanwhile, or the journal is off."
    )


class WorkspaceJournalPage(JournalPage):
    """One workspace's requests among all."""

    workspace: WorkspaceId = Field(description="Public id of the workspace.")


class JournalPages(Shape):
    """The requests of all workspaces."""

    data: list[WorkspaceJournalPage] = Field(description="One row a workspace.")


class JournalCount(Shape):
    """How many requests there are."""

    count: int = Field(ge=0, description="Requests that the journal keeps and the filters mean.")
    dropped: int = Field(ge=0, description="How many the journal has lost to newer ones since the reset or clearing.")
    complete: bool = Field(description="Whether every request that was answered before is written.")


class WorkspaceJournalCount(JournalCount):
    """One workspace's count among all."""

    workspace: WorkspaceId = Field(description="Public id of the workspace.")


class JournalCounts(Shape):
    """The counts of all workspaces."""

    data: list[WorkspaceJournalCount] = Field(description="One row a workspace.")


class JournalCleared(Shape):
    """What was removed."""

    removed: int = Field(ge=0, description="Requests that went.")


class WorkspaceJournalCleared(JournalCleared):
    """What was removed of one workspace among all."""

    workspace: WorkspaceId = Field(description="Public id of the workspace.")


class JournalsCleared(Shape):
    """What was removed of all workspaces."""

    data: list[WorkspaceJournalCleared] = Field(description="One row a workspace.")


def _no(*names: str) -> JsonDict:
    return dict.fromkeys(names, _NULL)


class Expect(Body):
    """Requests that there must have been, or must not: all filters have to agree. Without a number: at least one."""

    on: Operation | None = Field(None, description="The operation, a group such as `sessions`, or `any`.")
    status: StatusText | Annotated[int, Field(ge=100, le=599)] | None = Field(
        None, description="Status of the answer: `409`, or `4xx` for a class."
    )
    environment_id: Named | None = Field(None, description="The environment.")
    work_id: Named | None = Field(None, description="The work item.")
    session_id: Named | None = Field(None, description="The session; calls about its work item count too.")
    worker_id: Named | None = Field(None, description="Header `Anthropic-Worker-ID`.")
    request_id: Named | None = Field(None, description="The request's id.")
    at_least: Annotated[int, Field(ge=1, le=_MOST_COUNTED)] | None = Field(None, description="At least so many.")
    at_most: Annotated[int, Field(ge=0, le=_MOST_COUNTED)] | None = Field(None, description="At most so many.")
    exactly: Annotated[int, Field(ge=0, le=_MOST_COUNTED)] | None = Field(None, description="So many, alone.")
    never: OnlyTrue | None = Field(None, description="None, alone.")
    within_seconds: Annotated[float, Field(gt=0, le=_LONGEST_SPAN_S, allow_inf_nan=False)] | None = Field(
        None, description="Count those only that came within one span of wall time so long, where it holds the most."
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
            raise PydanticCustomError("number", "Give exactly, or never, or at_least and at_most")
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
    """Request to check what requests there were."""

    expect: list[Expect] = Field(min_length=1, max_length=_MOST_EXPECTED, description="What must hold, all of it.")
    in_order: bool = Field(
        False,
        description="Each expectation that wants requests must find one that came behind the one found for the one before.",
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
    """The request that came nearest to what was expected: the newest that differs in the fewest respects."""

    entry: JournalEntry = Field(description="The request.")
    differs: list[str] = Field(description="In what it differs.")


class ExpectationFailure(Shape):
    """An expectation that is not met, or of which nobody can tell."""

    index: int = Field(ge=0, description="Its place in `expect`.")
    expected: dict[str, Any] = Field(description="The expectation, as given.")
    found: int = Field(ge=0, description="How many requests there were.")
    result: Literal["failed", "unknown"] = Field(
        description="unknown: the journal has lost requests that might have changed the answer."
    )
    reason: str = Field(description="What is wrong, for people.")
    matches: list[int] = Field(description="Numbers of the last 10 requests that it means.")
    nearest: Nearest | None = Field(description="What came nearest, where too few were found.")


class Verified(Shape):
    """What became of the expectations."""

    ok: bool = Field(description="Whether all are met for certain.")
    failures: list[ExpectationFailure] = Field(description="Those that are not.")
    dropped: int = Field(ge=0, description="How many the journal has lost to newer ones since the reset or clearing.")
    complete: bool = Field(description="Whether every request that was answered before is written.")


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
