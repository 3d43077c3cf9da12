"""Answers that a fault changes or cuts off."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from ..wire.exchange import exchange_of
from ..wire.responses import JsonResponse


class Cut(Response):
    """No answer, or half of one, and the connection is cut."""

    def __init__(self, answer: Response | None = None) -> None:
        super().__init__()
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """End the connection; return when it is closed."""
        connection = exchange_of(scope).connection
        assert connection is not None  # Fault rules that cut need our own server.
        if isinstance(self._answer, StreamingResponse):
            await self._answer(scope, receive, _until_first_frame(send, connection.close))
            return
        if self._answer is not None:
            body = bytes(self._answer.body)
            headers = self._answer.raw_headers
            await send({"type": "http.response.start", "status": self._answer.status_code, "headers": headers})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        connection.close()
        await until_disconnected(receive)


def _until_first_frame(send: Send, cut: Callable[[], None]) -> Send:
    ended = False

    async def send_first(message: Message) -> None:
        nonlocal ended
        if not ended:
            await send(message)
        if message["type"] == "http.response.body" and not ended:
            ended = True
            cut()

    return send_first


async def until_disconnected(receive: Receive) -> None:
    """Wait until the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def json_of(response: Response | None) -> dict[str, Any] | None:
    """Return the JSON object of an answer, None for an error or anything else."""
    if not isinstance(response, JsonResponse) or response.status_code != 200:
        return None
    value = json.loads(bytes(response.body))
    return value if isinstance(value, dict) else None


def with_members(response: Response | None, members: dict[str, Any]) -> Response | None:
    """Return an answer with new values for the given members that it has; None if it is not an object."""
    value = json_of(response)
    return (
        None if value is None else JsonResponse(value | {name: each for name, each in members.items() if name in value})
    )
