"""Redis goes, hangs, or loses its answers: 503, each step wholly or not at all, and full recovery.

Rules: `conventions.storage`, `work.crash`.

Between server and Redis stands a proxy that can swallow the answer to a script after Redis has run it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest
import redis

from tests.support.harness import SILENT, Api, RedisServer, WorkyardServer, refused, wait_until
from tests.support.proxies import ANSWERED_WITHIN_S, AnswerDroppingProxy
from tests.support.sessions import MESSAGE, events, send, session
from tests.support.streams import ANSWERED, Follower


@pytest.fixture(scope="module")
def proxy(redis_server: RedisServer) -> Iterator[AnswerDroppingProxy]:
    """A proxy before the real Redis."""
    dropping = AnswerDroppingProxy(redis_server.port)
    yield dropping
    dropping.close()


@pytest.fixture(scope="module")
def behind_proxy(proxy: AnswerDroppingProxy) -> Iterator[WorkyardServer]:
    """A server that reaches Redis through the proxy."""
    running = WorkyardServer("--redis-url", proxy.url, "--log-level", "error")
    yield running
    running.close()


@pytest.fixture
def sides(behind_proxy: WorkyardServer, redis_backed: WorkyardServer, new_api: Callable[..., Api]) -> tuple[Api, Api]:
    """Two clients of one workspace: one whose answers can be lost, one that sees what happened."""
    seeing = new_api(redis_backed.url)
    return new_api(behind_proxy.url, seeing.api_key, reset=False), seeing


def _lost(proxy: AnswerDroppingProxy, call: Callable[[], httpx.Response], skip: int = 0) -> None:
    proxy.arm(skip)
    answer = call()
    assert proxy.dropped.is_set()
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"] == {"type": "api_error", "message": "Storage is unavailable"}
    assert answer.headers["retry-after"] == "1"
    assert "x-should-retry" not in answer.headers


def test_an_enqueue_whose_answer_is_lost_enqueues_once(sides: tuple[Api, Api], proxy: AnswerDroppingProxy) -> None:
    """redis-py would send the script again."""
    losing, seeing = sides
    queue = seeing.queue()
    seeing.enqueue(queue)
    _lost(proxy, lambda: losing.post(f"/_emulator/environments/{queue}/work", json={"count": 3}))
    assert seeing.stats(queue)["depth"] == 4


def test_the_same_idempotency_key_after_a_lost_answer_enqueues_nothing_twice(
    sides: tuple[Api, Api], proxy: AnswerDroppingProxy
) -> None:
    """The second batch of two is lost; the repeat completes and answers all."""
    losing, seeing = sides
    queue = seeing.queue()
    body: dict[str, Any] = {"count": 700, "idempotency_key": "once"}
    _lost(proxy, lambda: losing.post(f"/_emulator/environments/{queue}/work", json=body), skip=1)
    items = seeing.enqueue(queue, **body)
    assert len({item["id"] for item in items}) == 700
    assert seeing.stats(queue)["depth"] == 700


Step = Callable[[Api, str, str, str], httpx.Response]
After = Callable[[dict[str, Any]], bool]

#: Verb → how far the item is first, the call, what must hold of the item afterwards, what a repeat answers.
STEPS: dict[str, tuple[str, Step, After, int]] = {
    "poll": (
        "queued",
        lambda api, env, work, beat: api.get(api.path(env, "poll")),
        lambda w: w["state"] == "queued",
        200,
    ),
    "ack": ("polled", lambda api, env, work, beat: api.ack(env, work), lambda w: w["state"] == "starting", 409),
    "claim": (
        "starting",
        lambda api, env, work, beat: api.heartbeat(env, work, "NO_HEARTBEAT"),
        lambda w: w["state"] == "active",
        412,
    ),
    "extend": (
        "active",
        lambda api, env, work, beat: api.heartbeat(env, work, beat),
        lambda w: w["state"] == "active" and w["latest_heartbeat_at"] > w["started_at"],
        412,
    ),
    "graceful stop": (
        "active",
        lambda api, env, work, beat: api.stop(env, work),
        lambda w: w["state"] == "stopping",
        200,
    ),
    "force stop": (
        "active",
        lambda api, env, work, beat: api.stop(env, work, True),
        lambda w: w["state"] == "stopped",
        200,
    ),
    "update": (
        "queued",
        lambda api, env, work, beat: api.post(api.path(env, work), json={"metadata": {"a": "1"}}),
        lambda w: w["metadata"] == {"a": "1"},
        200,
    ),
}


@pytest.mark.parametrize("verb", STEPS)
def test_a_step_whose_answer_is_lost_happens_once(
    sides: tuple[Api, Api], proxy: AnswerDroppingProxy, verb: str
) -> None:
    """It is done wholly, and repeating it is safe: the answer tells the client that it was done, or is the same again."""
    losing, seeing = sides
    stage, call, holds, repeated = STEPS[verb]
    queue = seeing.queue()
    seeing.enqueue(queue, 2)
    # Redis knows every script by now: the lost answer is the step's, not that of a script it does not know.
    warm, beat = seeing.active(queue)
    seeing.ok(seeing.heartbeat(queue, warm, beat))
    seeing.ok(seeing.post(seeing.path(queue, warm), json={"metadata": {}}))
    seeing.ok(seeing.stop(queue, warm))
    work = seeing.ok(seeing.get(seeing.path(queue)))["data"][0]["id"]
    beat = ""
    if stage in ("polled", "starting", "active"):
        assert seeing.poll(queue)["id"] == work
    if stage in ("starting", "active"):
        seeing.ok(seeing.ack(queue, work))
    if stage == "active":
        beat = seeing.ok(seeing.heartbeat(queue, work, "NO_HEARTBEAT"))["last_heartbeat"]
    _lost(proxy, lambda: call(losing, queue, work, beat))
    found = seeing.work(queue, work)
    assert holds(found), found
    figures = seeing.stats(queue)
    assert (figures["depth"], figures["pending"]) == {"poll": (0, 1), "update": (1, 0)}.get(verb, (0, 0))
    answer = call(losing, queue, work, beat)
    assert answer.status_code == repeated
    match verb:
        case "ack":
            message = f"Work item {work} must be in QUEUED state to acknowledge. Current state: starting."
            refused(answer, 409, message)
        case "claim" | "extend":
            # The client sees its own beat, and goes on from there.
            state = answer.json()["error"]["details"]["current_state"]
            assert (state["state"], state["last_heartbeat"]) == ("active", found["latest_heartbeat_at"])
            assert losing.heartbeat(queue, work, state["last_heartbeat"]).json()["lease_extended"]
        case "graceful stop" | "force stop" | "update":
            assert answer.json() == found
    assert seeing.ok(seeing.get("/_emulator/invariants"))["violations"] == []


def test_a_clock_whose_answer_is_lost_advances_once(sides: tuple[Api, Api], proxy: AnswerDroppingProxy) -> None:
    """An advance is relative: twice would show."""
    losing, seeing = sides
    start = seeing.freeze()
    seeing.advance(1)
    _lost(proxy, lambda: losing.post("/_emulator/clock", json={"advance_seconds": 10}))
    now = seeing.ok(seeing.get("/_emulator/clock"))["now"]
    assert start.replace("12:00:00", "12:00:11") == now


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_an_environment_whose_creation_is_cut_short_leaves_nothing_after_reset(
    sides: tuple[Api, Api], proxy: AnswerDroppingProxy, skip: int
) -> None:
    """Creation is three steps; after each of them a reset still finds what there is."""
    losing, seeing = sides
    seeing.queue()
    _lost(proxy, lambda: losing.post("/v1/environments", json={"name": "cut"}), skip)
    rows = seeing.ok(seeing.get("/v1/environments"))["data"]
    assert len(rows) == (1 if skip == 0 else 2)
    assert seeing.reset()["leftover_keys"] == 0
    assert seeing.ok(seeing.get("/v1/environments?include_archived=true"))["data"] == []


@pytest.fixture
def durable(new_redis: Callable[..., RedisServer]) -> Iterator[tuple[RedisServer, WorkyardServer]]:
    """A Redis that keeps its data, and a server on it."""
    redis = new_redis("--appendonly", "yes", "--appendfsync", "always")
    running = WorkyardServer("--redis-url", redis.url, "--log-level", "error")
    yield redis, running
    running.close()


def test_without_redis_every_call_answers_503_and_recovers_by_itself(
    durable: tuple[RedisServer, WorkyardServer], new_api: Callable[..., Api]
) -> None:
    """Killed and started again: no restart of the server, no lost item, and no error left over from dead connections."""
    redis, running = durable
    api = new_api(running.url, reset=False)
    queue = api.queue()
    [item] = api.enqueue(queue)
    calls: dict[str, Callable[[], httpx.Response]] = {
        "create": lambda: api.post("/v1/environments", json={"name": "x"}),
        "list": lambda: api.get("/v1/environments"),
        "get": lambda: api.get(f"/v1/environments/{queue}"),
        "update": lambda: api.post(f"/v1/environments/{queue}", json={"name": "y"}),
        "archive": lambda: api.post(f"/v1/environments/{queue}/archive"),
        "delete": lambda: api.delete(f"/v1/environments/{queue}?force=true"),
        "poll": lambda: api.get(api.path(queue, "poll")),
        "blocked poll": lambda: api.get(api.path(queue, "poll"), params={"block_ms": 500}),
        "stats": lambda: api.get(api.path(queue, "stats")),
        "work list": lambda: api.get(api.path(queue)),
        "work get": lambda: api.get(api.path(queue, item["id"])),
        "work update": lambda: api.post(api.path(queue, item["id"]), json={"metadata": {}}),
        "ack": lambda: api.ack(queue, item["id"]),
        "heartbeat": lambda: api.heartbeat(queue, item["id"]),
        "stop": lambda: api.stop(queue, item["id"]),
        "enqueue": lambda: api.post(f"/_emulator/environments/{queue}/work"),
        "keys": lambda: api.post(f"/_emulator/environments/{queue}/keys"),
        "clock": lambda: api.post("/_emulator/clock", json={"advance_seconds": 1}),
        "settings": lambda: api.get("/_emulator/settings"),
        "reset": lambda: api.post("/_emulator/reset"),
        "health": lambda: api.get("/_emulator/health"),
    }
    redis.stop(signal.SIGKILL)
    for name, call in calls.items():
        started = time.monotonic()
        answer = call()
        assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1"), (name, answer.text)
        assert answer.json()["error"] == {"type": "api_error", "message": "Storage is unavailable"}, name
        assert time.monotonic() - started < ANSWERED_WITHIN_S, name
    redis.start()
    for _ in range(20):
        assert api.get("/_emulator/health").status_code == 200
    assert api.work(queue, item["id"])["state"] == "queued"
    with ThreadPoolExecutor(1) as pool:
        # The wake-up subscription is back too.
        api.poll(queue)
        wait_until(lambda: _wakes(api, queue, pool), "a blocked poll is woken again")


def _wakes(api: Api, queue: str, pool: ThreadPoolExecutor) -> bool:
    started = time.monotonic()
    blocked = pool.submit(api.poll, queue, "w", block_ms=900)
    time.sleep(0.05)  # The poll may arrive before or after: either way it must not last its 900 ms.
    api.enqueue(queue)
    assert blocked.result() is not None
    return time.monotonic() - started < 0.5


def test_a_redis_that_hangs_is_answered_503_in_time(
    durable: tuple[RedisServer, WorkyardServer], new_api: Callable[..., Api]
) -> None:
    """Paused for longer than the socket timeout: nothing waits for it."""
    redis, running = durable
    api = new_api(running.url, reset=False)
    queue = api.queue()
    assert redis.process is not None
    redis.process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: api.get(api.path(queue, "stats")).status_code, range(20)))
        assert set(answers) == {503}
        assert time.monotonic() - started < ANSWERED_WITHIN_S
    finally:
        redis.process.send_signal(signal.SIGCONT)
    wait_until(lambda: api.get("/_emulator/health").status_code == 200, "Redis answers again")
    assert api.stats(queue)["depth"] == 0


@pytest.mark.parametrize("rewritten", [False, True], ids=["", "from a snapshot and what came after it"])
def test_the_figures_are_exact_after_redis_has_restarted(
    durable: tuple[RedisServer, WorkyardServer], new_api: Callable[..., Api], rewritten: bool
) -> None:
    """Redis 7.0 logs a hand-out without the group's count of what it has read: its lag is unknown then, or too large."""
    store, running = durable
    api = new_api(running.url)
    queue = api.queue()
    items = [item["id"] for item in api.enqueue(queue, 9)]
    api.active(queue)
    api.poll(queue)
    if rewritten:
        with redis.Redis(port=store.port) as raw:
            raw.bgrewriteaof()
            wait_until(lambda: raw.info("persistence")["aof_rewrite_in_progress"] == 0, "the file is rewritten")
    api.enqueue(queue, 2)
    api.poll(queue)
    api.ok(api.stop(queue, items[5]))
    store.stop()
    store.start()
    wait_until(lambda: api.get("/_emulator/health").status_code == 200, "it is back")
    assert (api.stats(queue)["depth"], api.stats(queue)["pending"]) == (7, 2)
    assert api.ok(api.get("/_emulator/invariants"))["violations"] == []
    for left in range(6, -1, -1):
        assert api.poll(queue, reclaim_older_than_ms=600_000) is not None
        assert api.stats(queue)["depth"] == left


def test_streams_outlast_a_redis_that_goes_and_comes_back(
    durable: tuple[RedisServer, WorkyardServer], new_api: Callable[..., Api]
) -> None:
    """They stay open meanwhile, and miss and repeat nothing."""
    store, running = durable
    api = new_api(running.url, reset=False)
    api.script(SILENT)
    queue = api.queue()
    made = [session(api, queue)["id"] for _ in range(2)]
    streams = [Follower(api.url, each, api.api_key) for each in made]
    for times in (1, 2, 3):
        for each in made:
            send(api, each, MESSAGE)
        wait_until(partial(_heard, streams, ANSWERED * times), "each message and its answer")
        if times < 3:
            store.stop()
            wait_until(partial(_has_tried, running, times), "the streams have tried to read")
            store.start()
            wait_until(lambda: api.get("/_emulator/health").status_code == 200, "Redis is back")
    assert [stream.events for stream in streams] == [events(api, each)[1:] for each in made]
    assert "Traceback" not in running.log()
    api.reset()
    assert all(stream.ended() for stream in streams)


def _heard(streams: list[Follower], types: list[str]) -> bool:
    return all(stream.types == types for stream in streams)


def _has_tried(running: WorkyardServer, times: int) -> bool:
    return running.log().count("failed to run session_events") >= times
