"""Read the timeline of a work item."""

from __future__ import annotations

from typing import Any

from tests.support.harness import Api


def timeline(api: Api, work: str, **query: Any) -> dict[str, Any]:
    """Return an item's timeline."""
    found: dict[str, Any] = api.ok(api.get(f"/_emulator/work/{work}/timeline", params=query))
    return found
