"""Calls that overlap: whatever comes of them, some order of the same calls on the model must explain it.

All are on their way before any answer is read; on a real Redis they go to two server processes by turns. Time is
frozen, and its changes are among the calls. `WORKYARD_MODEL_EXAMPLES=N` runs N examples an engine.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support.harness import NOON, WorkyardServer, new_api_key, running_server
from tests.support.model.calls import SCRIPT, SELF_HOSTED, Call, calls, rival_calls
from tests.support.model.contract import Answer, Model
from tests.support.model.profiles import EXAMPLES, profile
from tests.support.model.records import instant
from tests.support.model.script import REQUESTS, Line, Names, Request, Session, difference, kept, observables, resolved

#: Rounds in CI.
IN_CI = {"embedded": 50, "redis": 80}
MOST_RIVALS = 4
#: Most calls, one after the other, that prepare a round.
MOST_BEFORE = 12


@pytest.fixture(scope="module")
def urls(server: WorkyardServer, engine_options: tuple[str, ...]) -> Iterator[list[str]]:
    """The server of each engine; on a real Redis, two processes that share it."""
    with ExitStack() as stack:
        found = [server.url]
        if server.engine == "redis":
            found.append(stack.enter_context(running_server(*engine_options)).url)
        yield found


@dataclass
class Outcome:
    """What came of overlapping calls: the answer to each, and what all reads showed afterwards."""

    answers: list[Answer]
    observed: dict[str, Answer]


def _read(line: Line, request: Request) -> Answer:
    line.send(request)
    return line.receive()


def race(lines: list[Line], names: Names, rivals: list[Call], known: list[str]) -> Outcome:
    """Make the calls at once, wait for all, then read everything there is. *known*: environments from before."""
    used = lines[: len(rivals)]
    for line, (name, arguments) in zip(used, rivals, strict=True):
        line.send(resolved(names, REQUESTS[name](**arguments)))
    answers = [line.receive() for line in used]
    every = _read(lines[0], REQUESTS["list_environments"](limit=1000, include_archived=True))
    there = {row["id"] for row in every.body["data"]} | {names.resolved(env) for env in known}
    observed = {}
    for call, arguments in observables(sorted(there)):
        request = REQUESTS[call](**arguments)
        observed[repr(request)] = _read(lines[0], request)
    return Outcome(answers, observed)


@dataclass
class Explanation:
    """An order of the calls that leads to the outcome."""

    order: list[int]


def explain(model: Model, names: Names, rivals: list[Call], outcome: Outcome) -> Explanation | list[str]:
    """Return an order of the calls that explains the outcome, or why each order does not."""
    refuted: list[str] = []
    moves = sum(name == "change_clock" for name, _ in rivals)

    def shown(answer: Answer) -> Answer:
        """Of changes of the clock at once, any may be the one that carries out what they fire together, and tells it."""
        if moves < 2 or not isinstance(answer.body, dict) or "fired" not in answer.body:
            return answer
        return replace(answer, body={**answer.body, "fired": [], "more": False})

    def follow(model: Model, names: Names, order: list[int]) -> Explanation | None:
        if len(order) == len(rivals):
            different = _observed_otherwise(model, names, outcome)
            if not different:
                return Explanation(order)
            refuted.append(f"order {order}: afterwards {different}")
        for n, (name, arguments) in enumerate(rivals):
            if n in order:
                continue
            after, learnt = copy.deepcopy(model), Names(names.known)
            wanted = after.answer(name, arguments)
            different = difference(learnt, shown(wanted), shown(outcome.answers[n]))
            if different:
                refuted.append(f"order {[*order, n]}, …: {different}")
                continue
            found = follow(after, learnt, [*order, n])
            if found is not None:
                return found
        return None

    return follow(model, names, []) or refuted


def _observed_otherwise(model: Model, names: Names, outcome: Outcome) -> str:
    calls = observables(list(model.environments))
    for call, arguments in calls:
        request = resolved(names, REQUESTS[call](**arguments))
        found = outcome.observed.get(repr(request))
        different = "not there" if found is None else difference(names, model.answer(call, arguments), found)
        if different:
            return f"{request.method} {request.path}: {different}"
    return ""


@contextmanager
def _workspace(urls: list[str]) -> Iterator[list[Line]]:
    """Connections to a new workspace, which is reset at the end."""
    key = new_api_key()
    lines = [Line(urls[n % len(urls)], key) for n in range(MOST_RIVALS)]
    try:
        yield lines
    finally:
        last = Line(urls[0], key)
        done = _read(last, Request("POST", "/_emulator/reset"))
        for line in [*lines, last]:
            line.close()
    assert (done.status, done.body["leftover_keys"]) == (200, 0)


@pytest.mark.timeout(0 if EXAMPLES else 900)  # shrinking a failure takes minutes
def test_overlapping_calls_come_out_as_in_some_order(server: WorkyardServer, urls: list[str]) -> None:
    """No call sees, or leaves behind, half of another."""

    # One round an example, and no shrinking: what comes of it may differ from run to run, so nothing is drawn after it.
    @settings(profile(IN_CI[server.engine]), phases=[Phase.generate])
    @given(st.data())
    def explore(data: st.DataObject) -> None:
        with _workspace(urls) as lines:
            session = Session(Model(instant(NOON)), lines[0])
            session.call("change_clock", body={"mode": "frozen", "at": NOON})
            session.call("use_script", body=SCRIPT)
            created = session.call("create_environment", body={"name": "first", "config": SELF_HOSTED})
            session.call("enqueue", env=created["id"], body={"count": 2})
            session.call("create_session", env=created["id"], messages=data.draw(st.integers(0, 1), "messages"))
            for _ in range(data.draw(st.integers(0, MOST_BEFORE), "calls before")):
                name, arguments = data.draw(calls(session.model), "before")
                session.call(name, **arguments)
            rivals = data.draw(rival_calls(session.model), "at once")
            outcome = race(lines, session.names, rivals, list(session.model.environments))
            explained = explain(session.model, session.names, rivals, outcome)
            assert isinstance(explained, Explanation), _told(session, rivals, outcome, explained)

    explore()


def _told(session: Session, rivals: list[Call], outcome: Outcome, refuted: object) -> str:
    assert isinstance(refuted, list)
    made = [f"{n}: {call} → {answer}" for n, (call, answer) in enumerate(zip(rivals, outcome.answers, strict=True))]
    return "\n".join(
        [
            "no order explains the outcome of these calls:",
            *made,
            "",
            *refuted,
            "",
            "They were made after these.",
            kept(session.script()),
        ]
    )


def _two_acks(*statuses: int) -> Explanation | list[str]:
    """Judge the answers to two acknowledgements of one item, made at once, without any server."""
    model = Model(instant(NOON))
    env = model.create_environment({"name": "first", "config": SELF_HOSTED})["id"]
    work = model.enqueue(env, {})["data"][0]["id"]
    names = Names({name: name for name in (env, work, "<session 1>")})
    after = copy.deepcopy(model)
    acked, refused = (after.answer("ack", {"env": env, "work": work}) for _ in range(2))
    refused.body["request_id"] = "req_01" + "a" * 22
    answers = [acked if status == 200 else refused for status in statuses]
    observed = {
        repr(REQUESTS[call](**arguments)): after.answer(call, arguments) for call, arguments in observables([env])
    }
    return explain(model, names, 2 * [("ack", {"env": env, "work": work})], Outcome(answers, observed))


def test_either_of_two_calls_may_have_been_first() -> None:
    """The judge accepts each order."""
    assert _two_acks(200, 409) == Explanation([0, 1])
    assert _two_acks(409, 200) == Explanation([1, 0])


def test_an_item_that_two_calls_have_acknowledged_has_no_explanation() -> None:
    """Nor one that neither could acknowledge: the judge names what is wrong in every order."""
    both, neither = _two_acks(200, 200), _two_acks(409, 409)
    assert isinstance(both, list)
    assert [text[:11] for text in both] == ["order [0, 1", "order [1, 0"]
    assert isinstance(neither, list)
    assert len(neither) == 2
