"""The SDK's own example of a worker runs to its end, as it was published. Source: issue C, sdk-clients.md §3."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest
from harness import Api, clean_environment, running_server
from sdk_processes import CLIENTS, ROOT, credentials

EXAMPLE = "managed-agents-self-hosted-sandbox-worker.py"
#: It works for sixty seconds, then tidies up; nothing that it is given changes that.
ENDS_WITHIN_S = 100
#: What its message asks for.
SCRIPT = {
    "steps": [
        {"use_custom_tool": {"name": "current_time", "input": {}}},
        {"use_tool": {"name": "bash", "input": {"command": "pwd"}}},
        {"say": "The working directory is {{result}}."},
    ]
}


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example of the SDK's release that is installed, out of its source archive: fetched once, kept in the checkout."""
    release, folder = version("anthropic"), ROOT / ".sdists"
    archive = folder / f"anthropic-{release}.tar.gz"
    if not archive.exists():
        command = [sys.executable, str(CLIENTS / "fetch_sdist.py"), "anthropic", release, str(folder)]
        fetched = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        if fetched.returncode != 0:
            reason = f"no source archive of anthropic {release}: {fetched.stderr.strip()[-300:]}"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
    with tarfile.open(archive) as files:
        found = files.extractfile(f"anthropic-{release}/examples/{EXAMPLE}")
        assert found is not None
        (tmp_path / EXAMPLE).write_bytes(found.read())
    return tmp_path / EXAMPLE


@pytest.mark.xdist_group("workers")  # Nearly all of it is waiting: early, and beside others.
def test_the_sdks_own_example_runs_to_its_end(example: Path, tmp_path: Path) -> None:
    """It makes an agent and a session, sends a message, serves it, shows what happened, and deletes the session."""
    with running_server() as server:
        api = Api(server.url)
        api.script(SCRIPT)
        queue = api.queue()
        done = subprocess.run(
            [sys.executable, str(example)],
            env=clean_environment(credentials(api, queue)),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said = done.stdout.split("--- transcript ---")[1]
        for line in (
            "user.message: What is the current time?",
            "agent.custom_tool_use",
            "user.custom_tool_result: 20",
            "agent.tool_use: name=bash input={'command': 'pwd'}",
            f"user.tool_result: {tmp_path}",
            f"agent.message: The working directory is {tmp_path}",
            "session.status_idle",
            "deleted session session_01",
        ):
            assert line[:100] in said
        assert api.ok(api.get("/v1/sessions"))["data"] == []
        assert api.ok(api.get("/_emulator/invariants"))["violations"] == []
        api.close()
