"""Steady, a mock server for OpenAPI contracts, as a rival: installs it into a folder of its own for one run, starts it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.bench.client import BadAnswer, Link
from tools.bench.figures import Bench, say
from tools.bench.processes import Server, free_port, started, wait_until

_PACKAGE = "@stdy/cli"
_CONTRACT = Path(__file__).resolve().parents[2] / "openapi" / "workyard.json"
_INSTALL_WITHIN_S = 120
_ANY_ITEM = "/v1/environments/env_011CZkZ9X2dpNyB7HsEFoRfW/work/work_011CZkZ9X2dpNyB7HsEFoRfW"


def steady(bench: Bench) -> Server | None:
    """Return a running Steady fed with the contract of /v1; None, after saying why, where it cannot be had."""
    npm = shutil.which("npm")
    if npm is None:
        say("steady: left out, there is no npm here")
        return None
    folder = bench.stack.enter_context(tempfile.TemporaryDirectory(prefix="workyard-bench-steady-"))
    install = [npm, "install", "--no-audit", "--no-fund", "--prefix", folder, _PACKAGE]
    try:
        subprocess.run(install, check=True, capture_output=True, timeout=_INSTALL_WITHIN_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        say(f"steady: left out, npm could not install {_PACKAGE}: {error}")
        return None
    return bench.stack.enter_context(_running(Path(folder) / "node_modules" / ".bin" / "steady"))


@contextmanager
def _running(binary: Path) -> Iterator[Server]:
    port = free_port()
    # Its access log is off, as ours is.
    command = [str(binary), "--host", "127.0.0.1", "--port", str(port), "--quiet", str(_CONTRACT)]
    with started(command) as process:

        def answers() -> bool:
            try:
                link = Link(port, {"x-api-key": "any"})
                link.send("GET", _ANY_ITEM)
                link.receive_body()
                link.close()
            except (OSError, BadAnswer):
                return False
            return True

        wait_until(answers, "an answer of Steady")
        yield Server(process.pid, port)
