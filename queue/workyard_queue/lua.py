"""Binds the queue's Lua files: the environment's head, the rules of the queue, then the script. Owns no rule itself."""

from __future__ import annotations

from importlib.resources import files

from workyard_store.access import SCRIPTS as STORE_SCRIPTS
from workyard_store.redis import Script

_HERE = files("workyard_queue") / "scripts"


def queue_script(name: str) -> Script:
    """Return the script in `scripts/<name>.lua`."""
    return Script(name, STORE_SCRIPTS / "_environment.lua", _HERE / "_queue.lua", _HERE / f"{name}.lua")
