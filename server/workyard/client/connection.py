"""HTTP to a server, by the standard library: connections that are kept, answers as JSON. Knows no path of the API."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from .environment import API_HEADERS

_TIMEOUT_S = 30.0
_MOST_KEPT = 8


class WorkyardRefused(Exception):
    """A server refused what a helper asked for.

    Attributes:
        status: of HTTP.
        message: what is wrong, in the server's words.
        body: the whole answer, as JSON or text.
    """

    def __init__(self, request: Request, status: int, body: Any) -> None:
        self.status, self.body = status, body
        error = body.get("error") if isinstance(body, dict) else None
        self.message = str(error["message"]) if isinstance(error, dict) and "message" in error else f"HTTP {status}"
        super().__init__(f"{request.method} {request.path}: {status}: {self.message}")


class WorkyardUnreachable(ConnectionError):
    """No Workyard answers where one is meant to be."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to be sent.

    Attributes:
        query: parameters; those that are None are left out.
        body: JSON; a text goes as YAML.
        within_s: seconds until the answer, at the most.
        token: the credential, where it is not the workspace's API key.
    """

    method: str
    path: str
    body: Any = None
    query: Mapping[str, Any] | None = None
    within_s: float = _TIMEOUT_S
    token: str | None = field(default=None, repr=False)

    @property
    def target(self) -> str:
        """Path and query, as they stand in a request."""
        given = {name: _text(value) for name, value in (self.query or {}).items() if value is not None}
        return f"{self.path}?{urlencode(given)}" if given else self.path


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Link:
    """The connections to one server. Threads may share it; a process that is forked off gets its own connections."""

    def __init__(self, url: str, control_token: str | None = None) -> None:
        """Send requests to *url*, those to its control plane with a token: the one given, else `WORKYARD_CONTROL_TOKEN`."""
        self._control_token = control_token or os.environ.get("WORKYARD_CONTROL_TOKEN")
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"not the URL of a Workyard, which begins with http://: {url!r}")
        self.url = f"http://{parts.netloc}"
        self._host, self._port = parts.hostname, parts.port or 80
        self._kept: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False

    def send(self, request: Request, api_key: str) -> Any:
        """Send a request and return its answer: JSON, or the text where it is none.

        Raises:
            WorkyardRefused: the answer is an error.
            WorkyardUnreachable: there is no answer.
        """
        body, kind = request.body, "application/json"
        if isinstance(body, str):
            kind = "application/yaml"
        elif body is not None:
            body = json.dumps(body)
        headers = {"x-api-key": request.token or api_key, "content-type": kind, **API_HEADERS}
        if self._control_token:
            headers["workyard-control-token"] = self._control_token
        connection = self._connection()
        try:
            connection.timeout = request.within_s
            if connection.sock is not None:
                connection.sock.settimeout(request.within_s)
            connection.request(request.method, request.target, None if body is None else body.encode(), headers)
            response = connection.getresponse()
            status, content = response.status, response.read()
            form = response.headers.get_content_type()
        except (OSError, http.client.HTTPException) as error:
            self._give_back(connection, good=False)
            why = str(error) or type(error).__name__
            raise WorkyardUnreachable(f"{request.method} {request.path}: no answer from {self.url}: {why}") from error
        except BaseException:
            self._give_back(connection, good=False)
            raise
        self._give_back(connection, good=not response.will_close)
        answer = json.loads(content) if form == "application/json" else content.decode()
        if status >= 400:
            raise WorkyardRefused(request, status, answer)
        return answer

    def close(self) -> None:
        """Close the connections; whoever waits for an answer gets none."""
        with self._lock:
            self._closed = True
            kept, self._kept = self._kept, []
            busy = list(self._busy) if self._pid == os.getpid() else []
        for connection in kept:
            connection.close()
        for connection in busy:
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def _connection(self) -> http.client.HTTPConnection:
        if self._pid != os.getpid():
            # Connections and lock are those of the process that this one was forked off.
            self._lock = threading.Lock()
            for each in self._kept:
                each.close()
            self._kept, self._busy, self._pid = [], set(), os.getpid()
        with self._lock:
            if self._closed:
                raise WorkyardUnreachable(f"the emulator at {self.url} is closed")
            connection = None
            while self._kept and connection is None:
                connection = self._kept.pop()
                if _has_ended(connection):
                    connection.close()
                    connection = None
            if connection is None:
                connection = http.client.HTTPConnection(self._host, self._port)
            self._busy.add(connection)
            return connection

    def _give_back(self, connection: http.client.HTTPConnection, *, good: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            if good and not self._closed and len(self._kept) < _MOST_KEPT:
                self._kept.append(connection)
                return
        connection.close()


def _has_ended(connection: http.client.HTTPConnection) -> bool:
    """Tell whether the other end has closed a connection that nothing is asked on: only then is there something to read."""
    if connection.sock is None:
        return True
    connection.sock.settimeout(0)
    try:
        connection.sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
