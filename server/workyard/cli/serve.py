"""The command `workyard serve`: starts the server. Each setting is an option."""

from __future__ import annotations

import gc
import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from workyard_store.errors import StartupRefused

from ..client.environment import client_variables
from .options import DEFAULT_API_KEY


class _Serve(click.Command):
    """A command with an option for each setting, with the setting's default and description.

    The options are made on demand, so that other commands need not wait for the import of the settings.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options."""
        if not self.params:
            self.params = list(_settings_options())
        return super().get_params(ctx)


def _settings_options() -> Iterator[click.Parameter]:
    from ..settings import Settings

    for name, field in Settings.model_fields.items():
        variable = f"WORKYARD_{name.upper()}"
        names = [f"--{name.replace('_', '-')}", name]
        if field.annotation is bool:
            yield click.Option(names, is_flag=True, default=None, help=f"{field.description} [{variable}]")
            continue
        default = "unset" if field.default is None else field.default
        text = f"{field.description} [{variable}; default: {default}]"
        yield click.Option(names, default=None, metavar=_metavar(field.annotation), help=text)


def _metavar(annotation: Any) -> str:
    choices = getattr(annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return "|".join(choices)
    return "N" if annotation is int else "TEXT"


@click.command(cls=_Serve)
def serve(**options: Any) -> None:
    """Start the server. When it is ready, it prints a line, then the variables that a client must export."""
    # Starting makes almost no garbage: the collections alone would take 0.1 s of the start.
    gc.disable()
    from .. import __version__

    try:
        from ..observability import logs
        from ..serving.server import serve as run_server
        from ..serving.server import spare_collections
        from ..settings import load
    except StartupRefused as refusal:  # uvicorn or FastAPI lacks a private name that is used
        raise click.ClickException(refusal.message) from None

    def ready(url: str, engine: str, seeded: Mapping[str, str]) -> None:
        spare_collections()
        gc.enable()
        click.echo(f"Workyard {__version__} is ready at {url} (engine: {engine})")
        for name, value in {**client_variables(url, DEFAULT_API_KEY), **seeded}.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()

    try:
        settings = load(**options)
        logs.configure(settings.log_level, settings.log_format)
        run_server(settings, ready)
    except StartupRefused as refusal:
        raise click.ClickException(refusal.message) from None
    finally:
        gc.enable()
