"""The work queue's methods: one a verb, each one script. Owns what goes into a script and what its answer means.
Waiting for work is `polling.py`. Rules: `work.*`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from workyard_store.access import TRUSTED, Access, Caller, digest, sessions_token
from workyard_store.clock import format_instant, rendered_instant
from workyard_store.engine.engine import Reply, Script
from workyard_store.errors import (
    AckOutOfState,
    DeleteRefused,
    EnvironmentNotFound,
    HeartbeatPreconditionFailed,
    InvalidMetadata,
    InvalidRequest,
    SessionsActive,
    TokenRevoked,
    WorkListingUnsupported,
    WorkNotFound,
    WorkPollingUnsupported,
)
from workyard_store.ids import derived_suffix, is_id, work_id
from workyard_store.metadata import metadata_problems, too_many_keys
from workyard_store.pages import decode_cursor, encode_cursor
from workyard_store.seeds import Fresh, fresh
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..lua.binder import queue_script
from .states import LONGEST_TTL_S, NO_HEARTBEAT, SHORTEST_TTL_S, UNAPPLIED_TTL_S, State

_ENQUEUE = queue_script("enqueue")
_POLL = queue_script("poll")
_ACK = queue_script("ack")
_HEARTBEAT = queue_script("heartbeat")
_STOP = queue_script("stop")
_GET = queue_script("get")
_UPDATE = queue_script("update")
_LIST = queue_script("list")
_STATS = queue_script("stats")
_FIGURES = queue_script("figures")
_DELETE = queue_script("delete")
_FAULT = queue_script("fault")

#: Items one enqueue script makes: ten thousand at once would hold Redis up for a tenth of a second.
ENQUEUE_BATCH = 250
#: Leases of an environment whose state is looked up for its figures.
_MOST_LEASES = 500


@dataclass(frozen=True, slots=True)
class LeaseDefaults:
    """What holds where a workspace has no setting of its own. `ttl_s`, `startup_s` in seconds, `reclaim_ms` in ms."""

    ttl_s: int
    startup_s: int
    reclaim_ms: int


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One work item. Instants are microseconds, None where the stage was not reached; `traceparent`: of the call that made
    it, or gave its session the last message, if that had one."""

    id: str
    environment_id: str
    session_id: str
    state: State
    metadata: dict[str, str]
    created_at: int
    acknowledged_at: int | None
    started_at: int | None
    latest_heartbeat_at: int | None
    stop_requested_at: int | None
    stopped_at: int | None
    sequence: int
    traceparent: str | None
    sessions_token: str | None = None


@dataclass(frozen=True, slots=True)
class NoWork:
    """A poll found nothing; what it saw tells when time alone can make work. Microseconds, -1 where there is nothing:
    until the next lease ends, since the oldest hand-out; and the reclaim age of polls that name none. `auto`: the
    clock stands until the server moves it."""

    lease_ends_us: int
    handed_out_us: int
    default_reclaim_us: int
    auto: int = 0

    def due_us(self, reclaim_older_than_ms: int | None) -> float:
        """Return how long a poll with this reclaim age has to wait; infinity: only an event can make work for it."""
        due = self.lease_ends_us if self.lease_ends_us >= 0 else math.inf
        if self.handed_out_us >= 0:
            age = self.default_reclaim_us if reclaim_older_than_ms is None else reclaim_older_than_ms * 1000
            due = min(due, age - self.handed_out_us)
        return due


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """What a heartbeat achieved. `last_heartbeat` is `""` where there never was one."""

    state: State
    last_heartbeat: str
    lease_extended: bool
    ttl_seconds: int


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The queue's figures at one instant; `workers_polling` is None for a cloud environment."""

    depth: int
    pending: int
    oldest_queued_at: int | None
    workers_polling: int | None


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """What a monitor shows of a self-hosted environment at one instant. `oldest_us`: how long the oldest queued item waits;
    `leases`: by the state of their items, those beyond the first 500 as `unread`."""

    depth: int
    pending: int
    oldest_us: int
    workers_polling: int
    leases: dict[str, int]


def _instant(value: str | None) -> int | None:
    return int(value) if value else None


def _refused_by(refusal: str, state: str) -> str | None:
    """Return the id of the rule by which a heartbeat is refused, or None: by that about the stored one."""
    if refusal == "LOST":
        return "credentials.sessions-token.dead-heartbeat"
    return "work.heartbeat.queued" if state == State.QUEUED else None


def _item(environment_id: str, work_item_id: str, fields: list[str], token: str | None = None) -> WorkItem:
    record = dict(zip(fields[::2], fields[1::2], strict=True))
    read = record.get
    return WorkItem(
        id=work_item_id,
        environment_id=environment_id,
        session_id=record["session"],
        state=State(record["state"]),
        metadata={name[2:]: value for name, value in record.items() if name[:2] == "m:"},
        created_at=int(record["created"]),
        acknowledged_at=_instant(read("acked")),
        started_at=_instant(read("started")),
        latest_heartbeat_at=_instant(read("beat")),
        stop_requested_at=_instant(read("stop")),
        stopped_at=_instant(read("stopped")),
        sequence=int(record["seq"]),
        traceparent=read("trace") or None,
        sessions_token=token,
    )


class WorkQueue:
    """The queues of all environments of one Redis.

    Every method raises `EnvironmentNotFound` for an environment the caller does not reach, `WorkNotFound` for an item
    that environment does not have, and `StorageUnavailable` when Redis does not answer.
    """

    def __init__(self, access: Access, workspaces: WorkspaceStore, defaults: LeaseDefaults) -> None:
        self._access = access
        self._workspaces = workspaces
        self._defaults = defaults

    async def enqueue(
        self,
        environment_id: str,
        *,
        count: int = 1,
        session_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        work_item_id: str | None = None,
    ) -> list[WorkItem]:
        """Enqueue *count* items, each for a made-up session, or one for *session_id*; if that has an item already, it
        gets a message instead (rule `work.message.stopped`). An item's id follows from its session, unless
        *work_item_id* is given, for a single one.

        With *idempotency_key* the made-up ids follow from it, so a repeat enqueues what a crash left out and nothing
        twice. Batches of `ENQUEUE_BATCH`: a crash in between leaves a prefix.

        Raises:
            InvalidRequest: a cloud or archived environment; a key used before for another request.
            LimitReached: the environment has no room; nothing was enqueued, or with *idempotency_key* a prefix.
        """

        def sessions(new: Fresh, start: int) -> list[str]:
            numbers = range(start, min(start + ENQUEUE_BATCH, count))
            if session_id is not None:
                return [session_id]
            if idempotency_key is None:
                return [new.id("session") for _ in numbers]
            return ["session_" + derived_suffix("session", environment_id, idempotency_key, str(n)) for n in numbers]

        limits = self._access.limits
        pairs = [part for pair in (metadata or {}).items() for part in pair]
        fingerprint = hashlib.sha256(
            json.dumps([count, session_id, metadata or {}], sort_keys=True).encode()
        ).hexdigest()
        items: list[WorkItem] = []
        batch: list[tuple[str, str]] = []

        async def put(new: Fresh, start: int) -> Reply:
            nonlocal batch
            batch = [(work_item_id or work_id(environment_id, session), session) for session in sessions(new, start)]
            return await self._access.run(
                _ENQUEUE,
                environment_id,
                TRUSTED,
                "0" if session_id is None else "1",
                idempotency_key or "",
                fingerprint,
                limits.items,
                # A key may stand for items that an earlier try has made.
                len(batch) if idempotency_key is not None else count - start,
                len(pairs),
                *pairs,
                *[part for pair in batch for part in pair],
                seeded=new.seeded,
            )

        for start in range(0, count, ENQUEUE_BATCH):
            reply = await fresh(environment_id, partial(put, start=start))
            match reply[0]:
                case "CLOUD":
                    raise InvalidRequest(
                        f"Environment {environment_id} is not self-hosted.", rule="control.enqueue.kind"
                    )
                case "ARCHIVED":
                    raise InvalidRequest(f"Environment {environment_id} is archived.", rule="control.enqueue.archived")
                case "FULL":
                    raise limits.full_of_items(environment_id)
                case "REUSED":
                    raise InvalidRequest(
                        "idempotency_key: Was used before for a different request", rule="control.enqueue.key-reused"
                    )
            items += [_item(environment_id, id_, fields) for (id_, _), fields in zip(batch, reply[1:], strict=True)]
        return items

    async def poll(
        self, environment_id: str, caller: Caller, *, worker_id: str | None, reclaim_older_than_ms: int | None
    ) -> WorkItem | NoWork:
        """Hand out one item, without waiting.

        Raises:
            WorkPollingUnsupported: a cloud environment.
        """
        secret = ""

        async def hand_out(new: Fresh) -> Reply:
            nonlocal secret
            secret = new.secret()
            return await self._access.run(
                _POLL,
                environment_id,
                caller,
                worker_id or "",
                "" if reclaim_older_than_ms is None else reclaim_older_than_ms * 1000,
                self._defaults.reclaim_ms * 1000,
                digest(secret),
                seeded=new.seeded,
            )

        reply = await fresh(environment_id, hand_out)
        if reply[0] == "NONE":
            return NoWork(*reply[1:])
        if reply[0] == "CLOUD":
            raise WorkPollingUnsupported(environment_id)
        _, handed_out, fields = reply
        return _item(environment_id, handed_out, fields, sessions_token(environment_id, handed_out, secret))

    async def ack(self, environment_id: str, work_item_id: str, caller: Caller) -> WorkItem:
        """Acknowledge a queued item: it leaves the queue and its startup lease begins.

        Raises:
            AckOutOfState: it is not queued.
        """
        reply = await self._on_item(_ACK, environment_id, work_item_id, caller, self._defaults.startup_s * 1_000_000)
        if reply[0] == "STATE":
            raise AckOutOfState(work_item_id, reply[1])
        return _item(environment_id, work_item_id, reply[1])

    async def heartbeat(
        self,
        environment_id: str,
        work_item_id: str,
        caller: Caller,
        *,
        expected: str | None,
        desired_ttl_s: int | None,
    ) -> HeartbeatAnswer:
        """Claim or extend the lease.

        Args:
            environment_id: the item's environment.
            work_item_id: the item.
            caller: who beats.
            expected: `NO_HEARTBEAT`, the heartbeat the caller saw last as it was rendered, or None (or empty) for
                whatever is stored.
            desired_ttl_s: the lease's length in seconds, clamped to 1–3600; None: the default.

        Raises:
            HeartbeatPreconditionFailed: *expected* is not what is stored, or the item is queued.
        """
        if not expected:
            expectation: str | int = "ANY"
        elif expected == NO_HEARTBEAT:
            expectation = "NONE"
        else:
            instant = rendered_instant(expected)
            expectation = "OTHER" if instant is None else instant
        ttl = "" if desired_ttl_s is None else min(max(desired_ttl_s, SHORTEST_TTL_S), LONGEST_TTL_S)
        reply = await self._on_item(
            _HEARTBEAT, environment_id, work_item_id, caller, expectation, ttl, self._defaults.ttl_s
        )
        match reply:
            case ["OK", stamp, applied]:
                return HeartbeatAnswer(State.ACTIVE, format_instant(int(stamp)), True, int(applied))
            case ["ENDED", state, stored]:
                rendered = format_instant(int(stored)) if stored else ""
                return HeartbeatAnswer(State(state), rendered, False, UNAPPLIED_TTL_S)
            case [refusal, state, stored, applied]:
                raise HeartbeatPreconditionFailed(
                    expected=expected or NO_HEARTBEAT,
                    stored=format_instant(int(stored)) if stored else None,
                    state=state,
                    ttl_seconds=int(applied) if applied else UNAPPLIED_TTL_S,
                    rule=_refused_by(refusal, state),
                )
        raise AssertionError(reply)

    async def stop(self, environment_id: str, work_item_id: str, caller: Caller, *, force: bool) -> WorkItem:
        """Stop an item; what is already stopped, or cannot be stopped gracefully any more, stays as it is."""
        reply = await self._on_item(_STOP, environment_id, work_item_id, caller, "1" if force else "0")
        return _item(environment_id, work_item_id, reply[1])

    async def get(self, environment_id: str, work_item_id: str, caller: Caller) -> WorkItem:
        """Return an item as the clock has it."""
        reply = await self._on_item(_GET, environment_id, work_item_id, caller)
        return _item(environment_id, work_item_id, reply[1])

    async def update(
        self, environment_id: str, work_item_id: str, caller: Caller, patch: Mapping[str, str | None]
    ) -> WorkItem:
        """Patch an item's metadata: a string sets, None deletes.

        Raises:
            InvalidMetadata: the result breaks a cap; the message lists every problem.
        """
        problems = metadata_problems({key: value for key, value in patch.items() if value is not None})
        most = self._access.limits.metadata_keys
        triples = [part for key, value in patch.items() for part in (key, "0" if value is None else "1", value or "")]
        reply = await self._on_item(
            _UPDATE, environment_id, work_item_id, caller, most, "0" if problems else "1", *triples
        )
        if reply[0] == "REFUSED":
            raise InvalidMetadata(too_many_keys(reply[1], most) + problems)
        return _item(environment_id, work_item_id, reply[1])

    async def list(
        self, environment_id: str, caller: Caller, *, limit: int, page: str | None
    ) -> tuple[list[WorkItem], str | None]:
        """Return a page of items, newest first, and the cursor of the next one.

        Raises:
            WorkListingUnsupported: a live cloud environment.
            InvalidRequest: an archived cloud environment; *page* is not a cursor of this list.
        """
        name = f"work {environment_id}"
        below = "" if page is None else decode_cursor(name, page)
        reply = await self._access.run(_LIST, environment_id, caller, below, limit + 1)
        if reply[0] == "CLOUD":
            raise WorkListingUnsupported(environment_id)
        if reply[0] == "ARCHIVED":
            raise InvalidRequest(f"Environment {environment_id} is archived.", rule="work.list.cloud-archived")
        items = [_item(environment_id, id_, fields) for id_, fields in zip(reply[1::2], reply[2::2], strict=True)]
        shown = items[:limit]
        return shown, encode_cursor(name, shown[-1].sequence) if len(items) > limit else None

    async def stats(self, environment_id: str, caller: Caller) -> QueueStats:
        """Return the queue's figures; zeros for a cloud environment."""
        reply = await self._access.run(_STATS, environment_id, caller)
        if reply[0] == "CLOUD":
            return QueueStats(0, 0, None, None)
        _, depth, pending, oldest, workers = reply
        return QueueStats(depth, pending, _instant(oldest), workers)

    async def fault(self, environment_id: str, work_item_id: str, *, rule: str, kind: str, worker_id: str) -> None:
        """Note that a fault rule was applied to a call on an item, and do what its *kind* does to the item (`fault.lua`).

        Nothing happens where there is no such item.
        """
        with suppress(EnvironmentNotFound):
            await self._access.run(_FAULT, environment_id, TRUSTED, work_item_id, rule, kind, worker_id)

    async def figures(self, environment_id: str) -> QueueFigures | None:
        """Return what a monitor shows; None for a cloud environment."""
        reply = await self._access.run(_FIGURES, environment_id, TRUSTED, _MOST_LEASES)
        if reply[0] == "CLOUD":
            return None
        _, depth, pending, oldest, workers, leases, *by_state = reply
        of_state = dict(zip((State.STARTING, State.ACTIVE, State.STOPPING), by_state, strict=True))
        leased = {state.value: count for state, count in of_state.items()} | {"unread": leases - sum(by_state)}
        return QueueFigures(depth, pending, int(oldest or 0), workers, leased)

    async def delete_environment(
        self, environment_id: str, caller: Caller, *, force: bool, workspace: str, quietly: bool = False
    ) -> int:
        """Delete an environment and all that belongs to it; return how many keys went.

        From the first moment it is unknown everywhere; this returns when nothing of it is left in Redis. *quietly*: those
        that wait for something of it are not told, for it comes back.

        Raises:
            SessionsActive: sessions are neither archived nor terminated, and not *force*.
            DeleteRefused: work is queued, and not *force*.
        """
        await self._workspaces.intend_purge(workspace, environment_id)
        reply = await self._access.run(_DELETE, environment_id, caller, "1" if force else "0", "1" if quietly else "0")
        if reply[0] != "OK":
            await self._workspaces.abandon_purge(workspace, environment_id)
            raise SessionsActive(reply[1]) if reply[0] == "SESSIONS" else DeleteRefused
        return 1 + await self._workspaces.purge(workspace, environment_id)

    async def remove_environment(self, environment_id: str, *, workspace: str, quietly: bool = False) -> int:
        """Delete an environment whatever its state, one that is half created or half deleted included."""
        try:
            return await self.delete_environment(
                environment_id, TRUSTED, force=True, workspace=workspace, quietly=quietly
            )
        except EnvironmentNotFound:
            return await self._workspaces.purge(workspace, environment_id)

    async def _on_item(
        self, script: Script, environment_id: str, work_item_id: str, caller: Caller, *arguments: str | int
    ) -> Reply:
        known = work_item_id if is_id("work", work_item_id) else "-"
        reply = await self._access.run(script, environment_id, caller, known, *arguments)
        if reply[0] == "MISSING":
            # A sessions token is minted for an item that is there.
            raise TokenRevoked if caller.strict and caller.work_id == work_item_id else WorkNotFound(work_item_id)
        return reply
