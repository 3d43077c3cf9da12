"""The SDKs' generated test suites: fetched with their release, given what they import, run against a server."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.harness import Api, RedisServer, clean_environment, running_server
from tests.support.sdk_processes import CLIENTS, ROOT, node_binary
from tools.compat.releases import CACHE, CannotInstall, fetch

#: Names whatever release the index has as its newest.
NEWEST = "newest"
#: The newest release of the first API version, whose types are the strictest.
OLD = "0.121.0"
SDISTS = ROOT / ".sdists"
#: The tests of the API that Workyard emulates, in the repositories and source archives.
_PYTHON_TESTS = ("tests/api_resources/beta/environments/test_work.py", "tests/api_resources/beta/test_environments.py")
_TYPESCRIPT_TESTS = "tests/api-resources/beta/environments"
#: The packages that these tests and their conftest.py import. http-snapshot is pinned where the SDK's own development is.
_TOOLS = ("pytest", "pytest-asyncio", "pytest-xdist", "inline-snapshot>=0.28.0", "http-snapshot[httpx]==0.1.9")
_FETCHED_WITHIN_S = 90
_RUN_WITHIN_S = 300
#: Lines of a failed run's output that are shown.
_SHOWN_LINES = 60


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        said: the end of its output if anything failed.
        leniencies: how often each was used.
        problems: what it left in disorder: queues that violate their invariants, keys that no reset removed.
    """

    passed: int
    failed: int
    skipped: int
    took_s: float
    said: str = ""
    leniencies: Mapping[str, int] = field(default_factory=dict)
    problems: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Return whether tests ran, and nothing failed."""
        return self.failed == 0 and self.passed > 0 and not self.problems

    def __str__(self) -> str:
        counted = [f"{self.passed} passed", f"{self.failed} failed", f"{self.skipped} skipped"]
        return ", ".join(each for each in counted if not each.startswith("0 ")) or "nothing ran"


@dataclass(frozen=True)
class PythonSuite:
    """The suite of a release of `anthropic`: its source archive, and the folder of packages that it runs with."""

    version: str
    archive: Path
    packages: Path

    @property
    def name(self) -> str:
        """Its name in tables."""
        return f"Python {self.version}"

    def run(self, url: str, processes: int) -> Outcome:
        """Run it against a server; with one process in that of pytest itself."""
        with tempfile.TemporaryDirectory(prefix="workyard-suite-") as place:
            folder = Path(place)
            with tarfile.open(self.archive) as files:
                top = f"anthropic-{self.version}/"
                wanted = [each for each in files if each.name.startswith((f"{top}tests/", f"{top}pyproject.toml"))]
                files.extractall(folder, wanted, filter="data")
            report = folder / "report.xml"
            spread = ["-n", "0", "--dist", "no"] if processes == 1 else ["-n", str(processes)]
            # Without `site` nothing is seen of the environment that this runs in.
            command = [
                sys.executable,
                "-S",
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:workyard",
                "--junit-xml",
                str(report),
            ]
            environment = {"PYTHONPATH": str(self.packages), "TEST_API_BASE_URL": url}
            where = folder / f"anthropic-{self.version}"
            return _outcome([*command, *spread, *_PYTHON_TESTS], where, environment, report, _junit_counts)


@dataclass(frozen=True)
class TypeScriptSuite:
    """The suite in a checkout of the TypeScript SDK's repository, with its development packages installed."""

    checkout: Path
    node: str

    @property
    def name(self) -> str:
        """Its name in tables."""
        return f"TypeScript {json.loads((self.checkout / 'package.json').read_text())['version']}"

    def run(self, url: str, processes: int) -> Outcome:
        """Run it against a server."""
        with tempfile.TemporaryDirectory(prefix="workyard-suite-") as place:
            report = Path(place) / "report.json"
            spread = "--runInBand" if processes == 1 else f"--maxWorkers={processes}"
            jest = [self.node, "node_modules/jest/bin/jest.js", spread, "--json", "--outputFile", str(report)]
            return _outcome([*jest, _TYPESCRIPT_TESTS], self.checkout, {"TEST_API_BASE_URL": url}, report, _jest_counts)


Suite = PythonSuite | TypeScriptSuite


@contextmanager
def fixture_server(engine: str) -> Iterator[str]:
    """Run a server in fixture mode on an engine, with a Redis of its own if it needs one; yield its URL."""
    if engine == "embedded":
        with running_server("--fixtures") as server:
            yield server.url
        return
    with closing(RedisServer(engine=engine)) as redis, running_server("--fixtures", "--redis-url", redis.url) as server:
        yield server.url


def play(suite: Suite, url: str, processes: int) -> Outcome:
    """Run a suite against a server in fixture mode that nobody else uses, look at what it left, and reset that."""
    with closing(Api(url)) as api:
        before = _leniencies(api)
        outcome = suite.run(url, processes)
        used = {name: number - before.get(name, 0) for name, number in _leniencies(api).items()}
        violations = api.ok(api.get("/_emulator/invariants?workspace=*"))["violations"]
        left = api.ok(api.post("/_emulator/reset?workspace=*"))["leftover_keys"]
        problems = [f"invariant: {each}" for each in violations]
        if left:
            problems.append(f"{left} keys were left behind by the reset")
        return replace(outcome, leniencies=used, problems=problems)


def _leniencies(api: Api) -> dict[str, int]:
    counts: dict[str, int] = api.ok(api.get("/_emulator/health"))["leniencies"]
    return counts


def python_suite(version: str) -> PythonSuite:
    """Fetch a release's suite and what it runs with, unless they are there; `NEWEST` is asked of the index each time.

    Raises:
        CannotInstall: the index has no such release, or pip failed.
    """
    archive = SDISTS / f"anthropic-{version}.tar.gz"
    if not archive.exists():
        command = [sys.executable, str(CLIENTS / "fetch_sdist.py"), "anthropic", version, str(SDISTS)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCHED_WITHIN_S, check=False)
        except subprocess.TimeoutExpired:
            raise CannotInstall(f"anthropic {version} could not be fetched within {_FETCHED_WITHIN_S} s") from None
        if done.returncode != 0:
            raise CannotInstall(f"no source archive of anthropic {version}: {done.stderr.strip()[-300:]}")
        archive = Path(done.stdout.strip().splitlines()[-1])
        version = archive.name.removeprefix("anthropic-").removesuffix(".tar.gz")
    # Compiled packages are one Python's only.
    packages = CACHE / f"suite-{version}-{sys.implementation.cache_tag}"
    # The SDK's `aiohttp` extra, without whose client a third of the tests would be about something else.
    pip = ["install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target", "{}"]
    fetch(packages, [sys.executable, "-m", "pip", *pip, f"anthropic[aiohttp]=={version}", *_TOOLS])
    return PythonSuite(version, archive, packages)


def typescript_suite(checkout: Path) -> TypeScriptSuite:
    """Return the suite of a checkout.

    Raises:
        CannotInstall: it is none, its packages are not installed, or there is no Node.
    """
    if not list(checkout.glob(f"{_TYPESCRIPT_TESTS}*")):
        raise CannotInstall(f"{checkout} is no checkout of the TypeScript SDK: it has no {_TYPESCRIPT_TESTS}")
    if not (checkout / "node_modules" / "jest").exists():
        raise CannotInstall(f"{checkout} has no node_modules/jest: install its packages first (yarn install)")
    node = node_binary()
    if node is None:
        raise CannotInstall("no Node 20 or newer: install one, or run scripts/test, which fetches it")
    return TypeScriptSuite(checkout, node)


def _outcome(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    report: Path,
    counts: Callable[[Path], tuple[int, int, int]],
) -> Outcome:
    """Run a command in a folder, and read from its report how many tests passed, failed and were skipped."""
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=clean_environment(dict(environment)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_RUN_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(0, 1, 0, _RUN_WITHIN_S, f"not done within {_RUN_WITHIN_S} s")
    took_s = time.monotonic() - begun
    passed, failed, skipped = counts(report) if report.exists() else (0, 1, 0)
    # A run can fail by a warning or an error outside of all tests.
    failed = failed or int(done.returncode != 0)
    said = "\n".join(done.stdout.splitlines()[-_SHOWN_LINES:]) if failed else ""
    return Outcome(passed, failed, skipped, took_s, said)


def _junit_counts(report: Path) -> tuple[int, int, int]:
    suites = list(ElementTree.parse(report).iter("testsuite"))
    tests, failures, errors, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    return tests - failures - errors - skipped, failures + errors, skipped


def _jest_counts(report: Path) -> tuple[int, int, int]:
    told = json.loads(report.read_text())
    # A file that does not even load fails without a test of it.
    return told["numPassedTests"], max(told["numFailedTests"], told["numFailedTestSuites"]), told["numPendingTests"]
