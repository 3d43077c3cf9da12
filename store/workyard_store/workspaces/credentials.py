"""Environment keys: issue, list, revoke. Only digests are stored; a key's value is shown once. Rules: `control.keys.*`.

A revoked key stays on record, so that it can be distinguished from a key that was never issued.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ..access import TRUSTED, Access, digest, environment_key
from ..errors import KeyNotFound
from ..ids import is_id
from ..lua.environments import Issued, KeyIssue, KeyList, KeyRevoke
from ..seeds import Fresh, fresh


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """The record of a key; `value` is None except in the answer that issues it. Instants are microseconds."""

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

        async def issue(new: Fresh) -> Issued:
            nonlocal made
            key_id, value = made = new.id("envkey"), environment_key(environment_id, new.secret())
            call = KeyIssue(sha=digest(value), key_id=key_id, name=json.dumps(name))
            return await self._access.run(call, environment_id, TRUSTED, seeded=new.seeded)

        reply = await fresh(environment_id, issue)
        key_id, value = made
        return EnvironmentKey(key_id, name, reply.created_at, None, value)

    async def list(self, environment_id: str) -> list[EnvironmentKey]:
        """Return all keys, revoked ones too, newest first."""
        reply = await self._access.run(KeyList(), environment_id, TRUSTED)
        keys = [EnvironmentKey(**json.loads(record)) for record in reply.records]
        return sorted(keys, key=lambda key: (key.created_at, key.id), reverse=True)

    async def revoke(self, environment_id: str, key_id: str) -> None:
        """Revoke a key; a repeat changes nothing. Blocked polls try again immediately.

        Raises:
            KeyNotFound: the environment never had it.
        """
        call = KeyRevoke(key_id=key_id if is_id("envkey", key_id) else "-")
        reply = await self._access.run(call, environment_id, TRUSTED)
        if reply.word == "MISSING":
            raise KeyNotFound(key_id)
