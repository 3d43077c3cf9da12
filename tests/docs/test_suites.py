"""The page on fixture mode keeps its word: its example runs, its leniencies are the code's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.support.harness import clean_environment
from tests.support.pages import ROOT, block, section
from workyard.fixtures import ENVIRONMENT, HEADER, WORK

PAGE = (ROOT / "docs" / "sdk-suites.md").read_text(encoding="utf-8")


def test_the_example_runs_as_it_stands() -> None:
    """The reserved environment is deleted twice, and both answers say why."""
    folder = Path(sys.executable).parent
    done = subprocess.run(
        ["sh", "-euc", block(PAGE, "sh")],
        env=clean_environment({"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.count("HTTP/1.1 200 OK") == 2, done.stdout + done.stderr
    assert done.stdout.count(f"\n{HEADER}: reserved-environment\r\n".replace("\r", "")) == 2
    deleted, again, health = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert deleted == again == {"id": ENVIRONMENT, "type": "environment_deleted"}
    assert health["leniencies"] == {"reserved-environment": 2}


def test_the_leniencies_are_the_codes() -> None:
    """Each name in the table is in the module, and no other."""
    source = (ROOT / "server" / "workyard" / "fixtures.py").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", section(PAGE, "Leniencies"), re.MULTILINE))
    assert documented == set(re.findall(r'_use\(scope, "([a-z-]+)"\)', source))
    assert f"`{HEADER}`" in PAGE
    assert f"`{WORK}`" in PAGE
