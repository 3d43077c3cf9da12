"""Whatever breaks under load, nothing accepted is lost, doubled or stuck; and the judgement that says so can say no.

`WORKYARD_CHAOS_ROUNDS` is how often each fault strikes (`scripts/chaos` repeats them 50 times), `WORKYARD_CHAOS_SEED`
repeats a run's choices. Rule: `work.crash`; docs/reliability.md.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.chaos.calls import Call
from tests.support.chaos.checks import LONGEST_S, judge
from tests.support.chaos.faults import FAULTS
from tests.support.chaos.rounds import enough_hit, run

ROUNDS = int(os.environ.get("WORKYARD_CHAOS_ROUNDS", "2"))
SEED = int(os.environ.get("WORKYARD_CHAOS_SEED", random.SystemRandom().randrange(1 << 30)))


@pytest.mark.timeout(60 + 30 * ROUNDS)
@pytest.mark.xdist_group("chaos")  # The load keeps both cores of a small machine busy as it is.
@pytest.mark.parametrize("name", FAULTS)
def test_nothing_accepted_is_lost_doubled_or_stuck_when(name: str, redis_engine: str) -> None:
    """One fault, struck several times under load on a Redis that syncs its append-only file before it answers."""
    # Some of the rounds on each version of Redis: they differ in little, and that shows in every round.
    newer = max(1, ROUNDS // 3)
    rounds = run(name, max(1, ROUNDS - newer) if redis_engine == "redis-7" else newer, SEED, engine=redis_engine)
    assert [breach for each in rounds for breach in each.broken] == []
    assert all(each.items > 0 for each in rounds)
    # It struck while something was under way, and not only polls that wait.
    assert enough_hit(rounds)
    if FAULTS[name].loses:
        assert any(each.lost + each.unavailable > 0 for each in rounds)


# -- the judgement can say no -------------------------------------------------------------------------------------

T0 = "2031-05-06T12:00:00.000000Z"
T1 = "2031-05-06T12:00:00.400000Z"
T2 = "2031-05-06T12:00:00.800000Z"
T3 = "2031-05-06T12:00:02.000000Z"


class History:
    """A journal written by hand: each call takes 10 ms and follows the one before it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.items = [_item("work_1")]
        self.stats: dict[str, Any] = {"depth": 0, "pending": 0, "oldest_queued_at": None}

    def add(self, verb: str, work: str = "work_1", lane: str = "a", **fields: Any) -> Call:
        """Append a call."""
        begun = len(self.calls) * 0.02
        given = {"sent": True, "ended": begun + 0.01, "status": 200} | fields
        self.calls.append(Call(lane=lane, port=1, verb=verb, work=work, begun=begun, **given))
        return self.calls[-1]

    def enqueue(self, *works: str, key: str = "key") -> Call:
        """Append an enqueue that was answered."""
        return self.add("enqueue", key, answer={"data": [_item(work) for work in works]})

    def beat(self, made: str, expected: str, lane: str = "a") -> Call:
        """Append a heartbeat that was accepted."""
        answer = {"last_heartbeat": made, "lease_extended": True}
        return self.add("heartbeat", lane=lane, expected=expected, answer=answer)

    def stop(self) -> Call:
        """Append a forced stop."""
        return self.add("force stop", answer=_item("work_1"))

    @property
    def broken(self) -> list[str]:
        """What the judgement says."""
        return judge(self.calls, self.items, self.stats)


def _item(work: str, **fields: Any) -> dict[str, Any]:
    return {"id": work, "state": "stopped", "stopped_at": T3, "metadata": {}} | fields


@pytest.fixture
def history() -> History:
    """One item's whole life, a lost lease and a lost answer in it, nothing wrong."""
    told = History()
    told.add("enqueue", "key", status=0)
    told.enqueue("work_1")
    told.enqueue("work_1")
    told.add("poll", "", answer=_item("work_1", state="queued"))
    told.add("ack", status=503)
    told.add("ack", status=409)
    told.beat(T0, "NO_HEARTBEAT")
    told.add("heartbeat", expected=T0, status=0)
    state = {"last_heartbeat": T1}
    refused = told.add("heartbeat", expected=T0, status=412, answer={"error": {"details": {"current_state": state}}})
    refused.adopted = True
    told.beat(T2, T1)
    told.beat(T3, "NO_HEARTBEAT", lane="b")
    told.add("update", lane="b")
    told.items = [_item("work_1", metadata={"by": "b"})]
    told.stop()
    told.stop()
    return told


def test_a_life_with_lost_answers_breaks_no_promise(history: History) -> None:
    """Else the other tests here would prove nothing."""
    assert history.broken == []


def _lost_item(told: History) -> None:
    told.enqueue("work_2", key="other")


def _nobodys_item(told: History) -> None:
    told.items.append(_item("work_2"))


def _item_listed_twice(told: History) -> None:
    told.items *= 2


def _key_with_two_meanings(told: History) -> None:
    told.enqueue("work_2")
    told.items.append(_item("work_2"))


def _item_that_never_ends(told: History) -> None:
    told.items[0] |= {"state": "queued", "stopped_at": None}


def _queue_that_is_not_empty(told: History) -> None:
    told.stats["pending"] = 1


def _lost_update(told: History) -> None:
    told.items[0]["metadata"] = {}


def _update_by_nobody(told: History) -> None:
    told.items[0]["metadata"] = {"by": "c"}


def _two_holders(told: History) -> None:
    told.beat("2031-05-06T12:00:02.500000Z", "NO_HEARTBEAT", lane="c")


def _extended_by_another(told: History) -> None:
    told.beat("2031-05-06T12:00:02.500000Z", T3, lane="c")


def _extended_from_an_old_value(told: History) -> None:
    told.beat("2031-05-06T12:00:02.500000Z", T2, lane="b")


def _two_heartbeats_of_one_instant(told: History) -> None:
    told.beat(T3, T2, lane="b")


def _lease_that_nobody_claimed(told: History) -> None:
    told.calls = [call for call in told.calls if call.verb != "heartbeat" or call.expected != "NO_HEARTBEAT"]


def _handed_out_after_its_stop(told: History) -> None:
    told.add("poll", "", answer=_item("work_1", state="queued"))


def _acknowledged_after_its_stop(told: History) -> None:
    told.add("ack")


def _held_after_its_stop(told: History) -> None:
    told.beat("2031-05-06T12:00:02.500000Z", T3, lane="b")


def _stop_that_stops_nothing(told: History) -> None:
    told.calls[-1].answer["state"] = "active"


def _request_that_hangs(told: History) -> None:
    told.calls[3].ended = told.calls[3].begun + LONGEST_S + 0.1


def _server_error(told: History) -> None:
    told.add("poll", "", status=500)


def _item_not_found(told: History) -> None:
    told.add("heartbeat", status=404)


_BREACHES: dict[Callable[[History], None], str] = {
    _lost_item: "1 items are lost",
    _nobodys_item: "1 items are nobody's",
    _item_listed_twice: "listed twice",
    _key_with_two_meanings: "key key stands for",
    _item_that_never_ends: "ended queued",
    _queue_that_is_not_empty: "not empty",
    _lost_update: "has metadata {}",
    _update_by_nobody: "has metadata {'by': 'c'}",
    _two_holders: "c claimed it while b held it",
    _extended_by_another: "c extended from",
    _extended_from_an_old_value: "b extended from",
    _two_heartbeats_of_one_instant: "two heartbeats are dated",
    _lease_that_nobody_claimed: "nobody claimed",
    _handed_out_after_its_stop: "poll by a was accepted after",
    _acknowledged_after_its_stop: "ack by a was accepted after",
    _held_after_its_stop: "heartbeat by b was accepted after",
    _stop_that_stops_nothing: "did not stop it",
    _request_that_hangs: "took 5.1 s",
    _server_error: "answered 500",
    _item_not_found: "answered 404",
}


@pytest.mark.parametrize("spoil", _BREACHES, ids=lambda spoil: spoil.__name__.strip("_"))
def test_the_judgement_sees_a(history: History, spoil: Callable[[History], None]) -> None:
    """Each breach, put into a history that has none."""
    spoil(history)
    assert any(_BREACHES[spoil] in breach for breach in history.broken), history.broken
