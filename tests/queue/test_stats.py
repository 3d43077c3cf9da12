"""The queue's figures, exact after every step that changes them, and against a model that recounts them.

Rules: `stats.*`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.harness import NOON, Api, after, refused

pytestmark = pytest.mark.every_redis


def figures(depth: int, pending: int, oldest: float | None, workers: int | None = 0) -> dict[str, Any]:
    """Return the answer with these figures; *oldest* in seconds after `NOON`."""
    return {
        "type": "work_queue_stats",
        "depth": depth,
        "pending": pending,
        "oldest_queued_at": None if oldest is None else after(NOON, oldest),
        "workers_polling": workers,
    }


def spread(api: Api, queue: str, count: int) -> list[str]:
    """Enqueue items a second apart, the first at `NOON`; return their ids."""
    ids = []
    for second in range(count):
        api.freeze(after(NOON, second))
        ids.append(api.enqueue(queue)[0]["id"])
    return ids


# -- leaving the queue without a poll


@pytest.mark.parametrize("way", ["stop", "ack"])
@pytest.mark.parametrize(
    ("leaves", "oldest"),
    [
        pytest.param([0], [1], id="the head"),
        pytest.param([2], [0], id="the middle"),
        pytest.param([4], [0], id="the tail"),
        pytest.param([0, 1, 2], [1, 2, 3], id="the head, three times"),
        pytest.param([1, 0], [0, 2], id="the second, then the head"),
        pytest.param([3, 4, 2], [0, 0, 0], id="the middle and the tail"),
        pytest.param([4, 0, 2, 1, 3], [0, 1, 1, 3, None], id="all, in no order"),
    ],
)
def test_the_figures_after_an_unpolled_item_left(
    api: Api, way: str, leaves: list[int], oldest: list[int | None]
) -> None:
    """Five items a second apart. What was never polled leaves no trace in the figures, and is not handed out later."""
    api.freeze()
    queue = api.queue()
    ids = spread(api, queue, 5)
    assert api.stats(queue) == figures(5, 0, 0)
    for done, (index, then_oldest) in enumerate(zip(leaves, oldest, strict=True), 1):
        gone = api.ok(api.post(api.path(queue, ids[index], way)))
        assert gone["state"] == ("starting" if way == "ack" else "stopped")
        assert api.stats(queue) == figures(5 - done, 0, then_oldest)
    left = [index for index in range(5) if index not in leaves]
    for done, index in enumerate(left, 1):
        assert api.poll(queue)["id"] == ids[index]
        assert api.stats(queue) == figures(len(left) - done, done, left[0])
    assert api.poll(queue) is None
    assert api.stats(queue) == figures(0, len(left), left[0] if left else None)


def test_the_figures_with_gaps_among_polled_and_unpolled_items(api: Api) -> None:
    """Polled 0 to 3, then gaps on both sides of what was polled."""
    api.freeze()
    queue = api.queue()
    ids = spread(api, queue, 8)
    for _ in range(4):
        api.poll(queue)
    assert api.stats(queue) == figures(4, 4, 0)
    steps: list[tuple[int, str, dict[str, Any]]] = [
        (1, "ack", figures(4, 3, 0)),
        (5, "ack", figures(3, 3, 0)),
        (0, "stop", figures(3, 2, 2)),
        (4, "stop", figures(2, 2, 2)),
        (3, "ack", figures(2, 1, 2)),
        (2, "stop", figures(2, 0, 6)),
        (7, "ack", figures(1, 0, 6)),
        (6, "stop", figures(0, 0, None)),
    ]
    for index, verb, expected in steps:
        api.ok(api.post(api.path(queue, ids[index], verb)))
        assert api.stats(queue) == expected
    assert api.poll(queue) is None


# -- polls, reclaims, lapses


def test_a_reclaim_changes_no_figure(api: Api) -> None:
    """A pending item stays pending; its entry keeps its date."""
    api.freeze()
    queue = api.queue()
    [first, second] = spread(api, queue, 2)
    assert api.poll(queue)["id"] == first
    assert api.stats(queue) == figures(1, 1, 0)
    for at in (10, 20, 30):
        api.freeze(after(NOON, at))
        assert api.poll(queue)["id"] == first
        assert api.stats(queue) == figures(1, 1, 0)
    assert api.poll(queue)["id"] == second
    assert api.stats(queue) == figures(0, 2, 0)
    api.ok(api.ack(queue, first))
    assert api.stats(queue) == figures(0, 1, 1)


def test_a_lapsed_item_is_counted_anew_and_dated_with_the_end_of_its_lease(api: Api) -> None:
    """Read long after the lapse, behind an item that waited before it and ahead of one that came later."""
    api.freeze()
    queue = api.queue()
    [first, second] = spread(api, queue, 2)
    api.poll(queue)
    api.ok(api.ack(queue, first))
    api.ok(api.heartbeat(queue, first, "NO_HEARTBEAT", 10))
    assert api.stats(queue) == figures(1, 0, 1)
    api.freeze(after(NOON, 40))
    assert api.stats(queue) == figures(2, 0, 1)
    api.enqueue(queue)
    api.ok(api.stop(queue, second))
    assert api.stats(queue) == figures(2, 0, 11)
    assert api.poll(queue)["id"] == first
    assert api.stats(queue) == figures(1, 1, 11)
    api.ok(api.ack(queue, first))
    assert api.stats(queue) == figures(1, 0, 40)


def test_a_lapse_while_the_item_is_unpolled_and_the_queue_is_full_of_gaps(api: Api) -> None:
    """Acknowledged without a poll, lapsed, acknowledged again without a poll, and so on."""
    api.freeze()
    queue = api.queue()
    [first, second] = (made["id"] for made in api.enqueue(queue, 2))
    for turn in range(5):
        api.freeze(after(NOON, 120 * turn))
        assert api.stats(queue) == figures(2, 0, 0)
        api.ok(api.ack(queue, first))
        assert api.stats(queue) == figures(1, 0, 0)
    api.ok(api.stop(queue, second))
    assert api.stats(queue) == figures(0, 0, None)
    api.freeze(after(NOON, 600))
    assert api.stats(queue) == figures(1, 0, 600)
    assert api.poll(queue)["id"] == first


def test_a_deleted_environment_has_no_figures(api: Api) -> None:
    """Waiting, pending and leased items go with it; from then on every call is 404, and a neighbour is untouched."""
    api.freeze()
    queue, neighbour = api.queue(), api.queue()
    api.enqueue(neighbour, 2)
    api.poll(neighbour)
    ids = [made["id"] for made in api.enqueue(queue, 4)]
    api.poll(queue)
    api.ok(api.ack(queue, ids[3]))
    assert api.stats(queue) == figures(2, 1, 0)
    assert api.ok(api.delete(f"/v1/environments/{queue}?force=true")) == {"id": queue, "type": "environment_deleted"}
    for answer in (
        api.get(api.path(queue, "stats")),
        api.get(api.path(queue, "poll")),
        api.get(api.path(queue, "poll"), params={"block_ms": 999}),
        api.get(api.path(queue)),
        api.get(api.path(queue, ids[0])),
        api.ack(queue, ids[0]),
        api.heartbeat(queue, ids[3], "NO_HEARTBEAT"),
        api.stop(queue, ids[0], force=True),
        api.post(f"/_emulator/environments/{queue}/work"),
        api.delete(f"/v1/environments/{queue}?force=true"),
    ):
        refused(answer, 404, f"Environment {queue} not found.")
    assert api.stats(neighbour) == figures(1, 1, 0)


# -- more gaps than one step skips


@pytest.mark.parametrize("first", ["poll", "stats"])
@pytest.mark.parametrize(("gaps", "order"), [(101, 1), (510, -1)], ids=["oldest first", "newest first"])
def test_any_number_of_gaps_at_the_head_is_stepped_over(api: Api, gaps: int, order: int, first: str) -> None:
    """A script skips five hundred; one call still has the answer, whether it is a poll or the figures. Stopped newest
    first, they come to the head of the queue all at once."""
    api.freeze()
    queue = api.queue()
    doomed = api.enqueue(queue, gaps)
    api.freeze(after(NOON, 7))
    [live] = api.enqueue(queue)
    for made in doomed[::order]:
        api.ok(api.stop(queue, made["id"]))
    if first == "stats":
        assert api.stats(queue) == figures(1, 0, 7)
    assert api.poll(queue)["id"] == live["id"]
    assert api.stats(queue) == figures(0, 1, 7)
    assert api.poll(queue) is None


def test_a_queue_of_nothing_but_gaps_is_empty(api: Api) -> None:
    """More than one step skips, and nothing behind them."""
    api.freeze()
    queue = api.queue()
    for made in api.enqueue(queue, 101):
        api.ok(api.ack(queue, made["id"]))
    assert api.poll(queue) is None
    assert api.stats(queue) == figures(0, 0, None)
    [live] = api.enqueue(queue)
    assert api.stats(queue) == figures(1, 0, 0)
    assert api.poll(queue)["id"] == live["id"]


# -- who polls


def test_workers_polling_counts_distinct_workers_of_the_last_30_seconds(api: Api) -> None:
    """Strictly under 30 s; a repeat counts once and from its last poll; a poll without the header does not count."""
    api.freeze()
    queue, other = api.queue(), api.queue()
    api.poll(queue)
    api.poll(queue, worker="")
    assert api.stats(queue) == figures(0, 0, None, workers=0)
    api.poll(queue, worker="a")
    api.poll(queue, worker="b")
    api.poll(queue, worker="a")
    api.poll(other, worker="c")
    assert api.stats(queue) == figures(0, 0, None, workers=2)
    assert api.stats(other) == figures(0, 0, None, workers=1)
    api.freeze(after(NOON, 20))
    api.poll(queue, worker="a")
    api.freeze(after(NOON, 29.999999))
    assert api.stats(queue) == figures(0, 0, None, workers=2)
    api.freeze(after(NOON, 30))
    assert api.stats(queue) == figures(0, 0, None, workers=1)
    api.freeze(after(NOON, 49.999999))
    assert api.stats(queue) == figures(0, 0, None, workers=1)
    api.freeze(after(NOON, 50))
    assert api.stats(queue) == figures(0, 0, None, workers=0)


def test_a_poll_that_gets_work_counts_its_worker_too(api: Api) -> None:
    """So does one that takes an item over; heartbeats and acks do not."""
    api.freeze()
    queue = api.queue()
    [made] = api.enqueue(queue)
    assert api.poll(queue, worker="a")["id"] == made["id"]
    assert api.stats(queue) == figures(0, 1, 0, workers=1)
    api.freeze(after(NOON, 6))
    assert api.poll(queue, worker="b")["id"] == made["id"]
    assert api.stats(queue) == figures(0, 1, 0, workers=2)
    api.post(api.path(queue, made["id"], "ack"), headers={"Anthropic-Worker-ID": "c"})
    assert api.stats(queue) == figures(0, 0, None, workers=2)


def test_a_worker_id_has_at_most_256_characters(api: Api) -> None:
    """One more is refused, and not counted."""
    queue = api.queue()
    api.poll(queue, worker="w" * 256)
    answer = api.get(api.path(queue, "poll"), headers={"Anthropic-Worker-ID": "w" * 257})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert api.stats(queue)["workers_polling"] == 1


def test_a_cloud_environment_has_no_figures_to_show(api: Api) -> None:
    """200 with zeros and nulls, archived or not; polling it is refused and counts nobody."""
    cloud = api.environment(config={"type": "cloud"})["id"]
    for _ in range(2):
        assert api.stats(cloud) == figures(0, 0, None, workers=None)
        refused(
            api.get(api.path(cloud, "poll"), headers={"Anthropic-Worker-ID": "a"}),
            400,
            f"Only BYOC and bridge environments support work polling. Environment {cloud} is anthropic_cloud.",
        )
        api.ok(api.post(f"/v1/environments/{cloud}/archive"))


# -- a random walk against a model

TTL_S, STARTUP_S, RECLAIM_S = 300, 120, 5


@dataclass
class Modelled:
    """A work item as the model has it. Instants are seconds after `NOON`."""

    id: str
    session: str
    number: int
    state: str = "queued"
    again: bool = False
    message: bool = False
    dated: float = 0
    place: int = 0
    handed_out: float | None = None
    lease_end: float = 0
    beat: str | None = None


class Model:
    """What the rules `stats.*` say of one environment's queue, without an index or a counter: every figure is recounted."""

    def __init__(self) -> None:
        self.now = 0.0
        self.items: list[Modelled] = []
        self.places = 0

    def put(self, item: Modelled, dated: float) -> None:
        """Give an item a new place at the end of the queue."""
        self.places += 1
        item.state, item.dated, item.place, item.handed_out, item.beat = "queued", dated, self.places, None, None

    def enqueue(self, work: str, session: str) -> None:
        """Add an item."""
        item = Modelled(work, session, len(self.items))
        self.items.append(item)
        self.put(item, self.now)

    def tell(self, item: Modelled) -> None:
        """Pass on a message."""
        item.message = True
        if item.state == "stopped":
            item.again = True
            self.put(item, self.now)

    def end(self, item: Modelled, at: float) -> None:
        """Make an item stopped."""
        item.state = "stopped"
        if item.message:
            item.again = True
            self.put(item, at)

    def move(self, to: float) -> None:
        """Let time pass."""
        self.now = to
        due = [item for item in self.items if item.state in ("starting", "active", "stopping") and item.lease_end <= to]
        for item in sorted(due, key=lambda each: (each.lease_end, each.number)):
            if item.state == "stopping":
                self.end(item, item.lease_end)
            else:
                item.again = True
                self.put(item, item.lease_end)

    def poll(self, age: float) -> Modelled | None:
        """Hand an item out."""
        queued = [item for item in self.items if item.state == "queued"]
        ripe = [item for item in queued if item.handed_out is not None and item.handed_out + age <= self.now]
        waiting = [item for item in queued if item.handed_out is None]
        chosen = min(ripe, key=lambda each: (each.handed_out, each.place), default=None) or min(
            waiting, key=lambda each: each.place, default=None
        )
        if chosen is not None:
            chosen.handed_out = self.now
        return chosen

    def ack(self, item: Modelled) -> int:
        """Acknowledge; return the status."""
        if item.state != "queued":
            return 409
        item.state, item.message, item.lease_end = "starting", False, self.now + STARTUP_S
        return 200

    def heartbeat(self, item: Modelled, expected: str | None, ttl: int | None) -> tuple[int, bool]:
        """Beat; return the status and whether the lease is extended."""
        if item.state in ("stopping", "stopped"):
            return 200, False
        if item.state == "queued" or (expected is not None and expected != (item.beat or "NO_HEARTBEAT")):
            return 412, False
        item.state, item.lease_end = "active", self.now + (TTL_S if ttl is None else ttl)
        return 200, True

    def stop(self, item: Modelled, force: bool) -> None:
        """Stop."""
        if item.state == "stopped":
            return
        if force or (item.state == "queued" and not item.again):
            self.end(item, self.now)
        elif item.state in ("starting", "active"):
            item.state = "stopping"

    def figures(self) -> dict[str, Any]:
        """Recount."""
        queued = [item for item in self.items if item.state == "queued"]
        pending = sum(item.handed_out is not None for item in queued)
        return figures(len(queued) - pending, pending, min((item.dated for item in queued), default=None))


def test_a_random_walk_agrees_with_the_model(api: Api) -> None:
    """400 random steps on one environment: after each, the answer and all figures; now and then, every item's state."""
    dice = random.Random(7)
    api.freeze()
    queue, model = api.queue(), Model()
    events = ["enqueue", "message", "poll", "ack", "heartbeat", "stop", "force", "pass"]
    seen = set()
    for step in range(400):
        event = dice.choices(events, weights=[8, 6, 14, 18, 18, 9, 6, 12])[0]
        told = f"step {step}: {event}"
        item = dice.choice(model.items[-8:]) if model.items else None
        seen.add((event, item.state if item else None))
        if event == "enqueue" or item is None:
            for row in api.enqueue(queue, dice.randint(1, 3)):
                model.enqueue(row["id"], row["data"]["id"])
        elif event == "message":
            assert api.enqueue(queue, session_id=item.session)[0]["id"] == item.id, told
            model.tell(item)
        elif event == "poll":
            age = dice.choice([None, 0.001, 1, 20])
            query = {} if age is None else {"reclaim_older_than_ms": round(age * 1000)}
            expected = model.poll(RECLAIM_S if age is None else age)
            got = api.ok(api.get(api.path(queue, "poll"), params=query))
            assert (got and got["id"]) == (expected and expected.id), told
        elif event == "ack":
            assert api.ack(queue, item.id).status_code == model.ack(item), told
        elif event == "heartbeat":
            value = dice.choice([None, item.beat or "NO_HEARTBEAT", "NO_HEARTBEAT", NOON])
            ttl = dice.choice([None, None, 7, 60])
            answer = api.heartbeat(queue, item.id, value, ttl)
            status, extended = model.heartbeat(item, value, ttl)
            assert answer.status_code == status, told
            if status == 200:
                assert answer.json()["lease_extended"] is extended, told
            if extended:
                item.beat = answer.json()["last_heartbeat"]
        elif event in ("stop", "force"):
            api.ok(api.stop(queue, item.id, force=event == "force"))
            model.stop(item, event == "force")
        else:
            model.move(model.now + dice.choice([0.001, 1, 5, 6, 30, 100]))
            api.freeze(after(NOON, model.now))
        assert api.stats(queue) == model.figures(), told
        if step % 20 == 19:
            rows = api.ok(api.get(api.path(queue), params={"limit": 1000}))["data"]
            assert [(row["id"], row["state"]) for row in rows] == [
                (each.id, each.state) for each in reversed(model.items)
            ], told
    states = ("queued", "starting", "active", "stopping", "stopped")
    missed = {(event, state) for event in ("message", "ack", "heartbeat", "stop", "force") for state in states}
    assert not missed - seen, "the walk is too tame to show anything"
