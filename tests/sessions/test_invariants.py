"""`GET /_emulator/invariants` finds damage to sessions, by its name. The damage is done behind the server's back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from tests.support.harness import Api, RedisServer, WorkyardServer, running_server
from tests.support.sessions import item, session

_names = itertools.count()
Raw = Any


@pytest.fixture(scope="module")
def damaged_server(redis_server: RedisServer) -> Iterator[tuple[WorkyardServer, str]]:
    """A server of its own key prefix, for the orphans of other tests are none of ours."""
    prefix = f"sessions-damage-{next(_names)}"
    with running_server("--redis-url", redis_server.url, "--key-prefix", prefix) as running:
        yield running, prefix


def _forget_item(raw: Raw, head: str, id_: str, work: str) -> None:
    raw.delete(f"{head}work:{work}")


#: What is done → the rules that then do not hold.
DAMAGES: dict[str, tuple[Callable[[Raw, str, str, str], object], set[str]]] = {
    "a session's item is gone": (_forget_item, {"session", "item_lost", "counts"}),
    "an event is gone": (lambda raw, head, id_, work: raw.xtrim(f"{head}events:{id_}", maxlen=0), {"session"}),
    "an event nobody recorded": (
        lambda raw, head, id_, work: raw.xadd(f"{head}events:{id_}", {"e": "{}"}),
        {"session"},
    ),
    "an agent has not read all and is not to": (
        lambda raw, head, id_, work: raw.hset(f"{head}session:{id_}", "seen", 0),
        {"session"},
    ),
    "an archived session is idle": (
        lambda raw, head, id_, work: raw.hset(f"{head}session:{id_}", "archived", 1),
        {"session"},
    ),
    "an active session is not counted": (
        lambda raw, head, id_, work: raw.hincrby(f"{head}env", "active", -1),
        {"session"},
    ),
    "a session that does not exist is due": (
        lambda raw, head, id_, work: raw.zadd(f"{head}due", {"session_x": 1}),
        {"session"},
    ),
    "a deleted session is still there": (
        lambda raw, head, id_, work: raw.hset(f"{head}work:{work}", "gone", "1"),
        {"session"},
    ),
    "a session is out of the index": (
        lambda raw, head, id_, work: raw.zrem(f"{head}sessions", id_),
        {"orphan", "session"},
    ),
    "a place names an environment that is gone": (
        lambda raw, head, id_, work: raw.sadd(f"{head.partition(':')[0]}:{{{id_}}}:at", "env_gone"),
        {"orphan"},
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_a_session_is_found_and_nothing_before_it(
    damaged_server: tuple[WorkyardServer, str], new_api: Callable[..., Api], redis_server: RedisServer, damage: str
) -> None:
    """By the rule's name, with the environment."""
    server, prefix = damaged_server
    api = new_api(server.url, reset=False)
    queue = api.queue()
    made = session(api, queue)["id"]
    work = item(api, queue, made)["id"]
    assert api.ok(api.get("/_emulator/invariants"))["violations"] == []
    harm, rules = DAMAGES[damage]
    with closing(redis.Redis.from_url(redis_server.url, decode_responses=True)) as raw:
        harm(raw, f"{prefix}:{{{queue}}}:", made, work)
        found = api.ok(api.get("/_emulator/invariants"))["violations"]
        assert {violation["rule"] for violation in found} == rules
        assert {violation["environment_id"] for violation in found} <= {queue, "env_gone"}
        api.reset()
        for key in raw.scan_iter(f"{prefix}:{{*"):
            raw.delete(key)
