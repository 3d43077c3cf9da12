"""Scripted agents in tests: messages to them, their tool calls, and the report on a script."""

from __future__ import annotations

from typing import Any

from tests.support.harness import Api
from tests.support.sessions import events


def report(api: Api, session_id: str) -> dict[str, Any]:
    """Return the report of a session's script."""
    found: dict[str, Any] = api.ok(api.get(f"/_emulator/sessions/{session_id}/script"))
    return found


def message(text: str) -> dict[str, Any]:
    """Return a message."""
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def calls(api: Api, session_id: str) -> list[dict[str, Any]]:
    """List the calls that the agent made."""
    return [event for event in events(api, session_id) if event["type"].endswith("tool_use")]
