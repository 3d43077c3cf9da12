"""Scripts of sessions: whence one comes, what a session does by it, and what its report says. Rules: `agent.*`.

What each step does is tested without a server, in test_agent_*.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support.agent_reports import calls, message, report
from tests.support.agent_scripts import EXAMPLES
from tests.support.harness import SILENT, Api, refused, running_server
from tests.support.sessions import MESSAGE, events, item, send, session, types
from workyard.cli.main import main
from workyard_queue.agent import check_script, parse_script

SAY = {"steps": [{"say": "You said: {{message}}"}], "repeat": True}
CUSTOM = {
    "steps": [{"use_custom_tool": {"name": "get_weather", "input": {"city": "Bern"}}}, {"say": "It is {{result}}."}]
}
TWO_TURNS = "steps:\n  - say: one\n  - idle\n  - say: two\n"
RUN = ["session.status_running", "agent.tool_use", "session.status_idle"]


def said(api: Api, session_id: str) -> list[str]:
    """List what the agent said."""
    return [e["content"][0]["text"] for e in events(api, session_id) if e["type"] == "agent.message"]


def put(api: Api, path: str, body: str | dict[str, Any], kind: str = "application/json") -> Any:
    """Put a script, as it is written."""
    text = body if isinstance(body, str) else json.dumps(body)
    return api.http.put(f"/_emulator/{path}", content=text, headers={"content-type": kind})


def result(call: dict[str, Any], text: str, **fields: Any) -> dict[str, Any]:
    """Return the result of a call."""
    kind, member = {
        "agent.tool_use": ("user.tool_result", "tool_use_id"),
        "agent.custom_tool_use": ("user.custom_tool_result", "custom_tool_use_id"),
    }[call["type"]]
    return {"type": kind, member: call["id"], "content": [{"type": "text", "text": text}], **fields}


# -- with no set-up -------------------------------------------------------------------------------------------


def test_with_no_set_up_a_message_is_run_as_one_bash_call_and_its_result_said_back(api: Api) -> None:
    """From the message to the idle that lets the worker go."""
    queue = api.queue()
    made = session(api, queue, initial_events=[message("echo hi")])
    assert types(api, made["id"]) == ["user.message", *RUN]
    [call] = calls(api, made["id"])
    assert (call["name"], call["input"], call["evaluated_permission"]) == ("bash", {"command": "echo hi"}, "allow")
    waiting = events(api, made["id"])[-1]["stop_reason"]
    assert waiting == {"type": "requires_action", "event_ids": [call["id"]]}
    work, _ = api.active(queue)
    send(api, made["id"], result(call, "hi"))
    assert said(api, made["id"]) == ["hi"]
    assert events(api, made["id"])[-1]["stop_reason"] == {"type": "end_turn"}
    found = report(api, made["id"])
    assert (found["source"], found["report"]["progress"], found["report"]["turns"]) == ("built_in", "finished", 1)
    assert api.ok(api.stop(queue, work, force=True))["state"] == "stopped"
    assert api.work(queue, work)["state"] == "stopped"


def test_work_stopped_before_the_result_comes_back_with_the_next_message(api: Api) -> None:
    """Its message was there at the ack, so the stop was meant; the next worker finds both calls, one after the other."""
    queue = api.queue()
    made = session(api, queue, initial_events=[message("one")])["id"]
    work, _ = api.active(queue)
    assert api.ok(api.stop(queue, work, force=True))["state"] == "stopped"
    assert api.work(queue, work)["state"] == "stopped"
    send(api, made, message("two"))
    again, _ = api.active(queue)
    assert again == work
    for text in ("first", "second"):
        send(api, made, result(calls(api, made)[-1], text))
    assert said(api, made) == ["first", "second"]


def test_a_message_in_mid_run_is_served_in_the_turn_after(api: Api) -> None:
    """No worker may leave between: no idle but that which asks for the second result."""
    queue = api.queue()
    made = session(api, queue, initial_events=[message("one")])["id"]
    api.active(queue)
    send(api, made, message("two"))
    send(api, made, result(calls(api, made)[0], "first"))
    assert [call["input"]["command"] for call in calls(api, made)] == ["one", "two"]
    assert "end_turn" not in [e["stop_reason"]["type"] for e in events(api, made) if e["type"] == "session.status_idle"]
    send(api, made, result(calls(api, made)[1], "second"))
    assert said(api, made) == ["first", "second"]
    assert item(api, queue, made)["state"] == "active"


def test_a_session_waits_for_its_worker_however_long_and_for_its_result_as_long_as_the_script_says(api: Api) -> None:
    """The limit counts while a worker holds the work."""
    api.freeze()
    queue = api.queue()
    made = session(api, queue, initial_events=[MESSAGE])["id"]
    now = datetime.fromisoformat(api.advance(100_000))
    found = report(api, made)["report"]
    assert (found["progress"], found["open_calls"][0]["until"]) == ("waiting_for_results", None)
    assert found["reason"].endswith(" No worker holds the session's work.")
    work, beat = api.active(queue)
    found = report(api, made)["report"]
    assert "No worker" not in found["reason"]
    assert datetime.fromisoformat(found["open_calls"][0]["until"]) == now + timedelta(seconds=600)
    for _ in range(3):
        api.advance(250)
        if report(api, made)["report"]["progress"] == "failed":
            break
        beat = api.ok(api.heartbeat(queue, work, beat))["last_heartbeat"]
    found = report(api, made)["report"]
    assert (found["progress"], found["timeouts_count"]) == ("failed", 1)
    assert found["timeouts"][0]["name"] == "bash"
    assert types(api, made)[-2:] == ["session.error", "session.status_idle"]
    api.ok(api.stop(queue, work, force=True))
    assert api.work(queue, work)["state"] == "stopped"


def test_in_a_cloud_environment_the_service_answers_for_the_tool(api: Api) -> None:
    """Nobody else could: it says that it was not run."""
    cloud = str(api.environment(config={"type": "cloud"})["id"])
    made = session(api, cloud, initial_events=[MESSAGE])["id"]
    assert types(api, made) == [
        "user.message",
        "session.status_running",
        "agent.tool_use",
        "agent.tool_result",
        "agent.message",
        "session.status_idle",
    ]
    assert said(api, made)[0].startswith("Not run: ")


# -- whence a script comes ------------------------------------------------------------------------------------


def test_a_script_comes_from_the_session_its_metadata_the_workspace_or_the_server(
    api: Api, new_api: Callable[..., Api]
) -> None:
    """In this order; and what a session began with, it keeps."""
    queue = api.queue()
    plain = session(api, queue)["id"]
    assert report(api, plain)["source"] == "built_in"
    api.script(SAY)
    assert report(api, plain)["source"] == "workspace"
    send(api, plain, message("a"))
    api.script({"steps": [{"say": "other"}], "repeat": True})
    send(api, plain, message("b"))
    assert said(api, plain) == ["You said: a", "You said: b"]
    api.script({"steps": [{"say": "named"}]}, "other-1")
    by_name = session(api, queue, metadata={"workyard_script": "other-1"})["id"]
    inline = session(api, queue, metadata={"workyard_script": TWO_TURNS})["id"]
    given = session(api, queue, metadata={"workyard_script": "other-1"})["id"]
    api.ok(put(api, f"sessions/{given}/script", {"steps": [{"say": "given"}]}))
    api.ok(api.delete("/_emulator/scripts/other-1"))
    for each, source, text in (
        (by_name, "metadata", "named"),
        (inline, "metadata", "one"),
        (given, "session", "given"),
    ):
        send(api, each, MESSAGE)
        assert said(api, each) == [text]
        assert report(api, each)["source"] == source
    elsewhere = new_api(api.url, reset=False)
    other = session(elsewhere, elsewhere.queue())["id"]
    assert report(elsewhere, other)["source"] == "built_in"


def test_a_server_has_a_script_for_all_workspaces(
    engine_options: tuple[str, ...], tmp_path: Path, new_api: Callable[..., Api]
) -> None:
    """From a file."""
    file = tmp_path / "script.yaml"
    file.write_text("steps: [{say: from the server}]\n")
    with running_server("--script", str(file), *engine_options) as server:
        api = new_api(server.url, reset=False)
        made = session(api, api.queue(), initial_events=[MESSAGE])["id"]
        assert said(api, made) == ["from the server"]
        assert report(api, made)["source"] == "server"


#: As deep as a script may be.
NESTED = json.dumps({"steps": [{"use_tool": {"name": "bash", "input": {"a": json.loads("[" * 250 + "]" * 250)}}}]})


@pytest.mark.parametrize("text", [*EXAMPLES, NESTED])
def test_every_script_that_is_taken_is_given_back_and_played(api: Api, text: str) -> None:
    """As it was written, but for what equals its default."""
    api.freeze()
    taken = api.ok(put(api, "scripts/default", text, "application/yaml"))["script"]
    assert check_script(taken) == parse_script(text)
    assert api.ok(api.get("/_emulator/scripts/default"))["script"] == taken
    made = session(api, api.queue(), initial_events=[MESSAGE])["id"]
    assert report(api, made)["script"] == taken
    assert report(api, made)["report"]["step"] is not None


def test_in_a_cloud_environment_a_call_that_nobody_answers_times_out_too(api: Api) -> None:
    """No worker holds its work there, and none has to."""
    api.freeze()
    cloud = str(api.environment(config={"type": "cloud"})["id"])
    script = "{steps: [{use_custom_tool: {name: a}}], result_limit_seconds: 60}"
    made = session(api, cloud, metadata={"workyard_script": script}, initial_events=[MESSAGE])["id"]
    api.advance(59)
    assert report(api, made)["report"]["progress"] == "waiting_for_results"
    api.advance(1)
    assert report(api, made)["report"]["timeouts_count"] == 1
    assert types(api, made)[-2:] == ["session.error", "session.status_idle"]


def test_an_archived_session_waits_for_nothing(api: Api) -> None:
    """Nor does its report say so; one that was over before says how it ended."""
    for script, progress, reason in (
        ("{steps: [{use_tool: {name: bash}}]}", "terminated", "The session was archived."),
        ("{steps: [{say: one}, idle, {say: two}]}", "terminated", "The session was archived."),
        ("{steps: [{say: one}]}", "finished", "Every step has been played."),
    ):
        metadata = {"workyard_script": script}
        made = session(api, api.queue(), metadata=metadata, initial_events=[MESSAGE])["id"]
        api.ok(api.post(f"/v1/sessions/{made}/archive"))
        found = report(api, made)["report"]
        assert (found["progress"], found["reason"], found["open_calls"]) == (progress, reason, [])


def test_a_session_is_given_another_script_between_turns_only(api: Api) -> None:
    """It begins anew, and ids of events are not used twice."""
    queue = api.queue()
    made = session(api, queue, initial_events=[MESSAGE])["id"]
    path = f"sessions/{made}/script"
    refused(
        put(api, path, SAY),
        409,
        f"Session {made} is in the middle of a turn; change its script after the turn has ended, or after a user.interrupt.",
    )
    send(api, made, {"type": "user.interrupt"})
    found = api.ok(put(api, path, TWO_TURNS, "application/yaml"))
    assert (found["source"], found["report"]["progress"]) == ("session", "not_started")
    assert found["script"] == {
        "steps": [{"say": "one"}, {"idle": "end_turn"}, {"say": "two"}],
        "repeat": False,
        "result_limit_seconds": 600,
    }
    for _ in range(3):
        send(api, made, MESSAGE)
    assert said(api, made) == ["one", "two"]
    ids = [event["id"] for event in events(api, made)]
    assert len(set(ids)) == len(ids)
    assert report(api, made)["report"]["messages_after_end"] == 1


def test_the_script_of_a_terminated_session_cannot_be_changed(api: Api) -> None:
    """Nothing would play it."""
    made = session(api, api.queue(), metadata={"workyard_script": "{steps: [terminate]}"}, initial_events=[MESSAGE])
    assert made["status"] == "terminated"
    assert report(api, made["id"])["report"]["progress"] == "terminated"
    refused(
        put(api, f"sessions/{made['id']}/script", SAY),
        400,
        f"Session {made['id']} is terminated and cannot run a script.",
    )


def test_the_work_of_a_session_that_terminates_is_stopped(api: Api) -> None:
    """With the step that ends it: no worker is sent to it any more."""
    queue = api.queue()
    made = session(api, queue, metadata={"workyard_script": "{steps: [terminate]}"}, initial_events=[MESSAGE])["id"]
    assert item(api, queue, made)["state"] == "stopped"
    assert api.poll(queue) is None
    refused(
        api.post(f"/v1/sessions/{made}/events", json={"events": [MESSAGE]}),
        400,
        f"Session {made} is terminated and takes no events.",
    )


# -- out of place ---------------------------------------------------------------------------------------------


def test_a_result_that_nobody_waits_for_is_in_the_events_and_in_the_report(api: Api) -> None:
    """Once expected and once not; the turn goes on."""
    made = session(api, api.queue(), metadata={"workyard_script": json.dumps(CUSTOM)}, initial_events=[MESSAGE])["id"]
    [call] = calls(api, made)
    wrong = {**result(call, "x"), "custom_tool_use_id": "sevt_unknown"}
    send(api, made, wrong)
    error = events(api, made)[-2]["error"]
    assert error["message"] == "Unexpected user.custom_tool_result: sevt_unknown is not a call of this session."
    send(api, made, result(call, "sunny"))
    assert said(api, made) == ["It is sunny."]
    found = report(api, made)["report"]
    assert (found["progress"], found["unexpected_count"]) == ("finished", 1)
    assert found["unexpected"][0]["call_id"] == "sevt_unknown"


def test_a_wait_and_an_expectation_follow_the_clock_and_the_result(api: Api) -> None:
    """No sleep; what was expected and what came is in the report."""
    api.freeze()
    script = {
        "steps": [
            {"wait": 90},
            {"use_tool": {"name": "bash", "input": {"command": "true"}}},
            {"expect_result": {"contains": "fine"}},
        ]
    }
    made = session(api, api.queue())["id"]
    api.ok(put(api, f"sessions/{made}/script", script))
    send(api, made, MESSAGE)
    assert api.ok(api.get(f"/v1/sessions/{made}"))["status"] == "running"
    api.advance(89)
    assert report(api, made)["report"]["progress"] == "waiting_for_time"
    api.advance(1)
    send(api, made, result(calls(api, made)[0], "bad"))
    found = report(api, made)["report"]
    assert found["progress"] == "failed"
    assert "fine" in found["reason"]
    assert "bad" in found["reason"]


# -- refused --------------------------------------------------------------------------------------------------

BAD: list[tuple[str, str]] = [
    ("{}", "steps: Field required"),
    ('{"steps": []}', "steps: List should have at least 1 item after validation, not 0"),
    ('{"steps": [{"say": "a"}, {"use_tool": {}}]}', "steps.1.use_tool.name: Field required"),
    (
        '{"steps": [{"sya": "a"}]}',
        "steps.0: Must have exactly one key, of use_tool, use_custom_tool, use_mcp_tool, together, say, expect_result, wait, idle, terminate, fail",
    ),
    (
        "steps: [wait",
        "Script is not valid YAML or JSON: line 1, column 13: expected ',' or ']', but got '<stream end>'",
    ),
    ("[1]", "Script must be a mapping with the key steps"),
]


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_a_script_that_is_none_is_refused_with_the_step_and_field(api: Api, text: str, problem: str) -> None:
    """Wherever it is given."""
    made = session(api, api.queue())["id"]
    refused(put(api, f"sessions/{made}/script", text, "application/yaml"), 400, problem)
    refused(put(api, "scripts/default", text, "text/yaml"), 400, problem)
    body = {"agent": "agent_x", "environment_id": api.queue(), "metadata": {"workyard_script": text}}
    refused(api.post("/v1/sessions", json=body), 400, f"metadata.workyard_script: {problem}")


def test_other_refusals_name_what_is_wrong(api: Api) -> None:
    """Names, types of bodies, sessions and scripts that are not there."""
    queue = api.queue()
    body: dict[str, Any] = {"agent": "agent_x", "environment_id": queue, "metadata": {"workyard_script": "nightly"}}
    refused(
        api.post("/v1/sessions", json=body),
        400,
        "metadata.workyard_script: The environment's workspace has no script named nightly",
    )
    assert api.ok(api.get("/v1/sessions"))["data"] == []
    absent = "session_011CZkZ9X2dpNyB7HsEFoRfW"
    refused(api.get(f"/_emulator/sessions/{absent}/script"), 404, f"Session {absent} not found.")
    refused(put(api, f"sessions/{absent}/script", SAY), 404, f"Session {absent} not found.")
    refused(api.get("/_emulator/scripts/none"), 404, "Script none not found.")
    refused(api.delete("/_emulator/scripts/none"), 404, "Script none not found.")
    pattern = "String should match pattern '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'"
    refused(put(api, "scripts/a.b", SAY), 400, f"name: {pattern}")
    types_taken = "application/json or application/yaml or application/x-yaml or text/yaml or text/plain"
    refused(put(api, "scripts/a", SAY, "application/xml"), 400, f"Content-Type must be {types_taken}")
    made = session(api, queue, metadata={"workyard_script": TWO_TURNS})["id"]
    changed = api.post(f"/v1/sessions/{made}", json={"metadata": {"workyard_script": "{steps: [idle]}"}})
    refused(
        changed,
        400,
        f"metadata.workyard_script: Is only read when a session is created; use PUT /_emulator/sessions/{made}/script to replace the script",
    )
    assert api.ok(api.post(f"/v1/sessions/{made}", json={"metadata": {"team": "b"}}))["metadata"]["team"] == "b"


def test_a_script_belongs_to_one_workspace(api: Api, new_api: Callable[..., Api]) -> None:
    """Not to none, not to all."""
    nobody = new_api(api.url, "")
    for query in ("", "?workspace=*"):
        for method, name in (("PUT", "/default"), ("GET", "/default"), ("DELETE", "/default"), ("GET", "")):
            answer = nobody.http.request(method, f"/_emulator/scripts{name}{query}", content="steps: [idle]")
            refused(answer, 400, "workspace: Name one workspace: with x-api-key or a bearer token, or with ?workspace=")


def test_the_server_answers_others_while_it_reads_a_long_script(api: Api) -> None:
    """In YAML, which takes its time."""
    text = f"steps: [{{use_tool: {{name: a, input: {{a: [{'1,' * 40_000}]}}}}}}]"
    answers = 0
    with ThreadPoolExecutor(1) as other:
        reading = other.submit(put, api, "scripts/long", text, "application/yaml")
        while not reading.done():
            api.ok(api.get("/_emulator/health"))
            answers += 1
    api.ok(reading.result())
    assert answers > 5


def test_scripts_are_listed_by_name_and_gone_after_a_reset(api: Api) -> None:
    """With nothing left over."""
    for name in ("b", "a", "default"):
        api.script(SAY, name)
    listed = api.ok(api.get("/_emulator/scripts"))["data"]
    assert [each["name"] for each in listed] == ["a", "b", "default"]
    assert listed[0] == api.ok(api.get("/_emulator/scripts/a"))
    assert listed[0]["script"]["steps"] == SAY["steps"]
    api.script(SILENT, "a")
    assert api.ok(api.get("/_emulator/scripts/a"))["script"]["steps"] == [{"idle": "end_turn"}]
    assert api.reset()["leftover_keys"] == 0
    assert api.ok(api.get("/_emulator/scripts"))["data"] == []


def test_a_workspace_has_at_most_a_thousand_scripts_of_its_own(api: Api, new_api: Callable[..., Api]) -> None:
    """One that is there can still be changed; another workspace has none of them."""
    api.script(SAY, "s1")
    document = api.ok(api.get("/_emulator/state"))
    document["scripts"] = {f"s{number}": document["scripts"]["s1"] for number in range(1000)}
    api.ok(api.http.put("/_emulator/state", json=document))
    more = api.http.put("/_emulator/scripts/more", json=SAY)
    refused(more, 400, "A workspace has at most 1000 scripts: delete one first")
    assert more.headers["workyard-rule"] == "agent.script.list"
    api.script(SILENT, "s999")
    assert new_api(api.url).get("/_emulator/scripts").json() == {"data": []}
    api.ok(api.delete("/_emulator/scripts/s0"))
    api.script(SAY, "more")


# -- the command ----------------------------------------------------------------------------------------------


def test_the_command_checks_sets_and_shows_scripts(api: Api, tmp_path: Path) -> None:
    """As the control plane does, with exit codes for shells."""
    file = tmp_path / "two.yaml"
    file.write_text(TWO_TURNS)
    bad = tmp_path / "bad.yaml"
    bad.write_text("steps: [{say: 3}]\n")
    long = tmp_path / "long.yaml"
    long.write_text("steps:\n" + f"  - say: {'字' * 50_000}\n" * 5)
    where = {"WORKYARD_URL": api.url, "WORKYARD_API_KEY": api.api_key}

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["scripts", *arguments], env=where)
        return done.exit_code, done.output

    assert run("check", str(file)) == (0, f"{file}: 3 steps, no problem\n")
    assert run("check", str(bad)) == (1, f"Error: {bad}: steps.0.say: Input should be a valid string\n")
    assert run("set", "--name", "two", str(file)) == (0, "set as two\n")
    assert run("set", str(file)) == (0, "set as default\n")
    assert run("check", str(long)) == (0, f"{long}: 5 steps, no problem\n")
    assert run("set", "--name", "long", str(long)) == (0, "set as long\n")
    made = session(api, api.queue())["id"]
    assert run("set", "--session", made, str(file)) == (0, f"set for session {made}\n")
    assert run("set", "--session", made, "--name", "two", str(file))[0] == 2
    send(api, made, MESSAGE)
    code, shown = run("show", made)
    assert (code, shown.split(":")[0]) == (0, "waiting_for_message (step 1 of 3, session)")
    send(api, made, {"type": "user.tool_result", "tool_use_id": "sevt_no", "content": []})
    code, shown = run("show", made)
    assert code == 1
    assert "unexpected: " in shown
    assert json.loads(run("show", "--json", made)[1])["session_id"] == made
