"""scripts/hardness in small: health answers while the port is misused in every way."""

from __future__ import annotations

import subprocess
import sys


def test_health_answers_in_time_whatever_else_comes_in() -> None:
    """A row for each load, and none at which the 99th percentile reached a second: that is its exit code."""
    small = ["--seconds", "0.6", "--idle", "400", "--garbage", "5", "--slow", "20", "--unread", "3"]
    done = subprocess.run([sys.executable, "-m", "tools.hardness", *small], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    loads = [line.split(" | ")[0].removeprefix("| ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(loads) == 7
    assert "all of it at once" in loads
    assert done.stdout.endswith("passed\n")
