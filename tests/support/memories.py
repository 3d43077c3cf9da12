"""Memory stores in tests."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.harness import Api


def new_store(api: Api, name: str = "Notes", **fields: Any) -> str:
    """Create a memory store and return its id."""
    return str(api.ok(api.post("/v1/memory_stores", json={"name": name, **fields}))["id"])


def create(api: Api, store: str, path: str, content: str | None = "") -> httpx.Response:
    """Create a memory."""
    return api.post(f"/v1/memory_stores/{store}/memories", json={"path": path, "content": content})
