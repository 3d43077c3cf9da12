"""Filters for the lists of sessions and of their events. Owns no list and no cursor: a filter may change between two
pages, because a cursor is a position in the unfiltered list.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .records import Session, SessionEvent


@dataclass(frozen=True, slots=True)
class Dates:
    """A span of time. Bounds are microseconds, None where there is none; the first two are exclusive."""

    after: int | None = None
    before: int | None = None
    since: int | None = None
    until: int | None = None

    def hold(self, us: int) -> bool:
        """Tell whether an instant lies in the span."""
        return (
            (self.after is None or us > self.after)
            and (self.before is None or us < self.before)
            and (self.since is None or us >= self.since)
            and (self.until is None or us <= self.until)
        )


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions are wanted; None: any. `agent_version` counts together with `agent_id` only."""

    include_archived: bool = False
    agent_id: str | None = None
    agent_version: int | None = None
    memory_store_id: str | None = None
    deployment_id: str | None = None
    statuses: Collection[str] | None = None
    created: Dates = Dates()

    def wants(self, session: Session) -> bool:
        """Return whether the filter accepts a session."""
        agent = session.agent or {}
        return (
            (self.include_archived or session.archived_at is None)
            and (self.agent_id is None or agent.get("id") == self.agent_id)
            and (self.agent_id is None or self.agent_version in (None, agent.get("version")))
            and (self.memory_store_id is None or self.memory_store_id in _memory_stores(session))
            and self.deployment_id is None  # No session comes from a deployment.
            and (self.statuses is None or session.status in self.statuses)
            and self.created.hold(session.created_at)
        )


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; None: any."""

    types: Collection[str] | None = None
    processed: Dates = Dates()

    def wants(self, event: SessionEvent) -> bool:
        """Return whether the filter accepts an event."""
        return (self.types is None or event.content["type"] in self.types) and self.processed.hold(event.processed_at)


def _memory_stores(session: Session) -> list[str]:
    return [str(each["memory_store_id"]) for each in session.resources if each["type"] == "memory_store"]
