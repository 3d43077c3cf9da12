"""The commands `workyard state …`: save and load all that a workspace holds. Source: docs/state.md."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..client import calls
from ..state.atomic_file import write_json
from .files import FILE, file_errors, read_text
from .options import Server, server_options


@click.group()
def state() -> None:
    """Save and load all that a workspace holds (docs/state.md)."""


@state.command("save")
@server_options
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
def state_save(server: Server, file: str) -> None:
    """Write the state of the workspace to FILE; `-` is standard output."""
    document = server.send(calls.export_state())
    if file == "-":
        click.echo(json.dumps(document, ensure_ascii=False, indent=1))
        return
    with file_errors():
        write_json(Path(file), document)
    click.echo(f"saved {len(document['environments'])} environments to {file}")


@state.command("load")
@server_options
@click.argument("file", type=FILE)
def state_load(server: Server, file: str) -> None:
    """Replace all that the workspace holds by the state in FILE; `-` is standard input."""
    try:
        document = json.loads(read_text(file))
    except ValueError:
        raise click.ClickException(f"{file}: not JSON") from None
    done = server.send(calls.restore_state(document))
    click.echo(f"loaded {done['environments']} environments, {done['work']} work items, {done['sessions']} sessions")
