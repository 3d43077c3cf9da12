"""Several server processes on one Redis are one service, and waiting costs nothing. Rule: `work.poll.connections`."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import redis

from tests.support.harness import NOON, SILENT, Api, RedisServer, WorkyardServer, after, scripts_run, wait_until
from tests.support.sessions import MESSAGE, send, session
from tests.support.streams import ANSWERED, LISTENERS, Follower

#: Scripts that servers run by themselves, for agents that wait.
OF_THEIR_OWN = 10
BLOCKED = 200


@pytest.fixture(scope="module")
def second(redis_server: RedisServer) -> Iterator[WorkyardServer]:
    """Another server process on the same Redis."""
    running = WorkyardServer("--redis-url", redis_server.url)
    yield running
    running.close()


@pytest.fixture
def raw(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A plain client of the Redis under the servers."""
    client: redis.Redis = redis.Redis(port=redis_server.port, decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def both(redis_backed: WorkyardServer, second: WorkyardServer, new_api: Callable[..., Api]) -> tuple[Api, Api]:
    """One workspace through two server processes."""
    first = new_api(redis_backed.url)
    return first, new_api(second.url, first.api_key, reset=False)


def test_a_poll_returns_at_once_on_an_enqueue_through_another_process(both: tuple[Api, Api]) -> None:
    """The bench measures how fast; here 500 ms."""
    waiting, enqueueing = both
    queue = waiting.queue()
    with ThreadPoolExecutor(1) as pool:
        for _ in range(5):
            blocked = pool.submit(waiting.poll, queue, "w", block_ms=999)
            wait_until(lambda: waiting.stats(queue)["workers_polling"] == 1, "the poll has arrived")
            started = time.monotonic()
            [item] = enqueueing.enqueue(queue)
            assert blocked.result()["id"] == item["id"]
            assert time.monotonic() - started < 0.5
            waiting.ok(waiting.stop(queue, item["id"]))
            waiting.advance(31)  # out of the window: the next poll's arrival shows in the statistics


@pytest.mark.parametrize("change", ["clock", "settings", "archive", "revive"])
def test_a_change_through_one_process_is_seen_by_the_next_request_to_the_other(
    both: tuple[Api, Api], change: str
) -> None:
    """Nothing is cached that another process can change."""
    here, there = both
    here.freeze()
    queue = here.queue()
    here.enqueue(queue)
    work, _ = here.active(queue, ttl=60)
    for turn in range(1, 6):
        if change == "clock":
            now = here.advance(1)
            assert there.ok(there.get("/_emulator/clock"))["now"] == now
            [item] = there.enqueue(queue)
            assert item["created_at"] == now
        elif change == "settings":
            here.ok(here.post("/_emulator/settings", json={"default_ttl_seconds": 100 + turn}))
            beat = here.work(queue, work)["latest_heartbeat_at"]
            assert there.heartbeat(queue, work, beat).json()["ttl_seconds"] == 100 + turn
        elif change == "archive":
            other = here.queue()
            here.ok(here.post(f"/v1/environments/{other}/archive"))
            assert there.post(f"/_emulator/environments/{other}/work").status_code == 400
        else:
            here.ok(here.stop(queue, work, True))
            [again] = here.enqueue(queue, session_id=here.work(queue, work)["data"]["id"])
            assert there.poll(queue)["id"] == again["id"]
            here.ok(here.ack(queue, work))


def test_a_clock_in_auto_is_moved_once_whoever_finds_that_it_is_time(both: tuple[Api, Api]) -> None:
    """Polls wait in both processes, and each finds that the clock has to jump, to each of two ages in turn."""
    first, _ = both
    first.freeze()
    queue = first.queue()
    for _ in range(2):
        first.enqueue(queue)
        first.poll(queue)
        first.advance(2)
    first.ok(first.post("/_emulator/clock", json={"mode": "auto"}))

    def taken(api: Api) -> object:
        return wait_until(lambda: api.poll(queue, "worker", block_ms=999), "an item is taken over")

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(taken, both))
    assert first.ok(first.get("/_emulator/clock"))["now"] == after(NOON, 7)


def test_fault_rules_hold_and_count_in_every_process(both: tuple[Api, Api]) -> None:
    """From the next request on, wherever it goes; so does their end. One that is named by number hits once in all."""
    here, there = both
    queue = here.queue()
    assert there.get(there.path(queue, "stats")).status_code == 200
    rules = [{"on": "stats", "nth": nth, "do": {"status": status}} for nth, status in (([1, 3], 500), (4, 529))]
    for turn in range(3):
        here.ok(here.post("/_emulator/faults", json={"rules": rules}, params={"replace": "true"}))
        with ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(each.get, each.path(queue, "stats")) for each in (there, here) * 3]
            statuses = Counter(answer.result().status_code for answer in asked)
        assert statuses == {200: 3, 500: 2, 529: 1}, turn
        rows = there.ok(there.get("/_emulator/faults"))["data"]
        assert [(row["asked"], row["hits"], row["left"]) for row in rows] == [(6, 2, 0), (6, 1, 0)]
    there.ok(there.post("/_emulator/faults", json={"on": "environments.list", "do": {"status": 500}}))
    assert here.get("/v1/environments").status_code == 500
    here.ok(here.post("/_emulator/faults", json={"on": "stats", "nth": "every", "do": {"status": 500}}))
    there.ok(there.delete("/_emulator/faults"))
    assert here.get(here.path(queue, "stats")).status_code == 200


def test_a_clock_in_auto_waits_for_what_is_under_way_at_another_process(both: tuple[Api, Api]) -> None:
    """An acknowledgement on its slow way there is not overtaken by the poll that waits here."""
    here, there = both
    here.freeze()
    queue = here.queue()
    [item] = here.enqueue(queue)
    here.poll(queue)
    here.ok(here.post("/_emulator/clock", json={"mode": "auto"}))
    here.ok(here.post("/_emulator/faults", json={"on": "ack", "do": {"delay_ms": 400}}))
    with ThreadPoolExecutor(1) as pool:
        acknowledged = pool.submit(there.ack, queue, item["id"])
        wait_until(lambda: here.ok(here.get("/_emulator/faults"))["data"][0]["hits"], "it is on its way")
        assert here.poll(queue, "worker", block_ms=700) is None
        there.ok(acknowledged.result())
    assert here.ok(here.get("/_emulator/clock"))["now"] == NOON


def test_two_hundred_blocked_polls_hold_a_handful_of_connections_and_do_not_look(
    redis_backed: WorkyardServer, new_api: Callable[..., Api], raw: redis.Redis
) -> None:
    """A poll asks Redis when it arrives and when it is answered; in between Redis hears nothing."""
    api = new_api(redis_backed.url)
    queue = api.queue()
    host, port = redis_backed.url.removeprefix("http://").split(":")
    links = [socket.create_connection((host, int(port))) for _ in range(BLOCKED)]
    try:
        connections, scripts = len(raw.client_list()), scripts_run(raw)
        for number, link in enumerate(links):
            link.sendall(
                f"GET {api.path(queue, 'poll')}?block_ms=900 HTTP/1.1\r\nhost: {host}\r\nx-api-key: {api.api_key}\r\n"
                f"anthropic-worker-id: w{number}\r\nconnection: close\r\n\r\n".encode()
            )
        wait_until(lambda: raw.zcard(f"wy:{{{queue}}}:pollers") == BLOCKED, "all polls have asked once")
        assert len(raw.client_list()) - connections <= 12
        heard = []
        for _ in range(3):  # What servers do by themselves, every 30 s, may fall into one of these.
            before = raw.info("stats")["total_commands_processed"]
            time.sleep(0.15)  # Not to wait for something: to see that nothing happens. All polls block for longer.
            heard.append(raw.info("stats")["total_commands_processed"] - before)
        assert min(heard) <= 2
        for link in links:
            link.settimeout(5)
            answer = b"".join(iter(partial(link.recv, 4096), b""))
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"null")
        assert scripts_run(raw) - scripts <= 2 * BLOCKED + OF_THEIR_OWN
    finally:
        for link in links:
            link.close()


def test_listeners_of_one_session_read_together(
    redis_backed: WorkyardServer, raw: redis.Redis, new_api: Callable[..., Api]
) -> None:
    """What a message costs does not grow with them: large events would keep Redis busy for seconds."""
    api = new_api(redis_backed.url)
    api.script(SILENT)
    made = session(api, api.queue())["id"]
    streams = [Follower(api.url, made, api.api_key) for _ in range(LISTENERS)]
    before = scripts_run(raw)
    send(api, made, MESSAGE)
    wait_until(lambda: all(stream.types == ANSWERED for stream in streams), "every listener has heard it")
    assert scripts_run(raw) - before < LISTENERS
    api.reset()
    assert all(stream.ended() for stream in streams)


def test_fifty_pollers_on_two_processes_take_each_of_a_thousand_items_once(both: tuple[Api, Api]) -> None:
    """No item twice, none left."""
    first, second = both
    queue = first.queue()
    items = {item["id"] for item in first.enqueue(queue, 1000)}
    taken: Counter[str] = Counter()
    lock = threading.Lock()

    def drain(number: int) -> None:
        api = both[number % 2]
        while (item := api.poll(queue, f"w{number}", block_ms=50, reclaim_older_than_ms=60_000)) is not None:
            api.ok(api.ack(queue, item["id"]))
            with lock:
                taken[item["id"]] += 1

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(drain, range(50)))
    assert set(taken) == items
    assert set(taken.values()) == {1}
    figures = second.stats(queue)
    assert (figures["depth"], figures["pending"], figures["oldest_queued_at"]) == (0, 0, None)
    assert figures["workers_polling"] == 50


def test_an_environment_half_deleted_by_a_crash_is_finished_by_another_server(
    redis_server: RedisServer, redis_backed: WorkyardServer, new_api: Callable[..., Api], raw: redis.Redis
) -> None:
    """The record is gone, the rest is not: the next server that starts removes it."""
    api = new_api(redis_backed.url)
    queue = api.queue()
    api.enqueue(queue, 3)
    workspace = raw.hget(f"wy:{{{queue}}}:env", "ws")
    raw.zadd("wy:purge", {f"{workspace!s} {queue}": 0})
    raw.delete(f"wy:{{{queue}}}:env")
    assert api.get(f"/v1/environments/{queue}").status_code == 404
    assert raw.keys(f"wy:{{{queue}}}:*")
    finisher = WorkyardServer("--redis-url", redis_server.url)
    try:
        wait_until(lambda: not raw.keys(f"wy:{{{queue}}}:*"), "the purge is finished")
        wait_until(lambda: not raw.zcard("wy:purge"), "the intent is gone")
    finally:
        finisher.close()
