"""The commands `workyard clock …`: read and change the clock of a workspace. Source: docs/clock.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click

from ..client import calls
from .options import Server, server_options

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)?")
#: Unit → seconds.
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@click.group()
def clock() -> None:
    """Read and change the clock of a workspace (docs/clock.md)."""


def _print(reading: Mapping[str, Any]) -> None:
    """Print clocks, each with its pending timers or with those that have fired."""
    for row in reading.get("data", [reading]):
        prefix = f"{row['workspace']}: " if "workspace" in row else ""
        click.echo(f"{prefix}{row['now']} ({row['mode']}, {row['ahead_seconds']:+.6f} s)")
        for timer in row.get("fired", row.get("timers", [])):
            wait = f", in {timer['in_seconds']:.6f} s" if "in_seconds" in timer else ""
            about = timer["worker_id"] or " ".join(filter(None, (timer["work_id"], timer["session_id"])))
            click.echo(f"  {timer['at']} {timer['timer']} {timer['environment_id']} {about}{wait}")
        if row.get("more"):
            click.echo("  … and more")


def _change(server: Server, **change: object) -> None:
    _print(server.send(calls.change_clock(**change)))


@clock.command("show")
@server_options
def clock_show(server: Server) -> None:
    """Print the workspace's clock and its pending timers."""
    _print(server.send(calls.get_clock()))


@clock.command("advance")
@server_options
@click.argument("duration")
def clock_advance(server: Server, duration: str) -> None:
    """Move the clock forward, and print the timers that fire. DURATION is 30s, 500ms, 2m, 1h, or a number of seconds."""
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise click.BadParameter("write it as 30s, 500ms, 2m, 1h or a number of seconds", param_hint="DURATION")
    _change(server, advance_seconds=float(found[1]) * _UNITS[found[2]])


@clock.command("next")
@server_options
@click.option(
    "--timer", metavar="KIND", help="Go to the next timer of this kind: lapse, reclaim, …; earlier timers fire, too."
)
def clock_next(server: Server, timer: str | None) -> None:
    """Move the clock to the next timer, and print the timers that fire. Without a pending timer, the clock stays."""
    _change(server, advance_to_next=True, timer=timer)


@clock.command("auto")
@server_options
def clock_auto(server: Server) -> None:
    """Stop the clock, and let it jump to the next timer by itself whenever every poll waits."""
    _change(server, mode="auto")


@clock.command("freeze")
@server_options
@click.option("--at", help="RFC 3339 instant to stop at; not before the workspace's present one.")
def clock_freeze(server: Server, at: str | None) -> None:
    """Stop the clock, at its current instant or at a later one."""
    _change(server, mode="frozen", at=at)


@clock.command("real")
@server_options
def clock_real(server: Server) -> None:
    """Let the clock run on from its current instant."""
    _change(server, mode="real")
