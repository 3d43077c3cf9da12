"""The served documents and the server agree: Schemathesis generates requests from the former and judges the latter.

Configuration and the rules no schema can state are in `schemathesis.toml` and `schemathesis_hooks.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Api, WorkyardServer, clean_environment
from test_sessions_lifecycle import session

ROOT = Path(__file__).parent.parent
#: The engine on which a document is usually tried.
USUALLY_ON = {"workyard": "redis", "control": "embedded"}
DOCUMENTS = {"workyard": "/openapi.json", "control": "/_emulator/openapi.json"}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_server_does_what_its_document_says(
    server: WorkyardServer,
    new_api: Callable[..., Api],
    tmp_path: Path,
    document: str,
    request: pytest.FixtureRequest,
) -> None:
    """Examples, coverage, fuzzing and stateful phases find no difference, and every operation succeeds at least once."""
    if server.engine != USUALLY_ON[document] and not request.config.getoption("--engine"):
        pytest.skip("a minute for each: the other engine has this document, and --engine runs it here")
    run, other = new_api(server.url), new_api(server.url)
    queue = other.queue()
    work = other.ok(other.post(f"/_emulator/environments/{queue}/work"))["data"][0]["id"]
    seen = tmp_path / "seen.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "schemathesis.toml"),
            "run", server.url + DOCUMENTS[document], "--url", server.url, "-H", f"x-api-key: {run.api_key}", "--no-color",
        ],
        cwd=ROOT,
        env=clean_environment(
            {
                "WORKYARD_QUEUE": queue,
                "WORKYARD_WORK": work,
                "WORKYARD_SESSION": str(session(other, queue)["id"]),
                "WORKYARD_KEY": run.api_key,
                "WORKYARD_SEEN": str(seen),
                "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "hypothesis"),
                "PYTHONIOENCODING": "utf-8",
            }
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=380,
    )  # fmt: skip
    # A workspace that a request may have named beside the run's own.
    run.ok(run.post("/_emulator/reset", params={"workspace": "default"}))
    assert done.returncode == 0, done.stdout
    statuses = json.loads(seen.read_text())
    paths: dict[str, dict[str, Any]] = run.ok(run.get(DOCUMENTS[document]))["paths"]
    operations = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    assert {operation for operation in operations if not statuses.get(operation, {}).get("200")} == set(), statuses


def test_no_check_is_switched_off_but_the_one_that_contradicts_mode_any() -> None:
    """Neither for all operations nor for some."""
    configuration = tomllib.loads((ROOT / "schemathesis.toml").read_text())
    assert configuration.pop("checks") == {"ignored_auth": {"enabled": False}}
    assert '"checks"' not in json.dumps(configuration)
    assert '"enabled"' not in json.dumps({**configuration, "cache": None})
