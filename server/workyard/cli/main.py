"""The command `workyard`: adds the commands and groups of the other modules. No module of them imports this one."""

from __future__ import annotations

import click

from .clock import clock
from .environment import env
from .explain import explain
from .faults import faults
from .folders import memory, skill
from .journal import journal
from .run import run
from .scripts import scripts
from .serve import serve
from .state import state
from .watch import watch
from .work import enqueue, timeline
from .workspace import invariants, reset


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="workyard", prog_name="workyard")
def main() -> None:
    """A local emulator of the Environments and Work API of Claude Managed Agents.

    `workyard serve` starts it, without anything else to install. `workyard run -- CMD` starts it for one command.
    """


for command in (
    *(serve, run, env, enqueue, timeline, watch, journal, clock, scripts, faults, skill, memory, state, reset),
    *(invariants, explain),
):
    main.add_command(command)
