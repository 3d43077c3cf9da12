"""What is known of a session and of an event, and how it is read from Redis' answers. Writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from workyard_store.clock import format_instant

from ..lua.sessions import SessionRead

Event = dict[str, Any]
#: Where a session's script came from.
Source = Literal["session", "metadata", "workspace", "server", "built_in"]


@dataclass(frozen=True, slots=True)
class Session:
    """One session. Instants are microseconds; `read_at` is the instant of the answer, `agent` None for a made-up one,
    `script` None before its first turn, unless one was set. `held_since`: since when a worker holds its work; 0 in a
    cloud environment, which needs no worker; None if no worker does.
    """

    id: str
    environment_id: str
    agent: dict[str, Any] | None
    title: str | None
    metadata: dict[str, str]
    resources: list[dict[str, Any]]
    vault_ids: list[str]
    status: str
    created_at: int
    updated_at: int
    archived_at: int | None
    active_us: int
    read_at: int
    version: int
    workspace: str
    script: ChosenScript | None
    agent_state: Any
    held_since: int | None


@dataclass(frozen=True, slots=True)
class ChosenScript:
    """The script of a session as its JSON text, and where it came from."""

    text: str
    source: Source


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """One event. `entry` is its place in the session's stream, `processed_at` its date, both in microseconds."""

    entry: int
    processed_at: int
    content: Event


def session_of(environment_id: str, session_id: str, read: SessionRead) -> Session:
    """Return a session from the reply of a script."""
    record = read.fields
    active = int(record["active"])
    if record["status"] == "running":
        active += read.now - int(record["since"])
    return Session(
        id=session_id,
        environment_id=environment_id,
        agent=json.loads(record["agent"]) if record["agent"] else None,
        title=json.loads(record["title"]),
        metadata=json.loads(record["metadata"]),
        resources=json.loads(record["resources"]),
        vault_ids=json.loads(record["vaults"]),
        status=record["status"],
        created_at=int(record["created"]),
        updated_at=int(record["updated"]),
        archived_at=int(record["archived"]) if record["archived"] else None,
        active_us=active,
        read_at=read.now,
        version=int(record["version"]),
        workspace=read.workspace,
        script=ChosenScript(record["script"], cast(Source, record["source"])) if record.get("script") else None,
        agent_state=json.loads(record["state"]),
        held_since=read.held_since,
    )


def event_of(entry: Sequence[Any]) -> SessionEvent:
    """Read an entry of a session's stream."""
    fields = dict(zip(entry[1][::2], entry[1][1::2], strict=True))
    return SessionEvent(int(entry[0].partition("-")[0]), int(fields["t"]), json.loads(fields["e"]))


def rendered(event: SessionEvent) -> Event:
    """Return an event as clients and agents see it."""
    return {**event.content, "processed_at": format_instant(event.processed_at)}


def merged_metadata(stored: Mapping[str, str], patch: Mapping[str, str | None]) -> dict[str, str]:
    """Return metadata after a patch: a string sets, None deletes."""
    merged = {**stored, **patch}
    return {key: value for key, value in merged.items() if value is not None}
