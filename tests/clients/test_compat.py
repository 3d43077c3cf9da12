"""`scripts/compat`: what docs/compatibility.md says is so, is the same when run again, and is not said of whoever fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sdk_processes import ROOT, node_binary
from tools.compat.cells import play
from tools.compat.releases import VERSIONS, Client
from tools.compat.requests import Request, digest

TABLE = ROOT / "docs" / "compatibility.md"
#: The newest release of each language, and the oldest.
NEWEST, OLDEST = ([f"{language}-{each[place]}" for language, each in VERSIONS.items()] for place in (-1, 0))
#: Releases are fetched once: not by two processes at the same time.
pytestmark = pytest.mark.xdist_group("compat")


def compat(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    command = [sys.executable, "-m", "tools.compat", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)


@pytest.fixture
def node() -> None:
    """There is one, or the test is skipped; in CI it fails."""
    if node_binary() is None:
        assert os.environ.get("CI") != "true", "no Node 20"
        pytest.skip("no Node 20: run scripts/test, which fetches it")


def doctored(row: str, folder: Path) -> Path:
    """Return a copy of the table in which a row says something else."""
    copy, table = folder / "doctored.md", TABLE.read_text()
    assert table.count(row) == 1
    copy.write_text(table.replace(row, row.replace("yes", "**no**", 1)))
    return copy


def row_of(release: str) -> str:
    """Return a release's row of the table."""
    [row] = [line for line in TABLE.read_text().splitlines() if f"` {release.partition('-')[2]} |" in line]
    return row


@pytest.mark.usefixtures("node")
def test_the_newest_releases_do_what_the_table_says(tmp_path: Path) -> None:
    """A table where one is wrong becomes right; the rows of the others stay."""
    copy = doctored(row_of(NEWEST[0]), tmp_path)
    done = compat("--only", ",".join(NEWEST), "--file", str(copy))
    assert done.returncode == 0, done.stderr
    assert copy.read_text() == TABLE.read_text()
    assert done.stderr.count(": ok (") == 6


@pytest.mark.long
@pytest.mark.usefixtures("node")
def test_the_oldest_releases_do_what_the_table_says() -> None:
    """They pass the check."""
    done = compat("--only", ",".join(OLDEST), "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("node")
def test_a_table_that_is_not_so_any_more_fails_the_check(tmp_path: Path) -> None:
    """It says what it is now, and writes nothing."""
    row = row_of(NEWEST[1])
    copy = doctored(row, tmp_path)
    before = copy.read_text()
    done = compat("--only", NEWEST[1], "--file", str(copy), "--check")
    assert done.returncode == 1
    assert f"but now it is\n  {row}" in done.stdout
    assert copy.read_text() == before


def test_a_release_that_there_is_not_is_refused_with_the_names_of_those_there_are() -> None:
    done = compat("--only", "python-9.9")
    assert done.returncode == 2
    assert "no release is called 'python-9.9'; there are python-0.103.0, " in done.stderr


def test_a_client_that_does_nothing_gets_no_yes() -> None:
    """In no column, and each says why."""
    cells = play(Client([sys.executable, "-c", ""], {}))
    assert len(cells) == 3
    for cell in cells.values():
        assert cell.problem
        assert str(cell).startswith("**no**")
        assert cell.log == []


def request(work: str, seen: str, **headers: str) -> Request:
    """Return a heartbeat and its headers."""
    target = f"/v1/environments/env_01{'A' * 22}/work/work_01{work * 22}/heartbeat?expected_last_heartbeat={seen}"
    return Request("POST", target, {"authorization": "Bearer key-1", **headers})


def test_the_hash_depends_on_what_is_sent_but_not_on_ids_times_order_or_number() -> None:
    names = {"key-1": "{environment key}", "key-2": "{API key}"}
    first, other = request("A", "2031-05-06T12:00:00.000000Z"), request("B", "2031-05-06T12%3A00%3A01.000000Z")
    claim = request("A", "NO_HEARTBEAT")
    lines = [each.line(names) for each in (claim, first)]
    assert digest(lines) == digest([each.line(names) for each in (other, other, claim)])
    for changed in (
        request("A", "NO_HEARTBEAT", authorization="Bearer key-2"),
        request("A", "NO_HEARTBEAT", **{"anthropic-version": "2023-06-01"}),
        Request("GET", claim.target, claim.headers),
        Request("POST", claim.target, claim.headers, b'{"force":true}'),
    ):
        assert digest([*lines, changed.line(names)]) != digest(lines)
