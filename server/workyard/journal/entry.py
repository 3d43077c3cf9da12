"""One request as the journal stores it. The type defines how an entry is packed, stored and parsed.

An entry is made when its request has ended (`entry_of`), packed with its secrets (`pack`), masked when it is written
(`masking.py`), stored as a JSON array in the order of the fields (`encode`), and parsed again (`decode`).

To record another property of requests, add a field with a default at the end, and set it in `entry_of`: entries stored
before get the default. Declare a text that a client chose as `Annotated[str, FromClient(most)]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from starlette.types import Scope

from workyard_store.calls import ApiCall

from ..wire.exchange import TEXTS, ClientHeaders, Exchange

_MOST_RETRIES = 9


@dataclass(frozen=True, slots=True)
class FromClient:
    """Marks a text that comes from a client or an answer: it is masked, then cut to *most* characters. *is_query*: it may
    contain a secret in escaped form."""

    most: int
    is_query: bool = False


class Entry(msgspec.Struct, array_like=True, gc=False, eq=False):
    """One request to the API.

    Attributes:
        at: when it came, wall time in microseconds; `took`: how long the answer took, microseconds.
        on: the operation, `unknown` without a route.
        method, path, query: as they came.
        status: of the answer, 0 if there was none.
        cut: whether the answer was not completed, or the client left before.
        request_id: `req_…`.
        environment_id, work_id, session_id: as the path names them or the answer says; else empty.
        worker_id, user_agent, helper, credential: as `workyard_store.calls.ApiCall` has them.
        retries: the number of earlier tries that the client reports, or None.
        faults: names of the fault rules that were applied.
        error_type, error_message: of an answer that is an error, else empty; known once the entry is masked.
        rule: id of the ledger rule that such an answer names.
        received, sent: bytes of the request's body, as far as it was read, and of the answer's.
        request_body, response_body: the first bytes of them, as text.
        began: when it came, seconds on the performance counter of the process that answers; 0 once it is masked.
        number: its number in the journal, once it is read from there; else 0.
    """

    at: int
    took: int
    on: str
    method: str
    path: Annotated[str, FromClient(512)]
    query: Annotated[str, FromClient(1024, is_query=True)]
    status: int
    cut: bool
    request_id: str
    environment_id: Annotated[str, FromClient(256)]
    work_id: Annotated[str, FromClient(256)]
    session_id: Annotated[str, FromClient(256)]
    worker_id: Annotated[str, FromClient(256)]
    user_agent: Annotated[str, FromClient(256)]
    helper: Annotated[str, FromClient(256)]
    credential: str
    retries: int | None
    faults: list[str]
    error_type: Annotated[str, FromClient(256)]
    error_message: Annotated[str, FromClient(500)]
    rule: str
    received: int
    sent: int
    request_body: str
    response_body: str
    began: float
    number: int = 0

    def __repr__(self) -> str:
        """Show nothing that may hold a secret."""
        return f"Entry({self.request_id}, {self.status})"


def entry_of(exchange: Exchange) -> Entry:
    """Return the unmasked entry of a request that has ended."""
    scope, api_call, client = exchange.scope, exchange.api_call, exchange.client
    if api_call is None or client is None:
        client = ClientHeaders(user_agent=_user_agent(scope))
        api_call = ApiCall(exchange.operation, exchange.request_id, exchange.caller.label)
    retries, body = client.retries, exchange.body
    answer = exchange.sent if exchange.content_type.startswith(TEXTS) else b""
    # In the order of the fields, not by their names: for so many, looking up names takes longer than all the rest.
    return Entry(
        int(exchange.at * 1e6),
        int(exchange.took * 1e6),
        api_call.on,
        scope["method"],
        scope["path"],
        scope["query_string"].decode("latin-1"),
        exchange.status,
        exchange.cut,
        exchange.request_id,
        api_call.environment_id,
        api_call.work_id,
        api_call.session_id,
        client.worker_id,
        client.user_agent,
        client.helper,
        api_call.credential,
        int(retries) if retries.isdecimal() and len(retries) <= _MOST_RETRIES else None,
        api_call.faults,
        "",
        "",
        exchange.rule if exchange.status >= 400 else "",
        exchange.received,
        exchange.sent_bytes,
        body.decode("utf-8", "replace") if body else "",
        answer.decode("utf-8", "replace"),
        exchange.began,
    )


def _user_agent(scope: Scope) -> str:
    found = (value for name, value in scope["headers"] if name == b"user-agent")
    return next(found, b"").decode("latin-1")


_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(Entry)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[Entry])


def pack(entry: Entry) -> bytes:
    """Return an entry as one object, which never leaves the process. Many small objects, kept for seconds, would fragment the
    memory that later requests need."""
    return _packer.encode(entry)


def unpack(packed: bytes) -> Entry:
    """Return an entry that `pack` packed."""
    return _unpacker.decode(packed)


def encode(entry: Entry) -> str:
    """Return a masked entry as it is stored."""
    return _encoder.encode(entry).decode()


def join(texts: list[str]) -> str:
    """Return stored entries as the text of a batch."""
    return ",".join(texts)


def decode(first: int, batch: str, *, bodies: bool) -> list[Entry]:
    """Return the entries of a batch, numbered from *first* on; without *bodies* they are empty."""
    entries = _decoder.decode(f"[{batch}]")
    for number, entry in enumerate(entries, first):
        entry.number = number
        if not bodies:
            entry.request_body = entry.response_body = ""
    return entries
