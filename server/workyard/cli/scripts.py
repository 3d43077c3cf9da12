"""The commands `workyard scripts …`: check, set and follow the scripts of agents. Source: docs/agent-scripts.md."""

from __future__ import annotations

import json
import sys

import click

from workyard_store.errors import InvalidRequest

from ..client import calls
from .files import FILE, read_text
from .options import Server, server_options


@click.group()
def scripts() -> None:
    """Check, set and show scripts of agents (docs/agent-scripts.md)."""


def _read(path: str) -> tuple[str, int]:
    """Read a script from a file; `-` is standard input. Return its text and its number of steps.

    Raises:
        click.ClickException: the script is invalid; the text names each step and field.
    """
    from workyard_queue.agent import parse_script

    text = read_text(path)
    try:
        return text, len(parse_script(text).steps)
    except InvalidRequest as error:
        raise click.ClickException(f"{path}: {error.message}") from None


@scripts.command("check")
@click.argument("file", type=FILE)
def scripts_check(file: str) -> None:
    """Check a script in YAML or JSON, without a server. Exits with 1 if it is invalid, and names each wrong step and field."""
    _, steps = _read(file)
    click.echo(f"{file}: {steps} steps, no problem")


@scripts.command("set")
@server_options
@click.option("--session", "session_id", metavar="ID", help="Set it for this session, from the next message on.")
@click.option("--name", metavar="NAME", help="Set it under this name; unset: as the default of the workspace.")
@click.argument("file", type=FILE)
def scripts_set(server: Server, session_id: str | None, name: str | None, file: str) -> None:
    """Set the script of a session or of the workspace. FILE is YAML or JSON."""
    if session_id is not None and name is not None:
        raise click.UsageError("--session and --name exclude each other")
    text, _ = _read(file)
    if session_id is not None:
        server.send(calls.put_session_script(session_id, text))
        click.echo(f"set for session {session_id}")
    else:
        server.send(calls.put_script(name or "default", text))
        click.echo(f"set as {name or 'default'}")


@scripts.command("show")
@server_options
@click.argument("session_id")
@click.option("--json", "as_json", is_flag=True, help="Print the script and its report as one JSON object.")
def scripts_show(server: Server, session_id: str, as_json: bool) -> None:
    """Print the progress of a session's script. Exits with 1 if the session has not followed it."""
    found = server.send(calls.get_session_script(session_id))
    report = found["report"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        step = "-" if report["step"] is None else report["step"]
        click.echo(f"{report['progress']} (step {step} of {report['steps']}, {found['source']}): {report['reason']}")
        for each in report["open_calls"]:
            until = f" until {each['until']}" if each["until"] else ""
            click.echo(f"open: {each['name']} {each['id']} waits for its {each['waits_for']}{until}")
        for each in report["unexpected"]:
            click.echo(f"unexpected: {each['event_id']} {each['call_id']} {each['problem']}")
        for each in report["timeouts"]:
            click.echo(f"timeout: step {each['step']} {each['name']} {each['call_id']}: no {each['waited_for']}")
    if report["turns_failed"] or report["unexpected_count"] or report["timeouts_count"]:
        sys.exit(1)
