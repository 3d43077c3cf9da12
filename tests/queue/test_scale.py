"""What does not grow with the queue, and what never holds Redis up: the bench's big cases at a size for every run.

`scripts/bench --cases scale,tombstones,pollers` measures the same at full size. Redis measures its own commands here,
in its slow log.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from tests.support.harness import Api, RedisServer, WorkyardServer, running_server, wait_until

MOST_MS = 20.0
ITEMS, MORE_ITEMS = 2000, 10_000
WORKERS = 100


@pytest.fixture
def api(redis_backed: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client of the server on the real Redis: the embedded engine is for small queues."""
    return new_api(redis_backed.url)


@pytest.fixture
def watched(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A connection to Redis that notes every command."""
    with redis.Redis(port=redis_server.port, decode_responses=True) as client:
        client.config_set("slowlog-max-len", 100_000)
        client.config_set("slowlog-log-slower-than", 0)
        yield client
        client.config_set("slowlog-log-slower-than", -1)
        client.slowlog_reset()


def waited_ms(server: RedisServer) -> float:
    """Return how long Redis was ready to run and had no core."""
    assert server.process is not None
    account = Path(f"/proc/{server.process.pid}/schedstat")
    return int(account.read_text().split()[1]) / 1e6 if account.exists() else 0.0


@contextmanager
def no_long_command(server: RedisServer, watched: redis.Redis) -> Iterator[None]:
    """Check that no command of a block holds Redis up: what it waited for a core meanwhile is no command's fault."""
    watched.slowlog_reset()
    waited = waited_ms(server)
    yield
    waited = waited_ms(server) - waited
    # Emptying a long log takes Redis long too, and is noted.
    noted = [entry for entry in watched.slowlog_get(100_000) if b"SLOWLOG" not in entry["command"]]
    took = sorted(entry["duration"] / 1000 for entry in noted)
    assert took, "nothing was noted"
    assert took[-1] <= MOST_MS + waited, f"the slowest took {took[-5:]} ms, waiting for a core {waited} ms"


def script_us(watched: redis.Redis, call: Callable[[], Any], times: int = 30) -> float:
    """Return what the script of a call takes in Redis: the median of some, microseconds."""
    watched.slowlog_reset()
    for _ in range(times):
        call()
    noted = watched.slowlog_get(100_000)
    took = [entry["duration"] for entry in noted if entry["command"].startswith(b"EVALSHA")]
    assert len(took) >= times
    return float(statistics.median(took))


def stop_all(api: Api, queue: str, ids: list[str], connections: int = 8) -> None:
    """Stop items on several connections; a bare client, because there are many."""
    address = urlsplit(api.url)

    def stop(share: list[str]) -> None:
        link = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        for work_id in share:
            link.request("POST", api.path(queue, work_id, "stop"), headers={"x-api-key": api.api_key})
            answer = link.getresponse()
            assert (answer.status, json.loads(answer.read())["state"]) == (200, "stopped")
        link.close()

    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(stop, [ids[n::connections] for n in range(connections)]))


def test_no_call_costs_more_in_a_long_queue(api: Api, watched: redis.Redis) -> None:
    """Generous, so that only what grows with the queue fails: a cost in proportion to it would be twenty times as much."""
    short, long = api.queue(), api.queue()
    api.enqueue(short, ITEMS // 20)
    api.enqueue(long, ITEMS)
    first = {queue: api.enqueue(queue)[0]["id"] for queue in (short, long)}
    for call in (
        lambda queue: api.stats(queue),
        lambda queue: api.work(queue, first[queue]),
        lambda queue: api.ok(api.get(api.path(queue))),
        lambda queue: api.poll(queue),
        lambda queue: api.ok(api.post(api.path(queue, first[queue]), json={"metadata": {"a": "b"}})),
    ):
        few = script_us(watched, lambda: call(short))  # noqa: B023
        many = script_us(watched, lambda: call(long))  # noqa: B023
        assert many < 4 * few + 500, f"{few} us in a queue of {ITEMS // 20}, {many} us in one of {ITEMS}"


def test_every_page_of_a_long_list_costs_the_same(api: Api, watched: redis.Redis) -> None:
    """From the first page to the last, each item once, newest first."""
    queue = api.queue()
    made = [item["id"] for item in api.enqueue(queue, ITEMS)]
    found: list[str] = []
    costs: list[float] = []
    query: dict[str, Any] = {"limit": 100}

    def page() -> dict[str, Any]:
        answer: dict[str, Any] = api.ok(api.get(api.path(queue), params=query))
        return answer

    while len(found) < ITEMS:
        costs.append(script_us(watched, page, 3))
        answer = page()
        found += [item["id"] for item in answer["data"]]
        query["page"] = answer["next_page"]
    assert query["page"] is None
    assert found == made[::-1]
    # Generous: a page may meet a moment in which Redis has no core.
    assert statistics.median(costs[-5:]) < 4 * statistics.median(costs[:5]) + 500, f"pages took {costs} us"


@pytest.mark.parametrize("order", ["oldest first", "newest first", "all but the newest, newest first"])
def test_unpolled_items_that_were_stopped_are_nothing_to_the_next_poll(
    api: Api, redis_server: RedisServer, watched: redis.Redis, order: str
) -> None:
    """However many, in whatever order: the figures and the hand-out are exact, and no script is long."""
    queue = api.queue()
    # With one left that waits behind them, they cannot be stepped over all at once.
    one_left = order.startswith("all but")
    items = [item["id"] for item in api.enqueue(queue, ITEMS if one_left else ITEMS // 4)]
    doomed = items[:-1] if one_left else items
    with no_long_command(redis_server, watched):
        stop_all(api, queue, doomed if order == "oldest first" else doomed[::-1])
        figures = api.stats(queue)
        assert (figures["depth"], figures["pending"]) == (len(items) - len(doomed), 0)
        if not one_left:
            items += [api.enqueue(queue)[0]["id"]]
        assert api.poll(queue)["id"] == items[-1]
        assert api.poll(queue) is None
        figures = api.stats(queue)
        assert (figures["depth"], figures["pending"]) == (0, 1)
    # What was stepped over is not kept either.
    api.ok(api.ack(queue, items[-1]))
    [stream] = list(watched.scan_iter(f"*{queue}*stream"))
    assert watched.xlen(stream) == 0


@pytest.mark.parametrize("way", ["delete", "reset"])
def test_removing_a_long_queue_holds_redis_up_for_no_call(
    api: Api, redis_server: RedisServer, watched: redis.Redis, way: str
) -> None:
    """Waiting, pending and leased items alike."""
    queue = api.queue()
    api.enqueue(queue, MORE_ITEMS)
    for _ in range(5):
        api.poll(queue)
        api.active(queue)
    with no_long_command(redis_server, watched):
        if way == "delete":
            api.ok(api.delete(f"/v1/environments/{queue}?force=true"))
        else:
            # Other servers of this Redis may remove a part of it.
            assert api.reset()["leftover_keys"] == 0
    assert list(watched.scan_iter(f"*{queue}*")) == []


def test_a_queued_item_takes_at_most_a_kibibyte_and_a_half(api: Api, redis_server: RedisServer) -> None:
    """By Redis's own account, entry and place in the list included."""
    queue = api.queue()
    with redis.Redis(port=redis_server.port) as watch:
        before = watch.info("memory")["used_memory_dataset"]
        api.enqueue(queue, MORE_ITEMS)
        assert 0 < (watch.info("memory")["used_memory_dataset"] - before) / MORE_ITEMS < 1536


def test_a_hundred_waiting_workers_are_served_in_order_over_a_bounded_number_of_connections(
    new_redis: Callable[..., RedisServer], new_api: Callable[..., Api]
) -> None:
    """The order in which they first looked, as Redis has it; a Redis of their own, to count connections."""
    own, most = new_redis(), 2
    with (
        running_server("--redis-url", own.url, "--redis-connections", str(most)) as server,
        redis.Redis(port=own.port, decode_responses=True) as watch,
    ):
        api = new_api(server.url, reset=False)
        queue, links, order = _in_line(api, watch)
        made = [item["id"] for item in api.enqueue(queue, WORKERS)]
        served = {worker: json.loads(link.getresponse().read()) for worker, link in links.items()}
        # The watching one, and the one that hears the wake-ups.
        assert watch.info("clients")["connected_clients"] <= most + 2
        assert [(served[worker] or {}).get("id") for worker in order] == made
        for link in links.values():
            link.close()


def _in_line(api: Api, watch: redis.Redis) -> tuple[str, dict[str, http.client.HTTPConnection], list[str]]:
    """Begin polls, and tell the order in which they came; a machine that stalls gets another try."""
    for _ in range(5):
        queue, address = api.queue(), urlsplit(api.url)
        links = {
            f"worker-{number:03}": http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
            for number in range(WORKERS)
        }
        for link in links.values():
            link.connect()
        began = time.monotonic()
        for worker, link in links.items():
            headers = {"x-api-key": api.api_key, "Anthropic-Worker-ID": worker}
            link.request("GET", f"{api.path(queue, 'poll')}?block_ms=999", headers=headers)
        pollers = f"wy:{{{queue}}}:pollers"
        wait_until(lambda: watch.zcard(pollers) == WORKERS, "all have looked")  # noqa: B023
        order = [str(worker) for worker in watch.zrange(pollers, 0, -1)]
        if time.monotonic() - began < 0.7:
            return queue, links, order
        for link in links.values():
            link.close()
    raise AssertionError(f"five times, it took over 700 ms until {WORKERS} polls were in line")
