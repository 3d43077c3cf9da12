"""The work queue's methods: one per verb, each runs one script. Builds the calls of the scripts and interprets their
answers. `polling.py` waits for work. Rules: `work.*`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from workyard_store.access import TRUSTED, Access, Caller, digest, sessions_token
from workyard_store.clock import format_instant, rendered_instant
from workyard_store.engine.lua import Refused, Word
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
from workyard_store.lua.heads import Archived, Full
from workyard_store.metadata import metadata_problems, too_many_keys
from workyard_store.pages import decode_cursor, encode_cursor
from workyard_store.seeds import Fresh, fresh
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..lua.binder import MISSING, ItemCall
from ..lua.work import (
    Ack,
    BeatEnded,
    Change,
    Cloud,
    Delete,
    Enqueue,
    Enqueued,
    Extended,
    Fault,
    Get,
    HandedOut,
    Heartbeat,
    List,
    NewItem,
    NothingToDo,
    Pair,
    Poll,
    ReadFigures,
    Stats,
    Stop,
    Update,
)
from .states import LONGEST_TTL_S, NO_HEARTBEAT, SHORTEST_TTL_S, UNAPPLIED_TTL_S, State

T = TypeVar("T")

#: Items that one enqueue script makes: ten thousand at once would block Redis for a tenth of a second.
ENQUEUE_BATCH = 250
#: Leases of an environment that its figures count by state.
_MOST_LEASES = 500


@dataclass(frozen=True, slots=True)
class LeaseDefaults:
    """Defaults for workspaces without own settings. `ttl_s`, `startup_s` in seconds, `reclaim_ms` in ms."""

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
    """A poll found nothing; the values tell when the passage of time can make work. Microseconds, -1 if absent: until the
    next lease ends, since the oldest hand-out; and the reclaim age of polls that name none. `auto`: the clock stands until
    the server moves it."""

    lease_ends_us: int
    handed_out_us: int
    default_reclaim_us: int
    auto: int = 0

    def due_us(self, reclaim_older_than_ms: int | None) -> float:
        """Return how long a poll with this reclaim age must wait; infinity: only an event can make work for it."""
        due = self.lease_ends_us if self.lease_ends_us >= 0 else math.inf
        if self.handed_out_us >= 0:
            age = self.default_reclaim_us if reclaim_older_than_ms is None else reclaim_older_than_ms * 1000
            due = min(due, age - self.handed_out_us)
        return due


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """The result of a heartbeat. `last_heartbeat` is `""` if there was none before."""

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
    """The metrics of a self-hosted environment at one instant. `oldest_us`: how long the oldest queued item has waited;
    `leases`: by the state of their items, those beyond the first 500 as `unread`."""

    depth: int
    pending: int
    oldest_us: int
    workers_polling: int
    leases: dict[str, int]


def _instant(value: str | None) -> int | None:
    return int(value) if value else None


def _refused_by(refusal: str, state: str) -> str | None:
    """Return the id of the rule that refuses a heartbeat, or None for the rule about the stored heartbeat."""
    if refusal == "LOST":
        return "credentials.sessions-token.dead-heartbeat"
    return "work.heartbeat.queued" if state == State.QUEUED else None


def _item(environment_id: str, work_item_id: str, record: dict[str, str], token: str | None = None) -> WorkItem:
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
        pairs = [Pair(key, value) for key, value in (metadata or {}).items()]
        fingerprint = hashlib.sha256(
            json.dumps([count, session_id, metadata or {}], sort_keys=True).encode()
        ).hexdigest()
        items: list[WorkItem] = []
        batch: list[NewItem] = []

        async def put(
            new: Fresh, start: int
        ) -> Enqueued | Word[Cloud] | Word[Archived] | Word[Literal["REUSED"]] | Word[Full]:
            nonlocal batch
            batch = [
                NewItem(work_item_id or work_id(environment_id, session), session) for session in sessions(new, start)
            ]
            call = Enqueue(
                message=session_id is not None,
                idempotency_key=idempotency_key or "",
                fingerprint=fingerprint,
                most_items=limits.items,
                # A key may stand for items that an earlier try has made.
                number=len(batch) if idempotency_key is not None else count - start,
                metadata=pairs,
                items=batch,
            )
            return await self._access.run(call, environment_id, TRUSTED, seeded=new.seeded)

        for start in range(0, count, ENQUEUE_BATCH):
            reply = await fresh(environment_id, partial(put, start=start))
            match reply.word:
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
                case "OK":
                    made = zip(batch, reply.items, strict=True)
                    items += [_item(environment_id, item.work_id, fields) for item, fields in made]
        return items

    async def poll(
        self, environment_id: str, caller: Caller, *, worker_id: str | None, reclaim_older_than_ms: int | None
    ) -> WorkItem | NoWork:
        """Hand out one item, without waiting.

        Raises:
            WorkPollingUnsupported: a cloud environment.
        """
        secret = ""

        async def hand_out(new: Fresh) -> HandedOut | NothingToDo | Word[Cloud]:
            nonlocal secret
            secret = new.secret()
            call = Poll(
                worker_id=worker_id or "",
                reclaim_us=None if reclaim_older_than_ms is None else reclaim_older_than_ms * 1000,
                default_reclaim_us=self._defaults.reclaim_ms * 1000,
                token_sha=digest(secret),
            )
            return await self._access.run(call, environment_id, caller, seeded=new.seeded)

        reply = await fresh(environment_id, hand_out)
        if reply.word == "NONE":
            return NoWork(reply.lease_ends_us, reply.handed_out_us, reply.default_reclaim_us, reply.auto)
        if reply.word == "CLOUD":
            raise WorkPollingUnsupported(environment_id)
        token = sessions_token(environment_id, reply.work_id, secret)
        return _item(environment_id, reply.work_id, reply.fields, token)

    async def ack(self, environment_id: str, work_item_id: str, caller: Caller) -> WorkItem:
        """Acknowledge a queued item: it leaves the queue and its startup lease begins.

        Raises:
            AckOutOfState: it is not queued.
        """
        call = Ack(work_id=_known(work_item_id), startup_us=self._defaults.startup_s * 1_000_000)
        reply = await self._on_item(call, environment_id, work_item_id, caller)
        if reply.word == "STATE":
            raise AckOutOfState(work_item_id, reply.state)
        return _item(environment_id, work_item_id, reply.fields)

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
            caller: the client that sends the heartbeat.
            expected: `NO_HEARTBEAT`, the heartbeat the caller saw last as it was rendered, or None (or empty) for
                whatever is stored.
            desired_ttl_s: the lease's length in seconds, clamped to 1–3600; None: the default.

        Raises:
            HeartbeatPreconditionFailed: *expected* is not what is stored, or the item is queued.
        """
        expectation: int | Literal["ANY", "NONE", "OTHER"]
        if not expected:
            expectation = "ANY"
        elif expected == NO_HEARTBEAT:
            expectation = "NONE"
        else:
            instant = rendered_instant(expected)
            expectation = "OTHER" if instant is None else instant
        call = Heartbeat(
            work_id=_known(work_item_id),
            expected=expectation,
            ttl_s=None if desired_ttl_s is None else min(max(desired_ttl_s, SHORTEST_TTL_S), LONGEST_TTL_S),
            default_ttl_s=self._defaults.ttl_s,
        )
        reply = await self._on_item(call, environment_id, work_item_id, caller)
        if isinstance(reply, Extended):
            return HeartbeatAnswer(State.ACTIVE, format_instant(reply.stamp), True, reply.ttl_s)
        stored = None if reply.stored is None else format_instant(reply.stored)
        if isinstance(reply, BeatEnded):
            return HeartbeatAnswer(State(reply.state), stored or "", False, UNAPPLIED_TTL_S)
        raise HeartbeatPreconditionFailed(
            expected=expected or NO_HEARTBEAT,
            stored=stored,
            state=reply.state,
            ttl_seconds=UNAPPLIED_TTL_S if reply.ttl_s is None else reply.ttl_s,
            rule=_refused_by(reply.word, reply.state),
        )

    async def stop(self, environment_id: str, work_item_id: str, caller: Caller, *, force: bool) -> WorkItem:
        """Stop an item; one that is already stopped, or can no longer be stopped gracefully, stays unchanged."""
        call = Stop(work_id=_known(work_item_id), force=force)
        return _item(
            environment_id, work_item_id, (await self._on_item(call, environment_id, work_item_id, caller)).fields
        )

    async def get(self, environment_id: str, work_item_id: str, caller: Caller) -> WorkItem:
        """Return an item as the clock has it."""
        call = Get(work_id=_known(work_item_id))
        return _item(
            environment_id, work_item_id, (await self._on_item(call, environment_id, work_item_id, caller)).fields
        )

    async def update(
        self, environment_id: str, work_item_id: str, caller: Caller, patch: Mapping[str, str | None]
    ) -> WorkItem:
        """Patch an item's metadata: a string sets, None deletes.

        Raises:
            InvalidMetadata: the result breaks a cap; the message lists every problem.
        """
        problems = metadata_problems({key: value for key, value in patch.items() if value is not None})
        most = self._access.limits.metadata_keys
        call = Update(
            work_id=_known(work_item_id),
            most_keys=most,
            refused=bool(problems),
            patch=[Change(key, value is not None, value or "") for key, value in patch.items()],
        )
        reply = await self._on_item(call, environment_id, work_item_id, caller)
        if reply.word == "REFUSED":
            raise InvalidMetadata(too_many_keys(reply.keys, most) + problems)
        return _item(environment_id, work_item_id, reply.fields)

    async def list(
        self, environment_id: str, caller: Caller, *, limit: int, page: str | None
    ) -> tuple[list[WorkItem], str | None]:
        """Return a page of items, newest first, and the cursor of the next one.

        Raises:
            WorkListingUnsupported: a live cloud environment.
            InvalidRequest: an archived cloud environment; *page* is not a cursor of this list.
        """
        name = f"work {environment_id}"
        below = None if page is None else decode_cursor(name, page)
        reply = await self._access.run(List(below=below, count=limit + 1), environment_id, caller)
        if reply.word == "CLOUD":
            raise WorkListingUnsupported(environment_id)
        if reply.word == "ARCHIVED":
            raise InvalidRequest(f"Environment {environment_id} is archived.", rule="work.list.cloud-archived")
        items = [_item(environment_id, row.work_id, row.fields) for row in reply.rows]
        shown = items[:limit]
        return shown, encode_cursor(name, shown[-1].sequence) if len(items) > limit else None

    async def stats(self, environment_id: str, caller: Caller) -> QueueStats:
        """Return the queue's figures; zeros for a cloud environment."""
        reply = await self._access.run(Stats(), environment_id, caller)
        if reply.word == "CLOUD":
            return QueueStats(0, 0, None, None)
        return QueueStats(reply.depth, reply.pending, reply.oldest_at, reply.workers_polling)

    async def fault(self, environment_id: str, work_item_id: str, *, rule: str, kind: str, worker_id: str) -> None:
        """Record that a fault rule was applied to a call on an item, and do what its *kind* does to the item (`fault.lua`).

        Nothing happens if there is no such item.
        """
        call = Fault(work_id=work_item_id, rule=rule, kind=kind, worker_id=worker_id)
        with suppress(EnvironmentNotFound, WorkNotFound):
            await self._on_item(call, environment_id, work_item_id, TRUSTED)

    async def figures(self, environment_id: str) -> QueueFigures | None:
        """Return an environment's metrics; None for a cloud environment."""
        reply = await self._access.run(ReadFigures(most_leases=_MOST_LEASES), environment_id, TRUSTED)
        if reply.word == "CLOUD":
            return None
        leased = {
            State.STARTING.value: reply.starting,
            State.ACTIVE.value: reply.active,
            State.STOPPING.value: reply.stopping,
        }
        leased["unread"] = reply.leases - sum(leased.values())
        return QueueFigures(reply.depth, reply.pending, reply.oldest_us or 0, reply.workers_polling, leased)

    async def delete_environment(
        self, environment_id: str, caller: Caller, *, force: bool, workspace: str, quietly: bool = False
    ) -> int:
        """Delete an environment and everything that belongs to it; return how many keys were removed.

        The environment is unknown everywhere from the first step on; this returns when nothing of it is left in Redis.
        *quietly*: waiting clients are not notified, because the environment will be restored.

        Raises:
            SessionsActive: sessions are neither archived nor terminated, and not *force*.
            DeleteRefused: work is queued, and not *force*.
        """
        await self._workspaces.intend_purge(workspace, environment_id)
        reply = await self._access.run(Delete(force=force, quietly=quietly), environment_id, caller)
        if reply.word != "OK":
            await self._workspaces.abandon_purge(workspace, environment_id)
            raise SessionsActive(reply.active) if reply.word == "SESSIONS" else DeleteRefused
        return 1 + await self._workspaces.purge(workspace, environment_id)

    async def remove_environment(self, environment_id: str, *, workspace: str, quietly: bool = False) -> int:
        """Delete an environment in any state, even if it is only half created or half deleted."""
        try:
            return await self.delete_environment(
                environment_id, TRUSTED, force=True, workspace=workspace, quietly=quietly
            )
        except EnvironmentNotFound:
            return await self._workspaces.purge(workspace, environment_id)

    async def _on_item(self, call: ItemCall[T], environment_id: str, work_item_id: str, caller: Caller) -> T:
        try:
            return await self._access.run(call, environment_id, caller)
        except Refused as refused:
            if refused.word != MISSING:
                raise
        # A sessions token is minted for an existing item.
        raise TokenRevoked if caller.strict and caller.work_id == work_item_id else WorkNotFound(work_item_id)


def _known(work_item_id: str) -> str:
    """Return the id of a work item, or a text that is not the id of any item."""
    return work_item_id if is_id("work", work_item_id) else "-"
