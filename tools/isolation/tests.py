"""The tests that `scripts/isolation` runs in many processes against one server: each sees its own workspace only.

What each does is drawn anew by its process and its number: when its clock stands, how much work there is, how leases end.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.harness import Api
from workyard.testing import Emulator

TESTS = int(os.environ.get("ISOLATION_TESTS", "1"))
_FIRST_YEAR = datetime(2031, 1, 1, tzinfo=UTC)
_LONGEST_TTL_S = 3600
_MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def api(workyard: Emulator) -> Iterator[Api]:
    """The calls of a worker."""
    with closing(Api(workyard.url, workyard.api_key)) as client:
        yield client


@pytest.mark.parametrize("n", range(TESTS))
def test_a_workspace_holds_what_its_test_did_and_nothing_else(workyard: Emulator, api: Api, n: int) -> None:
    """Clock, faults, timelines, queue and figures; and nothing at its beginning."""
    dice = random.Random(f"{os.environ.get('PYTEST_XDIST_WORKER')} {n}")
    begun = _FIRST_YEAR + timedelta(seconds=dice.randrange(10**9))
    count, faults, ttl_s = dice.randint(1, 5), dice.randint(1, 3), dice.randint(1, _LONGEST_TTL_S)

    assert api.ok(api.get("/v1/environments"))["data"] == []
    assert workyard.clock.read().mode == "real"
    assert workyard.faults.list() == []
    assert workyard.journal.count(on="poll") == 0

    workyard.clock.freeze(begun)
    queue = workyard.environment()
    items = [item.id for item in workyard.enqueue(queue, count)]
    workyard.faults.add({"on": "poll", "nth": "every", "times": faults, "do": {"status": 529}})
    polled = [api.get(api.path(queue.id, "poll")) for _ in range(faults)]
    assert [answer.status_code for answer in polled] == [529] * faults
    item, _ = api.active(queue.id, ttl_s)
    assert item == items[0]
    workyard.clock.advance(timedelta(seconds=ttl_s) - _MICROSECOND)
    assert (api.work(queue.id, item)["state"], workyard.stats(queue).depth) == ("active", count - 1)
    workyard.clock.advance(_MICROSECOND)
    assert (api.work(queue.id, item)["state"], workyard.stats(queue).depth) == ("queued", count)

    workyard.journal.verify({"on": "poll", "exactly": faults + 1}, {"on": "ack", "exactly": 1})
    [rule] = workyard.faults.list()
    assert (rule.hits, rule.left) == (faults, 0)
    life = workyard.timeline(item)
    assert [event.event for event in life.events] == ["enqueued", "offered", "acked", "beat", "lapsed"]
    assert {event.at for event in life.events} == {life.events[0].at, life.now}

    assert workyard.clock.now() == begun + timedelta(seconds=ttl_s)
    assert [work.id for work in workyard.work(queue)] == items[::-1]
    assert {datetime.fromisoformat(work.created_at) for work in workyard.work(queue)} == {begun}
    assert [row["id"] for row in api.ok(api.get("/v1/environments"))["data"]] == [queue.id]
