"""The file of `--state`: read when a server starts, written when it stops. Source: docs/state.md."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workyard_queue.state.snapshots import StoredWorkspace
from workyard_store.errors import Conflict, InvalidRequest, StartupRefused

from ..settings import Settings, named
from ..wire.bodies import json_object
from .atomic_file import check_writable, write_json
from .document import render_workspace
from .rules import checked_server_state
from .shape import VERSION
from .stored import stored_of
from .stores import Stores

Loaded = list[tuple[str, StoredWorkspace]]


def read_state(settings: Settings) -> Loaded:
    """Return the workspaces of the file that the settings name, each with the data to store.

    Raises:
        StartupRefused: the file does not exist and is not to be written; it cannot be read; or it is not a valid state
            document: the message names each path.
    """
    if settings.state is None:
        return []
    path = Path(settings.state)
    try:
        if settings.save_state:
            check_writable(path)
            if not path.exists():
                return []
        workspaces = checked_server_state(json_object(path.read_bytes()))
        return [(str(each.workspace), stored_of(each)) for each in workspaces]
    except OSError as error:
        raise StartupRefused(f"{named('state')}: {error.filename}: {error.strerror}") from None
    except InvalidRequest as refusal:
        message = refusal.message.replace("Request body", "It", 1)
        raise StartupRefused(f"{named('state')}: {settings.state}: {message}") from None


async def restore(stores: Stores, workspace: str, stored: StoredWorkspace) -> None:
    """Replace the contents of a workspace by *stored*, which has been checked.

    Raises: the errors of `Snapshots.write`.
    """
    if stored.hashes["faults"]:
        stores.faults.store.heard_of_any = True
    await stores.snapshots.write(workspace, stored)


async def load_state(loaded: Loaded, stores: Stores) -> None:
    """Restore the contents of a file into an empty store.

    Raises:
        StartupRefused: the store is not empty.
    """
    if not loaded:
        return
    if await stores.workspaces.all():
        raise StartupRefused(
            f"{named('state')}: There is data under this key prefix already, which a restore would replace: "
            "omit --state to use that data, or use another --key-prefix"
        )
    try:
        for workspace, stored in loaded:
            await restore(stores, workspace, stored)
    except Conflict as conflict:
        raise StartupRefused(f"{named('state')}: {conflict.message}") from None


async def save_state(settings: Settings, stores: Stores) -> None:
    """Write the state of all workspaces to the file that the settings name: all of it, or nothing.

    Raises:
        StartupRefused: it cannot be written.
    """
    assert settings.state is not None
    found = [(each, await stores.snapshots.read(each)) for each in await stores.workspaces.all()]
    try:
        write_json(Path(settings.state), server_document(found))
    except OSError as error:
        raise StartupRefused(f"{named('save_state')}: {settings.state}: {error.strerror}") from None


def server_document(found: Iterable[tuple[str, StoredWorkspace]]) -> dict[str, Any]:
    """Return the document of several workspaces."""
    return {"version": VERSION, "workspaces": [render_workspace(name, stored) for name, stored in found]}
