"""The scripted agent's memory of a session between two steps, and the report derived from it. Decides nothing.

The state is small and stored as JSON: texts are kept only while the script can still use them, notes are capped.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from workyard_store.clock import format_instant

from .script import CallEvent, Script, StopReason

Status = Literal["idle", "running", "terminated"]
WaitsFor = Literal["confirmation", "result"]
Progress = Literal[
    "not_started",
    "waiting_for_message",
    "waiting_for_results",
    "waiting_for_time",
    "interrupted",
    "finished",
    "failed",
    "terminated",
]
#: How many unexpected events and timeouts are described; all are counted.
MOST_NOTES = 20
#: How many calls that are no longer open are remembered by id.
MOST_CLOSED = 64


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class MadeCall(_Record):
    """A call of the last step that made calls."""

    id: str
    event: CallEvent
    name: str
    waits_for: WaitsFor | None = None
    until_us: int = 0
    text: str = ""
    is_error: bool = False
    denied: bool = False


class Unexpected(_Record):
    """An event that the script did not wait for."""

    event_id: str = Field(description="The event.")
    call_id: str = Field(description="The call it names.")
    problem: str = Field(description="Why it was not expected.")


class Timeout(_Record):
    """A call that was not answered in time."""

    call_id: str = Field(description="The call.")
    name: str = Field(description="Its tool.")
    step: int = Field(description="The step that made it.")
    waited_for: WaitsFor = Field(description="What did not come.")


class State(_Record):
    """The agent's memory. A new session has none."""

    status: Status = "idle"
    stop_reason: StopReason = "end_turn"
    emitted: int = 0
    in_turn: bool = False
    step: int = 0
    reached: int | None = None
    message: str = ""
    queue: list[str] = []
    calls: list[MadeCall] = []
    closed: dict[str, str] = {}
    wait_until_us: int | None = None
    failure: str | None = None
    interrupted: bool = False
    turns_failed: int = 0
    runs: int = 0
    turns: int = 0
    interrupts: int = 0
    messages_after_end: int = 0
    messages_dropped: int = 0
    unexpected: list[Unexpected] = []
    unexpected_count: int = 0
    timeouts: list[Timeout] = []
    timeouts_count: int = 0

    @property
    def open_calls(self) -> list[MadeCall]:
        """Return the calls that are neither answered nor denied."""
        return [call for call in self.calls if call.waits_for is not None]

    @property
    def due_us(self) -> int | None:
        """Return when the agent has something to do though nothing happens: a wait ends, or a call times out."""
        if self.wait_until_us is not None:
            return self.wait_until_us
        return min((call.until_us for call in self.open_calls), default=None)

    def restarted(self) -> State:
        """Return the state for another script of the same session. Event ids never repeat in a session."""
        return State(status=self.status, stop_reason=self.stop_reason, emitted=self.emitted, closed=self.closed)


class OpenCall(_Record):
    """A call that waits for an event."""

    id: str = Field(description="The event id of the call.")
    event: CallEvent = Field(description="Its type.")
    name: str = Field(description="Its tool.")
    waits_for: WaitsFor = Field(description="confirmation: `user.tool_confirmation`. result: the result.")
    until: str | None = Field(
        description="When it times out, by the workspace's clock; null while no worker holds the session's work."
    )


class Report(_Record):
    """The progress of a session's script, and the deviations from it."""

    progress: Progress = Field(description="Where the script is.")
    finished: bool = Field(description="Whether the script has been played to its end, without a failure at its end.")
    reason: str = Field(description="Why it is not finished, or how it ended, for people.")
    step: int | None = Field(description="The last step begun, counted from 0; null if none was.")
    steps: int = Field(description="How many steps the script has.")
    runs: int = Field(description="How often its end was reached: more than once with `repeat` only.")
    turns: int = Field(description="Messages taken up.")
    turns_failed: int = Field(description="Turns that were not as expected: a result that is another, or none in time.")
    interrupts: int = Field(description="Turns that were interrupted.")
    messages_waiting: int = Field(description="Messages that wait for the turn to end.")
    messages_after_end: int = Field(description="Messages that came when the script was over: answered by idle alone.")
    messages_dropped: int = Field(description="Waiting messages that a failed turn dropped.")
    open_calls: list[OpenCall] = Field(description="Calls that wait.")
    unexpected: list[Unexpected] = Field(description=f"The last {MOST_NOTES} results and confirmations out of place.")
    unexpected_count: int = Field(description="All of them.")
    timeouts: list[Timeout] = Field(description=f"The last {MOST_NOTES} calls that nobody answered in time.")
    timeouts_count: int = Field(description="All of them.")


def report(script: Script, state: State | None, *, held_since_us: int | None = 0, archived: bool = False) -> Report:
    """Return the progress of *script* in a session whose agent is in *state*, or was when the session was archived.

    *held_since_us* is since when a worker holds the session's work, in microseconds: without one, None, calls wait
    however long.
    """
    state = state or State()
    progress, reason = _progress(script, state)
    if state.open_calls and held_since_us is None:
        reason += " No worker holds the session's work."
    if archived and (progress == "not_started" or progress.startswith("waiting_for_")):
        progress, reason = "terminated", "The session was archived."
        state = state.model_copy(update={"calls": []})
    counts: dict[str, JsonValue] = {name: getattr(state, name) for name in _COUNTS}
    return Report(
        progress=progress,
        finished=state.runs > 0 and state.failure is None and progress in ("finished", "terminated"),
        reason=reason,
        step=state.reached,
        steps=len(script.steps),
        messages_waiting=len(state.queue),
        open_calls=[
            OpenCall(
                id=call.id,
                event=call.event,
                name=call.name,
                waits_for=waits_for,
                until=None
                if held_since_us is None
                else format_instant(max(call.until_us, held_since_us + script.limit_us)),
            )
            for call in state.calls
            if (waits_for := call.waits_for) is not None
        ],
        unexpected=state.unexpected,
        timeouts=state.timeouts,
        **counts,
    )


_COUNTS = (
    "runs",
    "turns",
    "turns_failed",
    "interrupts",
    "messages_after_end",
    "messages_dropped",
    "unexpected_count",
    "timeouts_count",
)


def _progress(script: Script, state: State) -> tuple[Progress, str]:
    at = f"steps.{state.reached}"
    again = ". The next message starts it again." if script.repeat else ""
    if state.status == "terminated":
        return "terminated", f"{at} terminated the session."
    if state.failure is not None and not state.in_turn:
        return "failed", state.failure
    if state.open_calls:
        waiting = ", ".join(f"the {call.waits_for} of {call.name} ({call.id})" for call in state.open_calls)
        return "waiting_for_results", f"{at} waits for {waiting}."
    if state.wait_until_us is not None:
        return "waiting_for_time", f"{at} waits until {format_instant(state.wait_until_us)}."
    if state.turns == 0:
        return "not_started", "The session has had no message yet."
    if state.step < len(script.steps):
        return "waiting_for_message", f"steps.{state.step} comes with the next message."
    if state.interrupted:
        return "interrupted", f"The last turn was interrupted at {at}" + (again or ", and no turn follows.")
    return "finished", "Every step has been played" + (again or ".")
