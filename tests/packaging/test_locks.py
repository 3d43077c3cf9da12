"""What CI installs is locked, what is locked is what pyproject.toml asks for, and the wheel says what it needs."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(name: str) -> dict[str, list[Version]]:
    """Return the releases in a lock by name: several where what fits depends on the machine. Each has a hash."""
    found: dict[str, list[Version]] = {}
    for entry in re.split(r"\n(?=\S)", (LOCKS / name).read_text().strip()):
        head, *hashes = entry.replace("\\\n", "").split("--hash=sha256:")
        assert hashes, f"without a hash: {head}"
        assert all(re.fullmatch(r"[0-9a-f]{64}", each.strip()) for each in hashes)
        requirement = Requirement(head.strip())
        [specifier] = requirement.specifier
        assert specifier.operator == "=="
        found.setdefault(canonicalize_name(requirement.name), []).append(Version(specifier.version))
    return found


def test_the_locks_hold_all_that_is_asked_for_in_its_range() -> None:
    """Else scripts/lock has to be run."""
    extras = PROJECT["project"]["optional-dependencies"]
    build = [line for line in (LOCKS / "build.in").read_text().splitlines() if not line.startswith("#")]
    asked = {
        "run.txt": PROJECT["project"]["dependencies"],
        "dev.txt": [*PROJECT["project"]["dependencies"], *extras["test"], *extras["dev"], *build],
    }
    for lock, requirements in asked.items():
        locked = pins(lock)
        for requirement in map(Requirement, requirements):
            if requirement.name != "workyard":
                assert len(requirement.specifier) >= 1, f"no range: {requirement}"
                assert all(map(requirement.specifier.contains, locked[canonicalize_name(requirement.name)])), (
                    requirement
                )
    every = pins("dev.txt")
    assert all(every[name] == versions for name, versions in pins("run.txt").items()), "two locks, two releases"


def test_the_sbom_names_what_the_wheel_needs() -> None:
    """Each release of the lock once, and Workyard, which depends on it; it names no index."""
    [place] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["sbom-files"]
    document = json.loads((ROOT / place).read_text())
    assert document["bomFormat"] == "CycloneDX"
    found = {(each["name"], each["version"], each["purl"]) for each in document["components"]}
    locked = {(name, str(each)) for name, versions in pins("run.txt").items() for each in versions}
    assert found == {(name, version, f"pkg:pypi/{name}@{version}") for name, version in locked}
    root = document["metadata"]["component"]
    assert (root["name"], root["version"]) == ("workyard", PROJECT["project"]["version"])
    [depends] = [each["dependsOn"] for each in document["dependencies"] if each["ref"] == root["bom-ref"]]
    assert set(depends) == {purl for _, _, purl in found}


def test_nothing_locked_names_where_it_came_from() -> None:
    """Who installs chooses the index."""
    for file in LOCKS.iterdir():
        assert not re.search(r"https?://(?!cyclonedx\.org/schema/)|--(?:index|extra-index|find)", file.read_text()), (
            file
        )


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    """scripts/audit."""
    return importlib.import_module("tools.packaging.audit")


def test_an_audit_fails_for_what_is_known_and_says_when_nothing_is(audit: ModuleType) -> None:
    """No data is no failure, and no pass in silence either."""
    good = {"name": "a", "version": "1", "vulns": []}
    bad = {"name": "b", "version": "2", "vulns": [{"id": "GHSA-1", "fix_versions": ["2.1"]}]}
    left = {"name": "c", "skip_reason": "not found"}
    assert audit.verdict([good], [good]) == (0, ["2 releases audited, 0 vulnerabilities known"])
    code, lines = audit.verdict([good], [bad, left])
    assert code == 1
    assert lines == [
        "b 2: GHSA-1, mended in 2.1",
        "not audited: c: not found",
        "2 releases audited, 1 vulnerabilities known",
    ]
    for first, rest in (([left], []), ("no answer within 120 s", []), ([good], "cut off"), ([good], [left])):
        code, [line] = audit.verdict(first, rest)
        assert code == 0
        assert line.startswith("SKIPPED: nothing is known of the dev.txt lock")
