"""Routes whose requests are checked before their function runs. Owns the order of the checks.

Order, by rule `conventions.order`: path and method, by the router → credential → lane → environment of the key → body size, type, JSON →
body and query validation, by FastAPI → errors of the store. In mode `strict` the script that serves the call also checks
the credential; a call that is refused earlier needs a separate look-up.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response

from workyard_store.access import Caller
from workyard_store.calls import CURRENT, ApiCall
from workyard_store.errors import AuthenticationFailed, WorkyardError

from ..contract.describe import refusals
from ..faults.apply import Faulted, Route
from ..wire.exchange import exchange_of, token_of
from ..wire.operations import operation_of
from . import permissions
from .call import Call
from .parameters import Parameters

#: Statuses that the setting `require_headers` adds to every route of the emulated API.
_WITHOUT_HEADERS = refusals(400, because={400: "A header is missing that the server asks for (`--require-headers`)."})


class _CheckedRoute(APIRoute):
    """A route that checks credential and body before interpreting them."""

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
        """Return the request handler: the checks in their order, then the route's function."""
        function = self.endpoint
        parameters = Parameters(self.dependant)
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
                route = partial(
                    call.services.fixtures.run, call.scope, call.api_call.on, call.caller, function, arguments
                )
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
    """Answer a call after checking the lane of its credential and the required headers."""
    caller = call.caller
    try:
        if caller.strict:
            permissions.check(call.api_call.on, caller, call.path_params)
        if call.services.settings.require_headers:
            permissions.check_headers(call.api_call.on, call.headers)
        return await answer(call)
    except (WorkyardError, RequestValidationError):
        # An invalid token takes precedence over every other error.
        if caller.unjudged:
            await call.judge()
        raise


async def _with_faults(call: Call, api_call: ApiCall, route: Route, *, asks: bool) -> Response:
    """Answer a call, subject to fault rules. *asks*: whether to look for rules here, because no script of the call does."""
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
