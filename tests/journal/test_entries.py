"""Entries of the journal: what they take of a request, that no way of keeping one changes it, and what is masked.
Source: docs/journal.md.
"""

from __future__ import annotations

import json
from typing import Any, get_args, get_type_hints

import pytest

from workyard.journal.entry import Entry, FromClient, decode, encode, entry_of, join, pack, unpack
from workyard.journal.masking import describe, mask
from workyard.wire.exchange import Exchange
from workyard_store.access import Caller

pytestmark = pytest.mark.no_redis

TOKEN = "a token/with 'odd' characters"
HEADERS = [
    (b"host", b"127.0.0.1"),
    (b"x-api-key", TOKEN.encode()),
    (b"user-agent", b"agent"),
    (b"user-agent", b"another"),
    (b"anthropic-worker-id", b"worker"),
    (b"x-stainless-helper", b"helper"),
    (b"x-stainless-retry-count", b"2"),
]


def fields(entry: Entry) -> dict[str, Any]:
    """Return an entry's fields by their names."""
    return {name: getattr(entry, name) for name in Entry.__struct_fields__}


def ended(*, routed: bool = True, status: int = 200, answer: bytes = b"{}", **scope: Any) -> Exchange:
    """Return a request that has ended."""
    ids = {"environment_id": "env_1", "work_id": "work_1", "session_id": "session_1"}
    exchange = Exchange(
        {
            "type": "http",
            "method": "POST",
            "path": "/v1/environments/env_1/work",
            "query_string": b"a=b",
            "headers": HEADERS,
            "path_params": ids,
            **scope,
        }
    )
    exchange.begin(_nothing, 4096, lambda _: None)
    if routed:
        exchange.caller = Caller(TOKEN)
        exchange.record_call("ack", asks=True).faults.append("fault_1")
    exchange.body, exchange.status, exchange.rule = '{"b": "é"}'.encode(), status, "work.ack"
    exchange.content_type, exchange.sent, exchange.sent_bytes = b"application/json", answer, len(answer)
    exchange.end(cut=True)
    return exchange


async def _nothing(message: Any) -> None:
    """Send nothing."""


def test_an_entry_has_each_thing_in_its_place() -> None:
    """Entries are made by position: each field has a value that no other has."""
    exchange = ended(status=409)
    assert fields(entry_of(exchange)) == {
        "at": int(exchange.at * 1e6),
        "took": int(exchange.took * 1e6),
        "on": "ack",
        "method": "POST",
        "path": "/v1/environments/env_1/work",
        "query": "a=b",
        "status": 409,
        "cut": True,
        "request_id": exchange.request_id,
        "environment_id": "env_1",
        "work_id": "work_1",
        "session_id": "session_1",
        "worker_id": "worker",
        "user_agent": "agent",
        "helper": "helper",
        "credential": exchange.caller.label,
        "retries": 2,
        "faults": ["fault_1"],
        "error_type": "",
        "error_message": "",
        "rule": "work.ack",
        "received": 11,
        "sent": 2,
        "request_body": '{"b": "é"}',
        "response_body": "{}",
        "began": exchange.began,
        "number": 0,
    }


def test_a_request_without_a_route_tells_its_user_agent_alone() -> None:
    """And whose token it came with."""
    entry = entry_of(ended(routed=False))
    assert (entry.on, entry.user_agent, entry.worker_id, entry.helper, entry.retries, entry.faults) == (
        "unknown", "agent", "", "", None, [],
    )  # fmt: skip
    assert entry.credential == Caller(TOKEN).label


def test_no_way_of_keeping_an_entry_changes_it() -> None:
    """Packed, and stored with others; a batch is numbered, and without bodies where nobody asks for them."""
    entry = entry_of(ended(path='/v1/"\\\x00\u2028😀', query_string=b"\xff"))
    assert fields(unpack(pack(entry))) == fields(entry)
    found = decode(7, join([encode(entry), encode(entry_of(ended())), encode(entry)]), bodies=True)
    assert [each.number for each in found] == [7, 8, 9]
    entry.number = 9
    assert fields(found[2]) == fields(entry)
    assert {each.request_body + each.response_body for each in decode(1, encode(entry), bodies=False)} == {""}


def test_an_entry_of_fewer_fields_can_be_read() -> None:
    """One more field at the end has its default in entries that were stored before it came; so has `number`."""
    entry = entry_of(ended())
    stored = json.loads(encode(entry))
    last, default = Entry.__struct_fields__[-1], Entry.__struct_defaults__[-1]
    assert fields(decode(0, json.dumps(stored[:-1]), bodies=True)[0]) == fields(entry) | {last: default}
    longer = [*stored, "of a later version"]
    assert fields(decode(0, json.dumps(longer), bodies=True)[0]) == fields(entry)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        (name, mark.most)
        for name, hint in get_type_hints(Entry, include_extras=True).items()
        for mark in get_args(hint)
        if isinstance(mark, FromClient)
    ],
)
def test_what_a_client_chose_is_masked_and_cut(name: str, most: int) -> None:
    """Each text that is declared so: the request's own token, tokens of the known forms, line breaks."""
    entry = entry_of(ended())
    setattr(entry, name, f"{TOKEN}\nsk-ant-oat01-abc\x1fand {'x' * 2000}")
    mask(entry, TOKEN, 100)
    assert getattr(entry, name) == f"*** sk-ant-*** and {'x' * 2000}"[:most]


def test_bodies_are_masked_and_cut_by_their_bytes() -> None:
    """Without a room for bodies they are empty; what is shown at once is what would be stored."""
    exchange = ended(status=404, answer='{"error":{"type":"t","message":"m é"},"token":"hidden"}'.encode())
    entry = describe(exchange, 4096)
    assert (entry.error_type, entry.error_message, entry.began) == ("t", "m é", 0.0)
    assert entry.response_body == '{"error":{"type":"t","message":"m é"},"token":"***"}'
    assert describe(exchange, 34).response_body == '{"error":{"type":"t","message":"m '
    assert describe(exchange, 0).request_body == ""
    assert "hidden" not in repr(entry)
