"""The page on faults keeps its word: its commands run, its rules are taken, its tables are the code's."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.support.harness import Api, WorkyardServer
from tests.support.pages import ROOT, block, run, section
from workyard.faults.kinds import KINDS
from workyard.faults.scenarios import ready_scenarios


@pytest.fixture(scope="module")
def page() -> str:
    """The text of the page."""
    return (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")


def test_its_commands_run_as_they_stand(page: str) -> None:
    """Rules are added, listed and cleared."""
    printed = run("bash", "-euc", block(page, "bash")).splitlines()
    assert [line.partition(":")[0] for line in printed[:3]] == ["fault_1", "fault_2", "fault_3 lost-ack"]
    assert printed[3:6] == printed[:3]
    assert printed[-1] == "removed 4"


def test_its_rules_are_taken(page: str, embedded: WorkyardServer, new_api: Callable[..., Api]) -> None:
    """Each block of YAML, and each kind as the table writes it."""
    api = new_api(embedded.url)
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for text in blocks:
        api.ok(api.post("/_emulator/faults", content=text, headers={"content-type": "application/yaml"}))
    kinds = re.findall(
        r"^\| `(\{.*?\})`[^|]* \| ([^|]*) \| ([^|]*) \|",
        section(page, "Kinds, and what the Python SDK's client does"),
        re.MULTILINE,
    )
    assert [re.findall(r'^\{"(\w+)"', do)[0] for do, _, _ in kinds] == list(KINDS)
    for (do, acts, calls), kind in zip(kinds, KINDS.values(), strict=True):
        assert acts.split("; ") == list(kind.allowed)
        on = re.findall(r"`(\w+)`", calls)[:1] or ["any"]
        assert kind.calls is None or on[0] in kind.calls
        api.ok(
            api.post("/_emulator/faults", content=f"{{on: {on[0]}, do: {do}}}", headers={"content-type": "text/yaml"})
        )


def test_its_table_of_scenarios_is_the_library(page: str) -> None:
    """By name."""
    assert re.findall(r"^\| `([\w-]+)` \|", section(page, "Scenarios"), re.MULTILINE) == list(ready_scenarios())
