"""Tests of a mutated copy of the checkout, many of them at little cost. Owns no mutant.

What others have written is imported once, in this process; each run of pytest is a fork of it, and so is each `workyard`
that the tests start. A bench is a copy of the checkout in which one mutant after the other is put, so that what Python has
compiled of it stays good. Runs are on the embedded engine.
"""

from __future__ import annotations

import ast
import asyncio
import atexit
import gc
import importlib
import json
import logging
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Top-level packages of this checkout; a bench imports its own copies.
_OURS = ("workyard", "workyard_queue", "workyard_store", "tests", "tools")
_COPIED = ("server", "store", "queue", "tests", "tools", "scripts", "openapi", "docs", "pyproject.toml", "README.md")
_SOURCES = ("server", "store", "queue")
_COMMAND = [sys.executable, "-m", "workyard"]
#: Only the plugins that these tests use: to load all that are installed takes longer than most of the tests.
_PLUGINS = ("anyio", "pytest_timeout", "xdist")
_AUTOLOAD = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"
_WITHIN_S = 120
_TEST_WITHIN_S = 30
#: Seconds from 1970 on: no file of a checkout has such a date, so what is compiled of a mutant is not taken for the original.
_DATE_OF_MUTANTS = 86_400 * 365
#: Messages of a test for a product that is broken as a whole, and does not just break a rule.
_BROKEN = re.compile(r"Internal server error|\"ERROR\" not in log|'ERROR' not in log|the server did not start")


@dataclass(frozen=True)
class Mutant:
    """A rule, broken: in *file*, *old* (which stands there once) becomes *new*. *tests* must notice."""

    name: str
    breaks: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """The result of pytest: tests by their node ids without parameters.

    Attributes:
        passed: those of which a case passed.
        failed: those of which a case failed by itself, not in its fixtures.
        problems: what else went wrong: fixtures, collection, a product that does not work at all.
        output: what pytest printed.
    """

    passed: frozenset[str]
    failed: frozenset[str]
    problems: tuple[str, ...]
    output: str


class Benches:
    """Copies of the checkout to run tests in, one for each of some runs at the same time."""

    def __init__(self, folder: Path, number: int, tests: Iterable[str]) -> None:
        """Make *number* copies below *folder*, for *tests*."""
        _preload({test.partition("::")[0] for test in tests})
        self._folders = [folder / f"bench-{n}" for n in range(number)]
        for bench in self._folders:
            _copy(bench)

    def run(self, tasks: Sequence[tuple[Mutant | None, Sequence[str]]], *options: str) -> list[Run]:
        """Run tests, those of each task with its mutant; return the results, task by task."""
        found: dict[int, Run] = {}
        waiting = list(enumerate(tasks))
        free = list(self._folders)
        running: dict[int, tuple[int, Path, Mutant | None, float]] = {}
        while waiting or running:
            while waiting and free:
                number, (mutant, tests) = waiting.pop(0)
                bench = free.pop()
                _put(bench, mutant)
                running[_fork(bench, tests, options)] = number, bench, mutant, time.monotonic()
            pid = _ended(running)
            number, bench, mutant, _ = running.pop(pid)
            _take_out(bench, mutant)
            found[number] = _read(bench)
            free.append(bench)
        return [found[number] for number in range(len(tasks))]


def _ended(running: dict[int, tuple[int, Path, Mutant | None, float]]) -> int:
    """Return the id of a process that has ended; end those that take too long."""
    while True:
        for pid, (*_, began) in running.items():
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                _end_group(pid)
                return pid
            if time.monotonic() - began > _WITHIN_S:
                _end_group(pid)
        time.sleep(0.01)


def _end_group(pid: int) -> None:
    """End a run, and the processes it left behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


# -- copies ----------------------------------------------------------------------------------------------------


def _copy(target: Path) -> None:
    target.mkdir()
    for name in _COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("node_modules"))
        else:
            shutil.copy2(ROOT / name, target / name)


def _put(bench: Path, mutant: Mutant | None) -> None:
    if mutant is not None:
        file = bench / mutant.file
        file.write_text(file.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        os.utime(file, (_DATE_OF_MUTANTS, _DATE_OF_MUTANTS))


def _take_out(bench: Path, mutant: Mutant | None) -> None:
    if mutant is not None:
        shutil.copy2(ROOT / mutant.file, bench / mutant.file)


# -- one run ---------------------------------------------------------------------------------------------------


def _preload(files: Iterable[str]) -> None:
    """Import what others have written and what the product and the tests in some files import."""
    sources = [file for source in _SOURCES for file in (ROOT / source).rglob("*.py")]
    helpers = [ROOT / "tests" / "conftest.py", *(ROOT / "tests" / "support").rglob("*.py")]
    wanted: set[str] = set()
    for file in [*sources, *helpers, *(ROOT / name for name in files)]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                wanted.add(node.module)
    for name in sorted(wanted | set(_PLUGINS)):
        if name.partition(".")[0] not in _OURS:
            with suppress(ImportError):
                importlib.import_module(name)
    gc.freeze()
    # No process here lives for long.
    gc.disable()


def _fork(bench: Path, tests: Sequence[str], options: Sequence[str]) -> int:
    """Run tests in a process of their own, the leader of its group; return its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    with _last_words(bench / "output.txt"):
        os.setsid()
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["WORKYARD_TEST_NO_FORKS"] = "true"  # Here commands are forks of this process.
        sys.dont_write_bytecode = False
        _move_to(bench)
        _Command.bench = bench
        subprocess.Popen = _Command  # type: ignore[misc]
        reports = _Reports()
        plugins = [part for name in _PLUGINS for part in ("-p", name)]
        fixed = ["--engine", "embedded", "-p", "no:cacheprovider", "-q", "--tb=no", "--no-header"]
        fixed += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        limit = ["--timeout", str(_TEST_WITHIN_S)]
        base = ["--basetemp", str(bench.with_name(f"{bench.name}-tmp"))]
        pytest.main([*plugins, *fixed, *limit, *base, *options, *tests], plugins=[reports])
        (bench / "reports.json").write_text(json.dumps(reports.found), encoding="utf-8")
        raise SystemExit(0)
    raise AssertionError("a fork has ended, or does not come here")


@contextmanager
def _last_words(output: Path | None) -> Iterator[None]:
    """Run a block as all that is left of a process that was forked off, which ends with it."""
    code = 1
    try:
        if output is not None:
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        atexit._clear()
        yield
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _move_to(bench: Path) -> None:
    """Forget the modules of this checkout and of other benches; those of *bench* are found from now on."""
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None) or ""
        if name.partition(".")[0] in _OURS or (
            place.startswith((f"{ROOT}/", f"{bench}/")) and "site-packages" not in place and name != "__main__"
        ):
            del sys.modules[name]
    os.chdir(bench)
    sources = [str(bench / name) for name in _SOURCES]
    sys.path[:] = sources + [place for place in sys.path if not _is_ours(place)]
    os.environ |= {"PYTHONPATH": os.pathsep.join(sources), _AUTOLOAD: "1"}
    importlib.invalidate_caches()


def _is_ours(place: str) -> bool:
    return place in {str(ROOT), *(str(ROOT / name) for name in (*_SOURCES, "tests", "tools"))}


class _Reports:
    """A pytest plugin that collects reports."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str, str, str]] = []

    def pytest_configure(self) -> None:
        """Let the processes that tests start load its plugins."""
        os.environ.pop(_AUTOLOAD, None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the outcome of a phase of a test."""
        self.found.append((report.nodeid, report.when or "", report.outcome, report.longreprtext))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record collection errors."""
        if report.failed:
            self.found.append((report.nodeid, "collect", report.outcome, report.longreprtext))


def _read(bench: Path) -> Run:
    """Return the result of a run in a bench."""
    file, output = bench / "reports.json", (bench / "output.txt").read_text(encoding="utf-8", errors="replace")
    if not file.exists():
        return Run(frozenset(), frozenset(), ("pytest did not come to its end",), output)
    reports = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    called = [(_base(node), outcome) for node, when, outcome, _ in reports if when == "call"]
    problems = [
        f"{node}: {when}: {text}"
        for node, when, outcome, text in reports
        if outcome == "failed" and (when in ("setup", "collect") or _BROKEN.search(text))
    ]
    if not called and not problems:
        problems = ["no test ran"]
    return Run(
        frozenset(node for node, outcome in called if outcome == "passed"),
        frozenset(node for node, outcome in called if outcome == "failed")
        | frozenset(_base(node) for node, when, outcome, _ in reports if when == "teardown" and outcome == "failed"),
        tuple(problems),
        output,
    )


def _base(node: str) -> str:
    """Return a test's node id without its parameters."""
    return re.sub(r"\[.*", "", node)


class _Command(subprocess.Popen[Any]):
    """A process; the command `workyard` is a fork of this one."""

    bench = ROOT

    def _execute_child(self, args: Any, *rest: Any) -> None:
        # Popen's own: executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell, pipes …
        if not isinstance(args, list) or args[:3] != _COMMAND or "--workers" in args:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        cwd, environment, pipes = rest[4], rest[5], rest[9:15]
        pid = os.fork()
        if pid == 0:
            with _last_words(None):
                self._become(args, cwd, environment, pipes)
        self.pid = pid
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _become(self, args: list[str], cwd: Any, environment: Any, pipes: Sequence[int]) -> NoReturn:
        """Be the command that Popen was to start, in the process that was forked off for it."""
        read, _, _, write, _, errors = pipes
        for place, file in enumerate((read, write, errors)):
            if file != -1:
                os.dup2(file, place)
        os.closerange(3, 1024)
        if environment is not None:
            os.environ.clear()
            os.environ.update(environment)
        _move_to(self.bench)
        if cwd is not None:
            os.chdir(cwd)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        logging.root.handlers.clear()
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        asyncio._set_running_loop(None)
        random.seed()
        sys.argv = ["workyard", *args[3:]]
        runpy.run_module("workyard", run_name="__main__", alter_sys=True)
        raise SystemExit(0)


Verdict = tuple[bool, str]


def verdict(mutant: Mutant, run: Run, control: Sequence[str] = ()) -> Verdict:
    """Return whether a mutant was found by the tests named for it, and by which or why not; *control*: had to pass."""
    if run.problems:
        return False, "\n".join(["the product is broken, not a rule:", *run.problems, run.output])
    if not set(control) <= run.passed:
        return False, f"the control test fails too: the mutant breaks more than its rule\n{run.output}"
    killers = ", ".join(name.partition("::")[2] for name in sorted(run.failed))
    return bool(killers), killers or f"no named test failed\n{run.output}"
