"""What the commands that call a server share: their options, and the server as they call it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import click

from ..client.connection import Connection, Request, WorkyardRefused, WorkyardUnreachable

DEFAULT_URL = "http://127.0.0.1:4010"
DEFAULT_API_KEY = "workyard-local"
#: The value of `workspace` that means all workspaces.
ALL = "*"
P = ParamSpec("P")


class Server:
    """A workspace on a server.

    Attributes:
        url: the URL of the server.
        api_key: the API key of the workspace.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self.url, self.api_key = url, api_key
        self._connection: Connection | None = None

    def send(self, request: Request) -> Any:
        """Send a request and return its answer.

        Raises:
            click.ClickException: there is no answer, or it is an error; the text is the server's message.
        """
        try:
            if self._connection is None:
                self._connection = Connection(self.url)
            return self._connection.send(request, self.api_key)
        except WorkyardRefused as refusal:
            raise click.ClickException(refusal.message) from None
        except WorkyardUnreachable as error:
            raise click.ClickException(f"{error}. Is `workyard serve` running there?") from None
        except ValueError as error:
            raise click.ClickException(str(error)) from None

    def close(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            self._connection.close()


def server_options(command: Callable[Concatenate[Server, P], None]) -> Callable[..., None]:
    """Add the options `--url` and `--api-key`, and call the command with the server that they name."""

    @functools.wraps(command)
    def call(*, url: str, api_key: str, **options: Any) -> None:
        server = Server(url, api_key)
        click.get_current_context().call_on_close(server.close)
        command(server, **options)  # type: ignore[call-arg]

    with_key = click.option(
        "--api-key",
        envvar=["WORKYARD_API_KEY", "ANTHROPIC_API_KEY"],
        default=DEFAULT_API_KEY,
        help="API key of the workspace. [WORKYARD_API_KEY, ANTHROPIC_API_KEY; default: workyard-local]",
    )(call)
    return click.option(
        "--url",
        envvar="WORKYARD_URL",
        default=DEFAULT_URL,
        show_default=True,
        help="URL of the server. [WORKYARD_URL]",
    )(with_key)


#: For commands that act on one workspace, or on all.
all_option = click.option(
    "--all", "everything", is_flag=True, help="Act on all workspaces, not only on that of the API key."
)
