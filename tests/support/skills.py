"""Skills in tests."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.harness import Api

MAIN = "---\nname: greeting\ndescription: How to greet.\n---\nSay hello.\n"


def put(api: Api, key: str = "greeting", **body: Any) -> httpx.Response:
    """Put a skill."""
    return api.request("PUT", f"/_emulator/skills/{key}", json=body or {"files": {"SKILL.md": MAIN}})
