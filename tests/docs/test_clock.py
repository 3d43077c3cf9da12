"""The page on time keeps its word: its examples run as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pages import ROOT, block, run, section


@pytest.fixture(scope="module")
def page() -> str:
    """The text of the page."""
    return (ROOT / "docs" / "clock.md").read_text(encoding="utf-8")


def test_a_lease_is_taken_over_by_the_commands_of_the_page(page: str, tmp_path: Path) -> None:
    """What the clock fires is printed, and the late worker is told 412."""
    commands = block(section(page, "A lease lost and taken over, without a sleep"), "bash")
    printed = run("bash", "-euo", "pipefail", "-c", f"cd '{tmp_path}'\n{commands}").splitlines()
    assert "2031-05-06T12:01:00.000000Z lapse env_" in "".join(printed)
    assert "Heartbeat precondition failed" in printed[-1]


def test_the_timers_are_those_that_the_program_of_the_page_expects(page: str, tmp_path: Path) -> None:
    """Its assertions hold, and it prints what its comment says."""
    code = block(section(page, "Timers"), "python")
    (tmp_path / "timers.py").write_text(code, encoding="utf-8")
    printed = run("python", "-W", "error", str(tmp_path / "timers.py")).strip()
    assert f"# {printed}" in code
