"""The timelines of a workspace's work as text, for the report of a failed test. Of bounded length; never raises."""

from __future__ import annotations

from ..client import calls
from ..client.steps import Steps
from .emulator import Emulator

_MOST_ITEMS = 10
_MOST_CHARACTERS = 10_000
_WITHIN_S = 5.0


def timelines(emulator: Emulator) -> str:
    """Return the timelines of the items with the newest events."""
    try:
        text = emulator._run(_text())
    except Exception as error:  # The report of the failed test matters more than this part of it.
        return f"cannot be shown: {error}"
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}\n… and more"


def _text() -> Steps[str]:
    # Only calls of the control plane: the fault rules of the test do not apply to them.
    queues = yield calls.show_queues(within_s=_WITHIN_S)
    newest = dict.fromkeys(event["work_id"] for event in reversed(queues["events"]))
    parts: list[str] = []
    for work_id in list(newest)[:_MOST_ITEMS]:
        drawing = yield calls.get_timeline(work_id, as_text=True, within_s=_WITHIN_S)
        parts.append(str(drawing).rstrip())
    return "\n\n".join(parts) or "none: nothing was enqueued"
