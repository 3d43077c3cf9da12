"""Many sessions, many workers of the Python SDK at once: each session is served by one, once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.agent_reports import message
from tests.support.harness import Api, wait_until
from tests.support.sdk_processes import credentials, scripted
from tests.support.sessions import events, session
from tests.support.workers import Worker

SESSIONS = 100
WORKERS = 8
#: Far more than it takes: 100 idle times of a fifth of a second, by eight workers, are two and a half seconds.
FINISHED_WITHIN_S = 60


@pytest.mark.xdist_group("chaos")  # It keeps both cores of a small machine busy, as that does.
@pytest.mark.parametrize("engine_options", ["embedded", "redis-8"], indirect=True)
def test_a_hundred_sessions_are_run_by_eight_processes(
    api: Api, start_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    """Every other one with a tool of the worker's own. What was run is in the events, and in a file, once."""
    queue = api.queue()
    made = []
    for number in range(SESSIONS):
        if number % 2:
            weather = {"name": "get_weather", "input": {"city": str(number)}}
            made.append(scripted(api, queue, {"use_custom_tool": weather}))
        else:
            run = message(f"echo {number} >>../ran; echo ran {number}")
            made.append(str(session(api, queue, initial_events=[run])["id"]))
    assert api.stats(queue)["depth"] == SESSIONS
    known = credentials(api, queue)
    workers = [start_worker("run", known, f"worker-{number}") for number in range(WORKERS)]
    for row in api.ok(api.get(api.path(queue), params={"limit": SESSIONS}))["data"]:
        over = partial(_is_stopped, api, queue, row["id"])
        wait_until(over, "the work is over", FINISHED_WITHIN_S)
    for worker in workers:
        worker.terminate()
    for number, each in enumerate(made):
        seen = events(api, each)
        results = [event["content"][0]["text"] for event in seen if event["type"].endswith("tool_result")]
        assert results == [f"sunny in {number}" if number % 2 else f"ran {number}"]
        assert seen[-1]["stop_reason"] == {"type": "end_turn"}
    assert sorted(map(int, (tmp_path / "ran").read_text().split())) == [*range(0, SESSIONS, 2)]
    assert sum(worker.log().count("claimed work") for worker in workers) == SESSIONS
    assert api.ok(api.get("/_emulator/invariants"))["violations"] == []


def _is_stopped(api: Api, queue: str, work: str) -> bool:
    return bool(api.work(queue, work)["state"] == "stopped")
