"""Workers of the real SDKs, each in a process of its own: tests/clients/worker.mjs and worker.py, which say what they can do."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.harness import Api, clean_environment, wait_until
from tests.support.sessions import MESSAGE, events, item, session

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = Path(__file__).resolve().parents[1] / "clients"
#: The oldest Node that is supported.
NODE_MAJOR = 20
#: How long a worker stays after an idle that ends a turn, wall time.
MAX_IDLE_MS = 200
#: With it a worker beats once a second, the least it does.
SHORT_TTL_S = 2
#: One call of the SDK's own tool set, one of a tool of the worker's, and both results said.
BOTH: list[dict[str, Any]] = [
    {"use_tool": {"name": "bash", "input": {"command": "echo $((40 + 2))"}}},
    {"say": "bash: {{result}}"},
    {"use_custom_tool": {"name": "get_weather", "input": {"city": "Bern"}}},
    {"say": "weather: {{result}}"},
]
#: A call that is being run when `started` is there, and that ends when `go` is.
LONG = "touch started; for i in $(seq 3000); do [ -e go ] && break; sleep 0.01; done; echo gone"
#: More than a whole run takes on a busy machine.
ENDS_WITHIN_S = 30


@functools.cache
def node_binary() -> str | None:
    """Return a Node that is new enough: the one on the path, or the one that `scripts/test` fetched, or None."""
    show = ["-p", f"parseInt(process.versions.node) >= {NODE_MAJOR}"]
    for found in (shutil.which("node"), str(ROOT / ".node" / "bin" / "node")):
        if found is not None and Path(found).exists():
            shown = subprocess.run([found, *show], capture_output=True, text=True, check=False)
            if shown.stdout.strip() == "true":
                return found
    return None


def typescript_worker() -> list[str] | None:
    """Return the command of the TypeScript worker with the newest SDK, or None where there is no Node or no SDK."""
    node = node_binary()
    return None if node is None or not (CLIENTS / "node_modules").exists() else [node, str(CLIENTS / "worker.mjs")]


def needed_typescript_worker() -> list[str]:
    """Return the command of the TypeScript worker. Where there is none, skip the test; fail it in CI."""
    command = typescript_worker()
    if command is None:
        reason = "no Node 20 with @anthropic-ai/sdk: run scripts/test, which fetches both"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return command


class Worker:
    """A process that works for an environment; it runs its tools in *folder*."""

    def __init__(
        self, command: Sequence[str], mode: str, environment: Mapping[str, str], folder: Path, log: IO[str]
    ) -> None:
        self._log = log
        self.process = subprocess.Popen(
            [*command, mode, str(MAX_IDLE_MS)],
            cwd=folder,
            env=clean_environment(dict(environment)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

    def until(self, predicate: Callable[[], object], description: str) -> None:
        """Wait for something while it works; fail if it ends before."""

        def seen() -> object:
            assert self.process.poll() is None, f"the worker ended before {description}: {self._written()}"
            return predicate()

        wait_until(seen, description, ENDS_WITHIN_S)

    def _written(self) -> str:
        self._log.seek(0)
        return f"exit code {self.process.returncode}\n{self._log.read()}"

    def end(self) -> list[str]:
        """Wait until it exits without an error; return its output lines."""
        try:
            printed, _ = self.process.communicate(timeout=ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {ENDS_WITHIN_S} s: {self._written()}") from None
        assert self.process.returncode == 0, self._written()
        return printed.splitlines()

    def terminate(self) -> list[str]:
        """Tell it to end, and wait as `end` does."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()


@contextmanager
def running(command: Sequence[str], mode: str, environment: Mapping[str, str], folder: Path) -> Iterator[Worker]:
    """Run a worker for a block; whatever becomes of that, it ends with it."""
    with tempfile.TemporaryFile("w+") as log:
        worker = Worker(command, mode, environment, folder, log)
        try:
            yield worker
        finally:
            worker.process.kill()
            worker.process.communicate()


def credentials(api: Api, queue: str) -> dict[str, str]:
    """Return the variables for a worker of an environment, with a new key."""
    return {
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": api.api_key,
        "ANTHROPIC_ENVIRONMENT_ID": queue,
        "ANTHROPIC_ENVIRONMENT_KEY": str(api.ok(api.post(f"/_emulator/environments/{queue}/keys"))["key"]),
    }


def claimed(api: Api, queue: str) -> dict[str, str]:
    """Poll and acknowledge an item; return the variables for a worker that serves only this item."""
    item = api.poll(queue)
    api.ok(api.ack(queue, item["id"]))
    return {
        "ANTHROPIC_WORK_ID": item["id"],
        "ANTHROPIC_SESSION_ID": item["data"]["id"],
        "ANTHROPIC_WORK_SECRET": item["secret"] or "",
    }


def scripted(api: Api, queue: str, *steps: dict[str, Any]) -> str:
    """Create a session whose agent follows a script, with a message that starts it; return its id."""
    script = json.dumps({"steps": steps})
    return str(session(api, queue, metadata={"workyard_script": script}, initial_events=[MESSAGE])["id"])


def texts(api: Api, session_id: str, kind: str) -> list[str]:
    """Return the text of each event of a type."""
    return [event["content"][0]["text"].strip() for event in events(api, session_id) if event["type"] == kind]


def finished(api: Api, queue: str, session_id: str) -> bool:
    """Return whether a session has reached the end of its script, and its work is over."""
    report: dict[str, bool] = api.ok(api.get(f"/_emulator/sessions/{session_id}/script"))["report"]
    return report["finished"] and item(api, queue, session_id)["state"] == "stopped"


def check_both(api: Api, queue: str, session_id: str) -> None:
    """Check that a session with the script BOTH was run to its end."""
    assert finished(api, queue, session_id)
    assert texts(api, session_id, "user.tool_result") == ["42"]
    assert texts(api, session_id, "user.custom_tool_result") == ["sunny in Bern"]
    assert texts(api, session_id, "agent.message") == ["bash: 42", "weather: sunny in Bern"]
    assert events(api, session_id)[-1]["stop_reason"] == {"type": "end_turn"}
