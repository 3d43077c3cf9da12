"""The commands `workyard skill` and `workyard memory`: send local folders to the server, and write them from it."""

from __future__ import annotations

from pathlib import Path

import click

from .files import file_errors
from .options import Server, server_options

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@server_options
@click.argument("folder", type=_FOLDER)
@click.option("--id", "skill_id", help="Id of the skill, `skill_…`; unset: made from the workspace and the name.")
def skill(server: Server, folder: Path, skill_id: str | None) -> None:
    """Send FOLDER as a skill that workers download. Prints the id of the skill.

    FOLDER must have a SKILL.md. Name and description come from SKILL.md. If a file has changed, a new version is made. Hidden files are left out.
    """
    from ..client.folders import send_skill

    with file_errors():
        click.echo(send_skill(server.send, folder, skill_id))


@click.command()
@server_options
@click.argument("folder", type=_FOLDER)
@click.option(
    "--store", help="Id of the memory store, `memstore_…`; unset: the newest store of the name, or a new one."
)
@click.option("--name", help="Name of the store, if --store is unset; unset: the name of the folder.")
@click.option("--pull", is_flag=True, help="Write the memories of --store into FOLDER instead.")
def memory(server: Server, folder: Path, store: str | None, name: str | None, pull: bool) -> None:
    """Make a memory store hold the files of FOLDER. Prints the id of the store.

    Memories that FOLDER does not have are deleted. Hidden files are left out. With --pull, files of FOLDER that the store does not have stay.
    """
    from ..client.folders import send_memories, write_memories

    with file_errors():
        if not pull:
            click.echo(send_memories(server.send, folder, name or folder.resolve().name, store))
        elif store is None:
            raise click.UsageError("--pull needs --store")
        else:
            click.echo(f"memories written: {write_memories(server.send, folder, store)}")
