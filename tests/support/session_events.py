"""One valid event of each type that a client may send to a session."""

from __future__ import annotations

from typing import Any

from tests.support.sessions import MESSAGE

TEXT = [{"type": "text", "text": "done"}]
#: One of each type that a client may send.
SENDABLE: list[dict[str, Any]] = [
    MESSAGE,
    {"type": "user.interrupt"},
    {"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "deny", "deny_message": "no"},
    {"type": "user.tool_result", "tool_use_id": "sevt_1", "content": TEXT, "is_error": False},
    {"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_2", "content": TEXT},
    {"type": "user.define_outcome", "description": "a page", "rubric": {"type": "text", "content": "short"}},
]
