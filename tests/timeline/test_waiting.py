"""Waiting on the server, following events, and the queues at a glance. Rules: `timeline.wait.*`, `timeline.follow`."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.support.harness import Api, RedisServer, refused, running_server, wait_until

#: More than anything here takes on a busy machine, and less than a wait that is not told.
SOON_S = 5.0
FOLLOWERS = 12


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for what waits."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


def wait(api: Api, until: dict[str, Any], seconds: float = 20, **query: Any) -> httpx.Response:
    """Wait on the server."""
    return api.post("/_emulator/wait", json={"until": until, "timeout_seconds": seconds}, params=query)


def waits(api: Api, pool: ThreadPoolExecutor, until: dict[str, Any], seconds: float = 20) -> Future[httpx.Response]:
    """Begin to wait; it is not met yet."""
    begun = pool.submit(wait, api, until, seconds)
    time.sleep(0.1)
    assert not begun.done(), begun.result().text
    return begun


def met(answer: Future[httpx.Response]) -> dict[str, Any]:
    """Return what was seen by a wait that was told at once."""
    found = answer.result(SOON_S)
    assert found.status_code == 200, found.text
    told = found.json()
    assert told["met"]
    assert told["waited_ms"] >= 0
    seen: dict[str, Any] = told["seen"]
    return seen


def enqueued(api: Api, queue: str, count: int = 1) -> list[str]:
    """Enqueue items and return their ids."""
    made = api.ok(api.post(f"/_emulator/environments/{queue}/work", json={"count": count}))
    return [item["id"] for item in made["data"]]


def test_a_wait_is_told_of_each_state_of_an_item(api: Api, pool: ThreadPoolExecutor) -> None:
    """By whatever brings it about; one that is there already is not waited for."""
    queue = api.queue()
    [work] = enqueued(api, queue)
    assert api.ok(wait(api, {"work_id": work, "state": "queued"}, 0))["seen"] == {
        "state": "queued", "environments": 1, "depth": 1, "pending": 0, "leased": 0, "workers_polling": 0,
    }  # fmt: skip
    begun = waits(api, pool, {"work_id": work, "state": "starting"})
    api.poll(queue, "w")
    api.ok(api.ack(queue, work))
    assert met(begun)["state"] == "starting"
    begun = waits(api, pool, {"work_id": work, "state": "active"})
    api.ok(api.heartbeat(queue, work, "NO_HEARTBEAT", 600))
    assert met(begun)["state"] == "active"
    begun = waits(api, pool, {"work_id": work, "state": "queued", "environment_id": queue})
    api.advance(600)
    assert met(begun)["state"] == "queued"


def test_a_wait_is_met_by_a_state_that_has_passed(api: Api, pool: ThreadPoolExecutor) -> None:
    """A stopped item that a message brings back at once was stopped all the same."""
    queue = api.queue()
    message = {"session_id": "session_01TheOneSession"}
    api.ok(api.post(f"/_emulator/environments/{queue}/work", json=message))
    work, _ = api.active(queue)
    api.ok(api.post(f"/_emulator/environments/{queue}/work", json=message))
    begun = waits(api, pool, {"work_id": work, "state": "stopped"})
    api.ok(api.stop(queue, work, True))
    assert met(begun)["state"] == "queued"


def test_a_wait_wakes_when_time_alone_makes_the_change(api: Api, pool: ThreadPoolExecutor) -> None:
    """A lease ends while nobody else asks for anything."""
    queue = api.queue()
    enqueued(api, queue)
    work, _ = api.active(queue, ttl=1)
    begun = pool.submit(wait, api, {"work_id": work, "state": "queued"})
    assert met(begun)["state"] == "queued"
    assert begun.result().json()["waited_ms"] < 3000


def test_figures_are_added_up_over_the_workspace(api: Api, pool: ThreadPoolExecutor) -> None:
    """Environments that come and go while it waits are counted; one that is named is looked at alone."""
    first = api.queue()
    begun = waits(api, pool, {"stats": {"depth": 5}})
    enqueued(api, first, 2)
    second = api.queue()
    enqueued(api, second, 3)
    assert met(begun) | {"workers_polling": 0} == {
        "state": None, "environments": 2, "depth": 5, "pending": 0, "leased": 0, "workers_polling": 0,
    }  # fmt: skip
    assert api.ok(wait(api, {"stats": {"depth": 3}, "environment_id": second}, 0))["seen"]["environments"] == 1
    begun = waits(api, pool, {"stats": {"depth": 2, "pending": 0}})
    api.ok(api.delete(f"/v1/environments/{second}", params={"force": "true"}))
    assert met(begun)["environments"] == 1
    begun = waits(api, pool, {"stats": {"workers_polling": 1}})
    api.poll(first, "w")
    assert met(begun)["pending"] == 1
    api.freeze(None)
    begun = waits(api, pool, {"stats": {"workers_polling": 0}})
    api.advance(31)
    met(begun)


def test_idle_is_nothing_queued_handed_out_or_under_lease(api: Api, pool: ThreadPoolExecutor) -> None:
    """An empty workspace is; a stopped item is nothing to do."""
    assert api.ok(wait(api, {"idle": True}, 0))["seen"]["environments"] == 0
    queue = api.queue()
    enqueued(api, queue)
    begun = waits(api, pool, {"idle": True})
    work, _ = api.active(queue)
    assert not begun.done()
    api.ok(api.stop(queue, work, True))
    met(begun)


def test_what_does_not_come_in_time_is_an_error_that_tells_what_was_seen(api: Api) -> None:
    """It takes the time that was given, and no client repeats it by itself."""
    queue = api.queue()
    [work] = enqueued(api, queue)
    began = time.monotonic()
    answer = wait(api, {"work_id": work, "state": "active"}, 0.3)
    assert 0.3 <= time.monotonic() - began < SOON_S
    refused(answer, 409, f"Timed out after 0.3 s waiting for {work} to be active; last seen: queued")
    message = "Timed out after 0 s waiting for depth 0, workers_polling 2; last seen: depth 1, workers_polling 0"
    refused(wait(api, {"stats": {"depth": 0, "workers_polling": 2}}, 0), 409, message)
    message = "Timed out after 0 s waiting for depth 0, pending 0, leased 0; last seen: depth 1, pending 0, leased 0"
    refused(wait(api, {"idle": True}, 0), 409, message)


def test_a_wait_that_names_no_workspace_covers_all(api: Api, new_api: Callable[..., Api]) -> None:
    """So an item is found wherever it is."""
    [work] = enqueued(api, api.queue())
    nobody = new_api(api.url, "")
    assert nobody.ok(wait(nobody, {"work_id": work, "state": "queued"}, 0))["seen"]["state"] == "queued"
    stranger = new_api(api.url)
    refused(wait(stranger, {"work_id": work, "state": "queued"}, 0), 404, f"Work item {work} not found.")


def test_what_is_gone_is_not_waited_for(api: Api, pool: ThreadPoolExecutor) -> None:
    """Neither from the beginning nor when it goes while somebody waits."""
    queue = api.queue()
    [work] = enqueued(api, queue)
    refused(wait(api, {"work_id": "work_1", "state": "active"}), 404, "Work item work_1 not found.")
    for no_environment in ("env_1", "typo", "", "wrkspc_1", "*"):
        until = {"stats": {"depth": 0}, "environment_id": no_environment}
        refused(wait(api, until), 404, f"Environment {no_environment} not found.")
    begun = waits(api, pool, {"work_id": work, "state": "active"})
    figures = waits(api, pool, {"stats": {"depth": 0}, "environment_id": queue})
    api.ok(api.delete(f"/v1/environments/{queue}", params={"force": "true"}))
    for each in (begun, figures):
        refused(each.result(SOON_S), 404, f"Environment {queue} not found.")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "until: Field required"),
        ({"until": {"idle": 1}}, "until.idle: Input should be True"),
        ({"until": {}}, "until: Give exactly one of work_id with state, stats, and idle"),
        ({"until": {"work_id": "work_1"}}, "until: work_id and state must be given together"),
        ({"until": {"idle": True, "stats": {"depth": 0}}}, "until: Give exactly one of work_id with state, stats, and idle"),
        ({"until": {"idle": False}}, "until.idle: Input should be True"),
        ({"until": {"stats": {}}}, "until.stats: Give at least one of depth, pending, leased, workers_polling"),
        ({"until": {"stats": {"deep": 0}}}, "until.stats.deep: Extra inputs are not permitted"),
        ({"until": {"stats": {"depth": -1}}}, "until.stats.depth: Input should be greater than or equal to 0"),
        ({"until": {"idle": True}, "timeout_seconds": 61}, "timeout_seconds: Input should be less than or equal to 60"),
        ({"until": {"work_id": "work_1", "state": "asleep"}}, "until.state: Input should be 'queued', 'starting', "
         "'active', 'stopping' or 'stopped'"),
    ],
)  # fmt: skip
def test_a_wait_that_makes_no_sense_is_refused(api: Api, body: dict[str, Any], message: str) -> None:
    """With the path of the field."""
    refused(api.post("/_emulator/wait", json=body), 400, message)


def test_many_waits_cost_no_connection_and_end_with_their_clients_and_the_server(redis_server: RedisServer) -> None:
    """Two processes share the state, and a wait in one is told of what the other does."""
    from redis import Redis

    raw = Redis(port=redis_server.port)
    with running_server(
        "--redis-url", redis_server.url, "--workers", "2", "--redis-connections", "2", "--key-prefix", "timeline"
    ) as server:
        api = Api(server.url)
        queue = api.queue()
        [work] = enqueued(api, queue)
        wait_until(lambda: raw.pubsub_numsub("timeline:wake")[0][1] == 2, "both processes have started")
        before = len(raw.client_list())
        with ThreadPoolExecutor(FOLLOWERS) as threads:
            clients = [Api(server.url, api.api_key) for _ in range(FOLLOWERS)]
            begun = [threads.submit(wait, each, {"work_id": work, "state": "active"}) for each in clients]
            time.sleep(0.3)
            assert len(raw.client_list()) <= before + 4
            api.active(queue)
            assert {each.result(SOON_S).status_code for each in begun} == {200}
            begun = [threads.submit(wait, each, {"work_id": work, "state": "stopped"}) for each in clients]
            time.sleep(0.2)
            assert server.stop() == 0
            told = [each.result(SOON_S) for each in begun]
            assert {(each.status_code, each.headers["workyard-rule"]) for each in told} == {
                (503, "conventions.shutdown")
            }
            for each in [*clients, api]:
                each.close()
        assert "Traceback" not in server.log()
    raw.close()


class Follower:
    """A client that follows the events of a workspace in a thread."""

    def __init__(self, api: Api, **query: str) -> None:
        self.frames: list[tuple[str, str | None, dict[str, Any]]] = []
        self.clean = False
        self._answer = api.http.stream("GET", "/_emulator/events", params=query, timeout=30)
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._begun.wait(SOON_S)

    def _run(self) -> None:
        # The test's end closes its client, whatever streams there are.
        with suppress(httpx.HTTPError, httpx.StreamError, OSError, RuntimeError):
            self._follow()

    def _follow(self) -> None:
        with self._answer as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            place, kind = None, ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    place = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    self.frames.append((kind, place, json.loads(value)))
                    place = None
                    self._begun.set()
        self.clean = True

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the events so far, without signs of life."""
        return [data for kind, _, data in self.frames if kind != "ping"]

    def has(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many events."""
        wait_until(lambda: len(self.events) >= count, f"{count} events", SOON_S)
        return self.events

    def ended(self) -> bool:
        """Wait for the end of the stream; tell whether it was a whole answer."""
        self._thread.join(SOON_S)
        return self.clean


def test_events_of_a_workspace_are_followed_in_all_its_environments(api: Api, new_api: Callable[..., Api]) -> None:
    """Those that are created later too; and of no other workspace, unless all are asked for."""
    stranger, first = new_api(api.url), api.queue()
    enqueued(api, first)
    mine = Follower(api)
    everyones = Follower(stranger, workspace="*")
    api.active(first)
    second = api.queue()
    [work] = enqueued(api, second)
    enqueued(stranger, stranger.queue())
    api.ok(api.stop(second, work, True))
    told = mine.has(5)
    assert [(event["environment_id"] == first, event["event"]) for event in told] == [
        (True, "offered"), (True, "acked"), (True, "beat"), (False, "enqueued"), (False, "stop_asked"),
    ]  # fmt: skip
    assert [kind for kind, _, _ in mine.frames] == ["ping", *[event["event"] for event in told]]
    [line] = [api.ok(api.get(f"/_emulator/work/{work}/timeline"))["events"]]
    assert told[3:] == line
    assert {event["environment_id"] for event in everyones.has(6)} > {first, second}


def test_an_environment_that_comes_back_under_its_id_is_followed_on(api: Api) -> None:
    """Made anew after a reset by a seed, and restored: neither bears the mark of who watched the earlier one."""

    def made() -> str:
        api.ok(api.post("/_emulator/reset"))
        api.ok(api.post("/_emulator/settings", json={"id_seed": 42}))
        return api.queue()

    queue = made()
    document = api.ok(api.get("/_emulator/state"))
    follower = Follower(api)
    assert made() == queue
    # The first tells that the follower has read so far, the second that it goes on.
    for count in (1, 2):
        enqueued(api, queue)
        follower.has(count)
    api.ok(api.request("PUT", "/_emulator/state", json=document))
    for count in (3, 4):
        enqueued(api, queue)
        follower.has(count)


def test_who_reads_slowly_is_told_the_newest_and_of_a_gap(api: Api) -> None:
    """What comes while the client does not read is not passed over without a word."""
    queue, url = api.queue(), httpx.URL(api.url)
    request = f"GET /_emulator/events HTTP/1.1\r\nhost: localhost\r\nx-api-key: {api.api_key}\r\n\r\n"
    names = {"user-agent": "a" * 120, "anthropic-worker-id": "w" * 250, "x-stainless-helper": "h" * 80}
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(SOON_S)
        slow.connect((url.host, url.port))
        slow.sendall(request.encode())
        told = bytearray(slow.recv(4096))
        for _ in range(6):
            body = {"count": 1000}
            items = api.ok(api.post(f"/_emulator/environments/{queue}/work", json=body, headers=names))["data"]
        last = items[-1]["id"].encode()
        while last not in told[-4096:]:
            told += slow.recv(1 << 20)
    events, gaps = told.count(b"event: enqueued"), told.count(b"event: gap")
    assert gaps or events >= 6000


def test_who_comes_back_is_told_what_was_missed(api: Api) -> None:
    """From the place of an event on, by the query or the header of event sources; all that is kept, from 0 on."""
    queue = api.queue()
    enqueued(api, queue, 2)
    everything = Follower(api, since="0").has(2)
    api.poll(queue)
    api.poll(queue)
    again = Follower(api, since=everything[-1]["id"]).has(2)
    assert [event["id"] for event in again][-2:] == sorted(event["id"] for event in again)[-2:]
    assert len([event for event in again if event["event"] == "offered"]) == 2
    refused(
        api.get("/_emulator/events?since=then"),
        400,
        "since: String should match pattern '^[0-9]{1,15}(-[0-9]{1,15})?$'",
    )
    refused(
        api.get("/_emulator/events", headers={"Last-Event-ID": "then"}),
        400,
        "Last-Event-ID: String should match pattern '^[0-9]{1,15}(-[0-9]{1,15})?$'",
    )


def test_who_missed_too_much_is_told_so(api: Api) -> None:
    """The last 5000 events follow, and the stream ends when it is asked to."""
    queue = api.queue()
    made = enqueued(api, queue, 5100)
    follower = Follower(api, since="0", seconds="0")
    assert follower.ended()
    assert [kind for kind, _, _ in follower.frames[:3]] == ["ping", "gap", "enqueued"]
    assert [event["work_id"] for event in follower.events[1:]] == made[100:]


def test_streams_of_events_end_with_the_server_and_a_wait_with_its_client() -> None:
    """The streams as whole answers; nobody goes on waiting for who has gone. What the ring has dropped before is a gap."""
    with running_server("--log-level", "debug", "--timeline-events", "5") as server:
        api = Api(server.url)
        queue = api.queue()
        with pytest.raises(httpx.ReadTimeout):
            api.post("/_emulator/wait", json={"until": {"stats": {"depth": 9}}, "timeout_seconds": 30}, timeout=0.2)
        wait_until(lambda: "POST /_emulator/wait 409" in server.log(), "the wait is over", SOON_S)
        followers = [Follower(api) for _ in range(3)]
        enqueued(api, queue)
        for each in followers:
            each.has(1)
        enqueued(api, queue, 300)
        for each in followers:
            assert each.has(2)[1] == {"type": "gap"}
        assert server.stop() == 0
        assert all(each.ended() for each in followers)
        assert "Traceback" not in server.log()
        api.close()


def test_the_queues_at_a_glance(api: Api) -> None:
    """Newest first, with what happened last."""
    first, second = api.queue(), api.queue()
    api.environment(name="cloudy", config={"type": "cloud"})
    enqueued(api, second, 4)
    work, _ = api.active(second)
    api.poll(second, "w")
    api.ok(api.stop(second, work, True))
    found = api.ok(api.get("/_emulator/queues"))
    rows = {row["environment_id"]: row for row in found["data"]}
    assert [row["name"] for row in found["data"]] == ["cloudy", "test", "test"]
    assert list(rows)[1:] == [second, first]
    figures = {name: rows[second][name] for name in ("depth", "pending", "leased", "stopped", "workers_polling")}
    assert figures == {"depth": 2, "pending": 1, "leased": 0, "stopped": 1, "workers_polling": 1}
    assert [rows[first][name] for name in figures] == [0] * 5
    assert found["environments"] == 3
    assert found["events"][-1]["event"] == "stop_asked"
    assert len(found["events"]) == 9
