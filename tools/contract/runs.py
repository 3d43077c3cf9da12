"""Runs of Schemathesis over a served document: what a run needs to be there, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
#: Document → where it is served.
DOCUMENTS = {"workyard": "/openapi.json", "control": "/_emulator/openapi.json"}


@dataclass(frozen=True)
class Outcome:
    """The result of a run. *statuses*: operation → status → how many answers; *output* is what Schemathesis wrote."""

    passed: bool
    output: str
    statuses: dict[str, dict[str, int]]
    operations: set[str]

    @property
    def cases(self) -> int:
        """Return how many requests were made and their answers checked."""
        return sum(sum(each.values()) for each in self.statuses.values())

    @property
    def never_succeeded(self) -> set[str]:
        """Return the operations that never answered 200: nothing was learned about them."""
        return {name for name in self.operations if not self.statuses.get(name, {}).get("200")}


def run(url: str, document: str, folder: Path, *, examples: int | None = None, within_s: float = 380) -> Outcome:
    """Try a document of a running server, in workspaces of its own, which it resets in the end.

    Args:
        url: the server's.
        document: `workyard` or `control`.
        folder: for what is written on the way.
        examples: requests that are generated for each operation and phase; None: as in the configuration.
        within_s: seconds it may take.
    """
    key, other = (f"contract-{uuid.uuid4()}" for _ in range(2))
    seen = folder / "seen.json"
    with httpx.Client(base_url=url, headers={"x-api-key": other}, timeout=30) as http:
        made = {"name": "contract", "config": {"type": "self_hosted"}}
        queue = _answer(http.post("/v1/environments", json=made))["id"]
        work = _answer(http.post(f"/_emulator/environments/{queue}/work"))["data"][0]["id"]
        session = _answer(http.post("/v1/sessions", json={"agent": "agent_1", "environment_id": queue}))["id"]
        paths = _answer(http.get(DOCUMENTS[document]))["paths"]
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "schemathesis.toml"),
            "run", url + DOCUMENTS[document], "--url", url, "--no-color",
        ]  # fmt: skip
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("WORKYARD_", "ANTHROPIC_"))}
        variables = {
            "WORKYARD_URL": url, "WORKYARD_KEY": key, "WORKYARD_QUEUE": queue, "WORKYARD_WORK": work,
            "WORKYARD_SESSION": session, "WORKYARD_SEEN": str(seen), "PYTHONIOENCODING": "utf-8",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
        }  # fmt: skip
        done = subprocess.run(
            [*command, *([] if examples is None else ["--max-examples", str(examples)])],
            cwd=ROOT,
            env=clean | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=within_s,
            check=False,
        )
        # `default` is a workspace that a request may have named beside the run's own.
        for workspace in (key, other, "default"):
            _answer(http.post("/_emulator/reset", params={"workspace": workspace}))
    statuses = json.loads(seen.read_text()) if seen.exists() else {}
    operations = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    return Outcome(done.returncode == 0, done.stdout, statuses, operations)


def _answer(response: httpx.Response) -> Any:
    response.raise_for_status()
    return response.json()
