"""The guide on tests keeps its word: its programs run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.harness import clean_environment
from tests.support.pages import ROOT, run
from tests.support.sdk_processes import node_binary


@pytest.fixture(scope="module")
def guide() -> str:
    """The text of the guide."""
    return (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")


def test_its_tests_pass_as_they_stand(guide: str, tmp_path: Path) -> None:
    """All of its Python, in one run."""
    programs = re.findall(r"^```python\n(# (\w+\.py)\n.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert len(programs) == guide.count("```python")
    for code, name in programs:
        (tmp_path / name).write_text(code, encoding="utf-8")
    plugins = ("-p", "workyard.pytest_plugin", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *plugins, "--rootdir", str(tmp_path), str(tmp_path)],
        env=clean_environment({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert f"{sum(name.startswith('test_') for _, name in programs)} passed" in done.stdout


def test_its_recipes_for_other_languages_pass_as_they_stand(guide: str, tmp_path: Path) -> None:
    """By the command that is given for them."""
    node = node_binary()
    if node is None:
        assert os.environ.get("CI") != "true", "no Node 20"
        pytest.skip("no Node 20: run scripts/test, which fetches it")
    programs = re.findall(r"^```js\n(// ([\w.]+\.mjs)\n.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert len(programs) == guide.count("```js")
    for code, name in programs:
        (tmp_path / name).write_text(code, encoding="utf-8")
    assert "workyard run -- node --test takeover.test.mjs" in guide
    assert "# pass 1" in run(node, "--test", "--test-reporter", "tap", str(tmp_path / "takeover.test.mjs"))
