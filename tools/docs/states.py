"""The picture of the life of a work item: its states, what leads from one to another, and the drawing as SVG.

`STEPS` is data: `tests/docs/test_concepts.py` tries each event in each state on a server and compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from workyard_queue.work.states import State

WIDTH, HEIGHT = 860, 470


@dataclass(frozen=True, slots=True)
class Step:
    """An event that leads an item from a state to another; from None: it begins here."""

    event: str
    start: State | None
    end: State


_FORCE = "stop by force"
STEPS = (
    Step("enqueue", None, State.QUEUED),
    Step("poll", State.QUEUED, State.QUEUED),
    Step("ack", State.QUEUED, State.STARTING),
    Step("stop", State.QUEUED, State.STOPPED),
    Step(_FORCE, State.QUEUED, State.STOPPED),
    Step("heartbeat", State.STARTING, State.ACTIVE),
    Step("stop", State.STARTING, State.STOPPING),
    Step(_FORCE, State.STARTING, State.STOPPED),
    Step("lapse", State.STARTING, State.QUEUED),
    Step("heartbeat", State.ACTIVE, State.ACTIVE),
    Step("stop", State.ACTIVE, State.STOPPING),
    Step(_FORCE, State.ACTIVE, State.STOPPED),
    Step("lapse", State.ACTIVE, State.QUEUED),
    Step("lapse", State.STOPPING, State.STOPPED),
    Step(_FORCE, State.STOPPING, State.STOPPED),
    Step("message", State.STOPPED, State.QUEUED),
)

#: Where the middle of each state's box is.
_PLACES = {
    State.QUEUED: (130, 170),
    State.STARTING: (420, 170),
    State.ACTIVE: (710, 170),
    State.STOPPING: (565, 320),
    State.STOPPED: (275, 320),
}
_BOX = (124, 44)
#: What is drawn of each pair of states: the line, and where its text stands and how it is anchored.
_LINES: dict[tuple[State | None, State], tuple[str, int, int, str]] = {
    (None, State.QUEUED): ("M 6 170 L 64 170", 4, 160, "start"),
    (State.QUEUED, State.QUEUED): ("M 84 148 C 60 96 116 96 98 144", 90, 100, "middle"),
    (State.QUEUED, State.STARTING): ("M 192 170 L 354 170", 273, 160, "middle"),
    (State.QUEUED, State.STOPPED): ("M 150 192 L 245 294", 186, 222, "start"),
    (State.STARTING, State.ACTIVE): ("M 482 170 L 644 170", 563, 160, "middle"),
    (State.STARTING, State.STOPPING): ("M 438 192 L 535 294", 496, 244, "start"),
    (State.STARTING, State.STOPPED): ("M 400 192 L 303 294", 362, 250, "start"),
    (State.STARTING, State.QUEUED): ("M 400 148 C 360 84 220 84 162 144", 280, 92, "middle"),
    (State.ACTIVE, State.ACTIVE): ("M 748 148 C 734 96 794 96 764 144", 764, 100, "middle"),
    (State.ACTIVE, State.STOPPING): ("M 692 192 L 595 294", 638, 244, "end"),
    (State.ACTIVE, State.QUEUED): ("M 690 148 C 620 10 240 10 140 144", 415, 36, "middle"),
    (State.ACTIVE, State.STOPPED): ("M 730 192 C 790 460 360 440 290 346", 500, 426, "middle"),
    (State.STOPPING, State.STOPPED): ("M 503 320 L 341 320", 422, 340, "middle"),
    (State.STOPPED, State.QUEUED): ("M 213 320 C 130 320 110 270 118 196", 112, 300, "end"),
}
#: Colours of a light and of a dark page; the picture brings its own ground, so it can be read on either.
_STYLE = """
  .ground { fill: #f7f8fa; } .box { fill: #ffffff; stroke: #3c5a87; stroke-width: 1.5; }
  .line { fill: none; stroke: #5b6470; stroke-width: 1.5; } .tip { fill: #5b6470; }
  text { font: 14px system-ui, sans-serif; fill: #1f2933; } .state { font-weight: 600; text-anchor: middle; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #1c2128; } .box { fill: #262d36; stroke: #86a9dc; } .line { stroke: #9aa5b1; } .tip { fill: #9aa5b1; }
    text { fill: #e6eaee; }
  }
"""


def told() -> str:
    """Return the steps in words, as the picture's text for those who do not see it."""
    return " ".join(
        f"{step.event} leads from {step.start} to {step.end}." if step.start else f"{step.event} begins at {step.end}."
        for step in STEPS
    )


def drawing() -> str:
    """Return the picture: one file, nothing from outside, for light and dark pages."""
    events: dict[tuple[State | None, State], list[str]] = {}
    for step in STEPS:
        events.setdefault((step.start, step.end), []).append(step.event)
    if set(events) != set(_LINES):
        raise ValueError(f"No line is drawn, or one too many: {sorted(map(str, set(events) ^ set(_LINES)))}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="title told">',
        '<title id="title">The states of a work item</title>',
        f'<desc id="told">{escape(told())}</desc>',
        f"<style>{_STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="tip" d="M 0 0 L 10 5 L 0 10 z"/></marker></defs>',
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="10"/>',
    ]
    parts += [f'<path class="line" d="{path}" marker-end="url(#tip)"/>' for path, _, _, _ in _LINES.values()]
    width, height = _BOX
    for state, (x, y) in _PLACES.items():
        parts.append(
            f'<rect class="box" x="{x - width // 2}" y="{y - height // 2}" width="{width}" height="{height}" rx="8"/>'
        )
        parts.append(f'<text class="state" x="{x}" y="{y + 5}">{state}</text>')
    for pair, (_, x, y, anchor) in _LINES.items():
        text = escape(", ".join(events[pair]))
        parts.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
