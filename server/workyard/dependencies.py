"""What a route is given: the services, the caller, checked parameters. Owns the order of checks before the route.

Order (contract §1): path and method, by the router → credential → body size, type, JSON → body and query validation,
by FastAPI → whatever the store finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from workyard_queue.polling import LongPoll
from workyard_queue.work import WorkQueue
from workyard_store.access import Access, Caller
from workyard_store.credentials import CredentialStore
from workyard_store.environments import EnvironmentStore
from workyard_store.errors import AuthenticationFailed
from workyard_store.redis import Engine
from workyard_store.workspaces import WorkspaceStore

from .bodies import CheckedRequest
from .headers import token_of
from .settings import Settings


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
    long_poll: LongPoll


class _CheckedRoute(APIRoute):
    """A route whose credential and body are checked before anything of them is interpreted."""

    needs_token = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handler = super().get_route_handler()
        takes_body = self.body_field is not None
        body_required = self.body_field is not None and self.body_field.field_info.is_required()

        async def checked(request: Request) -> Response:
            token = token_of(request.headers)
            services: Services = request.app.state.services
            if token is None and self.needs_token and services.settings.auth != "none":
                raise AuthenticationFailed("x-api-key header is required")
            request.scope["workyard.caller"] = Caller(token)
            if takes_body:
                request = CheckedRequest(request.scope, request.receive)
                await request.load(required=body_required)
            return await handler(request)

        return checked


class PublicRoute(_CheckedRoute):
    """A route of the emulated API."""

    needs_token = True


class ControlRoute(_CheckedRoute):
    """A route of the control plane: the setting `auth` does not apply."""


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["workyard.caller"]
    return caller


ServicesDep = Annotated[Services, Depends(_services)]
CallerDep = Annotated[Caller, Depends(_caller)]

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


QueryInteger = Annotated[int, BeforeValidator(_query_integer)]
QueryBoolean = Annotated[bool, BeforeValidator(_query_boolean)]
