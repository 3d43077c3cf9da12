"""What somebody who means harm may try, and what comes of it; docs/attacks.md lists all of it with the tests. Here is what no
other test shows. Source: docs/attacks.md.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from base64 import urlsafe_b64encode
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Api, WorkyardServer, clean_environment, running_server
from tests.support.wire import Connection, Reply

ROOT = Path(__file__).parents[2]
#: Ends of lines, commands to a terminal, markup, other keys, and what Redis, Lua and formats give a meaning to.
NASTY = [
    "a\r\nHTTP/1.1 200 OK", "a\nERROR workyard: forged", "\x1b[2J\x1b]0;owned\x07", "\u009b31m", "\u202egnp.exe",
    "<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "{env_1}:env", "wy:{env_1}:env", "*", "a b c",
    "'); redis.call('FLUSHALL')--", "%s%n{0}${jndi:ldap://x}", "../../etc/passwd", "__proto__", "🦊\u2028\u2029\u0085",
]  # fmt: skip
#: Characters that a terminal takes for commands, or for the end of a line.
COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def answers(server: WorkyardServer, *requests: bytes) -> list[Reply]:
    """Send bytes on one connection; return all answers until it ends."""
    with Connection(server.url) as connection:
        connection.send(b"".join(requests))
        return connection.rest()


def head(start: str, *lines: str) -> bytes:
    """Return the head of a request."""
    return "\r\n".join([f"{start} HTTP/1.1", "host: localhost", "x-api-key: attack", *lines, "", ""]).encode()


# -- one request that two readers take for different ones


@pytest.mark.no_redis
@pytest.mark.parametrize(
    "lines",
    [
        ("content-length: 5", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "transfer-encoding: identity"),
        ("transfer-encoding: chunked, identity",),
        ("transfer-encoding: xchunked",),
        ("transfer-encoding : chunked",),
        ("transfer-encoding:\x0bchunked",),
        ("content-length: 5", "content-length: 6"),
        ("content-length: +5",),
        ("content-length: 0x5",),
        ("content-length: 5, 5",),
        ("host: evil.example",),
    ],
    ids=lambda lines: " | ".join(lines).replace("\x0b", "VT"),
)
def test_no_request_is_smuggled_in_the_body_of_another(server: WorkyardServer, lines: tuple[str, ...]) -> None:
    """Where the body ends is never in doubt: it is one refusal, and the connection ends."""
    hidden = head("DELETE /v1/environments/env_1")
    found = answers(server, head("POST /v1/environments", *lines), b"0\r\n\r\n", hidden)
    assert [reply.status for reply in found] == [400]
    assert found[0].headers["connection"] == "close" or "Duplicate Host header" in found[0].json["error"]["message"]


@pytest.mark.no_redis
@pytest.mark.parametrize(
    "path",
    [
        "/v1/../_emulator/state", "/v1/environments/../../_emulator/state", "/v1/%2e%2e/_emulator/state",
        "/_emulator/assets/../../../pyproject.toml", "/_emulator/assets/..%2f..%2fsettings.py",
        "/_emulator/assets/%2e%2e/%2e%2e/settings.py", "/_emulator/assets//etc/passwd", "/_emulator/assets/%00",
        "//v1/environments", "/v1//environments", "/v1/environments/", "/v1/environments;x=1", "/v1/environments%00",
        "/v1\\environments", "/V1/environments", "/v1/environments%0d%0a", "/_emulator/%2e/clock",
    ],
)  # fmt: skip
def test_no_path_leads_elsewhere(server: WorkyardServer, path: str) -> None:
    """Nothing is resolved, folded or decoded twice: what is not written as a route is unknown."""
    [reply] = answers(server, head(f"GET {path}", "connection: close"))
    assert reply.status == 404
    assert reply.json["error"]["message"] in ("Not found", "Environment  not found.")


# -- bodies


@pytest.mark.no_redis
def test_bodies_that_are_not_what_they_seem(api: Api) -> None:
    """A compressed one is not unpacked; another type is not guessed; of a key that is given twice the last counts."""
    body = json.dumps({"name": "n", "description": "d" * 900}).encode()
    bomb = gzip.compress(b" " * 10_000_000)
    for encoding in ("gzip", "deflate", "br", "identity, gzip", "zstd"):
        began = time.monotonic()
        answer = api.post("/v1/environments", content=bomb, headers={"content-encoding": encoding})
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, "Content-Encoding is not supported")
        assert time.monotonic() - began < 2
    for kind in (
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "text/xml",
        "*/*",
    ):
        answer = api.post("/v1/environments", content=body, headers={"content-type": kind})
        assert answer.json()["error"]["message"] == "Content-Type must be application/json"
    twice = api.post("/v1/environments", content=b'{"name":"first","name":"last"}')
    assert api.ok(twice)["name"] == "last"
    for text in ("\\u0000", "\\ud800", "\\udc00\\ud800"):
        answer = api.post("/v1/environments", content=f'{{"name":"{text}"}}'.encode())
        assert answer.json()["error"]["message"] == "name: String contains a character that cannot be stored"


@pytest.mark.no_redis
@pytest.mark.parametrize("limit", ["1001", "0", "-1", "9" * 400, "1e3", "0x10", " 1", "٣", "1;2", "NaN", "%00"])
def test_a_huge_limit_is_refused(api: Api, limit: str) -> None:
    """And costs nothing."""
    queue = api.queue()
    for path in ("/v1/environments", api.path(queue), "/v1/sessions"):
        assert api.get(f"{path}?limit={limit}").status_code == 400


# -- tokens, cursors and ids of others


def test_what_is_forged_or_anothers_opens_nothing(api: Api) -> None:
    """Cursors of other lists and workspaces, tokens with another's names, ids of another workspace."""
    queue = api.queue()
    api.enqueue(queue, 3)
    api.queue()
    item = api.poll(queue)
    cursor = api.ok(api.get(api.path(queue), params={"limit": 1}))["next_page"]
    with closing(api.as_key(api.api_key + "-thief")) as thief:
        theirs = thief.queue()
        thief.enqueue(theirs, 3)
        # Ids.
        for method, path in (
            ("GET", f"/v1/environments/{queue}"), ("DELETE", f"/v1/environments/{queue}?force=true"),
            ("GET", api.path(queue)), ("GET", api.path(queue, "poll")), ("GET", api.path(queue, item["id"])),
            ("POST", api.path(queue, item["id"], "ack")), ("POST", api.path(queue, item["id"], "stop")),
            ("GET", f"/v1/sessions/{item['data']['id']}"),
        ):  # fmt: skip
            assert thief.request(method, path).status_code == 404, path
        assert thief.get(api.path(theirs, item["id"])).status_code == 404
        # Cursors: of another list, of another workspace, and made up.
        own = thief.ok(thief.get(api.path(theirs), params={"limit": 1}))["next_page"]
        for path, page in ((api.path(theirs), cursor), ("/v1/environments", own), (api.path(queue), own)):
            assert thief.get(path, params={"page": page}).status_code in (400, 404)
        for made_up in ("", "page_", "page_" + "A" * 4000, "page_" + urlsafe_b64encode(b'{"below":-1}').decode(),
                        cursor[:-1], cursor + "A", cursor.swapcase(), *NASTY):  # fmt: skip
            answer = api.get(api.path(queue), params={"page": made_up})
            assert answer.status_code == 400 or made_up == "", (made_up, answer.text)
        # Tokens: an environment key or a sessions token that only looks like one is nobody's.
        named, work = queue.removeprefix("env_"), item["id"].removeprefix("work_")
        for token in (
            f"sk-ant-oat01-{named}-{'A' * 43}",
            f"sk-ant-req01-{named}-{work}-{'A' * 43}",
            f"sk-ant-oat01-{named}-",
        ):
            with closing(api.as_key(token)) as forger:
                assert forger.ok(forger.get("/v1/environments"))["data"] == []
                assert forger.get(f"/v1/skills?limit=1&x={token}").status_code in (200, 401)
        thief.reset()
    assert api.stats(queue) == {**api.stats(queue), "depth": 2, "pending": 1}, "nothing was taken or stopped"


# -- what is stored and shown


def test_nothing_that_is_named_becomes_a_key_a_command_or_a_page(api: Api, server: WorkyardServer) -> None:
    """Names, metadata, worker ids, idempotency keys, sessions' texts: stored as they are, shown as data, and no key holds them."""
    logged = len(server.log())
    for nasty in NASTY:
        created = api.environment(name=nasty, metadata={nasty[:64]: nasty})
        assert (created["name"], created["metadata"]) == (nasty, {nasty[:64]: nasty})
        queue = created["id"]
        [item] = api.enqueue(queue, metadata={nasty[:64]: nasty}, idempotency_key=nasty)
        worker = nasty.encode("ascii", "ignore").decode().translate(dict.fromkeys((*range(32), 127))).strip() or "w"
        assert api.poll(queue, worker=worker)["id"] == item["id"]
        api.ok(api.post("/v1/sessions", json={"agent": nasty, "environment_id": queue, "title": nasty}))
        # Pages and texts that people read.
        timeline = api.get(f"/_emulator/work/{item['id']}/timeline?format=text")
        assert timeline.headers["content-type"].startswith("text/plain")
        assert not COMMANDS.search(timeline.text)
        table = api.get("/_emulator/queues").text
        assert json.loads(table)
        metrics = api.get("/metrics").text
        assert not COMMANDS.search(metrics)
        assert "forged" not in [line.split(" ")[0] for line in metrics.splitlines()]
    found: dict[str, Any] = api.ok(api.get("/_emulator/invariants"))
    assert found["violations"] == []
    log = server.log()[logged:]
    assert not COMMANDS.search(log)
    assert "forged" not in log


@pytest.mark.no_redis
def test_nothing_in_a_request_forges_a_line_of_the_log() -> None:
    """At debug every request is a line, whatever its path holds; a terminal gets no commands; tokens are not in it."""
    secret = "sk-ant-secret-of-mine"
    for form in ("text", "json"):
        with running_server("--log-level", "debug", "--log-format", form, environment=clean_environment()) as server:
            for path in (
                "/v1/a%0aERROR%20forged",
                "/v1/%1b[2J",
                "/v1/%c2%9b31m",
                "/v1/%e2%80%a8forged",
                "/v1/%0d%0aforged",
            ):
                answers(server, head(f"GET {path}", f"authorization: Bearer {secret}", "connection: close"))
            answers(server, b"\x1b[2J forged\r\n\r\n")
            server.stop()
            log = server.log()
            lines = [line for line in log.splitlines() if "forged" in line or "31m" in line or "[2J" in line]
            assert lines, "they are logged"
            assert not COMMANDS.search(log), form
            assert all("GET" in line for line in lines), "each within its own line"
            assert secret not in log


# -- the list


def test_the_list_of_attacks_names_tests_that_exist() -> None:
    """Each row of docs/attacks.md has one."""
    rows = re.findall(
        r"^\| .* \| `(tests/[\w./]+)::(\w+)` \|$", (ROOT / "docs" / "attacks.md").read_text(), re.MULTILINE
    )
    assert len(rows) >= 25
    for file, name in rows:
        assert f"def {name}(" in (ROOT / file).read_text(), (file, name)
