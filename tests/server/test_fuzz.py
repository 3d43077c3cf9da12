"""Whatever comes in at the port: an answer in the API's form or the end of the connection; never a 5xx, never a hang,
never an error in the log. Rules: `conventions.*`; the shapes are those of the OpenAPI documents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.support.harness import REQUEST_ID, Api, WorkyardServer, rule_ids
from tests.support.wire import Connection, Reply

DOCUMENTS = Path(__file__).parents[2] / "openapi"
METHODS = ("get", "post", "put", "delete")
NOT_HTTP = "Invalid HTTP request received."

FUZZ = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Operation(NamedTuple):
    """One operation of the documents."""

    name: str
    method: str
    path: str
    parameters: tuple[str, ...]
    has_body: bool
    answers: dict[str, Draft202012Validator]


@cache
def operations() -> list[Operation]:
    """Return all operations of both documents."""
    found = []
    for name in ("workyard.json", "control.json"):
        document = json.loads((DOCUMENTS / name).read_text())
        for path, item in document["paths"].items():
            for method in METHODS:
                # A stream of events does not end.
                if method not in item or item[method]["operationId"] == "follow_events":
                    continue
                pointer = f"#/paths/{path.replace('~', '~0').replace('/', '~1')}/{method}/responses"
                found.append(
                    Operation(
                        item[method]["operationId"],
                        method.upper(),
                        path,
                        tuple(each["name"] for each in item[method]["parameters"] if each.get("in") == "query"),
                        "requestBody" in item[method],
                        {
                            status: Draft202012Validator(
                                {**document, "$ref": f"{pointer}/{status}/content/application~1json/schema"}
                            )
                            for status in item[method]["responses"]
                        },
                    )
                )
    return found


def serving(method: str, target: str) -> list[Operation]:
    """Return the operations that may have served a request."""
    path = unquote(re.split(r"[?#]", target)[0])
    return [
        each
        for each in operations()
        if each.method == method and re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(each.path)), path)
    ]


def check(reply: Reply, method: str = "GET", target: str | None = None) -> None:
    """Assert that an answer has the API's form, and one of the shapes of its operation if *target* is known."""
    assert reply.status < 500, reply
    assert re.fullmatch(REQUEST_ID, reply.headers["request-id"])
    assert reply.headers["content-type"] == "application/json"
    if method == "HEAD":
        return
    value = reply.json
    if reply.status >= 400:
        assert set(value) == {"type", "error", "request_id"}
        assert value["type"] == "error"
        assert value["request_id"] == reply.headers["request-id"]
        assert {"type", "message"} <= set(value["error"]) <= {"type", "message", "details"}
        assert reply.headers["x-should-retry"] == "false"
        assert reply.headers["workyard-rule"] in rule_ids()
        assert ("allow" in reply.headers) is (reply.status == 405)
        # Refused before it was known what was asked.
        if reply.status in (403, 404, 405, 408, 414, 431) or value["error"]["message"] in (
            NOT_HTTP,
            "Duplicate Host header",
        ):
            return
    else:
        assert reply.status == 200
    if target is not None:
        candidates = [
            each.answers[str(reply.status)] for each in serving(method, target) if str(reply.status) in each.answers
        ]
        assert any(each.is_valid(value) for each in candidates), (method, target, reply)


@pytest.fixture(autouse=True)
def quiet_log(server: WorkyardServer) -> Iterator[None]:
    """Fail the test whose requests made the server log an error."""
    before = len(server.log())
    yield
    log = server.log()[before:]
    assert "ERROR" not in log, log
    assert "Traceback" not in log, log
    assert server.process.poll() is None


# -- requests that are odd, by name


def head(start: str, *lines: str) -> bytes:
    """Return the head of a request with a credential."""
    return "\r\n".join([start, "host: localhost", "x-api-key: fuzz", *lines, "", ""]).encode("latin-1")


LIST = "GET /v1/environments HTTP/1.1"
CREATE = "POST /v1/environments HTTP/1.1"
# A poll that the server is still at when the next bytes come.
SLOW = head("GET /v1/environments/{queue}/work/poll?block_ms=100 HTTP/1.1")
BODY = b'{"name":"fuzz"}'
LENGTH = f"content-length: {len(BODY)}"
CHUNKED = "transfer-encoding: chunked"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
H2C = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__")
WEBSOCKET = ("connection: Upgrade", "upgrade: websocket", "sec-websocket-key: dGVzdA==", "sec-websocket-version: 13")

#: Request → the statuses of all answers. Those in `CLOSES` end the connection.
ODD: dict[str, tuple[bytes, list[int]]] = {
    "nothing but line breaks, then a request": (b"\r\n\r\n" + head(LIST), [200]),
    "pipelined": (head(LIST) * 3, [200, 200, 200]),
    "pipelined behind a slow one": (SLOW + head(LIST), [200, 200]),
    "rubbish behind a slow one": (SLOW + b"\x00\x01 rubbish\r\n\r\n", [200]),
    "rubbish behind a request": (head(LIST) + b"rubbish\r\n\r\n", [200]),
    "more behind the last one": (head(LIST, "connection: close") + head(LIST), [200]),
    "HTTP/1.0": (b"GET /v1/environments HTTP/1.0\r\nx-api-key: fuzz\r\n\r\n", [200]),
    "HTTP/0.9": (b"GET /v1/environments\r\n\r\n", [401]),
    "HTTP/9.9": (head("GET /v1/environments HTTP/9.9"), [400]),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    "a greeting of TLS": (bytes.fromhex("16030100a5010000a10303") + bytes(32), [400]),
    "upgrade to a websocket": (head(LIST, *WEBSOCKET), [200]),
    "upgrade to a websocket, then a request": (head(LIST, *WEBSOCKET) + head(LIST), [200, 200]),
    "upgrade to HTTP/2 with a body": (head(CREATE, LENGTH, *H2C) + BODY, [200]),
    "upgrade to HTTP/2 with a chunked body": (head(CREATE, CHUNKED, *H2C) + CHUNKS, [200]),
    "upgrades to HTTP/2 with bodies, pipelined": ((head(CREATE, LENGTH, *H2C) + BODY) * 2, [200, 200]),
    "upgrade and close": (head(LIST, "connection: upgrade, close", "upgrade: h2c"), [200]),
    "CONNECT host": (head("CONNECT example.com:443 HTTP/1.1"), [400]),
    "CONNECT path": (head("CONNECT /v1/environments HTTP/1.1") + b"tunnelled", [405]),
    "OPTIONS *": (head("OPTIONS * HTTP/1.1"), [404]),
    "OPTIONS path": (head("OPTIONS /v1/environments HTTP/1.1"), [405]),
    "TRACE": (head("TRACE /v1/environments HTTP/1.1"), [405]),
    "a method of WebDAV": (head("PROPFIND /v1/environments HTTP/1.1"), [405]),
    "a method nobody knows": (head("FROB /v1/environments HTTP/1.1"), [400]),
    "a method in small letters": (head("get /v1/environments HTTP/1.1"), [400]),
    "absolute form": (head("GET http://example.com/v1/environments HTTP/1.1"), [200]),
    "absolute form without a path": (head("GET http://example.com HTTP/1.1"), [400]),
    "absolute form of another scheme": (head("GET ftp://example.com/v1/environments HTTP/1.1"), [200]),
    "no target": (head("GET  HTTP/1.1"), [400]),
    "nothing but a query": (head("GET ?limit=1 HTTP/1.1"), [400]),
    "a fragment": (head("GET /v1/environments#here HTTP/1.1"), [200]),
    "a target that is not ASCII": (head("GET /v1/environments/é HTTP/1.1"), [400]),
    "a target over 64 KiB": (head(f"GET /v1/environments/{'a' * 70_000} HTTP/1.1"), [414]),
    "a target of 16 KiB": (head(f"GET /v1/environments/{'a' * 16_000} HTTP/1.1"), [404]),
    "an odd host": (b"GET /v1/environments HTTP/1.1\r\nhost: [::1\r\nx-api-key: fuzz\r\n\r\n", [200]),
    "no host": (b"GET /v1/environments HTTP/1.1\r\nx-api-key: fuzz\r\n\r\n", [200]),
    "a large header": (head(LIST, "x-large: " + "a" * 300_000), [431]),
    "a header of 60 KiB": (head(LIST, "x-large: " + "a" * 60_000), [200]),
    "two hosts": (head(LIST, "host: example.com"), [400]),
    "a host that is nobody's": (head(LIST).replace(b"localhost", b"example.com"), [403]),
    "a page of another origin": (head(LIST, "origin: http://example.com"), [403]),
    "many headers": (head(LIST, *["x-many: a"] * 5000), [200]),
    "a header with a blank in its name": (head(LIST, "x y: a"), [400]),
    "a header without a name": (head(LIST, ": a"), [400]),
    "a header with U+0000": (head(LIST, "x: a\x00b"), [400]),
    "a header over two lines": (head(LIST, "x: a", " b"), [400]),
    "a bare line feed": (b"GET /v1/environments HTTP/1.1\nx-api-key: fuzz\n\n", [400]),
    "an expectation": (head(CREATE, LENGTH, "expect: 100-continue") + BODY, [200]),
    "an unknown expectation": (head(CREATE, LENGTH, "expect: wonders") + BODY, [200]),
    "chunked": (head(CREATE, CHUNKED) + CHUNKS, [200]),
    "chunks with extensions and trailers": (
        head(CREATE, CHUNKED) + b"f;a=b\r\n" + BODY + b"\r\n0\r\nx-trailer: a\r\n\r\n",
        [200],
    ),
    "rubbish for a chunk": (head(CREATE, CHUNKED) + b"zz\r\n\r\n", [400]),
    "rubbish behind a chunk": (head(CREATE, CHUNKED) + b"f\r\n" + BODY + b"zz0\r\n\r\n", [400]),
    "a chunk of 16 EiB": (head(CREATE, CHUNKED) + b"fffffffffffffffff\r\n", [400]),
    "rubbish for a chunk of a queued request": (SLOW + head(CREATE, CHUNKED) + b"zz\r\n\r\n", []),
    "another transfer encoding": (head(CREATE, "transfer-encoding: gzip") + BODY, [400]),
    "chunked and a length": (head(CREATE, CHUNKED, LENGTH) + CHUNKS, [400]),
    "two lengths": (head(CREATE, LENGTH, "content-length: 3") + BODY, [400]),
    "a length that is no number": (head(CREATE, "content-length: many") + BODY, [400]),
    "a negative length": (head(CREATE, "content-length: -1") + BODY, [400]),
    "a length of 22 digits": (head(CREATE, "content-length: " + "9" * 22) + BODY, [400]),
    "a length too large for us": (head(CREATE, "content-length: 9223372036854775807") + BODY, [413]),
    "a length shorter than the body": (head(CREATE, "content-length: 14") + BODY, [400]),
    "a body where none belongs": (head(LIST, LENGTH) + BODY + head(LIST), [200, 200]),
    "a length without a body, where none belongs": (head(LIST, "content-length: 1000"), [200]),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_request_is_answered_in_the_form_of_the_api(server: WorkyardServer, api: Api, name: str) -> None:
    """Each request that has an answer gets it, in its turn, and nothing hangs."""
    data, statuses = ODD[name]
    queue = api.queue() if b"{queue}" in data else ""
    data = data.replace(b"{queue}", queue.encode())
    # The poll below acts in the workspace of its path only with a key that has no environments of its own.
    data = data.replace(b"x-api-key: fuzz", b"x-api-key: " + api.api_key.encode())
    with Connection(server.url) as connection:
        connection.send(data)
        for status in statuses:
            reply = connection.reply()
            assert reply is not None, f"closed instead of {status}"
            check(reply)
            assert reply.status == status
        # What is left over of a body is no request.
        assert [reply.status for reply in connection.rest()] in ([], [400])


def test_head_is_refused_without_a_body(server: WorkyardServer) -> None:
    """The answer to HEAD has the headers of the refusal and ends behind them: the next answer is in its place."""
    with Connection(server.url) as connection:
        connection.send(head("HEAD /v1/environments HTTP/1.1"))
        reply = connection.reply("HEAD")
        assert reply is not None
        assert reply.status == 405
        check(reply, "HEAD")
        connection.send(head("DELETE /v1/environments HTTP/1.1"))
        reply = connection.reply()
        assert reply is not None
        assert reply.status == 405
        check(reply)


def test_a_request_that_ends_early_is_dropped(server: WorkyardServer) -> None:
    """Half a head, half a body: the connection ends, and nothing is made of it."""
    for data in (
        b"",
        b"GET /v1/envi",
        head(LIST)[:-3],
        head(CREATE, "content-length: 99") + BODY,
        head(CREATE, CHUNKED),
    ):
        with Connection(server.url) as connection:
            connection.send(data)
            assert connection.rest() == []


def test_a_poll_with_a_request_behind_it_takes_nothing_when_its_client_goes(server: WorkyardServer, api: Api) -> None:
    """Pipelining hides the poll from uvicorn, which tells only the last request of a connection of its end."""
    queue = api.queue()
    poll = f"GET {api.path(queue, 'poll')}?block_ms=900 HTTP/1.1\r\nhost: localhost\r\nx-api-key: {api.api_key}\r\n\r\n"
    with Connection(server.url) as connection:
        connection.send(poll.encode() * 2)
        api.stats(queue)
    api.stats(queue)
    [item] = api.enqueue(queue)
    assert api.poll(queue)["id"] == item["id"]


# -- any bytes


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return odd requests with some bytes taken out, put in or changed."""
    # A slow request among them would make every example slow.
    data = b"".join(
        draw(
            st.lists(
                st.sampled_from([each for each, _ in ODD.values() if len(each) < 2000 and SLOW not in each]),
                min_size=1,
                max_size=3,
            )
        )
    )
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=6)) + data[at + draw(st.integers(0, 6)) :]
    return data


@settings(FUZZ, max_examples=80)
@given(data=st.binary(max_size=300) | damaged())
def test_any_bytes_end_in_answers_of_the_api_or_silence(server: WorkyardServer, data: bytes) -> None:
    """Bytes without any order, and requests that are broken somewhere."""
    with Connection(server.url) as connection:
        connection.send(data)
        for reply in connection.rest():
            check(reply)


# -- any path, header and body at every route

_ODD_SEGMENTS = ["..", ".", "%2e%2e", "%2F", "%00", "%0A", "%0d%0a", "%", "%zz", "%ff%fe", "%ed%a0%80", "*", "poll", "stats",
                 ";a=b", "env_", "a" * 3000, "%F0%9F%8E%89", "~", "'\"<>", "{id}"]  # fmt: skip
_rarely = st.sampled_from([False] * 15 + [True])
_segments = st.sampled_from(_ODD_SEGMENTS) | st.binary(min_size=1, max_size=40).map(quote_from_bytes)
_header_values = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=60)
_HEADERS = [
    "authorization", "anthropic-beta", "anthropic-version", "anthropic-workspace-id", "anthropic-worker-id", "accept",
    "accept-encoding", "content-type", "content-encoding", "cookie", "expect", "forwarded", "if-none-match", "origin",
    "range", "te", "upgrade", "user-agent", "x-api-key", "x-forwarded-for", "x-http-method-override", "x-any",
]  # fmt: skip
_ODD_VALUES = ["", "application/json", "application/json; charset=utf-7", "text/plain", "gzip", "Bearer", "Bearer a",
               "Basic YTpi", "100-continue", "bytes=0-", "*", "a" * 257, "trailers", "h2c"]  # fmt: skip
_numbers = st.integers().map(str) | st.sampled_from(["", "1", "-0", "1.0", "1e3", "+1", " 1", "0x1", "9" * 5000, "１"])
_query_values = _numbers | st.sampled_from(["true", "True", "null", "*", "default", "NO_HEARTBEAT", "page_", "%00"])
_WAITS = st.sampled_from(["1", "20", "0", "1000"])
_texts = st.text(max_size=30) | st.sampled_from(["", "\0", "\ud800", "a" * 600, "session_1", "2031-05-06T12:00:00Z"])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)
#: Members of the bodies, each with values that are good somewhere.
_MEMBERS: dict[str, list[object]] = {
    "name": ["fuzz"],
    "config": [{"type": "self_hosted"}, {"type": "cloud"}, {"type": "cloud", "networking": {"type": "limited"}}],
    "description": [None, ""],
    "metadata": [{}, {"a": "b"}, {"a": None, "b": ""}],
    "scope": ["organization", "account"],
    "force": [True, False],
    "count": [1, 2],
    "session_id": ["session_1", "sesn_2"],
    "idempotency_key": ["once"],
    "mode": ["real", "frozen"],
    "at": [None, "2040-01-01T00:00:00+01:00"],
    "advance_seconds": [0, 0.5],
    "default_ttl_seconds": [1, None],
    "startup_lease_seconds": [1],
    "reclaim_ms": [1],
    "any": [None],
}
_ODD_BODIES = [b"", b"null", b"[]", b"{", b"\xff", b"\xef\xbb\xbf{}", b'{"name":"\\ud800"}', b'{"name":1e999}', b"{}{}",
               b'{"name":"a","name":"b"}', b"[" * 100_000, b'{"a":' * 2000 + b"1" + b"}" * 2000,
               b'{"count":' + b"9" * 5000 + b"}", b'{"advance_seconds":NaN}', b'{"name":"' + b"a" * 1_100_000 + b'"}']  # fmt: skip


def _good_or_any(member: str) -> st.SearchStrategy[object]:
    return st.sampled_from(_MEMBERS[member]) | st.sampled_from(_MEMBERS[member]) | _json


_bodies = (
    st.lists(st.sampled_from(list(_MEMBERS)), max_size=3, unique=True)
    .flatmap(lambda names: st.fixed_dictionaries({name: _good_or_any(name) for name in names}))
    .map(lambda value: json.dumps(value).encode())
    | _json.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
    | st.sampled_from(_ODD_BODIES)
)


class Known:
    """An environment with an item and a key, so that some requests get past 404; a new one once the last is gone."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._ids: dict[str, str] = {}

    def fill(self, target: str) -> str:
        """Return a target with its `<names>` replaced."""
        if not self._ids:
            environment = self._api.queue()
            key = Api.ok(self._api.post(f"/_emulator/environments/{environment}/keys", json={"name": "fuzz"}))
            work = self._api.enqueue(environment)[0]["id"]
            self._ids = {"environment_id": environment, "work_id": work, "key_id": key["id"]}
        for name, value in self._ids.items():
            target = target.replace(f"<{name}>", value)
        return target

    def note(self, operation: Operation, reply: Reply) -> None:
        """Take note of what an answer means for it."""
        if reply.status == 200 and operation.name in ("delete_environment", "archive_environment", "reset"):
            self._ids = {}


@pytest.fixture
def known(api: Api) -> Known:
    """What exists."""
    return Known(api)


@st.composite
def targets(draw: st.DrawFn, operation: Operation) -> str:
    """Return a path of an operation with anything in the place of its parameters, or nearly one, and any query."""
    path = operation.path
    for name in re.findall(r"\{(\w+)\}", path):
        path = path.replace(f"{{{name}}}", draw(st.sampled_from([f"<{name}>"] * 8) | _segments))
    path += draw(st.sampled_from([""] * 60 + ["/", "//", "%0A", "?", "/..", "%00"]))
    if draw(_rarely):
        path = "/" + "/".join(draw(st.lists(_segments, max_size=5)))
    pairs = []
    for name in draw(st.lists(st.sampled_from([*operation.parameters, "beta", "any"]), max_size=3)):
        # A poll that waits long makes the test slow, and a reset of all workspaces is too much for a shared server.
        value = draw(_WAITS if name == "block_ms" else _query_values | _segments)
        if (name, value) != ("workspace", "*"):
            pairs.append(f"{name}={quote_from_bytes(value.encode(), safe='%')}")
    return f"{path}?{'&'.join(pairs)}" if pairs else path


@st.composite
def requests(draw: st.DrawFn, api_key: str) -> tuple[Operation, str, str, bytes, bytes]:
    """Return an operation, method and target, and the rest of the head and the body of a request to it, or nearly so."""
    operation = draw(st.sampled_from(operations()))
    method = draw(st.sampled_from([operation.method] * 60 + ["PUT", "PATCH", "OPTIONS", "GET", "POST"]))
    headers = draw(
        st.dictionaries(st.sampled_from(_HEADERS), st.sampled_from(_ODD_VALUES) | _header_values, max_size=3)
    )
    if not draw(_rarely):
        headers = {"x-api-key": api_key, **headers}
    body = draw(_bodies) if operation.has_body or draw(_rarely) else b""
    lines = [
        "host: localhost",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"content-length: {len(body)}",
    ]
    return operation, method, draw(targets(operation)), "\r\n".join([*lines, "", ""]).encode("latin-1"), body


@settings(FUZZ, max_examples=500)
@given(data=st.data())
def test_any_request_at_every_route_gets_a_documented_answer(
    server: WorkyardServer, api: Api, known: Known, data: st.DataObject
) -> None:
    """Any path, query, headers and body: the status is one that the OpenAPI document has, and so is the body's shape."""
    operation, method, target, rest, body = data.draw(requests(api.api_key))
    target = known.fill(target)
    with Connection(server.url) as connection:
        connection.send(f"{method} {target} HTTP/1.1\r\n".encode("latin-1") + rest + body)
        reply = connection.reply()
    assert reply is not None
    check(reply, method, target)
    known.note(operation, reply)
