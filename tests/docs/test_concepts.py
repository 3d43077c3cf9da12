"""The picture of the states is what the server does, and what is committed is what is drawn."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.support.pages import ROOT
from tests.support.work_states import STATES
from tools.docs.states import STEPS, Step, drawing
from workyard_queue.work.states import State

#: What the table of `test_queue_states.py`, which every engine is held against, calls an event → what the picture does.
EVENTS = {
    "poll": "poll", "reclaim": "poll", "ack": "ack", "claim": "heartbeat", "extend": "heartbeat", "wrong": "heartbeat",
    "omitted": "heartbeat", "empty": "heartbeat", "stop": "stop", "force": "stop by force", "message": "message",
    "lapse": "lapse",
}  # fmt: skip


def test_the_picture_has_every_step_that_the_server_takes_and_no_other() -> None:
    """From the table of all events in all states; a message that waits is told beside the picture."""
    taken = {
        Step(EVENTS[cell.event], state, State(cell.then.split()[0]))
        for section in STATES
        if "a message waits" not in section.name
        for state in [State(section.name.split()[0].rstrip(","))]
        for cell in section.cells
        if cell.then.split()[0] != state or cell.answer.split()[0] in ("secret", "beat")
    }
    assert taken == {step for step in STEPS if step.start is not None}
    assert [step for step in STEPS if step.start is None] == [Step("enqueue", None, State.QUEUED)]


def test_the_picture_is_one_file_for_light_and_dark_pages() -> None:
    """Well-formed, with a text for those who do not see it, and nothing from elsewhere."""
    text = drawing()
    assert (ROOT / "docs" / "states.svg").read_text(encoding="utf-8") == text
    picture = ElementTree.fromstring(text)
    told = picture.findtext("{*}desc") or ""
    assert all(state in told for state in State)
    assert "prefers-color-scheme: dark" in text
    assert text.count("http") == 1, "the name of the form of the file, and no other address"
