"""Helpers that tell what happened to work, and wait until it has."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from pydantic import Field

from ..schemas.timeline import Waited, WaitSeen, WorkTimeline
from ..schemas.work import StateName, Work
from .connection import Request, WorkyardRefused
from .queues import Environment, id_of
from .steps import Helpers, Steps, helper, read

#: Seconds that the answer may take beyond the wait itself.
_SPARE_S = 10.0


class Timeline(WorkTimeline):
    """The life of a work item so far, also as a drawing."""

    text: str = Field(description="The timeline, drawn for people.")


class TimelineHelpers(Helpers):
    """What is seen of a workspace's work."""

    @helper
    def timeline(self, work: str | Work) -> Steps[Timeline]:
        """Return the life of a work item: every event, what it means, and a drawing of it."""
        path = timeline_of(id_of(work))
        drawn = yield Request("GET", path, query={"format": "text"})
        told = yield Request("GET", path)
        return read(Timeline, {**told, "text": drawn})

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
        """Wait until an item has come to a state, or queues have figures such as `stats={"depth": 0, "leased": 1}`, or, with
        *idle*, nothing is queued, handed out or leased; return what there is then. Nobody sleeps: the server tells.

        Args:
            environment: look at this one only.
            timeout: seconds of wall time.

        Raises:
            TimeoutError: it has not come about in time; the text says what was there instead.
        """
        until = {
            "work_id": None if work is None else id_of(work),
            "state": state,
            "stats": None if stats is None else dict(stats),
            "idle": idle or None,
            "environment_id": None if environment is None else id_of(environment),
        }
        body = {"until": until, "timeout_seconds": timeout}
        try:
            answer = yield Request("POST", "/_emulator/wait", body, within_s=timeout + _SPARE_S)
        except WorkyardRefused as refusal:
            if refusal.status != 409:
                raise
            raise TimeoutError(refusal.message) from None
        return read(Waited, answer).seen


def timeline_of(work_id: str) -> str:
    """Return the path of an item's timeline."""
    return f"/_emulator/work/{quote(work_id, safe='')}/timeline"
