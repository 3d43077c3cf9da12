"""Plays the steps of a script: calls, their ends, and all events of the agent. `advance.py` handles incoming events and
time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from workyard_store.clock import format_instant

from .events import MOST_FILLED, SERVED, Event, Filler, call_fields, text_block
from .script import (
    AnyStep,
    Call,
    ErrorType,
    ExpectResult,
    Fail,
    Failure,
    GivenResult,
    Idle,
    RetryStatus,
    Say,
    Script,
    StopReason,
    Terminate,
    Together,
    ToolCall,
    UseCustomTool,
    UseMcpTool,
    UseTool,
    Wait,
    calls_of,
)
from .state import MOST_CLOSED, MadeCall, State, WaitsFor

#: The result of a call in a cloud environment if the script defines none.
NOT_RUN = GivenResult(
    text="Not run: Workyard has no sandbox for cloud environments. Give the call a `result` in the script.",
    is_error=True,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """The session's kind of environment, and whether a worker is there to run its tools.

    Attributes:
        cloud: whether the service runs the toolset's tools, not a worker.
        held_since_us: since when a worker holds the session's work, in microseconds; None: no worker does.
    """

    cloud: bool = False
    held_since_us: int | None = 0


class Player:
    """A script at some point of a session, and the events that playing on from there produces."""

    def __init__(
        self,
        script: Script,
        state: State | None,
        now_us: int,
        event_id: Callable[[int], str],
        setting: Setting,
    ) -> None:
        self.script = script
        self.setting = setting
        self.state = State() if state is None else state.model_copy(deep=True)
        self.now_us = now_us
        self.at_us = 0
        self.event_id = event_id
        self.events: list[Event] = []
        self._filler = Filler()
        # Characters of what was said, its form included.
        self._said = 0

    def go_on(self) -> None:
        """Play steps until something must happen first."""
        state = self.state
        while state.status != "terminated":
            if not state.in_turn:
                # After much was said, the next message has its turn in a step of its own.
                if not state.queue or self._said > MOST_FILLED:
                    return
                self._begin_turn()
            elif state.wait_until_us is not None or state.open_calls:
                return
            elif state.step >= len(self.script.steps):
                self.end_turn("end_turn")
            else:
                state.reached = state.step
                self._play(self.script.steps[state.step])

    def _begin_turn(self) -> None:
        state = self.state
        state.message = state.queue.pop(0)
        state.in_turn = True
        state.turns += 1
        if state.step < len(self.script.steps) or self.script.repeat:
            state.step %= len(self.script.steps)
            state.failure, state.interrupted = None, False
        else:
            state.messages_after_end += 1
        self.run_again()

    def _play(self, step: AnyStep) -> None:
        match step:
            case Say(say=text):
                self.emit("agent.message", content=text_block(self._filler.filled(text, self._texts())))
                self.next_step()
            case ExpectResult(expect_result=matcher):
                call = self.state.calls[matcher.call]
                problem = matcher.problem(call.text, is_error=call.is_error, denied=call.denied)
                if problem is None:
                    self.next_step()
                else:
                    self.fail_turn(f"expect_result, of {call.name} ({call.id}): {problem}")
            case Wait(wait=seconds):
                self.state.wait_until_us = self.at_us + round(seconds * 1_000_000)
            case Idle(idle=reason):
                self.next_step()
                self.end_turn(reason)
            case Terminate():
                self._terminate()
            case Fail(fail=failure):
                self.emit_error(failure.type, failure.message, failure.retry_status)
                if failure.retry_status == "terminal":
                    self._terminate()
                else:
                    self.next_step()
                    if failure.retry_status == "exhausted":
                        self.end_turn("retries_exhausted")
            case UseTool() | UseCustomTool() | UseMcpTool() | Together():
                self._make(calls_of(step))
            case _:
                assert_never(step)

    def next_step(self) -> None:
        """Leave the step that was just played."""
        self.state.step += 1
        if self.state.step == len(self.script.steps):
            self.state.runs += 1

    def end_turn(self, reason: StopReason) -> None:
        """End the turn. If a message waits, the session does not go idle, so that no worker leaves."""
        state = self.state
        state.in_turn = False
        state.message = ""
        state.calls = []
        state.stop_reason = reason
        if reason == "retries_exhausted":
            state.messages_dropped += len(state.queue)
            state.queue = []
        if not state.queue or reason != "end_turn":
            self.go_idle()

    def fail_turn(self, problem: str) -> None:
        """End the script: a worker's result does not meet its conditions."""
        self.state.turns_failed += 1
        self.state.failure = f"steps.{self.state.reached}: {problem}"
        self.give_up("was given up when its turn failed")
        self.state.step = len(self.script.steps)
        self.emit_error("unknown_error", f"The script failed at {self.state.failure}.", "exhausted")
        self.end_turn("retries_exhausted")

    def _terminate(self) -> None:
        self.next_step()
        state = self.state
        state.in_turn = False
        state.messages_dropped += len(state.queue)
        state.calls, state.queue = [], []
        state.status = "terminated"
        self.emit("session.status_terminated")

    # Calls.

    def _make(self, calls: Sequence[Call]) -> None:
        """Make all calls, then wait for those that a client runs or confirms."""
        made = []
        for call in calls:
            id = self.emit(call.event, **call_fields(call, self._texts(), self._filler))
            made.append(MadeCall(id=id, event=call.event, name=call.name))
        self.state.calls = made
        for call, record in zip(calls, made, strict=True):
            if call.permission == "deny":
                self.deny(record)
            elif call.permission == "ask":
                self._wait_for("confirmation", record)
            else:
                self.run(record, call)
        if self.state.open_calls:
            self.go_idle()
        else:
            self.next_step()

    def run(self, record: MadeCall, call: Call) -> None:
        """Have a call run: by a client, or by the service, whose result the script gives."""
        result = call.result
        if result is None and self.setting.cloud and isinstance(call, ToolCall):
            result = NOT_RUN
        if result is None:
            self._wait_for("result", record)
            return
        self.run_again()
        record.text, record.is_error = self._filler.filled(result.text, self._texts()), result.is_error
        kind, member = SERVED[record.event]
        self.emit(kind, **{member: record.id, "content": text_block(record.text), "is_error": record.is_error})
        self.close(record, "was run by the service")

    def _wait_for(self, what: WaitsFor, record: MadeCall) -> None:
        record.waits_for = what
        record.until_us = self.now_us + self.script.limit_us

    def deny(self, record: MadeCall) -> None:
        """End a call that was not run: no result will come."""
        record.denied = record.is_error = True
        self.close(record, "was denied")

    def close(self, record: MadeCall, fate: str) -> None:
        """Stop waiting for a call; *fate* is the reason, in case a result comes after all."""
        record.waits_for = None
        closed = {**self.state.closed, record.id: fate}
        self.state.closed = dict(list(closed.items())[-MOST_CLOSED:])

    def give_up(self, fate: str) -> None:
        """Close all calls of the turn."""
        for record in self.state.open_calls:
            self.close(record, fate)
        self.state.calls = []

    def resume(self) -> None:
        """Continue with the steps, or report the calls that are still open."""
        if self.state.open_calls:
            self.go_idle()
        else:
            self.run_again()
            self.next_step()

    # What the agent says.

    def go_idle(self) -> None:
        """Report what the session waits for: calls, or a message."""
        state = self.state
        state.status = "idle"
        waiting = [call.id for call in state.open_calls]
        if waiting:
            reason: Event = {"type": "requires_action", "event_ids": waiting}
        else:
            reason = {"type": state.stop_reason}
        self.emit("session.status_idle", stop_reason=reason, stop_details=None)

    def say_idle_again(self) -> None:
        """Make sure that an idle session ends with an idle event: it tells a worker that nothing more will come."""
        if self.state.status == "idle":
            self.go_idle()

    def run_again(self) -> None:
        """Report that the session is running, unless that was reported already."""
        if self.state.status != "running":
            self.state.status = "running"
            self.emit("session.status_running")

    def emit_error(self, kind: ErrorType, message: str, retry_status: RetryStatus) -> None:
        """Add a `session.error`."""
        self.emit("session.error", error={"type": kind, "message": message, "retry_status": {"type": retry_status}})

    def emit(self, kind: str, **fields: Any) -> str:
        """Add an event; return its id."""
        id = self.event_id(self.state.emitted)
        self.state.emitted += 1
        event = {"type": kind, "id": id, "processed_at": format_instant(self.now_us), **fields}
        self._said += len(str(event))
        self.events.append(event)
        return id

    def _texts(self) -> dict[str, str]:
        return {"message": self.state.message, "result": "\n".join(call.text for call in self.state.calls)}


def ends_turn(step: object) -> bool:
    """Return whether the next turn begins after *step*."""
    match step:
        case Idle() | Fail(fail=Failure(retry_status="exhausted")):
            return True
    return False
