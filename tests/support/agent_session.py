"""A session as the scripted agent's tests see it: a script, its events, a clock that is moved by hand. Asserts nothing but
that every event is one of the SDK's, to the letter.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, get_args

from anthropic.types.beta.sessions import BetaManagedAgentsSessionEvent
from pydantic import BaseModel

from workyard_queue.agent import Event, Report, Script, State, Step, advance, parse_script, report

SECOND = 1_000_000
START = 1_800_000_000 * SECOND


def event_id(ordinal: int) -> str:
    """Name the agent's n-th event."""
    return f"sevt_{ordinal}"


class Session:
    """A session with a scripted agent."""

    def __init__(self, script: Script | str) -> None:
        self.script = parse_script(script) if isinstance(script, str) else script
        self.state: State | None = None
        self.now = START
        self.events: list[Event] = []
        self.last: Step | None = None

    def send(self, *events: Event) -> list[Event]:
        """Give the agent events; return its answer."""
        before = None if self.state is None else self.state.model_dump_json()
        step = advance(self.script, self.state, events, self.now, event_id)
        assert before == (None if self.state is None else self.state.model_dump_json())
        for event in step.events:
            check_event(event)
        # Through JSON, as through Redis.
        self.state = State.model_validate_json(step.state.model_dump_json())
        self.events += step.events
        self.last = step
        return step.events

    def pass_time(self, seconds: float) -> list[Event]:
        """Let time pass; return the agent's actions."""
        self.now += round(seconds * SECOND)
        return self.send()

    def say(self, text: str) -> list[Event]:
        """Send a message."""
        return self.send(message(text))

    @property
    def step(self) -> Step:
        """Return the last step."""
        assert self.last is not None
        return self.last

    @property
    def report(self) -> Report:
        """Return the script's report."""
        return report(self.script, self.state)

    def calls(self) -> list[Event]:
        """Return all calls that the agent made."""
        return [event for event in self.events if event["type"].endswith("tool_use")]


def message(text: str) -> Event:
    """Return a user's message."""
    return {"type": "user.message", "id": "in_message", "content": [{"type": "text", "text": text}]}


def interrupt() -> Event:
    """Return an interrupt."""
    return {"type": "user.interrupt", "id": "in_interrupt"}


def result(call: str, text: str = "done", *, is_error: bool = False, custom: bool = False) -> Event:
    """Return the result of a call."""
    kind, member = ("user.custom_tool_result", "custom_tool_use_id") if custom else ("user.tool_result", "tool_use_id")
    content = [{"type": "text", "text": text}]
    return {"type": kind, "id": "in_result", member: call, "content": content, "is_error": is_error}


def confirmation(call: str, verdict: str, deny_message: str | None = None) -> Event:
    """Return a user's verdict on a call."""
    event = {"type": "user.tool_confirmation", "id": "in_confirmation", "tool_use_id": call, "result": verdict}
    return event if deny_message is None else event | {"deny_message": deny_message}


def types(events: list[Event]) -> list[str]:
    """Return the types of events, an idle with its stop reason."""
    return [
        event["type"] if event["type"] != "session.status_idle" else f"idle: {event['stop_reason']['type']}"
        for event in events
    ]


def texts(events: list[Event]) -> list[str]:
    """Return the agent's messages."""
    return [event["content"][0]["text"] for event in events if event["type"] == "agent.message"]


@cache
def _classes() -> dict[str, type[BaseModel]]:
    classes = get_args(get_args(BetaManagedAgentsSessionEvent)[0])
    return {get_args(each.model_fields["type"].annotation)[0]: each for each in classes}


def check_event(event: Event) -> None:
    """Fail unless an event is of its SDK type, strictly, with no member that the type does not have."""
    parsed = _classes()[event["type"]].model_validate_json(json.dumps(event), strict=True)
    _no_extras(parsed)


def _no_extras(value: Any) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, value
        for name in type(value).model_fields:
            _no_extras(getattr(value, name))
    elif isinstance(value, list):
        for each in value:
            _no_extras(each)
