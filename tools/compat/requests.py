"""What a client sent: a proxy that notes requests, and the form of them that is the same whenever it is run again."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import socketserver
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import httptools

#: Headers that say how a client speaks; the rest say which it is, and where it runs.
_HEADERS = ("accept", "content-type", "anthropic-version", "anthropic-beta", "x-stainless-helper")
_ID = re.compile(r"\b([a-z]+)_01[1-9A-HJ-NP-Za-km-z]{22}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_SESSIONS_TOKEN = "sk-ant-req"
_CHUNK = 65536


@dataclass
class Request:
    """A request as it came; names of headers are in lower case."""

    method: str = ""
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def line(self, credentials: Mapping[str, str]) -> str:
        """Return what it says, without what differs from run to run: ids, times, the contents of messages.

        Args:
            credentials: the name of each token that may have been sent.
        """
        target = urlsplit(self.target)
        query = "&".join(f"{name}={_plain(value)}" for name, value in sorted(parse_qsl(target.query)))
        said = {name: self.headers[name] for name in _HEADERS if name in self.headers}
        if "anthropic-worker-id" in self.headers:
            said["anthropic-worker-id"] = "{worker}"
        for name in ("x-api-key", "authorization"):
            if name in self.headers:
                scheme, _, token = self.headers[name].rpartition(" ")
                unknown = "{sessions token}" if token.startswith(_SESSIONS_TOKEN) else "{unknown}"
                said[name] = f"{scheme} {credentials.get(token, unknown)}".strip()
        body = json.dumps(_shape(json.loads(self.body)), sort_keys=True) if self.body else "-"
        return " | ".join(
            (
                f"{self.method} {_plain(target.path)}" + (f"?{query}" if query else ""),
                "; ".join(f"{name}: {value}" for name, value in sorted(said.items())),
                body,
            )
        )


def digest(lines: Iterable[str]) -> str:
    """Return a short hash of the distinct requests. Their order and number are left out: a worker beats and streams beside
    its tools, and polls until it is told to end."""
    return hashlib.sha256("\n".join(sorted(set(lines))).encode()).hexdigest()[:12]


def _plain(text: str) -> str:
    return _TIME.sub("{time}", _ID.sub(r"{\1}", text))


def _shape(value: Any, name: str = "") -> Any:
    """Return what kind of value it is; types, names and flags as they are."""
    if isinstance(value, dict):
        return {key: _shape(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_shape(each) for each in value]
    if isinstance(value, str) and name not in ("type", "name"):
        return "string"
    return value


class _Parser:
    """Takes the bytes of a connection apart; the callbacks are httptools'."""

    def __init__(self, requests: list[Request]) -> None:
        self._requests = requests
        self._parser = httptools.HttpRequestParser(self)
        self.feed = self._parser.feed_data
        self._now = Request()

    def on_message_begin(self) -> None:
        self._now = Request()

    def on_url(self, url: bytes) -> None:
        self._now.target += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._now.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._now.body += body

    def on_message_complete(self) -> None:
        self._now.method = self._parser.get_method().decode()
        self._requests.append(self._now)


class _Connection(socketserver.BaseRequestHandler):
    """Passes bytes on as they come, both ways, and notes the requests in them."""

    def handle(self) -> None:
        client = self.request
        parser = _Parser(self._recorder.requests)
        with socket.create_connection(self._recorder.server) as server, suppress(OSError):
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            while data := client.recv(_CHUNK):
                parser.feed(data)
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)
            back.join()

    @property
    def _recorder(self) -> Recorder:
        return cast(Recorder, self.server)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class Recorder(socketserver.ThreadingTCPServer):
    """A proxy on loopback before a server. `requests` are those that came; whoever wants a new log empties it."""

    daemon_threads = True

    def __init__(self, server_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        upstream = urlsplit(server_url)
        assert upstream.hostname is not None
        self.server = (upstream.hostname, upstream.port)
        self.requests: list[Request] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def server_close(self) -> None:
        """Take no more connections; `with` does it at its end."""
        self.shutdown()
        super().server_close()
