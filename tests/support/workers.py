"""Workers of the Python SDK, each a process of its own that can be stopped, killed and looked at. What they do is
`worker_programs.py`; the sessions that they serve are made by `sdk_processes.py`.

To import the SDK takes seconds of a processor, so one process does it and each worker is forked from that.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from pathlib import Path

import pytest

from tests.support.harness import clean_environment, wait_until

#: More than a whole run takes on a busy machine.
ENDS_WITHIN_S = 60

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.support.worker_programs", "tests.support.workers"])


@functools.cache
def start_the_server() -> None:
    """Start the process that workers are forked from, unless it is there."""
    # Before Python 3.13 it is not told where modules are.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    # Once it has forked, it has imported all: what a test measures begins after that.
    ready = _processes.Process()
    ready.start()
    ready.join()
    ready.close()


def _work(program: str, environment: dict[str, str], folder: Path, log: Path) -> None:
    # The tests themselves have no need of the SDK.
    from tests.support import worker_programs

    worker_programs.main(program, environment, folder, log)


class Worker:
    """A process that works for an environment; it runs its tools in `folder`."""

    def __init__(self, program: str, environment: Mapping[str, str], folder: Path) -> None:
        self.folder, self._log = folder, folder.with_suffix(".log")
        folder.mkdir()
        self._log.touch()
        self._process = _processes.Process(
            target=_work, args=(program, clean_environment(dict(environment)), folder, self._log)
        )
        self._process.start()

    def log(self) -> str:
        """Return its output so far."""
        return self._log.read_text()

    def until(self, predicate: Callable[[], object], description: str) -> None:
        """Wait for something while it works; fail if it ends before."""

        def seen() -> object:
            found = predicate()
            assert found or self._process.is_alive(), f"the worker ended before {description}: {self.log()}"
            return found

        wait_until(seen, description, ENDS_WITHIN_S)

    def says(self, text: str) -> None:
        """Wait until its log holds this."""
        self.until(lambda: text in self.log(), text)

    def runs_its_tool(self) -> None:
        """Wait until it is in the middle of the call LONG."""
        self.until((self.folder / "started").exists, "the tool runs")

    def let_go(self) -> None:
        """Let the call LONG end."""
        (self.folder / "go").touch()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def end(self) -> None:
        """Wait until it exits without an error."""
        self._process.join(ENDS_WITHIN_S)
        assert self._process.exitcode == 0, f"exit code {self._process.exitcode}: {self.log()}"

    def terminate(self) -> None:
        """Tell it to end, and wait as `end` does."""
        self.signal(signal.SIGTERM)
        self.end()

    def close(self) -> None:
        """End it whatever it does."""
        self._process.kill()
        self._process.join()
        self._process.close()
