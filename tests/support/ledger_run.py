"""Judges which rules of the ledger a run of all tests has proven. A plugin of pytest; under xdist it works in the controller.

A rule is proven on an engine when each test that its proof in tests/ledger/ names has passed there, and failed nowhere.
Partial runs are not judged: only one of the whole suite, on all engines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.harness import REDIS_ENGINES

if TYPE_CHECKING:
    from tools.ledger.proofs import Proof

REPORT = Path(__file__).resolve().parents[2] / ".pytest_cache" / "rules.json"
#: `engine` of a proof → where each of its tests must have passed.
_WANTED = {"every": ("embedded", "redis"), "redis": ("redis",), "none": ("any",)}
_ENGINE = re.compile(r"(?:^|-)(embedded|redis)(?:-[78])?(?:-|$)")
#: Options that leave tests out.
_CHOOSING = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "failedfirst", "stepwise", "engine")


class Outcomes:
    """Outcomes of tests: by node id without parameters, on which engines they passed and failed."""

    def __init__(self) -> None:
        self.passed: dict[str, set[str]] = {}
        self.failed: set[str] = set()

    def note(self, nodeid: str, *, passed: bool) -> None:
        """Note that a case of a test has come to its end."""
        base, _, parameters = nodeid.partition("[")
        if not passed:
            self.failed.add(base)
            return
        engine = _ENGINE.search(parameters.removesuffix("]"))
        self.passed.setdefault(base, set()).update({"any"} if engine is None else {"any", engine[1]})

    def missing(self, proof: Proof) -> list[str]:
        """Return the gaps in a rule's proof, one line per test."""
        problems = []
        for test in proof.tests:
            if test in self.failed:
                problems.append(f"{test} failed")
                continue
            on = [engine for engine in _WANTED[proof.engine] if engine not in self.passed.get(test, ())]
            if on:
                problems.append(f"{test} has not passed" + ("" if on == ["any"] else f" on {' and '.join(on)}"))
        return problems

    def report(self, proofs: Mapping[str, Proof]) -> dict[str, list[str]]:
        """Return the gaps by rule id; proven rules have none."""
        return {name: self.missing(proof) for name, proof in proofs.items()}


class LedgerRun:
    """The plugin."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._outcomes = Outcomes()
        self._engines: set[str] = set()
        self._lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test's end."""
        if report.failed or (report.when == "call" and report.passed):
            self._outcomes.note(report.nodeid, passed=report.passed)
            self._engines.update(engine for engine in REDIS_ENGINES if engine in report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Judge a whole run: it fails if a rule is not proven."""
        whole = (
            self._config.args_source is pytest.Config.ArgsSource.TESTPATHS
            and not any(self._config.getoption(name, None) for name in _CHOOSING)
            and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
            and self._engines == set(REDIS_ENGINES)
            and not (session.shouldstop or session.shouldfail)
        )
        if not whole:
            return
        from tools.ledger.proofs import proofs

        found = self._outcomes.report(proofs())
        bare = {name: problems for name, problems in found.items() if problems}
        self._lines = [f"{name}: {problem}" for name, problems in bare.items() for problem in problems]
        self._lines.append(f"{len(found) - len(bare)} of {len(found)} rules of the ledger proven on every engine")
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        if bare:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which rules are not proven, and how many are."""
        if self._lines:
            terminalreporter.section("rules")
            for line in self._lines:
                terminalreporter.write_line(line)
