"""The unmodified `@anthropic-ai/sdk`, each worker a process of Node's. Source: docs/evidence/sdk-clients.md."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.support.harness import Api
from tests.support.sdk_processes import (
    BOTH,
    LONG,
    SHORT_TTL_S,
    check_both,
    claimed,
    credentials,
    finished,
    needed_typescript_worker,
    running,
    scripted,
    texts,
)
from tests.support.sessions import MESSAGE, item, send

#: The default.
STARTUP_LEASE_S = 120


@pytest.fixture(scope="session")
def worker() -> list[str]:
    """The command of the TypeScript worker."""
    return needed_typescript_worker()


def test_the_poller_drains_a_queue_and_stops_what_it_took(api: Api, worker: list[str], tmp_path: Path) -> None:
    """Each item once, in their order. It stops without force what nobody has claimed: over when that lease ends."""
    api.freeze()
    queue = api.queue()
    items = [row["id"] for row in api.enqueue(queue, 3)]
    with running(worker, "poll", credentials(api, queue), tmp_path) as process:
        assert process.end() == items
    assert [api.work(queue, each)["state"] for each in items] == ["stopping"] * 3
    api.advance(STARTUP_LEASE_S)
    assert [api.work(queue, each)["state"] for each in items] == ["stopped"] * 3
    assert api.stats(queue)["depth"] == 0


def test_a_worker_runs_sessions_to_idle_one_after_the_other(api: Api, worker: list[str], tmp_path: Path) -> None:
    """The second comes while it waits for work."""
    queue = api.queue()
    with running(worker, "run", credentials(api, queue), tmp_path) as process:
        for _ in range(2):
            made = scripted(api, queue, *BOTH)
            process.until(partial(finished, api, queue, made), "the session is over")
            check_both(api, queue, made)
        process.terminate()


def test_a_worker_that_is_handed_an_item_runs_it_and_ends(api: Api, worker: list[str], tmp_path: Path) -> None:
    """All it knows is in its environment, as the command `ant worker poll --on-work` has it."""
    queue = api.queue()
    made = scripted(api, queue, *BOTH)
    with running(worker, "handle", credentials(api, queue) | claimed(api, queue), tmp_path) as process:
        process.end()
    check_both(api, queue, made)


@pytest.mark.parametrize("how", ["stop", "412"])
def test_a_worker_lets_go_in_mid_run_and_the_next_one_finishes(
    api: Api, worker: list[str], tmp_path: Path, how: str
) -> None:
    """It sees at its next heartbeat that it is to stop, or that the lease is not its own any more. The tool is ended at
    once, and its result is not sent. When the work is there again (after a stop that needs a message), the next worker
    runs the call anew."""
    api.freeze()
    queue = api.queue()
    api.ok(api.post("/_emulator/settings", json={"default_ttl_seconds": SHORT_TTL_S}))
    made = scripted(api, queue, {"use_tool": {"name": "bash", "input": {"command": LONG}}}, {"say": "{{result}}"})
    work = item(api, queue, made)["id"]
    started = tmp_path / "started"
    with running(worker, "handle", credentials(api, queue) | claimed(api, queue), tmp_path) as process:
        process.until(started.exists, "the tool runs")
        if how == "stop":
            assert api.ok(api.stop(queue, work))["state"] == "stopping"
        else:
            api.advance(SHORT_TTL_S)
        process.end()
    assert texts(api, made, "user.tool_result") == []
    if how == "stop":
        assert api.work(queue, work)["state"] == "stopped"
        send(api, made, MESSAGE)
    assert api.work(queue, work)["state"] == "queued"
    (tmp_path / "go").touch()
    with running(worker, "run", credentials(api, queue), tmp_path) as process:
        process.until(lambda: finished(api, queue, made), "the session is over")
        process.terminate()
    assert texts(api, made, "user.tool_result") == ["gone"]
    assert texts(api, made, "agent.message") == ["gone"]
