"""Workspaces: the index of their environments, their clock and lease settings, and their reset.

Rules: `credentials.workspace.*`.

A workspace's clock and settings are copied to each of its environments, so that a step on one reads one slot. A change
writes the workspace, then all copies, then answers; `catch_up` finishes what a crash left half done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from ..access import Access
from ..clock import LAST_INSTANT, Clock, format_instant
from ..engine.lua import LuaArguments, LuaCall, Word
from ..errors import InvalidRequest
from ..keys import WORKSPACE_NAMES
from ..lua.environments import EnvironmentApply, EnvironmentPurge, Left
from ..lua.heads import EnvironmentHead, Full, ProfileHead, WorkspaceHead
from ..lua.workspaces import (
    ClockChange,
    ProfileFields,
    Reserved,
    Setting,
    WorkspaceClock,
    WorkspaceConfirm,
    WorkspaceDisplace,
    WorkspaceList,
    WorkspaceReserve,
    WorkspaceSession,
    WorkspaceSettings,
    WorkspaceSpread,
)
from ..seeds import Fresh, fresh
from .session_index import SessionPlaces

T = TypeVar("T")

#: ZADD that works in a full Redis too, because deletion makes room: Redis lets a script continue once it has begun to
#: write, and ZREM needs no memory.
_INTEND = """
redis.call('ZREM', KEYS[1], ARGV[2])
return redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
"""
#: Enter a workspace into the register of all workspaces, which has a slot of its own. Atomic, so that two new workspaces
#: cannot both take the last free place.
_ENTER = """
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 'OK' end
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 'FULL' end
redis.call('SADD', KEYS[1], ARGV[1])
return 'OK'
"""
#: Items that one purge step removes: few enough not to block Redis.
_PURGE_BATCH = 500
#: Environments that one pipeline of a change covers.
_APPLY_BATCH = 200
#: Age at which an intent to delete counts as abandoned if its environment still exists. Microseconds.
_ABANDONED_US = 60_000_000


#: The fields of a workspace that its environments copy, in the order in which the scripts answer them. `ticked`: the
#: generation of the last change of the clock.
PROFILE = ProfileFields._fields


@dataclass(frozen=True, slots=True)
class Profile:
    """What an environment copies from its workspace. Empty settings mean the server's default.

    `faults`: whether there are fault rules. `seed`: of the ids that are made in it; None: they are random.
    """

    clock: Clock
    default_ttl_seconds: int | None
    startup_lease_seconds: int | None
    reclaim_ms: int | None
    generation: int
    faults: bool
    seed: str | None
    fields: ProfileFields

    @classmethod
    def of(cls, fields: ProfileFields) -> Profile:
        """Read it as the scripts answer it."""
        return cls(
            Clock(int(fields.shift), int(fields.frozen) if fields.frozen else None, fields.auto == "1"),
            int(fields.ttl) if fields.ttl else None,
            int(fields.startup) if fields.startup else None,
            int(fields.reclaim) if fields.reclaim else None,
            int(fields.generation),
            bool(fields.faults),
            fields.seed or None,
            fields,
        )

    @property
    def head(self) -> ProfileHead:
        """Return it as the arguments of a script that copies it to an environment."""
        return ProfileHead(
            generation=self.fields.generation,
            shift=self.fields.shift,
            frozen=self.fields.frozen,
            ttl=self.fields.ttl,
            startup=self.fields.startup,
            reclaim=self.fields.reclaim,
            faults=self.fields.faults,
            id_seed=self.fields.seed,
            auto=self.fields.auto,
            ticked=self.fields.ticked,
        )


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A workspace's clock at one instant; `ahead_us` is how far it is before wall time."""

    mode: str
    now: int
    ahead_us: int


#: Copies a workspace's profile to some of its environments.
Spread = Callable[[list[str], Profile], Awaitable[None]]


class WorkspaceStore:
    """Everything that belongs to a workspace and not to one of its environments.

    Attributes:
        places: where sessions are.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._engine = access.engine
        self._keys = access.keys
        self.places = SessionPlaces(access.engine, access.keys)

    async def write(self, call: LuaCall[T], workspace: str, *heads: LuaArguments) -> T:
        """Run a workspace script that may write its first key, after entering the workspace into the register. *heads*: the
        arguments of heads other than `_workspace.lua`.

        Raises:
            LimitReached: the register of workspaces is full.
        """
        await self._enter(workspace)
        return await self.run(call, workspace, *heads)

    async def run(self, call: LuaCall[T], workspace: str, *heads: LuaArguments) -> T:
        """Run a workspace script that writes no key unless the workspace has been written to before."""
        head = WorkspaceHead(wall=self._access.wall())
        return await self._engine.run(call, self._keys.workspace(workspace), head, *heads)

    async def _enter(self, workspace: str) -> None:
        most = self._access.limits.workspaces
        # Most often it is there, and a look-up is cheaper than a script.
        if await self._engine.command("SISMEMBER", self._keys.workspaces, workspace):
            return
        if await self._engine.command("EVAL", _ENTER, 1, self._keys.workspaces, workspace, most) == "FULL":
            raise self._access.limits.full_of_workspaces()

    # -- environments' places ---------------------------------------------------------------------------------

    async def reserve(self, workspace: str, given: str | None = None) -> tuple[str, int, Profile]:
        """Give a new environment its id, unless that is *given*, and its creation sequence, and return what it copies, too.

        Raises:
            LimitReached: the workspace, or the register of workspaces, is full.
        """
        environment_id, free = "", False

        async def reserve(new: Fresh) -> Reserved | Word[Full] | None:
            nonlocal environment_id, free
            environment_id = given or new.id("env")
            # One that follows from the seed may have come into another workspace, with the state of this one.
            there = (
                new.seeded
                and not given
                and await self._engine.command("EXISTS", self._keys.environment(environment_id))
            )
            free = not there
            if there:
                return None
            most = self._access.limits.environments
            call = WorkspaceReserve(environment_id=environment_id, seeded=new.seeded, most=most)
            return await self.write(call, workspace)

        while not free:
            reply = await fresh(workspace, reserve)
        assert reply is not None
        if reply.word == "FULL":
            raise self._access.limits.full_of_environments()
        return environment_id, reply.number, Profile.of(reply.profile)

    async def confirm(self, workspace: str, environment_id: str, sequence: int, copied: Profile) -> None:
        """Keep the place of an environment whose record now exists, and repeat a change that missed it."""
        call = WorkspaceConfirm(environment_id=environment_id, number=sequence)
        current = Profile.of(await self.write(call, workspace))
        if current.generation != copied.generation:
            await self._apply_all([environment_id], current)

    async def reserve_session(self, workspace: str, environment_id: str, session_id: str) -> int:
        """Give a new session its creation sequence, and its place in the workspace."""
        return await self.write(WorkspaceSession(session_id=session_id, environment_id=environment_id), workspace)

    async def page(
        self, workspace: str, *, below: int | None, count: int, include_archived: bool
    ) -> list[tuple[str, int]]:
        """Return up to *count* places (environment id, sequence), newest first."""
        call = WorkspaceList(below=below, count=count, include_archived=include_archived)
        return [(place.environment_id, place.number) for place in (await self.run(call, workspace)).rows]

    async def hide_archived(self, workspace: str, environment_id: str) -> None:
        """Remove an archived environment from the default list (which checks the record as well)."""
        await self._engine.command("ZREM", self._keys.workspace(workspace, "live"), environment_id)

    async def all(self) -> list[str]:
        """Return every workspace, in the order of their ids."""
        return sorted(await self._engine.command("SMEMBERS", self._keys.workspaces))

    # -- clock and settings -----------------------------------------------------------------------------------

    async def profile(self, workspace: str) -> Profile:
        """Return the workspace's clock and settings."""
        stored = await self._engine.command("HMGET", self._keys.workspace(workspace), *PROFILE)
        fields = {
            name: value or ("0" if name in ("shift", "generation") else "")
            for name, value in zip(PROFILE, stored, strict=True)
        }
        fields["ticked"] = fields["ticked"] or fields["generation"]
        return Profile.of(ProfileFields(**fields))

    async def clock(self, workspace: str) -> ClockReading:
        """Read the workspace's clock."""
        wall = self._access.wall()
        profile = await self.profile(workspace)
        return self._reading(profile, profile.clock.now(wall), wall)

    async def change_clock(self, workspace: str, change: ClockChange, value: int | None, apply: Spread) -> ClockReading:
        """Change the clock, and every copy of it. `workyard_queue.clock.timers` handles the consequences.

        Args:
            workspace: whose clock.
            change: `real`, `frozen` (*value*: the instant in us, None for now), `auto` or `advance` (*value*: us).
            value: see *change*.
            apply: copies a profile, its clock too, to some environments.

        Raises:
            InvalidRequest: time would go back, or past `LAST_INSTANT`.
        """
        reading = await self._change_clock(
            workspace, change, value, "advance_seconds" if change == "advance" else "at", apply
        )
        if isinstance(reading, int):
            raise InvalidRequest(
                f"at: Time never goes back: the workspace's clock is at {format_instant(reading)}",
                rule="clock.never-back",
            )
        return reading

    async def move_clock(self, workspace: str, change: ClockChange, instant: int, apply: Spread) -> ClockReading | None:
        """Move the clock to a later *instant*, in whatever mode (`reach`), or in mode auto only (`jump`).

        Return None, and change nothing, if the clock has already reached *instant* or its mode is another.

        Raises:
            InvalidRequest: it is past `LAST_INSTANT`.
        """
        reading = await self._change_clock(workspace, change, instant, "advance_to_next", apply)
        return None if isinstance(reading, int) else reading

    async def _change_clock(
        self, workspace: str, change: ClockChange, value: int | None, field: str, apply: Spread
    ) -> ClockReading | int:
        """Change the clock; return its reading, or its instant where time would go back."""
        wall = self._access.wall()
        call = WorkspaceClock(op=change, value=value, last=LAST_INSTANT)
        await self._enter(workspace)
        reply = await self._engine.run(call, self._keys.workspace(workspace), WorkspaceHead(wall=wall))
        if reply.word == "BACK":
            return reply.now
        if reply.word == "FAR":
            raise InvalidRequest(f"{field}: A clock stops at {format_instant(LAST_INSTANT)}", rule="clock.last-instant")
        profile = Profile.of(reply.profile)
        await self.spread(workspace, profile, apply)
        return self._reading(profile, reply.now, wall)

    async def change_settings(self, workspace: str, changes: dict[str, int | str | None]) -> Profile:
        """Change what environments copy: `ttl`, `startup` in seconds, `reclaim` in ms, `faults`, `seed` (see `Profile`);
        None: the server's default again, or none."""
        settings = [Setting(name, "" if value is None else value) for name, value in changes.items()]
        profile = Profile.of(await self.write(WorkspaceSettings(changes=settings), workspace))
        await self.spread(workspace, profile)
        return profile

    async def put_state(self, workspace: str, fields: dict[str, str]) -> Profile:
        """Store the fields of a new workspace, and return the profile that its future environments copy."""
        generation = str(self._access.wall())
        stored = {**fields, "generation": generation, "spread": generation}
        await self._enter(workspace)
        await self._engine.command(
            "HSET", self._keys.workspace(workspace), *(part for pair in stored.items() for part in pair)
        )
        return await self.profile(workspace)

    async def follow(self, workspace: str, copied: Profile) -> None:
        """Repeat a change that came between `put_state` and the last of the environments."""
        current = await self.profile(workspace)
        if current.generation != copied.generation:
            await self.spread(workspace, current, self._apply_all)

    async def catch_up(self) -> None:
        """Finish changes of clocks and settings that a crash interrupted before all copies were written."""
        for workspace in await self.all():
            profile = await self.profile(workspace)
            spread = await self._engine.command("HGET", self._keys.workspace(workspace), "spread")
            if profile.generation and spread != str(profile.generation):
                await self.spread(workspace, profile, self._apply_all)

    async def spread(self, workspace: str, profile: Profile, apply: Spread | None = None) -> None:
        """Copy a workspace's changed profile to its environments, and wake their blocked polls.

        Without *apply*, which copies the clock too, only the settings are copied; the clock follows with the change that
        fires the timers it ends.
        """
        key = self._keys.workspace(workspace, "envs")
        start = 0
        while environment_ids := await self._engine.command("ZRANGE", key, start, start + _APPLY_BATCH - 1):
            await (apply or self._apply)(environment_ids, profile)
            start += _APPLY_BATCH
        await self.run(WorkspaceSpread(generation=profile.generation, clock=apply is not None), workspace)

    async def _apply(self, environment_ids: list[str], profile: Profile, *, clock: bool = False) -> None:
        call, heads = EnvironmentApply(clock=clock), (EnvironmentHead(wall=self._access.wall()), profile.head)
        keys = map(self._keys.environment, environment_ids)
        await asyncio.gather(*[self._engine.run(call, key, *heads) for key in keys])

    async def _apply_all(self, environment_ids: list[str], profile: Profile) -> None:
        await self._apply(environment_ids, profile, clock=True)

    def _reading(self, profile: Profile, now: int, wall: int) -> ClockReading:
        return ClockReading(profile.clock.mode, now, now - wall)

    # -- deleting ---------------------------------------------------------------------------------------------

    async def intend_purge(self, workspace: str, environment_id: str, *, ahead_us: int = 0) -> None:
        """Record that an environment is about to be deleted, so that any server can finish the deletion after a crash. With
        *ahead_us*: that it is being restored, and must be removed if the restore shows no progress for that long."""
        intent = (self._access.wall() + ahead_us, f"{workspace} {environment_id}")
        await self._engine.command("EVAL", _INTEND, 1, self._keys.purge, *intent)

    async def abandon_purge(self, workspace: str, environment_id: str) -> None:
        """Withdraw the record of `intend_purge`: the deletion was refused."""
        await self._engine.command("ZREM", self._keys.purge, f"{workspace} {environment_id}")

    async def purge(self, workspace: str, environment_id: str) -> int:
        """Remove all keys of a deleted environment, and its place in the workspace last. Return how many keys were removed.

        An environment created again under the same id meanwhile keeps its place and its keys.
        """
        removed = 0
        key = self._keys.environment(environment_id)
        place = await self._engine.command("ZSCORE", self._keys.workspace(workspace, "envs"), environment_id)
        named: list[Left] = []
        while True:
            call = EnvironmentPurge(most=_PURGE_BATCH, named=named)
            reply = await self._engine.run(call, key, EnvironmentHead(wall=self._access.wall()))
            removed += reply.removed
            if reply.word == "LIVE":
                return removed
            if reply.word == "DONE":
                break
            named = reply.named
            # The sessions' places first: once the script has removed the sessions, their places cannot be found any more.
            sessions = [row.session_id for row in named if row.session_id]
            removed += await self.places.remove(workspace, environment_id, sessions)
        sequence = "" if place is None else f"{float(place):.0f}"
        await self.run(WorkspaceDisplace(environment_id=environment_id, number=sequence), workspace)
        await self._engine.command("ZREM", self._keys.purge, f"{workspace} {environment_id}")
        return removed

    async def finish_purges(self) -> None:
        """Finish deletions that a crash interrupted; forget abandoned intents."""
        now = self._access.wall()
        entries = await self._engine.command("ZRANGE", self._keys.purge, 0, -1, "WITHSCORES")
        for member, intended in zip(entries[::2], entries[1::2], strict=True):
            workspace, _, environment_id = member.partition(" ")
            if float(intended) > now:
                continue  # A restore is under way.
            if not environment_id:
                # A crash ended this restore: remove the environments that it was writing.
                await self._engine.command("ZREM", self._keys.purge, member)
            elif not await self._engine.command("EXISTS", self._keys.environment(environment_id)):
                await self.purge(workspace, environment_id)
            elif float(intended) < now - _ABANDONED_US:
                await self._engine.command("ZREM", self._keys.purge, member)

    async def environments(self, workspace: str) -> list[str]:
        """Return all environment ids of a workspace, archived ones too, in creation order."""
        ids: list[str] = await self._engine.command("ZRANGE", self._keys.workspace(workspace, "envs"), 0, -1)
        return ids

    async def forget(self, workspace: str) -> int:
        """Remove a workspace whose environments are gone, as if its API key had never been used."""
        keys = self._keys
        removed: int = await self._engine.command(
            "UNLINK", *(keys.workspace(workspace, name) for name in WORKSPACE_NAMES)
        )
        await self._engine.command("SREM", keys.workspaces, workspace)
        return removed

    async def count_leftovers(self, tags: set[str]) -> int:
        """Count the keys of the given environments and workspaces by scanning Redis, not by any index of ours; and the
        places of sessions that name one of these environments."""
        left = 0
        if tags:
            async for batch in self._engine.scan(f"{self._keys.prefix}:*"):
                left += sum(self._keys.tag(key) in tags for key in batch)
                places = [key for key in batch if self._keys.tag(key).startswith("session_")]
                named = await self._engine.commands(("SMEMBERS", key) for key in places)
                left += sum(not tags.isdisjoint(environments) for environments in named)
        return left
