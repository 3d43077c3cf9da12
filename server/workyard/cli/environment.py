"""The command `workyard env`: prints the environment variables of a client."""

from __future__ import annotations

import json
import shlex

import click

from ..client import calls
from ..client.environment import client_variables
from .options import DEFAULT_API_KEY, DEFAULT_URL, Server


def new_environment(server: Server, name: str) -> dict[str, str]:
    """Create a self-hosted environment and a key for it; return the variables of a client and of a worker."""
    environment = server.send(calls.create_environment(name))["id"]
    key = server.send(calls.issue_key(environment, name))["key"]
    return client_variables(server.url, server.api_key, environment, key)


@click.command()
@click.option(
    "--url", envvar="WORKYARD_URL", default=DEFAULT_URL, show_default=True, help="URL of the server. [WORKYARD_URL]"
)
@click.option(
    "--api-key",
    envvar="WORKYARD_API_KEY",
    default=DEFAULT_API_KEY,
    show_default=True,
    help="API key to export. [WORKYARD_API_KEY]",
)
@click.option("--create", metavar="NAME", help="First create a self-hosted environment of this name, and a key for it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def env(url: str, api_key: str, create: str | None, as_json: bool) -> None:
    """Print the variables that a client must export. Use it as eval "$(workyard env)"."""
    if create is None:
        variables = client_variables(url, api_key)
    else:
        server = Server(url, api_key)
        click.get_current_context().call_on_close(server.close)
        variables = new_environment(server, create)
    if as_json:
        click.echo(json.dumps(variables, indent=2))
        return
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
