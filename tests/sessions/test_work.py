"""Sessions and their work: what becomes of a message when the work stops, of the work when the session ends, and of both
when several servers act at once. Rules: `work.message.*`, `sessions.*`.

The agents are functions of a few lines, injected where the scripted one goes, so that a session stays in mid-turn for as
long as a test wants.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.support.harness import NOON, RedisServer, after, refused
from tests.support.turns import Failing, Stage, echo, quitter, slow, texts, tool_user
from workyard.app import create_app
from workyard.settings import Settings
from workyard_queue.sessions.turns import Agent, Step, Turn

API_KEY = "sessions-and-work"
RESULT = {"type": "user.tool_result", "tool_use_id": "sevt_tool"}
#: Longer than every lease.
LAPSES_S = 4000
STATES = ("queued", "pending", "starting", "active", "stopping", "stopped")
ACTIVE = "Environment has {} active sessions. Use force=true to delete anyway."
MESSAGES = 30
_prefixes = itertools.count(1)
Serve = Callable[..., Awaitable[Stage]]


def told(turn: Turn) -> Step:
    """Call a tool and wait for its result, or end when told to."""
    return quitter(turn) if "end" in texts(turn.unseen) else tool_user(turn)


@asynccontextmanager
async def _serving(redis_url: str | None) -> AsyncIterator[Serve]:
    """Start servers in this process, each with a session, its clock frozen. They are recounted at the end.

    `beside` is a server whose Redis the new one shares, and whose session it names.
    """
    async with AsyncExitStack() as stack:
        made: list[Stage] = []

        async def start(agent: Agent, beside: Stage | None = None) -> Stage:
            prefix = f"sw-{os.getpid()}-{next(_prefixes)}" if beside is None else beside.services.settings.key_prefix
            settings = Settings(redis_url=redis_url, key_prefix=prefix)
            app = create_app(settings, agent=agent)
            await stack.enter_async_context(app.router.lifespan_context(app))
            http = await stack.enter_async_context(
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app, raise_app_exceptions=False),
                    base_url="http://127.0.0.1",
                    headers={"x-api-key": API_KEY},
                )
            )
            new = Stage(http, app.state.services, "", "")
            if beside is not None:
                return new._replace(queue=beside.queue, session=beside.session)
            await new.call("POST", "/_emulator/clock", json={"mode": "frozen", "at": NOON})
            body = {"name": "work", "config": {"type": "self_hosted"}}
            queue = (await new.call("POST", "/v1/environments", json=body))["id"]
            body = {"agent": "agent_x", "environment_id": queue}
            made.append(new._replace(queue=queue, session=(await new.call("POST", "/v1/sessions", json=body))["id"]))
            return made[-1]

        yield start
        for each in made:
            assert (await each.call("GET", "/_emulator/invariants"))["violations"] == []
            assert (await each.call("POST", "/_emulator/reset"))["leftover_keys"] == 0


@pytest.fixture
async def serve(engine_options: tuple[str, ...]) -> AsyncIterator[Serve]:
    """Start servers on each engine."""
    async with _serving(engine_options[1] if engine_options else None) as start:
        yield start


@pytest.fixture
async def serve_redis(redis_server: RedisServer) -> AsyncIterator[Serve]:
    """Start servers on each real Redis, which several may share."""
    async with _serving(redis_server.url) as start:
        yield start


async def poll(on: Stage) -> Any:
    """Poll once."""
    return await on.call("GET", f"/v1/environments/{on.queue}/work/poll")


async def bring(on: Stage, state: str) -> None:
    """Bring the session's queued work into a state."""
    steps = STATES.index(state)
    if steps:
        await poll(on)
    if steps > 1:
        await on.work("ack")
    if steps > 2:
        await on.work("heartbeat")
    if steps > 3:
        await on.work("stop", json={"force": state == "stopped"})
    assert (await on.work())["state"] == ("queued" if state == "pending" else state)


async def advance(on: Stage, seconds: float) -> None:
    """Move the clock."""
    await on.call("POST", "/_emulator/clock", json={"advance_seconds": seconds})


async def finish(on: Stage) -> None:
    """Take the work as a worker does, give the agent its result, and stop when the session is idle."""
    work = await poll(on)
    assert (work["data"]["id"], work["state"]) == (on.session, "queued")
    assert await poll(on) is None
    await on.work("ack")
    claimed = await on.work("heartbeat", params={"expected_last_heartbeat": "NO_HEARTBEAT"})
    assert claimed["lease_extended"]
    await on.call("POST", f"/v1/sessions/{on.session}/events", json={"events": [RESULT]})
    assert (await on.work("stop", json={"force": True}))["state"] == "stopped"


async def nothing_is_left(on: Stage) -> None:
    """Check that the work rests and the queue is empty, now and when every lease would have lapsed."""
    for _ in range(2):
        assert (await on.work())["state"] == "stopped"
        assert await poll(on) is None
        stats = await on.call("GET", f"/v1/environments/{on.queue}/work/stats")
        assert (stats["depth"], stats["pending"], stats["oldest_queued_at"]) == (0, 0, None)
        await advance(on, LAPSES_S)


@pytest.mark.parametrize("cause", ["force", "graceful, then force", "graceful, then a lapse", "lapse"])
@pytest.mark.parametrize("state", ["starting", "active", "stopping"])
async def test_a_message_in_mid_run_is_served_once_whatever_stops_the_work(
    serve: Serve, state: str, cause: str
) -> None:
    """The work is back in the queue in the same step; served, it rests."""
    on = await serve(tool_user)
    await bring(on, state)
    await on.say("go")
    if cause.startswith("graceful"):
        assert (await on.work("stop"))["state"] == "stopping"
        beat = await on.work("heartbeat")
        assert (beat["state"], beat["lease_extended"]) == ("stopping", False)
    if cause.endswith("force"):
        assert (await on.work("stop", json={"force": True}))["state"] == "stopped"
    else:
        await advance(on, LAPSES_S)
    back = await on.work()
    assert (back["state"], back["acknowledged_at"], back["stopped_at"]) == ("queued", None, None)
    path = f"/v1/environments/{on.queue}/work/{back['id']}/heartbeat"
    late = await on.http.post(path, params={"expected_last_heartbeat": NOON})
    assert late.status_code == 412
    await finish(on)
    await nothing_is_left(on)


@pytest.mark.parametrize("state", ["queued", "pending"])
@pytest.mark.parametrize("force", [False, True])
async def test_a_message_that_no_worker_has_taken_survives_the_stop_of_its_work(
    serve: Serve, state: str, force: bool
) -> None:
    """Stopped and queued again in one step."""
    on = await serve(tool_user)
    await on.say("go")
    await bring(on, state)
    assert (await on.work("stop", json={"force": force}))["state"] == "stopped"
    assert (await on.work())["state"] == "queued"
    await finish(on)
    await nothing_is_left(on)


async def test_a_message_that_was_served_before_the_stop_brings_nothing_back(serve: Serve) -> None:
    """Sent and answered in mid-run."""
    on = await serve(echo)
    await bring(on, "active")
    await on.say("go")
    await on.work("stop")
    await on.work("stop", json={"force": True})
    await nothing_is_left(on)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("mid_turn", [False, True])
@pytest.mark.parametrize("end", ["archive", "delete", "terminate"])
async def test_the_end_of_a_session_is_the_end_of_its_work(serve: Serve, end: str, mid_turn: bool, state: str) -> None:
    """Whatever state that is in and whether or not a message waits; the worker is told at its next heartbeat."""
    on = await serve(told)
    await bring(on, state)
    before = await on.work()
    if mid_turn:
        await on.say("go")
    if end == "terminate":
        assert (await on.say("end")).status_code == 200
    else:
        path = f"/v1/sessions/{on.session}"
        await on.call(*(("POST", f"{path}/archive") if end == "archive" else ("DELETE", path)))
    assert (await on.work())["stopped_at"] == NOON
    if not mid_turn and end != "terminate" and state in ("stopping", "stopped"):
        assert (await on.work())["stop_requested_at"] == before["stop_requested_at"]
    beat = await on.work("heartbeat")
    assert (beat["state"], beat["lease_extended"], beat["ttl_seconds"]) == ("stopped", False, 120)
    assert (await on.work("stop"))["state"] == "stopped"
    item = (await on.work())["id"]
    refused(
        await on.http.post(f"/v1/environments/{on.queue}/work/{item}/ack"),
        409,
        f"Work item {item} must be in QUEUED state to acknowledge. Current state: stopped.",
    )
    await nothing_is_left(on)
    sent = await on.say("more")
    if end == "delete":
        refused(sent, 404, f"Session {on.session} not found.")
    else:
        refused(sent, 400, f"Session {on.session} is {end}d and takes no events.")
    await nothing_is_left(on)
    await on.call("DELETE", f"/v1/environments/{on.queue}")


async def test_sessions_of_an_archived_environment_go_on(serve: Serve) -> None:
    """Their work is queued again by a message; no new one comes."""
    on = await serve(tool_user)
    await bring(on, "stopped")
    path = f"/v1/environments/{on.queue}"
    await on.call("POST", f"{path}/archive")
    body = {"agent": "agent_x", "environment_id": on.queue}
    refused(await on.http.post("/v1/sessions", json=body), 400, f"Environment {on.queue} is archived.")
    await on.say("go")
    await finish(on)
    await nothing_is_left(on)
    refused(await on.http.delete(path), 409, ACTIVE.format(1))
    await on.call("POST", f"/v1/sessions/{on.session}/archive")
    await on.call("DELETE", path)


async def test_active_sessions_keep_an_environment_before_queued_work_does(serve: Serve) -> None:
    """Of the two refusals the one that names sessions comes first."""
    on = await serve(echo)
    path = f"/v1/environments/{on.queue}"
    await on.call("POST", f"/_emulator{path.removeprefix('/v1')}/work")
    refused(await on.http.delete(path), 409, ACTIVE.format(1))
    await on.call("POST", f"/v1/sessions/{on.session}/archive")
    refused(
        await on.http.delete(path),
        409,
        "Cannot delete self-hosted environment with work in the queue. Either archive the environment first to allow "
        "the queue to drain, or use force=true to delete immediately.",
    )


async def test_a_session_whose_wait_is_over_by_the_clock_may_be_ended(serve: Serve) -> None:
    """Its agent's turn is taken first."""
    on = await serve(slow)
    await on.say("go")
    path = f"/v1/sessions/{on.session}"
    assert (await on.http.post(f"{path}/archive")).status_code == 400
    await advance(on, LAPSES_S)
    await on.call("POST", f"{path}/archive")
    kinds = [event["type"] for event in await on.events()]
    assert kinds[-2:] == ["session.status_idle", "session.status_terminated"]


async def test_every_message_of_a_session_that_is_being_archived_is_answered_or_refused(serve: Serve) -> None:
    """Nothing is taken and then forgotten."""
    on = await serve(echo)
    path = f"/v1/sessions/{on.session}"
    calls = [on.say(str(n)) for n in range(MESSAGES)]
    calls.insert(MESSAGES // 2, on.http.post(f"{path}/archive"))
    answers = await asyncio.gather(*calls)
    archived = answers.pop(MESSAGES // 2)
    assert archived.json()["status"] == "terminated"
    taken = [str(n) for n, answer in enumerate(answers) if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 400}
    said = [event["content"][0]["text"] for event in await on.events() if event["type"] == "agent.message"]
    assert sorted(said) == sorted(taken)


async def test_the_token_of_a_hand_out_acts_for_its_session(serve: Serve) -> None:
    """It reads, lists and tells results until the work is queued anew; then the next hand-out's does."""
    on = await serve(tool_user)
    await on.say("go")
    path = f"/v1/sessions/{on.session}"
    dead: dict[str, str] = {}
    for life in range(2):
        secret = (await poll(on))["secret"]
        token = json.loads(base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4)))["sessions_token"]
        bearer = {"authorization": f"Bearer {token}", "x-api-key": ""}
        assert (await on.call("GET", path, headers=bearer))["environment_id"] == on.queue
        listed = (await on.call("GET", f"{path}/events", headers=bearer))["data"]
        assert listed[-1]["stop_reason"]["type"] == "requires_action"
        # A call that names no resource acts in the environment's workspace while the token lives.
        for headers, seen in ((dead, []), (bearer, [on.session])):
            if headers:
                rows = (await on.call("GET", "/v1/sessions", headers=headers))["data"]
                assert [row["id"] for row in rows] == seen
        await on.work("ack")
        if not life:
            await advance(on, LAPSES_S)
            dead = bearer
    for method, each in (("GET", path), ("GET", f"{path}/events"), ("GET", f"{path}/events/stream"), ("POST", path)):
        refused(await on.http.request(method, each, headers=dead), 401, "OAuth access token has been revoked.")
    refused(
        await on.http.post(f"{path}/events", headers=dead, json={"events": [RESULT]}),
        401,
        "OAuth access token has been revoked.",
    )
    await on.call("POST", f"{path}/events", headers=bearer, json={"events": [RESULT]})
    # Stopped, it still acts: a worker ends its item before its last call.
    await on.work("stop", json={"force": True})
    assert (await on.call("GET", f"{path}/events", headers=bearer))["data"][-1]["stop_reason"]["type"] == "end_turn"
    await on.call("DELETE", path)
    refused(await on.http.get(path, headers=bearer), 404, f"Session {on.session} not found.")
    await on.call("DELETE", f"/v1/environments/{on.queue}")
    refused(await on.http.get(path, headers=bearer), 404, f"Session {on.session} not found.")


async def test_two_servers_that_take_turns_of_one_session_serve_each_message_once(serve_redis: Serve) -> None:
    """Messages to both at once: one turn is stored, the other starts anew."""
    on = await serve_redis(echo)
    other = await serve_redis(echo, beside=on)
    answers = await asyncio.gather(*[(on, other)[n % 2].say(str(n)) for n in range(MESSAGES)])
    assert {answer.status_code for answer in answers} == {200}
    events = await other.events()
    asked, said = (
        [event["content"][0]["text"] for event in events if event["type"] == kind]
        for kind in ("user.message", "agent.message")
    )
    assert sorted(asked, key=int) == [str(n) for n in range(MESSAGES)]
    assert said == asked
    assert len({event["id"] for event in events}) == len(events)


async def test_a_turn_that_one_servers_crash_prevented_is_taken_by_another(serve_redis: Serve) -> None:
    """At its first access to the session; the crashed one finds nothing to do when it is back."""
    on = await serve_redis(Failing(1))
    other = await serve_redis(echo, beside=on)
    assert (await on.say("go")).status_code == 500
    assert (await other.call("GET", f"/v1/sessions/{on.session}"))["updated_at"] == after(NOON, 0)
    for each in (other, on):
        kinds = [event["type"] for event in await each.events()]
        assert kinds == ["user.message", "session.status_running", "agent.message", "session.status_idle"]
