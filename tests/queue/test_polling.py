"""The poll: in which order it hands out, what ends its wait, who is served first. Rules: `work.poll.*`."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.harness import NOON, Api, after, instant, refused, wait_until

AT_ONCE_S = 0.5
BLOCK_MS = 999


class Line:
    """Blocked polls of one environment, each in a thread, each begun when the one before has arrived."""

    def __init__(self, pool: ThreadPoolExecutor, api: Api, queue: str) -> None:
        self._pool, self._api, self._queue = pool, api, queue
        self._workers = 0

    def join(self, block_ms: int = BLOCK_MS, **query: Any) -> Future[tuple[httpx.Response, float]]:
        """Begin a poll; it is in line when this returns. Its result is the answer, and when that came."""
        self._workers += 1
        worker, path = f"worker-{self._workers}", self._api.path(self._queue, "poll")

        def poll() -> tuple[httpx.Response, float]:
            headers = {"Anthropic-Worker-ID": worker}
            answer = self._api.get(path, params={"block_ms": block_ms, **query}, headers=headers)
            return answer, time.monotonic()

        begun = self._pool.submit(poll)
        self.arrived(self._workers)
        return begun

    def join_all(self, *queries: dict[str, Any]) -> list[Future[tuple[httpx.Response, float]]]:
        """Begin several polls while the first has most of its wait before it; a machine that stalls gets another try."""
        for _ in range(5):
            began = time.monotonic()
            polls = [self.join(**query) for query in queries]
            if time.monotonic() - began < 0.3:
                return polls
            wait(polls)
        raise AssertionError("five times, it took over 300 ms until the polls were in line")

    def arrived(self, workers: int) -> None:
        """Wait until so many workers have polled."""
        wait_until(lambda: self._api.stats(self._queue)["workers_polling"] == workers, f"poll {workers} has arrived")


@pytest.fixture
def new_line() -> Iterator[Callable[[Api, str], Line]]:
    """Make lines of blocked polls; no thread outlives the test."""
    with ThreadPoolExecutor(32) as pool:
        yield lambda api, queue: Line(pool, api, queue)


def served(answers: list[Future[tuple[httpx.Response, float]]], since: float | None = None) -> list[str | None]:
    """Return the ids that blocked polls got, in the order the polls began; all of them at once, if *since* says when."""
    results = [answer.result() for answer in answers]
    if since is not None:
        assert max(answered for _, answered in results) - since < AT_ONCE_S
    bodies = [Api.ok(answer) for answer, _ in results]
    return [body and body["id"] for body in bodies]


# -- order


def test_the_oldest_waiting_item_comes_first(api: Api) -> None:
    """In the order of their enqueue, also of one call."""
    api.freeze()
    queue = api.queue()
    made = [item["id"] for count in (1, 3, 1) for item in api.enqueue(queue, count)]
    assert [api.poll(queue)["id"] for _ in made] == made
    assert api.poll(queue) is None


def test_reclaimable_items_come_first_by_time_of_hand_out_then_stream_order(api: Api) -> None:
    """Whoever was handed out longest ago; of one instant, whoever entered the queue first; then what waits."""
    api.freeze()
    queue = api.queue()
    a, b, c, d, e = (item["id"] for item in api.enqueue(queue, 5))
    assert api.poll(queue)["id"] == a
    api.freeze(after(NOON, 1))
    assert [api.poll(queue, reclaim_older_than_ms=9000)["id"] for _ in range(2)] == [b, c]
    api.freeze(after(NOON, 2))
    assert api.poll(queue, reclaim_older_than_ms=2000)["id"] == a
    api.freeze(after(NOON, 6))
    # b and c: handed out at 1, five seconds ago; a: at 2, not yet; d and e wait.
    assert [api.poll(queue)["id"] for _ in range(4)] == [b, c, d, e]
    assert api.poll(queue) is None
    api.freeze(after(NOON, 7))
    assert api.poll(queue)["id"] == a
    assert api.poll(queue) is None
    api.freeze(after(NOON, 20))
    # b, c, d, e: at 6, in stream order; a: at 7.
    assert [api.poll(queue)["id"] for _ in range(5)] == [b, c, d, e, a]


def test_a_hand_out_counts_from_the_last_one(api: Api) -> None:
    """An item that was taken over is pending anew, for whoever asks with whatever age."""
    api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue)
    api.poll(queue)
    api.freeze(after(NOON, 5))
    assert api.poll(queue)["id"] == item["id"]
    api.freeze(after(NOON, 9.999999))
    assert api.poll(queue) is None
    assert api.poll(queue, reclaim_older_than_ms=5000) is None
    api.freeze(after(NOON, 10))
    assert api.poll(queue, reclaim_older_than_ms=5001) is None
    assert api.poll(queue, reclaim_older_than_ms=5000)["id"] == item["id"]


def test_an_acknowledged_item_is_never_handed_out_again(api: Api) -> None:
    """Not even to a poll that reclaims after a millisecond."""
    api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue)
    api.poll(queue)
    api.ok(api.ack(queue, item["id"]))
    api.freeze(after(NOON, 119))
    assert api.poll(queue, reclaim_older_than_ms=1) is None


def test_the_reclaim_age_is_the_workspaces_unless_the_poll_says_otherwise(
    api: Api, new_api: Callable[..., Api]
) -> None:
    """A setting of one workspace; another one keeps the default of 5000 ms."""
    other = new_api(api.url)
    queues = {}
    for client in (api, other):
        client.freeze()
        queues[client] = client.queue()
        client.enqueue(queues[client])
        client.poll(queues[client])
    api.ok(api.post("/_emulator/settings", json={"reclaim_ms": 200}))
    for client in (api, other):
        client.freeze(after(NOON, 0.199999))
        assert client.poll(queues[client]) is None
        client.freeze(after(NOON, 0.2))
    assert api.poll(queues[api], reclaim_older_than_ms=201) is None
    assert api.poll(queues[api]) is not None
    assert other.poll(queues[other]) is None
    assert other.poll(queues[other], reclaim_older_than_ms=200) is not None


def test_an_archived_environment_drains(api: Api, new_line: Callable[[Api, str], Line]) -> None:
    """What is queued is handed out, what lapses is queued again, and a poll may block on it."""
    api.freeze()
    queue = api.queue()
    first, second = (item["id"] for item in api.enqueue(queue, 2))
    api.ok(api.post(f"/v1/environments/{queue}/archive"))
    assert [api.poll(queue)["id"] for _ in range(2)] == [first, second]
    api.ok(api.ack(queue, first))
    blocked = new_line(api, queue).join(reclaim_older_than_ms=1_000_000)
    api.freeze(after(NOON, 120))
    assert served([blocked]) == [first]


# -- what ends a wait


def _nothing(api: Api, queue: str) -> None:
    """Leave the queue empty."""


def _lease(api: Api, queue: str) -> None:
    """Leave an item under lease."""
    api.enqueue(queue)
    api.active(queue, ttl=60)


def _pending(api: Api, queue: str) -> None:
    """Leave an item handed out three seconds ago."""
    api.enqueue(queue)
    api.poll(queue)
    api.advance(3)


def _stopped(api: Api, queue: str) -> None:
    """Leave a stopped item."""
    [item] = api.enqueue(queue, session_id="session_01TheOneSession")
    api.ok(api.stop(queue, item["id"]))


def _told(api: Api, queue: str) -> None:
    """Leave an acknowledged item whose session got a message."""
    [item] = api.enqueue(queue, session_id="session_01TheOneSession")
    api.ok(api.ack(queue, item["id"]))
    api.enqueue(queue, session_id="session_01TheOneSession")


CAUSES: dict[str, tuple[Callable[[Api, str], Any], Callable[[Api, str], Any]]] = {
    "an enqueue": (_nothing, lambda api, queue: api.enqueue(queue)),
    "an enqueue of many": (_nothing, lambda api, queue: api.enqueue(queue, 30)),
    "a message": (_stopped, lambda api, queue: api.enqueue(queue, session_id="session_01TheOneSession")),
    "the stop of an item with a message": (
        _told,
        lambda api, queue: api.stop(queue, api.get(api.path(queue)).json()["data"][0]["id"], force=True),
    ),
    "a lapse, by an advance": (_lease, lambda api, queue: api.advance(60)),
    "the reclaim age, by an advance": (_pending, lambda api, queue: api.advance(2)),
    "a lapse, by another instant": (_lease, lambda api, queue: api.freeze(after(NOON, 60))),
    "the reclaim age, by a setting": (
        _pending,
        lambda api, queue: api.ok(api.post("/_emulator/settings", json={"reclaim_ms": 3000})),
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_blocked_poll_is_answered_at_once(api: Api, new_line: Callable[[Api, str], Line], cause: str) -> None:
    """By whatever makes work available, on a clock that stands still."""
    prepare, happen = CAUSES[cause]
    api.freeze()
    queue = api.queue()
    prepare(api, queue)
    blocked = new_line(api, queue).join()
    started = time.monotonic()
    happen(api, queue)
    answer, answered = blocked.result()
    work = Api.ok(answer)
    assert work is not None
    assert (work["state"], work["environment_id"]) == ("queued", queue)
    assert work["secret"] is not None
    assert answered - started < AT_ONCE_S
    figures = api.stats(queue)
    assert figures["pending"] == 1


def test_an_advance_of_a_ticking_clock_wakes_too(api: Api, new_line: Callable[[Api, str], Line]) -> None:
    """The timer that waits for the lapse is an hour off when the clock jumps."""
    queue = api.queue()
    api.enqueue(queue)
    work, _ = api.active(queue, ttl=3600)
    blocked = new_line(api, queue).join()
    started = time.monotonic()
    api.advance(3600)
    answer, answered = blocked.result()
    assert Api.ok(answer)["id"] == work
    assert answered - started < AT_ONCE_S


def test_a_lapse_by_the_passing_of_time_ends_a_wait(api: Api, new_line: Callable[[Api, str], Line]) -> None:
    """Nobody tells: the poll itself knows when the lease ends, and is neither early nor late."""
    queue = api.queue()
    api.enqueue(queue)
    work, beat = api.active(queue, ttl=1)
    now, started = api.advance(0.6), time.monotonic()
    left = 1 - (instant(now) - instant(beat)).total_seconds()
    answer, answered = new_line(api, queue).join().result()
    assert Api.ok(answer)["id"] == work
    assert left - 0.05 < answered - started < left + AT_ONCE_S


def test_the_reclaim_age_reached_by_the_passing_of_time_ends_a_wait(
    api: Api, new_line: Callable[[Api, str], Line]
) -> None:
    """The same for an item that was handed out."""
    queue = api.queue()
    [item] = api.enqueue(queue)
    started = time.monotonic()
    api.poll(queue)
    answer, answered = new_line(api, queue).join(reclaim_older_than_ms=300).result()
    assert Api.ok(answer)["id"] == item["id"]
    assert 0.3 <= answered - started < 0.3 + AT_ONCE_S


@pytest.mark.parametrize("ages", [(150, 150, 150), (5000, 900, 300)], ids=str)
def test_every_poll_in_line_knows_when_it_may_take_over_what_another_one_took(
    api: Api, new_line: Callable[[Api, str], Line], ages: tuple[int, int, int]
) -> None:
    """The queue is empty when they begin. One item: the first gets it, the others as soon as it is old enough for them."""
    queue = api.queue()
    blocked = new_line(api, queue).join_all(*({"reclaim_older_than_ms": age} for age in ages))
    started, after_s = time.monotonic(), 0.0
    [item] = api.enqueue(queue)
    assert served(blocked[:1], started) == [item["id"]]
    for each, age in zip(blocked[1:], ages[1:], strict=True):
        if age <= 300:
            after_s += age / 1000
            answer, answered = each.result()
            assert Api.ok(answer)["id"] == item["id"]
            assert after_s <= answered - started < after_s + 0.3


def test_a_clock_that_is_released_ends_a_wait_in_its_time(api: Api, new_line: Callable[[Api, str], Line]) -> None:
    """While the clock stood still nothing was due; now the lease ends in 200 ms."""
    api.freeze()
    queue = api.queue()
    api.enqueue(queue)
    work, _ = api.active(queue, ttl=1)
    api.advance(0.8)
    blocked = new_line(api, queue).join()
    started = time.monotonic()
    api.ok(api.post("/_emulator/clock", json={"mode": "real"}))
    answer, answered = blocked.result()
    assert Api.ok(answer)["id"] == work
    assert 0.2 <= answered - started < 0.2 + AT_ONCE_S


@pytest.mark.parametrize("end", ["delete", "delete by force", "reset"])
def test_a_blocked_poll_meets_404_when_its_environment_goes(
    api: Api, new_line: Callable[[Api, str], Line], end: str
) -> None:
    """At once, and all of those that wait; polls of another environment go on."""
    queue, other = api.queue(), api.queue()
    api.enqueue(queue)
    api.active(queue)
    blocked = new_line(api, queue).join_all({}, {}, {})
    elsewhere = None if end == "reset" else new_line(api, other).join(block_ms=200)
    started = time.monotonic()
    if end == "reset":
        api.reset()
    else:
        api.ok(api.delete(f"/v1/environments/{queue}", params={"force": "true"} if end == "delete by force" else {}))
    for each in blocked:
        answer, answered = each.result()
        refused(answer, 404, f"Environment {queue} not found.")
        assert answered - started < AT_ONCE_S
    if elsewhere is not None:
        assert served([elsewhere]) == [None]


def test_a_poll_without_work_waits_its_time_whatever_the_clock_does(api: Api, new_api: Callable[..., Api]) -> None:
    """`block_ms` is wall time: on a ticking clock, on one that stands still, and on one that jumps ahead meanwhile."""
    ticking, jumping = new_api(api.url), new_api(api.url)
    api.freeze()
    clients = {"frozen": api, "ticking": ticking, "jumping": jumping}
    queues = {name: client.queue() for name, client in clients.items()}

    def poll(name: str, block_ms: int) -> tuple[str, float]:
        started = time.monotonic()
        answer = clients[name].get(clients[name].path(queues[name], "poll"), params={"block_ms": block_ms})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        return answer.text, time.monotonic() - started

    with ThreadPoolExecutor(16) as pool:
        waits = {(name, ms): pool.submit(poll, name, ms) for name in clients for ms in (1, 250, 999)}
        for _ in range(5):
            jumping.advance(3600)
        for (_, block_ms), waited in waits.items():
            body, seconds = waited.result()
            assert body == "null"
            assert block_ms / 1000 <= seconds < block_ms / 1000 + AT_ONCE_S


def test_a_poll_that_does_not_block_answers_at_once(api: Api) -> None:
    """With nothing there, and without waiting for what is due soon."""
    queue = api.queue()
    api.enqueue(queue)
    api.poll(queue)
    started = time.monotonic()
    assert api.poll(queue) is None
    assert time.monotonic() - started < AT_ONCE_S


def test_a_blocked_poll_is_counted_as_polling_while_it_waits(api: Api, new_line: Callable[[Api, str], Line]) -> None:
    """It is stamped when it arrives and at each change of the clock, so it does not fall out of the 30 s window."""
    api.freeze()
    queue = api.queue()
    line = new_line(api, queue)
    blocked = line.join()
    for _ in range(3):
        api.advance(29)
        wait_until(lambda: api.stats(queue)["workers_polling"] == 1, "it was stamped anew")
    api.advance(31)
    line.arrived(1)
    api.enqueue(queue)
    assert served([blocked]) != [None]
    api.advance(29.999999)
    assert api.stats(queue)["workers_polling"] == 1
    api.advance(0.000001)
    assert api.stats(queue)["workers_polling"] == 0


# -- first come, first served


def test_blocked_polls_are_served_in_the_order_they_came(api: Api, new_line: Callable[[Api, str], Line]) -> None:
    """One enqueue of as many items as there are polls: the first gets the first."""
    queue = api.queue()
    blocked = new_line(api, queue).join_all({}, {}, {}, {}, {}, {})
    started = time.monotonic()
    made = [item["id"] for item in api.enqueue(queue, 6)]
    assert served(blocked, started) == made


def test_one_item_at_a_time_goes_to_whoever_waits_longest(api: Api, new_line: Callable[[Api, str], Line]) -> None:
    """The others stay in line, and the last one leaves with nothing."""
    queue = api.queue()
    blocked = new_line(api, queue).join_all({}, {}, {}, {}, {})
    for turn in range(4):
        started = time.monotonic()
        [item] = api.enqueue(queue)
        assert served(blocked[turn : turn + 1], started) == [item["id"]]
        assert not any(each.done() for each in blocked[turn + 1 :])
    assert served(blocked[4:]) == [None]


def test_a_clock_change_serves_in_the_order_they_came(api: Api, new_line: Callable[[Api, str], Line]) -> None:
    """All are woken at once; still the first gets the item whose lease ended first."""
    api.freeze()
    queue = api.queue()
    made = [item["id"] for item in api.enqueue(queue, 5)]
    for work, ttl in zip(made, (50, 40, 30, 20, 10), strict=True):
        api.ok(api.ack(queue, work))
        api.ok(api.heartbeat(queue, work, "NO_HEARTBEAT", ttl))
    blocked = new_line(api, queue).join_all({}, {}, {}, {}, {})
    started = time.monotonic()
    api.advance(60)
    assert served(blocked, started) == made[::-1]


def test_the_passing_of_time_serves_in_the_order_they_came(api: Api, new_line: Callable[[Api, str], Line]) -> None:
    """All timers end at one instant, and the item is his who waited longest."""
    queue = api.queue()
    [item] = api.enqueue(queue)
    api.poll(queue)
    blocked = new_line(api, queue).join_all(*[{"reclaim_older_than_ms": 700}] * 8)
    assert served(blocked) == [item["id"], *[None] * 7]


# -- clients that leave


def _knock(api: Api, queue: str, worker: str) -> socket.socket:
    """Begin a blocked poll on a socket of its own."""
    url = urlsplit(api.url)
    link = socket.create_connection((url.hostname, url.port), timeout=5)
    link.sendall(
        f"GET {api.path(queue, 'poll')}?block_ms={BLOCK_MS} HTTP/1.1\r\nhost: {url.netloc}\r\n"
        f"x-api-key: {api.api_key}\r\nanthropic-worker-id: {worker}\r\n\r\n".encode()
    )
    return link


def _leave(link: socket.socket, way: str) -> None:
    if way == "reset":
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_left_while_it_waited_takes_nothing_with_it(api: Api, way: str) -> None:
    """The next poll gets the item, which was never pending before."""
    api.freeze()
    queue = api.queue()
    links = [_knock(api, queue, f"gone-{n}") for n in range(3)]
    wait_until(lambda: api.stats(queue)["workers_polling"] == 3, "the polls have arrived")
    for link in links:
        _leave(link, way)
    [item] = api.enqueue(queue)
    figures = api.stats(queue)
    assert (figures["depth"], figures["pending"]) == (1, 0)
    assert api.poll(queue, block_ms=BLOCK_MS)["id"] == item["id"]
    figures = api.stats(queue)
    assert (figures["depth"], figures["pending"]) == (0, 1)


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_left_does_not_hold_up_the_line_behind_it(
    api: Api, new_line: Callable[[Api, str], Line], way: str
) -> None:
    """The first in line is gone; the second is served at once."""
    api.freeze()
    queue = api.queue()
    gone = _knock(api, queue, "worker-0")
    line = new_line(api, queue)
    line.arrived(1)
    waiting = line._pool.submit(api.poll, queue, "worker-1", block_ms=BLOCK_MS)
    line.arrived(2)
    _leave(gone, way)
    started = time.monotonic()
    [item] = api.enqueue(queue)
    assert waiting.result()["id"] == item["id"]
    assert time.monotonic() - started < AT_ONCE_S
    figures = api.stats(queue)
    assert (figures["depth"], figures["pending"]) == (0, 1)


def test_an_item_whose_taker_left_is_reclaimed(api: Api) -> None:
    """Once it was handed out it stays pending, whether anybody read the answer or not."""
    api.freeze()
    queue = api.queue()
    link = _knock(api, queue, "gone")
    wait_until(lambda: api.stats(queue)["workers_polling"] == 1, "the poll has arrived")
    [item] = api.enqueue(queue)
    wait_until(lambda: api.stats(queue)["pending"] == 1, "it was handed out")
    link.close()
    assert api.poll(queue) is None
    api.advance(5)
    assert api.poll(queue)["id"] == item["id"]


# -- parameters


@pytest.mark.parametrize("name", ["block_ms", "reclaim_older_than_ms"])
@pytest.mark.parametrize("value", ["0", "-1", "", "1.0", "1e2", " 1", "x", "0x10", "١"])
def test_a_bad_parameter_is_refused_by_name(api: Api, name: str, value: str) -> None:
    """And hands nothing out."""
    queue = api.queue()
    api.enqueue(queue)
    answer = api.get(api.path(queue, "poll"), params={name: value})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["message"].startswith(f"{name}: ")
    assert api.stats(queue)["pending"] == 0


def test_a_wait_has_an_upper_bound_and_an_age_has_none(api: Api) -> None:
    """999 ms at most; any age."""
    queue = api.queue()
    api.enqueue(queue)
    for value in ("1000", "99999999999999999999"):
        refused(
            api.get(api.path(queue, "poll"), params={"block_ms": value}),
            400,
            "block_ms: Input should be less than or equal to 999",
        )
    assert api.poll(queue, block_ms=999, reclaim_older_than_ms=99_999_999_999_999_999_999) is not None
    assert api.poll(queue, reclaim_older_than_ms=99_999_999_999_999_999_999) is None
