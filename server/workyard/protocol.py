"""HTTP as uvicorn speaks it, adjusted where its answer would not be the API's. Owns no route.

Head and body of an answer leave together. What is not HTTP gets an answer in the envelope, in its turn. A request that offers another protocol (`Upgrade`, as some
clients do for HTTP/2) is the HTTP request that it also is, its body and the requests behind it included.
"""

from __future__ import annotations

import json
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from workyard_store.ids import random_suffix

from .traffic import CONNECTION


class _Answer:
    """The connection as one request's answer writes to it.

    Uvicorn writes the head by itself, and every write is a system call of its own: a tenth of the time a request takes.
    """

    __slots__ = ("_cycle", "_head", "_transport")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle, self._transport = cycle, cycle.transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Keep the head until what follows it."""
        if not self._cycle.response_started:
            self._transport.write(data)  # `100 Continue`
        elif self._head is None:
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def is_closing(self) -> bool:
        """Tell whether the connection is closed or about to be."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection behind what was written."""
        if self._head:
            self._transport.write(self._head)
        self._transport.close()


class Protocol(HttpToolsProtocol):
    """One connection."""

    _running: RequestResponseCycle | None = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.scope[CONNECTION] = cycle.transport  # type: ignore[literal-required]
        # Nothing follows the head of an answer to HEAD.
        if cycle.scope["method"] != "HEAD":
            cycle.transport = _Answer(cycle)  # type: ignore[assignment]  # All that a cycle uses of a transport.
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request being answered, which uvicorn forgets when others are queued behind it."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes off the wire."""
        self._unset_keepalive_if_required()
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if not self._should_upgrade():
                    # A tunnel is refused like any unknown method; what follows was meant for its other end.
                    self.cycle.keep_alive = False
                    return
                data = self._without_upgrade() + data[upgrade.args[0] :]
                # The old parser may take the connection for closed.
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                continue
            except httptools.HttpParserError:
                self.logger.warning("Invalid HTTP request received.")
                self.send_400_response("Invalid HTTP request received.")
            return

    def _should_upgrade(self) -> bool:
        """Tell whether a message that the parser takes for an upgrade is to be read again, without its offer."""
        return self.scope["method"] != "CONNECT"

    def _without_upgrade(self) -> bytes:
        """Return the head that was just read, without the offer of another protocol."""
        scope = self.scope
        lines = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        start = b"%b %b HTTP/%b" % (scope["method"].encode(), self.url, scope["http_version"].encode())
        return b"\r\n".join([start, *lines, b"", b""])

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not an HTTP request, and close."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                # They follow a request that is still being answered: that answer is the last.
                cycle.keep_alive = False
                return
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        identifier = "req_" + random_suffix()
        body = json.dumps(
            {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": msg},
                "request_id": identifier,
            }
        ).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nx-should-retry: false\r\n"
            f"request-id: {identifier}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
