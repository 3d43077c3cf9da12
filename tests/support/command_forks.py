"""Runs the command `workyard` as a fork of a process that has imported it.

The imports take about a second of processor time, nearly all of the start of a server, and the tests start some hundred.
So the first start in a test process begins a second process that imports the product once; each later command is a fork
of that one. A command gets its own arguments, environment, folder and files, and starts at `workyard/__main__.py`, as
`python -m workyard` does.

A real start happens where the difference could matter: another Python, several server processes, variables that Python or
OpenTelemetry read while they are imported, and in runs of `tools/mutants`, which forks by its own means.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

_COMMAND = [sys.executable, "-m", "workyard"]
#: Variables that have an effect before the first line of the product runs.
_AT_IMPORT = ("PYTHON", "OTEL_", "LC_", "LANG")
#: What a server imports before it is ready.
_PRELOADED = (
    "workyard.cli.main",
    "workyard.cli.serve",
    "workyard.serving.server",
    "workyard.settings",
    "fakeredis.commands_mixins.scripting_mixin",
    "uvicorn.lifespan.on",
    "uvloop",
)
_MAX_REQUEST_BYTES = 1 << 20
_MAX_FILES = 1024
_one_at_a_time = threading.Lock()


class Command(subprocess.Popen[Any]):
    """A process; `python -m workyard …` is a fork where that makes no difference."""

    _status = -1

    def _execute_child(self, args: Any, *rest: Any) -> None:
        # The arguments are those of Popen: executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo,
        # creationflags, shell, and the ends of the three pipes.
        folder, environment, pipes = rest[4], rest[5], rest[9:15]
        if not _can_be_a_fork(args, environment):
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        stdin, _, _, stdout, _, stderr = pipes
        files = [own if given == -1 else given for own, given in enumerate((stdin, stdout, stderr))]
        self.pid, self._status = _fork(args[len(_COMMAND) :], environment, folder, files)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _internal_poll(self, *rest: Any, **keywords: Any) -> int | None:
        if self._status == -1:
            return super()._internal_poll(*rest, **keywords)  # type: ignore[misc, no-any-return]
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self._end()
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self._status == -1:
            return super()._wait(timeout)  # type: ignore[misc, no-any-return]
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._end()
        return self.returncode

    def _end(self) -> None:
        with open(self._status, "rb") as status:
            self.returncode = int(status.read() or b"-9")


def run(*args: str, variables: Mapping[str, str], seconds: float = 30) -> subprocess.CompletedProcess[str]:
    """Run `workyard` with these variables, and no others, to its end.

    Raises:
        subprocess.TimeoutExpired: it did not end within *seconds*; it was killed.
    """
    command = [*_COMMAND, *args]
    with Command(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _can_be_a_fork(args: Any, environment: Any) -> bool:
    if os.environ.get("WORKYARD_TEST_NO_FORKS") or not isinstance(args, list) or args[: len(_COMMAND)] != _COMMAND:
        return False
    wanted = os.environ if environment is None else environment
    workers = [
        wanted.get("WORKYARD_WORKERS", "1"),
        *(args[n + 1] for n, arg in enumerate(args[:-1]) if arg == "--workers"),
    ]
    several = set(workers) != {"1"}
    return not several and _at_import(wanted) == _at_import(os.environ)


def _at_import(environment: Any) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_AT_IMPORT)}


def _fork(args: list[str], environment: Any, folder: Any, files: list[int]) -> tuple[int, int]:
    """Fork a command; return its process id and the pipe that its exit code will come through."""
    status, answers = os.pipe()
    request = {
        "args": [str(each) for each in args],
        "environment": dict(os.environ if environment is None else environment),
        "folder": os.getcwd() if folder is None else str(folder),
    }
    try:
        with _one_at_a_time:
            socket.send_fds(_origin(), [json.dumps(request).encode()], [*files, answers])
    finally:
        os.close(answers)
    pid = b""
    while not pid.endswith(b"\n"):
        part = os.read(status, 1)
        assert part, "the process that commands are forked from has ended"
        pid += part
    return int(pid), status


@functools.cache
def _origin() -> socket.socket:
    """Start the process that commands are forked from; return the connection to it. It ends when that is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKYARD_")}
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=environment,
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# -- the process that commands are forked from ----------------------------------------------------------------


def _serve(requests: socket.socket) -> None:
    """Fork a command for each request, and send its process id and then its exit code, until the connection is closed."""
    sys.path[0] = ""  # As `python -m` has it; not this folder.
    for module in _PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    ended, wake = os.pipe()
    for end in (ended, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    running: dict[int, int] = {}
    watched: list[Any] = [requests, ended]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if ended in ready:
            os.read(ended, 4096)
            _tell_ends(running)
        if requests not in ready:
            continue
        message, files, _, _ = socket.recv_fds(requests, _MAX_REQUEST_BYTES, 4)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            _become(json.loads(message), files)
        running[pid] = files.pop()
        for file in files:
            os.close(file)
        os.write(running[pid], b"%d\n" % pid)


def _tell_ends(running: dict[int, int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        answers = running.pop(pid)
        try:
            os.write(answers, b"%d" % os.waitstatus_to_exitcode(status))
        except BrokenPipeError:
            pass  # Nobody waits for it any longer.
        finally:
            os.close(answers)


def _become(request: dict[str, Any], files: list[int]) -> NoReturn:
    """Be the command, from its first line to its end."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for place, file in enumerate(files[:3]):
            os.dup2(file, place)
        os.closerange(3, _MAX_FILES)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(request["environment"])
        time.tzset()
        os.chdir(request["folder"])
        sys.argv = ["workyard", *request["args"]]
        runpy.run_module("workyard", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                code = 120  # As Python has it when the last words reach nobody.
        os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        _serve(connection)
