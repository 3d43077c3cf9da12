"""Helpers that tell what happened to work."""

from __future__ import annotations

from urllib.parse import quote

from pydantic import Field

from ..schemas.sight import WorkTimeline
from ..schemas.work import Work
from .asking import Helpers, Steps, helper, read
from .link import Request
from .queues import id_of


class Timeline(WorkTimeline):
    """The life of a work item so far, also as a drawing."""

    text: str = Field(description="The life line, drawn for people.")


class SightHelpers(Helpers):
    """What is seen of a workspace's work."""

    @helper
    def timeline(self, work: str | Work) -> Steps[Timeline]:
        """Return the life of a work item: every event, what it means, and a drawing of it."""
        path = timeline_of(id_of(work))
        drawn = yield Request("GET", path, query={"format": "text"})
        told = yield Request("GET", path)
        return read(Timeline, {**told, "text": drawn})


def timeline_of(work_id: str) -> str:
    """Return the path of an item's life line."""
    return f"/_emulator/work/{quote(work_id, safe='')}/timeline"
