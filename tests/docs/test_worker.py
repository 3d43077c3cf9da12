"""The guide "Test your worker" keeps its word: its programs run as they stand, with the SDK's workers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.pages import ROOT, block, run, section
from tests.support.sdk_processes import CLIENTS, needed_typescript_worker

START_SESSION = """
import os
from anthropic import Anthropic
message = {"type": "user.message", "content": [{"type": "text", "text": "echo dispatched"}]}
session = Anthropic().beta.sessions.create(
    agent="agent_any", environment_id=os.environ["ANTHROPIC_ENVIRONMENT_ID"], initial_events=[message]
)
print(session.id)
"""
SHOW_SESSION = """
import os, sys
from anthropic import Anthropic
client = Anthropic()
for event in client.beta.sessions.events.list(sys.argv[1]):
    print(event.type, getattr(event, "content", ""))
for item in client.beta.environments.work.list(os.environ["ANTHROPIC_ENVIRONMENT_ID"]):
    print(item.state)
"""


@pytest.fixture(scope="module")
def guide() -> str:
    """The text of the guide."""
    return (ROOT / "docs" / "test-your-worker.md").read_text(encoding="utf-8")


def test_the_test_in_python_passes_as_it_stands(guide: str, tmp_path: Path) -> None:
    """By the command that is given for it."""
    (tmp_path / "test_worker.py").write_text(block(section(guide, "Python"), "python"), encoding="utf-8")
    assert "workyard run -- pytest test_worker.py" in section(guide, "Python")
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path))
    assert "1 passed" in run("pytest", *options, str(tmp_path / "test_worker.py"))


def test_a_script_is_tested_beside_it(guide: str, tmp_path: Path) -> None:
    """What is allowed is run, and what is not as expected fails the test with the report's words."""
    (tmp_path / "test_worker.py").write_text(block(section(guide, "Python"), "python"), encoding="utf-8")
    test = block(section(guide, "The hard cases, on purpose"), "python")
    (tmp_path / "test_script.py").write_text(test, encoding="utf-8")
    (tmp_path / "test_other.py").write_text(test.replace("echo 3 passed", "echo failed"), encoding="utf-8")
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path))
    assert "1 passed" in run("pytest", *options, str(tmp_path / "test_script.py"))
    shown = run("bash", "-c", f"pytest {' '.join(options)} '{tmp_path}/test_other.py' || true")
    assert 'contains: expected "passed", got "failed' in shown


def test_the_program_in_typescript_runs_as_it_stands(guide: str, tmp_path: Path) -> None:
    """By the command that is given for it, with the SDK of the tests."""
    node, _ = needed_typescript_worker()
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    (tmp_path / "worker.mjs").write_text(block(section(guide, "TypeScript"), "js"), encoding="utf-8")
    assert "workyard run -- node worker.mjs" in section(guide, "TypeScript")
    assert run(node, str(tmp_path / "worker.mjs")) == "hi\n"


def test_the_dispatcher_starts_a_process_for_each_item(guide: str, tmp_path: Path) -> None:
    """The session is run to idle by the process, which stops its item."""
    for code in re.findall(r"^```python\n(# (\w+\.py): .*?)^```$", guide, re.MULTILINE | re.DOTALL):
        (tmp_path / code[1]).write_text(code[0], encoding="utf-8")
    (tmp_path / "start.py").write_text(START_SESSION, encoding="utf-8")
    (tmp_path / "show.py").write_text(SHOW_SESSION, encoding="utf-8")
    steps = "session=$(python start.py); python dispatch.py; python show.py $session"
    printed = run("bash", "-euc", f"cd '{tmp_path}'; {steps}")
    assert "agent.message" in printed
    assert "dispatched" in printed
    assert printed.endswith("stopped\n")
