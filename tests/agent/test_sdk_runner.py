"""The SDK's own tool runner against the scripted agent: the part of `EnvironmentWorker` that runs a session's tools.

The service between the two is as small as can be, in this process: what the agent says reaches the runner, what the
runner sends reaches the agent. Sessions over HTTP and Redis have tests of their own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import anthropic
import httpx2
import pytest
from anthropic import beta_async_tool
from anthropic.lib.tools._beta_session_runner import DispatchedToolCall

from tests.support.agent_session import Session, confirmation, interrupt, message, texts
from workyard_queue.agent import DEFAULT_SCRIPT, Event, Script

#: How long a runner stays after an idle that ends a turn, in seconds of wall time. What must not end by it waits longer.
SOON, NEVER = 0.05, None


class Service(httpx2.AsyncBaseTransport):
    """A session behind the three calls that a runner makes: list, stream, send."""

    def __init__(self, script: Script | str) -> None:
        self.session = Session(script)
        self.log: list[Event] = []
        self.listeners: set[asyncio.Queue[Event]] = set()

    def append(self, *events: Event) -> None:
        """Give the agent events of a client, and everybody what comes of them."""
        stamped = [event | {"id": f"in_{len(self.log) + place}"} for place, event in enumerate(events)]
        new = stamped + self.session.send(*stamped)
        self.log += new
        for listener in self.listeners:
            for event in new:
                listener.put_nowait(event)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/stream"):
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Frames(self))
        if request.method == "POST":
            self.append(*json.loads(await request.aread())["events"])
        return httpx2.Response(200, json={"data": self.log, "next_page": None})


class Frames(httpx2.AsyncByteStream):
    """An event stream; it listens from before its head goes out."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.queue: asyncio.Queue[Event] = asyncio.Queue()
        service.listeners.add(self.queue)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            event = await self.queue.get()
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()

    async def aclose(self) -> None:
        self.service.listeners.discard(self.queue)


async def run(service: Service, max_idle: float | None, *, allow: str | None = None) -> list[DispatchedToolCall]:
    """Run the session's tools until the runner leaves; allow a call once the first was run."""

    @beta_async_tool
    async def bash(command: str) -> str:
        """Run a command, or say that it was."""
        return f"ran {command}"

    @beta_async_tool
    async def stop_me() -> str:
        """Be interrupted in the middle."""
        service.append(interrupt())
        return "too late"

    calls: list[DispatchedToolCall] = []
    transport = httpx2.AsyncClient(transport=service)
    async with anthropic.AsyncAnthropic(
        base_url="http://service.invalid", api_key="key", http_client=transport, _strict_response_validation=True
    ) as client:
        runner = client.beta.sessions.events.tool_runner(
            session_id="session_1", tools=[bash, stop_me], max_idle=max_idle
        )
        async with asyncio.timeout(20):
            async for call in runner:
                calls.append(call)
                if allow is not None and len(calls) == 1:
                    service.append(confirmation(allow, "allow"))
    return calls


async def test_a_runner_serves_the_default_script_and_leaves_at_idle() -> None:
    """Two messages, the second while the first is run: both are served before it leaves."""
    service = Service(DEFAULT_SCRIPT)
    service.append(message("echo 1"), message("echo 2"))
    calls = await run(service, SOON)
    assert [call.posted for call in calls] == [True, True]
    assert texts(service.session.events) == ["ran echo 1", "ran echo 2"]
    assert not service.session.step.busy


async def test_a_runner_leaves_a_session_that_never_had_a_message() -> None:
    """The idle of a new session starts its countdown."""
    service = Service(DEFAULT_SCRIPT)
    service.append()
    assert await run(service, SOON) == []


async def test_a_runner_waits_for_a_confirmation_and_leaves_when_the_session_terminates() -> None:
    """It holds the call, runs it once it is allowed, and needs no idle time to go."""
    service = Service(
        "steps: [{together: [{use_tool: {name: bash, input: {command: a}}},"
        " {use_tool: {name: bash, input: {command: b}, permission: ask}},"
        " {use_tool: {name: bash, input: {command: c}, permission: deny}}]},"
        " {expect_result: {call: 2, denied: true}}, {say: '{{result}}'}, terminate]"
    )
    service.append(message("go"))
    calls = await run(service, NEVER, allow="sevt_2")
    assert {call.tool_use_id: call.confirmation for call in calls} == {
        "sevt_1": None,
        "sevt_2": "allow",
        "sevt_3": "deny",
    }
    assert texts(service.session.events) == ["ran a\nran b\n"]
    assert service.session.report.finished
    assert service.session.report.unexpected_count == 0


async def test_a_runner_that_is_interrupted_in_mid_call_leaves_all_the_same() -> None:
    """Its late result is out of place; the idle after it lets it go."""
    service = Service("steps: [{use_tool: {name: stop_me}}, {say: never}]")
    service.append(message("go"))
    [call] = await run(service, SOON)
    assert call.posted
    assert [each.problem for each in service.session.report.unexpected] == ["was given up at an interrupt"]


@pytest.mark.parametrize("expected", ["ran x", "other"])
async def test_what_a_runner_sends_is_what_the_script_expects_or_the_report_says_so(expected: str) -> None:
    """Either way the session comes to rest, and the runner leaves."""
    service = Service(
        f"steps: [{{use_tool: {{name: bash, input: {{command: x}}}}}}, {{expect_result: {{equals: {expected}}}}}]"
    )
    service.append(message("go"))
    await run(service, SOON)
    assert service.session.report.finished == (expected == "ran x")
