"""Helpers for the journal: which requests were sent, and whether they are the expected ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

from ..schemas.journal import JournalCount, JournalEntry, JournalEntryWithBodies, JournalPage, Verified
from . import calls
from .steps import Awaiting, Blocking, Helpers, Steps, helper, read

Entries = list[JournalEntryWithBodies | JournalEntry]


class Filters(TypedDict, total=False):
    """Which requests are meant: a request has to match all filters."""

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
    """The requests to the API with credentials of this workspace, as many as the journal keeps."""

    @helper
    def list(self, *, bodies: bool = False, limit: int = 1000, **filters: Unpack[Filters]) -> Steps[Entries]:
        """Return the newest requests, newest last, such as those of `on="heartbeat", status="4xx"`."""
        return read(JournalPage, (yield calls.list_journal({**filters, "bodies": bodies, "limit": limit}))).data

    @helper
    def count(self, /, **filters: Unpack[Filters]) -> Steps[int]:
        """Return the number of requests."""
        return read(JournalCount, (yield calls.count_journal(filters))).count

    @helper
    def verify(self, *expect: Mapping[str, Any], in_order: bool = False) -> Steps[Verified]:
        """Check the requests: each of *expect* has filters, and `at_least`, `at_most`, `exactly` or `never` (without any of
        them at least one request is expected), and perhaps `within_seconds`.

        Raises:
            AssertionError: an expectation is not met, or the journal no longer holds the requests to tell; the text
                describes the request that came nearest.
        """
        found = read(Verified, (yield calls.verify_journal(expect, in_order=in_order)))
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
