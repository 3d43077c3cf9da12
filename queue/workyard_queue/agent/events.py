"""The shapes of events, as the scripted agent reads and writes them. Decides nothing.

Source: the types of the SDK, `anthropic.types.beta.sessions`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from .script import Call, McpToolCall, ToolCall

Event = dict[str, Any]
_T = TypeVar("_T")
_PLACEHOLDER = re.compile(r"\{\{(message|result)\}\}")
#: Maximum number of characters that placeholders expand to in one step of the agent; and the mark of the cut.
MOST_FILLED = 4_194_304
CUT = "…"
#: Events of clients that ask the agent for something: they queue the session's work.
ASKING = ("user.message", "user.define_outcome", "user.tool_confirmation", "user.custom_tool_result")
#: Event of a result → the call it answers, and the member that names it.
RESULTS = {
    "user.tool_result": ("agent.tool_use", "tool_use_id"),
    "user.custom_tool_result": ("agent.custom_tool_use", "custom_tool_use_id"),
}
#: Call that the service can run → the event of its result, and the member that names the call.
SERVED = {
    "agent.tool_use": ("agent.tool_result", "tool_use_id"),
    "agent.mcp_tool_use": ("agent.mcp_tool_result", "mcp_tool_use_id"),
}


def text_of(content: Any) -> str:
    """Return the text of content blocks, blocks of other kinds left out."""
    blocks = content if isinstance(content, list) else []
    texts = [block.get("text") for block in blocks if isinstance(block, Mapping)]
    return "\n".join(text for text in texts if isinstance(text, str))


def text_block(text: str) -> list[Event]:
    """Return content that is one text."""
    return [{"type": "text", "text": text}]


class Filler:
    """Replaces placeholders by texts, up to `MOST_FILLED` characters in total; the rest is cut. Without this limit texts
    would explode: a result that contains the results before it twice triples with each call, and a text can contain a
    message a thousand times."""

    def __init__(self) -> None:
        self._room = MOST_FILLED

    def filled(self, value: _T, texts: Mapping[str, str]) -> _T:
        """Return *value* with the placeholders in its strings replaced, keys left as they are.

        Inserted texts are not searched for placeholders, so a client cannot inject one.
        """
        if isinstance(value, str):
            return _PLACEHOLDER.sub(lambda found: self._cut(texts[found[1]]), value)  # type: ignore[return-value]
        if isinstance(value, dict):
            return {key: self.filled(each, texts) for key, each in value.items()}  # type: ignore[return-value]
        if isinstance(value, list):
            return [self.filled(each, texts) for each in value]  # type: ignore[return-value]
        return value

    def _cut(self, text: str) -> str:
        room = self._room
        self._room = max(room - len(text), 0)
        return text if len(text) <= room else text[:room] + CUT


def call_fields(call: Call, texts: Mapping[str, str], filler: Filler) -> Event:
    """Return the fields of a call that its event contains."""
    fields: Event = {"name": call.name, "input": filler.filled(call.input, texts)}
    if isinstance(call, McpToolCall):
        fields["mcp_server_name"] = call.server
    if isinstance(call, ToolCall | McpToolCall):
        fields["evaluated_permission"] = call.permission
        # A refusal by the service comes before any policy. Source: the SDK's docstring of `evaluation`.
        if call.permission != "deny":
            fields["evaluation"] = {"type": f"always_{call.permission}"}
    return fields
