"""`scripts/bench` runs, says what it found, and leaves nothing behind. What the figures are is not tested."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import redis_binary, wait_until


def _command(*options: str) -> list[str]:
    binary = redis_binary()
    if binary is None:
        assert os.environ.get("CI") != "true", "no redis-server"
        pytest.skip("no redis-server: install the test extra, or Debian's redis-server")
    return [sys.executable, "-m", "tools.bench", "--quick", "--redis-server", binary, *options]


def _written(folder: Path, *options: str) -> dict[str, Any]:
    """Run the bench to its end; return what it has written."""
    target = folder / "figures.json"
    subprocess.run(_command(*options, "--json", str(target)), check=True, capture_output=True, timeout=240)
    written: dict[str, Any] = json.loads(target.read_text())
    return written


def _alive(session: int) -> list[int]:
    """Return the processes of a session that run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def test_a_quick_bench_prints_a_table_and_writes_its_figures(tmp_path: Path) -> None:
    target = tmp_path / "new" / "figures.json"
    sizes = [
        "--seconds",
        "0.1",
        "--rounds",
        "2",
        "--connections",
        "3",
    ]
    done = subprocess.run(
        _command(*sizes, "--cases", "get,heart*,cycle-8,takeover", "--json", str(target)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert str(target) in done.stdout
    assert "get, round 1 of 2" in done.stderr
    written = json.loads(target.read_text())
    assert written["options"]["connections"] == 3
    assert written["versions"]["redis-server"]
    cases = ["floor", "get", "heartbeat", "floor-8", "cycle-8", "get-p99", "heartbeat-p99"]
    cases += ["takeover", "takeover"]
    assert [figure["case"] for figure in written["figures"]] == cases
    for figure in written["figures"]:
        assert figure["value"] > 0
        assert figure["met"] in ([None] if figure["aim"] is None else [True, False])
        assert any(line.startswith(figure["case"]) for line in done.stdout.splitlines())
    get = written["figures"][1]
    assert get["aim"] == ">= 1"
    assert {"req_s", "p50_ms", "p99_ms", "server_us", "redis_us", "ratio_by_server_cpu"} <= get["details"].keys()


@pytest.mark.long
def test_the_big_cases_run_when_they_are_named(tmp_path: Path) -> None:
    sizes = ["--scale", "600", "--tombstones", "200", "--pollers", "20"]
    written = _written(tmp_path, *sizes, "--cases", "scale,tombstones,pollers")
    assert written["options"]["scale"] == 600
    cases = [figure["case"] for figure in written["figures"]]
    assert cases[:5] == ["pollers", "pollers-redis", "tombstones-stop", "tombstones-stats", "tombstones-poll"]
    assert cases[5:7] == ["scale-memory", "scale-enqueue"]
    assert cases[-2:] == ["scale-delete", "scale-reset"]
    connections = written["figures"][1]
    assert 2 < connections["value"] <= 18


@pytest.mark.long
def test_a_long_queue_and_a_wake_up_are_measured(tmp_path: Path) -> None:
    sizes = ["--seconds", "0.1", "--rounds", "2", "--queued", "150"]
    written = _written(tmp_path, *sizes, "--cases", "depth,wake-up")
    calls = ["stats", "list-first", "list-middle", "list-last", "poll", "get", "ack", "heartbeat", "stop"]
    assert [figure["case"] for figure in written["figures"]] == [*(f"depth-{call}" for call in calls), "wake-up"]


@pytest.mark.long
def test_start_up_and_memory_are_measured_on_both_engines(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    command = _command("--cases", "memory,start-up", "--json", str(target))
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    figures = json.loads(target.read_text())["figures"]
    assert [(figure["case"], figure["engine"], figure["unit"]) for figure in figures] == [
        ("start-up", "redis", "s"),
        ("memory", "redis", "MB"),
        ("start-up", "embedded", "s"),
        ("memory", "embedded", "MB"),
    ]


def test_a_bench_that_is_ended_ends_all_it_started(tmp_path: Path) -> None:
    command = _command("--cases", "get", "--seconds", "5", "--json", str(tmp_path / "figures.json"))
    bench = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        # Itself, Redis, two clients, the floor, the server.
        wait_until(lambda: len(_alive(bench.pid)) == 6, "everything runs", 30)
        bench.send_signal(signal.SIGTERM)
        assert bench.wait(30) == 128 + signal.SIGTERM
        assert _alive(bench.pid) == []
    finally:
        if bench.poll() is None:
            bench.kill()
            bench.wait()


def test_an_unknown_case_is_refused_by_name() -> None:
    done = subprocess.run(_command("--cases", "get,fly"), capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "no case is called 'fly'" in done.stderr
