"""Calls of the scripts about timelines and changes. Each class is named like its Lua file, which has the rules."""

from __future__ import annotations

from typing import NamedTuple

from workyard_store.lua.heads import Ok

from .binder import ItemCall, QueueCall


class StoredEvent(NamedTuple):
    """An event of a timeline: its entry, and its text."""

    entry: str
    event: str


class LifeRead(NamedTuple):
    """A part of an item's timeline, newest first, and the item at the instant `now`. `below`: the entry to continue below, empty when
    all was looked through. Instants are microseconds."""

    word: Ok
    now: int
    stands_still: bool
    state: str
    session_id: str
    lease_ends: int | None
    workers_polling: int
    below: str
    events: list[StoredEvent]


class Life(ItemCall[LifeRead], lua="life"):
    """Read a part of an item's timeline. `below`: entry to continue below, or empty; `count`: events of the environment that are
    looked through."""

    below: str
    count: int


class Seen(NamedTuple):
    """An environment at one instant. `there`: whether the item is; `entered`: the states that it entered; `reached`: the last entry of
    the timeline; `due_us`: microseconds until time alone changes one of the figures, -1: it cannot."""

    word: Ok
    there: bool
    state: str
    entered: list[str]
    reached: str
    depth: int
    pending: int
    leased: int
    items: int
    workers_polling: int
    due_us: int


class Look(QueueCall[Seen], lua="look"):
    """Look at an environment. `watch_until`: wall time, microseconds, until which it is watched; `work_id` may be empty; `since`: entry
    of the timeline after which the item's states count, empty: none do; `count`: events that are looked through for them."""

    watch_until: int | None
    work_id: str
    since: str
    count: int
