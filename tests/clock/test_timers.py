"""What a change of the clock fires, jumps to the next timer, and the clock that jumps by itself. Rules: `clock.*`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import anthropic
import pytest
from anthropic.types.beta.environments import BetaHeartbeatPreconditionFailedError

from tests.support.harness import NOON, Api, WorkyardServer, after, wait_until
from tests.support.sessions import MESSAGE, send, session
from tests.support.wire import Connection

WAITING = {"steps": [{"wait": 45}, {"say": "rested"}, "idle"], "repeat": True}


def change(api: Api, **body: Any) -> dict[str, Any]:
    """Change the clock; return the answer."""
    done: dict[str, Any] = api.ok(api.post("/_emulator/clock", json=body))
    return done


def clock(api: Api) -> dict[str, Any]:
    """Read the clock."""
    read: dict[str, Any] = api.ok(api.get("/_emulator/clock"))
    return read


def row(at: float, timer: str, queue: str, item: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a timer *at* so many seconds after noon as an answer shows it."""
    nothing = {"work_id": None, "session_id": None, "worker_id": None}
    about = {} if item is None else {"work_id": item["id"], "session_id": item["data"]["id"]}
    return {"at": after(NOON, at), "timer": timer, "environment_id": queue, **nothing, **about, **more}


class Wire:
    """A worker on one kept connection, that can ask now and read the answer later."""

    def __init__(self, api: Api) -> None:
        self._connection = Connection(api.url)
        self._key = api.api_key

    def ask(self, method: str, path: str, worker: str = "") -> None:
        """Send a request without a body."""
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {self._key}\r\n"
        self._connection.send(f"{head}anthropic-worker-id: {worker or id(self)}\r\ncontent-length: 0\r\n\r\n".encode())

    def read(self, status: int = 200) -> Any:
        """Return the next answer."""
        reply = self._connection.reply()
        assert reply is not None
        assert reply.status == status, reply.body
        return reply.json

    def call(self, method: str, path: str, status: int = 200) -> Any:
        """Ask and read."""
        self.ask(method, path)
        return self.read(status)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _with_every_timer(api: Api) -> list[dict[str, Any]]:
    """Freeze a workspace in which every kind of timer runs; return them in their order."""
    api.freeze()
    api.script(WAITING)
    queue, other = api.queue(), api.queue()
    late = session(api, api.environment(config={"type": "cloud"})["id"])
    send(api, late["id"], MESSAGE)
    starting, active, stopping, polled = api.enqueue(queue, 4)
    for item in (starting, active, stopping):
        api.ok(api.ack(queue, item["id"]))
    api.ok(api.heartbeat(queue, active["id"], "NO_HEARTBEAT", 60))
    api.ok(api.heartbeat(queue, stopping["id"], "NO_HEARTBEAT", 10))
    api.ok(api.stop(queue, stopping["id"]))
    assert api.poll(queue)["id"] == polled["id"]
    [elsewhere] = api.enqueue(other)
    api.ok(api.ack(other, elsewhere["id"]))
    api.ok(api.heartbeat(other, elsewhere["id"], "NO_HEARTBEAT", 10))
    api.poll(other, "worker-1")
    [agent] = [each for each in clock(api)["timers"] if each["timer"] == "agent"]
    assert (agent["session_id"], agent["at"]) == (late["id"], after(NOON, 45))
    del agent["in_seconds"]
    return [
        row(5, "reclaim", queue, polled),
        row(10, "wind_down", queue, stopping),
        row(10, "lapse", other, elsewhere),
        row(30, "poller_window", other, worker_id="worker-1"),
        agent,
        row(60, "lapse", queue, active),
        row(120, "startup_lease", queue, starting),
    ]


def test_a_change_fires_what_is_due_in_order_and_says_so(api: Api) -> None:
    """All kinds, over several environments; and all of it is in effect: the agent's answer, too, is there."""
    timers = _with_every_timer(api)
    shown = clock(api)
    waits = [each.pop("in_seconds") for each in shown["timers"]]
    assert (shown["timers"], waits) == (timers, [5, 10, 10, 30, 45, 60, 120])
    assert shown["more"] is False
    assert change(api, advance_seconds=4.999999)["fired"] == []
    moved = change(api, advance_seconds=40.000001)
    assert (moved["mode"], moved["now"], moved["more"]) == ("frozen", after(NOON, 45), False)
    assert moved["fired"] == timers[:5]
    events = api.ok(api.get(f"/v1/sessions/{timers[4]['session_id']}/events", params={"order": "desc"}))["data"]
    assert [each["type"] for each in events[:2]] == ["session.status_idle", "agent.message"]
    assert change(api, mode="frozen", at=after(NOON, 3600))["fired"] == timers[5:]
    assert clock(api)["timers"] == []
    assert [api.stats(timers[place]["environment_id"])["depth"] for place in (0, 2)] == [2, 1]


def test_a_jump_to_the_next_timer_goes_from_one_to_the_next(api: Api) -> None:
    """Both that end at one instant at once; with a kind, over what comes before; where nothing is left, nowhere."""
    timers = _with_every_timer(api)
    for expected in (timers[:1], timers[1:3], timers[3:4]):
        moved = change(api, advance_to_next=True)
        assert (moved["now"], moved["fired"]) == (expected[0]["at"], expected)
    moved = change(api, advance_to_next=True, timer="startup_lease")
    assert (moved["now"], moved["fired"]) == (after(NOON, 120), timers[4:])
    still = change(api, advance_to_next=True)
    assert (still["now"], still["fired"], still["more"]) == (after(NOON, 120), [], False)


def test_a_ticking_clock_jumps_ahead_to_the_next_timer(api: Api) -> None:
    """And goes on ticking from there."""
    queue = api.queue()
    api.enqueue(queue)
    work, _ = api.active(queue, 600)
    [pending] = clock(api)["timers"]
    assert 500 < pending["in_seconds"] <= 600
    moved = change(api, advance_to_next=True)
    assert (moved["mode"], moved["now"]) == ("real", pending["at"])
    assert [each["work_id"] for each in moved["fired"]] == [work]
    assert api.work(queue, work)["state"] == "queued"
    assert clock(api)["now"] > moved["now"]


def test_an_agent_that_waits_twice_in_an_advance_acts_once_at_its_end(api: Api) -> None:
    """It is named once, and all it says is dated with the new instant."""
    api.freeze()
    api.script({"steps": [{"wait": 5}, {"say": "one"}, {"wait": 5}, {"say": "two"}, "idle"], "repeat": True})
    waiting = session(api, api.environment(config={"type": "cloud"})["id"])
    send(api, waiting["id"], MESSAGE)
    fired = change(api, advance_seconds=60)["fired"]
    assert [(each["timer"], each["at"], each["session_id"]) for each in fired] == [
        ("agent", after(NOON, 5), waiting["id"])
    ]
    events = api.ok(api.get(f"/v1/sessions/{waiting['id']}/events"))["data"]
    said = [each["processed_at"] for each in events if each["type"] == "agent.message"]
    assert said == [after(NOON, 60)] * 2


def test_a_reading_shows_a_hundred_timers_and_says_that_there_are_more(api: Api) -> None:
    """Each worker that has polled is one: at a hundred there are no more."""
    api.freeze()
    queue = api.queue()
    shown = []
    with closing(Wire(api)) as wire:
        for count in (100, 1):
            for number in range(count):
                wire.ask("GET", api.path(queue, "poll"), worker=f"{count}-{number}")
            for _ in range(count):
                wire.read()
            read = clock(api)
            shown.append((len(read["timers"]), read["more"]))
    assert shown == [(100, False), (100, True)]


def test_more_than_is_told_fires_all_the_same(redis_backed: WorkyardServer, new_api: Callable[..., Api]) -> None:
    """A reading shows 100 timers, a change tells of 1000; both say that there are more."""
    api = new_api(redis_backed.url)
    api.freeze()
    queue = api.queue()
    items = [item["id"] for item in api.enqueue(queue, 1001)]
    with closing(Wire(api)) as worker:
        for start in range(0, len(items), 100):
            some = items[start : start + 100]
            for item in some:
                worker.ask("POST", api.path(queue, item, "ack"))
            for _ in some:
                worker.read()
    shown = clock(api)
    assert (len(shown["timers"]), shown["more"]) == (100, True)
    moved = change(api, advance_seconds=120)
    assert (len(moved["fired"]), moved["more"]) == (1000, True)
    assert len({each["work_id"] for each in moved["fired"]}) == 1000
    assert api.stats(queue)["depth"] == 1001


def test_changes_at_once_tell_of_each_timer_once(api: Api) -> None:
    """Whichever of them ends it: nothing is told twice, nothing is lost, and no change is. Nor do settings that change
    at the same time take the news away."""
    api.freeze()
    queue = api.queue()
    items = [item["id"] for item in api.enqueue(queue, 40)]
    for second, item in enumerate(items):
        api.ok(api.ack(queue, item))
        api.ok(api.heartbeat(queue, item, "NO_HEARTBEAT", second + 1))

    def advance(number: int) -> dict[str, Any]:
        api.ok(
            api.post("/_emulator/settings", json={"reclaim_ms": 1 + number})
        )  # They are copied to the environment, too.
        return change(api, advance_seconds=1)

    with ThreadPoolExecutor(8) as pool:
        moved = list(pool.map(advance, range(40)))
    assert sorted(each["work_id"] for change in moved for each in change["fired"]) == sorted(items)
    assert clock(api)["now"] == after(NOON, 40)
    for answer in moved:
        assert all(each["at"] <= answer["now"] for each in answer["fired"])


def test_two_workspaces_at_different_times_never_touch(api: Api, new_api: Callable[..., Api]) -> None:
    """A year in one, and a jump; in the other nothing fires, nothing lapses, nothing moves."""
    other = new_api(api.url)
    for each in (api, other):
        each.freeze()
    queues = [each.queue() for each in (api, other)]
    works = []
    for each, queue in zip((api, other), queues, strict=True):
        each.enqueue(queue)
        works.append(each.active(queue, 30)[0])
    before = clock(other)
    assert [each["work_id"] for each in change(api, advance_to_next=True)["fired"]] == works[:1]
    change(api, advance_seconds=365 * 86_400)
    change(api, mode="auto")
    found = clock(other)
    assert [found[name] for name in ("mode", "now", "timers")] == [before[name] for name in ("mode", "now", "timers")]
    assert other.work(queues[1], works[1])["state"] == "active"
    assert api.work(queues[0], works[0])["state"] == "queued"


# -- the clock that jumps by itself


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for polls that block."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


def _auto(api: Api) -> str:
    """Let a clock jump by itself, from noon on; return a queue whose one item is handed out."""
    api.freeze()
    queue = api.queue()
    api.enqueue(queue)
    api.poll(queue)
    assert change(api, mode="auto")["mode"] == "auto"
    return queue


def _taken(api: Api, queue: str, **query: int) -> Any:
    """Poll, one long poll after the other, until there is work; the clock of nobody but the server moves."""
    return wait_until(lambda: api.poll(queue, "worker", **{"block_ms": 999, **query}), "the item is taken over")


@pytest.mark.parametrize(
    ("query", "seconds"), [({}, 5), ({"reclaim_older_than_ms": 60_000}, 60), ({"block_ms": 20}, 5)]
)
def test_in_auto_polls_take_over_what_nobody_acknowledged(api: Api, query: dict[str, int], seconds: int) -> None:
    """By the age they name, however shortly each of them waits; the clock then stands just where it can."""
    queue = _auto(api)
    assert _taken(api, queue, **query) is not None
    found = clock(api)
    assert (found["mode"], found["now"]) == ("auto", after(NOON, seconds))


def test_in_auto_no_running_worker_loses_its_lease(api: Api) -> None:
    """However short it is, and whatever else is due; once the lease is given back, the clock goes on."""
    queue = _auto(api)
    [leased] = api.enqueue(queue)
    api.ok(api.ack(queue, leased["id"]))
    beat = api.ok(api.heartbeat(queue, leased["id"], "NO_HEARTBEAT", 1))["last_heartbeat"]
    assert api.poll(queue, "other", block_ms=700) is None
    assert clock(api)["now"] == NOON
    assert api.ok(api.heartbeat(queue, leased["id"], beat))["lease_extended"]
    api.ok(api.stop(queue, leased["id"], force=True))
    assert _taken(api, queue)["id"] != leased["id"]
    assert clock(api)["now"] == after(NOON, 5)


def test_in_auto_a_worker_that_is_gone_is_counted_no_more_and_time_runs_away_from_nobody(api: Api) -> None:
    """Its window ends; that of a worker that polls on does not move the clock, however long it goes on."""
    api.freeze()
    queue = api.queue()
    change(api, mode="auto")
    api.poll(queue, "gone")

    def there() -> bool:
        api.poll(queue, "there", block_ms=200)
        polling: int = api.stats(queue)["workers_polling"]
        return polling == 1

    wait_until(there, "the window has ended")
    assert clock(api)["now"] == after(NOON, 30)
    for _ in range(3):
        assert there()
    assert clock(api)["now"] == after(NOON, 30)


def test_frozen_and_real_end_auto(api: Api) -> None:
    """A blocked poll moves the clock no more."""
    queue = _auto(api)
    assert change(api, mode="frozen")["mode"] == "frozen"
    assert api.poll(queue, "worker", block_ms=400) is None
    assert clock(api)["now"] == NOON
    change(api, mode="auto")
    assert change(api, mode="real")["mode"] == "real"
    assert api.poll(queue, "worker", block_ms=400) is None
    assert clock(api)["now"] < after(NOON, 5)


def test_an_environment_made_in_auto_is_in_auto(api: Api) -> None:
    """It copies the mode with the clock."""
    api.freeze()
    change(api, mode="auto")
    queue = api.queue()
    api.enqueue(queue)
    api.poll(queue)
    assert _taken(api, queue) is not None
    assert clock(api)["now"] == after(NOON, 5)


def test_in_auto_a_request_under_way_holds_the_clock(api: Api, pool: ThreadPoolExecutor) -> None:
    """An acknowledgement on its slow way is not overtaken by another worker's takeover."""
    queue = _auto(api)
    [item] = api.ok(api.get(api.path(queue)))["data"]
    api.ok(api.post("/_emulator/faults", json={"on": "ack", "do": {"delay_ms": 400}}))
    acknowledged = pool.submit(api.ack, queue, item["id"])
    wait_until(lambda: api.ok(api.get("/_emulator/faults"))["data"][0]["hits"], "it is on its way")
    assert api.poll(queue, "worker", block_ms=700) is None
    api.ok(acknowledged.result())
    assert clock(api)["now"] == NOON


# -- two workers and a lease that ends


TAKEOVERS = 50


def test_a_second_worker_takes_over_without_a_sleep_fifty_times(api: Api) -> None:
    """A polls, acknowledges, beats; time passes its lease; B, whose poll waits, does the same; A is told 412."""
    api.freeze()
    queue = api.queue()
    path = api.path(queue)
    with closing(Wire(api)) as a, closing(Wire(api)) as b:
        for _ in range(TAKEOVERS):
            [item] = api.enqueue(queue)
            of_it = f"{path}/{item['id']}"
            assert a.call("GET", f"{path}/poll?block_ms=999")["id"] == item["id"]
            a.call("POST", f"{of_it}/ack")
            stale = a.call("POST", f"{of_it}/heartbeat?expected_last_heartbeat=NO_HEARTBEAT")["last_heartbeat"]
            b.ask("GET", f"{path}/poll?block_ms=999")
            wait_until(lambda: api.stats(queue)["workers_polling"] == 2, "the poll of B waits")
            moved = change(api, advance_to_next=True, timer="lapse")
            assert moved["fired"][-1]["work_id"] == item["id"]
            taken = b.read() or b.call("GET", f"{path}/poll?block_ms=999")
            assert taken["id"] == item["id"]
            b.call("POST", f"{of_it}/ack")
            fresh = b.call("POST", f"{of_it}/heartbeat?expected_last_heartbeat=NO_HEARTBEAT")
            assert fresh["lease_extended"]
            told = a.call("POST", f"{of_it}/heartbeat?expected_last_heartbeat={stale}", 412)
            assert told["error"]["details"]["current_state"]["last_heartbeat"] == fresh["last_heartbeat"]
            api.ok(api.stop(queue, item["id"], force=True))


def test_the_sdks_client_meets_its_own_error_when_another_takes_over(api: Api, pool: ThreadPoolExecutor) -> None:
    """The same, as a program with the SDK would write it."""
    api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue)
    with anthropic.Anthropic(base_url=api.url, api_key=api.api_key) as sdk:
        work = sdk.beta.environments.work
        assert work.poll(queue) is not None
        work.ack(item["id"], environment_id=queue)
        claimed = work.heartbeat(item["id"], environment_id=queue, expected_last_heartbeat="NO_HEARTBEAT")
        blocked = pool.submit(work.poll, queue, block_ms=999)
        change(api, advance_seconds=300)
        taken = blocked.result()
        assert taken is not None
        work.ack(taken.id, environment_id=queue)
        fresh = work.heartbeat(taken.id, environment_id=queue, expected_last_heartbeat="NO_HEARTBEAT")
        assert fresh.lease_extended
        with pytest.raises(BetaHeartbeatPreconditionFailedError):
            work.heartbeat(item["id"], environment_id=queue, expected_last_heartbeat=claimed.last_heartbeat)
