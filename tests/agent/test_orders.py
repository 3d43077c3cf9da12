"""Whatever clients send, in whatever order: the scripted agent answers by the same few rules. Rules: `agent.*`.

The rules are held by `Ledger`, which reads nothing but the session's events, as a client would.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.agent_session import SECOND, START, Session, confirmation, event_id, interrupt, message, result
from workyard_queue.agent import Event, Script, State, advance, check_script

RESULTS = {"user.tool_result": "agent.tool_use", "user.custom_tool_result": "agent.custom_tool_use"}
SERVED = {"agent.tool_result": "tool_use_id", "agent.mcp_tool_result": "mcp_tool_use_id"}

GIVEN = st.just({"text": "given"})
NAMED = {"name": st.sampled_from(["bash", "edit"])}
PERMISSION = st.sampled_from(["allow", "allow", "ask", "deny"])
CALLS = st.one_of(
    st.fixed_dictionaries({"use_tool": st.fixed_dictionaries(NAMED | {"permission": PERMISSION, "result": st.none() | GIVEN})}),
    st.fixed_dictionaries({"use_custom_tool": st.fixed_dictionaries(NAMED)}),
    st.fixed_dictionaries(
        {"use_mcp_tool": st.fixed_dictionaries(NAMED | {"server": st.just("wiki"), "permission": PERMISSION, "result": GIVEN})}
    ),
)  # fmt: skip
MADE = CALLS | st.fixed_dictionaries({"together": st.lists(CALLS, min_size=1, max_size=4)})
EXPECTED = st.sampled_from([{"is_error": False}, {"contains": "a"}, {"denied": False, "matches": "."}])
STEPS = st.one_of(
    MADE.map(lambda step: [step]),
    st.tuples(MADE, EXPECTED).map(lambda pair: [pair[0], {"expect_result": pair[1]}]),
    st.tuples(MADE).map(lambda step: [step[0], {"say": "got {{result}}"}]),
    st.sampled_from(["hello", "you said {{message}}"]).map(lambda text: [{"say": text}]),
    st.integers(0, 20).map(lambda seconds: [{"wait": seconds}]),
    st.sampled_from(["end_turn", "end_turn", "refusal", "retries_exhausted"]).map(lambda reason: [{"idle": reason}]),
    st.sampled_from(["retrying", "exhausted"]).map(lambda how: [{"fail": {"message": "sorry", "retry_status": how}}]),
)
SCRIPTS = st.builds(
    lambda steps, repeat, ends: check_script(
        {
            "steps": [step for group in steps for step in group] + (["terminate"] if ends else []),
            "repeat": repeat,
            "result_limit_seconds": 100,
        }
    ),
    st.lists(STEPS, min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
)


class Ledger:
    """What is open in a session, recounted from its events alone."""

    def __init__(self) -> None:
        self.status = "idle"
        self.terminated = False
        #: Open call → its type. A held one waits for its confirmation.
        self.open: dict[str, str] = {}
        self.held: set[str] = set()
        self.ids: list[str] = []

    def sent(self, event: Event) -> None:
        """Note an event of a client."""
        kind = event["type"]
        call = str(event.get("tool_use_id", event.get("custom_tool_use_id")))
        if kind == "user.interrupt":
            self.open.clear()
        elif kind in RESULTS and self.open.get(call) == RESULTS[kind] and call not in self.held:
            del self.open[call]
        elif kind == "user.tool_confirmation" and call in self.held & self.open.keys():
            self.held.remove(call)
            if event["result"] == "deny":
                del self.open[call]

    def answered(self, event: Event) -> None:
        """Note an event of the agent, and check it against what is open."""
        assert not self.terminated
        self.ids.append(event["id"])
        kind = event["type"]
        if kind in ("agent.tool_use", "agent.mcp_tool_use", "agent.custom_tool_use"):
            permission = event.get("evaluated_permission")
            if permission != "deny":
                self.open[event["id"]] = kind
            if permission == "ask":
                self.held.add(event["id"])
        elif kind in SERVED:
            assert event[SERVED[kind]] not in self.held
            del self.open[event[SERVED[kind]]]
        elif kind == "session.error" and event["error"]["retry_status"]["type"] == "exhausted":
            self.open.clear()
        elif kind == "session.status_idle":
            self.status = "idle"
            reason = event["stop_reason"]
            assert reason.get("event_ids", []) == list(self.open)
            assert (reason["type"] == "requires_action") == bool(self.open)
        elif kind == "session.status_running":
            assert self.status == "idle"
            self.status = "running"
        elif kind == "session.status_terminated":
            self.status, self.terminated = "terminated", True


def an_event(data: st.DataObject, calls: list[str]) -> Event:
    """Draw something that a client may send, mostly about a call that was made."""
    call = data.draw(st.sampled_from([*calls[-6:], "sevt_999"]))
    return data.draw(
        st.one_of(
            st.just(message("ls")),
            st.just(interrupt()),
            st.builds(lambda text, failed: result(call, text, is_error=failed), st.sampled_from(["a", ""]), st.booleans()),
            st.just(result(call, "a", custom=True)),
            st.just(result(call, "a")),
            st.just(confirmation(call, "allow")),
            st.just(confirmation(call, "deny")),
            st.just({"type": "system.message", "content": []}),
        )
    )  # fmt: skip


def one(session: Session, ledger: Ledger, event: Event | None) -> None:
    """Give the agent one event, or only the time, and check its answer."""
    if event is not None:
        ledger.sent(event)
    answer = session.send() if event is None else session.send(event)
    for each in answer:
        ledger.answered(each)
    step = session.step
    assert step.status == ledger.status
    assert ledger.ids == [event_id(number) for number in range(len(ledger.ids))]
    # Whoever is busy has a time by which it goes on or gives up: nothing hangs.
    assert step.busy == (step.due_at_us is not None)
    assert step.due_at_us is None or step.due_at_us > session.now
    assert step.status != "running" or step.busy
    if event is not None and not step.busy and step.status == "idle":
        assert answer[-1]["type"] == "session.status_idle", "a worker waits for an idle after whatever it hears"


def replay(script: Script, history: list[tuple[int, list[Event]]]) -> tuple[list[Event], State | None]:
    """Return what the agent answers to a history, and its last state."""
    state, events = None, list[Event]()
    for now, unseen in history:
        step = advance(script, state, unseen, now, event_id)
        state = step.state
        events += step.events
    return events, state


@settings(max_examples=150, deadline=None)
@given(SCRIPTS, st.data())
def test_whatever_is_sent_in_whatever_order_the_agent_keeps_its_rules_and_comes_to_rest(
    script: Script, data: st.DataObject
) -> None:
    """Results out of order, twice, for unknown calls; verdicts; interrupts; jumps of the clock. The same comes of it when it
    is played again, and when events of one instant are given together.
    """
    session, ledger = Session(script), Ledger()
    history: list[tuple[int, Event | None]] = []

    def play(event: Event | None) -> None:
        history.append((session.now, event))
        one(session, ledger, event)

    play(None)
    for _ in range(data.draw(st.integers(1, 25))):
        if data.draw(st.integers(0, 4)) == 0:
            session.now += data.draw(st.sampled_from([1, 10, 99, 500])) * SECOND
            play(None)
        play(an_event(data, [call["id"] for call in session.calls()]))
    for _ in range(500):
        if session.step.due_at_us is None:
            break
        session.now = session.step.due_at_us
        play(None)
    assert not session.step.busy
    sent = sum(event is not None and event["type"] == "user.message" for _, event in history)
    if not ledger.terminated:
        assert session.report.turns + session.report.messages_dropped == sent
        assert session.report.messages_waiting == 0

    single = [(now, [] if event is None else [event]) for now, event in history]
    assert replay(script, single) == (session.events, session.state)
    together: list[tuple[int, list[Event]]] = single[:1]
    for now, unseen in single[1:]:
        last, before = together[-1]
        # The first call has no event on purpose: it says that the new session is idle.
        if now == last and len(together) > 1 and data.draw(st.booleans()):
            together[-1] = (now, before + unseen)
        else:
            together.append((now, unseen))
    assert replay(script, together) == (session.events, session.state)


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "x"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
KINDS = [*RESULTS, "user.message", "user.tool_confirmation", "user.interrupt", "user.define_outcome", "user.new", "x"]
MEMBERS = ["id", "content", "tool_use_id", "custom_tool_use_id", "is_error", "result", "deny_message", "processed_at"]


@given(
    SCRIPTS,
    st.lists(
        st.tuples(st.sampled_from(KINDS) | ANYTHING, st.dictionaries(st.sampled_from(MEMBERS), ANYTHING)).map(
            lambda pair: pair[1] | {"type": pair[0]}
        ),
        max_size=8,
    ),
)
def test_events_that_no_route_would_let_through_do_not_stop_the_agent(script: Script, events: list[Event]) -> None:
    """Members missing or of other types: a session must not be lost by one."""
    session = Session(script)
    session.send(message("go"), *events)
    assert session.step.state.emitted == len(session.events)
    assert session.now == START
