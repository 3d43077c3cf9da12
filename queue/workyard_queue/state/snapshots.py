"""Snapshots of whole workspaces: read for a state document, and written back with the same ids. Knows the layout in
Redis, and nothing of the document.

Reading: each environment in one step, or, if that would block Redis, in parts between which nothing changed. Writing: the
existing data is removed first; then each environment's keys are written, its record last, so that no caller sees an
incomplete environment. A note in `purge` lets any server remove the remains of a crash; a note for the whole workspace
prevents two concurrent restores.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from workyard_store.access import TRUSTED, Access
from workyard_store.engine.engine import Reply
from workyard_store.engine.lua import Value
from workyard_store.engine.wake import AgentDue, Changed
from workyard_store.errors import (
    EnvironmentElsewhere,
    EnvironmentInMotion,
    EnvironmentNotFound,
    ResetMeanwhile,
    RestoreUnderWay,
)
from workyard_store.keys import EXPORTED_HASHES
from workyard_store.lua.heads import EnvironmentHead
from workyard_store.workspaces.workspaces import PROFILE, WorkspaceStore

from ..lua.state import StateRead, StateWrite
from ..timeline.events import as_event, fields_of
from ..work.work_queue import WorkQueue

#: Rows that one step reads: some ten milliseconds at most.
_PART = 1000
#: The same for an environment that changed between two such parts: larger steps make fewer parts, so a change between
#: them is less likely.
_LARGE_PART = 4000
#: How often an environment is read again because it changed between two parts.
_MOST_TRIES = 20
#: Environments that are read concurrently.
_AT_ONCE = 8
#: Entries, tokens and environments that one command or round trip is about, and fields of a hash that are read together.
_BATCH = 500
_FIELDS = 50
#: What one step writes.
_PART_COMMANDS = 300
_PART_BYTES = 262_144
#: How long a restore counts as under way after its last sign of life, and how long another restore waits for it.
_CLAIM_US = 10_000_000
_CLAIM_WAIT_S = 15.0
_CLAIM_LOOK_S = 0.1

Fields = dict[str, str]
#: A command for Redis.
Words = tuple[str | int, ...]
Key = Callable[[str], str]

#: Answer until when (us) the claim is ours, or 0: somebody else has it, or, if we had it, it was taken away.
#: KEYS[1] purge. ARGV[1] member; [2] until when it is ours, '' if not yet; [3] wall us; [4] until when it is to be ours.
_CLAIM = """
local held = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[2] == '' and held and tonumber(held) > tonumber(ARGV[3]) then return 0 end
if ARGV[2] ~= '' and (not held or tonumber(held) ~= tonumber(ARGV[2])) then return 0 end
redis.call('ZADD', KEYS[1], ARGV[4], ARGV[1])
return tonumber(ARGV[4])
"""
#: KEYS[1] purge. ARGV[1] member; [2] until when it is ours.
_RELEASE = """
local held = redis.call('ZSCORE', KEYS[1], ARGV[1])
if held and tonumber(held) == tonumber(ARGV[2]) then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0
"""


@dataclass(slots=True)
class StoredWork:
    """A work item. `lease_ends`: microseconds, None without a lease; `tokens`: digests."""

    id: str
    fields: Fields
    tokens: list[str]
    lease_ends: int | None


@dataclass(slots=True)
class StoredEntry:
    """A queued item's place. `date` and `handed_out` in microseconds; None: it waits."""

    work_id: str
    date: int
    handed_out: int | None


@dataclass(slots=True)
class StoredSession:
    """A session. `due`: microseconds, None if its agent has nothing to do; `events`: content (JSON) and date (us)."""

    id: str
    fields: Fields
    due: int | None
    events: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class StoredEnvironment:
    """An environment. `record` has the fields of its hash; of `life` each entry has its id and its fields."""

    id: str
    record: Fields
    keys: Fields
    idempotency: Fields
    pollers: dict[str, int]
    work: list[StoredWork] = field(default_factory=list)
    queue: list[StoredEntry] = field(default_factory=list)
    sessions: list[StoredSession] = field(default_factory=list)
    life: list[tuple[str, Fields]] = field(default_factory=list)


@dataclass(slots=True)
class StoredWorkspace:
    """A workspace: the fields of its hash, `EXPORTED_HASHES` by name, the members of `memory_paths`, its environments in the order
    of their creation."""

    state: Fields
    hashes: dict[str, Fields]
    environments: list[StoredEnvironment]
    memory_paths: list[str] = field(default_factory=list)


def _pairs(flat: Any) -> Fields:
    return dict(flat) if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


def _optional(text: str) -> int | None:
    return int(text) if text else None


class Snapshots:
    """Reads and writes whole workspaces. Every method raises `StorageUnavailable` when Redis does not answer."""

    def __init__(self, access: Access, workspaces: WorkspaceStore, queue: WorkQueue) -> None:
        self._access = access
        self._engine = access.engine
        self._keys = access.keys
        self._workspaces = workspaces
        self._queue = queue

    # -- reading ----------------------------------------------------------------------------------------------

    async def read(self, workspace: str) -> StoredWorkspace:
        """Return what is stored of a workspace.

        Raises:
            EnvironmentInMotion: a large environment keeps changing.
        """
        ids = await self._workspaces.environments(workspace)
        environments: list[StoredEnvironment] = []
        for start in range(0, len(ids), _AT_ONCE):
            found = await asyncio.gather(*[self._environment(id_) for id_ in ids[start : start + _AT_ONCE]])
            environments += [each for each in found if each is not None]
        hashes = {name: await self._hash(self._keys.workspace(workspace, name)) for name in EXPORTED_HASHES}
        # Last: no counter may be lower than what it has counted.
        state = _pairs(await self._engine.command("HGETALL", self._keys.workspace(workspace)))
        return StoredWorkspace(state, hashes, environments)

    async def _hash(self, key: str) -> Fields:
        """Return a hash, a part at a time: its values may be large."""
        names = sorted(await self._engine.command("HKEYS", key))
        found: Fields = {}
        for start in range(0, len(names), _FIELDS):
            part = names[start : start + _FIELDS]
            values = await self._engine.command("HMGET", key, *part)
            found |= {name: value for name, value in zip(part, values, strict=True) if value is not None}
        return found

    async def _environment(self, environment_id: str) -> StoredEnvironment | None:
        for tried in range(_MOST_TRIES):
            most = _LARGE_PART if tried else _PART
            mark, section, place = secrets.token_hex(8), "record", "0"
            rows: list[Any] = []
            while section:
                try:
                    call = StateRead(mark=mark, section=section, place=place, left=most)
                    reply = await self._access.run(call, environment_id, TRUSTED)
                except EnvironmentNotFound:
                    return None  # Being created or deleted.
                if reply.word == "CHANGED":
                    break
                section, place = reply.section, reply.place
                rows += reply.rows
            else:
                return _environment_of(environment_id, rows)
        raise EnvironmentInMotion(environment_id)

    # -- writing ----------------------------------------------------------------------------------------------

    async def clear(self, workspace: str, *, quietly: bool = False) -> tuple[int, set[str]]:
        """Remove everything of a workspace, as if its API key had never been used. Return how many keys went, and the ids
        of the removed resources. *quietly*: polls and listeners are not notified, because the workspace will be restored."""
        await self._engine.command("ZREM", self._keys.purge, _claim_of(workspace))
        return await self._clear(workspace, quietly=quietly)

    async def _clear(self, workspace: str, *, quietly: bool) -> tuple[int, set[str]]:
        ids = await self._workspaces.environments(workspace)
        removed = 0
        for start in range(0, len(ids), _BATCH):
            counts = await asyncio.gather(
                *[
                    self._queue.remove_environment(id_, workspace=workspace, quietly=quietly)
                    for id_ in ids[start : start + _BATCH]
                ]
            )
            removed += sum(counts)
        return removed + await self._workspaces.forget(workspace), {workspace, *ids}

    async def write(self, workspace: str, stored: StoredWorkspace) -> None:
        """Replace the contents of a workspace by *stored*, which has been checked.

        Raises:
            EnvironmentElsewhere: an environment's id is another workspace's; nothing was changed.
            RestoreUnderWay: another restore did not end in time, and nothing was changed; or a reset came between, and
                nothing is left.
        """
        ids = [each.id for each in stored.environments]
        await self._check_places(workspace, ids)
        async with self._claimed(workspace) as renew:
            await self._clear(workspace, quietly=True)
            writer = secrets.token_hex(8)
            try:
                await self._write(workspace, stored, writer, renew)
            except ResetMeanwhile:
                for id_, by in zip(ids, await self._writers(ids), strict=True):
                    if by == writer:
                        await self._queue.remove_environment(id_, workspace=workspace)
                if not await self._access.is_known(workspace):
                    await self._workspaces.forget(workspace)
                raise
            await self._in_batches(("DEL", self._keys.environment(id_, "restore")) for id_ in ids)
        for each in stored.environments:
            await self._engine.publish(Changed(each.id), AgentDue(each.id))

    async def _writers(self, ids: list[str]) -> list[Reply]:
        """Return for each environment which restore writes it, or None."""
        return await self._in_batches(("GET", self._keys.environment(id_, "restore")) for id_ in ids)

    async def _check_places(self, workspace: str, ids: list[str]) -> None:
        owners = await self._in_batches(("HGET", self._keys.environment(id_), "ws") for id_ in ids)
        deleting = {
            id_: owner
            for owner, _, id_ in (
                member.partition(" ") for member in await self._engine.command("ZRANGE", self._keys.purge, 0, -1)
            )
        }
        for place, (id_, owner) in enumerate(zip(ids, owners, strict=True)):
            if (owner or deleting.get(id_, workspace)) != workspace:
                raise EnvironmentElsewhere(place, id_)

    @asynccontextmanager
    async def _claimed(self, workspace: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Exclude other restores of a workspace; yield a function that reports, now and then, that this one still runs."""
        member = _claim_of(workspace)
        deadline = time.monotonic() + _CLAIM_WAIT_S
        while not (until := await self._claim(member, "")):
            if time.monotonic() > deadline:
                raise RestoreUnderWay
            await asyncio.sleep(_CLAIM_LOOK_S)

        async def renew() -> None:
            nonlocal until
            until = await self._claim(member, until)
            if not until:
                held = await self._engine.command("ZSCORE", self._keys.purge, member)
                raise ResetMeanwhile if held is None else RestoreUnderWay

        try:
            yield renew
        finally:
            await self._engine.command("EVAL", _RELEASE, 1, self._keys.purge, member, until)

    async def _claim(self, member: str, mine: str | int) -> int:
        wall = self._access.wall()
        return int(
            await self._engine.command("EVAL", _CLAIM, 1, self._keys.purge, member, mine, wall, wall + _CLAIM_US)
        )

    async def _write(
        self, workspace: str, stored: StoredWorkspace, writer: str, renew: Callable[[], Awaitable[None]]
    ) -> None:
        keys = self._keys
        profile = await self._workspaces.put_state(workspace, stored.state)
        commands: list[Words] = [
            ("HSET", keys.workspace(workspace, name), member, value)
            for name, fields in stored.hashes.items()
            for member, value in fields.items()
        ]
        commands += [("ZADD", keys.workspace(workspace, "memory_paths"), 0, member) for member in stored.memory_paths]
        await self._in_batches(commands, renew)
        for each in stored.environments:
            await self._workspaces.intend_purge(workspace, each.id, ahead_us=_CLAIM_US)
            number = each.record["number"]
            await self._engine.command("ZADD", keys.workspace(workspace, "envs"), number, each.id)
            if not each.record["archived"]:
                await self._engine.command("ZADD", keys.workspace(workspace, "live"), number, each.id)

            async def still(environment_id: str = each.id) -> None:
                await renew()
                await self._workspaces.intend_purge(workspace, environment_id, ahead_us=_CLAIM_US)

            await self._put(each.id, writer, [], first=True)
            await self._in_batches(self._places(workspace, each), still)
            for part in _parted(self._parts(each)):
                await self._put(each.id, writer, part)
                await still()
            copied = dict(zip(PROFILE, profile.fields, strict=True))
            record = {"ws": workspace, **each.record, **copied}
            await self._put(each.id, writer, [("HSET", keys.environment(each.id), *_flat(record))])
            await self._workspaces.abandon_purge(workspace, each.id)
        await self._workspaces.follow(workspace, profile)

    async def _put(self, environment_id: str, writer: str, part: list[Words], *, first: bool = False) -> None:
        words: list[Value] = [word for command in part for word in (len(command), *command)]
        call = StateWrite(restore=writer, first=first, words=words)
        head = EnvironmentHead(wall=self._access.wall())
        reply = await self._engine.run(call, self._keys.environment(environment_id), head)
        match reply.word:
            case "LIVE":
                raise RestoreUnderWay
            case "PURGED":
                raise ResetMeanwhile

    def _places(self, workspace: str, each: StoredEnvironment) -> Iterable[Words]:
        """Yield the commands that enter sessions into the session index."""
        for session in each.sessions:
            yield "SADD", self._keys.session_at(session.id), each.id
            if session.fields.get("number"):
                listed = self._keys.workspace(workspace, "sessions")
                yield "ZADD", listed, session.fields["number"], f"{session.id} {each.id}"

    def _parts(self, each: StoredEnvironment) -> Iterable[Words]:
        """Yield the commands that write an environment but for its record, and put what follows from them into that."""

        def key(name: str) -> str:
            return self._keys.environment(each.id, name)

        # The indexes first: by them a purge finds the rest.
        for place, session in enumerate(each.sessions, 1):
            yield "ZADD", key("sessions"), place, session.id
        for number, work in enumerate(each.work, 1):
            yield "ZADD", key("index"), number, work.id
        for session in each.sessions:
            yield from _session(key, session)
        for name, fields in (("keys", each.keys), ("idem", each.idempotency)):
            yield from (("HSET", key(name), member, value) for member, value in fields.items())
        yield from (("ZADD", key("pollers"), at, worker) for worker, at in each.pollers.items())
        yield from (("XADD", key("life"), entry, "e", as_event(fields)) for entry, fields in each.life)
        active = [one for one in each.sessions if one.fields["status"] != "terminated" and "stub" not in one.fields]
        each.record |= {"sessions": str(len(each.sessions)), "active": str(len(active))}
        if each.record["kind"] == "self_hosted":
            yield from _queue(key, each)

    async def _in_batches(
        self,
        commands: Iterable[Words],
        between: Callable[[], Awaitable[None]] | None = None,
    ) -> list[Reply]:
        """Run commands, a part at a time and in no order within one, and tell between two that it goes on."""
        replies: list[Reply] = []
        for part in _parted(commands):
            replies += await self._engine.commands(part)
            if between is not None:
                await between()
        return replies


def _session(key: Key, session: StoredSession) -> Iterable[Words]:
    last, seen = 0, "0"
    for number, (content, date) in enumerate(session.events, 1):
        last = max(date, last + 1)
        if str(number) == session.fields["seen"]:
            seen = str(last)
        yield "XADD", key(f"events:{session.id}"), f"{last}-0", "e", content, "t", date
    yield "HSET", key(f"session:{session.id}"), *_flat({**session.fields, "entry": str(last), "seen": seen})
    if session.due is not None:
        yield "ZADD", key("due"), session.due, session.id


def _queue(key: Key, each: StoredEnvironment) -> Iterable[Words]:
    entries: dict[str, str] = {}
    yield "XGROUP", "CREATE", key("stream"), "workers", 0, "MKSTREAM"
    last, pending = 0, sum(entry.handed_out is not None for entry in each.queue)
    for number, entry in enumerate(each.queue, 1):
        last = max(entry.date, last + 1)
        entries[entry.work_id] = f"{last}-0"
        yield "XADD", key("stream"), f"{last}-0", "w", entry.work_id, "t", entry.date
        if entry.handed_out is not None:
            yield "ZADD", key("polled"), entry.handed_out, f"{last}-0"
        if number == pending:
            # All that were handed out are in the stream, and nothing else: reading it makes them pending.
            each.record["delivered"] = str(last)
            for _ in range(0, pending, _BATCH):
                yield "XREADGROUP", "GROUP", "workers", "workers", "COUNT", _BATCH, "STREAMS", key("stream"), ">"
    each.record |= {"entry": str(last), "waiting": str(len(each.queue) - pending), "seq": str(len(each.work))}
    for number, work in enumerate(each.work, 1):
        fields = {**work.fields, "seq": str(number), "entry": entries.get(work.id, "")}
        yield "HSET", key(f"work:{work.id}"), *_flat(fields)
        for start in range(0, len(work.tokens), _BATCH):
            yield "SADD", key(f"tokens:{work.id}"), *work.tokens[start : start + _BATCH]
        if work.lease_ends is not None:
            yield "ZADD", key("leases"), work.lease_ends, f"{number:016d}:{work.id}"


def _flat(fields: Fields) -> list[str]:
    return [part for pair in fields.items() for part in pair]


def _parted(commands: Iterable[Words]) -> Iterable[list[Words]]:
    """Yield commands in parts that block Redis for some milliseconds at most."""
    part: list[Words] = []
    size = 0
    for command in commands:
        part.append(command)
        size += sum(len(word) for word in command if isinstance(word, str))
        if len(part) >= _PART_COMMANDS or size > _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _claim_of(workspace: str) -> str:
    """Return the member of `purge` that stands for a restore of a workspace: no environment has this id."""
    return f"{workspace} "


def _environment_of(environment_id: str, rows: list[Any]) -> StoredEnvironment:
    sessions: dict[str, StoredSession] = {}
    found: StoredEnvironment | None = None
    for kind, *row in rows:
        if kind == "record":
            record, keys, idempotency, pollers = map(_pairs, row)
            seen = {worker: int(float(at)) for worker, at in pollers.items()}
            found = StoredEnvironment(environment_id, record, keys, idempotency, seen)
        assert found is not None
        match kind:
            case "work":
                id_, fields, tokens, lease = row
                found.work.append(StoredWork(id_, _pairs(fields), sorted(tokens), _optional(lease)))
            case "queue":
                id_, date, handed_out = row
                found.queue.append(StoredEntry(id_, int(date), _optional(handed_out)))
            case "session":
                id_, fields, due = row
                sessions[id_] = StoredSession(id_, _pairs(fields), _optional(due))
            case "event":
                id_, content, date = row
                if id_ in sessions:
                    sessions[id_].events.append((content, int(date)))
            case "life":
                found.life.append((row[0], fields_of(row[1])))
    assert found is not None
    found.sessions = list(sessions.values())
    for session in sessions.values():
        # As a number of events, which says the same whatever their entries are called.
        session.fields["seen"] = str(_seen(session))
    return found


def _seen(session: StoredSession) -> int:
    """Return how many of a session's events its agent has seen: entries are dated, or right after the one before."""
    last, reached = 0, int(session.fields["seen"])
    for number, (_, date) in enumerate(session.events):
        last = max(date, last + 1)
        if last > reached:
            return number
    return len(session.events)
