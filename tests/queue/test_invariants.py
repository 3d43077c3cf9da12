"""`GET /_emulator/invariants` finds each kind of damage, by its name, and nothing where there is none.

The damage is done to the raw keys, behind the server's back. That every test of the suite leaves no violation is checked
in `conftest.new_api`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import pytest
import redis

from tests.support.harness import Api, RedisServer, WorkyardServer, running_server

pytestmark = pytest.mark.every_redis

_names = itertools.count()
Raw = Any
Damage = Callable[[Raw, "Scene"], object]


class Scene(NamedTuple):
    """An environment with one item in each situation, and how its raw keys are called."""

    env: str
    waiting: str
    handed_out: str
    starting: str
    active: str
    stopping: str
    stopped: str
    head: str

    def key(self, name: str) -> str:
        """Return the name of one of the environment's keys."""
        return f"{self.head}{name}"

    def item(self, name: str) -> str:
        """Return the key of an item's hash."""
        return self.key("work:" + getattr(self, name))


@pytest.fixture(scope="module")
def damaged_server(redis_server: RedisServer) -> Iterator[tuple[WorkyardServer, str]]:
    """A server of its own key prefix, for the orphans of other tests are none of ours."""
    prefix = f"damage-{next(_names)}"
    with running_server("--redis-url", redis_server.url, "--key-prefix", prefix) as running:
        yield running, prefix


@pytest.fixture
def raw(redis_server: RedisServer) -> Iterator[Raw]:
    """A client of the Redis below."""
    with closing(redis.Redis.from_url(redis_server.url, decode_responses=True)) as client:
        yield client


@pytest.fixture
def damaged(damaged_server: tuple[WorkyardServer, str], new_api: Callable[..., Api], raw: Raw) -> Iterator[Api]:
    """A client whose workspace is damaged by the test. What a reset no longer finds is removed behind its back."""
    client = new_api(damaged_server[0].url, reset=False)
    yield client
    client.reset()
    for key in raw.scan_iter(f"{damaged_server[1]}:{{*"):
        raw.delete(key)


@pytest.fixture
def scene(damaged: Api, damaged_server: tuple[WorkyardServer, str]) -> Scene:
    """An environment whose clock stands still, with items everywhere."""
    damaged.freeze()
    env = damaged.queue()
    items = [item["id"] for item in damaged.enqueue(env, 7)]
    stopped, starting, active, stopping, handed_out = (damaged.poll(env)["id"] for _ in range(5))
    waiting, tombstone = items[5:]
    for work in (stopped, starting, active, stopping):
        damaged.ok(damaged.ack(env, work))
    damaged.ok(damaged.stop(env, stopped, force=True))
    damaged.ok(damaged.heartbeat(env, active, "NO_HEARTBEAT"))
    damaged.ok(damaged.stop(env, stopping))
    damaged.ok(damaged.stop(env, tombstone))
    head = f"{damaged_server[1]}:{{{env}}}:"
    return Scene(env, waiting, handed_out, starting, active, stopping, stopped, head)


def recounted(api: Api) -> dict[str, Any]:
    """Ask for the recount."""
    found: dict[str, Any] = api.ok(api.get("/_emulator/invariants"))
    return found


def member(raw: Raw, scene: Scene, name: str) -> str:
    """Return the name of an item's lease."""
    return f"{int(raw.hget(scene.item(name), 'seq')):016d}:{getattr(scene, name)}"


def settle_without_trimming(raw: Raw, scene: Scene) -> None:
    """Stop the item that was handed out, as the script does but for the last step."""
    entry = raw.hget(scene.item("handed_out"), "entry")
    raw.zrem(scene.key("polled"), entry)
    raw.xack(scene.key("stream"), "workers", entry)
    created = raw.hget(scene.item("handed_out"), "created")
    stopped = {"state": "stopped", "entry": "", "stop": created, "stopped": created, "ended": 1}
    raw.hset(scene.item("handed_out"), mapping=stopped)


#: What is done → the rules that then do not hold.
DAMAGES: dict[str, tuple[Damage, set[str]]] = {
    "an item's hash is gone": (lambda raw, s: raw.delete(s.item("waiting")), {"item_lost", "counts"}),
    "an item is out of the index": (lambda raw, s: raw.zrem(s.key("index"), s.waiting), {"item_lost", "counts"}),
    "an item is at another's place": (lambda raw, s: raw.zincrby(s.key("index"), 0.5, s.stopped), {"item_lost"}),
    "a lease is gone": (lambda raw, s: raw.zrem(s.key("leases"), member(raw, s, "active")), {"lease"}),
    "a stopped item has a lease": (
        lambda raw, s: raw.zadd(s.key("leases"), {member(raw, s, "stopped"): 9e15}),
        {"lease"},
    ),
    "an item has two leases": (lambda raw, s: raw.zadd(s.key("leases"), {f"9:{s.active}": 9e15}), {"lease"}),
    "a queued item's entry is another's": (
        lambda raw, s: raw.hset(s.item("waiting"), "entry", raw.hget(s.item("handed_out"), "entry")),
        {"entry", "counts"},
    ),
    "a queued item has no entry": (
        lambda raw, s: raw.hset(s.item("waiting"), "entry", ""),
        {"entry", "pending", "counts"},
    ),
    "an active item has an entry": (
        lambda raw, s: raw.hset(s.item("active"), "entry", raw.hget(s.item("waiting"), "entry")),
        {"entry"},
    ),
    "an item is in the queue twice": (
        lambda raw, s: raw.xadd(s.key("stream"), {"w": s.waiting, "t": "1"}, id="9000000000000000-0"),
        {"counts", "stamps"},
    ),
    "a hand-out was settled and not noted": (
        lambda raw, s: raw.xack(s.key("stream"), "workers", raw.hget(s.item("handed_out"), "entry")),
        {"pending", "counts", "trimmed"},
    ),
    "a hand-out was forgotten": (lambda raw, s: raw.delete(s.key("polled")), {"pending"}),
    "an entry was delivered behind our back": (
        lambda raw, s: raw.xreadgroup("workers", "other", {s.key("stream"): ">"}, count=1),
        {"pending", "counts"},
    ),
    "a tombstone was not counted": (lambda raw, s: raw.hincrby(s.key("env"), "tombs", -1), {"counts"}),
    "a tombstone was counted twice": (lambda raw, s: raw.hincrby(s.key("env"), "tombs", 1), {"counts"}),
    "an active item was never acknowledged": (lambda raw, s: raw.hdel(s.item("active"), "acked"), {"stamps"}),
    "a queued item has a heartbeat": (lambda raw, s: raw.hset(s.item("waiting"), "beat", 1), {"stamps"}),
    "an item stopped before it was created": (lambda raw, s: raw.hset(s.item("stopped"), "stopped", 1), {"stamps"}),
    "an item was acknowledged in the future": (
        lambda raw, s: raw.hset(s.item("starting"), "acked", 4_000_000_000_000_000),
        {"stamps"},
    ),
    "an item was stopped twice": (lambda raw, s: raw.hincrby(s.item("stopped"), "ended", 1), {"life"}),
    "a running item was stopped before": (lambda raw, s: raw.hset(s.item("active"), "ended", 1), {"life"}),
    "the stream keeps what nobody needs": (settle_without_trimming, {"trimmed"}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_found(damage: str, damaged: Api, scene: Scene, raw: Raw) -> None:
    """Whole before, then the rules that the damage breaks, each with its environment."""
    assert recounted(damaged)["violations"] == []
    do, rules = DAMAGES[damage]
    do(raw, scene)
    found = recounted(damaged)
    assert {violation["rule"] for violation in found["violations"]} == rules
    assert {violation["environment_id"] for violation in found["violations"]} == {scene.env}
    assert found["checked"]["violations"] == len(found["violations"])


def test_a_key_of_a_deleted_environment_is_found_whoever_asks(damaged: Api, scene: Scene, raw: Raw) -> None:
    """It belongs to no workspace any more."""
    damaged.ok(damaged.delete(f"/v1/environments/{scene.env}?force=true"))
    assert recounted(damaged)["violations"] == []
    raw.hset(scene.item("active"), "state", "active")
    [violation] = recounted(damaged)["violations"]
    assert (violation["rule"], violation["environment_id"]) == ("orphan", scene.env)
    assert scene.item("active") in violation["message"]
    raw.delete(scene.item("active"))


def test_an_environment_whose_deletion_is_under_way_is_no_violation(
    damaged: Api, damaged_server: tuple[WorkyardServer, str], scene: Scene, raw: Raw
) -> None:
    """What a crash left is on record, and any server will finish it."""
    [workspace] = raw.smembers(f"{damaged_server[1]}:workspaces")
    raw.zadd(f"{damaged_server[1]}:purge", {f"{workspace} {scene.env}": 1})
    raw.delete(scene.key("env"))
    assert recounted(damaged)["violations"] == []


def test_the_recount_says_what_it_looked_at(api: Api) -> None:
    """Items by state, entries into stopped, environments; nothing is changed by it."""
    api.freeze()
    env, other = api.queue(), api.environment(name="cloud", config={"type": "cloud"})["id"]
    api.enqueue(env, 4)
    api.enqueue(env, session_id="session_a")
    work, _ = api.active(env, ttl=5)
    api.ok(api.stop(env, api.work(env, api.poll(env)["id"])["id"], force=True))
    twice = api.ok(api.get(api.path(env)))["data"][0]["id"]
    api.ok(api.stop(env, twice, force=True))
    api.enqueue(env, session_id="session_a")
    api.ok(api.ack(env, twice))
    api.ok(api.stop(env, twice, force=True))
    api.advance(60)
    checked = recounted(api)["checked"]
    assert checked.pop("keys") > 0
    assert checked == {
        "violations": 0, "environments": 2, "items": 5, "items_looked_at": 5, "queued": 3, "leases": 0, "stopped": 2,
        "entries_into_stopped": 3, "sampled": [],
    }  # fmt: skip
    assert api.work(env, work)["state"] == "queued"
    assert other


def test_of_a_long_queue_a_sample_is_looked_at_and_said_so(
    redis_backed: WorkyardServer, new_api: Callable[..., Api]
) -> None:
    """Ten thousand items, in parts; the figures that need no counting are still those of all."""
    api = new_api(redis_backed.url)
    env = api.queue()
    api.enqueue(env, 10_000)
    whole = recounted(api)["checked"]
    assert (whole["items_looked_at"], whole["sampled"]) == (10_000, [])
    api.enqueue(env)
    sampled = recounted(api)
    assert sampled["violations"] == []
    assert sampled["checked"]["sampled"] == [env]
    assert (sampled["checked"]["items"], sampled["checked"]["items_looked_at"]) == (10_001, 10_000)
    assert sampled["checked"]["queued"] == 10_001


def test_a_workspace_sees_its_own_damage_and_a_call_without_one_sees_all(
    damaged: Api, damaged_server: tuple[WorkyardServer, str], scene: Scene, raw: Raw, new_api: Callable[..., Api]
) -> None:
    """Read calls without a workspace cover all."""
    raw.hincrby(scene.key("env"), "tombs", 1)
    other = new_api(damaged_server[0].url)
    other.queue()
    assert recounted(other)["violations"] == []
    for client in (damaged, new_api(damaged_server[0].url, "")):
        assert {each["rule"] for each in recounted(client)["violations"]} == {"counts"}


def test_a_hundred_violations_are_named_and_all_are_counted(damaged: Api, scene: Scene, raw: Raw) -> None:
    """The answer stays readable."""
    for item in damaged.enqueue(scene.env, 150):
        raw.hset(scene.key("work:" + item["id"]), "ended", 1)
    found = recounted(damaged)
    assert len(found["violations"]) == 100
    assert found["checked"]["violations"] == 150


def test_a_recount_beside_running_work_finds_nothing(api: Api) -> None:
    """It is of one instant, whatever goes on: cycles, deletions and new environments meanwhile."""
    env = api.queue()

    def work(_: int) -> None:
        with closing(Api(api.url, api.api_key)) as mine:
            for _ in range(6):
                mine.enqueue(env)
                item = mine.poll(env)
                if item is not None and mine.ack(env, item["id"]).status_code == 200:
                    mine.heartbeat(env, item["id"])
                    mine.ok(mine.stop(env, item["id"], force=True))
                passing = mine.queue()
                mine.enqueue(passing, 3)
                mine.ok(mine.delete(f"/v1/environments/{passing}?force=true"))

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(work, n) for n in range(4)]
        found = [recounted(api)["violations"]]
        while not all(each.done() for each in running):
            found.append(recounted(api)["violations"])
        for each in running:
            each.result()
    assert all(violations == [] for violations in found), found
