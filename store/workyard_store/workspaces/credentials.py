"""Environment keys: issue, list, revoke. Stored are digests; a key's value is shown once. Rules: `control.keys.*`.

A revoked key stays on record, so that it can be told from one that was never issued.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ..access import SCRIPTS, TRUSTED, Access, digest, environment_key
from ..engine.engine import Reply, Script
from ..errors import KeyNotFound
from ..ids import is_id
from ..seeds import Fresh, fresh

_HEAD = SCRIPTS / "_environment.lua"
_ISSUE = Script("key_issue", _HEAD, SCRIPTS / "key_issue.lua")
_REVOKE = Script("key_revoke", _HEAD, SCRIPTS / "key_revoke.lua")
_LIST = Script("key_list", _HEAD, SCRIPTS / "key_list.lua")


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """What is known of a key; `value` is None except in the answer that issues it. Instants are microseconds."""

    id: str
    name: str
    created_at: int
    revoked_at: int | None
    value: str | None = None


class CredentialStore:
    """Environment keys of one Redis."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def issue(self, environment_id: str, name: str) -> EnvironmentKey:
        """Issue a key for an environment of either kind (a cloud one's key can be issued, but takes no work)."""
        made = ("", "")

        async def issue(new: Fresh) -> Reply:
            nonlocal made
            key_id, value = made = new.id("envkey"), environment_key(environment_id, new.secret())
            arguments = (digest(value), key_id, json.dumps(name))
            return await self._access.run(_ISSUE, environment_id, TRUSTED, *arguments, seeded=new.seeded)

        reply = await fresh(environment_id, issue)
        key_id, value = made
        return EnvironmentKey(key_id, name, int(reply[1]), None, value)

    async def list(self, environment_id: str) -> list[EnvironmentKey]:
        """Return all keys, revoked ones too, newest first."""
        _, records = await self._access.run(_LIST, environment_id, TRUSTED)
        keys = [EnvironmentKey(**json.loads(record)) for record in records]
        return sorted(keys, key=lambda key: (key.created_at, key.id), reverse=True)

    async def revoke(self, environment_id: str, key_id: str) -> None:
        """Revoke a key; a repeat changes nothing. Blocked polls try again at once.

        Raises:
            KeyNotFound: the environment never had it.
        """
        reply = await self._access.run(_REVOKE, environment_id, TRUSTED, key_id if is_id("envkey", key_id) else "-")
        if reply[0] == "MISSING":
            raise KeyNotFound(key_id)
