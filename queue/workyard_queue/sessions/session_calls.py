"""Calls of the scripts about one session, as functions of ids. The caller learns the ids of the session and of its work
only when it has found the session's environment, and the ids of events perhaps only after the first try."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from workyard_store.engine.lua import Refused

from ..lua.sessions import (
    EventsRead,
    OneSessionCall,
    SessionAppend,
    SessionArchive,
    SessionDelete,
    SessionEvents,
    SessionGet,
    SessionUpdate,
)

T = TypeVar("T")
#: Makes a call, of the ids of a session and its work.
Make = Callable[[str, str], OneSessionCall[T]]
#: The same of a call that appends events, of these as JSON, too.
MakeWithEvents = Callable[[str, str, list[str]], OneSessionCall[T]]


class RefusedIn(Exception):
    """A script about a session has refused, in this environment."""

    def __init__(self, environment_id: str, refused: Refused) -> None:
        super().__init__(environment_id, refused)
        self.environment_id = environment_id
        self.refused = refused


def dump(value: Any) -> str:
    """Return a value as it is stored."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def get(session_id: str, work_id: str) -> SessionGet:
    """Read a session."""
    return SessionGet(session_id=session_id, work_id=work_id)


def read_events(order: str, behind: int | None, count: int) -> Make[EventsRead]:
    """Read *count* events after an entry, in microseconds; `asc` or `desc`."""
    return lambda session_id, work_id: SessionEvents(
        session_id=session_id, work_id=work_id, order=order, behind=behind, count=count
    )


def append(session_id: str, work_id: str, events: list[str], *, asks: bool, has_results: bool) -> SessionAppend:
    """Append events of a client."""
    return SessionAppend(session_id=session_id, work_id=work_id, asks=asks, has_results=has_results, events=events)


def update(
    session_id: str,
    work_id: str,
    events: list[str],
    *,
    version: int,
    agent: dict[str, Any] | None,
    title: str | None,
    metadata: dict[str, str],
) -> SessionUpdate:
    """Store a changed record."""
    return SessionUpdate(
        session_id=session_id,
        work_id=work_id,
        version=version,
        agent="" if agent is None else dump(agent),
        title=dump(title),
        metadata=dump(metadata),
        events=events,
    )


def archive(session_id: str, work_id: str, events: list[str]) -> SessionArchive:
    """Archive a session."""
    return SessionArchive(session_id=session_id, work_id=work_id, events=events)


def delete(session_id: str, work_id: str, events: list[str]) -> SessionDelete:
    """Delete a session; no event reports that."""
    return SessionDelete(session_id=session_id, work_id=work_id)
