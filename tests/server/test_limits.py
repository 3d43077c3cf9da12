"""Each limit just under, at and just over its bound: what is taken, and the answer that names the limit and its setting.

One server whose limits are small. What is stored is judged inside the scripts, so it is tested on a real Redis too, by calls that
come at once. Source: docs/limits.md.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import httpx
import pytest

from tests.support.harness import REQUEST_ID, Api, WorkyardServer, running_server, wait_until
from tests.support.wire import Connection, Reply

BODY, HEADERS, URL, DEPTH, KEYS, COUNT = 2048, 4096, 400, 10, 3, 5
POLLS, STREAMS, WORKSPACES, ENVIRONMENTS, ITEMS, CONNECTIONS = 3, 2, 12, 3, 7, 40
HEAD_S, BODY_S, IDLE_S, WRITE_S = 0.6, 0.7, 2.0, 0.8
SMALL = {
    "max-body-bytes": BODY, "max-header-bytes": HEADERS, "max-url-bytes": URL, "max-json-depth": DEPTH,
    "max-metadata-keys": KEYS, "max-count": COUNT, "max-blocked-polls": POLLS, "max-streams": STREAMS,
    "max-workspaces": WORKSPACES, "max-environments": ENVIRONMENTS, "max-items": ITEMS, "max-connections": CONNECTIONS,
    "head-timeout": HEAD_S, "body-timeout": BODY_S, "idle-timeout": IDLE_S, "write-timeout": WRITE_S,
}  # fmt: skip
LIST = b"GET /v1/environments HTTP/1.1\r\nhost: localhost\r\nx-api-key: limited\r\n"
CREATE = LIST.replace(b"GET", b"POST")


@pytest.fixture(scope="module")
def limited(engine_options: tuple[str, ...]) -> Iterator[WorkyardServer]:
    """A server with small limits, in keys of its own."""
    options = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    with running_server(*engine_options, "--key-prefix", f"limited-{os.getpid()}", *options) as server:
        yield server
        assert "Traceback" not in server.log()


@pytest.fixture
def small(limited: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client of it, in a workspace of its own; there is no other."""
    with closing(Api(limited.url, "any")) as everybody:
        everybody.ok(everybody.post("/_emulator/reset?workspace=*"))
    return new_api(limited.url)


def around(most: int) -> range:
    """Return ten numbers around a bound, with it the fifth."""
    return range(most - 4, most + 6)


def told(response: httpx.Response | Reply, status: int, *parts: str) -> None:
    """Check that a refusal has this status and names the limit and the setting."""
    found, value = (
        (response.status, response.json) if isinstance(response, Reply) else (response.status_code, response.json())
    )
    assert found == status, value
    for part in parts:
        assert part in value["error"]["message"]
    assert REQUEST_ID.fullmatch(value["request_id"])
    assert response.headers.get("x-should-retry") == (None if status in (408, 429, 503) else "false")
    assert response.headers.get("retry-after") == ("1" if status in (429, 503) else None)


def at_once(number: int, call: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    """Make a call so many times at once."""
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(call, range(number)))


def statuses(responses: list[httpx.Response]) -> dict[int, int]:
    """Count statuses."""
    return dict(Counter(each.status_code for each in responses))


# -- what comes off the wire


@pytest.mark.no_redis
def test_a_body_has_at_most_so_many_bytes(small: Api) -> None:
    """By its declared length and by what comes in chunks."""
    for size in around(BODY):
        content = b'{"x":1' + b" " * (size - 7) + b"}"
        for sent in (content, iter([content[:1000], content[1000:]])):
            response = small.post("/v1/environments", content=sent, headers={"content-type": "application/json"})
            if size <= BODY:
                assert "x: Extra inputs are not permitted" in response.json()["error"]["message"]
            else:
                told(response, 413, f"Request body exceeds {BODY} bytes")


@pytest.mark.no_redis
def test_headers_have_at_most_so_many_bytes(limited: WorkyardServer, small: Api) -> None:
    """One long header and many short ones alike; each line counts with its end."""
    base = len(b"host: localhost\r\nx-api-key: limited\r\n")
    for size in around(HEADERS):
        one = b"x: " + b"a" * (size - base - 5) + b"\r\n"
        many = b"x: aaaaa\r\n" * ((size - base) // 10 - 1)
        many += b"x: " + b"a" * (size - base - len(many) - 5) + b"\r\n"
        for headers in (one, many):
            assert base + len(headers) == size
            with Connection(limited.url) as connection:
                connection.send(LIST + headers + b"\r\n")
                reply = connection.reply()
                assert reply is not None
                if size <= HEADERS:
                    assert reply.status == 200
                else:
                    told(reply, 431, f"Request headers exceed {HEADERS} bytes", "--max-header-bytes")
                    assert reply.headers["workyard-rule"] == "limits.headers"
                    assert connection.reply() is None


@pytest.mark.no_redis
def test_a_url_has_at_most_so_many_bytes(limited: WorkyardServer, small: Api) -> None:
    """Path and query together, as they were written."""
    for size in around(URL):
        target = b"/v1/environments?limit=1&x=%41"
        target += b"a" * (size - len(target))
        with Connection(limited.url) as connection:
            connection.send(LIST.replace(b"/v1/environments", target) + b"\r\n")
            reply = connection.reply()
            assert reply is not None
            if size <= URL:
                assert reply.status == 200
            else:
                told(reply, 414, f"Request URL exceeds {URL} bytes", "--max-url-bytes")
                assert reply.headers["workyard-rule"] == "limits.url"


@pytest.mark.no_redis
@pytest.mark.parametrize("part", [b"a" * 65_536, b"x: a\r\n" * 10_000, b"x: " + b"a" * 65_536])
def test_a_head_without_end_is_refused_before_it_fills_the_memory(limited: WorkyardServer, part: bytes) -> None:
    """A target, many headers, or one: what is too long already is not waited for."""
    start = b"GET /" if part.startswith(b"a") else LIST
    with Connection(limited.url) as connection:
        connection.send(start)
        for _ in range(200):
            connection.send(part.removeprefix(b"x: ") if start is LIST and b"\r\n" not in part and _ else part)
            if connection.closed:
                break
        reply = connection.reply() if not connection.closed else None
        assert reply is None or reply.status in (414, 431)


@pytest.mark.no_redis
def test_json_is_nested_at_most_so_deep(small: Api) -> None:
    """Lists and objects alike; the outermost is the first level. How many stand side by side does not matter."""
    for depth in around(DEPTH):
        lists = b'{"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
        objects = b'{"x":' * (depth - 1) + b"{}" + b"}" * (depth - 1)
        wide = lists[:-1] + b',"y":[[],{},[]],"z":[{},{}]}'
        for content in (lists, objects, wide):
            response = small.post("/v1/environments", content=content, headers={"content-type": "application/json"})
            if depth <= DEPTH:
                assert "x: Extra inputs are not permitted" in response.json()["error"]["message"]
            else:
                told(response, 400, f"nested deeper than {DEPTH} levels", "--max-json-depth")


@pytest.mark.no_redis
def test_metadata_has_at_most_so_many_keys(small: Api) -> None:
    """On each kind of thing that has some; of a patch, the result counts."""
    work = small.enqueue(small.queue())[0]
    path = small.path(work["environment_id"], work["id"])
    for number in (KEYS - 1, KEYS, KEYS + 1):
        metadata = {f"k{n}": "v" for n in range(number)}
        for response in (
            small.post(f"/v1/environments/{work['environment_id']}", json={"metadata": metadata}),
            small.post(path, json={"metadata": metadata}),
            small.post("/v1/agents", json={"name": "a", "model": "m", "metadata": metadata}),
        ):
            if number <= KEYS:
                assert small.ok(response)["metadata"] == metadata
            else:
                told(response, 400, f"metadata: too many keys ({number} > {KEYS})")


@pytest.mark.no_redis
def test_one_call_enqueues_at_most_so_many(small: Api) -> None:
    """The setting can only lower what the document says."""
    queue = small.queue()
    assert len(small.enqueue(queue, COUNT)) == COUNT
    path = f"/_emulator/environments/{queue}/work"
    told(
        small.post(path, json={"count": COUNT + 1}),
        400,
        f"count: Input should be less than or equal to {COUNT}",
        "--max-",
    )
    told(small.post(path, json={"count": 10_001}), 400, "count: Input should be less than or equal to 10000")


# -- what waits


@pytest.mark.no_redis
def test_so_many_polls_of_an_environment_block(small: Api) -> None:
    """Of ten at once, three wait; another environment's, and one that does not block, are not held up."""
    queue, other = small.queue(), small.queue()
    path = small.path(queue, "poll")
    with closing(httpx.Client(base_url=small.url, headers={"x-api-key": small.api_key}, timeout=30)) as http:
        found = at_once(10, lambda _: http.get(path, params={"block_ms": 900}))
    assert statuses(found) == {200: POLLS, 429: 10 - POLLS}
    for response in found:
        if response.status_code == 429:
            told(response, 429, f"At most {POLLS} polls", "--max-blocked-polls")
    assert small.poll(queue, block_ms=1) is None
    assert small.poll(other, block_ms=1) is None


@pytest.mark.no_redis
def test_so_many_streams_are_open(small: Api) -> None:
    """Of a session's events, and of all that happens; one that ends makes room."""
    body = {"agent": "agent_1", "environment_id": small.queue()}
    session = small.ok(small.post("/v1/sessions", json=body))["id"]
    for path, query in ((f"/v1/sessions/{session}/events/stream", {}), ("/_emulator/events", {"seconds": 30})):
        with ExitStack() as open_streams:
            for _ in range(STREAMS):
                last = small.http.stream("GET", path, params=query)
                assert open_streams.enter_context(last).status_code == 200
            told(small.get(path, params=query), 429, f"At most {STREAMS} streams", "--max-streams")

        def opens(path: str = path, query: dict[str, int] = query) -> bool:
            with small.http.stream("GET", path, params=query) as response:
                return response.status_code == 200

        wait_until(opens, "the streams' places are free again")


# -- what is stored


def test_an_environment_holds_so_many_items(small: Api) -> None:
    """Whoever comes at once, and by whatever way; what is there already needs no room."""
    queue = small.queue()
    path = f"/_emulator/environments/{queue}/work"
    small.enqueue(queue, 5, idempotency_key="first")
    told(small.post(path, json={"count": 3}), 409, f"reached ({ITEMS} work items", "--max-items")
    assert small.stats(queue)["depth"] == 5, "all of it or nothing"

    def add(number: int) -> httpx.Response:
        if number % 2:
            return small.post("/v1/sessions", json={"agent": "agent_1", "environment_id": queue})
        return small.post(path, json={"count": 1})

    found = at_once(8, add)
    assert statuses(found) == {200: ITEMS - 5, 409: 8 - (ITEMS - 5)}
    assert small.stats(queue)["depth"] == ITEMS
    told(add(0), 409, "--max-items (WORKYARD_MAX_ITEMS)")
    told(add(1), 409, "--max-items (WORKYARD_MAX_ITEMS)")
    sessions = sum(response.status_code == 200 for response in found[1::2])
    assert len(small.ok(small.get("/v1/sessions"))["data"]) == sessions, "a refused one leaves nothing"
    # A repeat and a message make nothing new.
    [first, *_] = small.enqueue(queue, 5, idempotency_key="first")
    small.enqueue(queue, session_id=first["data"]["id"])
    small.ok(small.stop(queue, first["id"], force=True))
    told(add(0), 409, "stopped ones included")


def test_a_workspace_holds_so_many_environments(small: Api) -> None:
    """Archived ones too; one that is deleted makes room."""
    found = at_once(8, lambda n: small.post("/v1/environments", json={"name": str(n)}))
    assert statuses(found) == {200: ENVIRONMENTS, 409: 8 - ENVIRONMENTS}
    made = [response.json()["id"] for response in found if response.status_code == 200]
    small.ok(small.post(f"/v1/environments/{made[0]}/archive"))
    told(
        small.post("/v1/environments", json={"name": "n"}),
        409,
        f"Environment limit of the workspace reached ({ENVIRONMENTS},",
        "--max-env",
    )
    small.ok(small.delete(f"/v1/environments/{made[1]}"))
    small.environment()
    assert small.post("/v1/environments", json={"name": "n"}).status_code == 409


def test_a_server_keeps_so_many_workspaces(small: Api) -> None:
    """Whatever makes the first thing in one; those that are there go on, and a reset makes room."""
    small.environment()

    def first(number: int) -> httpx.Response:
        headers = {"x-api-key": f"{small.api_key}-{number}"}
        calls: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", "/v1/environments", {"name": "n"}),
            ("POST", "/v1/agents", {"name": "a", "model": "m"}),
            ("PUT", "/_emulator/scripts/default", {"steps": ["idle"]}),
            ("POST", "/_emulator/settings", {"reclaim_ms": 1}),
        ]
        method, path, body = calls[number % len(calls)]
        return small.request(method, path, json=body, headers=headers)

    found = at_once(20, first)
    assert statuses(found) == {200: WORKSPACES - 1, 409: 20 - (WORKSPACES - 1)}
    refused = [number for number, response in enumerate(found) if response.status_code == 409]
    told(
        found[refused[0]], 409, f"Workspace limit reached ({WORKSPACES})", "--max-workspaces (WORKYARD_MAX_WORKSPACES)"
    )
    # A read makes nothing, nor does the journal of who may not come in.
    for number in range(20, 24):
        assert small.get("/v1/environments", headers={"x-api-key": f"other-{number}"}).status_code == 200
    assert len(small.ok(small.get("/_emulator/journal?workspace=*"))["data"]) <= WORKSPACES
    small.environment()
    taken = next(number for number, response in enumerate(found) if response.status_code == 200)
    small.ok(small.post("/_emulator/reset", headers={"x-api-key": f"{small.api_key}-{taken}"}))
    assert first(refused[0]).status_code == 200
    told(first(refused[1]), 409, "Each API key is a workspace")
    small.ok(small.post("/_emulator/reset?workspace=*"))


# -- slow clients


def closes_within(connection: socket.socket, seconds: float) -> bytes:
    """Return what comes until the server closes; fail if it does not."""
    deadline, received = time.monotonic() + seconds, b""
    while True:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = connection.recv(65_536)
        except ConnectionError:
            return received
        if not data:
            return received
        received += data


@pytest.mark.no_redis
def test_slow_clients_are_cut_off(limited: WorkyardServer, small: Api) -> None:
    """Each in its way, all at once, and dribbling does not help; others are answered meanwhile."""
    host, port = limited.url.removeprefix("http://").split(":")
    length = b"content-length: 99\r\n\r\n"
    slow = {
        "half a head": (b"GET /v1/envi", b"a", b"HTTP/1.1 408"),
        "line breaks": (b"\r\n", b"\r\n", b"HTTP/1.1 408"),
        "half the headers": (LIST, b"x: a\r\n", b"HTTP/1.1 408"),
        "half a body": (CREATE + length + b"{", b" ", b"HTTP/1.1 408"),
        "half a chunk": (CREATE + b"transfer-encoding: chunked\r\n\r\n5\r\n{", b"", b"HTTP/1.1 408"),
        "half a body that nobody reads": (LIST + length, b" ", b"HTTP/1.1 200"),
        "a second head": (LIST + b"\r\n" + LIST, b"", b"HTTP/1.1 200"),
        "silence": (b"", b"", b""),
    }
    with ExitStack() as stack:
        began = time.monotonic()
        links = {name: stack.enter_context(socket.create_connection((host, int(port)))) for name in slow}
        for name, link in links.items():
            link.sendall(slow[name][0])
        while time.monotonic() < began + max(HEAD_S, BODY_S) + 0.5:
            for name, link in links.items():
                try:
                    link.sendall(slow[name][1])
                except OSError:
                    continue
            assert small.get("/_emulator/health").elapsed.total_seconds() < 1
            time.sleep(0.05)
        for name, link in links.items():
            answer = closes_within(link, IDLE_S + 5)
            assert answer.startswith(slow[name][2]), (name, answer)
            if b" 408 " in answer:
                assert b"did not come within" in answer
                assert b"_TIMEOUT)" in answer
                assert b"x-should-retry" not in answer


@pytest.mark.no_redis
def test_a_client_that_does_not_read_is_cut_off(limited: WorkyardServer, small: Api) -> None:
    """What it leaves unread does not stay in the server's memory."""
    host, port = limited.url.removeprefix("http://").split(":")
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect((host, int(port)))
        link.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 100)
        wait_until(lambda: link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "the connection is cut", 10 * WRITE_S)
    assert small.ok(small.get("/_emulator/health"))["in_flight"] == 1


@pytest.mark.no_redis
def test_so_many_connections_are_open(limited: WorkyardServer, small: Api) -> None:
    """One more is told so; each that ends makes room."""
    health = b"GET /_emulator/health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    small.http.close()
    with ExitStack() as stack:
        answers = []
        for _ in range(CONNECTIONS + 5):
            connection = stack.enter_context(Connection(limited.url))
            connection.send(health)
            reply = connection.reply()
            assert reply is not None
            answers.append(reply)
        refused = [reply for reply in answers if reply.status != 200]
        assert 5 <= len(refused) <= 10, "some may be of tests before"
        assert answers[-len(refused) :] == refused
        for reply in refused:
            told(reply, 503, f"At most {CONNECTIONS} connections", "--max-connections")

    def answers_again() -> bool:
        with Connection(limited.url) as connection:
            connection.send(health)
            reply = connection.reply()
            return reply is not None and reply.status == 200

    wait_until(answers_again, "there is room again")
    small.http = httpx.Client(base_url=small.url, headers={"x-api-key": small.api_key})
    small.get, small.post = small.http.get, small.http.post
