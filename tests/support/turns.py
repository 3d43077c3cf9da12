"""Agents of a few lines, and a session with an injected agent in an application in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx

from workyard.services import Services
from workyard_queue.sessions.records import Event
from workyard_queue.sessions.turns import Step, Turn

WAIT_S = 10
TOOL = {"type": "agent.tool_use", "id": "sevt_tool", "name": "bash", "input": {}, "evaluated_permission": "allow"}
ACTION = {"type": "session.status_idle", "stop_reason": {"type": "requires_action", "event_ids": ["sevt_tool"]}}
DONE = {"type": "session.status_idle", "stop_reason": {"type": "end_turn"}}
RUNS = {"type": "session.status_running"}


def texts(unseen: Sequence[Event]) -> list[str]:
    """Return the texts of the messages."""
    return [event["content"][0]["text"] for event in unseen if event["type"] == "user.message"]


def echo(turn: Turn) -> Step:
    """Say each message back with its number."""
    said = [{"type": "agent.message", "content": [{"type": "text", "text": each}]} for each in texts(turn.unseen)]
    return Step((turn.state or 0) + len(said), [RUNS, *said, DONE], "idle")


def slow(turn: Turn) -> Step:
    """Run for ten seconds, then be done."""
    if texts(turn.unseen):
        until = turn.now + WAIT_S * 1_000_000
        return Step(until, [RUNS], "running", until, busy=True)
    if turn.state and turn.state <= turn.now:
        return Step(None, [DONE], "idle")
    return Step(turn.state, [], "running", turn.state, busy=True)


def tool_user(turn: Turn) -> Step:
    """Call a tool and wait for its result."""
    if any(event["type"] == "user.tool_result" for event in turn.unseen):
        return Step(None, [DONE], "idle")
    return Step("waits", [RUNS, TOOL, ACTION], "idle", busy=True)


def quitter(turn: Turn) -> Step:
    """End the session."""
    return Step(None, [RUNS, {"type": "session.status_terminated"}], "terminated")


class Failing:
    """Fail a number of times, as a server does that dies between an event and its turn; then echo."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, turn: Turn) -> Step:
        """Act."""
        if self.left:
            self.left -= 1
            raise RuntimeError("the server died")
        return echo(turn)


class Stage(NamedTuple):
    """A session in a self-hosted environment of an application in this process, its clock frozen."""

    http: httpx.AsyncClient
    services: Services
    queue: str
    session: str

    async def call(self, method: str, path: str, **keywords: Any) -> Any:
        """Make a call that must succeed."""
        answer = await self.http.request(method, path, **keywords)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def say(self, text: str) -> httpx.Response:
        """Send a message."""
        event = {"type": "user.message", "content": [{"type": "text", "text": text}]}
        return await self.http.post(f"/v1/sessions/{self.session}/events", json={"events": [event]})

    async def events(self) -> list[dict[str, Any]]:
        """List the session's events, but for the first."""
        listed = await self.call("GET", f"/v1/sessions/{self.session}/events", params={"limit": 1000})
        rows: list[dict[str, Any]] = listed["data"]
        return rows[1:]

    async def work(self, verb: str = "", **keywords: Any) -> Any:
        """Make a call about the session's work item."""
        rows = (await self.call("GET", f"/v1/environments/{self.queue}/work"))["data"]
        path = f"/v1/environments/{self.queue}/work/{rows[0]['id']}"
        return await self.call("POST" if verb else "GET", f"{path}/{verb}".rstrip("/"), **keywords)
