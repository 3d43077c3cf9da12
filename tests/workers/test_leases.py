"""Workers of the Python SDK that lose their item in mid-run, and those that finish it.

Evidence: docs/evidence/sdk-clients.md#calls-of-a-worker.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial
from math import inf

import pytest

from tests.support.agent_reports import calls, message, report
from tests.support.chaos.stage import pause
from tests.support.harness import Api, wait_until
from tests.support.sdk_processes import LONG, SHORT_TTL_S, claimed, credentials, finished, texts
from tests.support.sessions import item, send, session, types
from tests.support.workers import Worker

#: A whole loss of a lease.
LOST_AND_FINISHED_WITHIN_S = 6.0
#: A beat is a second old at the most, so the lease has a second or two to run: it ends while the second worker's first
#: poll, of nearly a second, blocks, or just before.
HANGS_S = 1.2
#: Other tests may keep the machine busy; one of them must be fast enough.
ATTEMPTS = 3
Start = Callable[..., Worker]


def long_run(api: Api, queue: str) -> tuple[str, str]:
    """Create a session whose message is the call LONG; return its id and that of its work."""
    made = str(session(api, queue, initial_events=[message(LONG)])["id"])
    return made, str(item(api, queue, made)["id"])


def in_mid_run(api: Api, queue: str, work: str, worker: Worker) -> None:
    """Wait until a worker has claimed its item by a heartbeat and runs its tool."""
    worker.runs_its_tool()
    worker.until(lambda: api.work(queue, work)["state"] == "active", "it has claimed its item")


@pytest.fixture
def queue(api: Api) -> str:
    """An environment whose workers beat once a second."""
    api.ok(api.post("/_emulator/settings", json={"default_ttl_seconds": SHORT_TTL_S}))
    return api.queue()


@pytest.mark.parametrize("when", ["in mid-run", "afterwards"])
def test_a_worker_that_is_to_stop_finishes_its_tool_and_a_message_gets_another(
    api: Api, queue: str, start_worker: Start, when: str
) -> None:
    """It hears of it by its next heartbeat, sends the result, and force-stops its item. The message that came meanwhile
    brings the work back by itself, as one that comes later does."""
    api.freeze()
    made, work = long_run(api, queue)
    key = credentials(api, queue)
    first = start_worker("handle_item", key | claimed(api, queue), "first")
    in_mid_run(api, queue, work, first)
    if when == "in mid-run":
        send(api, made, message("echo again"))
    assert api.ok(api.stop(queue, work))["state"] == "stopping"
    first.says("heartbeat signals shutdown state=stopping")
    first.let_go()
    first.end()
    assert texts(api, made, "user.tool_result") == texts(api, made, "agent.message") == ["gone"]
    if when == "afterwards":
        assert finished(api, queue, made)
        send(api, made, message("echo again"))
    assert api.work(queue, work)["state"] == "queued"
    second = start_worker("run", key, "second")
    second.until(lambda: finished(api, queue, made), "the session is over")
    second.terminate()
    assert texts(api, made, "user.tool_result") == texts(api, made, "agent.message") == ["gone", "again"]


def test_a_worker_that_meets_412_goes_away_and_another_finishes(api: Api, queue: str, start_worker: Start) -> None:
    """The first finishes its tool too, but its result is refused and it does not stop what is another's by then."""
    api.freeze()
    made, work = long_run(api, queue)
    first = start_worker("run", credentials(api, queue), "first")
    in_mid_run(api, queue, work, first)
    api.advance(SHORT_TTL_S)
    assert api.work(queue, work)["state"] == "queued"
    second = start_worker("run", credentials(api, queue), "second")
    in_mid_run(api, queue, work, second)
    first.says("lease lost: heartbeat precondition failed")
    first.let_go()
    first.says("without stopping it")
    assert api.work(queue, work)["state"] == "active"
    assert texts(api, made, "user.tool_result") == []
    first.terminate()
    second.let_go()
    second.until(lambda: finished(api, queue, made), "the session is over")
    second.terminate()
    assert texts(api, made, "user.tool_result") == texts(api, made, "agent.message") == ["gone"]
    assert report(api, made)["report"]["unexpected"] == []


@pytest.mark.xdist_group("chaos")  # Not beside what keeps both cores busy.
def test_a_whole_loss_of_a_lease_takes_seconds(api: Api, queue: str, start_worker: Start) -> None:
    """No clock is moved: the first worker hangs, its lease ends, the second serves what there is, a message that came
    meanwhile too. When the first goes on, it finds that the item is not its own, and harms nothing."""
    took: list[float] = []
    while len(took) < ATTEMPTS and min(took, default=inf) >= LOST_AND_FINISHED_WITHIN_S:
        names = f"first-{len(took)}", f"second-{len(took)}"
        took.append(lose_a_lease(api, queue, *(partial(start_worker, folder=name) for name in names)))
    assert min(took) < LOST_AND_FINISHED_WITHIN_S


def lose_a_lease(api: Api, queue: str, start_first: Start, start_second: Start) -> float:
    """Let one worker lose its lease and another finish; check it; return the seconds that it took."""
    key = credentials(api, queue)
    started = time.monotonic()
    made, work = long_run(api, queue)
    first = start_first("run", key)
    first.runs_its_tool()
    wait_until(lambda: api.work(queue, work)["state"] != "starting", "it has claimed its item")
    first.signal(signal.SIGSTOP)
    send(api, made, message("echo again"))
    pause(HANGS_S)
    second = start_second("run", key)
    second.let_go()
    second.says("session idle for")
    second.until(lambda: finished(api, queue, made), "the session is over")
    first.let_go()
    first.signal(signal.SIGCONT)
    first.says("without stopping it")
    took = time.monotonic() - started
    for worker in (first, second):
        worker.terminate()
    assert texts(api, made, "user.tool_result") == texts(api, made, "agent.message") == ["gone", "again"]
    assert len(calls(api, made)) == 2
    assert types(api, made)[-1] == "session.status_idle"
    assert report(api, made)["report"]["unexpected"] == []
    assert api.work(queue, work)["state"] == "stopped"
    return took
