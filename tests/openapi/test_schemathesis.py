"""The served documents and the server agree: Schemathesis generates requests from the former and judges the latter.

Configuration and the rules no schema can state are in `schemathesis.toml` and `schemathesis_hooks.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.harness import free_port, running_server
from tools.contract.runs import DOCUMENTS, run

ROOT = Path(__file__).parents[2]
#: The engine on which a document is usually tried.
USUALLY_ON = {"workyard": "redis", "control": "embedded"}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_server_does_what_its_document_says(
    engine_options: tuple[str, ...], tmp_path: Path, document: str, request: pytest.FixtureRequest
) -> None:
    """Examples, coverage, fuzzing and stateful phases find no difference in mode `strict`, and every operation succeeds at
    least once."""
    engine = "redis" if engine_options else "embedded"
    if engine != USUALLY_ON[document] and not request.config.getoption("--engine"):
        pytest.skip("a minute for each: the other engine has this document, and --engine runs it here")
    with running_server("--auth", "strict", *engine_options) as server:
        done = run(server.url, document, tmp_path)
        log = server.log()
    assert done.passed, done.output
    assert done.never_succeeded == set(), done.statuses
    assert done.cases > 1000
    assert "ERROR" not in log, log


def test_every_check_is_on() -> None:
    """None is switched off, neither for all operations nor for some."""
    configuration = tomllib.loads((ROOT / "schemathesis.toml").read_text())
    assert '"checks"' not in json.dumps(configuration)
    assert '"enabled"' not in json.dumps({**configuration, "cache": None})


def test_a_run_that_cannot_be_made_says_why_in_a_line() -> None:
    """Nobody listens there."""
    command = [sys.executable, "-m", "tools.contract", "--url", f"http://127.0.0.1:{free_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "does not answer" in done.stderr
