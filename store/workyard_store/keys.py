"""The one place where Redis keys are built. Owns every key name; reads and writes nothing.

All keys of one environment share the hash tag `{env_…}`, all of one workspace `{wrkspc_…}`, so a script touches one
slot of a Redis Cluster. Scripts get the first key in full and derive the rest from the same suffixes (`LUA_NAMES`).

| key                         | type   | deleted by         | holds                                                          |
|-----------------------------|--------|--------------------|----------------------------------------------------------------|
| `wy:format`                 | string | nobody             | the data format version of everything under the prefix         |
| `wy:workspaces`             | set    | reset (its member) | every workspace that was ever written to                       |
| `wy:purge`                  | zset   | the purge          | environments being deleted, by wall time of the intent         |
| `wy:{ws}:state`             | hash   | reset              | creation sequence, clock, settings, their generation           |
| `wy:{ws}:envs`              | zset   | reset, purge       | its environments by creation sequence                          |
| `wy:{ws}:live`              | zset   | reset, purge       | the same without the archived ones                             |
| `wy:{env}:env`              | hash   | delete             | the record, its clock and settings, queue counters             |
| `wy:{env}:work:<id>`        | hash   | purge              | one work item                                                  |
| `wy:{env}:tokens:<id>`      | set    | re-queue, purge    | SHA-256 of the sessions tokens minted since the last enqueue   |
| `wy:{env}:stream`           | stream | purge              | one live entry a queued item; settled ones until trimmed       |
| `wy:{env}:polled`           | zset   | purge              | pending entries by the time of their hand-out                  |
| `wy:{env}:leases`           | zset   | purge              | `<sequence>:<work id>` by the lease's end                      |
| `wy:{env}:index`            | zset   | purge              | work ids by creation sequence                                  |
| `wy:{env}:pollers`          | zset   | purge              | worker ids by their last poll                                  |
| `wy:{env}:keys`             | hash   | purge              | SHA-256 of an environment key → JSON of what is known of it    |
| `wy:{env}:idem`             | hash   | purge              | idempotency key → fingerprint of the enqueue it stands for     |

No key has a TTL: time belongs to the workspace's clock, which Redis does not know.
`wy:wake` is a publish/subscribe channel, not a key.
"""

from __future__ import annotations

#: Suffixes of an environment's keys that the Lua prelude turns into locals.
LUA_NAMES = {
    "STREAM": "stream",
    "POLLED": "polled",
    "LEASES": "leases",
    "INDEX": "index",
    "POLLERS": "pollers",
    "KEYS_": "keys",
    "IDEM": "idem",
    "WORK_": "work:",
    "TOKENS_": "tokens:",
}


class Keys:
    """Build the keys under one prefix (the setting `key_prefix`)."""

    def __init__(self, prefix: str = "wy") -> None:
        self.prefix = prefix
        self.format = f"{prefix}:format"
        self.workspaces = f"{prefix}:workspaces"
        self.purge = f"{prefix}:purge"
        self.wake = f"{prefix}:wake"

    def workspace(self, workspace: str, name: str = "state") -> str:
        """Return a workspace's key: `state`, `envs` or `live`."""
        return f"{self.prefix}:{{{workspace}}}:{name}"

    def environment(self, environment_id: str, name: str = "env") -> str:
        """Return an environment's key; *name* is a suffix from the table above."""
        return f"{self.prefix}:{{{environment_id}}}:{name}"

    def of(self, tag: str) -> str:
        """Return what every key of one environment or workspace starts with."""
        return f"{self.prefix}:{{{tag}}}:"

    def tag(self, key: str) -> str:
        """Return the environment or workspace that a key belongs to, or an empty string."""
        head = self.of("")[:-2]
        return key[len(head) : key.find("}")] if key.startswith(head) else ""
