"""What a route is given: the services, the caller, checked parameters. Owns the order of checks before the route.

Order, by rule `conventions.order`: path and method, by the router → credential → lane → environment of the key → body size, type, JSON →
body and query validation, by FastAPI → whatever the store finds. In mode `strict` the credential is judged by the step
that does what is asked for; a call that is refused before it comes so far pays a look-up of its own.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, get_origin

from fastapi import Request
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from workyard_queue.clock.auto import AutoClocks
from workyard_queue.clock.timers import Clocks
from workyard_queue.sessions.scripts import Scripts
from workyard_queue.sessions.sessions import Sessions
from workyard_queue.sessions.streams import EventStreams
from workyard_queue.sessions.turns import Turns
from workyard_queue.state.snapshots import Snapshots
from workyard_queue.timeline.feed import Following
from workyard_queue.timeline.timeline import Timelines
from workyard_queue.timeline.watch import Watching
from workyard_queue.work.invariants import Invariants
from workyard_queue.work.polling import LongPoll
from workyard_queue.work.work_queue import WorkQueue
from workyard_store.access import Access, Caller
from workyard_store.calls import CURRENT, ApiCall
from workyard_store.engine.engine import Engine
from workyard_store.engine.peers import Questions
from workyard_store.errors import AuthenticationFailed, NotFound, WorkyardError
from workyard_store.resources.agents import AgentStore
from workyard_store.resources.memories import MemoryStores
from workyard_store.resources.skills import SkillStore
from workyard_store.workspaces.configs import checked_metadata
from workyard_store.workspaces.credentials import CredentialStore
from workyard_store.workspaces.environments import EnvironmentStore
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..contract.describe import refusals
from ..faults.apply import Faulted, Faults, Route
from ..fixtures import Fixtures
from ..journal.journal import Journal
from ..observability.metrics import Metrics
from ..settings import Settings
from ..wire.bodies import CheckedRequest
from ..wire.exchange import exchange_of, token_of
from ..wire.operations import operation_of
from ..wire.traffic import Traffic
from . import permissions as lanes


@dataclass(frozen=True, slots=True)
class Services:
    """What the application is made of; the lifespan builds it."""

    settings: Settings
    engine: Engine
    access: Access
    workspaces: WorkspaceStore
    environments: EnvironmentStore
    credentials: CredentialStore
    queue: WorkQueue
    invariants: Invariants
    timelines: Timelines
    watching: Watching
    following: Following
    snapshots: Snapshots
    long_poll: LongPoll
    clocks: Clocks
    auto_clocks: AutoClocks
    agents: AgentStore
    scripts: Scripts
    skills: SkillStore
    memories: MemoryStores
    sessions: Sessions
    turns: Turns
    streams: EventStreams
    questions: Questions
    traffic: Traffic
    fixtures: Fixtures | None
    faults: Faults
    journal: Journal
    metrics: Metrics


class Call(CheckedRequest):
    """A request with what a route works with."""

    services: Services
    caller: Caller
    api_call: ApiCall

    async def judge(self) -> None:
        """Find out whether the caller's token is good, by no step of the call's own.

        Raises:
            AuthenticationFailed: it is not.
        """
        current = CURRENT.set(None)
        try:
            await self.workspace_of_worker()
        finally:
            CURRENT.reset(current)

    def checked_metadata(self, metadata: dict[str, str]) -> dict[str, str]:
        """Return *metadata* if it keeps the caps.

        Raises:
            InvalidMetadata: the message lists every problem.
        """
        return checked_metadata(metadata, self.services.settings.max_metadata_keys)

    async def workspace_of_worker(self) -> str:
        """Return the workspace whose skills and memory stores the caller reaches: a worker that of its environment.

        Raises:
            AuthenticationFailed: the caller's sessions token is of an earlier life of its item; or its token has to be
                good, and is not.
        """
        caller = self.caller
        if caller.work_id is not None and caller.environment_id is not None:
            # Looked at in a step on the item, for the clock may have ended that life just now.
            with suppress(NotFound):
                await self.services.queue.get(caller.environment_id, caller.work_id, caller)
        return await self.services.access.workspace(caller)


class _Parameters:
    """The parameters that a route declares, read from a request.

    FastAPI takes the declarations, describes them and validates each value. What it would find out anew for every
    request (where a parameter comes from, under which name, whether it is a list) is worked out here once: that was half
    of the time a request took.
    """

    def __init__(self, declared: Dependant) -> None:
        unread = (declared.dependencies, declared.cookie_params, declared.body_params[1:])
        if any(unread) or declared.response_param_name or declared.background_tasks_param_name:
            raise TypeError(f"{declared.path}: a route takes the call, path, query, headers and one body, nothing else")
        self._call = declared.request_param_name
        self._path = [_source("path", field) for field in declared.path_params]
        self._query = [_source("query", field) for field in declared.query_params if not _is_list(field)]
        self._lists = [_source("query", field) for field in declared.query_params if _is_list(field)]
        self._headers = [_source("header", field) for field in declared.header_params]
        self._body = declared.body_params[0] if declared.body_params else None

    @property
    def body_required(self) -> bool:
        """Tell whether an empty body is an error."""
        return self._body is not None and self._body.field_info.is_required()

    @property
    def takes_body(self) -> bool:
        """Tell whether the body is read at all."""
        return self._body is not None

    async def read(self, call: Call) -> dict[str, Any]:
        """Return the arguments of the route.

        Raises:
            RequestValidationError: with a problem for each parameter and field that breaks its rule.
        """
        arguments: dict[str, Any] = {} if self._call is None else {self._call: call}
        problems: list[Any] = []
        for sources, given in (
            (self._path, call.scope["path_params"]),
            (self._query, call.query_params if self._query else {}),
            (self._headers, call.headers),
        ):
            for name, alias, place, default, validate in sources:
                value = given.get(alias)
                if value is None:
                    arguments[name] = default
                    continue
                arguments[name], found = validate(value, loc=place)
                problems += found
        for name, alias, place, default, validate in self._lists:
            # As the SDKs write it, and as it is documented.
            many = call.query_params.getlist(alias + "[]") + call.query_params.getlist(alias)
            arguments[name], found = validate(many, loc=place) if many else (default, None)
            problems += found or []
        body = None
        if self._body is not None:
            body = await call.json()
            if body is None:
                arguments[self._body.name] = self._body.default
            else:
                arguments[self._body.name], found = self._body.validate(body, loc=("body",))
                problems += found
        if problems:
            raise RequestValidationError(problems, body=body)
        return arguments


def _is_list(field: ModelField) -> bool:
    return get_origin(field.field_info.annotation) is list


def _source(place: str, field: ModelField) -> tuple[str, str, tuple[str, str], Any, Callable[..., Any]]:
    """Return a parameter's name in Python and on the wire, its place in a problem's path, its default, its validation."""
    if place != "path" and field.field_info.is_required():
        raise TypeError(f"{field.alias}: a query parameter or header is optional")
    return field.name, field.alias, (place, field.alias), field.default, field.validate


#: What every route of the emulated API may answer under the setting `require_headers`.
_WITHOUT_HEADERS = refusals(400, because={400: "A header is missing that the server asks for (`--require-headers`)."})


class _CheckedRoute(APIRoute):
    """A route whose credential and body are checked before anything of them is interpreted."""

    needs_token = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if self.needs_token:
            declared = kwargs["responses"]
            kwargs["responses"] = {
                **declared,
                **{status: each for status, each in _WITHOUT_HEADERS.items() if status not in declared},
            }
        super().__init__(*args, **kwargs)
        # Starlette ends the pattern with `$`, which a line break may still follow.
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z")

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request: the checks in their order, then the route's function."""
        function = self.endpoint
        parameters = _Parameters(self.dependant)
        takes_body, body_required = parameters.takes_body, parameters.body_required
        operation = operation_of(function.__name__)
        # A new session names its environment in the body.
        named = operation == "sessions.create" or bool({"environment_id", "session_id"} & set(self.param_convertors))
        asks_by_itself = self.needs_token and not named

        async def answer(call: Call) -> Response:
            if takes_body:
                await call.load(required=body_required)
            arguments = await parameters.read(call)
            route: Route = partial(function, **arguments)
            if call.services.fixtures is not None:
                route = partial(call.services.fixtures.run, call, function, arguments)
            return await _with_faults(call, call.api_call, route, asks=asks_by_itself)

        async def handle(request: Request) -> Response:
            call = Call(request.scope, request.receive)
            call.services = services = request.app.state.services
            settings = services.settings
            call.most_bytes, call.most_levels = settings.max_body_bytes, settings.max_json_depth
            token = token_of(call.headers)
            strict = self.needs_token and settings.auth == "strict"
            exchange = exchange_of(call.scope)
            call.caller = exchange.caller = Caller(token, strict=strict)
            call.api_call = exchange.record_call(operation, asks=self.needs_token)
            CURRENT.set(call.api_call)
            if token is None and self.needs_token and settings.auth != "none":
                raise AuthenticationFailed("x-api-key header is required")
            if strict or (self.needs_token and settings.require_headers):
                return await _admitted(call, answer)
            return await answer(call)

        return handle


async def _admitted(call: Call, answer: Callable[[Call], Awaitable[Response]]) -> Response:
    """Answer a call whose credential has to be of the right lane, and whose headers to be complete."""
    caller = call.caller
    try:
        if caller.strict:
            lanes.check(call.api_call.on, caller, call.path_params)
        if call.services.settings.require_headers:
            lanes.check_headers(call.api_call.on, call.headers)
        return await answer(call)
    except (WorkyardError, RequestValidationError):
        # Whatever is wrong with the call, a token that is not good is what it is told first.
        if caller.unjudged:
            await call.judge()
        raise


async def _with_faults(call: Call, api_call: ApiCall, route: Route, *, asks: bool) -> Response:
    """Answer a call, as fault rules will have it. *asks*: whether no script on the way would find that there are any."""
    faults = call.services.faults
    outcome: Response | Exception
    try:
        if asks and faults.store.heard_of_any:
            await faults.ask_workspace(await call.services.access.workspace(call.caller))
        outcome = await route()
        if api_call.after is None:
            return outcome
    except (Faulted, WorkyardError) as error:
        if api_call.after is None and not isinstance(error, Faulted):
            raise
        outcome = error
    return await faults.answer(call, api_call, route, outcome)


class PublicRoute(_CheckedRoute):
    """A route of the emulated API."""

    needs_token = True


class ControlRoute(_CheckedRoute):
    """A route of the control plane: the setting `auth` does not apply."""


_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
#: Digits beyond any bound of ours; a longer number only differs in how far out of range it is.
_MOST_DIGITS = 18


def _query_integer(value: object) -> int | object:
    if isinstance(value, str):
        if _INTEGER.fullmatch(value) is None:
            raise PydanticCustomError(
                "int_parsing", "Input should be a valid integer, unable to parse string as an integer"
            )
        digits = value.lstrip("-").lstrip("0") or "0"
        magnitude = int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS
        return -magnitude if value.startswith("-") else magnitude
    return value


def _query_boolean(value: object) -> bool | object:
    if isinstance(value, str):
        if value not in ("true", "false", "1", "0"):
            raise PydanticCustomError("bool_parsing", "Input should be a valid boolean, unable to interpret input")
        return value in ("true", "1")
    return value


#: Stands behind the bounds of an integer, so that Pydantic checks those itself and can describe them.
AS_QUERY_INTEGER = BeforeValidator(_query_integer)
QueryInteger = Annotated[int, AS_QUERY_INTEGER]
QueryBoolean = Annotated[bool, BeforeValidator(_query_boolean)]
