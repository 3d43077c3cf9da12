"""Server-sent events on the wire: frames, and a response that closes its source."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from starlette.responses import StreamingResponse

#: Characters that do not end a line in server-sent events, but do in Python's `str.splitlines`, which Python clients use.
_LINE_ENDS = [(chr(code), f"\\u{code:04x}") for code in (0x85, 0x2028, 0x2029)]


def frame(kind: str, data: Mapping[str, Any], place: str | None = None) -> bytes:
    """Return a frame; *place* is the id that a reconnecting client sends as its last."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for end, escape in _LINE_ENDS:
        text = text.replace(end, escape)
    head = "" if place is None else f"id: {place}\n"
    return f"{head}event: {kind}\ndata: {text}\n\n".encode("utf-8", "replace")


class EventStream(StreamingResponse):
    """A stream that stops listening however it ends, before its first frame too."""

    def __init__(self, frames: AsyncIterator[bytes], listener: AbstractContextManager[object]) -> None:
        super().__init__(frames, media_type="text/event-stream")
        # Without the parameter `charset`: no other answer has it either.
        self.headers["content-type"] = "text/event-stream"
        self._listener = listener

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the frames."""
        with self._listener:
            await super().__call__(scope, receive, send)
