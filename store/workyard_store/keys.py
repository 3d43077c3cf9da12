"""The one place where Redis keys are built. Owns every key name; reads and writes nothing.

All keys of one environment, its sessions included, share the hash tag `{env_…}`, all of one workspace `{wrkspc_…}`, so a
script touches one slot of a Redis Cluster. Scripts get the first key in full and derive the rest from the same suffixes (`LUA_NAMES`).

| key                         | type   | deleted by         | holds                                                          |
|-----------------------------|--------|--------------------|----------------------------------------------------------------|
| `wy:format`                 | string | nobody             | the data format version of everything under the prefix         |
| `wy:workspaces`             | set    | reset (its member) | every workspace that was ever written to                       |
| `wy:purge`                  | zset   | the purge          | environments being deleted, by wall time of the intent         |
| `wy:{ws}:state`             | hash   | reset              | creation sequence, clock, settings, their generation           |
| `wy:{ws}:envs`              | zset   | reset, purge       | its environments by creation sequence                          |
| `wy:{ws}:live`              | zset   | reset, purge       | the same without the archived ones                             |
| `wy:{ws}:sessions`          | zset   | reset, purge       | `<session id> <environment id>` by creation sequence           |
| `wy:{ws}:agents`            | hash   | reset              | agent id → instant of its creation and its definition          |
| `wy:{ws}:scripts`           | hash   | reset              | name → script of agents, as JSON                               |
| `wy:{ws}:skills`            | hash   | reset              | skill id → its record                                          |
| `wy:{ws}:skill_versions`    | hash   | reset              | `<skill id> <version>` → the version's description             |
| `wy:{ws}:skill_archives`    | hash   | reset              | `<skill id> <version>` → the version's zip archive in base64   |
| `wy:{ws}:stores`            | hash   | reset              | memory store id → its record                                   |
| `wy:{ws}:store_sizes`       | hash   | reset              | `<store id> count`, `<store id> bytes` → of its memories       |
| `wy:{ws}:memories`          | hash   | reset              | memory id → its record                                         |
| `wy:{ws}:memory_texts`      | hash   | reset              | memory id → its content                                        |
| `wy:{ws}:memory_paths`      | zset   | reset              | `<store id> <path>\\n<memory id>`, all of score 0               |
| `wy:{ws}:requests`          | stream | reset              | the journal: the last requests, in batches as they were written |
| `wy:{ws}:journal`           | hash   | reset              | how many requests were journaled, and what it counts of them   |
| `wy:{ws}:faults`            | hash   | reset              | number → `<end us>\\n<fault rule as JSON>`; `version`           |
| `wy:{ws}:fault_counts`      | hash   | reset              | how often each rule was asked, and how often it was applied    |
| `wy:{session}:at`           | set    | delete, purge      | environments where a session of this id was made or looked for |
| `wy:{env}:env`              | hash   | delete             | the record, its clock and settings, queue counters             |
| `wy:{env}:work:<id>`        | hash   | purge              | one work item                                                  |
| `wy:{env}:tokens:<id>`      | set    | re-queue, purge    | SHA-256 of the sessions tokens minted since the last enqueue   |
| `wy:{env}:stream`           | stream | purge              | one live entry a queued item; settled ones until trimmed       |
| `wy:{env}:polled`           | zset   | purge              | pending entries by the time of their hand-out                  |
| `wy:{env}:leases`           | zset   | purge              | `<sequence>:<work id>` by the lease's end                      |
| `wy:{env}:index`            | zset   | purge              | work ids by creation sequence                                  |
| `wy:{env}:pollers`          | zset   | purge              | worker ids by their last poll                                  |
| `wy:{env}:seen`             | zset   | purge              | in mode auto: worker ids by the wall time of their last poll   |
| `wy:{env}:keys`             | hash   | purge              | SHA-256 of an environment key → JSON of what is known of it    |
| `wy:{env}:idem`             | hash   | purge              | idempotency key → fingerprint of the enqueue it stands for     |
| `wy:{env}:session:<id>`     | hash   | delete, purge      | one session: its record, its status, the agent's state         |
| `wy:{env}:events:<id>`      | stream | delete, purge      | the session's events                                           |
| `wy:{env}:sessions`         | zset   | purge              | session ids by creation sequence in the environment            |
| `wy:{env}:due`              | zset   | purge              | session ids by the instant at which their agent has to act     |
| `wy:{env}:life`             | stream | purge              | the last events in the lives of its work items                 |
| `wy:{env}:restore`          | string | restore, purge     | which restore writes it, until that ends                       |

No key has a TTL: time belongs to the workspace's clock, which Redis does not know.
`wy:wake` is a publish/subscribe channel, not a key. Its messages: `<environment>`: there is work, wake one poll;
`<environment>!`: something else changed, wake all; `<environment>~`: time may have come for an agent; `<environment>#`: one that is
watched has changed, or is new; `<session>`: it has
events; `<session>!<us>`: it was deleted at this instant; `?…` and `!…`: questions of server processes to each other and
their answers (`workyard/questions.py`).
"""

from __future__ import annotations

#: Suffixes of an environment's keys that the Lua prelude turns into locals.
LUA_NAMES = {
    "STREAM": "stream",
    "POLLED": "polled",
    "LEASES": "leases",
    "INDEX": "index",
    "POLLERS": "pollers",
    "SEEN": "seen",
    "KEYS_": "keys",
    "IDEM": "idem",
    "WORK_": "work:",
    "TOKENS_": "tokens:",
    "SESSIONS": "sessions",
    "SESSION_": "session:",
    "EVENTS_": "events:",
    "DUE": "due",
    "LIFE": "life",
    "RESTORE": "restore",
}

#: Suffixes of a workspace's keys that only a reset removes as a whole.
WORKSPACE_NAMES = (
    "state",
    "envs",
    "live",
    "sessions",
    "agents",
    "scripts",
    "skills",
    "skill_versions",
    "skill_archives",
    "stores",
    "store_sizes",
    "memories",
    "memory_texts",
    "memory_paths",
    "requests",
    "journal",
    "faults",
    "fault_counts",
)


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
        """Return an environment's key; *name* is a suffix from the table above."""
        return f"{self.prefix}:{{{environment_id}}}:{name}"

    def session_at(self, session_id: str) -> str:
        """Return the key that tells where a session is."""
        return f"{self.prefix}:{{{session_id}}}:at"

    def of(self, tag: str) -> str:
        """Return what every key of one environment or workspace starts with."""
        return f"{self.prefix}:{{{tag}}}:"

    def tag(self, key: str) -> str:
        """Return the environment, workspace or session that a key belongs to, or an empty string."""
        head = self.of("")[:-2]
        return key[len(head) : key.find("}")] if key.startswith(head) else ""
