"""The kinds of faults: a class each, with its shape in a rule and its action on a call.

`AnyKind` is the union of the classes. `KINDS`, the shape of `do` and its JSON Schema are made of it. A class in the union
that has no `act` is a type error, and so is an `act` with another signature.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Literal, LiteralString, Union, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, create_model, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from starlette.responses import Response

from workyard_queue.clock.timers import Clocks
from workyard_queue.work.states import DEFAULT_TTL_S, NO_HEARTBEAT
from workyard_store.calls import ApiCall
from workyard_store.clock import format_instant
from workyard_store.errors import (
    AckOutOfState,
    EnvironmentNotFound,
    HeartbeatPreconditionFailed,
    InvalidRequest,
    SessionNotFound,
    StorageUnavailable,
    TokenRevoked,
    WorkNotFound,
    WorkyardError,
)
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..wire import errors
from ..wire.bodies import CheckedRequest
from ..wire.operations import TABLE
from ..wire.responses import JsonResponse
from ..wire.values import OnlyTrue
from .answers import Cut, until_disconnected, with_members

#: Longest pause of a rule, milliseconds.
LONGEST_PAUSE_MS = 600_000
LONGEST_LIFE_S = 86_400 * 365
#: The injected `secret`: a blank and a character that no base64 alphabet contains.
MALFORMED_SECRET = "malformed secret!"
#: `error.message` if no domain error has one.
_MESSAGES = {
    403: "Token not authorized for this environment",
    404: "Not found",
    429: "Rate limit exceeded",
    500: "Internal server error",
    529: "Overloaded",
}

When = Literal["before", "after"]
StateWord = Literal["queued", "starting", "active", "stopping", "stopped"]
_ON_ITEMS = tuple(row.name for row in TABLE if row.on_item)
_LISTS = tuple(row.name for row in TABLE if row.is_list)


class Part(BaseModel):
    """JSON types are strict; unknown keys are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_null(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name, each in value.items():
                if each is None:
                    raise problem("{name} cannot be null: leave it out", name=str(name))
        return value


def problem(text: LiteralString, **values: str) -> PydanticCustomError:
    """Return an error of a rule, for a validator to raise."""
    return PydanticCustomError("rule", text, values)


@dataclass(frozen=True, slots=True)
class Hit:
    """A call that a fault is applied to.

    Attributes:
        request: the call, as it came.
        api_call: the record of the call.
        workspace: the workspace of the rule.
        closing: set when the server is going down.
    """

    request: CheckedRequest
    api_call: ApiCall
    workspace: str
    workspaces: WorkspaceStore
    clocks: Clocks
    closing: asyncio.Event

    async def pause(self, ms: int) -> bool:
        """Wait for milliseconds, or until the server goes down; return False if the client disconnects meanwhile."""
        gone = asyncio.create_task(until_disconnected(self.request.receive))
        closing = asyncio.create_task(self.closing.wait())
        try:
            await asyncio.wait((gone, closing), timeout=ms / 1000, return_when=asyncio.FIRST_COMPLETED)
            return not gone.done()
        finally:
            for each in (gone, closing):
                each.cancel()
            await asyncio.gather(gone, closing, return_exceptions=True)


class _Kind(Part):
    """What all kinds have; each has `act`, too.

    `act(hit, response)` carries out the fault and returns what the client gets, or None if that does not change.
    *response*: the answer of the call, None if the fault acts before the call.

    Attributes:
        kind: its word, which is also its member of `do`.
        default: when it acts unless the rule says.
        allowed: when it can act.
        calls: the operations that it is for, None for all.
        settles: whether it settles what the client gets.
        needs_item: whether, of polls, it is for those only that hand out an item.
        cuts_streams: whether it can act on a stream after its first frame.
    """

    kind: ClassVar[str]
    default: ClassVar[When] = "before"
    allowed: ClassVar[tuple[When, ...]] = ("before", "after")
    calls: ClassVar[tuple[str, ...] | None] = None
    settles: ClassVar[bool] = True
    needs_item: ClassVar[bool] = False
    cuts_streams: ClassVar[bool] = False


_Pause = Annotated[int, Field(ge=1, le=LONGEST_PAUSE_MS)]


class Status(_Kind):
    """An error, with the API's own message for the operation where it has one for the status."""

    kind: ClassVar[str] = "status"
    status: Annotated[int, Field(ge=400, le=599)] = Field(
        description="The call gets this error, with the API's own message."
    )
    message: Annotated[str, Field(max_length=4096)] | SkipJsonSchema[None] = Field(
        None, description="With `status`: a message that replaces the API's."
    )
    retry_after: Annotated[int, Field(ge=0, le=86_400)] | SkipJsonSchema[None] = Field(
        None, description="With `status`: header `retry-after`, in seconds."
    )

    async def act(self, hit: Hit, response: Response | None) -> Response | None:
        """Answer with the error."""
        error = await _error(hit, self.status)
        message = self.message or (_message(self.status) if error is None else error.message)
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        details = None if error is None else error.details
        kind = errors.kind_of(self.status)
        return errors.envelope(hit.request.scope, self.status, kind, message, details, headers, rule="faults.injected")


class Delay(_Kind):
    """A pause."""

    kind: ClassVar[str] = "delay_ms"
    settles: ClassVar[bool] = False
    delay_ms: _Pause = Field(description="A pause, in milliseconds of wall time.")

    async def act(self, hit: Hit, response: Response | None) -> Response | None:
        """Pause; nobody needs an answer if the client goes away meanwhile."""
        return None if await hit.pause(self.delay_ms) else Cut()


class Drop(_Kind):
    """No response at all."""

    kind: ClassVar[str] = "drop"
    drop: OnlyTrue = Field(description="The connection is closed without a byte of a response.")

    async def act(self, hit: Hit, response: Response | None) -> Response | None:
        """Cut the connection."""
        return Cut()


class Hang(_Kind):
    """Silence, then no response."""

    kind: ClassVar[str] = "hang_ms"
    hang_ms: _Pause = Field(
        description="Nothing is sent for this many milliseconds of wall time; then the connection is closed."
    )

    async def act(self, hit: Hit, response: Response | None) -> Response | None:
        """Pause, then cut the connection."""
        await hit.pause(self.hang_ms)
        return Cut()


class Truncate(_Kind):
    """Half a response."""

    kind: ClassVar[str] = "truncate"
    default: ClassVar[When] = "after"
    allowed: ClassVar[tuple[When, ...]] = ("after",)
    cuts_streams: ClassVar[bool] = True
    truncate: OnlyTrue = Field(
        description="The connection is closed in the middle of the response body, or, for a stream, after its first "
        "frame."
    )

    async def act(self, hit: Hit, response: Response | None) -> Response | None:
        """Cut the connection in the middle of the answer."""
        return Cut(response)


class HeartbeatChange(Part):
    """Changed members of the response to a heartbeat."""

    lease_extended: bool | SkipJsonSchema[None] = Field(None, description="Whether the lease was extended.")
    state: StateWord | SkipJsonSchema[None] = Field(None, description="The item's state.")
    last_heartbeat: str | SkipJsonSchema[None] = Field(
        None, max_length=64, description="The heartbeat to expect in the next call."
    )
    ttl_seconds: Annotated[int, Field(ge=0, le=86_400)] | SkipJsonSchema[None] = Field(
        None, description="Length of the lease, in seconds."
    )
    model_config = ConfigDict(json_schema_extra={"minProperties": 1})


class Heartbeat(_Kind):
    """A changed response to a heartbeat."""

    kind: ClassVar[str] = "heartbeat"
    default: ClassVar[When] = "after"
    allowed: ClassVar[tuple[When, ...]] = ("after",)
    calls: ClassVar[tuple[str, ...] | None] = ("heartbeat",)
    heartbeat: HeartbeatChange = Field(description="Members of the response to a heartbeat are changed.")

    @model_validator(mode="after")
    def _changes_something(self) -> Heartbeat:
        if not self.heartbeat.model_dump(exclude_none=True):
            raise problem(
                "heartbeat changes nothing: give at least one of {members}",
                members=", ".join(HeartbeatChange.model_fields),
            )
        return self

    async def act(self, hit: Hit, response: Response | None) -> Response | None:
        """Change the members."""
        return with_members(response, self.heartbeat.model_dump(exclude_none=True))


class LoseLease(_Kind):
    """The end of a lease; `fault.lua` ends it, in the step that records the fault on the item's timeline."""

    kind: ClassVar[str] = "lose_lease"
    calls: ClassVar[tuple[str, ...] | None] = _ON_ITEMS
    settles: ClassVar[bool] = False
    lose_lease: OnlyTrue = Field(description="The item's lease ends now, as if it had lapsed.")

    async def act(self, hit: Hit, response: Response | None) -> Response | None:
        """Leave the answer as it is."""
        return None


class DuplicateDelivery(_Kind):
    """A second delivery; `fault.lua` arranges it, in the step that records the fault on the item's timeline."""

    kind: ClassVar[str] = "duplicate_delivery"
    default: ClassVar[When] = "after"
    allowed: ClassVar[tuple[When, ...]] = ("after",)
    calls: ClassVar[tuple[str, ...] | None] = ("poll",)
    settles: ClassVar[bool] = False
    needs_item: ClassVar[bool] = True
    duplicate_delivery: OnlyTrue = Field(
        description="The item that the poll hands out is also handed out to another worker's next poll."
    )

    async def act(self, hit: Hit, response: Response | None) -> Response | None:
        """Leave the answer as it is."""
        return None


class Empty(_Kind):
    """Nothing found."""

    kind: ClassVar[str] = "empty"
    calls: ClassVar[tuple[str, ...] | None] = ("poll", *_LISTS)
    empty: OnlyTrue = Field(description="A poll finds nothing; a list is empty.")

    async def act(self, hit: Hit, response: Response | None) -> Response | None:
        """Answer as an empty queue does, after as long a wait as the poll asks for; or take the rows out of a list."""
        if hit.api_call.on != "poll":
            return with_members(response, {"data": [], "next_page": None, "has_more": False})
        if response is None and not await hit.pause(int(hit.request.query_params.get("block_ms", 0))):
            return Cut()
        return JsonResponse(None)


class MalformedSecret(_Kind):
    """A secret that cannot be decoded."""

    kind: ClassVar[str] = "malformed_secret"
    default: ClassVar[When] = "after"
    allowed: ClassVar[tuple[When, ...]] = ("after",)
    calls: ClassVar[tuple[str, ...] | None] = ("poll",)
    needs_item: ClassVar[bool] = True
    malformed_secret: OnlyTrue = Field(description="The `secret` of a poll cannot be decoded.")

    async def act(self, hit: Hit, response: Response | None) -> Response | None:
        """Change the secret."""
        return with_members(response, {"secret": MALFORMED_SECRET})


class ClockStep(Part):
    """A step of the workspace's clock."""

    advance_seconds: Annotated[float, Field(gt=0, le=LONGEST_LIFE_S)] = Field(description="Seconds.")


class Clock(_Kind):
    """A clock that moves."""

    kind: ClassVar[str] = "clock"
    settles: ClassVar[bool] = False
    clock: ClockStep = Field(description="The workspace's clock moves.")

    async def act(self, hit: Hit, response: Response | None) -> Response | None:
        """Move the clock; one that is at its end stays there."""
        with suppress(InvalidRequest):
            await hit.clocks.change(hit.workspace, "advance", round(self.clock.advance_seconds * 1_000_000))
        return None


AnyKind = (
    Status
    | Delay
    | Drop
    | Hang
    | Truncate
    | Heartbeat
    | LoseLease
    | DuplicateDelivery
    | Empty
    | MalformedSecret
    | Clock
)
KINDS: dict[str, type[AnyKind]] = {each.kind: each for each in get_args(AnyKind)}


# -- `do`: the members of all kinds; a rule has those of one kind ------------------------------------------------


#: Null that the JSON Schema does not mention. `Any`: mypy cannot follow types that are values.
_NULL: Any = cast(Any, SkipJsonSchema)[None]


def _members() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in KINDS.values():
        for name, field in each.model_fields.items():
            type_: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
            if field.is_required():
                type_ = Union[type_, _NULL]  # noqa: UP007
            found[name] = (type_, Field(None, description=field.description))
    return found


_DEPENDENT: dict[str, Any] = {
    name: [each.kind] for each in KINDS.values() for name, field in each.model_fields.items() if name != each.kind
}
_Do = create_model("Do", __base__=Part, __doc__="The effect on the call: exactly one kind of fault.", **_members())
_Do.model_config["json_schema_extra"] = {
    "oneOf": [{"required": [kind]} for kind in KINDS],
    "dependentRequired": _DEPENDENT,
}


def _kind_of(do: BaseModel) -> AnyKind:
    members = {name: getattr(do, name) for name in type(do).model_fields if name in do.model_fields_set}
    kinds = [kind for kind in KINDS if kind in members]
    if not kinds:
        raise problem("No fault kind given; use one of {kinds}", kinds=", ".join(KINDS))
    if len(kinds) > 1:
        raise problem("Several fault kinds given, {kinds}; use one", kinds=" and ".join(kinds))
    for name in members:
        if name not in KINDS[kinds[0]].model_fields:
            raise problem("{member} is allowed with {kind} only", member=name, kind=_DEPENDENT[name][0])
    return KINDS[kinds[0]].model_validate(members)


class ByKind:
    """Annotation of an `AnyKind` that is read from the members of `do`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read the members, then make the kind that they name; write the members of that kind."""
        return core_schema.no_info_after_validator_function(
            _kind_of,
            handler.generate_schema(_Do),
            serialization=core_schema.plain_serializer_function_ser_schema(_plain),
        )


def _plain(kind: AnyKind) -> dict[str, Any]:
    return kind.model_dump(mode="json", exclude_none=True)


# -- errors in the API's own words -------------------------------------------------------------------------------


def _message(status: int) -> str:
    with suppress(ValueError):
        return _MESSAGES.get(status) or HTTPStatus(status).phrase
    return f"Error {status}"


async def _error(hit: Hit, status: int) -> WorkyardError | None:
    """Return the domain error that the operation has for a status, or None."""
    call = hit.api_call
    if status == 401:
        return TokenRevoked()
    if status == 503:
        return StorageUnavailable()
    if status == 409 and call.on == "ack":
        return AckOutOfState(call.work_id, "starting")
    if status == 412 and call.on == "heartbeat":
        # As if another worker had sent a heartbeat just now.
        return HeartbeatPreconditionFailed(
            expected=hit.request.query_params.get("expected_last_heartbeat") or NO_HEARTBEAT,
            stored=format_instant((await hit.workspaces.clock(hit.workspace)).now),
            state="active",
            ttl_seconds=DEFAULT_TTL_S,
        )
    if status == 404:
        missing: tuple[tuple[str, Callable[[str], WorkyardError]], ...] = (
            (call.work_id, WorkNotFound),
            (call.session_id, SessionNotFound),
            (call.environment_id, EnvironmentNotFound),
        )
        return next((error(id_) for id_, error in missing if id_), None)
    return None
