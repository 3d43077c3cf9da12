"""The page on credentials keeps its word: its commands print what it says, its table is the code's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.harness import clean_environment
from tests.support.pages import ROOT, block, section
from workyard.wire.operations import LANES, OPERATIONS


@pytest.fixture(scope="module")
def page() -> str:
    """The text of the page."""
    return (ROOT / "docs" / "credentials.md").read_text(encoding="utf-8")


def test_its_commands_print_what_it_says(page: str) -> None:
    """But for the ids of the requests."""
    folder = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euc", block(page, "bash")],
        env=clean_environment({"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    printed = re.sub(r"req_\w+", "req_…", done.stdout)
    assert printed == block(page, "text")


def test_every_operation_of_the_api_is_in_a_lane_and_in_the_table(page: str) -> None:
    """A new one has to be put into both: into the row that is about it, with who may call it."""
    assert set(LANES) == set(OPERATIONS.values())
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", section(page, "Permissions: `--auth strict`"), re.M
    )
    documented = [row for row in rows if row[0] not in ("route", "---")]
    wanted = {
        tuple(_word(kind) for kind in (one.api_key, one.environment_key, one.sessions_token)) for one in LANES.values()
    }
    assert {tuple(cell.split(",")[0] for cell in row[1:]) for row in documented} == wanted


def _word(refusal: object) -> str:
    return {"NoneType": "yes", "LaneClosed": "401", "ScopeMissing": "403"}[getattr(refusal, "__name__", "NoneType")]
