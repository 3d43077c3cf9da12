"""The record of one request and its answer: our only object in the ASGI scope.

Each layer adds its part: the connection (`serving`), the trace (`observability/telemetry.py`), the caller and the
operation (`checks`), the body (`bodies.py`), the rule of an error (`errors.py`). Subscribers to ended requests
(`traffic.py`) read it there.

To record one more request header, add a field to `ClientHeaders` and the header's name to `_CLIENT_HEADERS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from starlette.datastructures import Headers
from starlette.types import Message, Scope, Send

from workyard_store.access import Caller
from workyard_store.calls import ApiCall
from workyard_store.ids import random_suffix

from .security_headers import ALWAYS, OF_DATA, POLICY
from .traces import is_traceparent

#: The key of the scope under which a request has its `Exchange`.
EXCHANGE = "workyard.exchange"

#: The operation of a request to the API without a route, and of any other request without one.
UNKNOWN = "unknown"
OTHER = "other"
#: How the content type of a text begins.
TEXTS = (b"application/json", b"text/")
#: Bytes of an error's body that are always kept, whatever the setting: they describe the error.
_ERROR_BYTES = 2048
_API = "/v1"


class ClientHeaders(NamedTuple):
    """The recorded headers of a request: the first value of each, an empty string where it is absent.

    Attributes:
        worker_id: `Anthropic-Worker-ID`.
        user_agent: `User-Agent`.
        helper: `x-stainless-helper`, which the SDKs' own workers and pollers send.
        retries: `x-stainless-retry-count`.
        traceparent: `traceparent` (W3C Trace Context), whatever it is.
    """

    worker_id: str = ""
    user_agent: str = ""
    helper: str = ""
    retries: str = ""
    traceparent: str = ""


#: The names of these headers, in the order of the fields.
_CLIENT_HEADERS = (
    b"anthropic-worker-id",
    b"user-agent",
    b"x-stainless-helper",
    b"x-stainless-retry-count",
    b"traceparent",
)


class Connection(Protocol):
    """The connection of a request, as far as a request needs it."""

    def is_closing(self) -> bool:
        """Tell whether it is closed or about to be."""

    def close(self) -> None:
        """Close it."""


class Exchange:
    """One request and its answer.

    While the request is being answered, its scope refers to the exchange and the exchange to the scope; `Envelope` takes
    it out of the scope in the end, so that neither waits for Python's garbage collector.

    Attributes:
        scope: of the request; `is_of_the_api`: whether it is one to the emulated API.
        connection: its connection, None outside of our own server.
        request_id: `req_…`.
        began: when it came, seconds on the performance counter; `at`: the same in wall time, seconds.
        api_call: the part that the store needs, once the request has a route.
        client: its recorded headers, without the caller's token; without a route nothing but the user agent.
        body: what was read of its body; in the end the first bytes of that, and `received` how many there were.
        traceparent: the name of the server's own span for it, if there is one (W3C Trace Context); `span`: that span.
        rule: id of the ledger rule that its answer names, if that is an error.
        took: how long its answer took, seconds.
        status: of the answer; 0 before there is one.
        cut: whether the answer was not completed, or the client left before.
        content_type: of the answer.
        sent: the first bytes of the answer's body, and `sent_bytes` how many there were.
    """

    __slots__ = (
        "_added",
        "_caller",
        "_ended",
        "_keep",
        "_on_end",
        "_send",
        "api_call",
        "at",
        "began",
        "body",
        "client",
        "connection",
        "content_type",
        "cut",
        "is_of_the_api",
        "received",
        "request_id",
        "rule",
        "scope",
        "sent",
        "sent_bytes",
        "span",
        "status",
        "took",
        "traceparent",
    )

    def __init__(self, scope: Scope, connection: Connection | None = None) -> None:
        self.scope = scope
        self.connection = connection
        self.request_id = "req_" + random_suffix()
        path: str = scope["path"]
        self.is_of_the_api = path.startswith(_API) and path[3:4] in ("", "/")
        self.began = time.perf_counter()
        self.at = time.time()
        self.api_call: ApiCall | None = None
        self.client: ClientHeaders | None = None
        self.body = b""
        self.received = 0
        self.traceparent = ""
        self.span: Any = None
        self.rule = ""
        self.took = 0.0
        self.status = 0
        self.cut = False
        self.content_type = b""
        self.sent = b""
        self.sent_bytes = 0
        self._caller: Caller | None = None
        self._added: dict[str, str] | None = None
        self._ended = False

    # -- the request ------------------------------------------------------------------------------------------

    @property
    def caller(self) -> Caller:
        """The caller: as the route determines it, or from the headers alone if there is no route."""
        if self._caller is None:
            self._caller = Caller(token_of(Headers(scope=self.scope)))
        return self._caller

    @caller.setter
    def caller(self, caller: Caller) -> None:
        self._caller = caller

    @property
    def operation(self) -> str:
        """The operation; without a route `unknown`, and `other` outside the API."""
        if self.api_call is not None:
            return self.api_call.on
        return UNKNOWN if self.is_of_the_api else OTHER

    def record_call(self, operation: str, *, asks: bool) -> ApiCall:
        """Record the operation of the request, after `caller` was set; return the part that the store needs.
        *asks*: whether a script has yet to look for fault rules on its behalf.
        """
        caller = self.caller
        client = self.client = ClientHeaders(*map(caller.masked, _first_values(self.scope)))
        named = self.scope["path_params"].get
        self.api_call = ApiCall(
            on=operation,
            request_id=self.request_id,
            credential=caller.label,
            worker_id=client.worker_id,
            user_agent=client.user_agent,
            helper=client.helper,
            traceparent=self.traceparent or (client.traceparent if is_traceparent(client.traceparent) else ""),
            environment_id=named("environment_id", ""),
            work_id=named("work_id", ""),
            session_id=named("session_id", ""),
            asks=asks,
        )
        return self.api_call

    # -- the answer -------------------------------------------------------------------------------------------

    def add_header(self, name: str, value: str) -> None:
        """Add a header to whatever answer the request gets, an error too; several values of one name make a list."""
        added = self._added = self._added or {}
        added[name] = f"{added[name]}, {value}" if name in added else value

    def begin(self, send: Send, keep: int, on_end: Callable[[Exchange], None]) -> None:
        """Let the answer go through `send`; keep the first *keep* bytes of each body, and call *on_end* in the end."""
        self._send = send
        self._keep = keep
        self._on_end = on_end

    async def send(self, message: Message) -> None:
        """Pass on a message of the answer; the answer counts as given when its last message is about to be sent."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: list[tuple[bytes, bytes]] = message["headers"]
            more: tuple[tuple[bytes, bytes], ...] = OF_DATA
            for name, value in headers:
                if name == b"content-type":
                    self.content_type = value
                elif name == POLICY:
                    more = ALWAYS
            message["headers"] = [*headers, *more, (b"request-id", self.request_id.encode())]
            if self._added is not None:
                message["headers"] += [(name.encode(), value.encode()) for name, value in self._added.items()]
            if self.status >= 400:
                self._keep = max(self._keep, _ERROR_BYTES)
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            if body:
                room = self._keep - len(self.sent)
                if room > 0:
                    self.sent = self.sent + body[:room] if self.sent else body[:room]
                self.sent_bytes += len(body)
            if not message.get("more_body", False):
                self.end(cut=self.connection is not None and self.connection.is_closing())
        await self._send(message)

    def end(self, *, cut: bool) -> None:
        """Record that the answer was given, or will never be."""
        if not self._ended:
            self._ended, self.cut = True, cut
            self.took = time.perf_counter() - self.began
            if self.body:
                self.received = len(self.body)
                self.body = self.body[: self._keep]
            self._on_end(self)


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange of the request that a scope belongs to, while it is being answered."""
    exchange: Exchange = scope[EXCHANGE]
    return exchange


def token_of(headers: Headers) -> str | None:
    """Return the token of a request: `x-api-key`, else the bearer token; an empty one counts as absent.

    Rule: `credentials.both-headers`.
    """
    key = headers.get("x-api-key", "").strip()
    if key:
        return key
    scheme, _, value = headers.get("authorization", "").strip().partition(" ")
    return (value.strip() or None) if scheme.lower() == "bearer" else None


def _first_values(scope: Scope) -> list[str]:
    """Return the first value of each recorded header."""
    found = dict.fromkeys(_CLIENT_HEADERS, "")
    for name, value in scope["headers"]:
        if name in found:
            found[name] = found[name] or value.decode("latin-1")
    return list(found.values())
