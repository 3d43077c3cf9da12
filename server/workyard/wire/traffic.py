"""The requests that this process is answering, and the subscribers to ended requests. Owns no connection and no rule."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from starlette.types import Scope, Send

from .exchange import EXCHANGE, Exchange

_log = logging.getLogger("workyard")

#: Bytes that are scanned beyond those that are kept: a secret may begin before the cut.
_MARGIN_BYTES = 512

#: A subscriber to requests. It must not block; its errors are logged and not passed on.
Subscriber = Callable[[Exchange], None]


class Traffic:
    """All requests of this process.

    Attributes:
        body_bytes: how many bytes of each body are kept for the subscribers, and scanned.
        in_flight: the requests being answered, in order of arrival.
        on_begin: subscribers to new requests; `on_end`: to requests that were answered, or never will be.
    """

    def __init__(self, body_bytes: int = 0) -> None:
        """Keep *body_bytes* of each body, and some more to scan."""
        self.body_bytes = body_bytes + _MARGIN_BYTES if body_bytes else 0
        self.in_flight: dict[Exchange, None] = {}
        self.on_begin: list[Subscriber] = []
        self.on_end: list[Subscriber] = []

    def begin(self, scope: Scope, send: Send) -> Exchange:
        """Register a request; the code that answers it calls its `end`."""
        exchange: Exchange | None = scope.get(EXCHANGE)
        if exchange is None:
            exchange = scope[EXCHANGE] = Exchange(scope)
        exchange.begin(send, self.body_bytes, self._end)
        _tell(self.on_begin, exchange)
        self.in_flight[exchange] = None
        return exchange

    def _end(self, exchange: Exchange) -> None:
        del self.in_flight[exchange]
        _tell(self.on_end, exchange)

    def oldest(self) -> float:
        """Return the arrival of the oldest request being answered, on the performance counter."""
        first = next(iter(self.in_flight), None)
        return time.perf_counter() if first is None else first.began


def _tell(subscribers: list[Subscriber], exchange: Exchange) -> None:
    for subscriber in subscribers:
        try:
            subscriber(exchange)
        except Exception:
            _log.exception("a subscriber to requests failed")
