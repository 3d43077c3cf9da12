"""Helpers for the timelines of work items, and for waiting until something has happened."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from ..schemas.timeline import Waited, WaitSeen, WorkTimeline
from ..schemas.work import StateName, Work
from . import calls
from .connection import WorkyardRefused
from .queues import Environment, id_of
from .steps import Helpers, Steps, helper, read


class Timeline(WorkTimeline):
    """The timeline of a work item, also as a drawing."""

    text: str = Field(description="The timeline, drawn for people.")


class TimelineHelpers(Helpers):
    """What happened to the work of a workspace, and waiting for it."""

    @helper
    def timeline(self, work: str | Work) -> Steps[Timeline]:
        """Return the timeline of a work item: every event, the diagnosis, and a drawing."""
        drawing = yield calls.get_timeline(id_of(work), as_text=True)
        timeline = yield calls.get_timeline(id_of(work))
        return read(Timeline, {**timeline, "text": drawing})

    @helper
    def wait(
        self,
        work: str | Work | None = None,
        state: StateName | None = None,
        *,
        stats: Mapping[str, int] | None = None,
        idle: bool = False,
        environment: str | Environment | None = None,
        timeout: float = 5.0,
    ) -> Steps[WaitSeen]:
        """Wait until an item is in a state, or queues have figures such as `stats={"depth": 0, "leased": 1}`, or, with
        *idle*, no item is queued, handed out or leased. Return what was there then. The server waits; nothing polls.

        Args:
            environment: wait for this environment only.
            timeout: seconds of wall time.

        Raises:
            TimeoutError: it did not happen in time; the text says what was seen last.
        """
        until = {
            "work_id": None if work is None else id_of(work),
            "state": state,
            "stats": None if stats is None else dict(stats),
            "idle": idle or None,
            "environment_id": None if environment is None else id_of(environment),
        }
        try:
            answer = yield calls.wait(until, timeout)
        except WorkyardRefused as refusal:
            if refusal.status != 409:
                raise
            raise TimeoutError(refusal.message) from None
        return read(Waited, answer).seen
