"""The commands `workyard faults …`: make API calls fail on purpose. Source: docs/faults.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from workyard_store.errors import InvalidRequest

from ..client import calls
from .files import FILE, read_text
from .options import Server, server_options

_replace_option = click.option("--replace", is_flag=True, help="Remove the present rules.")


@click.group()
def faults() -> None:
    """Make API calls fail on purpose (docs/faults.md)."""


def _add(server: Server, body: Mapping[str, Any] | str, *, replace: bool) -> None:
    for row in server.send(calls.add_faults(body, replace=replace))["data"]:
        _print(row)


def _print(row: Mapping[str, Any]) -> None:
    rule = dict(row["rule"])
    name = f" {rule.pop('name')}" if "name" in rule else ""
    left = "no bound" if row["left"] is None else f"{row['left']} left"
    until = f", until {row['ends_at']}" if row["ends_at"] else ""
    click.echo(f"{row['id']}{name}: {row['hits']} of {row['asked']} calls hit, {left}{until}: {json.dumps(rule)}")


@faults.command("add")
@server_options
@_replace_option
@click.argument("rule")
def faults_add(server: Server, replace: bool, rule: str) -> None:
    """Add RULE, JSON or YAML such as '{on: ack, do: {status: 503}}'; `-` reads one or several from standard input."""
    _add(server, read_text("-") if rule == "-" else rule, replace=replace)


@faults.command("list")
@server_options
def faults_list(server: Server) -> None:
    """List the rules, and how often each was applied."""
    for row in server.send(calls.list_faults())["data"]:
        _print(row)


@faults.command("clear")
@server_options
@click.argument("fault_id", required=False)
def faults_clear(server: Server, fault_id: str | None) -> None:
    """Remove the rule FAULT_ID, or all rules."""
    done = server.send(calls.clear_faults() if fault_id is None else calls.delete_fault(fault_id))
    click.echo(f"removed {done['removed']}")


@faults.command("scenarios")
def faults_scenarios() -> None:
    """List the ready scenarios."""
    from ..faults.scenarios import ready_scenario, ready_scenarios

    for name in ready_scenarios():
        click.echo(f"{name}: {' '.join((ready_scenario(name).description or '').split())}")


@faults.command("show")
@click.argument("name")
def faults_show(name: str) -> None:
    """Print a ready scenario as YAML, to start a scenario of your own from."""
    from ..faults.scenarios import ready_scenario, ready_scenarios

    try:
        ready_scenario(name)
    except InvalidRequest as error:
        raise click.ClickException(error.message) from None
    click.echo(ready_scenarios()[name], nl=False)


@faults.command("run")
@server_options
@click.option(
    "--environment",
    "environment_id",
    metavar="ID",
    help="Apply a ready scenario to this environment only; unset: to all.",
)
@click.option("--seed", type=int, help="Seed of a ready scenario's probabilities; unset: the scenario's own.")
@_replace_option
@click.argument("name_or_file")
def faults_run(server: Server, environment_id: str | None, seed: int | None, replace: bool, name_or_file: str) -> None:
    """Add the rules of a scenario: a ready one by its name, or a file by its path."""
    from ..faults.scenarios import ready_scenarios

    options = {"environment_id": environment_id, "seed": seed}
    set_ones = {name: value for name, value in options.items() if value is not None}
    if name_or_file in ready_scenarios():
        _add(server, {"scenario": name_or_file, **set_ones}, replace=replace)
    elif set_ones:
        raise click.UsageError("--environment and --seed need the name of a ready scenario")
    else:
        _add(server, _check(name_or_file)[0], replace=replace)


@faults.command("check")
@click.argument("file", type=FILE)
def faults_check(file: str) -> None:
    """Check a scenario in YAML or JSON, without a server. Exits with 1 if it is invalid, and names the path of each problem."""
    _, rules = _check(file)
    click.echo(f"{file}: {rules} rules, no problem")


def _check(path: str) -> tuple[str, int]:
    """Return the text of a scenario file and its number of rules.

    Raises:
        click.ClickException: it cannot be read, or is invalid; the text names the path of each problem.
    """
    from ..faults.scenarios import read_scenario

    try:
        text = read_text(path)
        return text, len(read_scenario(text).rules)
    except InvalidRequest as error:
        raise click.ClickException(f"{path}: {error.message}") from None
    except OSError as error:
        hint = "`workyard faults scenarios` lists the ready scenarios"
        raise click.ClickException(f"{path}: {error.strerror}; {hint}") from None
