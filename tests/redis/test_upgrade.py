"""Data that an older Workyard wrote is brought up to date; data of a newer one is left alone. Source: data kept as
`data/store-format-N.json` by `store_snapshot.py` when N was current.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.harness import Api, RedisServer, WorkyardServer, clean_environment
from tests.support.store_snapshot import API_KEY, dump, look, restore

pytestmark = pytest.mark.every_redis

SNAPSHOTS = sorted((Path(__file__).parents[1] / "data").glob("store-format-*.json"))


@pytest.fixture
def own_redis(new_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis of this test's own."""
    return new_redis()


@pytest.fixture(params=SNAPSHOTS, ids=lambda path: path.stem)
def snapshot(request: pytest.FixtureRequest, own_redis: RedisServer) -> dict[str, Any]:
    """A store as an older version left it, in Redis."""
    taken: dict[str, Any] = json.loads(request.param.read_text())
    restore(own_redis.url, taken["keys"])
    return taken


@pytest.fixture
def upgraded(snapshot: dict[str, Any], own_redis: RedisServer) -> Iterator[Api]:
    """A client of a server that has started on the old store."""
    server = WorkyardServer("--redis-url", own_redis.url)
    api = Api(server.url, API_KEY)
    yield api
    api.close()
    server.close()


def test_the_api_shows_what_it_showed_before_the_upgrade(upgraded: Api, snapshot: dict[str, Any]) -> None:
    """Every environment, item, key and figure."""
    assert look(upgraded) == snapshot["shown"]


def test_timelines_tell_what_they_told_before(upgraded: Api, snapshot: dict[str, Any]) -> None:
    """And each event has its place; a store from before timelines has none."""
    for work_id, life in snapshot.get("lives", {}).items():
        assert upgraded.ok(upgraded.get(f"/_emulator/work/{work_id}/timeline")) == life


def test_the_upgraded_store_keeps_every_rule(upgraded: Api) -> None:
    """Items that were stopped before are counted as stopped once."""
    found = upgraded.ok(upgraded.get("/_emulator/invariants"))
    assert found["violations"] == []
    assert found["checked"]["stopped"] == 4
    assert found["checked"]["entries_into_stopped"] >= 4


def test_the_upgraded_store_works_on(upgraded: Api, snapshot: dict[str, Any]) -> None:
    """Every item of the busy environment can be brought to `stopped`, and the workspace reset."""
    env = max(snapshot["shown"]["work"], key=lambda each: len(snapshot["shown"]["work"][each]))
    for item in snapshot["shown"]["work"][env]:
        upgraded.ok(upgraded.stop(env, item["id"], force=True))
        # The one whose session was told something in mid-run is back; acknowledged, it has heard it.
        upgraded.ack(env, item["id"])
        upgraded.ok(upgraded.stop(env, item["id"], force=True))
    assert {upgraded.work(env, item["id"])["state"] for item in snapshot["shown"]["work"][env]} == {"stopped"}
    assert upgraded.stats(env)["depth"] == upgraded.stats(env)["pending"] == 0
    assert upgraded.ok(upgraded.get("/_emulator/invariants"))["violations"] == []
    assert upgraded.reset()["leftover_keys"] == 0


def test_the_format_is_marked_when_the_upgrade_is_done(upgraded: Api, own_redis: RedisServer) -> None:
    """A second start has nothing to do, and an older version refuses the data."""
    assert upgraded.ok(upgraded.get("/_emulator/health"))["status"] == "ok"
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.get("wy:format") == b"3"


def test_an_upgrade_that_a_crash_cut_short_is_finished_by_the_next_start(
    snapshot: dict[str, Any], own_redis: RedisServer
) -> None:
    """The mark is set last; what was done before it is not done twice."""
    for _ in range(2):
        server = WorkyardServer("--redis-url", own_redis.url)
        server.close()
        with redis.Redis.from_url(own_redis.url) as client:
            client.set("wy:format", "1")
    server = WorkyardServer("--redis-url", own_redis.url)
    api = Api(server.url, API_KEY)
    try:
        assert look(api) == snapshot["shown"]
        assert api.ok(api.get("/_emulator/invariants"))["violations"] == []
    finally:
        api.close()
        server.close()


def test_data_of_a_newer_format_is_refused_and_left_alone(own_redis: RedisServer, snapshot: dict[str, Any]) -> None:
    """The message says what to do."""
    with redis.Redis.from_url(own_redis.url) as client:
        client.set("wy:format", "4")
    before = dump(own_redis.url)
    ended = subprocess.run(
        [sys.executable, "-m", "workyard", "serve", "--port", "0", "--redis-url", own_redis.url],
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(),
        check=False,
    )
    assert ended.returncode != 0
    assert "has format 4" in ended.stderr
    assert "--key-prefix" in ended.stderr
    assert dump(own_redis.url) == before


def test_sessions_work_in_a_store_that_knew_none(upgraded: Api, snapshot: dict[str, Any]) -> None:
    """The items it holds have sessions, which may be told something; its environments take new ones."""
    env = max(snapshot["shown"]["work"], key=lambda each: len(snapshot["shown"]["work"][each]))
    told = {"events": [{"type": "user.message", "content": [{"type": "text", "text": "go"}]}]}
    for item in snapshot["shown"]["work"][env]:
        path = f"/v1/sessions/{item['data']['id']}"
        old = upgraded.ok(upgraded.get(path))
        assert (old["status"], old["environment_id"], old["created_at"]) == ("idle", env, item["created_at"])
        upgraded.ok(upgraded.post(f"{path}/events", json=told))
        state = upgraded.work(env, item["id"])["state"]
        assert state == ("queued" if item["state"] == "stopped" else item["state"])
    body = {"agent": "agent_new", "environment_id": env}
    new = upgraded.ok(upgraded.post("/v1/sessions", json=body))["id"]
    assert [row["id"] for row in upgraded.ok(upgraded.get("/v1/sessions"))["data"]] == [new]
    refused = upgraded.delete(f"/v1/environments/{env}")
    assert refused.json()["error"]["message"].startswith("Environment has 1 active sessions.")
    assert upgraded.ok(upgraded.get("/_emulator/invariants"))["violations"] == []
    upgraded.ok(upgraded.post(f"/v1/sessions/{new}/archive"))
    upgraded.ok(upgraded.delete(f"/v1/sessions/{snapshot['shown']['work'][env][0]['data']['id']}"))
    assert upgraded.ok(upgraded.get("/_emulator/invariants"))["violations"] == []
    assert upgraded.reset()["leftover_keys"] == 0
