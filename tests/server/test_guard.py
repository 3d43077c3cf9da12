"""Who may call: by which host name, from which page of a browser, and with which token the control plane.

Rules: `limits.host`, `limits.origin`, `limits.control-token`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.support.command_line import workyard
from tests.support.harness import Api, WorkyardServer, refused, running_server
from workyard.client.connection import WorkyardRefused
from workyard.settings import Settings
from workyard.testing import Emulator
from workyard.wire.guard import Guard

TOKEN = "a-token-of-the-control-plane"
FRIEND = "http://localhost:3000"
HEALTH = "/_emulator/health"


@pytest.fixture(scope="module")
def guarded() -> Iterator[WorkyardServer]:
    """A server with a token, a name and a friend."""
    options = ("--control-token", TOKEN, "--allowed-hosts", "server,*.example.com", "--cors-origins", FRIEND)
    with running_server(*options, "--log-level", "debug") as server:
        yield server
        assert TOKEN not in server.log()


def named(message: str, setting: str) -> str:
    """Return a refusal's message with the setting at its end."""
    return f"{message} is not allowed; add it with --{setting} (WORKYARD_{setting.replace('-', '_').upper()})"


def test_only_names_that_cannot_be_rebound_are_answered(embedded: WorkyardServer, guarded: WorkyardServer) -> None:
    """A page reaches a loopback port by a name of its own that leads there; it cannot name an address."""
    always = ["localhost", "LOCALHOST:80", "localhost.:1", "app.localhost", "127.0.0.1:4010", "[::1]:4010", "192.0.2.7"]
    listed = ["server", "Server:4010", "a.example.com", "a.b.example.com:1"]
    never = ["example.com", "example.com.", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a b"]
    for server, good, bad in ((embedded, always, never + listed), (guarded, always + listed, never)):
        with httpx.Client(base_url=server.url) as http:
            for host in good:
                assert http.get(HEALTH, headers={"host": host}).status_code == 200, host
            for host in bad:
                for path in (HEALTH, "/v1/environments", "/docs", "/nonsense"):
                    response = http.get(path, headers={"host": host})
                    message = named(f"Host {host!r}", "allowed-hosts")
                    refused(response, 403, message)
                    assert response.headers["workyard-rule"] == "limits.host"


@pytest.mark.parametrize(
    ("headers", "good"),
    [
        ({}, True),
        ({"origin": ""}, True),
        ({"sec-fetch-mode": "cors"}, True),  # Node's fetch sends that.
        ({"origin": "{own}", "sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, None),  # A link leads here: to read only.
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, False),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://127.0.0.1:1"}, False),
        ({"origin": "{own}.evil.example"}, False),
        ({"origin": "http://evil.example", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, False),
    ],
)
def test_a_page_of_another_origin_is_refused(
    embedded: WorkyardServer, headers: dict[str, str], good: bool | None
) -> None:
    """Whatever it asks for: a simple request needs no leave of ours to be sent, and would be carried out."""
    given = {name: value.replace("{own}", embedded.url) for name, value in headers.items()} | {"x-api-key": "page"}
    with httpx.Client(base_url=embedded.url, headers=given) as http:
        for method, path in (("GET", HEALTH), ("POST", "/_emulator/reset"), ("GET", "/v1/environments")):
            response = http.request(method, path)
            if good or (good is None and method == "GET"):
                assert response.status_code == 200
            else:
                page = f"Origin {given['origin']!r}" if "origin" in given else "The origin of the calling page"
                refused(response, 403, named(page, "cors-origins"))
                assert response.headers["workyard-rule"] == "limits.origin"
            assert "access-control-allow-origin" not in response.headers
        assert http.options("/v1/environments").status_code in (403, 405)


def test_a_friend_may_call_from_a_browser(guarded: WorkyardServer) -> None:
    """A preflight is answered, and the answers may be read, headers included; nobody else gets that."""
    with httpx.Client(base_url=guarded.url, headers={"origin": FRIEND, "x-api-key": "friend"}) as http:
        asks = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key,content-type"}
        for path in ("/v1/environments", "/_emulator/reset"):
            leave = http.options(path, headers=asks)
            assert leave.status_code == 200
            assert leave.headers["access-control-allow-origin"] == FRIEND
            assert leave.headers["access-control-allow-headers"] == "x-api-key,content-type"
        answer = http.get("/v1/environments")
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == FRIEND
        assert "request-id" in answer.headers["access-control-expose-headers"]
        without_token = http.get("/_emulator/clock")
        assert (without_token.status_code, without_token.headers["access-control-allow-origin"]) == (401, FRIEND)
        denied = http.options("/v1/environments", headers={"access-control-request-method": "PATCH"})
        refused(denied, 405, "Method Not Allowed")
        assert denied.headers["workyard-rule"] == "conventions.method"
        assert "access-control-allow-origin" not in denied.headers
        stranger = http.options("/v1/environments", headers={**asks, "origin": "http://localhost:3001"})
        assert (stranger.status_code, stranger.headers["workyard-rule"]) == (403, "limits.origin")
        assert http.get("/v1/environments", headers={"origin": "http://localhost:3001"}).status_code == 403


def test_names_that_were_judged_fill_no_memory() -> None:
    """A good one may be long by what follows it."""

    async def nothing(*_: object) -> Any:
        pass

    guard = Guard(nothing, Settings())

    async def judge() -> None:
        for number in range(100):
            headers = [(b"host", b"127.0.0.1:%d" % number + b"9" * 50_000)]
            await guard({"type": "http", "method": "GET", "path": "/", "headers": headers}, nothing, nothing)

    tracemalloc.start()
    try:
        asyncio.run(judge())
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


def test_the_control_plane_asks_for_its_token(guarded: WorkyardServer) -> None:
    """All of it but what says that the server lives and what its calls are; the API needs none."""
    message = "workyard-control-token header {}: this server's control plane is protected (--control-token)"
    with httpx.Client(base_url=guarded.url, headers={"x-api-key": "control"}) as http:
        for method, path in (
            ("POST", "/_emulator/reset?workspace=*"),
            ("GET", "/_emulator/clock"),
            ("GET", "/%5Femulator/state"),
            ("GET", "/_emulator/nonsense"),
            ("GET", "/_emulator"),
            ("PUT", "/_emulator/health/../state"),
            ("GET", "/metrics"),
        ):
            refused(http.request(method, path), 401, message.format("is required"))
            for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é"):
                response = http.request(method, path, headers={b"workyard-control-token": wrong.encode()})
                refused(response, 401, message.format("is wrong"))
                assert response.headers["workyard-rule"] == "limits.control-token"
        assert http.get("/_emulator/clock", headers={"workyard-control-token": TOKEN}).status_code == 200
        assert http.get("/metrics", headers={"workyard-control-token": TOKEN}).status_code == 200
        for path in (HEALTH, "/_emulator/openapi.json", "/_emulator/docs", "/docs", "/v1/environments"):
            assert http.get(path).status_code == 200
        assert http.get("/_emulator/health", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_command_and_the_emulator_send_the_token(guarded: WorkyardServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable that is the server's own setting; a server that `Emulator` starts is known to it."""
    for token, code in ((TOKEN, 0), ("another-token", 1), ("a-token-with\na-line-break", 1)):
        variables = {"WORKYARD_CONTROL_TOKEN": token, "WORKYARD_API_KEY": "by-command"}
        done = workyard("reset", "--url", guarded.url, **variables)
        assert done.returncode == code, done.stderr
        assert token[:12] not in done.stdout + done.stderr
    with pytest.raises(WorkyardRefused, match="is required"), Emulator(url=guarded.url) as emulator:
        emulator.reset()
    monkeypatch.setenv("WORKYARD_CONTROL_TOKEN", TOKEN)
    with Emulator(url=guarded.url) as emulator:
        emulator.reset()
    monkeypatch.delenv("WORKYARD_CONTROL_TOKEN")
    with Emulator(control_token=TOKEN) as emulator, emulator.workspace() as other:
        emulator.reset()
        other.reset()
    with Emulator(url=guarded.url, control_token=TOKEN) as emulator:
        emulator.reset()


def test_every_answer_tells_browsers_to_make_nothing_of_it(embedded: WorkyardServer) -> None:
    """Data is data, kept nowhere and shown in nobody's page; each header once."""
    with closing(Api(embedded.url)) as api:
        queue = api.queue()
        answers = [
            api.get(path)
            for path in ("/v1/environments", api.path(queue, "poll"), "/v1/environments/env_1", "/nonsense", HEALTH,
                         "/metrics", "/openapi.json", "/_emulator/events?seconds=0", "/_emulator/assets/swagger-ui.css")
        ]  # fmt: skip
        for answer in answers:
            for name, value in {
                "x-content-type-options": "nosniff",
                "cache-control": "no-store",
                "cross-origin-resource-policy": "same-origin",
                "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
            }.items():
                assert answer.headers.get_list(name) == [value], answer.url


@pytest.mark.parametrize("path", ["/docs", "/_emulator/docs"])
def test_a_page_may_run_its_own_scripts_only(embedded: WorkyardServer, path: str) -> None:
    """What a description might hold is no script that the policy allows."""
    page = httpx.get(embedded.url + path)
    [policy] = page.headers.get_list("content-security-policy")
    [inline] = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    hashed = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{hashed}';" in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    assert "frame-ancestors 'none'" in policy
    assert all(link.startswith("/_emulator/assets/") for link in re.findall(r'(?:src|href)="([^"]+)"', page.text))
