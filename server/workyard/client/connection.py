"""HTTP connections to a Workyard server, made with the standard library. Answers are JSON. Knows no path of the API.

The command line and the test helpers use it. It imports neither FastAPI nor Pydantic nor redis, and `http.client` only when
a request is sent, so that commands start fast.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from .environment import API_HEADERS

if TYPE_CHECKING:
    from http.client import HTTPConnection

_TIMEOUT_S = 30.0
#: How many idle connections to keep open.
_MOST_IDLE = 8


class WorkyardRefused(Exception):
    """The server answered a request with an error.

    Attributes:
        status: the HTTP status.
        message: the error message of the server.
        body: the whole answer, as JSON or text.
    """

    def __init__(self, request: Request, status: int, body: Any) -> None:
        self.status, self.body = status, body
        error = body.get("error") if isinstance(body, dict) else None
        if isinstance(error, dict) and "message" in error:
            self.message = str(error["message"])
        else:
            self.message = f"HTTP {status} without an error message: is this a Workyard server?"
        super().__init__(f"{request.method} {request.path}: {status}: {self.message}")


class WorkyardUnreachable(ConnectionError):
    """No Workyard server answers at the URL."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to send.

    Attributes:
        query: the query parameters; those that are None are left out.
        body: sent as JSON; a text is sent as YAML.
        within_s: how many seconds to wait for the answer.
        token: the credential; None: the API key of the workspace.
        as_text: whether the answer is plain text instead of JSON.
    """

    method: str
    path: str
    body: Any = None
    query: Mapping[str, Any] | None = None
    within_s: float = _TIMEOUT_S
    token: str | None = field(default=None, repr=False)
    as_text: bool = False

    @property
    def target(self) -> str:
        """The path with its query."""
        query = {name: _text(value) for name, value in (self.query or {}).items() if value is not None}
        return f"{self.path}?{urlencode(query)}" if query else self.path


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Connection:
    """The connections to one server. Threads may share it; a forked process opens connections of its own.

    Attributes:
        url: the URL of the server, without a slash at its end.
    """

    def __init__(self, url: str, control_token: str | None = None) -> None:
        """Prepare to send requests to *url*; the first request opens a connection.

        Args:
            control_token: the token for the control plane; None: the variable `WORKYARD_CONTROL_TOKEN`.

        Raises:
            ValueError: *url* is not an HTTP URL, or the token cannot be sent in a header.
        """
        self._control_token = control_token or os.environ.get("WORKYARD_CONTROL_TOKEN")
        if self._control_token and not all("!" <= letter <= "~" for letter in self._control_token):
            raise ValueError("WORKYARD_CONTROL_TOKEN: only ASCII letters, digits and punctuation are allowed")
        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{url!r} is not the URL of a Workyard server: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of a Workyard server: it must begin with http:// or https://")
        self._prefix = parts.path.rstrip("/")
        self.url = f"{parts.scheme}://{parts.netloc}{self._prefix}"
        self._tls, self._host, self._port = parts.scheme == "https", parts.hostname, port
        self._idle: list[HTTPConnection] = []
        self._busy: set[HTTPConnection] = set()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False

    def send(self, request: Request, api_key: str) -> Any:
        """Send a request and return its answer: JSON, or text if the request asks for text.

        Raises:
            ValueError: the API key cannot be sent in a header.
            WorkyardRefused: the answer is an error.
            WorkyardUnreachable: there is no answer, or it does not come from a Workyard server.
        """
        from http.client import HTTPException

        headers = self._headers(request, api_key)
        body = request.body if request.body is None or isinstance(request.body, str) else json.dumps(request.body)
        connection = self._take()
        try:
            connection.timeout = request.within_s
            if connection.sock is not None:
                connection.sock.settimeout(request.within_s)
            target = self._prefix + request.target
            connection.request(request.method, target, None if body is None else body.encode(), headers)
            response = connection.getresponse()
            status, content = response.status, response.read()
            form = response.headers.get_content_type()
        except (OSError, HTTPException) as error:
            self._give_back(connection, good=False)
            raise self._unreachable(request, f"no answer from {self.url}: {error or type(error).__name__}") from error
        except BaseException:
            self._give_back(connection, good=False)
            raise
        self._give_back(connection, good=not response.will_close)
        try:
            answer = json.loads(content) if form == "application/json" else content.decode()
        except ValueError:
            raise self._unreachable(request, f"the answer from {self.url} cannot be read") from None
        if status >= 400:
            raise WorkyardRefused(request, status, answer)
        if isinstance(answer, str) and form != "application/json" and not request.as_text:
            raise self._unreachable(request, f"the answer from {self.url} is not JSON: is this a Workyard server?")
        return answer

    def close(self) -> None:
        """Close all connections; a request that still waits for its answer fails."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy) if self._pid == os.getpid() else []
        for connection in idle:
            connection.close()
        for connection in busy:
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def _headers(self, request: Request, api_key: str) -> dict[str, str]:
        kind = "yaml" if isinstance(request.body, str) else "json"
        token = request.token or api_key
        try:
            token.encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError("the API key has characters that cannot be sent in a header") from None
        headers = {"x-api-key": token, "content-type": f"application/{kind}", **API_HEADERS}
        if self._control_token:
            headers["workyard-control-token"] = self._control_token
        return headers

    def _take(self) -> HTTPConnection:
        """Return an idle connection that is still open, or a new one."""
        if self._pid != os.getpid():
            # A forked process: connections and lock belong to its parent.
            self._lock = threading.Lock()
            for each in self._idle:
                each.close()
            self._idle, self._busy, self._pid = [], set(), os.getpid()
        with self._lock:
            if self._closed:
                raise WorkyardUnreachable(f"the emulator at {self.url} is closed")
            connection = None
            while self._idle and connection is None:
                connection = self._idle.pop()
                if _has_ended(connection):
                    connection.close()
                    connection = None
            if connection is None:
                connection = self._new()
            self._busy.add(connection)
            return connection

    def _new(self) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        return (HTTPSConnection if self._tls else HTTPConnection)(self._host, self._port)

    def _give_back(self, connection: HTTPConnection, *, good: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            if good and not self._closed and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _unreachable(self, request: Request, reason: str) -> WorkyardUnreachable:
        return WorkyardUnreachable(f"{request.method} {request.path}: {reason}")


def _has_ended(connection: HTTPConnection) -> bool:
    """Tell whether the server has closed an idle connection: only then is there something to read."""
    if connection.sock is None:
        return True
    connection.sock.settimeout(0)
    try:
        connection.sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError as error:
        # TLS reports "nothing to read" by an error of its own.
        return type(error).__name__ != "SSLWantReadError"
    return True
