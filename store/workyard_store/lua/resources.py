"""Calls of the scripts about agents, skills, named scripts and memories. Each class is named like its Lua file, which has the
rules."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..engine.lua import Flat, Word
from ..seeds import SEED
from .heads import Archived, Full, MemoryCall, Ok, WorkspaceCall

NoMemory = Literal["MEMORY"]
Changed = Literal["CHANGED"]


class AgentCreated(NamedTuple):
    """The workspace's instant, microseconds."""

    word: Ok
    now: int


class AgentCreate(WorkspaceCall[AgentCreated], lua="agent_create", refusals=(SEED,)):
    """Keep the definition of an agent, JSON. `seeded`: whether its id follows from the seed."""

    agent_id: str
    definition: str
    seeded: bool


class ScriptPut(WorkspaceCall[Word[Ok] | Word[Full]], lua="script_put"):
    """Keep a script, JSON, under a name; a workspace has `most` of them."""

    name: str
    script: str
    most: int


class StoredRecord(NamedTuple):
    """A record as it is stored."""

    word: Ok
    record: str


class SkillName(NamedTuple):
    """The skill has another name."""

    word: Literal["NAME"]
    name: str


class SkillPut(WorkspaceCall[StoredRecord | Word[Full] | SkillName], lua="skill_put"):
    """Keep a skill, or a new version of it. `rest` of the record is JSON, `archive` base64, `sha` its SHA-256."""

    skill_id: str
    name: str
    rest: str
    description: str
    archive: str
    sha: str
    most_skills: int
    most_versions: int


class SkillDelete(WorkspaceCall[int], lua="skill_delete"):
    """Remove a skill; the reply is how many there were."""

    skill_id: str


class MemoryStorePut(MemoryCall[StoredRecord | Word[Full] | Word[Changed]], lua="memory_store_put", refusals=(SEED,)):
    """Keep the record of a memory store. `expected`: the record that was read, empty for a new store; `content` is JSON."""

    expected: str
    content: str
    archive: bool
    most: int
    seeded: bool


class MemoryStoreDelete(MemoryCall[Word[Ok]], lua="memory_store_delete"):
    """Remove a memory store with all its memories."""


class StoredMemory(NamedTuple):
    """A memory's record and content."""

    word: Ok
    record: str
    content: str


class MemoryChanged(NamedTuple):
    """The stored content is not the expected one; its SHA-256."""

    word: Changed
    sha: str


class MemoryTaken(NamedTuple):
    """Another memory is at the path, or below it."""

    word: Literal["TAKEN"]
    memory_id: str
    path: str


class MemoryFull(NamedTuple):
    """The store has too many memories, or too many bytes of content."""

    word: Full
    of: Literal["count", "bytes"]


class MemoryPut(
    MemoryCall[StoredMemory | Word[NoMemory] | Word[Archived] | MemoryChanged | MemoryTaken | MemoryFull],
    lua="memory_put",
    refusals=(SEED,),
):
    """Create a memory, or change content or path of one. Empty: `path` and `content_sha` keep what is stored, `expected` is any
    content. `size`: of the content, bytes; `seeded`: whether the ids follow from the seed."""

    memory_id: str
    action: Literal["create", "update"]
    path: str
    content_sha: str
    content: str
    size: int
    version_id: str
    expected: str
    most_memories: int
    most_bytes: int
    seeded: bool


class MemoryDelete(MemoryCall[Word[Ok] | Word[NoMemory] | MemoryChanged], lua="memory_delete"):
    """Remove a memory. `expected`: SHA-256 of its content, empty for any."""

    memory_id: str
    expected: str


class MemoryRow(NamedTuple):
    """A memory with its record; the content is empty where it was not asked for."""

    memory_id: str
    record: str
    content: str


class Memories(NamedTuple):
    """The memories that are there."""

    word: Ok
    rows: Flat[MemoryRow]


class MemoryRead(MemoryCall[Memories], lua="memory_read"):
    """Read memories of a store, and with `full` their content."""

    full: bool
    memory_ids: list[str]
