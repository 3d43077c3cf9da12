"""Fixtures for pytest: a separate workspace for each test, on a server that is started once or is already running.

Every run of pytest loads this module if Workyard is installed, so it imports nothing else of Workyard until a fixture is
used.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import Emulator

_TITLE = "Workyard: the work of this test"
#: The emulator of a test, whichever of its fixtures has asked for it.
_EMULATOR = pytest.StashKey["Emulator"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the setting that name a running server."""
    text = "Workyard that is running, for all tests; unset: one is started in each test process"
    parser.getgroup("workyard").addoption("--workyard-url", metavar="URL", help=f"{text} [WORKYARD_URL]")
    parser.addini("workyard_url", text)


@pytest.fixture(scope="session")
def workyard_server(pytestconfig: pytest.Config) -> Iterator[Emulator]:
    """A Workyard for all tests of this process: the running one that `--workyard-url`, the variable `WORKYARD_URL` or the
    setting `workyard_url` names, else one in this process. Override it to start one with settings of your own."""
    from .testing import Emulator

    url = (
        pytestconfig.getoption("--workyard-url")
        or os.environ.get("WORKYARD_URL")
        or pytestconfig.getini("workyard_url")
    )
    with Emulator(url=str(url) if url else None) as server:
        yield server


@pytest.fixture
def workyard(request: pytest.FixtureRequest, workyard_server: Emulator) -> Iterator[Emulator]:
    """An emulator with a workspace of its own for one test.

    In the end the queues are recounted, which fails a test whose queues contradict their rules, and the workspace is
    removed. The report of a test that fails shows the life of its work.
    """
    from .testing.report import timelines

    with workyard_server.workspace() as emulator:
        request.node.stash[_EMULATOR] = emulator
        yield emulator
        try:
            emulator.assert_invariants()
        except AssertionError as error:
            error.add_note(timelines(emulator))
            raise
        finally:
            emulator.reset()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the life of a test's work in its report, if it failed."""
    report = yield
    if report.failed and report.when != "teardown":
        emulator = item.stash.get(_EMULATOR, None) or getattr(item, "funcargs", {}).get("workyard")
        if emulator is not None:
            from .testing.report import timelines

            report.sections.append((_TITLE, timelines(emulator)))
    return report
