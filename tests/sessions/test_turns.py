"""Turns of agents: each event is seen once, whatever comes between, and work is back while something is unserved.

The agents here are functions of a few lines, injected where the scripted one goes. Rules: `work.message.*`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from tests.support.harness import NOON, after, refused
from tests.support.turns import RUNS, WAIT_S, Failing, Stage, echo, quitter, slow, texts, tool_user
from workyard.app import create_app
from workyard.settings import Settings
from workyard_queue.sessions import streams
from workyard_queue.sessions.turns import Agent, Step, Turn
from workyard_store.access import Caller

API_KEY = "turns"
MESSAGES = 20
Call = Callable[..., Any]


@pytest.fixture
async def stage() -> AsyncIterator[Callable[[Agent], Any]]:
    """Make stages; each is recounted at the end, and its application ended."""
    async with AsyncExitStack() as stack:
        made: list[Stage] = []

        async def make(agent: Agent) -> Stage:
            app = create_app(Settings(), agent=agent)
            await stack.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            http = await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers={"x-api-key": API_KEY})
            )
            new = Stage(http, app.state.services, "", "")
            await new.call("POST", "/_emulator/clock", json={"mode": "frozen", "at": NOON})
            body = {"name": "turns", "config": {"type": "self_hosted"}}
            queue = (await new.call("POST", "/v1/environments", json=body))["id"]
            body = {"agent": "agent_x", "environment_id": queue}
            made.append(new._replace(queue=queue, session=(await new.call("POST", "/v1/sessions", json=body))["id"]))
            return made[-1]

        yield make
        for each in made:
            assert (await each.call("GET", "/_emulator/invariants"))["violations"] == []
            assert (await each.call("POST", "/_emulator/reset"))["leftover_keys"] == 0


async def test_every_message_is_seen_once_when_many_come_at_once(stage: Any) -> None:
    """Turns that overlap: one commits, the others start anew."""
    on = await stage(echo)
    answers = await asyncio.gather(*[on.say(str(n)) for n in range(MESSAGES)])
    assert {answer.status_code for answer in answers} == {200}
    events = await on.events()
    asked, said = (texts([{**event, "type": "user.message"} for event in events if event["type"] == kind])
                   for kind in ("user.message", "agent.message"))  # fmt: skip
    assert sorted(asked, key=int) == [str(n) for n in range(MESSAGES)]
    assert said == asked
    assert len({event["id"] for event in events}) == len(events)


@pytest.mark.parametrize("access", ["get", "list", "events", "stream", "append", "archive", "tidy"])
async def test_a_turn_that_a_crash_prevented_is_taken_at_the_next_access(stage: Any, access: str) -> None:
    """By whatever comes first; the message is answered once."""
    on = await stage(Failing(1))
    assert (await on.say("a")).status_code == 500
    if access == "get":
        await on.call("GET", f"/v1/sessions/{on.session}")
    elif access == "list":
        await on.call("GET", "/v1/sessions")
    elif access == "events":
        await on.events()
    elif access == "stream":
        (await on.services.streams.listen(on.session, Caller(API_KEY))).close()
    elif access == "append":
        await on.say("b")
    elif access == "archive":
        await on.call("POST", f"/v1/sessions/{on.session}/archive")
    else:
        await on.services.turns.make_good()
    await on.services.turns.make_good()
    raw = await on.services.sessions.behind(on.queue, on.session, 0, 100)
    said = texts(
        [{**event.content, "type": "user.message"} for event in raw if event.content["type"] == "agent.message"]
    )
    assert said == (["a", "b"] if access == "append" else ["a"])


async def test_an_agent_that_waits_acts_when_the_clock_comes_to_its_instant(stage: Any) -> None:
    """A change of the clock is enough: listeners hear of it though nobody asks."""
    on = await stage(slow)
    await on.say("go")
    assert (await on.call("GET", f"/v1/sessions/{on.session}"))["status"] == "running"
    listener = await on.services.streams.listen(on.session, Caller(API_KEY))
    await on.call("POST", "/_emulator/clock", json={"advance_seconds": WAIT_S - 1})
    assert (await on.call("GET", f"/v1/sessions/{on.session}"))["status"] == "running"
    await on.call("POST", "/_emulator/clock", json={"advance_seconds": 1})
    async with asyncio.timeout(5):
        heard = await anext(listener.events())
    listener.close()
    assert (heard.content["type"], heard.content["stop_reason"]) == ("session.status_idle", {"type": "end_turn"})
    idle = await on.call("GET", f"/v1/sessions/{on.session}")
    assert (idle["status"], idle["stats"]["active_seconds"], idle["updated_at"]) == (
        "idle",
        WAIT_S,
        after(NOON, WAIT_S),
    )


async def test_an_agent_that_waits_acts_in_real_time_too(stage: Any) -> None:
    """By a timer; the wait is what is left of it on a clock that ticks."""
    on = await stage(slow)
    await on.say("go")
    await on.call("POST", "/_emulator/clock", json={"advance_seconds": WAIT_S - 0.1})
    await on.call("POST", "/_emulator/clock", json={"mode": "real"})
    listener = await on.services.streams.listen(on.session, Caller(API_KEY))
    async with asyncio.timeout(5):
        heard = await anext(listener.events())
    listener.close()
    assert heard.content["type"] == "session.status_idle"


async def test_a_stream_without_events_pings(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 15 s, which are shortened here."""
    assert streams.PING_EVERY_S == 15
    monkeypatch.setattr(streams, "PING_EVERY_S", 0.05)
    on = await stage(echo)
    listener = await on.services.streams.listen(on.session, Caller(API_KEY))
    async with asyncio.timeout(5):
        heard = listener.events()
        assert [await anext(heard), await anext(heard)] == ["ping", "ping"]
    listener.close()


async def test_a_running_session_is_neither_archived_nor_deleted(stage: Any) -> None:
    """The texts of the service."""
    on = await stage(slow)
    await on.say("go")
    refused(
        await on.http.post(f"/v1/sessions/{on.session}/archive"),
        400,
        f'Session {on.session} cannot be archived while its status is "running". '
        "Only pending or idle sessions may be archived.",
    )
    refused(
        await on.http.delete(f"/v1/sessions/{on.session}"),
        400,
        "Cannot delete session while it is running. Send an interrupt event or wait for the session to complete.",
    )
    refused(
        await on.http.post(f"/v1/sessions/{on.session}", json={"agent": {"tools": []}}),
        400,
        f"Session {on.session} is running: its agent cannot be updated.",
    )


async def test_work_that_stops_before_its_message_is_served_is_queued_again(stage: Any) -> None:
    """The agent waits for a tool: only its result, and the end of the turn, let the work rest."""
    on = await stage(tool_user)
    await on.work("ack")
    await on.work("heartbeat")
    await on.say("go")
    assert (await on.work("stop", json={"force": True}))["state"] == "stopped"
    assert (await on.work())["state"] == "queued"
    await on.work("ack")
    await on.say("more")
    result = {"type": "user.tool_result", "tool_use_id": "sevt_tool"}
    await on.call("POST", f"/v1/sessions/{on.session}/events", json={"events": [result]})
    await on.work("stop", json={"force": True})
    assert (await on.work())["state"] == "stopped"


async def test_a_terminated_session_takes_no_events_and_its_work_stops(stage: Any) -> None:
    """Ended by its agent; it may still be archived, and deleted."""
    on = await stage(quitter)
    await on.work("ack")
    await on.say("go")
    assert (await on.work())["state"] == "stopped"
    refused(await on.say("more"), 400, f"Session {on.session} is terminated and takes no events.")
    archived = await on.call("POST", f"/v1/sessions/{on.session}/archive")
    assert archived["status"] == "terminated"
    kinds = [event["type"] for event in await on.events()]
    assert kinds == ["user.message", "session.status_running", "session.status_terminated"]
    await on.call("DELETE", f"/v1/sessions/{on.session}")


async def test_the_agents_state_is_kept_from_turn_to_turn(stage: Any) -> None:
    """And so is what it was given: the state it returned, each event once."""
    seen: list[tuple[Any, list[str]]] = []

    def counting(turn: Turn) -> Step:
        seen.append((turn.state, texts(turn.unseen)))
        return echo(turn)

    on = await stage(counting)
    for text in ("a", "b", "c"):
        await on.say(text)
    assert seen == [(None, ["a"]), (1, ["b"]), (2, ["c"])]


async def test_an_agent_that_fails_does_not_hold_up_the_others(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Its session waits on; the failure is in the log, and each other session is answered."""
    down = True

    def fails(turn: Turn) -> Step:
        if down or texts(turn.unseen) == ["bad"]:
            raise RuntimeError("a bug")
        return echo(turn)

    on = await stage(fails)
    body = {"agent": "agent_x", "environment_id": on.queue}
    other = on._replace(session=(await on.call("POST", "/v1/sessions", json=body))["id"])
    assert (await on.say("bad")).status_code == (await other.say("good")).status_code == 500
    down = False
    await on.services.turns.make_good()
    assert [event["type"] for event in await other.events()][1:] == [
        "session.status_running",
        "agent.message",
        "session.status_idle",
    ]
    assert f"the agent of {on.session} failed" in caplog.text


async def test_a_session_that_its_agent_ended_does_not_keep_its_environment(stage: Any) -> None:
    """Nor is it asked to act again, whatever instant its agent named."""

    def quits(turn: Turn) -> Step:
        return Step(None, [RUNS, {"type": "session.status_terminated"}], "terminated", due_at_us=turn.now)

    on = await stage(quits)
    path = f"/v1/environments/{on.queue}"
    message = "Environment has 1 active sessions. Use force=true to delete anyway."
    refused(await on.http.delete(path), 409, message)
    await on.say("go")
    assert [event["type"] for event in await on.events()].count("session.status_terminated") == 1
    await on.call("DELETE", path)
