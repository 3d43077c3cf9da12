"""The commands `workyard reset` and `workyard invariants`: empty workspaces, and recount their queues."""

from __future__ import annotations

import sys

import click

from ..client import calls
from .options import ALL, Server, all_option, server_options


@click.command()
@server_options
@all_option
def reset(server: Server, everything: bool) -> None:
    """Remove everything of the workspace, or of all workspaces."""
    done = server.send(calls.reset(ALL if everything else None))
    click.echo(f"removed {done['removed_keys']} keys, {done['leftover_keys']} left over")
    if done["leftover_keys"]:
        sys.exit(1)


@click.command()
@server_options
@all_option
def invariants(server: Server, everything: bool) -> None:
    """Recount the queues from the raw keys. Exits with 1 if they contradict their rules."""
    found = server.send(calls.recount(ALL if everything else None))
    for each in found["violations"]:
        click.echo(f"{each['rule']}: {each['environment_id']} {each['work_id'] or ''}: {each['message']}")
    checked = found["checked"]
    looked_at = f"{checked['items_looked_at']} of {checked['items']} items in {checked['environments']} environments"
    click.echo(f"{checked['violations']} violations; looked at {looked_at} and {checked['keys']} keys")
    if checked["violations"]:
        sys.exit(1)
