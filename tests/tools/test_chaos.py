"""`scripts/chaos` runs, says what it found, and leaves nothing behind. What the faults find is test_chaos_faults.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.harness import redis_binary, wait_until


@pytest.fixture
def command() -> list[str]:
    """The script, to be followed by options."""
    if redis_binary() is None:
        assert os.environ.get("CI") != "true", "no redis-server"
        pytest.skip("no redis-server: install the test extra, or Debian's redis-server")
    return [sys.executable, "-m", "tools.chaos"]


def _anyone_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_run_prints_a_table_and_writes_its_figures(command: list[str], tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    options = ["--rounds", "1", "--faults", "replica", "--seed", "7", "--json", str(target)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "replica, seed 7, round 1 of 1" in done.stderr
    written = json.loads(target.read_text())
    [figures] = written["rounds"]["replica"]
    assert written["seed"] == 7
    assert figures["items"] > 0
    assert done.stdout.splitlines()[-1].startswith("| `replica` | 1 |")


def test_a_fault_that_does_not_exist_is_refused_with_the_names_of_those_that_do(command: list[str]) -> None:
    done = subprocess.run([*command, "--faults", "flood"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no fault is called 'flood'; there are server-killed," in done.stderr


def test_a_run_that_is_told_to_end_leaves_no_process(command: list[str]) -> None:
    """Redis, servers and load are its children, in its process group."""
    running = subprocess.Popen(
        [*command, "--rounds", "50", "--faults", "redis-killed"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert running.stderr is not None
        assert "round 1 of 50" in running.stderr.readline()
        running.terminate()
        running.communicate(timeout=60)
        assert running.returncode == 128 + signal.SIGTERM
        wait_until(lambda: not _anyone_left(running.pid), "all of its processes are gone")
    finally:
        if _anyone_left(running.pid):
            os.killpg(running.pid, signal.SIGKILL)
