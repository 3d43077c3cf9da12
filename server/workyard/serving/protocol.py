"""Uvicorn's HTTP protocol, adjusted where its answer would differ from the API's. Owns no route.

Head and body of an answer are sent together. Input that is not HTTP is answered in the envelope, after the answers to
earlier requests. A request that offers another protocol (`Upgrade`, as some clients do for HTTP/2) is served as ordinary
HTTP, including its body and the requests after it.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from workyard_store.ids import random_suffix

from ..ledger.ids import HEADER
from ..wire.exchange import EXCHANGE, Exchange
from ..wire.security_headers import OF_DATA
from .connections import Connections

NOT_HTTP = "Invalid HTTP request received."
_PHRASES = {400: "Bad Request", 408: "Request Timeout", 414: "URI Too Long", 431: "Request Header Fields Too Large",
            503: "Service Unavailable"}  # fmt: skip
_SECURITY = b"".join(b"%b: %b\r\n" % each for each in OF_DATA).decode()
#: The separators between name and value of a header, and after it.
_HEADER_MARKS = 4
#: The interim response that asks a client for its body, before any answer.
_CONTINUE = b"HTTP/1.1 100 "
#: Of `SO_LINGER`: on, for no seconds.
_RESET_AT_ONCE = struct.pack("ii", 1, 0)
#: Seconds that a refused client that still sends gets to read the answer.
_LINGER_S = 2.0


class _Refusal(NamedTuple):
    """An answer to input that never becomes a request; `rule` is the id of the ledger rule."""

    status: int
    message: str
    rule: str


class _RefusedError(Exception):
    """Stops the parser."""


class _Answer:
    """The transport that one request's answer is written to.

    Uvicorn writes head and body separately, and each write is a system call: a tenth of the time of a request. This class
    has no reference to the request: a reference cycle would leave all objects of the request to Python's garbage
    collector.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Hold back the head until the next write."""
        if self._head is None and data.startswith(_CONTINUE):
            self._transport.write(data)
        elif self._head is None:
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def is_closing(self) -> bool:
        """Tell whether the connection is closed or about to be."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection after sending what was written."""
        if self._head:
            self._transport.write(self._head)
        self._transport.close()


class Protocol(HttpToolsProtocol):
    """One connection.

    `_until` is the deadline of the current `_phase`, seconds on the event loop's clock. The phases: `idle` waits for a
    request, `head` and `body` for the rest of one, `closing` for the client to read the answer and close. The phase
    `answering` has no deadline.
    """

    _running: RequestResponseCycle | None = None
    _refusal: _Refusal | None = None

    def __init__(self, *args: Any, all_connections: Connections, **named: Any) -> None:
        super().__init__(*args, **named)
        self._all, self._limits = all_connections, all_connections.limits
        self._phase, self._until, self._now = "idle", math.inf, 0.0
        self._head_bytes = 0
        # Since when the client reads nothing, and how many bytes it had still to read then.
        self._stalled_at, self._unsent = math.inf, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, if there is room for it."""
        super().connection_made(transport)
        self._wait("idle", self.loop.time(), self._limits.idle_s)
        self._all.watch(self.loop, self.connections)  # type: ignore[arg-type]  # They are all of this class.
        if len(self.connections) > self._limits.connections:
            most = self._limits.connections
            self._all.tell(f"Connections are refused: {most} are open (--max-connections)", self._now)
            named = "--max-connections / WORKYARD_MAX_CONNECTIONS"
            self._refuse(_Refusal(503, f"At most {most} connections may be open ({named})", "limits.connections"))

    def _wait(self, phase: str, now: float, seconds: float) -> None:
        self._phase, self._now, self._until = phase, now, now + seconds

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.scope[EXCHANGE] = Exchange(cycle.scope, cycle.transport)  # type: ignore[literal-required, arg-type]
        # Nothing follows the head of an answer to HEAD.
        if cycle.scope["method"] != "HEAD":
            cycle.transport = _Answer(cycle.transport)  # type: ignore[assignment]  # All that a cycle uses of a transport.
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the disconnect to the request being answered, which uvicorn forgets if others are queued after it."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Record the beginning of a request, which may follow another one in the same bytes."""
        super().on_message_begin()
        self._wait("head", self._now, self._limits.head_s)
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Check the head, then start the request."""
        limits = self._limits
        size = sum(map(len, chain.from_iterable(self.headers))) + _HEADER_MARKS * len(self.headers)
        if len(self.url) > limits.url_bytes or size > limits.header_bytes:
            self._refusal = self._head_too_large()
            raise _RefusedError
        super().on_headers_complete()
        self._wait("body", self._now, limits.body_s)

    def on_message_complete(self) -> None:
        """Record that the request is complete."""
        super().on_message_complete()
        self._phase, self._until = "answering", math.inf

    def on_response_complete(self) -> None:
        """Wait for the next request, which may be here already."""
        super().on_response_complete()
        if self._phase == "answering" and not self.pipeline:
            self._phase = "idle"  # From now on uvicorn's own timer is responsible.

    def _head_too_large(self) -> _Refusal:
        limits = self._limits
        if len(self.url) > limits.url_bytes:
            named = "--max-url-bytes / WORKYARD_MAX_URL_BYTES"
            return _Refusal(414, f"Request URL exceeds {limits.url_bytes} bytes ({named})", "limits.url")
        named = "--max-header-bytes / WORKYARD_MAX_HEADER_BYTES"
        return _Refusal(431, f"Request headers exceed {limits.header_bytes} bytes ({named})", "limits.headers")

    def data_received(self, data: bytes) -> None:
        """Process received bytes."""
        if self._phase == "closing":
            return
        self._unset_keepalive_if_required()
        self._now = self.loop.time()
        if self._phase == "idle":
            self._wait("head", self._now, self._limits.head_s)
            self._head_bytes = 0
            self.url = b""
        self._head_bytes += len(data)
        self._feed(data)
        # Check an incomplete head as a whole: its first part may contain the end of the previous request.
        url, headers = self._limits.url_bytes, self._limits.header_bytes
        if self._phase == "head" and (self._head_bytes - len(data) > url + headers or len(self.url) > url):
            self._refuse(self._head_too_large())

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if not self._should_upgrade():
                    # A tunnel (CONNECT) is refused like any unknown method; the bytes after it were meant for its other end.
                    self.cycle.keep_alive = False
                    return
                data = self._without_upgrade() + data[upgrade.args[0] :]
                # The old parser may regard the connection as closed.
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                continue
            except httptools.HttpParserError:
                if self._refusal is None:
                    self._all.tell(NOT_HTTP, self._now)
                self._refuse(self._refusal or _Refusal(400, NOT_HTTP, "conventions.not-http"))
            return

    def _should_upgrade(self) -> bool:
        """Return whether to read a message again, without its offer, because the parser took it for an upgrade."""
        return self.scope["method"] != "CONNECT"

    def _without_upgrade(self) -> bytes:
        """Return the head that was just read, without the offer of another protocol."""
        scope = self.scope
        lines = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        start = b"%b %b HTTP/%b" % (scope["method"].encode(), self.url, scope["http_version"].encode())
        return b"\r\n".join([start, *lines, b"", b""])

    def _refuse(self, refusal: _Refusal) -> None:
        """Refuse a request that cannot be served, and close."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                # It follows a request that is still being answered: that answer is the last.
                cycle.keep_alive = False
                self._phase, self._until = "answering", math.inf
                return
            if cycle.response_started or self.pipeline:
                self._close()
                return
            # It will not be answered any more.
            cycle.disconnected = True
            cycle.message_event.set()
        status, message, rule = refusal
        kind = "api_error" if status >= 500 else "invalid_request_error"
        identifier = "req_" + random_suffix()
        error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": identifier}
        body = json.dumps(error).encode()
        advice = {408: "", 503: "retry-after: 1\r\n"}.get(status, "x-should-retry: false\r\n")
        head = (
            f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: application/json\r\n{advice}"
            f"{HEADER}: {rule}\r\n{_SECURITY}request-id: {identifier}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        if self.transport.can_write_eof():
            # Closing now, with unread bytes of the client, would reset the connection and destroy the answer.
            self.transport.write_eof()
            self.flow.resume_reading()
            self._wait("closing", self._now, _LINGER_S)
        else:
            self._close()

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not an HTTP request, and close."""
        self._refuse(_Refusal(400, msg, "conventions.not-http"))

    def _close(self) -> None:
        self.transport.close()
        self._wait("closing", self._now, _LINGER_S)

    def _abort(self) -> None:
        """End the connection now, and let the system discard unsent bytes."""
        link = self.transport.get_extra_info("socket")
        if link is not None:
            with suppress(OSError):
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)
        self.transport.abort()

    # -- slow clients -----------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """End the connection, or the request on it, if the client takes too long."""
        if now >= self._stalled_at + self._limits.write_s:
            unsent = self.transport.get_write_buffer_size()
            if unsent >= self._unsent:
                self._abort()
                return
            self._stalled_at, self._unsent = now, unsent
        if now < self._until:
            return
        self._now = now
        if self._phase == "closing":
            self._abort()
        elif self._phase == "idle":
            self._close()
        elif self.flow.read_paused:
            # It is this server that does not read: an earlier request is being answered, or this one's body is full.
            self._until = now + (self._limits.head_s if self._phase == "head" else self._limits.body_s)
        elif self._phase == "head":
            seconds, named = self._limits.head_s, "--head-timeout / WORKYARD_HEAD_TIMEOUT"
            self._refuse(
                _Refusal(408, f"Request head did not come within {seconds:g} s ({named})", "limits.head-timeout")
            )
        elif self.cycle.response_complete:
            self._close()
        else:
            seconds, named = self._limits.body_s, "--body-timeout / WORKYARD_BODY_TIMEOUT"
            self._refuse(
                _Refusal(408, f"Request body did not come within {seconds:g} s ({named})", "limits.body-timeout")
            )

    def pause_writing(self) -> None:
        """Record since when the client does not read."""
        super().pause_writing()
        self._stalled_at, self._unsent = self.loop.time(), self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """Record that the client reads again."""
        super().resume_writing()
        self._stalled_at = math.inf
