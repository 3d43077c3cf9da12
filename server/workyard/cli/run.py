"""The command `workyard run`: starts a server for one command, and ends it afterwards."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Mapping

import click

from .environment import new_environment
from .options import DEFAULT_API_KEY, Server

#: Seconds within which the server has to end.
_ENDED_WITHIN_S = 30.0
#: Signals to `workyard run` that are meant for its command.
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP) if sys.platform != "win32" else (signal.SIGTERM,)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--redis-url",
    envvar="WORKYARD_REDIS_URL",
    help="URL of the Redis that holds the data; unset: the embedded engine. [WORKYARD_REDIS_URL]",
)
@click.option(
    "--log-level", envvar="WORKYARD_LOG_LEVEL", default="warning", show_default=True, help="Log level of the server."
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(redis_url: str | None, log_level: str, command: tuple[str, ...]) -> None:
    """Start a server for one command.

    The server gets a free port. COMMAND runs with the variables of a client and of a worker; its exit code is passed on.
    """
    import subprocess

    arguments = [
        *(sys.executable, "-m", "workyard", "serve"),
        *("--port", "0", "--host", "127.0.0.1", "--log-level", log_level),
    ]
    # As a variable, not as an argument: every user of the machine can read arguments, and the URL may hold a password.
    inherited = dict(os.environ) if redis_url is None else {**os.environ, "WORKYARD_REDIS_URL": redis_url}
    held = _hold_signals()
    # In a session of its own: Ctrl-C is for the command, which may still need the server to clean up.
    process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=inherited, start_new_session=True
    )
    code = 1
    try:
        _handle_signals(lambda number: sys.exit(128 + number), held)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"is ready at (\S+)", line)
        if found is None:
            raise click.ClickException("the server did not start; its own message is above")
        server = Server(found[1], DEFAULT_API_KEY)
        try:
            variables = new_environment(server, "workyard-run")
        finally:
            server.close()
        code = _run_command(command, {**os.environ, **variables})
    finally:
        process.terminate()
        try:
            process.wait(_ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
    sys.exit(code)


def _run_command(command: tuple[str, ...], environment: Mapping[str, str]) -> int:
    """Run a command, pass signals on to it, and return its exit code as a shell reports it."""
    import subprocess

    held = _hold_signals()
    try:
        child = subprocess.Popen(command, env=environment)
    except FileNotFoundError:
        click.echo(f"workyard: command not found: {command[0]}", err=True)
        return 127
    except OSError as error:
        click.echo(f"workyard: cannot run {command[0]}: {error.strerror}", err=True)
        return 126
    _handle_signals(child.send_signal, held)
    # A terminal sends Ctrl-C to the whole process group, so the command receives it anyway.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = child.wait()
    return 128 - code if code < 0 else code


def _hold_signals() -> list[int]:
    """Hold signals back while a process is being started that cannot be ended yet; return the growing list of them."""
    held: list[int] = []
    for number in _PASSED_ON:
        signal.signal(number, lambda number, frame: held.append(number))
    return held


def _handle_signals(handle: Callable[[int], object], held: list[int]) -> None:
    """Handle signals from now on, beginning with the held ones."""
    for number in _PASSED_ON:
        signal.signal(number, lambda number, frame: handle(number))
    for earlier in held:
        handle(earlier)
