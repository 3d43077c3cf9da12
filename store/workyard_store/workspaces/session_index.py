"""An index of sessions: the environments of a session id, and the sessions of a workspace. It owns no session: a place
(an entry of the index) may have no record while the session is being created or removed.

A session's keys lie in its environment's slot, so its id alone does not lead to them. A place is entered before the
record and removed after it. Places that a crash leaves without a record are removed with the environment, which indexes
them too. The session of work that the control plane enqueued gets its place on the first look-up without an environment.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..engine.engine import Engine
from ..ids import work_id
from ..keys import Keys

#: Environments that one look-up reads.
_LOOK_BATCH = 500


class SessionPlaces:
    """The places of all sessions of one Redis. Every method raises `StorageUnavailable` when Redis does not answer."""

    def __init__(self, engine: Engine, keys: Keys) -> None:
        self._engine = engine
        self._keys = keys

    async def environments_of(self, session_id: str) -> list[str]:
        """Return the environments entered for a session of this id: more than one only where the control plane enqueued
        work for the same id in several."""
        return sorted(await self._engine.command("SMEMBERS", self._keys.session_at(session_id)))

    async def with_item(self, session_id: str, environment_ids: Iterable[str]) -> list[str]:
        """Return those of the given environments that have a work item for a session of this id."""
        every, found = list(environment_ids), list[str]()
        # In parts, so that many environments do not stall the rest of this process.
        for start in range(0, len(every), _LOOK_BATCH):
            ids = every[start : start + _LOOK_BATCH]
            items = (self._keys.environment(id_, f"work:{work_id(id_, session_id)}") for id_ in ids)
            there = await self._engine.commands(("EXISTS", item) for item in items)
            found += [id_ for id_, is_there in zip(ids, there, strict=True) if is_there]
        return found

    async def add(self, environment_id: str, session_ids: Iterable[str]) -> None:
        """Enter sessions of an environment. The caller must have put them into the environment's own index first."""
        ids = list(session_ids)
        await self._engine.commands(("SADD", self._keys.session_at(id_), environment_id) for id_ in ids)
        if not await self._engine.command("EXISTS", self._keys.environment(environment_id)):
            # Deleted meanwhile, and perhaps purged: no later step would remove the entries just made.
            await self._engine.commands(("SREM", self._keys.session_at(id_), environment_id) for id_ in ids)

    async def remove(self, workspace: str, environment_id: str, session_ids: Iterable[str]) -> int:
        """Remove the places of an environment's sessions. Return how many there were: each a key of its own, but where
        another environment has a session of the same id."""
        ids = list(session_ids)
        if not ids:
            return 0
        listed = self._keys.workspace(workspace, "sessions")
        await self._engine.command("ZREM", listed, *[f"{id_} {environment_id}" for id_ in ids])
        return sum(await self._engine.commands(("SREM", self._keys.session_at(id_), environment_id) for id_ in ids))

    async def page(
        self, workspace: str, *, behind: int | None, count: int, newest_first: bool
    ) -> list[tuple[str, str, int]]:
        """Return up to *count* places of a workspace (session id, environment id, sequence) after *behind*, in either order."""
        command, first, last = (
            ("ZREVRANGEBYSCORE", "+inf", "-inf") if newest_first else ("ZRANGEBYSCORE", "-inf", "+inf")
        )
        start = first if behind is None else f"({behind}"
        key = self._keys.workspace(workspace, "sessions")
        reply = await self._engine.command(command, key, start, last, "WITHSCORES", "LIMIT", 0, count)
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return [(*_parts(member), int(float(score))) for member, score in pairs]


def _parts(member: str) -> tuple[str, str]:
    session_id, _, environment_id = member.partition(" ")
    return session_id, environment_id
