"""The requests to this process: those being answered, how many there were and how long they took, and those answered
that the journal has not written yet. Owns no connection and no rule; what it does for each request takes microseconds.
"""

from __future__ import annotations

import logging
import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Protocol

from starlette.types import Message, Scope, Send

from workyard_store.calls import ApiCall

from .security_headers import ALWAYS, OF_DATA, POLICY

_log = logging.getLogger("workyard")

#: Where a request keeps what is known of it once it has a route.
API_CALL = "workyard.call"
#: Where it keeps who made it (`workyard_store.access.Caller`).
CALLER = "workyard.caller"
#: Where a request keeps what its own trace is called, if it has one (W3C Trace Context).
TRACEPARENT = "workyard.traceparent"
#: Where a request keeps the body that was read.
REQUEST_BODY = "workyard.body"
#: Where a request keeps the transport of its connection, if it came by one.
CONNECTION = "workyard.connection"

#: Where a request keeps headers for its answer, whatever that is.
ADDED_HEADERS = "workyard.wire.envelope"

#: Where it keeps the id of the ledger's rule that its answer is about, if that is an error.
RULE = "workyard.rule"

#: What a request without a route is called.
UNKNOWN = "unknown"
OTHER = "other"
#: Upper bounds of the histogram of durations, seconds. A poll may take `block_ms`, 999 at most.
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
#: What the content type of a text begins with.
TEXTS = (b"application/json", b"text/")
#: Bytes of an error's body that are kept whatever the setting is: it says what was wrong.
_ERROR_BYTES = 2048
#: Bytes that are looked at behind those that are kept: a secret may begin in front of them.
_MARGIN_BYTES = 512
#: Requests that wait to be written; of more, some are lost.
_MOST_KEPT = 5000
#: Requests that wait, at which whoever writes them is told again.
MANY_KEPT = 4096
_API = "/v1"

#: What the workspace of a request is found by: the environment that it is about, or an empty string, and its token.
Names = tuple[str, str | None]


class Kept:
    """The requests of one caller about one environment that were answered and wait to be written, the last *most* of them.

    Attributes:
        requests: each packed (`workyard.entries`): one object, of which Python's garbage collector knows nothing. What stays
            for seconds of the thirty that a request is made of would lie where later requests want room.
        came: how many there were.
        oldest: when the first of them began, seconds on the performance counter.
        owner: their workspace, None while nobody has looked it up.
    """

    __slots__ = ("came", "oldest", "owner", "requests")

    def __init__(self, most: int) -> None:
        self.requests = deque[bytes](maxlen=most)
        self.came = 0
        self.oldest = math.inf
        self.owner: str | None = None


class Exchange:
    """One request and its answer.

    Attributes:
        scope: of the request; `is_of_the_api`: whether it is one to the emulated API.
        began: when it came, seconds on the performance counter; `at`: the same in wall time, seconds.
        took: how long its answer took, seconds.
        status: of the answer; 0 while there is none.
        cut: whether the answer did not come to its end, or the client was gone before.
        content_type: of the answer.
        sent: the first bytes of the answer's body, and `sent_bytes` how many there were.
        received: how many bytes of the request's body were read.
    """

    __slots__ = (
        "_ended",
        "_header",
        "_keep",
        "_send",
        "_traffic",
        "at",
        "began",
        "content_type",
        "cut",
        "is_of_the_api",
        "received",
        "scope",
        "sent",
        "sent_bytes",
        "status",
        "took",
    )

    def __init__(self, traffic: Traffic, scope: Scope, send: Send, identifier: str) -> None:
        self._traffic = traffic
        self._send = send
        self._header = (b"request-id", identifier.encode())
        self._keep = traffic.body_bytes
        self._ended = False
        self.scope = scope
        path: str = scope["path"]
        self.is_of_the_api = path.startswith(_API) and path[3:4] in ("", "/")
        self.began = time.perf_counter()
        self.at = time.time()
        self.took = 0.0
        self.status = 0
        self.cut = False
        self.sent = b""
        self.sent_bytes = 0
        self.content_type = b""
        self.received = 0

    @property
    def call(self) -> ApiCall | None:
        """Return what is known of the call, if it has a route."""
        found: ApiCall | None = self.scope.get(API_CALL)
        return found

    @property
    def on(self) -> str:
        """Return the operation; of what has no route `unknown`, and `other` outside the API."""
        call = self.call
        if call is not None:
            return call.on
        return UNKNOWN if self.is_of_the_api else OTHER

    async def send(self, message: Message) -> None:
        """Pass a message of the answer on; the answer counts as given when its last is about to be sent."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: list[tuple[bytes, bytes]] = message["headers"]
            more: tuple[tuple[bytes, bytes], ...] = OF_DATA
            for name, value in headers:
                if name == b"content-type":
                    self.content_type = value
                elif name == POLICY:
                    more = ALWAYS
            message["headers"] = [*headers, *more, self._header]
            added = self.scope.get(ADDED_HEADERS)
            if added is not None:
                message["headers"] += [(name.encode(), value.encode()) for name, value in added.items()]
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
                connection = self.scope.get(CONNECTION)
                self.end(cut=connection is not None and connection.is_closing())
        await self._send(message)

    def end(self, *, cut: bool) -> None:
        """Note that the answer is given, or will never be."""
        if not self._ended:
            self._ended, self.cut = True, cut
            self.took = time.perf_counter() - self.began
            body = self.scope.get(REQUEST_BODY)
            if body:
                self.received = len(body)
                self.scope[REQUEST_BODY] = body[: self._keep]
            self._traffic.ended(self)


class Telling(Protocol):
    """Whoever is told of each request."""

    def begin(self, scope: Scope) -> None:
        """Note that a request came."""

    def end(self, exchange: Exchange) -> None:
        """Note that it was answered, or never will be."""


class Traffic:
    """All requests of this process.

    Attributes:
        body_bytes: how much of each body is kept for the journal, and looked at.
        in_flight: the requests being answered, in the order they came.
        counts: (operation, status) → answers; a status of 0: cut before there was one.
        durations: operation → how many took at most as long as each of `BUCKETS_S`, in the last place those that took longer.
        seconds: operation → how long they took in all.
        faults: operation → how often a fault rule was applied.
        kept: requests to the API that were answered and wait to be written, if somebody writes them; `held`: how many.
        told: who is told of each request, or None.
        on_kept: called when one waits of a caller and an environment of which none did, and when `MANY_KEPT` do.
        lost: how many of these were thrown away, and `lost_at` when that was last, wall time in seconds.
    """

    def __init__(self, body_bytes: int, keep: Callable[[Exchange], tuple[Names, bytes]] | None, most: int) -> None:
        """Look at *body_bytes* of each body; *keep*: how what was answered is kept for the journal, None: there is none;
        *most*: how many of these the journal has room for."""
        self.body_bytes = body_bytes + _MARGIN_BYTES if body_bytes else 0
        self.told: Telling | None = None
        self.in_flight: dict[Exchange, None] = {}
        self.counts: dict[tuple[str, int], int] = {}
        self.durations: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = {}
        self.faults: dict[str, int] = {}
        self.kept: dict[Names, Kept] = {}
        self.held = 0
        self.lost = 0
        self.lost_at = 0.0
        self.on_kept: Callable[[], None] = nobody
        self._keep = keep
        self._most = most

    def begin(self, scope: Scope, send: Send, identifier: str) -> Exchange:
        """Take note of a request; whoever answers it calls its `end`."""
        exchange = Exchange(self, scope, send, identifier)
        if self.told is not None:
            self.told.begin(scope)
        self.in_flight[exchange] = None
        return exchange

    def ended(self, exchange: Exchange) -> None:
        """Count a request that was answered, and keep it for the journal."""
        del self.in_flight[exchange]
        call = exchange.call
        on = exchange.on if call is None else call.on
        key = on, exchange.status
        self.counts[key] = self.counts.get(key, 0) + 1
        spread = self.durations.get(on)
        if spread is None:
            spread = self.durations[on] = [0] * (len(BUCKETS_S) + 1)
            self.seconds[on] = 0.0
        spread[bisect_left(BUCKETS_S, exchange.took)] += 1
        self.seconds[on] += exchange.took
        if call is not None and call.faults:
            self.faults[on] = self.faults.get(on, 0) + len(call.faults)
        if self.told is not None:
            try:
                self.told.end(exchange)
            except Exception:
                _log.exception("a request could not be told of")
        if self._keep is not None and exchange.is_of_the_api:
            try:
                names, packed = self._keep(exchange)
            except Exception:
                _log.exception("a request could not be put into the journal")
                self.lose(1)
                return
            kept = self.kept.get(names)
            if kept is None:
                kept = self.kept[names] = Kept(self._most)
                self.on_kept()
            kept.came += 1
            if exchange.began < kept.oldest:
                kept.oldest = exchange.began
            is_full = len(kept.requests) == self._most
            kept.requests.append(packed)
            if not is_full:
                self.held += 1
                if self.held == MANY_KEPT:
                    self.on_kept()
                elif self.held > _MOST_KEPT:
                    self._make_room()

    def _make_room(self) -> None:
        names, first = next(iter(self.kept.items()))
        first.requests.popleft()
        if not first.requests:
            del self.kept[names]
        self.held -= 1
        self.lose(1)

    def take(self, names: Names) -> Kept:
        """Return requests that wait, and keep them no longer."""
        kept = self.kept.pop(names)
        self.held -= len(kept.requests)
        return kept

    def lose(self, number: int) -> None:
        """Note that requests were thrown away that the journal should have had."""
        self.lost += number
        self.lost_at = time.time()

    def oldest(self) -> float:
        """Return when the oldest of the requests came that are being answered, on the performance counter."""
        first = next(iter(self.in_flight), None)
        return time.perf_counter() if first is None else first.began


def nobody() -> None:
    """Do nothing with what is kept: nobody writes it."""
