"""Calls of the scripts about the journal. Each class is named like its Lua file, which has the rules."""

from __future__ import annotations

from typing import NamedTuple

from ..engine.lua import Digits, Head, LuaCall, ReplyT_co, Rest, Word
from .heads import LUA, Ok, WorkspaceHead


class JournalCall(LuaCall[ReplyT_co], heads=(Head(WorkspaceHead, ()),), folder=LUA):
    """A call of a script about the journal of a workspace."""


class WrittenBatch(NamedTuple):
    """How many entries a batch has, and their text."""

    entries: int
    text: str


class JournalWrite(JournalCall[Word[Ok]], lua="journal_write"):
    """Append batches. `since`: arrival of the first request in them, wall time in microseconds; `keeps`: entries that are
    kept; `dropped`: earlier entries that were dropped unwritten."""

    since: Digits
    keeps: int
    dropped: int
    batches: list[WrittenBatch]


class StoredBatch(NamedTuple):
    """The number of a batch's last entry, how many it has, and their text."""

    last: int
    entries: int
    text: str


class JournalPart(NamedTuple):
    """How many entries there ever were; of these, how many were dropped unwritten with all before them, and how many cleared;
    wall time of the first or of the clearing, microseconds; and batches."""

    total: int
    gone: int
    cleared: int
    since: int | None
    batches: Rest[StoredBatch]


class JournalRead(JournalCall[JournalPart], lua="journal_read"):
    """Read `count` batches. `first`: number of the first entry that is wanted."""

    first: Digits
    count: int


class JournalClear(JournalCall[int], lua="journal_clear"):
    """Remove the entries; the reply is how many went. `keeps`: entries that are kept."""

    keeps: int
