"""The page of the Redis keys."""

from __future__ import annotations

from collections.abc import Iterator

from tools.docs.reference import code, page, table
from workyard_store.keys import KEYS, Key

_TOP = """\
# Redis keys

All keys start with the `--key-prefix` (`wy` here). No key has a TTL: time belongs to the clock of the workspace, which
Redis does not know. `wy:wake` is a publish/subscribe channel, not a key.

"Removed by" names the step that removes the key as a whole. *delete* removes the record of an environment, *purge* the
rest of a deleted environment, *reset* the workspace. The [state of a workspace](state.md) holds what is marked in the
column "state"; Workyard works out the rest, or needs it only while it runs.
"""
_OWNERS = {
    "server": "Once a key prefix",
    "workspace": "Once a workspace",
    "environment": "Once an environment, or an item or session of it",
    "session": "Once a session id",
}


def keys_page() -> str:
    """Return the page of the Redis keys: a table an owner."""
    head = ("key", "type", "removed by", "state", "contents")
    parts = [
        f"## {title}\n\n{table(head, list(_rows(key for key in KEYS if key.owner == owner)))}"
        for owner, title in _OWNERS.items()
    ]
    return page("store/workyard_store/keys.py", _TOP, *parts)


def _rows(keys: Iterator[Key]) -> Iterator[tuple[str, ...]]:
    for key in keys:
        yield code(key), key.type, key.purged, "yes" if key.exported else "", key.holds
