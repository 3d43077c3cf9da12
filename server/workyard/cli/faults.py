"""The commands `workyard faults …`: make API calls fail on purpose. Source: docs/faults.md."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

import click

from workyard_store.errors import InvalidRequest

from .main import _call, _server_options, main

_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)


@main.group()
def faults() -> None:
    """Make API calls fail on purpose: single rules, and scenarios of several rules (docs/faults.md)."""


def _add(url: str, api_key: str, body: Mapping[str, Any] | str, *, replace: bool) -> None:
    query = "?replace=true" if replace else ""
    for row in _call(url, api_key, "POST", f"/_emulator/faults{query}", body)["data"]:
        _show(row)


def _show(row: Mapping[str, Any]) -> None:
    rule = dict(row["rule"])
    name = f" {rule.pop('name')}" if "name" in rule else ""
    left = "no bound" if row["left"] is None else f"{row['left']} left"
    until = f", until {row['ends_at']}" if row["ends_at"] else ""
    click.echo(f"{row['id']}{name}: {row['hits']} of {row['asked']} calls hit, {left}{until}: {json.dumps(rule)}")


def _text(path: str) -> str:
    try:
        with click.open_file(path, encoding="utf-8-sig") as file:
            return str(file.read())
    except UnicodeDecodeError:
        raise click.ClickException(f"{path}: not UTF-8") from None


@faults.command("add")
@_server_options
@click.option("--replace", is_flag=True, help="In place of the rules there are.")
@click.argument("rule")
def faults_add(url: str, api_key: str, replace: bool, rule: str) -> None:
    """Add RULE, JSON or YAML such as '{on: ack, do: {status: 503}}'; `-` reads it, or several, from standard input."""
    _add(url, api_key, _text("-") if rule == "-" else rule, replace=replace)


@faults.command("list")
@_server_options
def faults_list(url: str, api_key: str) -> None:
    """List the rules, with how often each was applied."""
    for row in _call(url, api_key, "GET", "/_emulator/faults")["data"]:
        _show(row)


@faults.command("clear")
@_server_options
@click.argument("fault_id", required=False)
def faults_clear(url: str, api_key: str, fault_id: str | None) -> None:
    """Remove the rule FAULT_ID, or all."""
    path = "/_emulator/faults" if fault_id is None else f"/_emulator/faults/{urllib.parse.quote(fault_id, safe='')}"
    click.echo(f"removed {_call(url, api_key, 'DELETE', path)['removed']}")


@faults.command("scenarios")
def faults_scenarios() -> None:
    """List the ready scenarios."""
    from ..faults.rules import ready_scenario, ready_scenarios

    for name in ready_scenarios():
        click.echo(f"{name}: {' '.join((ready_scenario(name).description or '').split())}")


@faults.command("show")
@click.argument("name")
def faults_show(name: str) -> None:
    """Print a ready scenario as YAML: a start for one of your own."""
    from ..faults.rules import ready_scenario, ready_scenarios

    try:
        ready_scenario(name)
    except InvalidRequest as error:
        raise click.ClickException(error.message) from None
    click.echo(ready_scenarios()[name], nl=False)


@faults.command("run")
@_server_options
@click.option(
    "--environment", "environment_id", metavar="ID", help="For this environment; unset: for all. Ready ones only."
)
@click.option(
    "--seed", type=int, help="Decides what probabilities come to; unset: as the scenario says. Ready ones only."
)
@click.option("--replace", is_flag=True, help="In place of the rules there are.")
@click.argument("name_or_file")
def faults_run(
    url: str, api_key: str, environment_id: str | None, seed: int | None, replace: bool, name_or_file: str
) -> None:
    """Put a ready scenario into force, by its name, or one in a file, by its path."""
    from ..faults.rules import ready_scenarios

    given = {"environment_id": environment_id, "seed": seed}
    options = {name: value for name, value in given.items() if value is not None}
    if name_or_file in ready_scenarios():
        _add(url, api_key, {"scenario": name_or_file, **options}, replace=replace)
    elif options:
        raise click.UsageError("--environment and --seed go with the name of a ready scenario")
    else:
        _add(url, api_key, _checked(name_or_file), replace=replace)


@faults.command("check")
@click.argument("file", type=_FILE)
def faults_check(file: str) -> None:
    """Check a scenario in YAML or JSON, without a server; exits with 1 and names the path of each problem."""
    from ..faults.rules import read_scenario

    click.echo(f"{file}: {len(read_scenario(_checked(file)).rules)} rules, no problem")


def _checked(path: str) -> str:
    from ..faults.rules import read_scenario

    try:
        text = _text(path)
        read_scenario(text)
    except (InvalidRequest, OSError) as error:
        reason = getattr(error, "message", None) or getattr(error, "strerror", None) or str(error)
        hint = "" if isinstance(error, InvalidRequest) else "; `workyard faults scenarios` names the ready ones"
        raise click.ClickException(f"{path}: {reason}{hint}") from None
    return text
