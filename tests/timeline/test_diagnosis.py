"""What the life of an item means: each sentence of the closed list, brought about through the API.

Rule: `timeline.diagnosis`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.harness import Api, running_server
from tests.support.sessions import MESSAGE, send, session
from workyard_queue.timeline.codes import CODES
from workyard_queue.timeline.wording import duration

POLLER = "environments-work-poller"
STARTUP_S, TTL_S, RECLAIM_S = 10, 4, 2


class Actor(Api):
    """A client with a name, as the server sees it, that works on one item."""

    def __init__(self, stage: Stage, name: str, token: str | None = None) -> None:
        super().__init__(stage.api.url, token or stage.api.api_key)
        self.http.headers["user-agent"] = name
        self.name, self.where, self.item = name, stage.queue, stage.work
        self.last: str | None = None

    def take(self) -> dict[str, Any]:
        """Poll, with the name."""
        found: dict[str, Any] = self.poll(self.where, self.name, reclaim_older_than_ms=RECLAIM_S * 1000)
        assert found["id"] == self.item
        return found

    def acks(self, status: int = 200) -> None:
        """Acknowledge the item."""
        assert self.ack(self.where, self.item).status_code == status

    def beats(self, expected: str | None = None, status: int = 200) -> None:
        """Beat, expecting what the last own beat gave unless told otherwise."""
        found = self.heartbeat(self.where, self.item, expected or self.last or "NO_HEARTBEAT", TTL_S)
        assert found.status_code == status, found.text
        if status == 200:
            self.last = found.json()["last_heartbeat"]

    def claims(self) -> None:
        """Take, acknowledge, beat."""
        self.take()
        self.acks()
        self.last = None
        self.beats()

    def stops(self, force: bool = False, helper: str = "") -> None:
        """Stop the item."""
        self.http.headers["x-stainless-helper"] = helper
        self.ok(self.stop(self.where, self.item, force))
        del self.http.headers["x-stainless-helper"]


class Stage:
    """A workspace whose clock stands still, with one item, and the clients that work on it."""

    def __init__(self, api: Api) -> None:
        self.api, self.queue = api, api.queue()
        api.ok(api.post("/_emulator/settings", json={"startup_lease_seconds": STARTUP_S}))
        api.freeze()
        made = api.ok(api.post(f"/_emulator/environments/{self.queue}/work"))["data"][0]
        self.work, self.session = str(made["id"]), str(made["data"]["id"])
        self.pass_by = api.advance
        self._actors: list[Actor] = []

    def actor(self, name: str, token: str | None = None) -> Actor:
        """Return a client of this name."""
        self._actors.append(Actor(self, name, token))
        return self._actors[-1]

    def close(self) -> None:
        """Close all connections."""
        for each in self._actors:
            each.close()

    def timeline(self) -> dict[str, Any]:
        """Return the timeline."""
        found: dict[str, Any] = self.api.ok(self.api.get(f"/_emulator/work/{self.work}/timeline"))
        return found


Scenario = Callable[[Stage, Actor, Actor], str]
SCENARIOS: dict[str, Scenario] = {}


def scenario(bring_about: Scenario) -> Scenario:
    """Register what brings a finding about; it answers what the sentence has to match."""
    SCENARIOS[bring_about.__name__] = bring_about
    return bring_about


@scenario
def nobody_polls(stage: Stage, a: Actor, b: Actor) -> str:
    stage.pass_by(42)
    return "Queued for 42 s and never handed out: no named worker polled in the last 30 s."


@scenario
def polls_faulted(stage: Stage, a: Actor, b: Actor) -> str:
    rule = {"name": "revoked", "on": "poll", "nth": "every", "do": {"status": 401}}
    stage.api.ok(stage.api.post("/_emulator/faults", json=rule))
    for _ in range(2):
        assert stage.api.get(stage.api.path(stage.queue, "poll")).status_code == 401
    stage.pass_by(3)
    return (
        r"Queued for 3 s and never handed out: the fault rule revoked \(2×\) was applied to polls of its environment\."
    )


@scenario
def waiting(stage: Stage, a: Actor, b: Actor) -> str:
    first = stage.work
    stage.work = stage.api.ok(stage.api.post(f"/_emulator/environments/{stage.queue}/work"))["data"][0]["id"]
    assert a.poll(stage.queue, "a")["id"] == first
    return "Queued for .*, not handed out yet; 1 worker polled in the last 30 s."


@scenario
def handed_out(stage: Stage, a: Actor, b: Actor) -> str:
    a.take()
    stage.pass_by(1.5)
    return r"Handed out to worker a 1\.5 s ago and not yet acknowledged\."


@scenario
def never_acknowledged(stage: Stage, a: Actor, b: Actor) -> str:
    for each in (a, b, a):
        each.take()
        stage.pass_by(RECLAIM_S)
    return "Handed out 3 times within 4 s, to worker a, worker b, and never acknowledged."


@scenario
def taken_over(stage: Stage, a: Actor, b: Actor) -> str:
    a.take()
    stage.pass_by(RECLAIM_S)
    b.claims()
    return "Taken over by worker b: worker a had not acknowledged it 2 s after its poll."


@scenario
def double_delivery(stage: Stage, a: Actor, b: Actor) -> str:
    a.take()
    stage.pass_by(RECLAIM_S)
    b.take()
    b.acks()
    stage.pass_by(0.25)
    a.acks(409)
    return "Delivered twice: worker b acknowledged it, and worker a did too 250 ms later, .* 409. 2 polls"


@scenario
def repeated_ack(stage: Stage, a: Actor, b: Actor) -> str:
    a.take()
    a.acks()
    a.acks(409)
    return "Acknowledged again .* of wall time later, .* the response to the first acknowledgement did not arrive."


@scenario
def late_ack(stage: Stage, a: Actor, b: Actor) -> str:
    a.take()
    b.stops()
    a.acks(409)
    return "Acknowledged too late by worker a: it was already stopped."


@scenario
def dispatcher_returned(stage: Stage, a: Actor, b: Actor) -> str:
    a.take()
    a.acks()
    a.stops(helper=POLLER)
    stage.pass_by(0.04)
    b.beats()
    return "Stopped by the poller of worker a 40 ms before the first heartbeat .*: the dispatcher returned before its sandbox"


@scenario
def stopped_unclaimed(stage: Stage, a: Actor, b: Actor) -> str:
    a.take()
    a.acks()
    stage.pass_by(0.5)
    a.stops(helper=POLLER)
    stage.pass_by(STARTUP_S)
    return "Stopped by the poller of worker a 500 ms after it was acknowledged, and nobody has sent a heartbeat"


@scenario
def no_first_heartbeat(stage: Stage, a: Actor, b: Actor) -> str:
    a.take()
    a.acks()
    stage.pass_by(STARTUP_S)
    return "Acknowledged by worker a, but no heartbeat came within the startup lease of 10 s."


@scenario
def lease_lapsed(stage: Stage, a: Actor, b: Actor) -> str:
    a.claims()
    stage.pass_by(TTL_S + 1)
    a.beats(status=412)
    return "The lease of worker a lapsed: no heartbeat for 4 s, .* its next heartbeat came 5 s after the last one, so it had slept, been blocked"


@scenario
def lease_lost(stage: Stage, a: Actor, b: Actor) -> str:
    a.claims()
    stage.pass_by(TTL_S)
    b.claims()
    stage.pass_by(3)
    for _ in range(2):
        a.beats(status=412)
    return "Worker a had lost the lease when it sent a heartbeat 7 s after its last accepted step: .* 412, because worker b had held it for 3 s."


@scenario
def rival_heartbeat(stage: Stage, a: Actor, b: Actor) -> str:
    a.take()
    stage.pass_by(RECLAIM_S)
    b.take()
    b.acks()
    b.beats()
    stage.pass_by(1)
    a.beats(status=412)
    return "Two workers claimed it: the heartbeat of worker a came 1 s after that of worker b, expected the same"


@scenario
def repeated_heartbeat(stage: Stage, a: Actor, b: Actor) -> str:
    a.claims()
    stage.pass_by(1)
    a.beats("NO_HEARTBEAT", status=412)
    return r"Worker a repeated its heartbeat 1 s after .* NO_HEARTBEAT again: .* \(the stored value was the one of 1 s before"


@scenario
def stale_heartbeat(stage: Stage, a: Actor, b: Actor) -> str:
    a.claims()
    a.beats("yesterday", status=412)
    return "A heartbeat of worker a was refused with 412: it expected OTHER, but the stored value was the one of 0 µs before."


@scenario
def unacknowledged_heartbeat(stage: Stage, a: Actor, b: Actor) -> str:
    a.take()
    a.beats(status=412)
    return "Worker a sent a heartbeat while it was queued: nobody had acknowledged it."


@scenario
def late_stop_ignored(stage: Stage, a: Actor, b: Actor) -> str:
    a.claims()
    stage.pass_by(TTL_S)
    a.stops()
    assert stage.api.work(stage.queue, stage.work)["state"] == "queued"
    return "A late stop of .* was ignored: the item had been queued again, and nobody held it."


@scenario
def stopped_in_queue(stage: Stage, a: Actor, b: Actor) -> str:
    a.stops()
    return "Stopped in the queue by the client with api key .{8}, never handed out."


@scenario
def forced_by_other(stage: Stage, a: Actor, b: Actor) -> str:
    a.claims()
    b.stops(force=True)
    return r"Stopped by force by the client with api key .{8} \(b\), while worker a held it"


@scenario
def session_ended(stage: Stage, a: Actor, b: Actor) -> str:
    made = session(stage.api, stage.queue, initial_events=[])
    stage.api.ok(stage.api.post(f"/v1/sessions/{made['id']}/archive"))
    items = stage.api.ok(stage.api.get(stage.api.path(stage.queue)))["data"]
    stage.work = next(item["id"] for item in items if item["data"]["id"] == made["id"])
    return "Stopped in state queued, because its session ended."


@scenario
def stop_not_honoured(stage: Stage, a: Actor, b: Actor) -> str:
    a.claims()
    b.stops()
    a.beats()
    stage.pass_by(TTL_S)
    return "The client with api key .{8} requested a stop; worker a learned of it from a heartbeat .* when its lease ended, 4 s later."


@scenario
def stop_honoured(stage: Stage, a: Actor, b: Actor) -> str:
    a.claims()
    b.stops()
    stage.pass_by(1)
    a.stops(force=True)
    return r"The client with api key .{8} requested a stop \(b\), and worker a stopped it 1 s later."


@scenario
def bounced(stage: Stage, a: Actor, b: Actor) -> str:
    for _ in range(3):
        a.claims()
        stage.pass_by(TTL_S)
    return "Queued again 3 times within 8 s, each time because its lease ended."


@scenario
def message_requeued(stage: Stage, a: Actor, b: Actor) -> str:
    a.claims()
    a.stops(force=True)
    send(stage.api, stage.session, MESSAGE)
    return "A message to its session put it back into the queue: it had been stopped."


@scenario
def running(stage: Stage, a: Actor, b: Actor) -> str:
    a.claims()
    stage.pass_by(1)
    return "Worker a sent its last heartbeat 1 s ago and holds it; its lease ends in 3 s."


@scenario
def winding_down(stage: Stage, a: Actor, b: Actor) -> str:
    a.claims()
    b.stops()
    stage.pass_by(1)
    return "The client with .* requested a stop 1 s ago; its worker must stop it, or it is stopped in 3 s, when its lease ends."


@scenario
def served(stage: Stage, a: Actor, b: Actor) -> str:
    a.claims()
    stage.pass_by(2)
    a.beats()
    a.stops(force=True)
    return "Served and stopped by worker a, 2 s after it was acknowledged, with 2 heartbeats."


@scenario
def fault_injected(stage: Stage, a: Actor, b: Actor) -> str:
    stage.api.ok(
        stage.api.post(
            "/_emulator/faults", json={"name": "steal", "on": "heartbeat", "nth": 2, "do": {"lose_lease": True}}
        )
    )
    a.claims()
    stage.pass_by(1)
    a.beats(status=412)
    return (
        r"The fault rule steal \(lose_lease\) was applied to heartbeat of worker a; next, .*: lapsed active → queued\."
    )


#: What goes with a scenario beside its own finding.
BESIDES = {
    "never_acknowledged": set[str](),
    "double_delivery": {"taken_over", "running"},
    "rival_heartbeat": {"taken_over", "running"},
    "taken_over": {"running"},
    "late_ack": {"stopped_in_queue"},
    "repeated_ack": {"running"},
    "dispatcher_returned": {"winding_down"},
    "no_first_heartbeat": {"nobody_polls", "waiting"},
    "fault_injected": {"lease_lost", "nobody_polls", "waiting"},
    "lease_lapsed": {"lease_lost", "nobody_polls", "waiting"},
    "lease_lost": {"lease_lapsed", "running"},
    "repeated_heartbeat": {"running"},
    "stale_heartbeat": {"running"},
    "unacknowledged_heartbeat": {"handed_out"},
    "late_stop_ignored": {"lease_lapsed", "nobody_polls", "waiting"},
    "bounced": {"lease_lapsed", "nobody_polls", "waiting"},
    "message_requeued": {"served", "nobody_polls", "waiting"},
}


@pytest.mark.parametrize("code", SCENARIOS)
def test_a_finding_is_made_of_what_brings_it_about(api: Api, code: str) -> None:
    """With the sentence that it stands for, and no other finding that does not belong there."""
    stage = Stage(api)
    try:
        wanted = SCENARIOS[code](stage, stage.actor("a"), stage.actor("b"))
        found = stage.timeline()
    finally:
        stage.close()
    texts = [finding["text"] for finding in found["diagnosis"] if finding["code"] == code]
    assert any(re.match(wanted, text) for text in texts), found["diagnosis"]
    assert {finding["code"] for finding in found["diagnosis"]} - {code} <= BESIDES.get(code, set())
    assert {finding["severity"] for finding in found["diagnosis"] if finding["code"] == code} == {CODES[code][0]}
    assert len(set(texts)) == len(texts)
    assert found["complete"]


def test_every_code_is_brought_about() -> None:
    """One has a test of its own below."""
    assert set(SCENARIOS) | {"incomplete"} == set(CODES)


def test_a_life_that_the_ring_has_forgotten_is_said_to_be_incomplete() -> None:
    """Its end is still told."""
    with running_server("--timeline-events", "100") as server:
        api = Api(server.url)
        queue = api.queue()
        api.ok(api.post(f"/_emulator/environments/{queue}/work"))
        work, beat = api.active(queue)
        for _ in range(300):
            beat = api.ok(api.heartbeat(queue, work, beat))["last_heartbeat"]
        found = api.ok(api.get(f"/_emulator/work/{work}/timeline"))
        api.close()
    assert not found["complete"]
    assert 100 <= len(found["events"]) < 302
    assert {event["event"] for event in found["events"]} == {"beat"}
    assert [finding["code"] for finding in found["diagnosis"]] == ["incomplete", "running"]


@pytest.mark.parametrize(
    ("us", "words"),
    [(-5, "0 µs"), (999, "999 µs"), (1_000, "1 ms"), (40_000, "40 ms"), (250_000, "250 ms"), (999_999, "999 ms"),
     (1_000_000, "1 s"), (119_000_000, "119 s"), (120_000_000, "2 min"), (125_000_000, "2 min 5 s"),
     (3_600_000_000, "1 h"), (90_000_000_000, "1 d 1 h")],
)  # fmt: skip
def test_spans_of_time_are_short(us: int, words: str) -> None:
    """Two units at the most."""
    assert duration(us) == words
