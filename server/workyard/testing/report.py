"""The life of a workspace's work as a text for the report of a test that failed. Bounded, and never fails itself."""

from __future__ import annotations

from ..client.connection import Request
from ..client.steps import Steps
from ..client.timeline import timeline_of
from .emulator import Emulator

_MOST_ITEMS = 10
_MOST_CHARACTERS = 10_000
_WITHIN_S = 5.0


def timelines(emulator: Emulator) -> str:
    """Return the timelines of the items of a workspace to which something happened last."""
    try:
        text = emulator._run(_drawn())
    except Exception as error:  # A test has failed, and that is to be reported, whatever else is wrong.
        return f"cannot be shown: {error}"
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}\n… and more"


def _drawn() -> Steps[str]:
    # By the control plane alone: the test's own faults are not for this.
    queues = yield _get("/_emulator/queues")
    newest = dict.fromkeys(event["work_id"] for event in reversed(queues["events"]))
    parts: list[str] = []
    for work_id in list(newest)[:_MOST_ITEMS]:
        drawn = yield _get(timeline_of(work_id), format="text")
        parts.append(str(drawn).rstrip())
    return "\n\n".join(parts) or "none: nothing was enqueued"


def _get(path: str, **query: object) -> Request:
    return Request("GET", path, query=query, within_s=_WITHIN_S)
