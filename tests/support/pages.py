"""Pages of the documentation in tests: sections, code blocks, and commands that run beside a server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.harness import clean_environment

ROOT = Path(__file__).resolve().parents[2]


def section(text: str, title: str) -> str:
    """Return the text under a heading, up to the next heading of its level."""
    found = re.search(rf"^(#+) {title}\s*$(.*?)(?=^\1 |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no heading '{title}'"
    return found[2]


def block(text: str, language: str) -> str:
    """Return the first code block in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no {language} block"
    return found[1]


def run(*command: str) -> str:
    """Run a command with a separate server, as the README describes; return its output."""
    folder = Path(sys.executable).parent
    done = subprocess.run(
        [sys.executable, "-m", "workyard", "run", "--", *command],
        env=clean_environment({"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
