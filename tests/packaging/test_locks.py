"""One lock for every level: what pyproject.toml asks for, by hash, from no index in particular; the wheel says what it needs."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import tomllib
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools.packaging import lock, newest, pip_settings

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
LOCK = lock.LOCK.read_text()


def pins(text: str) -> dict[str, list[Version]]:
    """Return the releases in a part of the lock by name: several where the release depends on the machine. Each has a hash."""
    found: dict[str, list[Version]] = {}
    for entry in chain.from_iterable(lock.entries(text).values()):
        head, *hashes = entry.replace("\\\n", "").split("--hash=sha256:")
        assert hashes, f"without a hash: {head}"
        assert all(re.fullmatch(r"[0-9a-f]{64}", each.strip()) for each in hashes)
        requirement = Requirement(head.strip())
        [specifier] = requirement.specifier
        assert specifier.operator == "=="
        found.setdefault(canonicalize_name(requirement.name), []).append(Version(specifier.version))
    return found


def locked(part: str) -> str:
    """Return the part of the lock that scripts/setup-venv installs for a level, or a section that stands alone."""
    script = f'. scripts/setup-venv && locked "{part}"'
    return subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("part", "asked"),
    [
        ("run", [*PROJECT["project"]["dependencies"], *GROUPS["build"]]),
        ("test", [*PROJECT["project"]["dependencies"], *GROUPS["build"], *EXTRAS["test"]]),
        ("dev", [*PROJECT["project"]["dependencies"], *GROUPS["build"], *EXTRAS["test"], *EXTRAS["dev"]]),
        ("node", GROUPS["node"]),
        ("uv", GROUPS["uv"]),
    ],
)
def test_each_level_of_the_lock_holds_all_that_is_asked_for_in_its_range(part: str, asked: list[str]) -> None:
    """Else scripts/lock has to be run."""
    found = pins(locked(part))
    for requirement in map(Requirement, asked):
        if requirement.name != "workyard":
            assert len(requirement.specifier) >= 1, f"no range: {requirement}"
            assert all(map(requirement.specifier.contains, found[canonicalize_name(requirement.name)])), requirement


def test_a_level_is_the_same_for_the_shell_and_for_python() -> None:
    """`scripts/setup-venv` cuts the lock with sed, the tools with tools/packaging/lock.py; every release is in one section."""
    for name in ("run", "test", "dev"):
        assert pins(locked(name)) == pins(lock.level(LOCK, name))
    in_sections = [name for text in lock.sections(LOCK).values() for name in pins(text)]
    assert sorted(in_sections) == sorted(pins(LOCK))


def test_each_release_is_in_the_first_section_that_needs_it() -> None:
    """A release that no section needs is an error: it would never be installed."""
    needed: dict[str, set[str]] = {name: set() for name in lock.SECTIONS}
    needed |= {"run": {"a"}, "test": {"a", "b"}, "dev": {"a", "b", "c"}}
    text = lock.split("a==1 \\\n    --hash=sha256:1\nb==2\nb==3 ; python_version < '3.12'\nc==4\n", needed)
    parts = lock.sections(text)
    assert parts["run"].split("\n")[:2] == ["a==1 \\", "    --hash=sha256:1"]
    assert parts["test"].strip() == "b==2\nb==3 ; python_version < '3.12'"
    assert parts["dev"].strip() == "c==4"
    with pytest.raises(ValueError, match="in no section: d"):
        lock.split("d==1\n", needed)


def test_the_sbom_names_what_the_wheel_needs() -> None:
    """Each release of the lock once, and Workyard, which depends on it; it names no index."""
    [place] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["sbom-files"]
    document = json.loads((ROOT / place).read_text())
    assert document["bomFormat"] == "CycloneDX"
    found = {(each["name"], each["version"], each["purl"]) for each in document["components"]}
    needed = {(name, str(each)) for name, versions in pins(lock.sections(LOCK)["run"]).items() for each in versions}
    assert found == {(name, version, f"pkg:pypi/{name}@{version}") for name, version in needed}
    root = document["metadata"]["component"]
    assert (root["name"], root["version"]) == ("workyard", PROJECT["project"]["version"])
    [depends] = [each["dependsOn"] for each in document["dependencies"] if each["ref"] == root["bom-ref"]]
    assert set(depends) == {purl for _, _, purl in found}


def test_nothing_locked_names_where_it_came_from() -> None:
    """The machine that installs chooses the index."""
    for file in (*REQUIREMENTS.iterdir(), ROOT / "tests" / "clients" / "package-lock.json"):
        named = re.search(r"https?://(?!cyclonedx\.org/schema/)|--(?:index|extra-index|find)", file.read_text())
        assert not named, file


# -- pip's settings, for uv ------------------------------------------------------------------------------------


def test_uv_is_given_pips_index_unless_it_has_its_own() -> None:
    """The environment's setting over a file's; several values as uv wants them."""
    listing = "\n".join(
        [
            ":env:.index-url='http://127.0.0.1:3141/simple'",
            "global.index-url='http://127.0.0.1:1/simple'",
            r"global.find-links='/wheels\n/more'",
            "global.cert='/my certificates.pem'",
            "global.no-index='true'",
            "list.format='json'",
        ]
    )
    found = pip_settings.settings(listing)
    assert pip_settings.assignments(found, {}) == [
        "export UV_DEFAULT_INDEX=http://127.0.0.1:3141/simple",
        "export UV_FIND_LINKS=/wheels,/more",
        "export SSL_CERT_FILE='/my certificates.pem'",
        "uv_options+=(--no-index)",
    ]
    own = {"UV_INDEX_URL": "http://127.0.0.1:2/simple", "SSL_CERT_FILE": "/a.pem", "UV_FIND_LINKS": "/b"}
    assert pip_settings.assignments(found, own) == ["uv_options+=(--no-index)"]
    assert pip_settings.assignments(pip_settings.settings(""), {}) == []


# -- scripts/test --newest -------------------------------------------------------------------------------------


def test_what_differs_from_the_lock_is_named_with_both_releases() -> None:
    """The same release is not."""
    before = newest.locked("a==1 \\\n    --hash=sha256:1\nb-c==2.0 ; sys_platform != 'win32' \\\n    --hash=sha256:2\n")
    assert before == {"a": "1", "b-c": "2.0"}
    assert newest.differences(before, {"a": "1", "b-c": "2.1", "d": "3"}) == ["b-c: 2.0 → 2.1", "d: not locked → 3"]
    assert newest.installed()["pytest"] == pytest.__version__


# -- the audit -------------------------------------------------------------------------------------------------


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
        assert line.startswith("SKIPPED: nothing is known of lock.txt")
