"""What the scripted agent does: each step, and whatever a client may send in whatever order. Rules: `agent.*`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.agent_session import (
    SECOND,
    START,
    Session,
    confirmation,
    event_id,
    interrupt,
    message,
    result,
    texts,
    types,
)
from workyard_queue.agent import DEFAULT_SCRIPT, Event, State, advance
from workyard_queue.agent.events import CUT

#: As the ledger has it.
MOST_FILLED = 4_194_304
BASH = "steps: [{use_tool: {name: bash, input: {command: ls}}}]"
TWO = "steps: [{together: [{use_tool: {name: bash}}, {use_custom_tool: {name: ask_user}}]}, {say: 'got {{result}}'}]"
ASK = "steps: [{use_tool: {name: bash, permission: ask}}, {say: 'got {{result}}'}]"
RUNNING, END_TURN, REQUIRES = "session.status_running", "idle: end_turn", "idle: requires_action"


def test_a_session_without_a_message_is_idle_at_once() -> None:
    """And has nothing to do until a message comes."""
    session = Session(DEFAULT_SCRIPT)
    assert types(session.send()) == [END_TURN]
    assert (session.step.status, session.step.busy, session.step.due_at_us) == ("idle", False, None)
    assert session.report.progress == "not_started"


def test_by_default_a_message_is_run_by_bash_and_its_result_said_back() -> None:
    """For each message, with no set-up."""
    session = Session(DEFAULT_SCRIPT)
    for number, (command, output) in enumerate((("echo hi", "hi"), ("false", ""), ("echo {{result}}", "{{message}}"))):
        assert types(session.say(command)) == [RUNNING, "agent.tool_use", REQUIRES]
        call = session.calls()[-1]
        assert (call["name"], call["input"]) == ("bash", {"command": command})
        assert call["evaluated_permission"] == "allow"
        assert session.events[-1]["stop_reason"]["event_ids"] == [call["id"]]
        assert (session.step.status, session.step.busy) == ("idle", True)
        answer = session.send(result(call["id"], output))
        assert types(answer) == [RUNNING, "agent.message", END_TURN]
        assert texts(answer) == [output]
        assert (session.step.status, session.step.busy) == ("idle", False)
        assert (session.report.progress, session.report.runs) == ("finished", number + 1)


def test_a_message_that_comes_in_mid_turn_is_served_next_without_an_idle_between() -> None:
    """A worker leaves on an idle that ends a turn: there must be none while a message waits."""
    session = Session(DEFAULT_SCRIPT)
    session.say("one")
    assert session.send(message("two"), message("three")) == []
    assert session.report.messages_waiting == 2
    answer = session.send(result("sevt_1", "first"))
    assert types(answer) == [RUNNING, "agent.message", "agent.tool_use", REQUIRES]
    assert answer[2]["input"] == {"command": "two"}
    assert session.step.busy


def test_calls_made_together_go_on_when_the_last_result_is_there_in_whatever_order() -> None:
    """The results are in the script's order; each idle names what is left."""
    session = Session(TWO)
    assert types(session.say("go")) == [RUNNING, "agent.tool_use", "agent.custom_tool_use", REQUIRES]
    tool, custom = (call["id"] for call in session.calls())
    assert session.events[-1]["stop_reason"]["event_ids"] == [tool, custom]
    answer = session.send(result(custom, "second", custom=True))
    assert types(answer) == [REQUIRES]
    assert answer[0]["stop_reason"]["event_ids"] == [tool]
    answer = session.send(result(tool, "first"))
    assert types(answer) == [RUNNING, "agent.message", END_TURN]
    assert texts(answer) == ["got first\nsecond"]


def test_a_call_that_must_be_confirmed_is_held_until_it_is_allowed() -> None:
    """A result before that is out of place."""
    session = Session(ASK)
    session.say("go")
    [call] = session.calls()
    assert (call["evaluated_permission"], call["evaluation"]) == ("ask", {"type": "always_ask"})
    assert [each.waits_for for each in session.report.open_calls] == ["confirmation"]
    assert types(session.send(result(call["id"]))) == ["session.error", REQUIRES]
    assert session.report.unexpected[0].problem == "waits for its confirmation: it must not be run before"
    assert session.send(confirmation(call["id"], "allow")) == []
    assert [each.waits_for for each in session.report.open_calls] == ["result"]
    assert texts(session.send(result(call["id"], "fine"))) == ["got fine"]


def test_a_denied_call_is_over_and_its_result_is_the_reason() -> None:
    """Nothing runs it, so no result comes."""
    session = Session(ASK)
    session.say("go")
    answer = session.send(confirmation("sevt_1", "deny", "not on my machine"))
    assert types(answer) == [RUNNING, "agent.message", END_TURN]
    assert texts(answer) == ["got not on my machine"]
    assert types(session.send(result("sevt_1"))) == ["session.error", END_TURN]
    assert session.report.unexpected[0].problem == "was denied"


def test_a_call_that_the_service_denies_waits_for_nobody() -> None:
    """It is in the events, refused before any policy."""
    session = Session("steps: [{use_tool: {name: bash, permission: deny}}, {expect_result: {denied: true}}]")
    assert types(session.say("go")) == [RUNNING, "agent.tool_use", END_TURN]
    [call] = session.calls()
    assert call["evaluated_permission"] == "deny"
    assert "evaluation" not in call
    assert session.report.finished


def test_a_call_that_the_service_runs_has_its_result_from_the_script() -> None:
    """As in a cloud environment, and as of MCP servers; held first if it must be confirmed."""
    session = Session(
        """
        steps:
          - use_tool: {name: bash, input: {command: ls}, result: {text: a.txt}}
          - expect_result: {equals: a.txt}
          - use_mcp_tool: {server: wiki, name: ask, permission: ask, result: {text: no idea, is_error: true}}
          - expect_result: {equals: no idea, is_error: true}
        """
    )
    opening = session.say("go")
    assert types(opening) == [RUNNING, "agent.tool_use", "agent.tool_result", "agent.mcp_tool_use", REQUIRES]
    assert opening[2]["tool_use_id"] == opening[1]["id"]
    answer = session.send(confirmation(opening[3]["id"], "allow"))
    assert types(answer) == [RUNNING, "agent.mcp_tool_result", END_TURN]
    assert (answer[1]["mcp_tool_use_id"], answer[1]["is_error"]) == (opening[3]["id"], True)
    assert session.report.finished


def test_of_calls_made_together_one_that_the_service_runs_leaves_the_others_open() -> None:
    """The result is there at once, and the idle names the rest."""
    session = Session(
        "steps: [{together: [{use_mcp_tool: {server: wiki, name: ask, permission: ask}}, {use_tool: {name: bash}}]}]"
    )
    session.say("go")
    answer = session.send(confirmation("sevt_1", "allow"))
    assert types(answer) == [RUNNING, "agent.mcp_tool_result", REQUIRES]
    assert answer[-1]["stop_reason"]["event_ids"] == ["sevt_2"]
    assert types(session.send(result("sevt_2"))) == [RUNNING, END_TURN]


def test_idle_ends_a_turn_and_the_next_message_goes_on_behind_it() -> None:
    """With the stop reason that it names."""
    session = Session("steps: [{say: 'one: {{message}}'}, {idle: budget_reached}, {say: 'two: {{message}}'}, idle]")
    first = session.say("a")
    assert types(first) == [RUNNING, "agent.message", "idle: budget_reached"]
    assert (session.report.progress, session.report.finished) == ("waiting_for_message", False)
    assert session.report.reason == "steps.2 comes with the next message."
    second = session.say("b")
    assert types(second) == [RUNNING, "agent.message", END_TURN]
    assert texts(first + second) == ["one: a", "two: b"]
    assert session.report.finished


def test_a_message_after_the_end_is_answered_by_idle_alone() -> None:
    """It is never left unserved, and the report counts it."""
    session = Session("steps: [{say: bye}]")
    session.say("one")
    assert types(session.say("two")) == [RUNNING, END_TURN]
    assert (session.report.messages_after_end, session.report.runs, session.report.finished) == (1, 1, True)


def test_a_script_that_repeats_starts_again_with_the_next_message() -> None:
    """Its end is no end."""
    session = Session("{steps: [{say: hello}], repeat: true}")
    assert texts(session.say("one") + session.say("two")) == ["hello", "hello"]
    assert (session.report.runs, session.report.messages_after_end) == (2, 0)


def test_terminate_ends_the_session_for_good() -> None:
    """Nothing that comes later is answered."""
    session = Session("steps: [{say: bye}, terminate]")
    assert types(session.say("go")) == [RUNNING, "agent.message", "session.status_terminated"]
    assert session.step.status == "terminated"
    assert session.send(message("still there?"), interrupt(), result("sevt_1")) == []
    assert (session.report.progress, session.report.finished) == ("terminated", True)


@pytest.mark.parametrize(
    "kind",
    [
        "unknown_error",
        "model_overloaded_error",
        "model_rate_limited_error",
        "model_request_failed_error",
        "tool_use_limit_reached_error",
        "compaction_limit_reached_error",
        "billing_error",
    ],
)
def test_fail_is_an_error_of_the_session_as_the_sdk_types_it(kind: str) -> None:
    """Each type is one that the SDK knows; the turn ends unless it says otherwise."""
    session = Session(f"steps: [{{fail: {{message: sorry, type: {kind}}}}}, {{say: better}}]")
    answer = session.say("one")
    assert types(answer) == [RUNNING, "session.error", "idle: retries_exhausted"]
    assert answer[1]["error"] == {"type": kind, "message": "sorry", "retry_status": {"type": "exhausted"}}
    assert texts(session.say("two")) == ["better"]


def test_fail_can_be_got_over_or_be_the_end_of_the_session() -> None:
    """By its `retry_status`."""
    session = Session(
        "steps: [{fail: {message: wait, retry_status: retrying}}, {say: back},"
        " {fail: {message: gone, retry_status: terminal}}]"
    )
    assert types(session.say("go")) == [
        RUNNING,
        "session.error",
        "agent.message",
        "session.error",
        "session.status_terminated",
    ]


def test_a_failed_turn_drops_the_messages_that_wait() -> None:
    """As the service does, by the SDK's words on `exhausted`; the report counts them."""
    session = Session("steps: [{use_tool: {name: bash}}, {fail: {message: sorry}}, {say: next}]")
    session.send(message("one"), message("two"))
    assert types(session.send(result("sevt_1"))) == [RUNNING, "session.error", "idle: retries_exhausted"]
    assert (session.report.messages_dropped, session.step.busy) == (1, False)


def test_waits_end_by_the_clock_and_follow_one_another() -> None:
    """A jump of the clock passes all waits that it covers; each begins when the one before it was over."""
    session = Session("steps: [{wait: 10}, {say: ten}, {wait: 5.5}, {say: more}]")
    assert types(session.say("go")) == [RUNNING]
    assert session.step.due_at_us == START + 10 * SECOND
    assert session.pass_time(9.999999) == []
    assert session.report.progress == "waiting_for_time"
    assert texts(session.pass_time(0.000001)) == ["ten"]
    jumping = Session(session.script)
    jumping.say("go")
    assert types(jumping.pass_time(15.5)) == ["agent.message", "agent.message", END_TURN]
    slow = Session(session.script)
    slow.say("go")
    assert texts(slow.pass_time(15.4)) == ["ten"]
    assert texts(slow.pass_time(0.1)) == ["more"]


def test_a_call_after_a_wait_has_its_whole_limit_however_far_the_clock_jumped() -> None:
    """Nobody could have answered before it was made."""
    session = Session("{steps: [{wait: 10}, {use_tool: {name: bash}}], result_limit_seconds: 60}")
    session.say("go")
    assert types(session.pass_time(1000)) == ["agent.tool_use", REQUIRES]
    assert session.step.due_at_us == session.now + 60 * SECOND


@pytest.mark.parametrize("verdicts", [[], ["allow"]])
def test_a_call_that_nobody_answers_ends_the_turn_at_its_limit(verdicts: list[str]) -> None:
    """In the session's events and in the report; a confirmation starts the limit anew."""
    session = Session(ASK + "\nresult_limit_seconds: 90")
    session.say("go")
    for verdict in verdicts:
        session.pass_time(89)
        session.send(confirmation("sevt_1", verdict))
    assert session.pass_time(89.999999) == []
    answer = session.pass_time(0.000001)
    assert types(answer) == ["session.error", "idle: retries_exhausted"]
    waited = "result" if verdicts else "confirmation"
    problem = f"steps.0: the {waited} of bash (sevt_1) did not come within 90 seconds"
    assert answer[0]["error"]["message"] == f"The script failed at {problem}."
    report = session.report
    assert (report.progress, report.finished, report.reason) == ("failed", False, problem)
    assert [(each.call_id, each.waited_for, each.step) for each in report.timeouts] == [("sevt_1", waited, 0)]
    assert types(session.send(result("sevt_1"))) == ["session.error", "idle: retries_exhausted"]
    assert session.report.unexpected[-1].problem == "was given up when its turn failed"


def test_a_result_counts_by_when_it_came_not_by_when_it_is_looked_at() -> None:
    """A server that was away finds a result from before the limit, and one from after it."""
    for seconds, expected in ((9, [RUNNING, END_TURN]), (10, ["session.error", "idle: retries_exhausted"])):
        session = Session(BASH + "\nresult_limit_seconds: 10")
        session.say("go")
        session.now += 1000 * SECOND
        stamp = f"2027-01-15T08:00:{seconds:02}.000000Z"
        assert types(session.send(result("sevt_1") | {"processed_at": stamp}))[:2] == expected


def test_an_interrupt_gives_up_the_calls_and_the_turn() -> None:
    """The next message begins the turn behind it; what the worker still sends is out of place."""
    session = Session("steps: [{use_tool: {name: bash}}, {say: never}, idle, {say: second turn}]")
    session.say("go")
    assert types(session.send(interrupt())) == [END_TURN]
    assert (session.step.busy, session.step.due_at_us) == (False, None)
    assert types(session.send(result("sevt_1"))) == ["session.error", END_TURN]
    assert session.report.unexpected[0].problem == "was given up at an interrupt"
    assert texts(session.say("on")) == ["second turn"]
    assert session.report.interrupts == 1


def test_an_interrupt_ends_a_wait_and_the_last_turn_for_good() -> None:
    """The report says that the end was not reached."""
    session = Session("steps: [{wait: 10}, {say: never}]")
    session.say("go")
    assert types(session.send(interrupt())) == [END_TURN]
    assert session.pass_time(100) == []
    assert (session.report.progress, session.report.finished, session.report.step) == ("interrupted", False, 0)
    assert session.report.reason == "The last turn was interrupted at steps.0, and no turn follows."
    assert types(session.say("on")) == [RUNNING, END_TURN]
    assert session.report.progress == "interrupted"


def test_an_interrupted_script_that_repeats_starts_again() -> None:
    """And its report says so."""
    session = Session(DEFAULT_SCRIPT)
    session.say("ls")
    session.send(interrupt())
    assert session.report.reason == "The last turn was interrupted at steps.0. The next message starts it again."
    session.say("pwd")
    assert session.report.progress == "waiting_for_results"


def test_a_turn_that_failed_is_in_the_report_though_the_script_starts_again() -> None:
    """Whoever looks only in the end sees that not all was as expected."""
    session = Session("{repeat: true, steps: [{use_tool: {name: a}}, {expect_result: {equals: fine}}]}")
    for number, text in ((0, "bad"), (1, "fine")):
        session.say("go")
        session.send(result(session.calls()[number]["id"], text))
    assert (session.report.finished, session.report.turns, session.report.turns_failed) == (True, 2, 1)


def test_an_interrupt_with_a_message_behind_it_redirects_the_agent() -> None:
    """Both in one request, as clients send them."""
    session = Session(DEFAULT_SCRIPT)
    session.say("sleep 100")
    assert types(session.send(interrupt(), message("ls"))) == [END_TURN, RUNNING, "agent.tool_use", REQUIRES]
    assert session.calls()[-1]["input"] == {"command": "ls"}


def test_an_interrupt_of_an_idle_session_stops_nothing() -> None:
    """Idle is said again: a worker that heard the interrupt waits for it."""
    session = Session("steps: [{say: one}, idle, {say: two}]")
    session.say("go")
    assert types(session.send(interrupt())) == [END_TURN]
    assert texts(session.say("on")) == ["two"]
    assert session.report.interrupts == 0


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (result("sevt_99"), "is not a call of this session"),
        (result("sevt_1", custom=True), "is agent.tool_use, which takes another kind of result"),
        (confirmation("sevt_1", "allow"), "waits for no confirmation"),
        (confirmation("sevt_99", "deny"), "is not a call of this session"),
    ],
)
def test_an_event_that_no_call_waits_for_is_an_error_and_the_call_stays_open(event: Event, problem: str) -> None:
    """In the events and in the report, and idle is said again."""
    session = Session(BASH)
    session.say("go")
    answer = session.send(event)
    assert types(answer) == ["session.error", REQUIRES]
    assert answer[0]["error"]["message"].endswith(f"{problem}.")
    assert answer[1]["stop_reason"]["event_ids"] == ["sevt_1"]
    assert [each.problem for each in session.report.unexpected] == [problem]
    assert types(session.send(result("sevt_1"))) == [RUNNING, END_TURN]


def test_a_second_result_of_a_call_is_an_error_and_changes_nothing() -> None:
    """Two workers that both ran it, after a lost lease."""
    session = Session(TWO)
    session.say("go")
    session.send(result("sevt_1", "first"))
    assert types(session.send(result("sevt_1", "again"))) == ["session.error", REQUIRES]
    assert session.report.unexpected[0].problem == "was answered before"
    assert texts(session.send(result("sevt_2", "second", custom=True))) == ["got first\nsecond"]


def test_a_result_that_is_not_as_expected_fails_the_script_and_says_why() -> None:
    """The error names the step, the call, the condition, and what came."""
    session = Session(
        "steps: [{use_tool: {name: bash}}, {expect_result: {contains: ok}}, {say: never}, idle, {say: none}]"
    )
    session.say("go")
    answer = session.send(result("sevt_1", "boom"))
    assert types(answer) == [RUNNING, "session.error", "idle: retries_exhausted"]
    problem = 'steps.1: expect_result, of bash (sevt_1): contains: expected "ok", got "boom"'
    assert answer[1]["error"]["message"] == f"The script failed at {problem}."
    assert (session.report.progress, session.report.reason) == ("failed", problem)
    assert types(session.say("on")) == [RUNNING, END_TURN]
    assert session.report.progress == "failed"


def test_placeholders_are_filled_in_everywhere_but_never_from_what_a_client_sent() -> None:
    """In nested inputs too; a message that looks like one is put in as it is."""
    session = Session(
        "steps: [{use_tool: {name: t, input: {a: ['{{message}}', {b: 'x{{message}}'}], n: 1}}},"
        " {use_tool: {name: u, input: {c: '{{result}}/{{message}}/{{other}}'}}}]"
    )
    session.say("{{result}}")
    assert session.calls()[0]["input"] == {"a": ["{{result}}", {"b": "x{{result}}"}], "n": 1}
    session.send(result(session.calls()[0]["id"], "{{message}}"))
    assert session.calls()[1]["input"] == {"c": "{{message}}/{{result}}/{{other}}"}


def test_an_outcome_to_reach_asks_for_work_as_a_message_does() -> None:
    """Its description is the text."""
    session = Session(DEFAULT_SCRIPT)
    rubric = {"type": "text", "content": "good"}
    session.send({"type": "user.define_outcome", "id": "in", "description": "make", "rubric": rubric})
    assert session.calls()[0]["input"] == {"command": "make"}


def test_what_is_no_business_of_the_agent_changes_nothing() -> None:
    """Its own events, those of others; a system message only makes it say idle again."""
    session = Session(DEFAULT_SCRIPT)
    session.send()
    assert session.send(*session.events, {"type": "span.x"}, {"no": "type"}) == []
    assert types(session.send({"type": "system.message", "id": "in", "content": []})) == [END_TURN]


def test_another_script_goes_on_with_fresh_ids() -> None:
    """Ids never repeat within a session."""
    session = Session("steps: [{say: one}]")
    session.say("go")
    assert session.state is not None
    replaced = Session("steps: [{say: two}]")
    replaced.state = session.state.restarted()
    ids = [event["id"] for event in session.events + replaced.say("go")]
    assert len(set(ids)) == len(ids) == 6


def test_the_state_stays_small_whatever_is_sent() -> None:
    """Texts that the script does not show are not kept; notes and ids are capped."""
    session = Session("{steps: [{use_tool: {name: bash}}, {say: done}], repeat: true}")
    for _ in range(200):
        session.say("x" * 10_000)
        session.send(result(session.calls()[-1]["id"], "y" * 10_000), result("z" * 10_000))
    assert session.report.unexpected_count == 200
    assert len(session.report.unexpected) == 20
    assert session.state is not None
    assert len(session.state.model_dump_json()) < 16_384


@pytest.mark.parametrize("content", [None, [], "text", [{"type": "image"}], [{"type": "text"}], [7]])
def test_a_message_without_text_is_an_empty_one(content: Any) -> None:
    """Whatever a route lets through."""
    session = Session(DEFAULT_SCRIPT)
    session.send({"type": "user.message", "content": content})
    assert session.calls()[0]["input"] == {"command": ""}


def test_a_step_that_was_lost_is_computed_again_the_same() -> None:
    """The agent is a function: a crash between computing and storing costs nothing."""
    session = Session(TWO)
    session.say("go")
    arguments = (
        session.script,
        session.state,
        [result("sevt_1"), result("sevt_2", custom=True)],
        session.now,
        event_id,
    )
    first, second = advance(*arguments), advance(*arguments)
    assert first == second
    assert json.loads(first.state.model_dump_json()) == State.model_validate(first.state.model_dump()).model_dump()


def test_a_script_that_grows_without_end_is_cut() -> None:
    """Each of 32 calls at once whose result holds those before it twice triples it; a text can hold a message 5000 times."""
    doubles = {"use_mcp_tool": {"server": "s", "name": "n", "result": {"text": "{{result}}{{result}}{{message}}"}}}
    for steps in (
        [{"together": [doubles] * 32}],
        [{"say": "{{message}}" * 5000}] * 4,
        [{"use_tool": {"name": "n", "input": {"a": ["{{message}}"] * 9000}}}],
    ):
        session = Session(json.dumps({"steps": steps}))
        said = session.say("m" * 10_000)
        assert 0.9 * MOST_FILLED < len(json.dumps(said, ensure_ascii=False)) < 2 * MOST_FILLED
        assert CUT in json.dumps(said, ensure_ascii=False)


def test_after_much_was_said_the_next_message_waits_for_a_step_of_its_own() -> None:
    """A thousand messages for a heavy script do not hold everybody up; nothing of them is lost."""
    session = Session(json.dumps({"steps": [{"say": "x" * 60_000}] * 4 + ["idle"], "repeat": True}))
    session.send(*[message(str(n)) for n in range(50)])
    turns = 0
    while session.step.due_at_us is not None:
        assert len(json.dumps(session.events)) < (turns + 2) * 2 * MOST_FILLED
        assert session.step.busy
        turns += 1
        session.send()
    assert 2 <= turns <= 5
    assert types(session.events).count("agent.message") == 200
    assert not session.step.busy
