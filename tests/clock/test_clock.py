"""Time under a frozen clock, without one sleep: reclaim, lapse, takeover. Rules: `clock.*`, `work.lapse.*`."""

from __future__ import annotations

from tests.support.harness import NOON, Api, after


def test_an_unacked_item_is_handed_out_again_at_five_seconds_and_not_before(api: Api) -> None:
    """`reclaim_older_than_ms` defaults to 5000."""
    api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue)
    assert api.poll(queue)["id"] == item["id"]
    api.advance(4.999)
    assert api.poll(queue) is None
    api.advance(0.001)
    assert api.poll(queue)["id"] == item["id"]


def test_a_reclaim_age_of_one_millisecond_takes_over_at_one_millisecond(api: Api) -> None:
    """The smallest age there is."""
    api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue)
    api.poll(queue)
    api.advance(0.0009)
    assert api.poll(queue, reclaim_older_than_ms=1) is None
    api.advance(0.0001)
    assert api.poll(queue, reclaim_older_than_ms=1)["id"] == item["id"]


def test_a_lease_lapses_exactly_at_its_end(api: Api) -> None:
    """`now ≥ lease end`; the new entry is dated with the lease's end."""
    api.freeze()
    queue = api.queue()
    api.enqueue(queue)
    work, _ = api.active(queue, ttl=60)
    api.advance(59.999999)
    assert api.work(queue, work)["state"] == "active"
    api.advance(0.000001)
    lapsed = api.work(queue, work)
    assert lapsed["state"] == "queued"
    assert lapsed["acknowledged_at"] is lapsed["started_at"] is lapsed["latest_heartbeat_at"] is None
    api.advance(30)
    assert api.stats(queue)["oldest_queued_at"] == after(NOON, 60)


def test_the_second_worker_takes_the_lapsed_item_and_the_first_one_meets_412(api: Api) -> None:
    """The whole takeover, in virtual time."""
    api.freeze()
    queue = api.queue()
    api.enqueue(queue)
    work, stale = api.active(queue, ttl=30)
    api.advance(30)
    taken, fresh = api.active(queue)
    assert taken == work
    assert fresh != stale
    refused = api.heartbeat(queue, work, stale)
    assert refused.status_code == 412
    assert refused.json()["error"]["details"]["current_state"]["last_heartbeat"] == fresh
    assert api.heartbeat(queue, work, fresh).json()["lease_extended"] is True


def test_a_startup_lease_lapses_at_120_seconds(api: Api) -> None:
    """An acknowledged item that nobody claims goes back."""
    api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue)
    api.poll(queue)
    api.ok(api.ack(queue, item["id"]))
    api.advance(119.999999)
    assert api.work(queue, item["id"])["state"] == "starting"
    api.advance(0.000001)
    assert api.work(queue, item["id"])["state"] == "queued"


def test_a_claim_in_the_microsecond_of_an_earlier_lifes_heartbeat_is_dated_after_that_but_started_now(api: Api) -> None:
    """Two lives of one item under a clock that stands still: only the heartbeat has to be later."""
    now = api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue)
    work, stale = api.active(queue)
    assert stale == now
    api.ok(api.stop(queue, work, force=True))
    api.enqueue(queue, session_id=item["data"]["id"])
    again, fresh = api.active(queue)
    assert (again, fresh) == (work, after(now, 0.000001))
    found = api.work(queue, work)
    assert (found["started_at"], found["latest_heartbeat_at"]) == (now, fresh)


def test_no_step_is_dated_before_the_last_one_of_its_environment(api: Api) -> None:
    """Not even where the clock is behind that, as on another machine."""
    queue = api.queue()
    document = api.ok(api.get("/_emulator/state"))
    document["environments"][0]["last_step_at"] = NOON
    api.ok(api.request("PUT", "/_emulator/state", json=document))
    assert api.ok(api.get("/_emulator/clock"))["now"] < NOON
    assert api.enqueue(queue)[0]["created_at"] == NOON
