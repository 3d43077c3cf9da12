"""The Python SDK's workers and pollers run whole sessions, each in a process of its own.

Evidence: docs/evidence/sdk-clients.md#calls-of-a-worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.agent_reports import calls, message, report
from tests.support.harness import Api
from tests.support.sdk_processes import BOTH, check_both, claimed, credentials, finished, scripted, texts
from tests.support.sessions import events, item, send, session
from tests.support.workers import Worker

#: The default lease of an item that was acknowledged and has had no heartbeat, seconds.
STARTUP_LEASE_S = 120
Start = Callable[..., Worker]


def by_default(api: Api, queue: str) -> str:
    """Create a session with no script, and a message for it."""
    return str(session(api, queue, initial_events=[message("echo $((6 * 7))")])["id"])


def check_default(api: Api, queue: str, session_id: str) -> None:
    """Check that such a session was run to its end."""
    assert item(api, queue, session_id)["state"] == "stopped"
    assert texts(api, session_id, "user.tool_result") == texts(api, session_id, "agent.message") == ["42"]
    assert report(api, session_id)["report"]["progress"] == "finished"
    assert api.ok(api.get(f"/v1/sessions/{session_id}"))["status"] == "idle"


def test_a_worker_runs_sessions_until_it_is_told_to_end(api: Api, start_worker: Start) -> None:
    """With no script and with one that uses a tool of the worker's own."""
    queue = api.queue()
    plain, custom = by_default(api, queue), scripted(api, queue, *BOTH)
    worker = start_worker("run", credentials(api, queue))
    worker.until(lambda: all(finished(api, queue, each) for each in (plain, custom)), "both sessions are over")
    worker.terminate()
    check_default(api, queue, plain)
    check_both(api, queue, custom)


@pytest.mark.parametrize("given", ["environment key", "work secret"])
def test_a_process_that_is_handed_an_item_runs_it_and_ends(api: Api, start_worker: Start, given: str) -> None:
    """With either of the two credentials alone."""
    queue = api.queue()
    known = credentials(api, queue)
    for made, check in ((by_default(api, queue), check_default), (scripted(api, queue, *BOTH), check_both)):
        handed = known | claimed(api, queue)
        del handed["ANTHROPIC_API_KEY"], handed["ANTHROPIC_WORK_SECRET" if given == "environment key" else "ANTHROPIC_ENVIRONMENT_KEY"]  # fmt: skip
        start_worker("handle_item", handed, made).end()
        check(api, queue, made)


@pytest.mark.parametrize("program", ["sync_poller", "async_poller"])
def test_a_poller_drains_the_queue_and_its_caller_runs_the_sessions(
    api: Api, start_worker: Start, program: str
) -> None:
    """The async one stops, without force, what nobody has claimed by a heartbeat: over when that lease ends."""
    queue = api.queue()
    plain, custom = by_default(api, queue), scripted(api, queue, *BOTH)
    start_worker(program, credentials(api, queue)).end()
    if program == "async_poller":
        assert {item(api, queue, each)["state"] for each in (plain, custom)} == {"stopping"}
        api.advance(STARTUP_LEASE_S)
    check_default(api, queue, plain)
    check_both(api, queue, custom)
    assert api.stats(queue)["depth"] == 0


def bash(command: str, **fields: Any) -> dict[str, Any]:
    """Return a step that uses the tool."""
    return {"use_tool": {"name": "bash", "input": {"command": command}, **fields}}


def test_a_worker_holds_calls_until_they_are_confirmed(api: Api, start_worker: Start) -> None:
    """One is allowed, one denied: that is not run, and the script goes on."""
    queue = api.queue()
    steps = [bash("touch ran-a; echo a", permission="ask"), bash("touch ran-b; echo b", permission="ask")]
    made = scripted(api, queue, steps[0], {"say": "{{result}}"}, steps[1], {"say": "{{result}}"})
    worker = start_worker("run", credentials(api, queue))
    for number, verdict in enumerate(("allow", "deny"), 1):
        worker.until(lambda: worker.log().count("requires user confirmation") == number, "it holds the call")  # noqa: B023
        assert not (worker.folder / "ran-b").exists()
        send(api, made, confirmation(calls(api, made)[-1], verdict))
    worker.until(lambda: finished(api, queue, made), "the session is over")
    assert texts(api, made, "user.tool_result") == ["a"]
    assert (worker.folder / "ran-a").exists()
    assert not (worker.folder / "ran-b").exists()
    assert len(texts(api, made, "agent.message")) == 2


def test_a_worker_answers_several_calls_at_once(api: Api, start_worker: Start) -> None:
    """Each result belongs to its call, whatever the order in which they are sent."""
    queue = api.queue()
    weather = {"use_custom_tool": {"name": "get_weather", "input": {"city": "Bern"}}}
    ask = bash("echo asked", permission="ask")
    made = scripted(api, queue, {"together": [ask, bash("echo first"), weather]}, {"say": "{{result}}"})
    worker = start_worker("run", credentials(api, queue))
    worker.until(lambda: len(calls(api, made)) == 3 and len(results(api, made)) == 2, "two results, out of order")
    send(api, made, confirmation(calls(api, made)[0], "allow"))
    worker.until(lambda: finished(api, queue, made), "the session is over")
    assert texts(api, made, "agent.message") == ["asked\nfirst\nsunny in Bern"]
    answered = [event.get("tool_use_id") or event["custom_tool_use_id"] for event in results(api, made)]
    asked, *others = [call["id"] for call in calls(api, made)]
    assert answered == [*others, asked]


def results(api: Api, session_id: str) -> list[dict[str, Any]]:
    """List the results that a session got."""
    return [event for event in events(api, session_id) if event["type"].endswith("tool_result")]


def confirmation(call: dict[str, Any], verdict: str) -> dict[str, Any]:
    """Return a user's verdict on a call."""
    return {"type": "user.tool_confirmation", "tool_use_id": call["id"], "result": verdict}
