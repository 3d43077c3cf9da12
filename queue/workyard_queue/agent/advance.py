"""The next step of a session's scripted agent, as a pure function. No Redis, no HTTP, no clock, no randomness.

The scripted agent takes the place of the real service's model. `advance` takes the events that the agent has not seen and
returns its answering events. The caller decides when to call it, and stores the result. The same arguments give the same
answer, so a step that was lost between computing and storing is computed again.

The agent handles each event completely before it reads the next one. So it makes no difference whether events arrive
one by one or together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workyard_store.clock import parse_instant

from .events import RESULTS, Event, text_of
from .play import Player, Setting, ends_turn
from .script import Script, calls_of
from .state import MOST_NOTES, MadeCall, State, Status, Timeout, Unexpected

#: A worker has held the work all the time.
HELD = Setting()
#: How much of an id that a client sent is quoted, in characters.
LONGEST_ID = 128


@dataclass(frozen=True)
class Step:
    """The outcome of one call of `advance`, to be stored atomically."""

    state: State
    events: list[Event]
    #: The session's status after the events.
    status: Status
    #: When `advance` must be called again, even without an event, in microseconds; None: not before the next event.
    due_at_us: int | None
    #: Whether a message has not been served to the end of its turn. Also true of a session that is idle because a call
    #: waits (`requires_action`): its work is not done.
    busy: bool


def advance(
    script: Script,
    state: State | None,
    unseen: Sequence[Event],
    now_us: int,
    event_id: Callable[[int], str],
    setting: Setting = HELD,
) -> Step:
    """Return the agent's reaction to the *unseen* events, up to *now_us*.

    Without a *state* the session is new; without an event either, it goes idle immediately. *event_id* returns the id of
    the agent's n-th event in this session, from 0. The agent skips its own events among the unseen ones.

    An event's `processed_at`, if it has one, is when it happened: steps that were due earlier come before it, even if it
    is read late. A `wait` begins when the step before it was due. A call's timeout counts from *now_us*, because no client
    could answer it before, and a worker that holds the work always gets the full time: without a worker, the
    session waits, however long. Source: docs/evidence/service-guides.md#sessions.
    """
    play = _Agent(script, state, now_us, event_id, setting)
    if state is None and not unseen:
        play.go_idle()
    for event in unseen:
        happened = parse_instant(str(event.get("processed_at")))
        play.pass_time(now_us if happened is None else min(happened, now_us))
        play.take(event)
    play.pass_time(now_us)
    play.go_on()
    return play.step()


class _Agent(Player):
    """One call of `advance`: everything that happens to the agent, in order."""

    def step(self) -> Step:
        state = self.state
        goes_on = bool(state.queue) and not state.in_turn
        due = self.now_us if goes_on else state.due_us
        return Step(state, self.events, state.status, due, state.in_turn or bool(state.queue))

    def pass_time(self, until_us: int) -> None:
        """Do everything that is due by *until_us*, each step at its own time."""
        while (due := self.state.due_us) is not None and due <= until_us:
            self.at_us = max(self.at_us, due)
            if self.state.wait_until_us is not None:
                self.state.wait_until_us = None
                self.next_step()
            else:
                self._time_out(due)
            self.go_on()
        self.at_us = max(self.at_us, until_us)

    def take(self, event: Mapping[str, Any]) -> None:
        """Handle an event."""
        kind = event.get("type")
        if self.state.status == "terminated" or not isinstance(kind, str):
            return
        if kind == "user.message":
            self._enqueue(text_of(event.get("content")))
        elif kind == "user.define_outcome":
            self._enqueue(str(event.get("description", "")))
        elif kind == "user.interrupt" and self.state.in_turn:
            self._interrupt()
        elif kind in RESULTS:
            self._take_result(event, *RESULTS[kind])
        elif kind == "user.tool_confirmation":
            self._take_confirmation(event)
        elif kind.startswith(("user.", "system.")):
            self.say_idle_again()
        self.go_on()

    def _enqueue(self, message: str) -> None:
        self.state.queue.append(message if self.script.uses_message else "")

    def _interrupt(self) -> None:
        """Stop the turn and abandon its calls; the next message starts the following turn."""
        state = self.state
        state.interrupts += 1
        state.interrupted = True
        state.wait_until_us = None
        self.give_up("was given up at an interrupt")
        while state.step < len(self.script.steps):
            ended = ends_turn(self.script.steps[state.step])
            state.step += 1
            if ended:
                break
        self.end_turn("end_turn")

    def _take_result(self, event: Mapping[str, Any], answers: str, member: str) -> None:
        call = self._open_call(event, member)
        if call is None:
            return
        if call.event != answers:
            self._note(event, member, f"is {call.event}, which takes another kind of result")
        elif call.waits_for == "confirmation":
            self._note(event, member, "waits for its confirmation: it must not be run before")
        else:
            call.text, call.is_error = text_of(event.get("content")), event.get("is_error") is True
            self.close(call, "was answered before")
            self.resume()

    def _take_confirmation(self, event: Mapping[str, Any]) -> None:
        call = self._open_call(event, "tool_use_id")
        if call is None:
            return
        if call.waits_for != "confirmation":
            self._note(event, "tool_use_id", "waits for no confirmation")
        elif event.get("result") == "allow":
            made = self.script.steps[self.state.step]
            self.run(call, calls_of(made)[self.state.calls.index(call)])
            if call.waits_for is None:
                self.resume()
        else:
            call.text = str(event.get("deny_message") or "")
            self.deny(call)
            self.resume()

    def _open_call(self, event: Mapping[str, Any], member: str) -> MadeCall | None:
        """Return the open call that an event names; record the event as unexpected if there is no such call."""
        for call in self.state.open_calls:
            if call.id == event.get(member):
                return call
        self._note(event, member, self.state.closed.get(str(event.get(member)), "is not a call of this session"))
        return None

    def _note(self, event: Mapping[str, Any], member: str, problem: str) -> None:
        """Record an unexpected event in the session's events and in the report."""
        call_id = str(event.get(member, ""))[:LONGEST_ID]
        self.state.unexpected_count += 1
        note = Unexpected(event_id=str(event.get("id", ""))[:LONGEST_ID], call_id=call_id, problem=problem)
        self.state.unexpected = [*self.state.unexpected, note][-MOST_NOTES:]
        self.emit_error("unknown_error", f"Unexpected {event['type']}: {call_id} {problem}.", "retrying")
        self.say_idle_again()

    def _time_out(self, due_us: int) -> None:
        since = self.setting.held_since_us
        for call in self.state.open_calls:
            call.until_us = max(call.until_us, (self.now_us if since is None else since) + self.script.limit_us)
        late = [call for call in self.state.open_calls if call.until_us <= due_us]
        if not late:
            return
        for call in late:
            self.state.timeouts_count += 1
            note = Timeout(call_id=call.id, name=call.name, step=self.state.step, waited_for=call.waits_for or "result")
            self.state.timeouts = [*self.state.timeouts, note][-MOST_NOTES:]
        names = ", ".join(f"the {call.waits_for} of {call.name} ({call.id})" for call in late)
        self.fail_turn(f"{names} did not come within {self.script.result_limit_seconds:g} seconds")
