"""The SDKs' own generated tests of environments and work pass against fixture mode, as they were published.
Evidence: docs/evidence/sdk-clients.md#generated-suites.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import sysconfig
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.sdk_suites import Run
from tools.packaging import lock, newest
from tools.suites.runs import PythonSuite


def passed(run: Run) -> tuple[int, int]:
    """Check a run, and return how many of its tests passed and how many were skipped. Without it, skip; fail in CI."""
    if run.absent:
        if os.environ.get("CI") == "true":
            pytest.fail(run.absent)
        pytest.skip(run.absent)
    outcome = run.outcome
    assert outcome.failed == 0, outcome.said
    assert outcome.problems == []
    # Half of them are about the reserved ids; they passed by nothing else.
    assert set(outcome.leniencies) == {"reserved-environment", "reserved-work", "unknown-cursor"}
    assert outcome.leniencies["reserved-environment"] > outcome.leniencies["reserved-work"] >= 100
    return outcome.passed, outcome.skipped


@pytest.mark.timeout(450)
def test_the_newest_releases_suite_passes_on_the_embedded_engine(sdk_suites: dict[str, Run]) -> None:
    """All 340 tests of the locked release; how many another has is its own business, as long as none fails."""
    count, skipped = passed(sdk_suites["newest"])
    assert count > 0
    if version("anthropic") == newest.locked(lock.LOCK.read_text())["anthropic"]:
        assert (count, skipped) == (340, 0)


@pytest.mark.timeout(450)
def test_an_old_releases_suite_passes_on_redis(sdk_suites: dict[str, Run]) -> None:
    """It skips by itself what the mock of its makers could not do."""
    assert passed(sdk_suites["old"]) == (290, 50)


def archive_of(folder: Path, files: dict[str, str]) -> Path:
    """Write the source archive of a release 1.0 that holds these files."""
    archive = folder / "anthropic-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"anthropic-1.0/{name}")
            entry.size = len(text.encode())
            packed.addfile(entry, io.BytesIO(text.encode()))
    return archive


def test_a_suite_that_fails_is_told_from_one_that_passes(tmp_path: Path) -> None:
    """One test of each kind is counted as what it is, and what the failing one says is kept."""
    skips = "import pytest\n@pytest.mark.skip\ndef test_skips(): pass\n"
    asks = "import os\ndef test_asks(): assert os.environ['TEST_API_BASE_URL'] == 'http://here'\n"
    archive = archive_of(
        tmp_path,
        {
            "pyproject.toml": "[tool.pytest.ini_options]\n",
            "tests/api_resources/beta/environments/test_work.py": asks + skips,
            "tests/api_resources/beta/test_environments.py": "def test_fails():\n    assert 'seen' == ''\n",
        },
    )
    suite = PythonSuite("1.0", archive, Path(sysconfig.get_path("purelib")))
    outcome = suite.run("http://here", 1)
    assert (outcome.passed, outcome.failed, outcome.skipped, outcome.ok) == (1, 1, 1, False)
    assert "assert 'seen' == ''" in outcome.said
    assert str(outcome) == "1 passed, 1 failed, 1 skipped"


def test_a_suite_that_cannot_be_had_fails_with_the_reason(tmp_path: Path) -> None:
    """Nothing is run."""
    command = [sys.executable, "-m", "tools.suites", "--releases", "", "--typescript", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"sdk-suites: {tmp_path} is no checkout of the TypeScript SDK" in done.stderr
