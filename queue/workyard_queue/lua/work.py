"""Calls of the scripts about work items. Each class is named like its Lua file, which has the rules.

Words: `CLOUD`: a cloud environment has no queue; `ARCHIVED`: the environment is.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from workyard_store.engine.lua import Digits, Flat, Rest, Word
from workyard_store.lua.heads import Archived, Full, Ok
from workyard_store.seeds import SEED

from .binder import ItemCall, QueueCall

Cloud = Literal["CLOUD"]
Fields = dict[str, str]


class Pair(NamedTuple):
    """One string of an item's metadata."""

    key: str
    value: str


class NewItem(NamedTuple):
    """A work item to enqueue, and its session."""

    work_id: str
    session_id: str


class Enqueued(NamedTuple):
    """The items, each as its hash."""

    word: Ok
    items: Rest[Fields]


class Enqueue(
    QueueCall[Enqueued | Word[Cloud] | Word[Archived] | Word[Literal["REUSED"]] | Word[Full]],
    lua="enqueue",
    refusals=(SEED,),
):
    """Enqueue items, or with `message` pass one to those that exist. Without idempotency key that is empty; `number`: items that
    this call and later batches are to make at least."""

    message: bool
    idempotency_key: str
    fingerprint: str
    most_items: int
    number: int
    metadata: list[Pair]
    items: list[NewItem]


class HandedOut(NamedTuple):
    """An item that was handed out."""

    word: Literal["WORK"]
    work_id: str
    fields: Fields


class NothingToDo(NamedTuple):
    """There is no work. Microseconds, -1 where there is nothing, or the clock stands still: until the next lease ends, and since the
    oldest hand-out; then the reclaim age of a poll that names none; `auto`: whether the clock is of that mode."""

    word: Literal["NONE"]
    lease_ends_us: int
    handed_out_us: int
    default_reclaim_us: int
    auto: int


class Poll(QueueCall[HandedOut | NothingToDo | Word[Cloud]], lua="poll", refusals=(SEED,)):
    """Hand an item out. `worker_id` may be empty; `reclaim_us`: reclaim age, None: the workspace's; `token_sha`: SHA-256 of the
    sessions token to mint."""

    worker_id: str
    reclaim_us: int | None
    default_reclaim_us: int
    token_sha: str


class ItemReply(NamedTuple):
    """An item as its hash."""

    word: Ok
    fields: Fields


class NotQueued(NamedTuple):
    """The item is in another state."""

    word: Literal["STATE"]
    state: str


class Ack(ItemCall[ItemReply | NotQueued], lua="ack"):
    """Acknowledge an item. `startup_us`: the server's startup lease."""

    startup_us: int


class Extended(NamedTuple):
    """The lease runs on: the stored heartbeat, microseconds, and the ttl in seconds."""

    word: Ok
    stamp: int
    ttl_s: int


class BeatEnded(NamedTuple):
    """The item is stopping or stopped; the stored heartbeat, microseconds."""

    word: Literal["ENDED"]
    state: str
    stored: int | None


class BeatRefused(NamedTuple):
    """The expectation does not match, or (`LOST`) the token is of an earlier life; the stored heartbeat in microseconds, and the
    ttl last applied in seconds."""

    word: Literal["MISMATCH", "LOST"]
    state: str
    stored: int | None
    ttl_s: int | None


class Heartbeat(ItemCall[Extended | BeatEnded | BeatRefused], lua="heartbeat"):
    """Claim or extend a lease. `expected`: the heartbeat that the caller saw last, microseconds; `ANY`: left out; `NONE`: there was
    none yet; `OTHER`: a text that no heartbeat renders as. `ttl_s` None: the workspace's."""

    expected: Digits | Literal["ANY", "NONE", "OTHER"]
    ttl_s: int | None
    default_ttl_s: int


class Stop(ItemCall[ItemReply], lua="stop"):
    """Stop an item, gracefully or by force."""

    force: bool


class Get(ItemCall[ItemReply], lua="get"):
    """Read an item."""


class Change(NamedTuple):
    """One key of a patch of metadata: set, or deleted."""

    key: str
    sets: bool
    value: str


class TooManyKeys(NamedTuple):
    """The patch is refused; how many keys the result would have."""

    word: Literal["REFUSED"]
    keys: int


class Update(ItemCall[ItemReply | TooManyKeys], lua="update"):
    """Patch an item's metadata. `refused`: it is refused already, and only the number of keys is wanted."""

    most_keys: int
    refused: bool
    patch: list[Change]


class ListedItem(NamedTuple):
    """An item of a list."""

    work_id: str
    fields: Fields


class Listed(NamedTuple):
    """A page of items, newest first."""

    word: Ok
    rows: Flat[ListedItem]


class List(QueueCall[Listed | Word[Cloud] | Word[Archived]], lua="list"):
    """Read a page of items. `below`: sequence to continue below; None: the newest."""

    below: Digits | None
    count: int


class Figures(NamedTuple):
    """The queue's figures. `oldest_at`: date of the oldest live entry, microseconds."""

    word: Ok
    depth: int
    pending: int
    oldest_at: int | None
    workers_polling: int


class Stats(QueueCall[Figures | Word[Cloud]], lua="stats"):
    """Read the queue's figures."""


class MonitorFigures(NamedTuple):
    """An environment's metrics. `oldest_us`: age of the oldest live entry; then the counted leases by state."""

    word: Ok
    depth: int
    pending: int
    oldest_us: int | None
    workers_polling: int
    leases: int
    starting: int
    active: int
    stopping: int


class ReadFigures(QueueCall[MonitorFigures | Word[Cloud]], lua="figures"):
    """Read an environment's metrics. `most_leases`: how many leases to count by state."""

    most_leases: int


class SessionsAreActive(NamedTuple):
    """The environment has this many active sessions."""

    word: Literal["SESSIONS"]
    active: int


class Delete(QueueCall[Word[Ok] | SessionsAreActive | Word[Literal["QUEUED"]]], lua="delete"):
    """Make an environment unknown. `quietly`: no notification, because it will be restored."""

    force: bool
    quietly: bool


class Fault(ItemCall[Word[Ok]], lua="fault"):
    """Note that a fault rule was applied to a call on an item. `worker_id` may be empty."""

    rule: str
    kind: str
    worker_id: str


class Counted(NamedTuple):
    """What was found and looked at; the last three count what was looked at."""

    violations: int
    items: int
    looked_at: int
    queued: int
    leases: int
    stopped: int
    entries_into_stopped: int


class Recounted(NamedTuple):
    """The violations, each with the rule, the item or an empty string, and a text; and counts."""

    word: Ok
    named: list[str]
    counted: Counted


class Recount(QueueCall[Recounted], lua="invariants"):
    """Recount an environment. `most`: items looked at one by one; `shown`: violations named; `windows`: where in its stretch of the
    index each part of a sample begins, 0–999999."""

    most: int
    shown: int
    windows: list[int]
