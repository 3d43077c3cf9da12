"""The state machine of a work item: every state × every event, then what one cell cannot show. Rules: `work.*`.

Every instant is the number of seconds after `NOON` on a frozen clock, so every stamp is exact.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from tests.support.harness import NOON, Api, after, refused
from tests.support.work_states import STATES, Cell, State

pytestmark = pytest.mark.every_redis

SESSION = "session_01TheOneSession"


EVENTS = ["poll", "reclaim", "ack", "claim", "extend", "wrong", "omitted", "empty", "stop", "force", "message", "lapse"]
EXPECTED = {"claim": "NO_HEARTBEAT", "extend": after(NOON, 3), "wrong": after(NOON, 99), "omitted": None, "empty": ""}
STAMPS = {
    "ack": "acknowledged_at",
    "start": "started_at",
    "beat": "latest_heartbeat_at",
    "asked": "stop_requested_at",
    "end": "stopped_at",
}


def second(text: str) -> str | None:
    """Return the instant that a number of the table means; None for `–`."""
    return None if text == "–" else after(NOON, int(text))


def go_to(api: Api, seconds: float) -> None:
    """Stand still at an instant."""
    api.freeze(after(NOON, seconds))


def live_through_in(api: Api, queues: list[str], story: str) -> dict[str, str]:
    """Take an item of `SESSION` through a story in each of these environments; return its id by environment."""
    ids = dict.fromkeys(queues, "")
    for step in story.split():
        event, _, rest = step.partition("@")
        at, _, ttl = rest.partition(":")
        go_to(api, int(at))
        for queue, work in ids.items():
            match event:
                case "enqueue":
                    ids[queue] = api.enqueue(queue, session_id=SESSION, metadata={"kept": "yes"})[0]["id"]
                case "message":
                    assert api.enqueue(queue, session_id=SESSION)[0]["id"] == work
                case "poll":
                    assert api.poll(queue)["id"] == work
                case "ack":
                    api.ok(api.ack(queue, work))
                case "claim":
                    assert api.ok(api.heartbeat(queue, work, "NO_HEARTBEAT", int(ttl)))["lease_extended"] is True
                case _:
                    api.ok(api.stop(queue, work, force=event == "force"))
    return ids


def live_through(api: Api, queue: str, story: str) -> str:
    """Take an item of `SESSION` through a story; return its id."""
    return live_through_in(api, [queue], story)[queue]


def item(queue: str, work: str, described: str) -> dict[str, Any]:
    """Return the whole object that a column of the table describes."""
    state, *stamps = described.split()
    given = dict(stamp.split("=") for stamp in stamps)
    return {
        "id": work,
        "type": "work",
        "environment_id": queue,
        "data": {"type": "session", "id": SESSION},
        "state": state,
        "metadata": {"kept": "yes"},
        "secret": None,
        "created_at": NOON,
        **{field: second(given[name]) if name in given else None for name, field in STAMPS.items()},
    }


def figures(described: str) -> dict[str, Any]:
    """Return the statistics that a column of the table describes."""
    depth, pending, oldest = described.split()
    return {
        "type": "work_queue_stats",
        "depth": int(depth),
        "pending": int(pending),
        "oldest_queued_at": second(oldest),
        "workers_polling": 0,
    }


def happen(api: Api, queue: str, work: str, event: str) -> httpx.Response:
    """Let an event of the table happen; return its answer. A lapse has none: then this is the first read after it."""
    match event:
        case "poll":
            return api.get(api.path(queue, "poll"), params={"reclaim_older_than_ms": 60_000})
        case "reclaim":
            return api.get(api.path(queue, "poll"))
        case "ack":
            return api.ack(queue, work)
        case "stop" | "force":
            return api.stop(queue, work, force=event == "force")
        case "message":
            return api.post(f"/_emulator/environments/{queue}/work", json={"session_id": SESSION})
        case "lapse":
            return api.get(api.path(queue, "stats"))
        case _:
            return api.heartbeat(queue, work, EXPECTED[event])


def check_answer(answer: httpx.Response, cell: Cell, queue: str, work: str) -> None:
    """Compare an answer with what its cell says."""
    expected = item(queue, work, cell.then)
    kind, *rest = cell.answer.split()
    match kind:
        case "object":
            shown = item(queue, work, " ".join(rest)) if rest else expected
            assert Api.ok(answer) == ({"data": [shown]} if cell.event == "message" else shown)
        case "secret":
            body = Api.ok(answer)
            secret = body["secret"]
            assert body == expected | {"secret": secret}
            assert not secret.endswith("=")
            assert list(json.loads(base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4)))) == ["sessions_token"]
        case "null":
            assert (answer.status_code, answer.text) == (200, "null")
        case "beat" | "ended":
            assert Api.ok(answer) == {
                "type": "work_heartbeat",
                "last_heartbeat": second(rest[0]) or "",
                "lease_extended": kind == "beat",
                "state": "active" if kind == "beat" else expected["state"],
                "ttl_seconds": int(rest[1]) if kind == "beat" else 120,
            }
        case "409":
            state = expected["state"]
            message = f"Work item {work} must be in QUEUED state to acknowledge. Current state: {state}."
            refused(answer, 409, message)
        case "412":
            wanted, actual, ttl = rest
            stored = None if actual == "NULL" else second(actual)
            named = wanted if wanted == "NO_HEARTBEAT" else second(wanted)
            message = f"Heartbeat precondition failed: expected {named}, actual was {stored or 'NULL'}"
            current = {
                "state": expected["state"],
                "last_heartbeat": stored,
                "lease_extended": False,
                "ttl_seconds": int(ttl),
            }
            details = {
                "current_state": current,
                "error_visibility": "user_facing",
                "error_code": "heartbeat_precondition_failed",
            }
            refused(answer, 412, message, details)
        case _:
            assert kind == "–"
            assert Api.ok(answer) == figures(cell.stats)


def test_the_table_has_every_cell() -> None:
    """No state leaves an event out, and none says one twice."""
    assert [[cell.event for cell in state.cells] for state in STATES] == [EVENTS] * 21
    assert len({state.name for state in STATES}) == 21


@pytest.mark.parametrize("state", STATES, ids=[state.name for state in STATES])
def test_every_event_in_every_state(api: Api, subtests: pytest.Subtests, state: State) -> None:
    """The answer, then the item with all its stamps, then the queue's figures.

    Refusals and empty polls share an item, so that a trace one of them left would show; the rest have one each.
    """
    quiet = [cell for cell in state.cells if cell.answer.split()[0] in ("null", "409", "412", "ended")]
    loud = [cell for cell in state.cells if cell not in quiet]
    api.freeze()
    shared, *own = live_through_in(api, [api.queue() for _ in range(1 + len(loud))], state.story).items()
    go_to(api, 20)
    for cell, (queue, work) in zip(quiet + loud, [shared] * len(quiet) + own, strict=True):
        with subtests.test(cell.event):
            if cell.event == "lapse":
                go_to(api, 1000)
            check_answer(happen(api, queue, work, cell.event), cell, queue, work)
            assert api.work(queue, work) == item(queue, work, cell.then)
            assert api.stats(queue) == figures(cell.stats)
            if cell.event == "lapse":
                assert api.ok(api.get(api.path(queue))) == {"data": [item(queue, work, cell.then)], "next_page": None}


# -- the end of a lease


@pytest.mark.parametrize(
    ("story", "end", "before", "then"),
    [
        ("enqueue@0 ack@2", 122, "starting ack=2", "queued"),
        ("enqueue@0 ack@2 claim@3:1", 4, "active ack=2 start=3 beat=3", "queued"),
        ("enqueue@0 ack@2 claim@3:3600", 3603, "active ack=2 start=3 beat=3", "queued"),
        ("enqueue@0 ack@2 stop@4", 122, "stopping ack=2 asked=4", "stopped ack=2 asked=4 end=122"),
        (
            "enqueue@0 ack@2 claim@3:60 stop@4",
            63,
            "stopping ack=2 start=3 beat=3 asked=4",
            "stopped ack=2 start=3 beat=3 asked=4 end=63",
        ),
    ],
)
def test_a_lease_holds_until_the_microsecond_before_its_end(
    api: Api, story: str, end: int, before: str, then: str
) -> None:
    """`now ≥ lease end`, to the microsecond; the startup lease is 120 s; a graceful stop lets the lease run on."""
    api.freeze()
    queue = api.queue()
    work = live_through(api, queue, story)
    go_to(api, end - 0.000001)
    assert api.work(queue, work) == item(queue, work, before)
    go_to(api, end)
    assert api.work(queue, work) == item(queue, work, then)


@pytest.mark.parametrize(
    ("desired", "applied"),
    [(None, 300), (-(10**30), 1), (-5, 1), (0, 1), (1, 1), (2, 2), (3600, 3600), (3601, 3600), (10**30, 3600)],
)
def test_the_ttl_of_a_lease_is_clamped(api: Api, desired: int | None, applied: int) -> None:
    """The answer names the effective one, the lease has it, and so has a later 412."""
    api.freeze()
    queue = api.queue()
    work = live_through(api, queue, "enqueue@0 ack@0")
    assert api.heartbeat(queue, work, "NO_HEARTBEAT", desired).json()["ttl_seconds"] == applied
    current = api.heartbeat(queue, work, "NO_HEARTBEAT").json()["error"]["details"]["current_state"]
    assert current["ttl_seconds"] == applied
    go_to(api, applied - 0.000001)
    assert api.work(queue, work)["state"] == "active"
    go_to(api, applied)
    assert api.work(queue, work)["state"] == "queued"


def test_an_extension_counts_from_its_own_instant_and_may_shorten_the_lease(api: Api) -> None:
    """Lease end = now + TTL, whatever was left of the lease before."""
    api.freeze()
    queue = api.queue()
    work = live_through(api, queue, "enqueue@0 ack@0 claim@0:300")
    go_to(api, 10)
    assert api.heartbeat(queue, work, NOON, 20).json()["last_heartbeat"] == after(NOON, 10)
    go_to(api, 29.999999)
    assert api.work(queue, work)["state"] == "active"
    go_to(api, 30)
    assert api.work(queue, work)["state"] == "queued"
    assert api.stats(queue)["oldest_queued_at"] == after(NOON, 30)


def test_lapses_take_effect_in_the_order_of_their_ends(api: Api) -> None:
    """The clock jumps over three ends at once; each entry is dated with its own lease's end."""
    api.freeze()
    queue = api.queue()
    first, second_, third = (made["id"] for made in api.enqueue(queue, 3))
    for work, ttl in ((first, 50), (second_, 70), (third, 60)):
        api.ok(api.ack(queue, work))
        api.ok(api.heartbeat(queue, work, "NO_HEARTBEAT", ttl))
    go_to(api, 3600)
    for work, end in ((first, 50), (third, 60), (second_, 70)):
        assert api.stats(queue)["oldest_queued_at"] == after(NOON, end)
        assert api.poll(queue)["id"] == work
        api.ok(api.ack(queue, work))
    assert api.poll(queue) is None


def test_ties_of_lapses_fall_in_creation_order_however_many_there_are(api: Api) -> None:
    """A step settles a hundred lapses at a time; the answer still shows none of the 120 that are due."""
    api.freeze()
    queue = api.queue()
    made = [row["id"] for row in api.enqueue(queue, 120)]
    for work in reversed(made):
        api.ok(api.ack(queue, work))
    assert api.stats(queue)["depth"] == 0
    go_to(api, 120)
    assert api.stats(queue) == {
        "type": "work_queue_stats",
        "depth": 120,
        "pending": 0,
        "oldest_queued_at": after(NOON, 120),
        "workers_polling": 0,
    }
    assert [api.poll(queue)["id"] for _ in range(120)] == made


def test_a_lapse_comes_before_what_happened_after_its_end(api: Api) -> None:
    """Order by date: waiting since 5, lapsed at 13 though noticed at 15, enqueued at 15."""
    api.freeze()
    queue = api.queue()
    lapsed = live_through(api, queue, "enqueue@0 ack@2 claim@3:10")
    go_to(api, 5)
    [early] = api.enqueue(queue)
    go_to(api, 15)
    [late] = api.enqueue(queue)
    assert [api.poll(queue)["id"] for _ in range(3)] == [early["id"], lapsed, late["id"]]


def test_a_stopped_item_stays_stopped_when_its_lease_would_have_ended(api: Api) -> None:
    """A stop by force ends the lease too, the startup lease as well."""
    api.freeze()
    queue = api.queue()
    api.enqueue(queue, 2)
    active, _ = api.active(queue, ttl=10)
    starting = api.poll(queue)["id"]
    api.ok(api.ack(queue, starting))
    stopped = [api.ok(api.stop(queue, work, force=True)) for work in (active, starting)]
    api.advance(3600)
    assert [api.work(queue, work) for work in (active, starting)] == stopped
    assert api.stats(queue)["depth"] == 0


def test_a_stopping_item_with_a_message_lapses_among_the_others(api: Api) -> None:
    """It becomes stopped and queued at its lease's end, in line with the plain lapses before and after that."""
    api.freeze()
    queue = api.queue()
    told = live_through(api, queue, "enqueue@0 ack@0 claim@0:20 stop@1 message@1")
    before, behind = (made["id"] for made in api.enqueue(queue, 2))
    for work, ttl in ((behind, 29), (before, 9)):
        api.ok(api.ack(queue, work))
        api.ok(api.heartbeat(queue, work, "NO_HEARTBEAT", ttl))
    go_to(api, 500)
    for work, end in ((before, 10), (told, 20), (behind, 30)):
        assert api.stats(queue)["oldest_queued_at"] == after(NOON, end)
        assert api.poll(queue)["id"] == work
        api.ok(api.ack(queue, work))


def test_a_lapsed_item_blocks_the_deletion_of_its_environment(api: Api) -> None:
    """An item under lease does not; the moment the lease ends, it is queued work."""
    api.freeze()
    queue = api.queue()
    live_through(api, queue, "enqueue@0 ack@0 claim@0:60")
    go_to(api, 60)
    refused(
        api.delete(f"/v1/environments/{queue}"),
        409,
        "Cannot delete self-hosted environment with work in the queue. Either archive the environment first to allow "
        "the queue to drain, or use force=true to delete immediately.",
    )


# -- heartbeats


def test_no_two_heartbeats_of_an_item_are_equal_even_when_time_stands_still(api: Api) -> None:
    """Each is at least a microsecond later than all before it, over extensions, a re-enqueue and a second claim."""
    api.freeze()
    queue = api.queue()
    work = live_through(api, queue, "enqueue@0 ack@0")
    beats = ["NO_HEARTBEAT"]
    for _ in range(3):
        beats.append(api.ok(api.heartbeat(queue, work, beats[-1]))["last_heartbeat"])
    api.ok(api.stop(queue, work, force=True))
    api.enqueue(queue, session_id=SESSION)
    api.ok(api.ack(queue, work))
    beats.append(api.ok(api.heartbeat(queue, work, "NO_HEARTBEAT"))["last_heartbeat"])
    beats.append(api.ok(api.heartbeat(queue, work))["last_heartbeat"])
    assert beats[1:] == [
        "2031-05-06T12:00:00.000000Z",
        "2031-05-06T12:00:00.000001Z",
        "2031-05-06T12:00:00.000002Z",
        "2031-05-06T12:00:00.000003Z",
        "2031-05-06T12:00:00.000004Z",
    ]
    for stale in beats[:-1]:
        answer = api.heartbeat(queue, work, stale)
        assert answer.status_code == 412
        assert answer.json()["error"]["details"]["current_state"]["last_heartbeat"] == beats[-1]
    assert api.work(queue, work)["latest_heartbeat_at"] == beats[-1]
    go_to(api, 300)
    assert api.work(queue, work)["state"] == "queued"
    api.ok(api.ack(queue, work))
    assert api.heartbeat(queue, work, beats[-1]).status_code == 412
    assert api.ok(api.heartbeat(queue, work, "NO_HEARTBEAT"))["last_heartbeat"] == after(NOON, 300)


def test_the_expected_heartbeat_is_compared_byte_for_byte(api: Api, subtests: pytest.Subtests) -> None:
    """Another rendering of the stored instant is another value, as is anything that only resembles a keyword."""
    api.freeze()
    queue = api.queue()
    work = live_through(api, queue, "enqueue@0 ack@0 claim@0:300")
    [unclaimed] = api.enqueue(queue)
    api.ok(api.ack(queue, unclaimed["id"]))
    for value in (
        "2031-05-06T12:00:00.000000z",
        "2031-05-06t12:00:00.000000Z",
        "2031-05-06T12:00:00.000000+00:00",
        "2031-05-06T14:00:00.000000+02:00",
        "2031-05-06T12:00:00Z",
        "2031-05-06T12:00:00.0000000Z",
        "2031-05-06T12:00:00.000Z",
        "2031-05-06T12:00:00.000000Z ",
        "1935835200000000",
        "no_heartbeat",
        "NONE",
        "ANY",
        "OTHER",
        "null",
    ):
        with subtests.test(value):
            shown = f"Heartbeat precondition failed: expected {value}, actual was"
            answer = api.heartbeat(queue, work, value)
            assert (answer.status_code, answer.json()["error"]["message"]) == (412, f"{shown} {NOON}")
            answer = api.heartbeat(queue, unclaimed["id"], value)
            assert (answer.status_code, answer.json()["error"]["message"]) == (412, f"{shown} NULL")


def test_the_ttl_of_an_earlier_life_is_forgotten(api: Api) -> None:
    """A 412 shows the TTL last applied since the item entered the queue, else 120."""
    api.freeze()
    queue = api.queue()
    work = live_through(api, queue, "enqueue@0 ack@0 claim@0:77 force@1 message@2 ack@3")
    assert api.heartbeat(queue, work, NOON).json()["error"]["details"]["current_state"] == {
        "state": "starting",
        "last_heartbeat": None,
        "lease_extended": False,
        "ttl_seconds": 120,
    }


# -- messages and stops


def test_a_message_makes_every_stop_a_new_life_until_it_is_acknowledged(api: Api) -> None:
    """Each force stop answers `stopped` and queues anew; the ack takes the message, so the stop after it is the last."""
    api.freeze()
    queue = api.queue()
    work = live_through(api, queue, "enqueue@0 stop@1 message@2")
    for at in (3, 4):
        go_to(api, at)
        stopped = api.ok(api.stop(queue, work, force=True))
        assert stopped == item(queue, work, f"stopped asked={at} end={at}")
        assert api.work(queue, work) == item(queue, work, "queued")
        assert api.stats(queue)["oldest_queued_at"] == after(NOON, at)
        assert api.stats(queue)["depth"] == 1
    go_to(api, 5)
    api.ok(api.ack(queue, work))
    api.ok(api.stop(queue, work, force=True))
    assert api.work(queue, work) == item(queue, work, "stopped ack=5 asked=5 end=5")
    assert api.stats(queue)["depth"] == 0


def test_a_message_survives_a_lapse_but_not_an_ack(api: Api) -> None:
    """Told while active, lapsed, taken again: the new holder's ack has seen the message."""
    api.freeze()
    queue = api.queue()
    work = live_through(api, queue, "enqueue@0 ack@0 claim@0:10 message@1 poll@20 ack@21 stop@22 force@23")
    assert api.work(queue, work) == item(queue, work, "stopped ack=21 asked=22 end=23")


def test_several_messages_are_one_re_enqueue(api: Api) -> None:
    """However a session id is written, and whatever metadata comes with the message."""
    api.freeze()
    queue = api.queue()
    work = live_through(api, queue, "enqueue@0 ack@0 stop@1 force@1")
    go_to(api, 2)
    [told] = api.enqueue(queue, session_id=SESSION.replace("session_", "sesn_"), metadata={"other": "ignored"})
    assert told == item(queue, work, "queued")
    go_to(api, 3)
    api.enqueue(queue, session_id=SESSION)
    api.enqueue(queue, session_id=SESSION)
    assert api.stats(queue)["depth"] == 1
    assert api.stats(queue)["oldest_queued_at"] == after(NOON, 2)
    assert api.poll(queue)["id"] == work
    assert api.poll(queue) is None


def test_the_late_stop_of_an_earlier_holder_does_nothing(api: Api) -> None:
    """The first holder's graceful stop meets an item that somebody else may take; force still ends it."""
    api.freeze()
    queue = api.queue()
    work = live_through(api, queue, "enqueue@0 poll@1 ack@2 claim@3:10 poll@15 stop@16")
    assert api.work(queue, work) == item(queue, work, "queued")
    go_to(api, 17)
    assert api.ok(api.stop(queue, work, force=True)) == item(queue, work, "stopped asked=17 end=17")


def test_a_re_enqueued_item_goes_behind_what_waits(api: Api) -> None:
    """It gets a new entry, dated with the message."""
    api.freeze()
    queue = api.queue()
    work = live_through(api, queue, "enqueue@0 poll@0 stop@1")
    [waiting] = api.enqueue(queue)
    go_to(api, 2)
    api.enqueue(queue, session_id=SESSION)
    assert api.stats(queue)["oldest_queued_at"] == after(NOON, 1)
    assert [api.poll(queue)["id"] for _ in range(2)] == [waiting["id"], work]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"force":false}'])
def test_a_stop_is_graceful_unless_it_says_force(api: Api, body: bytes) -> None:
    """An empty body and an empty object are the same."""
    api.freeze()
    queue = api.queue()
    work = live_through(api, queue, "enqueue@0 ack@0")
    stopped = api.post(api.path(queue, work, "stop"), content=body)
    assert api.ok(stopped)["state"] == "stopping"
