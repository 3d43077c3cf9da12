"""Binds the queue's Lua files: the environment's head, the rules of the queue, then the script. Owns no rule itself."""

from __future__ import annotations

from importlib.resources import files

from workyard_store.access import SCRIPTS as STORE_SCRIPTS
from workyard_store.engine.engine import Script

_HERE = files("workyard_queue") / "lua"
_HEADS = (STORE_SCRIPTS / "_environment.lua", _HERE / "_queue.lua")


def queue_script(name: str) -> Script:
    """Return the script in `scripts/<name>.lua`."""
    return Script(name, *_HEADS, _HERE / f"{name}.lua")


def timer_script(name: str) -> Script:
    """Return the script in `scripts/<name>.lua`, with what tells of timers before it."""
    return Script(name, *_HEADS, STORE_SCRIPTS / "_profile.lua", _HERE / "_timers.lua", _HERE / f"{name}.lua")


def session_script(name: str) -> Script:
    """Return the script in `scripts/session_<name>.lua`, with the rules of sessions before it."""
    return Script(f"session_{name}", *_HEADS, _HERE / "_session.lua", _HERE / f"session_{name}.lua")
