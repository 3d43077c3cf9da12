"""The one place where Redis keys are built. Owns every key name; reads and writes nothing.

`KEYS` has one row per key. It generates the names that Lua scripts use, the lists of keys that a purge and a reset remove,
the list of keys that the state document holds, and the page docs/redis-keys.md.

All keys of one environment, its sessions included, share the hash tag `{env_…}`, all of one workspace `{wrkspc_…}`, so a
script touches one slot of a Redis Cluster. Scripts get the first key in full and derive the rest from the same suffixes
(`lua_locals`). No key has a TTL: time belongs to the workspace's clock, which Redis does not know.

`<prefix>:wake` is a publish/subscribe channel, not a key: `engine/wake.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Owner = Literal["server", "workspace", "environment", "session"]
RedisType = Literal["string", "hash", "set", "zset", "stream"]
#: `never`; `delete`: by the step that deletes its owner; `purge`: after an environment was deleted; `reset`: with the
#: workspace.
Purged = Literal["never", "delete", "purge", "reset"]


@dataclass(frozen=True, slots=True)
class Key:
    """One Redis key, or one a work item or session.

    Attributes:
        owner: `server`: one for the key prefix; else one a workspace, environment or session.
        name: its suffix; one that ends in a colon is followed by the id of a work item or session.
        type: what Redis stores there.
        purged: which step removes the key as a whole. Others may remove it earlier, or members of it.
        exported: whether the state document (`/_emulator/state`) holds it; the rest is internal, or follows from the rest.
        holds: its contents, in one line of Markdown.
        lua: the local variable that has its name in Lua scripts; of environments only.
        per: which id follows the name.
    """

    owner: Owner
    name: str
    type: RedisType
    purged: Purged
    exported: bool
    holds: str
    lua: str = ""
    per: Literal["", "work", "session"] = ""

    def __str__(self) -> str:
        """Return the key as the documentation writes it: `wy:{env}:work:<work id>`."""
        tag = {"server": "", "workspace": "{workspace}:", "environment": "{env}:", "session": "{session}:"}[self.owner]
        return f"wy:{tag}{self.name}" + (f"<{self.per} id>" if self.per else "")


def _of_workspace(name: str, type_: RedisType, holds: str, *, exported: bool = True) -> Key:
    return Key("workspace", name, type_, "reset", exported, holds)


def _of_environment(
    name: str,
    type_: RedisType,
    holds: str,
    *,
    lua: str,
    exported: bool = True,
    per: Literal["", "work", "session"] = "",
) -> Key:
    return Key("environment", name, type_, "purge", exported, holds, lua, per)


KEYS = (
    Key("server", "format", "string", "never", False, "the data format version of everything under the prefix"),
    Key("server", "workspaces", "set", "never", False, "every workspace that was ever written to; a reset removes its own"),
    Key("server", "purge", "zset", "never", False, "environments that are being deleted, by wall time of the intent"),
    _of_workspace("state", "hash", "creation sequence, clock, settings, their generation"),
    _of_workspace("envs", "zset", "its environments by creation sequence"),
    _of_workspace("live", "zset", "the same without the archived environments", exported=False),
    _of_workspace("sessions", "zset", "`<session id> <environment id>` by creation sequence"),
    _of_workspace("agents", "hash", "agent id → instant of its creation, and its definition"),
    _of_workspace("scripts", "hash", "name → script of agents, as JSON"),
    _of_workspace("skills", "hash", "skill id → its record"),
    _of_workspace("skill_versions", "hash", "`<skill id> <version>` → the description of the version"),
    _of_workspace("skill_archives", "hash", "`<skill id> <version>` → the zip archive of the version, in base64"),
    _of_workspace("stores", "hash", "memory store id → its record"),
    _of_workspace("store_sizes", "hash", "`<store id> count`, `<store id> bytes` → of its memories", exported=False),
    _of_workspace("memories", "hash", "memory id → its record"),
    _of_workspace("memory_texts", "hash", "memory id → its content"),
    _of_workspace("memory_paths", "zset", "`<store id> <path>\\n<memory id>`, all of score 0", exported=False),
    _of_workspace("requests", "stream", "the journal: the last requests, in the batches they were written in", exported=False),
    _of_workspace("journal", "hash", "how many requests were journaled, and what the journal counts of them", exported=False),
    _of_workspace("faults", "hash", "number → `<end us>\\n<fault rule as JSON>`; `version`"),
    _of_workspace("fault_counts", "hash", "how often each fault rule was asked, and how often it was applied"),
    Key("session", "at", "set", "purge", False, "environments where a session of this id was created or looked for"),
    Key("environment", "env", "hash", "delete", True, "the record, its clock and settings, queue counters", "ENV"),
    _of_environment("work:", "hash", "one work item", lua="WORK_", per="work"),
    _of_environment(
        "tokens:",
        "set",
        "SHA-256 of the sessions tokens minted since the last enqueue; a re-queue removes it",
        lua="TOKENS_",
        per="work",
    ),
    _of_environment("stream", "stream", "one live entry a queued item; settled entries until trimmed", lua="STREAM"),
    _of_environment("polled", "zset", "pending entries by the time of their hand-out", lua="POLLED"),
    _of_environment("leases", "zset", "`<sequence>:<work id>` by the end of the lease", lua="LEASES"),
    _of_environment("index", "zset", "work ids by creation sequence", lua="INDEX"),
    _of_environment("pollers", "zset", "worker ids by their last poll", lua="POLLERS"),
    _of_environment(
        "seen", "zset", "in mode auto: worker ids by the wall time of their last poll", lua="SEEN", exported=False
    ),
    _of_environment("keys", "hash", "SHA-256 of an environment key → its record as JSON", lua="KEYS_"),
    _of_environment("idem", "hash", "idempotency key → fingerprint of the enqueue it stands for", lua="IDEM"),
    _of_environment(
        "session:", "hash", "one session: its record, its status, the agent's state", lua="SESSION_", per="session"
    ),
    _of_environment("events:", "stream", "the events of the session", lua="EVENTS_", per="session"),
    _of_environment("sessions", "zset", "session ids by creation sequence in the environment", lua="SESSIONS"),
    _of_environment("due", "zset", "session ids by the instant at which their agent has to act", lua="DUE"),
    _of_environment("life", "stream", "the last events of the timelines of its work items", lua="LIFE"),
    _of_environment("restore", "string", "which restore writes it, until that ends", lua="RESTORE", exported=False),
)  # fmt: skip

#: Suffixes of a workspace's keys: a reset removes them.
WORKSPACE_NAMES = tuple(key.name for key in KEYS if key.owner == "workspace")
#: Hashes of a workspace that the state document holds as they are.
EXPORTED_HASHES = tuple(
    key.name for key in KEYS if key.owner == "workspace" and key.type == "hash" and key.exported and key.name != "state"
)


def _lua_definitions() -> dict[str, str]:
    """Return what each local variable of the prelude stands for in Lua."""
    named = {key.lua: f"BASE .. '{key.name}'" for key in KEYS if key.lua and key.lua != "ENV"}
    purged = [key for key in KEYS if key.owner == "environment" and key.purged == "purge"]
    for name, per in (("PURGED", ""), ("PURGED_PER_WORK", "work"), ("PURGED_PER_SESSION", "session")):
        listed = ", ".join(f"BASE .. '{key.name}'" for key in purged if key.per == per)
        named[name] = f"{{{listed}}}"
    return named


_LUA = _lua_definitions()


def lua_locals(text: str) -> str:
    """Return the Lua lines that define the key names and lists of keys that the text of a script uses.

    `BASE` is what the keys of the environment start with. `PURGED` lists the keys that a purge removes, `PURGED_PER_WORK`
    and `PURGED_PER_SESSION` the keys to which the id of each item or session must be appended.
    """
    used = set(re.findall(r"\w+", text))
    return "\n".join(f"local {name} = {value}" for name, value in _LUA.items() if name in used)


class Keys:
    """Build the keys under one prefix (the setting `key_prefix`)."""

    def __init__(self, prefix: str = "wy") -> None:
        self.prefix = prefix
        self.format = f"{prefix}:format"
        self.workspaces = f"{prefix}:workspaces"
        self.purge = f"{prefix}:purge"
        self.wake = f"{prefix}:wake"

    def workspace(self, workspace: str, name: str = "state") -> str:
        """Return a workspace's key: its name is in `WORKSPACE_NAMES`."""
        return f"{self.prefix}:{{{workspace}}}:{name}"

    def environment(self, environment_id: str, name: str = "env") -> str:
        """Return an environment's key; *name* is the suffix of a row in `KEYS`, with an id where one follows."""
        return f"{self.prefix}:{{{environment_id}}}:{name}"

    def session_at(self, session_id: str) -> str:
        """Return the key that holds the environments where a session is."""
        return f"{self.prefix}:{{{session_id}}}:at"

    def of(self, tag: str) -> str:
        """Return what every key of one environment or workspace starts with."""
        return f"{self.prefix}:{{{tag}}}:"

    def tag(self, key: str) -> str:
        """Return the environment, workspace or session that a key belongs to, or an empty string."""
        head = self.of("")[:-2]
        return key[len(head) : key.find("}")] if key.startswith(head) else ""
