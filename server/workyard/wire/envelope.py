"""The outermost layer of the application: it gives each request its `Exchange`, and answers unexpected errors."""

from __future__ import annotations

import asyncio
import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import internal_error, shutting_down
from .exchange import EXCHANGE, Exchange
from .traffic import Traffic

_log = logging.getLogger("workyard.requests")


class Envelope:
    """ASGI layer around the whole application."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self.app = app
        self.traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request; every error is answered in the API's form."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = self.traffic.begin(scope, send)
        try:
            await self._answer(exchange, receive)
        finally:
            exchange.end(cut=True)
            del scope[EXCHANGE]  # The two would keep each other alive.

    async def _answer(self, exchange: Exchange, receive: Receive) -> None:
        scope = exchange.scope
        try:
            await self.app(scope, receive, exchange.send)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            # Only the shutdown cancels a request, if it runs longer than the shutdown may take.
            # The task ends with its answer, so the cancellation is not passed on.
            if exchange.status:
                raise
            await shutting_down(scope)(scope, receive, exchange.send)
        except Exception:
            # A client may have written its token into the path.
            path = exchange.caller.masked(scope["path"])
            _log.exception("%s %s failed (request %s)", scope["method"], path, exchange.request_id)
            if exchange.status:
                raise
            await internal_error(scope)(scope, receive, exchange.send)
