"""The table of Redis keys: what is made of it, and the scripts that have to agree with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workyard_store.keys import KEYS, Key, lua_locals

ROOT = Path(__file__).parents[2]
READ = (ROOT / "queue/workyard_queue/lua/state_read.lua").read_text(encoding="utf-8")
#: What `_queue.lua` and `_session.lua` call the keys of an item and of a session.
HELPERS = {"WORK_": "work(", "SESSION_": "SESSION_"}
OF_ENVIRONMENTS = [key for key in KEYS if key.owner == "environment"]


def test_each_key_has_one_row() -> None:
    """And each local variable of Lua stands for one key."""
    assert len({str(key) for key in KEYS}) == len(KEYS)
    locals_ = [key.lua for key in OF_ENVIRONMENTS]
    assert len(set(locals_)) == len(locals_)
    assert all(locals_)


@pytest.mark.parametrize("key", OF_ENVIRONMENTS, ids=str)
def test_the_state_document_reads_what_is_exported_and_nothing_else(key: Key) -> None:
    """`state_read.lua` names the keys of an environment that have to come back."""
    name = HELPERS.get(key.lua, key.lua)
    read = re.search(rf"(?<!\w){re.escape(name)}", READ) is not None
    assert read == key.exported


def test_a_script_gets_the_names_that_it_uses() -> None:
    """No more: each costs a little at every run."""
    assert lua_locals("call('UNLINK', LEASES)") == "local LEASES = BASE .. 'leases'"
    assert lua_locals("unpack(PURGED_PER_SESSION)") == (
        "local PURGED_PER_SESSION = {BASE .. 'session:', BASE .. 'events:'}"
    )
