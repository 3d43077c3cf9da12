"""Clients that follow the event stream of a session in tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx

from tests.support.harness import wait_until

LISTENERS = 50
#: The silent agent's reaction to a message.
ANSWERED = ["user.message", "session.status_running", "session.status_idle"]


class Follower:
    """A client that follows a session's events in a thread, from the head of the answer until the stream ends."""

    def __init__(self, url: str, session_id: str, token: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.pings = 0
        self.headers: httpx.Headers | None = None
        self.clean = False
        self._url, self._token = f"{url}/v1/sessions/{session_id}/events/stream", token
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        wait_until(lambda: self.headers is not None, "the head of the stream")

    def _follow(self) -> None:
        # No TLS here, and loading its certificates takes longer than all the rest.
        with httpx.stream("GET", self._url, headers={"x-api-key": self._token}, timeout=30, verify=False) as answer:
            self.headers = answer.headers
            for event in frames(answer.iter_lines()):
                if event["type"] == "ping":
                    self.pings += 1
                else:
                    self.events.append(event)
        self.clean = True

    @property
    def types(self) -> list[str]:
        """Return the types of the events so far."""
        return [event["type"] for event in self.events]

    def ended(self) -> bool:
        """Wait for the end of the stream; tell whether it was a whole answer."""
        self._thread.join(10)
        return not self._thread.is_alive() and self.clean


def frames(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield the data of each frame, which must name its type."""
    for line in lines:
        assert line.startswith("event: ")
        data = next(lines)
        assert data.startswith("data: ")
        event: dict[str, Any] = json.loads(data.removeprefix("data: "))
        assert line == f"event: {event['type']}"
        assert next(lines) == ""
        yield event
