"""The page on timeline keeps its word: its commands run, and its tables are the code's."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.harness import Api
from tests.support.pages import ROOT, block, run, section
from workyard.schemas.terminal import WIDTH
from workyard_queue.timeline import events as timeline
from workyard_queue.timeline.codes import CODES


@pytest.fixture(scope="module")
def page() -> str:
    """The text of the page."""
    return (ROOT / "docs" / "timeline.md").read_text(encoding="utf-8")


def test_its_commands_run_as_they_stand(page: str) -> None:
    """The wait is met, the timeline drawn, the events told, the queues shown."""
    printed = run("bash", "-euc", block(page, "bash"))
    assert '{"met":true,' in printed
    assert "nobody_polls" in printed
    assert "event: enqueued\n" in printed
    assert "\nenvironment " in printed


def test_what_it_waits_for_can_be_waited_for(api: Api, page: str) -> None:
    """In the order of the page, with what it takes in between."""
    queue = api.queue()
    work = api.ok(api.post(f"/_emulator/environments/{queue}/work"))["data"][0]["id"]
    forms = re.findall(r"^```json\n(.*?)^```$", section(page, "Wait"), re.MULTILINE | re.DOTALL)
    state, stats, idle = (json.loads(form.replace("WORK_ID", work)) for form in forms)
    assert api.ok(api.post("/_emulator/wait", json=state))["met"]
    api.poll(queue, "w")
    assert api.ok(api.post("/_emulator/wait", json=stats))["met"]
    api.ok(api.stop(queue, work, True))
    assert api.ok(api.post("/_emulator/wait", json=idle))["met"]


def test_its_tables_are_the_codes(page: str) -> None:
    """Each code with its severity and its words, and each event, in the order of the code; here and in the module."""
    codes = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", section(page, "The diagnosis"), re.MULTILINE)
    assert codes == [(code, severity, text) for code, (severity, text) in CODES.items()]
    events = re.findall(r"^\| `(\w+)` \| ", section(page, "The timeline"), re.MULTILINE)
    assert tuple(events) == timeline.KINDS
    assert timeline.__doc__ is not None
    assert tuple(re.findall(r"^\| `(\w+)` *\| ", timeline.__doc__, re.MULTILINE)) == timeline.KINDS


def test_what_it_shows_is_what_is_drawn(page: str) -> None:
    """The parts of a drawing, and no line that is too long."""
    drawn = block(page, "text")
    assert max(map(len, drawn.splitlines())) <= WIDTH
    assert re.search(r"^   0\.063 s +\+40 ms  x  beat_ended ", drawn, re.MULTILINE)
    assert "! dispatcher_returned: Stopped by the poller of worker dispatcher-1 40 ms before " in drawn
