"""The commands `workyard enqueue` and `workyard timeline`: make work, and read what happened to it."""

from __future__ import annotations

import json
import sys

import click

from ..client import calls
from .options import Server, server_options


@click.command()
@server_options
@click.argument("environment_id")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 10_000), help="Number of items.")
@click.option(
    "--session-id", help="Session of the item, for a single item. A session that has an item gets a message instead."
)
def enqueue(server: Server, environment_id: str, count: int, session_id: str | None) -> None:
    """Enqueue work in an environment. Prints the ids of the items."""
    for item in server.send(calls.enqueue_work(environment_id, count, session_id))["data"]:
        click.echo(item["id"])


@click.command()
@server_options
@click.argument("work_id")
@click.option("--json", "as_json", is_flag=True, help="Print the whole timeline as one JSON object.")
def timeline(server: Server, work_id: str, as_json: bool) -> None:
    """Draw the timeline of a work item, with a diagnosis. Exits with 1 if the diagnosis names a problem."""
    found = server.send(calls.get_timeline(work_id))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(server.send(calls.get_timeline(work_id, as_text=True)), nl=False)
    if any(finding["severity"] == "problem" for finding in found["diagnosis"]):
        sys.exit(1)
