"""Invariants of the queues, checked against the raw keys. Changes nothing. One script (`lua/invariants.lua`) checks the
invariants of an environment; the one about leftovers of deleted environments (`orphan`) is checked here.

| rule        | what holds                                                                                             |
|-------------|--------------------------------------------------------------------------------------------------------|
| `item_lost` | every item ever enqueued is in the index at its place, and stored                                      |
| `lease`     | an item under lease (`starting`, `active`, `stopping`) has exactly one lease, any other none           |
| `entry`     | a queued item has exactly one live entry in the stream, any other none                                 |
| `pending`   | pending entries of the group = entries handed out = queued items that were polled and not acknowledged |
| `counts`    | depth + pending = queued items; counted tombstones = entries that delivery has still to skip           |
| `stamps`    | an item has the stamps of its state, in order, none in the future                                      |
| `life`      | an item entered `stopped` once more than it left it if it is stopped, else as often as it left it      |
| `trimmed`   | the stream begins with an entry that is still needed                                                   |
| `session`   | a session has its item (self-hosted), its last event on record, and an agent to read what is unread;   |
|             | the environment counts those that are active                                                           |
| `orphan`    | no key of a deleted environment or session is left, unless its deletion is under way                   |
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from workyard_store.access import TRUSTED, Access
from workyard_store.errors import EnvironmentNotFound
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..lua.work import Recount as RecountCall

#: Items, and stream entries, of one environment that are all looked at; of more, this many items in `_WINDOWS` parts.
MOST_ITEMS = 10_000
_WINDOWS = 10
#: Violations named for one environment; all are counted.
MOST_NAMED = 100
#: Environments recounted concurrently.
_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Violation:
    """A violated invariant of an environment, or of one of its work items."""

    rule: str
    environment_id: str
    work_id: str | None
    message: str


@dataclass(slots=True)
class Recount:
    """The violations, and what was checked. `leases`, `stopped` and `entries_into_stopped` count the checked items, which
    are fewer than `items` if an environment is in `sampled`."""

    violations: list[Violation] = field(default_factory=list)
    violations_found: int = 0
    environments: int = 0
    items: int = 0
    items_looked_at: int = 0
    queued: int = 0
    leases: int = 0
    stopped: int = 0
    entries_into_stopped: int = 0
    keys: int = 0
    sampled: list[str] = field(default_factory=list)

    def add(self, violation: Violation) -> None:
        """Name and count a violation."""
        self.violations.append(violation)
        self.violations_found += 1


class Invariants:
    """Recounts environments, and searches for leftovers of deleted ones."""

    def __init__(self, access: Access, workspaces: WorkspaceStore) -> None:
        self._access = access
        self._workspaces = workspaces

    async def recount(self, workspaces: Iterable[str]) -> Recount:
        """Recount every environment of the given workspaces, and search all keys for those of deleted environments.

        Raises:
            StorageUnavailable: Redis did not answer.
        """
        total = Recount()
        for workspace in workspaces:
            ids = await self._workspaces.environments(workspace)
            for start in range(0, len(ids), _AT_ONCE):
                await asyncio.gather(*[self._environment(id_, total) for id_ in ids[start : start + _AT_ONCE]])
        await self._orphans(total)
        return total

    async def _environment(self, environment_id: str, total: Recount) -> None:
        windows = [random.randrange(1_000_000) for _ in range(_WINDOWS)]
        try:
            call = RecountCall(most=MOST_ITEMS, shown=MOST_NAMED, windows=windows)
            reply = await self._access.run(call, environment_id, TRUSTED)
        except EnvironmentNotFound:
            return  # Being created or deleted.
        named, counted = reply.named, reply.counted
        for rule, work_id, message in zip(named[::3], named[1::3], named[2::3], strict=True):
            total.violations.append(Violation(rule, environment_id, work_id or None, message))
        total.violations_found += counted.violations
        total.environments += 1
        total.items += counted.items
        total.items_looked_at += counted.looked_at
        total.queued += counted.queued
        total.leases += counted.leases
        total.stopped += counted.stopped
        total.entries_into_stopped += counted.entries_into_stopped
        if counted.looked_at < counted.items:
            total.sampled.append(environment_id)

    async def _orphans(self, total: Recount) -> None:
        """Look for keys without their environment. The order matters: a key that is still there after its environment
        was seen gone and after no deletion was on record belongs to nobody."""
        engine, keys = self._access.engine, self._access.keys
        by_environment: dict[str, set[str]] = {}
        places: list[str] = []
        async for batch in engine.scan(f"{keys.prefix}:*"):
            total.keys += len(batch)
            for key in batch:
                tag = keys.tag(key)
                if tag.startswith("env_"):
                    by_environment.setdefault(tag, set()).add(key)
                elif tag.startswith("session_"):
                    places.append(key)
        for key, named in zip(places, await engine.commands(("SMEMBERS", key) for key in places), strict=True):
            for id_ in named:
                by_environment.setdefault(id_, set()).add(key)
        await self._orphaned_sessions(by_environment, total)
        suspects = [id_ for id_, found in by_environment.items() if keys.environment(id_) not in found]
        if not suspects:
            return
        there = await engine.commands(("EXISTS", keys.environment(id_)) for id_ in suspects)
        deleting = {member.partition(" ")[2] for member in await engine.command("ZRANGE", keys.purge, 0, -1)}
        for id_, exists in zip(suspects, there, strict=True):
            if exists or id_ in deleting:
                continue
            left = sorted(by_environment[id_])
            still = await engine.commands(
                ("EXISTS", key) if keys.tag(key) == id_ else ("SISMEMBER", key, id_) for key in left
            )
            for key, is_there in zip(left, still, strict=True):
                if is_there:
                    total.add(Violation("orphan", id_, None, f"{key} is left of a deleted environment"))

    async def _orphaned_sessions(self, by_environment: dict[str, set[str]], total: Recount) -> None:
        """Look for keys of sessions that their environment does not list: a place comes first and goes last."""
        engine, keys = self._access.engine, self._access.keys
        found = [
            (id_, key, key.removeprefix(keys.of(id_)).partition(":"))
            for id_, of_environment in by_environment.items()
            if keys.environment(id_) in of_environment
            for key in of_environment
        ]
        found = [(id_, key, parts) for id_, key, parts in found if parts[0] in ("session", "events")]
        listed = await engine.commands(
            ("ZSCORE", keys.environment(id_, "sessions"), parts[2]) for id_, _, parts in found
        )
        unlisted = [(id_, key) for (id_, key, _), place in zip(found, listed, strict=True) if place is None]
        still = await engine.commands(("EXISTS", key) for _, key in unlisted)
        for (id_, key), is_there in zip(unlisted, still, strict=True):
            if is_there:
                total.add(Violation("orphan", id_, None, f"{key} is left of a deleted session"))
