"""Runs the SDK's own example of a worker, as it was published, beside the other tests: it takes a minute, nearly all of it
waiting. The test that judges it is test_workers_example.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import traceback
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.support.harness import Api, clean_environment, running_server
from tests.support.sdk_processes import CLIENTS, ROOT, credentials

EXAMPLE = "managed-agents-self-hosted-sandbox-worker.py"
#: It works for sixty seconds, then tidies up; nothing that it is given changes that.
ENDS_WITHIN_S = 120
#: What its message asks for.
SCRIPT = {
    "steps": [
        {"use_custom_tool": {"name": "current_time", "input": {}}},
        {"use_tool": {"name": "bash", "input": {"command": "pwd"}}},
        {"say": "The working directory is {{result}}."},
    ]
}


@dataclass
class Outcome:
    """The outcome of a run in *folder*; *absent* is the reason if there was none."""

    folder: str
    absent: str = ""
    code: int = -1
    printed: str = ""
    errors: str = ""
    sessions_left: int = -1
    violations: list[Any] = field(default_factory=list)


def run(folder: Path, result: Path) -> None:
    """Run the example in a folder of its own, and leave the outcome in a file."""
    outcome = Outcome(str(folder))
    try:
        _run(folder, outcome)
    except Exception:
        outcome.errors += traceback.format_exc()
    written = result.with_suffix(".part")
    written.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    written.rename(result)


def outcome_in(result: Path) -> Outcome:
    """Return what `run` has left."""
    return Outcome(**json.loads(result.read_text(encoding="utf-8")))


def _run(folder: Path, outcome: Outcome) -> None:
    release, sources = version("anthropic"), ROOT / ".sdists"
    archive = sources / f"anthropic-{release}.tar.gz"
    if not archive.exists():
        # Fetched once, kept in the checkout.
        command = [sys.executable, str(CLIENTS / "fetch_sdist.py"), "anthropic", release, str(sources)]
        fetched = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        if fetched.returncode != 0:
            outcome.absent = f"no source archive of anthropic {release}: {fetched.stderr.strip()[-300:]}"
            return
    with tarfile.open(archive) as files:
        found = files.extractfile(f"anthropic-{release}/examples/{EXAMPLE}")
        assert found is not None
        (folder / EXAMPLE).write_bytes(found.read())
    with running_server() as server:
        api = Api(server.url)
        api.script(SCRIPT)
        done = subprocess.run(
            [sys.executable, str(folder / EXAMPLE)],
            env=clean_environment(credentials(api, api.queue())),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            check=False,
        )
        outcome.code, outcome.printed, outcome.errors = done.returncode, done.stdout, done.stderr
        outcome.sessions_left = len(api.ok(api.get("/v1/sessions"))["data"])
        outcome.violations = api.ok(api.get("/_emulator/invariants"))["violations"]
        api.close()
