"""The guide on states keeps its word: its commands run, its file is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import ROOT, block, run, section
from workyard.routes.state import MOST_STATE_BYTES
from workyard.state.seed_file import _variable, parse_seed_file
from workyard.state.shape import WorkspaceState


@pytest.fixture(scope="module")
def guide() -> str:
    """The text of the guide."""
    return (ROOT / "docs" / "state.md").read_text(encoding="utf-8")


def test_the_commands_run_as_they_stand(guide: str, tmp_path: Path) -> None:
    """With a seed, an export, a reset and a restore, after which the command saves the same."""
    blocks = [block(section(guide, title), "bash") for title in ("Reproducible ids and tokens", "Export and restore")]
    compared = "workyard state save again.json; python -c 'import json; a, b = [json.load(open(f)) for f in "
    compared += '("state.json", "again.json")]; assert a == b; assert a["settings"]["id_seed"] == 42; print("same")\''
    printed = run("bash", "-euo", "pipefail", "-c", f"cd {tmp_path}; {blocks[0]}\n{blocks[1]}\n{compared}")
    assert printed.splitlines()[-1] == "same"


def test_the_file_is_a_seed_file_and_makes_what_is_told(guide: str, tmp_path: Path) -> None:
    """With the variables that are named."""
    text = section(guide, "Seed files")
    seeds = parse_seed_file(block(text, "yaml"), tmp_path)
    first: Any = seeds.file.environments[0]
    for variable in (_variable("ENVIRONMENT", first.name), _variable("KEY", f"{first.name} {first.keys[0]}")):
        assert f"`{variable}`" in text


def test_the_table_names_every_section_and_the_bound_is_the_codes(guide: str) -> None:
    """Of a workspace's document."""
    text = section(guide, "Export and restore")
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    assert {f"`{name}`" for name in (*WorkspaceState.model_fields, "version")} == {
        name for row in rows for name in row.strip("| ").split(", ")
    }
    assert f"{MOST_STATE_BYTES // 2**20} MiB" in text
