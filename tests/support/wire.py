"""A client that sends any bytes: no library between a test and the port. Reads HTTP/1.1 answers, nothing else."""

from __future__ import annotations

import json
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

#: An answer, or the end of the connection, must come within this.
HANGS_AFTER_S = 2.0
#: Silence after which the client tells a server that waits for the rest of a request that no more comes.
_QUIET_S = 0.04
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]*")


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body's value."""
        return json.loads(self.body)


class Connection:
    """One connection, for any number of requests."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=HANGS_AFTER_S)
        self._buffer = b""
        self.closed = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self.closed = True
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes; a server that has already hung up is no failure, it may have answered before."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.closed = True

    def _receive(self, seconds: float) -> bool | None:
        """Read once; return whether anything came, None for silence."""
        self._socket.settimeout(max(seconds, 0.001))
        try:
            data = self._socket.recv(262_144)
        except TimeoutError:
            return None
        except OSError:
            data = b""
        self._buffer += data
        return bool(data)

    def reply(self, method: str = "GET") -> Reply | None:
        """Return the next answer, None if the server closes instead; interim ones (100) are left out.

        Raises:
            AssertionError: neither came in time, or it is not HTTP.
        """
        deadline = time.monotonic() + HANGS_AFTER_S
        while True:
            reply = self._parsed(method)
            if reply is not None and reply.status != 100:
                return reply
            if reply is not None:
                continue
            came = self._receive(deadline - time.monotonic())
            assert came is not None, f"no answer within {HANGS_AFTER_S} s; got only {self._buffer!r}"
            if not came:
                assert not self._buffer, f"closed in the middle of an answer: {self._buffer!r}"
                self.closed = True
                return None

    def rest(self) -> list[Reply]:
        """Return all answers until the server closes; once it is silent, say that no more requests come.

        Raises:
            AssertionError: it does not close in time, or what came is not HTTP.
        """
        replies = []
        while (came := self._receive(_QUIET_S)) is True:
            pass
        if came is None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + HANGS_AFTER_S
            while came is not False:
                came = self._receive(deadline - time.monotonic())
                assert came is not None, f"still open {HANGS_AFTER_S} s after the client has finished"
        self.closed = True
        while (reply := self._parsed("GET")) is not None:
            replies.append(reply)
        assert not self._buffer, f"not an answer: {self._buffer!r}"
        return [reply for reply in replies if reply.status != 100]

    def _parsed(self, method: str) -> Reply | None:
        """Take a whole answer out of the buffer."""
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return None
        first, *lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(first)
        assert status is not None, f"not a status line: {first!r}"
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.decode("ascii").partition(": ")
            assert colon, f"not a header: {line!r}"
            assert name not in headers, f"sent twice: {name}"
            headers[name] = value
        length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
        assert "transfer-encoding" not in headers
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        return Reply(int(status[1]), headers, rest[:length])
