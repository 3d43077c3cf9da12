"""Helpers for the journal of requests: what was sent, and whether that is what must have been."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

from ..schemas.journal import JournalCount, JournalEntry, JournalEntryWithBodies, JournalPage, Verified
from .connection import Request
from .steps import Awaiting, Blocking, Helpers, Steps, helper, read

_PATH = "/_emulator/journal"


Entries = list[JournalEntryWithBodies | JournalEntry]


class Filters(TypedDict, total=False):
    """Which requests are meant: all that are given have to agree."""

    on: str
    status: int | str
    environment_id: str
    work_id: str
    session_id: str
    worker_id: str
    request_id: str
    since: str
    until: str
    after: int


class JournalHelpers(Helpers):
    """What was sent to the API with this workspace's credentials, as far as the journal keeps it."""

    @helper
    def list(self, *, bodies: bool = False, limit: int = 1000, **filters: Unpack[Filters]) -> Steps[Entries]:
        """Return the newest requests, newest last, such as those of `on="heartbeat", status="4xx"`."""
        query = {**filters, "bodies": bodies, "limit": limit}
        return read(JournalPage, (yield Request("GET", _PATH, query=query))).data

    @helper
    def count(self, /, **filters: Unpack[Filters]) -> Steps[int]:
        """Return how many requests there are."""
        return read(JournalCount, (yield Request("GET", f"{_PATH}/count", query=filters))).count

    @helper
    def verify(self, *expect: Mapping[str, Any], in_order: bool = False) -> Steps[Verified]:
        """Check what requests there were: each of *expect* has filters, and `at_least`, `at_most`, `exactly` or `never`,
        else at least one is meant; `within_seconds`.

        Raises:
            AssertionError: something is not so, or the journal cannot tell any more; with what came nearest.
        """
        body = {"expect": [dict(each) for each in expect], "in_order": in_order}
        found = read(Verified, (yield Request("POST", f"{_PATH}/verify", body)))
        if not found.ok:
            raise AssertionError("\n".join(_lines(found)))
        return found


def _lines(found: Verified) -> list[str]:
    lines = ["the requests are not as expected:"]
    for failure in found.failures:
        lines.append(f"{failure.expected}: {failure.reason}")
        if failure.nearest is not None:
            near = failure.nearest.entry
            lines.append(
                f"  nearest: {near.method} {near.path} at {near.at}: {near.status}; differs in {', '.join(failure.nearest.differs)}"
            )
    return lines


class Journal(Blocking, JournalHelpers):
    """The journal of a workspace."""


class AsyncJournal(Awaiting, JournalHelpers):
    """The journal of a workspace; every call is awaited."""
