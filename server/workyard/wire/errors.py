"""Errors on the wire: one table from domain errors to status and type, one envelope.

Rule: `conventions.envelope`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from workyard_store.errors import (
    AuthenticationFailed,
    BodyTooLarge,
    HeartbeatPreconditionFailed,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    StorageUnavailable,
    TooLarge,
    TooManyAtOnce,
    WorkyardError,
)
from workyard_store.errors import Conflict as ConflictError

from ..ledger import ids as rule_ids
from .exchange import UNKNOWN, exchange_of
from .responses import JsonResponse

NO_RETRY = {"x-should-retry": "false"}

#: Domain error → status and `error.type`. An error without a row of its own takes that of its nearest ancestor.
TABLE: dict[type[WorkyardError], tuple[int, str]] = {
    InvalidRequest: (400, "invalid_request_error"),
    BodyTooLarge: (413, "request_too_large"),
    TooLarge: (413, "request_too_large"),
    AuthenticationFailed: (401, "authentication_error"),
    PermissionDenied: (403, "permission_error"),
    NotFound: (404, "not_found_error"),
    ConflictError: (409, "invalid_request_error"),
    HeartbeatPreconditionFailed: (412, "invalid_request_error"),
    TooManyAtOnce: (429, "rate_limit_error"),
    StorageUnavailable: (503, "api_error"),
}
#: `error.type` of statuses that no domain error has.
_INJECTED = {529: "overloaded_error"}
_RETRYABLE = (408, 429)
RETRY_AFTER_S = 1


def row_of(error: type[WorkyardError]) -> tuple[int, str]:
    """Return status and type of a domain error.

    Raises:
        KeyError: neither it nor an ancestor has a row.
    """
    for ancestor in error.__mro__:
        if ancestor in TABLE:
            return TABLE[ancestor]
    raise KeyError(error)


def kind_of(status: int) -> str:
    """Return the `error.type` that goes with an error status."""
    kinds = dict(TABLE.values()) | _INJECTED
    return kinds.get(status, "invalid_request_error" if status < 500 else "api_error")


def envelope(
    scope: Scope,
    status: int,
    kind: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    rule: str,
) -> Response:
    """Return an error response; *rule*: the id of the broken ledger rule."""
    exchange = exchange_of(scope)
    # The message may quote the request, which may contain the client's token.
    error: dict[str, Any] = {"type": kind, "message": exchange.caller.masked(message)}
    if details is not None:
        error["details"] = details
    extra = {**(headers or {}), rule_ids.HEADER: rule}
    exchange.rule = rule
    if 400 <= status < 500 and status not in _RETRYABLE:
        extra |= NO_RETRY
    if status == 503:
        extra.setdefault("retry-after", str(RETRY_AFTER_S))
    return JsonResponse({"type": "error", "error": error, "request_id": exchange.request_id}, status, extra)


def internal_error(scope: Scope) -> Response:
    """Return the answer to an internal error; it leaks nothing."""
    return envelope(scope, 500, "api_error", "Internal server error", rule="conventions.fault-of-ours")


def shutting_down(scope: Scope) -> Response:
    """Return the answer to a request that the server's shutdown interrupted."""
    message = "The server is shutting down; the request may have been carried out in part"
    return envelope(scope, 503, "api_error", message, rule="conventions.shutdown")


def answer_to(scope: Scope, error: WorkyardError) -> Response:
    """Return the answer to a call that ended in a domain error."""
    status, kind = row_of(type(error))
    waits = {"retry-after": str(RETRY_AFTER_S)} if isinstance(error, TooManyAtOnce) else None
    rule = rule_ids.of_error(error, _operation(scope))
    return envelope(scope, status, kind, error.message, error.details, waits, rule=rule)


def _operation(scope: Scope) -> str:
    api_call = exchange_of(scope).api_call
    return UNKNOWN if api_call is None else api_call.on


async def _on_domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, WorkyardError)
    return answer_to(request.scope, error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [(path_of(problem["loc"], error.body), problem["msg"]) for problem in error.errors()]
    problems = "; ".join(": ".join(part for part in problem if part) for problem in found)
    # A rule about several fields names one of them in its message.
    path = found[0][0] or found[0][1].partition(":")[0]
    rule = rule_ids.of_problem(_operation(request.scope), path, error.errors()[0]["type"])
    return envelope(request.scope, 400, "invalid_request_error", problems, rule=rule)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allow = {"allow": ", ".join(allowed_methods(request))}
        return envelope(
            request.scope, 405, "invalid_request_error", "Method Not Allowed", headers=allow, rule="conventions.method"
        )
    if error.status_code == 404:
        return envelope(request.scope, 404, "not_found_error", "Not found", rule="conventions.unknown-path")
    return envelope(
        request.scope, error.status_code, "invalid_request_error", str(error.detail), rule=rule_ids.FALLBACK
    )


def allowed_methods(request: Request) -> list[str]:
    """Return the methods that the path of a request accepts.

    A path without parameters, such as `/_emulator/faults/scenarios`, is a resource of its own, even where it also fits one
    with parameters.
    """
    matching = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    fixed = [route for route in matching if "{" not in getattr(route, "path", "{")]
    return sorted({method for route in fixed or matching for method in getattr(route, "methods", None) or ()})


def path_of(location: tuple[int | str, ...], body: object) -> str:
    """Return a problem's path in the client's terms: without its origin (`body`) and without tags of unions.

    After an object of a union, Pydantic inserts the tag of the chosen shape, which is the object's `type`.
    """
    place, *steps = location
    parts: list[str] = []
    for n, step in enumerate(steps):
        last = n == len(steps) - 1
        if place == "body" and isinstance(step, str) and not last:
            if not isinstance(body, dict) or body.get("type") == step or step not in body:
                continue
            body = body[step]
        elif place == "body" and isinstance(step, int) and isinstance(body, list):
            body = body[step]
        elif place == "body" and last and not isinstance(body, dict):
            continue
        parts.append(str(step))
    return ".".join(parts)


def install(app: FastAPI) -> None:
    """Make the application answer every error in the envelope."""
    app.add_exception_handler(WorkyardError, _on_domain_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
