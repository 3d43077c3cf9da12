"""The README keeps its word: its examples run as they stand."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.pages import ROOT, block, run, section

MOST_LINES = 10
MOST_README_LINES = 120


@pytest.fixture(scope="module")
def readme() -> str:
    """The text of the README."""
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def curl() -> str:
    """The quick start in curl."""
    return block(section((ROOT / "docs" / "http.md").read_text(encoding="utf-8"), "Quick start"), "sh")


def test_the_quick_start_in_python_runs_and_is_short(readme: str, tmp_path: Path) -> None:
    """At most ten lines from the import to the statistics: one item stopped, one still in the queue."""
    code = block(section(readme, "Quick start"), "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= MOST_LINES
    (tmp_path / "quick_start.py").write_text(code, encoding="utf-8")
    printed = run("python", "-W", "error", str(tmp_path / "quick_start.py"))
    assert "state='active'" in printed
    assert "state='stopped'" in printed
    assert "depth=1" in printed


def test_the_quick_start_with_curl_runs(curl: str) -> None:
    """The same calls, the same end; it is on docs/http.md."""
    printed = run("bash", "-euo", "pipefail", "-c", curl)
    lines = [line for line in printed.splitlines() if line]
    assert '"state":"active"' in lines[-3]
    assert '"state":"stopped"' in lines[-2]
    assert '"depth":1' in lines[-1]


def test_both_quick_starts_make_the_same_calls(readme: str, curl: str) -> None:
    """Create, enqueue, poll, ack, heartbeat, stop, stats."""
    for code in (block(section(readme, "Quick start"), "python"), curl):
        for word in ("self_hosted", "/_emulator/environments/", "poll", "ack", "heartbeat", "stop", "stats"):
            assert word in code, word


def test_the_readme_is_short_and_leaves_the_settings_to_their_page(readme: str) -> None:
    """At most 120 lines; the settings are on the generated page."""
    assert len(readme.splitlines()) <= MOST_README_LINES
    assert "(docs/settings.md)" in readme


def test_every_file_the_readme_names_is_there(readme: str) -> None:
    """Links and scripts."""
    named = set(re.findall(r"\]\(([^)#:]+)\)", readme)) | set(re.findall(r"\bscripts/\w+", readme))
    assert named >= {"LICENSE", "scripts/start", "scripts/test", "scripts/check"}
    missing = [path for path in sorted(named) if not (ROOT / path).exists()]
    assert missing == []
    for script in ("start", "test", "check"):
        assert os.access(ROOT / "scripts" / script, os.X_OK)
