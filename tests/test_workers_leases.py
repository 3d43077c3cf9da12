"""Workers of the Python SDK that lose their item in mid-run, and those that finish it. Source: sdk-clients.md §1, contract §4."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from harness import Api, wait_until
from sdk_processes import SHORT_TTL_S, credentials, finished, texts
from test_sessions_lifecycle import item, send, session, types
from test_sessions_scripts import calls, message, report
from workers import LONG, Worker

#: With it a worker beats every one and a half seconds, and its lease outlives a beat that is late on a busy machine.
TTL_S = 3
#: A whole loss of a lease, issue C.
LOST_AND_FINISHED_WITHIN_S = 6.0
Start = Callable[..., Worker]


def settings(api: Api, ttl: int) -> None:
    """Give the workspace short leases."""
    api.ok(api.post("/_emulator/settings", json={"default_ttl_seconds": ttl}))


def long_run(api: Api, queue: str) -> tuple[str, str]:
    """Create a session whose message is the call LONG; return its id and that of its work."""
    made = str(session(api, queue, initial_events=[message(LONG)])["id"])
    return made, str(item(api, queue, made)["id"])


def in_mid_run(api: Api, queue: str, work: str, worker: Worker) -> None:
    """Wait until a worker has claimed its item by a heartbeat and runs its tool."""
    worker.runs_its_tool()
    worker.until(lambda: api.work(queue, work)["state"] == "active", "it has claimed its item")


def ready(tmp_path: Path, folder: str) -> str:
    """Make a worker's folder in which the call LONG does not wait."""
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "go").touch()
    return folder


def test_a_worker_that_is_to_stop_finishes_its_tool_and_the_next_message_gets_another(
    api: Api, start_worker: Start
) -> None:
    """It hears of it by its next heartbeat, sends the result, and force-stops its item."""
    settings(api, TTL_S)
    queue = api.queue()
    made, work = long_run(api, queue)
    first = start_worker("run", credentials(api, queue), "first")
    in_mid_run(api, queue, work, first)
    assert api.ok(api.stop(queue, work))["state"] == "stopping"
    first.says("heartbeat signals shutdown state=stopping")
    first.let_go()
    first.until(lambda: finished(api, queue, made), "the session is over")
    assert texts(api, made, "user.tool_result") == texts(api, made, "agent.message") == ["gone"]
    first.terminate()
    send(api, made, message("echo again"))
    assert api.work(queue, work)["state"] == "queued"
    second = start_worker("run", credentials(api, queue), "second")
    second.until(lambda: finished(api, queue, made), "the session is over")
    second.terminate()
    assert texts(api, made, "user.tool_result") == texts(api, made, "agent.message") == ["gone", "again"]


def test_a_worker_that_meets_412_goes_away_and_another_finishes(api: Api, start_worker: Start) -> None:
    """The first finishes its tool too, but its result is refused and it does not stop what is another's by then."""
    settings(api, TTL_S)
    queue = api.queue()
    made, work = long_run(api, queue)
    first = start_worker("run", credentials(api, queue), "first")
    in_mid_run(api, queue, work, first)
    api.advance(TTL_S)
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


def test_a_whole_loss_of_a_lease_takes_seconds(api: Api, start_worker: Start, tmp_path: Path) -> None:
    """No clock is moved: the first worker hangs, its lease ends, the second serves what there is, a message that came
    meanwhile too. When the first goes on, it finds that the item is not its own, and harms nothing."""
    settings(api, SHORT_TTL_S)
    queue = api.queue()
    key = credentials(api, queue)
    started = time.monotonic()
    made, work = long_run(api, queue)
    first = start_worker("run", key, "first")
    in_mid_run(api, queue, work, first)
    first.signal(signal.SIGSTOP)
    send(api, made, message("echo again"))
    wait_until(lambda: api.work(queue, work)["state"] == "queued", "the lease has ended")
    second = start_worker("run", key, ready(tmp_path, "second"))
    second.until(lambda: finished(api, queue, made), "the session is over")
    first.let_go()
    first.signal(signal.SIGCONT)
    first.says("without stopping it")
    assert time.monotonic() - started < LOST_AND_FINISHED_WITHIN_S
    first.terminate()
    second.terminate()
    assert texts(api, made, "user.tool_result") == texts(api, made, "agent.message") == ["gone", "again"]
    assert len(calls(api, made)) == 2
    assert types(api, made)[-1] == "session.status_idle"
    assert report(api, made)["report"]["unexpected"] == []
    assert item(api, queue, made)["state"] == "stopped"
