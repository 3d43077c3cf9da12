"""Random calls, one after the other, on a server and on the model: each answer and every observable must be the same.

`WORKYARD_MODEL_EXAMPLES=N` runs N examples an engine instead of the few that CI has time for; Hypothesis prints how to
reproduce a failure, and the failure ends with a script that shows it without Hypothesis.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support.harness import NOON, WorkyardServer, new_api_key
from tests.support.model.calls import SCRIPT, SELF_HOSTED, STORIES, calls, some_item
from tests.support.model.contract import Model
from tests.support.model.profiles import EXAMPLES, profile
from tests.support.model.records import instant
from tests.support.model.script import Line, Request, Session

#: Examples in CI: the embedded engine takes three times as long.
IN_CI = {"embedded": 7, "redis": 9}


class QueueMachine(RuleBasedStateMachine):
    """Workers, operators and the clock on one workspace."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        key = new_api_key()
        self.line = Line(self.url, key)
        self.session = Session(Model(instant(NOON)), self.line)
        self.looks = 0
        self.session.call("change_clock", body={"mode": "frozen", "at": NOON})
        self.session.call("use_script", body=SCRIPT)

    def teardown(self) -> None:
        self.line.send(Request("POST", "/_emulator/reset"))
        done = self.line.receive()
        self.line.close()
        assert (done.status, done.body["leftover_keys"]) == (200, 0)

    @invariant()
    def every_observable_equals_the_model(self) -> None:
        self.looks += 1
        self.session.observe(self.looks)

    @rule(data=st.data(), story=st.sampled_from(STORIES), focused=st.integers(0, 3).map(bool))
    def step(self, data: st.DataObject, story: tuple[tuple[str, ...], list[str]], focused: bool) -> None:
        """Make some calls, mostly about one item. Nobody looks in between: what the clock has ended may meet any call
        unnoticed."""
        states, names = story
        focus = data.draw(some_item(self.session.model, states), "focus") if focused else None
        for name in ["call"] if focused and focus is None else names:
            call, arguments = data.draw(calls(self.session.model, name, focus), "call")
            self.session.call(call, **arguments)


@pytest.mark.timeout(0 if EXAMPLES else 900)  # shrinking a failure takes minutes
def test_every_answer_and_observable_equals_the_models(server: WorkyardServer) -> None:
    """Whatever workers, operators and the clock do."""

    class OnThisServer(QueueMachine):
        url = server.url

    run_state_machine_as_test(OnThisServer, settings=profile(IN_CI[server.engine]))


def test_a_script_of_an_example_runs_by_itself_and_fails_where_an_answer_differs(
    server: WorkyardServer, tmp_path: Path
) -> None:
    """A failure that nobody can rerun is half a failure."""
    line = Line(server.url, new_api_key())
    session = Session(Model(instant(NOON)), line)
    session.call("change_clock", body={"mode": "frozen", "at": NOON})
    created = session.call("create_environment", body={"name": "first", "config": SELF_HOSTED})
    session.call("enqueue", env=created["id"], body={"count": 2, "metadata": {"a": "ключ"}})
    work = session.call("poll", env=created["id"], worker="w1")["id"]
    session.call("ack", env=created["id"], work=work)
    session.call("heartbeat", env=created["id"], work=work, expected="wrong")
    session.call("list_work", env=created["id"], limit=1)
    session.observe()
    line.send(Request("POST", "/_emulator/reset"))
    assert line.receive().body["leftover_keys"] == 0
    line.close()

    def run(text: str) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "example.py"
        file.write_text(text)
        command = [sys.executable, "-W", "error", str(file), server.url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    good = run(session.script())
    assert (good.returncode, good.stdout) == (0, "every answer was as expected\n"), good.stderr
    bad = run(session.script().replace("'pending': 0", "'pending': 1"))
    assert bad.returncode == 1
    assert "answer.body.pending: wanted 1, found 0" in bad.stderr
