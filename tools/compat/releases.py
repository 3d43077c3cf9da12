"""The SDK releases of the compatibility table, and how each gets into a folder of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tests.support.sdk_processes import CLIENTS, ROOT, node_binary

#: Where releases are kept from one run to the next.
CACHE = ROOT / ".compat"
#: Oldest first: the first that has workers, those at which what they send or do changed, the newest when the table was made.
VERSIONS = {
    "python": ("0.103.0", "0.121.0", "0.125.0", "1.17.0", "2.0.0", "2.14.0"),
    "typescript": ("0.97.0", "0.120.0", "1.2.0", "1.14.0"),
}
LANGUAGES = {"python": "Python", "typescript": "TypeScript"}
PACKAGES = {"python": "anthropic", "typescript": "@anthropic-ai/sdk"}
_INSTALLED_WITHIN_S = 170


class CannotInstall(Exception):
    """A release could not be had; the text says why."""


@dataclass(frozen=True)
class Release:
    """A release of an SDK, named `python-2.14.0`."""

    language: str
    version: str

    @property
    def name(self) -> str:
        """Its name in options and in the cache."""
        return f"{self.language}-{self.version}"

    @property
    def title(self) -> str:
        """Its name in the table."""
        return f"{LANGUAGES[self.language]} `{PACKAGES[self.language]}` {self.version}"


@dataclass(frozen=True)
class Client:
    """How the worker of a release is started: a command, and what its environment must hold."""

    command: Sequence[str]
    environment: Mapping[str, str]


RELEASES = {
    release.name: release
    for release in (Release(language, version) for language, versions in VERSIONS.items() for version in versions)
}


def install(release: Release) -> Client:
    """Fetch a release, unless it is there or is the one that the tests use, and return how its worker is started.

    Raises:
        CannotInstall: pip or npm failed, or there is no Node.
    """
    if release.language == "python":
        program = str(CLIENTS / "worker.py")
        if release.version == metadata.version(PACKAGES["python"]):
            return Client([sys.executable, program], {})
        # Compiled packages are one Python's only.
        folder = CACHE / f"{release.name}-{sys.implementation.cache_tag}"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", "{}"]
        fetch(folder, [*pip, f"{PACKAGES['python']}=={release.version}"])
        # Without `site` nothing is seen of the environment that this runs in.
        return Client([sys.executable, "-S", program], {"PYTHONPATH": str(folder)})
    node = node_binary()
    if node is None:
        raise CannotInstall("no Node 20 or newer: install one, or run scripts/test, which fetches it")
    if release.version == _tested_typescript():
        return Client([node, str(CLIENTS / "worker.mjs")], {})
    folder = CACHE / release.name
    npm = [_npm(node), "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--no-save"]
    fetch(folder, [*npm, "--prefix", "{}", f"{PACKAGES['typescript']}@{release.version}"])
    # Node looks for packages from where the program is.
    program = str(shutil.copy(CLIENTS / "worker.mjs", folder))
    return Client([node, program], {})


def _tested_typescript() -> str | None:
    package = CLIENTS / "node_modules" / PACKAGES["typescript"] / "package.json"
    return json.loads(package.read_text())["version"] if package.exists() else None


def _npm(node: str) -> str:
    beside = Path(node).with_name("npm")
    found = str(beside) if beside.exists() else shutil.which("npm")
    if found is None:
        raise CannotInstall(f"no npm beside {node}, nor on the path")
    return found


def fetch(folder: Path, command: Sequence[str]) -> None:
    """Have *folder* filled by a command, which names it `{}`, wholly or not at all, unless it is there.

    Raises:
        CannotInstall: the command failed.
    """
    if folder.exists():
        return
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="partial-", ignore_cleanup_errors=True) as partial:
        target = Path(partial) / "content"
        target.mkdir()
        filled = [str(target) if part == "{}" else part for part in command]
        try:
            done = subprocess.run(
                filled,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_INSTALLED_WITHIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CannotInstall(f"{folder.name} could not be fetched within {_INSTALLED_WITHIN_S} s") from None
        if done.returncode != 0:
            raise CannotInstall(f"{folder.name} could not be fetched: {(done.stderr or done.stdout).strip()[-500:]}")
        target.rename(folder)
