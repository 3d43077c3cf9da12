"""Calls of the scripts about sessions. Each class is named like its Lua file, which has the rules.

Word `STALE`: read the session again.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from workyard_store.engine.lua import Digits, ReplyT_co, Rest, Word
from workyard_store.lua.heads import Archived, Full, Ok, Stale
from workyard_store.seeds import SEED

from .binder import MISSING, SessionCall

Terminated = Literal["TERMINATED"]
#: The word of a session whose agent has to act first.
DUE = "DUE"
#: An entry of a stream as Redis answers it: its id, and its fields in turn.
Entry = list[Any]


class Reserved(NamedTuple):
    """The workspace of a new session."""

    word: Ok
    workspace: str


class SessionReserve(SessionCall[Reserved | Word[Archived] | Word[Full]], lua="session_reserve", refusals=(SEED,)):
    """Give a new session its place in the environment. `most`: sessions, and as many items."""

    session_id: str
    most: int


class SessionUnreserve(SessionCall[Word[Ok]], lua="session_unreserve"):
    """Give up the place of a session that could not be created."""

    session_id: str


class SessionCreate(SessionCall[Word[Ok] | Word[Archived] | Word[Full]], lua="session_create", refusals=(SEED,)):
    """Create a session. `number`: its sequence in the workspace; `agent`, `title`, `metadata`, `resources`, `vaults`, `script`
    and `events` are JSON, `script` and `source` empty if it has none."""

    session_id: str
    work_id: str
    number: Digits
    agent: str
    title: str
    metadata: str
    resources: str
    vaults: str
    script: str
    source: str
    most_items: int
    events: list[str]


class OneSessionCall(SessionCall[ReplyT_co]):
    """A call of a script about one session and its work."""

    session_id: str
    work_id: str


class FoundSessionCall(OneSessionCall[ReplyT_co], refusals=(MISSING,)):
    """A call of a script that looks for the session first."""


class SessionRead(NamedTuple):
    """A session as its hash, at the instant `now`, microseconds. `is_due`: whether its agent has to act first; `held_since`: the
    instant since which a worker holds its work, 0 in a cloud environment, None: no worker does."""

    word: Ok
    is_due: bool
    now: int
    workspace: str
    fields: dict[str, str]
    held_since: int | None


class SessionGet(FoundSessionCall[SessionRead], lua="session_get"):
    """Read a session."""


class EventsRead(NamedTuple):
    """A part of a session's events. `is_due`: whether its agent has to act first."""

    word: Ok
    is_due: bool
    entries: list[Entry]


class SessionEvents(FoundSessionCall[EventsRead], lua="session_events"):
    """Read a part of a session's events after the entry `behind`, microseconds; None: from the start."""

    order: str
    behind: Digits | None
    count: int


class Appended(NamedTuple):
    """The date of the events, microseconds."""

    word: Ok
    now: int


class SessionAppend(
    FoundSessionCall[Appended | Word[Archived] | Word[Terminated] | Word[Literal["CLOUD"]]],
    lua="session_append",
    refusals=(SEED,),
):
    """Append a client's events, JSON each. `asks`: whether one asks for work; `has_results`: whether one is the result of a tool
    that a worker ran."""

    asks: bool
    has_results: bool
    events: list[str]


class SessionUpdate(OneSessionCall[Word[Ok] | Word[Stale]], lua="session_update", refusals=(SEED,)):
    """Store a changed record. `version`: of the one that was read; the others are JSON."""

    version: Digits
    agent: str
    title: str
    metadata: str
    events: list[str]


class IsRunning(NamedTuple):
    """The session runs, or is to run again."""

    word: Literal["RUNNING"]
    status: str


class SessionArchive(FoundSessionCall[Word[Ok] | IsRunning], lua="session_archive", refusals=(SEED, DUE)):
    """Archive a session. `events`: the one that reports it, JSON."""

    events: list[str]


class Deleted(NamedTuple):
    """The workspace of a deleted session, and whether its place in the environment is still to be removed."""

    word: Ok
    workspace: str
    has_place: bool


class SessionDelete(FoundSessionCall[Deleted | Word[Literal["RUNNING"]]], lua="session_delete", refusals=(DUE,)):
    """Delete a session."""


class SessionScript(
    OneSessionCall[Word[Ok] | Word[Stale] | Word[Literal["BUSY"]] | Word[Terminated]], lua="session_script"
):
    """Give a session another script. `version`: of the record that was read; `script` and the agent's `state` are JSON."""

    version: Digits
    script: str
    source: str
    state: str


class TurnRead(NamedTuple):
    """What an agent needs to act, at the instant `now`. `held_since`: the instant since which a worker holds the work; `script`
    (empty: none yet), `state` and `metadata` are JSON; `seen`: the last entry read. Instants and entries are microseconds."""

    word: Ok
    version: int
    now: int
    workspace: str
    cloud: bool
    held_since: int | None
    script: str
    state: str
    metadata: str
    seen: int
    entries: list[Entry]


class SessionTurn(OneSessionCall[TurnRead | Word[Literal["NONE"]]], lua="session_turn"):
    """Read the input of an agent's next turn, if one is due."""

    most_events: int


class SessionCommit(OneSessionCall[Word[Ok] | Word[Stale]], lua="session_commit"):
    """Store an agent's reaction to events. `version`: of the record that was read, `last_read`: the last entry that was;
    `due_at`: when it acts again; `state`, `script` and `events` are JSON, `script` and `source` empty if the session
    has them. Instants and entries are microseconds."""

    version: Digits
    last_read: Digits
    state: str
    status: str
    due_at: Digits | None
    busy: bool
    script: str
    source: str
    events: list[str]


class DueSessions(NamedTuple):
    """Microseconds until another agent becomes due, or -1; and the sessions whose agent is due now."""

    word: Ok
    ahead_us: int
    session_ids: Rest[str]


class SessionDue(SessionCall[DueSessions], lua="session_due"):
    """Name up to `most` sessions whose agent has to act."""

    most: int
