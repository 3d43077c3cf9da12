"""What every request and response carries beside its body: the request id, the token, the retry hint.

`Envelope` is the outermost layer of the application: it gives each response its id and answers for faults that nothing
below it foresaw.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from workyard_store.access import Caller
from workyard_store.ids import random_suffix

from .exchange import ADDED_HEADERS, CALLER, Traffic

if TYPE_CHECKING:
    from ..observability.request_log import RequestLog
from .exchange import API_CALL as API_CALL

_log = logging.getLogger("workyard.requests")
REQUEST_ID = "workyard.request_id"
NO_RETRY = {"x-should-retry": "false"}


def token_of(headers: Headers) -> str | None:
    """Return the token of a request: `x-api-key`, else the bearer token; an empty one counts as absent.

    Rule: `credentials.both-headers`.
    """
    key = headers.get("x-api-key", "").strip()
    if key:
        return key
    scheme, _, value = headers.get("authorization", "").strip().partition(" ")
    return (value.strip() or None) if scheme.lower() == "bearer" else None


def request_id(scope: Scope) -> str:
    """Return the id of the request this scope belongs to."""
    value: str = scope[REQUEST_ID]
    return value


def add_header(scope: Scope, name: str, value: str) -> None:
    """Add a header to whatever answer the request gets, an error too; several values of one name make a list."""
    added: dict[str, str] = scope.setdefault(ADDED_HEADERS, {})
    added[name] = f"{added[name]}, {value}" if name in added else value


def _shown_path(scope: Scope) -> str:
    """Return a request's path for the log: without tokens."""
    caller: Caller = scope.get(CALLER) or Caller(token_of(Headers(scope=scope)))
    return caller.masked(scope["path"])


class Envelope:
    """ASGI layer around the whole application."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self.app = app
        self.traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request; nothing that goes wrong leaves without an answer in the API's form."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identifier = "req_" + random_suffix()
        scope[REQUEST_ID] = identifier
        exchange = self.traffic.begin(scope, send, identifier)
        try:
            await self.app(scope, receive, exchange.send)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            # Only the end of the server cancels a request: it ran on for longer than the server may still live.
            # The task ends with its answer, so the cancellation is not passed on.
            if exchange.status:
                raise
            from .errors import shutting_down

            await shutting_down(scope)(scope, receive, exchange.send)
        except Exception:
            _log.exception("%s %s failed (request %s)", scope["method"], _shown_path(scope), identifier)
            if exchange.status:
                raise
            from .errors import internal_error

            await internal_error(scope)(scope, receive, exchange.send)
        finally:
            exchange.end(cut=True)
        log: RequestLog | None = getattr(scope["app"].state, "request_log", None)
        if log is not None and log.is_on:
            await log.tell(exchange)
