"""The life of a workspace's work as a text for the report of a test that failed. Bounded, and never fails itself."""

from __future__ import annotations

from .asking import Steps
from .emulator import Emulator
from .link import Request
from .queues import path_of
from .sight import timeline_of

_MOST_ENVIRONMENTS = 5
_MOST_ITEMS = 10
_MOST_CHARACTERS = 10_000
_WITHIN_S = 5.0


def life_lines(emulator: Emulator) -> str:
    """Return the life lines of the newest items of a workspace."""
    try:
        text = emulator._run(_drawn())
    except Exception as error:  # A test has failed, and that is to be reported, whatever else is wrong.
        return f"cannot be shown: {error}"
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}\n… and more"


def _drawn() -> Steps[str]:
    environments = yield _get("/v1/environments", limit=_MOST_ENVIRONMENTS)
    parts: list[str] = []
    for environment in environments["data"]:
        if environment["config"]["type"] != "self_hosted":
            continue
        items = yield _get(path_of(environment["id"], "/work"), limit=_MOST_ITEMS)
        for item in items["data"][: _MOST_ITEMS - len(parts)]:
            parts.append(str((yield _get(timeline_of(item["id"]), format="text"))).rstrip())
    return "\n\n".join(parts) or "none: nothing was enqueued"


def _get(path: str, **query: object) -> Request:
    return Request("GET", path, query=query, within_s=_WITHIN_S)
