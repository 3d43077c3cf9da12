"""Calls of the scripts that read and write whole environments. Each class is named like its Lua file, which has the rules."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from workyard_store.engine.lua import Value, Word
from workyard_store.lua.heads import Ok

from .binder import QueueCall


class StatePart(NamedTuple):
    """A part of an environment: the section to go on with, empty if this was all, the place in it, and rows: a kind, and what
    `state_read.lua` says of it."""

    word: Ok
    section: str
    place: str
    rows: list[list[Any]]


class StateRead(QueueCall[StatePart | Word[Literal["CHANGED"]]], lua="state_read"):
    """Read a part of an environment. `mark`: a text of the reader's own; `left`: about how many rows at most."""

    mark: str
    section: str
    place: str
    left: int


class StateWrite(QueueCall[Word[Ok] | Word[Literal["LIVE"]] | Word[Literal["PURGED"]]], lua="state_write"):
    """Write a part of an environment. `restore`: which one writes; `words`: of each command how many words it has, then these."""

    restore: str
    first: bool
    words: list[Value]
