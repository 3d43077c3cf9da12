"""`scripts/isolation` in small: two processes with twenty tests each on one server."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.harness import redis_binary


def test_workspaces_of_one_server_do_not_meet() -> None:
    """None sees another's state, and a reset leaves the others' keys as they are."""
    if redis_binary() is None:
        assert os.environ.get("CI") != "true", "no redis-server"
        pytest.skip("no redis-server: install the test extra, or Debian's redis-server")
    command = [sys.executable, "-m", "tools.isolation", "--processes", "2", "--tests", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    tests, beside, *resets = done.stdout.splitlines()
    assert tests.startswith("40 tests in 2 processes on one server: passed in ")
    assert beside.endswith("none changed, none added")
    assert [line.partition(":")[0] for line in resets] == ["reset 1", "reset 2", "reset 3"]
    assert all("keys went, 0 left over" in line for line in resets)
