"""The guide on the journal keeps its word: its commands and its program run, its lists are the code's."""

from __future__ import annotations

import re

import pytest

from tests.support.pages import ROOT, block, run, section
from workyard.observability import metrics


@pytest.fixture(scope="module")
def guide() -> str:
    """The text of the guide."""
    return (ROOT / "docs" / "journal.md").read_text(encoding="utf-8")


def test_the_examples_run(guide: str) -> None:
    """In one go, beside a new server: one environment was created, and nothing was refused."""
    commands = block(section(guide, "Requests"), "bash")
    program = block(section(guide, "Verification"), "python")
    printed = run("bash", "-euo", "pipefail", "-c", f"{commands}\nexec python -W error -c '{program}'")
    assert '"on":"environments.create"' in printed
    assert '{"count":0,"dropped":0,"complete":true}' in printed
    assert " 200 environments.create " in printed
    assert printed.endswith("found 1, expected at least 7\n")


def test_the_series_are_the_codes(guide: str) -> None:
    """Name and kind of each, in their order."""
    rows = re.findall(r"^\| `workyard_(\w+)` \| (\w+) \|", section(guide, "Metrics"), re.MULTILINE)
    assert rows == [(name, kind) for name, (kind, _) in metrics.SERIES.items()]
