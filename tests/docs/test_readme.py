"""The README keeps its word: its examples run as they stand, and its settings are the code's."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.pages import ROOT, block, run, section
from workyard.settings import Settings

MOST_LINES = 10
#: How the table writes a default that is no value.
WORDS: dict[object, str] = {None: "unset", False: "off"}


@pytest.fixture(scope="module")
def readme() -> str:
    """The text of the README."""
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_quick_start_in_python_runs_and_is_short(readme: str, tmp_path: Path) -> None:
    """At most ten lines from the import to the statistics: one item stopped, one still in the queue."""
    code = block(section(readme, "Quick start"), "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= MOST_LINES
    (tmp_path / "quick_start.py").write_text(code, encoding="utf-8")
    printed = run("python", "-W", "error", str(tmp_path / "quick_start.py"))
    assert "state='active'" in printed
    assert "state='stopped'" in printed
    assert "depth=1" in printed


def test_the_quick_start_with_curl_runs(readme: str) -> None:
    """The same calls, the same end."""
    printed = run("bash", "-euo", "pipefail", "-c", block(section(readme, "Quick start"), "bash"))
    lines = [line for line in printed.splitlines() if line]
    assert '"state":"active"' in lines[-3]
    assert '"state":"stopped"' in lines[-2]
    assert '"depth":1' in lines[-1]


def test_both_quick_starts_make_the_same_calls(readme: str) -> None:
    """Create, enqueue, poll, ack, heartbeat, stop, stats."""
    quick = section(readme, "Quick start")
    for language in ("python", "bash"):
        code = block(quick, language)
        for word in ("self_hosted", "/_emulator/environments/", "poll", "ack", "heartbeat", "stop", "stats"):
            assert word in code, f"{language}: {word}"


def test_the_settings_table_is_the_code(readme: str) -> None:
    """Option, variable, default and text of every setting, in the order of the code."""
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split(" | "))
        for line in section(readme, "Settings").splitlines()
        if line.startswith("| `--")
    ]
    assert rows == [
        (
            f"`--{name.replace('_', '-')}`",
            f"`WORKYARD_{name.upper()}`",
            str(WORDS.get(field.default, field.default)),
            field.description,
        )
        for name, field in Settings.model_fields.items()
    ]


def test_every_file_the_readme_names_is_there(readme: str) -> None:
    """Links and scripts."""
    named = set(re.findall(r"\]\(([^)#:]+)\)", readme)) | set(re.findall(r"\bscripts/\w+", readme))
    assert named >= {"LICENSE", "scripts/start", "scripts/test", "scripts/check"}
    missing = [path for path in sorted(named) if not (ROOT / path).exists()]
    assert missing == []
    for script in ("start", "test", "check"):
        assert os.access(ROOT / "scripts" / script, os.X_OK)
