"""`workyard watch`: the queues of a workspace and what happened last, drawn again and again. Owns no colour and no state."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from ..schemas.timeline_text import WIDTH, cut

_FIGURES = ("depth", "pending", "leased", "stopped", "workers")
#: Lines that are not rows: the title, two heads, and blanks.
_OTHER_LINES = 6
_LEAST_ROWS = 3
#: What a terminal does: another screen and back, to the top, clear to the end of the line, and of the screen.
_ENTER, _LEAVE, _HOME, _CLEAR_LINE, _CLEAR_REST = (
    "\x1b[?1049h\x1b[?25l",
    "\x1b[?25h\x1b[?1049l",
    "\x1b[H",
    "\x1b[K",
    "\x1b[J",
)


def table(queues: Mapping[str, Any], title: str, *, width: int = WIDTH, height: int = 0) -> list[str]:
    """Return a frame as lines of at most *width* columns.

    Args:
        queues: what `GET /_emulator/queues` answers.
        title: the first line.
        width: columns of the terminal.
        height: lines of the terminal; 0: as many as there are.
    """
    rows, events = queues["data"], queues["events"]
    if height:
        left = max(height - _OTHER_LINES, 2 * _LEAST_ROWS)
        shown = rows[: max(left - len(events), left // 2)]
        events = events[-max(left - len(shown), 1) :]
    else:
        shown = rows
    more = queues["environments"] - len(shown)
    names = {row["environment_id"]: row["name"] for row in rows}
    lines = [title, ""]
    lines.append(f"{'environment':<29} {'name':<24} " + " ".join(f"{name:>8}" for name in _FIGURES))
    for row in shown:
        figures = [row["depth"], row["pending"], row["leased"], row["stopped"], row["workers_polling"]]
        lines.append(
            f"{row['environment_id']:<29} {cut(row['name'], 24):<24} " + " ".join(f"{figure:>8}" for figure in figures)
        )
    lines.append(f"… and {more} more" if more > 0 else "")
    lines.append(f"{'at':<15} {'event':<13} {'state':<20} {'work':<29} environment, by")
    lines += [_event(event, names) for event in events]
    return [cut(line, width) for line in lines]


def _event(event: Mapping[str, Any], names: Mapping[str, str]) -> str:
    before, after = event["from"], event["to"]
    state = f"{before} → {after}" if before and after and before != after else after or before or ""
    by = event["worker_id"] or event["credential"] or "the clock"
    name = names.get(event["environment_id"], "")
    return f"{event['at'][11:26]} {event['event']:<13} {state:<20} {event['work_id']:<29} {name}, {by}"


def watch(ask: Callable[[], Mapping[str, Any]], title: str, *, once: bool, interval: float) -> None:
    """Draw what *ask* answers every *interval* seconds until Ctrl-C, or once.

    Raises:
        click.ClickException: at the first look, the server did not answer; later that is drawn.
    """
    queues = ask()
    if once:
        _print(table(queues, title, width=_size()[0] if sys.stdout.isatty() else WIDTH))
        return
    with _screen() as draw:
        while True:
            width, height = _size()
            draw(table(queues, f"{title}  {time.strftime('%H:%M:%S')}", width=width, height=height))
            time.sleep(interval)
            try:
                queues = ask()
            except click.ClickException as error:
                draw([cut(error.message, width)])


def _size() -> tuple[int, int]:
    return shutil.get_terminal_size((WIDTH, 0))


def _print(lines: Sequence[str]) -> None:
    click.echo("\n".join(lines) + "\n")


@contextmanager
def _screen() -> Iterator[Callable[[Sequence[str]], None]]:
    """Give what draws a frame: over the last one in a terminal, below it elsewhere. Ctrl-C ends it quietly."""
    terminal = sys.stdout.isatty()

    def draw(lines: Sequence[str]) -> None:
        if terminal:
            sys.stdout.write(_HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_REST)
            sys.stdout.flush()
        else:
            _print(lines)

    try:
        if terminal:
            sys.stdout.write(_ENTER)
        yield draw
    except KeyboardInterrupt:
        pass
    finally:
        if terminal:
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()
