"""Each ready scenario with a real worker of the Python SDK: what comes of it, and what its timeline says."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support.agent_reports import message
from tests.support.harness import Api, WorkyardServer, wait_until
from tests.support.sdk_processes import LONG, credentials, texts
from tests.support.sessions import item, session
from tests.support.timelines import timeline
from tests.support.workers import Worker
from workyard.faults.scenarios import ready_scenarios

#: With it the first poll gets lost, and no acknowledgement.
SEED = 13
#: A worker beats after half of it, and takes its lease for lost after all of it: long enough for a busy machine.
TTL_S = 8
#: The server's own.
STARTUP_LEASE_S = 120


@dataclass
class Stage:
    """An environment, and how to start one."""

    api: Api
    queue: str
    start: Callable[..., Worker]
    name: str

    def worker(self, name: str = "worker") -> Worker:
        """Start a worker that serves one item after the other."""
        return self.start("run", credentials(self.api, self.queue), f"{self.name}-{name}")

    def session(self, command: str = "echo served") -> tuple[str, str]:
        """Create a session with a message; return its id and that of its work."""
        made = str(session(self.api, self.queue, initial_events=[message(command)])["id"])
        return made, str(item(self.api, self.queue, made)["id"])

    def done(self, made: str, work: str) -> bool:
        """Tell whether a session has come to its end, and its work too; asks the control plane, which has no faults."""
        report: dict[str, bool] = self.api.ok(self.api.get(f"/_emulator/sessions/{made}/script"))["report"]
        return report["finished"] and timeline(self.api, work)["state"] == "stopped"

    def hits(self) -> list[int]:
        """Return how often each rule was applied."""
        return [row["hits"] for row in self.api.ok(self.api.get("/_emulator/faults"))["data"]]

    def events(self, work: str) -> list[str]:
        """Return the kinds of events in the life of an item."""
        return [event["event"] for event in timeline(self.api, work)["events"]]

    def codes(self, work: str) -> set[str]:
        """Return what the life of an item means."""
        return {finding["code"] for finding in timeline(self.api, work)["diagnosis"]}

    def put(self) -> None:
        """Put the scenario into force."""
        asked = {"scenario": self.name, "environment_id": self.queue, "seed": SEED}
        self.api.ok(self.api.post("/_emulator/faults", json=asked))


def lost_ack(stage: Stage) -> None:
    """The client asks again, is told 409, and lets go of the item: it waits for the end of its startup lease."""
    stage.put()
    made, work = stage.session()
    worker = stage.worker()
    worker.says("ack failed, backing off")
    assert stage.api.work(stage.queue, work)["state"] == "starting"
    assert stage.events(work) == ["enqueued", "offered", "acked", "fault", "ack_refused"]
    assert {"fault_injected", "repeated_ack"} <= stage.codes(work)
    stage.api.advance(STARTUP_LEASE_S)
    worker.until(lambda: stage.done(made, work), "the session is over")
    assert {"no_first_heartbeat", "served"} <= stage.codes(work)


def stolen_lease(stage: Stage) -> None:
    """By its next heartbeat the worker learns that it has lost the item; it lets go of it, polls, and runs it anew."""
    stage.put()
    made, work = stage.session(LONG)
    worker = stage.worker()
    worker.says("lease lost: heartbeat precondition failed")
    worker.let_go()
    worker.says("without stopping it")
    worker.until(lambda: stage.done(made, work), "the session is over")
    kinds = stage.events(work)
    lost = kinds.index("fault")
    assert kinds[lost : lost + 3] == ["fault", "lapsed", "beat_refused"]
    assert {"fault_injected", "lease_lost"} <= stage.codes(work)


def flaky_network(stage: Stage) -> None:
    """The client tries again, and the run comes to its end."""
    made, work = stage.session()
    stage.put()
    worker = stage.worker()
    worker.until(lambda: stage.done(made, work), "the session is over")
    assert sum(stage.hits()) >= 1
    assert texts(stage.api, made, "user.tool_result") == ["served"]
    worker.terminate()


def double_delivery(stage: Stage) -> None:
    """Both workers acknowledge it; who is told 409 lets go of it, and the other serves it."""
    stage.put()
    workers = [stage.worker(name) for name in ("one", "two")]
    for worker in workers:
        worker.says("poller starting")
    made, work = stage.session()
    wait_until(lambda: any("ack failed, backing off" in worker.log() for worker in workers), "one is told 409", 20)
    wait_until(lambda: stage.done(made, work), "the session is over", 20)
    kinds = stage.events(work)
    assert kinds.count("offered") == 2
    assert kinds.count("ack_refused") == 1
    assert {"fault_injected", "double_delivery"} <= stage.codes(work)


def slow_server(stage: Stage) -> None:
    """All goes well, a little later."""
    stage.put()
    made, work = stage.session()
    worker = stage.worker()
    wait_until(lambda: stage.hits()[0] >= 4, "poll, ack, heartbeat and stop were slow", 20)
    worker.until(lambda: stage.done(made, work), "the session is over")
    assert {"fault_injected", "served"} <= stage.codes(work)


def stop_mid_run(stage: Stage) -> None:
    """The worker finishes its tool, and ends the item that nobody had asked to end."""
    stage.put()
    made, work = stage.session(LONG)
    worker = stage.worker()
    worker.says("heartbeat signals shutdown state=stopping")
    worker.let_go()
    worker.until(lambda: stage.api.work(stage.queue, work)["state"] == "stopped", "it is stopped")
    assert texts(stage.api, made, "user.tool_result") == ["gone"]
    assert "fault_injected" in stage.codes(work)


def outage_30s(stage: Stage) -> None:
    """The poller backs off, and goes on when the clock has left the outage behind."""
    made, work = stage.session()
    stage.put()
    worker = stage.worker()
    wait_until(lambda: stage.hits()[0] >= 3, "the client has tried three times", 20)
    stage.api.advance(30)
    worker.until(lambda: stage.done(made, work), "the session is over")
    assert "served" in stage.codes(work)


def key_revoked(stage: Stage) -> None:
    """The worker ends with the error; the item waits for another."""
    stage.put()
    _, work = stage.session()
    worker = stage.worker()
    worker.says("poll failed permanently")
    worker.says("anthropic.AuthenticationError")
    assert "OAuth access token has been revoked." in worker.log()
    assert stage.events(work) == ["enqueued"]
    assert stage.codes(work) == {"polls_faulted"}


def malformed_secret(stage: Stage) -> None:
    """Not a scenario, but of interest to workers only: the SDK's falls back on the environment key."""
    rule = {"on": "poll", "nth": "every", "do": {"malformed_secret": True}}
    stage.api.ok(stage.api.post("/_emulator/faults", json=rule))
    made, work = stage.session()
    worker = stage.worker()
    worker.says("no sessions token could be extracted")
    worker.until(lambda: stage.done(made, work), "the session is over")


STORIES = {
    story.__name__.replace("_", "-"): story
    for story in (
        lost_ack, stolen_lease, flaky_network, double_delivery, slow_server, stop_mid_run, outage_30s, key_revoked,
        malformed_secret,
    )
}  # fmt: skip


def test_what_workers_make_of_the_ready_scenarios(
    server: WorkyardServer, new_api: Callable[..., Api], start_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    """All side by side, each in a workspace of its own: workers wait for most of the time."""
    assert set(STORIES) == {*ready_scenarios(), "malformed-secret"}

    def tell(name: str) -> None:
        api = new_api(server.url)
        api.freeze()  # Leases end by faults only, however busy the machine is.
        api.ok(api.post("/_emulator/settings", json={"default_ttl_seconds": TTL_S}))
        try:
            STORIES[name](Stage(api, api.queue(), start_worker, name))
        except BaseException as error:
            logs = [f"{log.name}:\n{log.read_text()}" for log in tmp_path.glob(f"{name}-*.log")]
            error.add_note(f"{name}\n" + "\n".join(logs))
            raise

    with ThreadPoolExecutor(len(STORIES)) as pool:
        for future in [pool.submit(tell, name) for name in STORIES]:
            future.result()
