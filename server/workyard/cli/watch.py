"""The command `workyard watch`: draws the queues of a workspace and their last events, again and again."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from ..client import calls
from ..schemas.terminal import WIDTH, truncate
from .options import ALL, Server, server_options

_FIGURES = ("depth", "pending", "leased", "stopped", "workers")
#: Lines that are not rows: the title, two headings, and blanks.
_OTHER_LINES = 6
_LEAST_ROWS = 3
#: Terminal commands: other screen, back to the first, cursor to the top, clear the rest of the line, and of the screen.
_ENTER, _LEAVE, _HOME, _CLEAR_LINE, _CLEAR_REST = (
    "\x1b[?1049h\x1b[?25l",
    "\x1b[?25h\x1b[?1049l",
    "\x1b[H",
    "\x1b[K",
    "\x1b[J",
)


def _table(queues: Mapping[str, Any], title: str, *, width: int = WIDTH, height: int = 0) -> list[str]:
    """Return one drawing, as lines of at most *width* columns.

    Args:
        queues: the answer of `GET /_emulator/queues`.
        title: the first line.
        width: columns of the terminal.
        height: lines of the terminal; 0: no limit.
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
            f"{row['environment_id']:<29} {truncate(row['name'], 24):<24} "
            + " ".join(f"{figure:>8}" for figure in figures)
        )
    lines.append(f"… and {more} more" if more > 0 else "")
    lines.append(f"{'at':<15} {'event':<13} {'state':<20} {'work':<29} environment, by")
    lines += [_event(event, names) for event in events]
    return [truncate(line, width) for line in lines]


def _event(event: Mapping[str, Any], names: Mapping[str, str]) -> str:
    before, after = event["from"], event["to"]
    state = f"{before} → {after}" if before and after and before != after else after or before or ""
    by = event["worker_id"] or event["credential"] or "the clock"
    name = names.get(event["environment_id"], "")
    return f"{event['at'][11:26]} {event['event']:<13} {state:<20} {event['work_id']:<29} {name}, {by}"


@click.command()
@server_options
@click.option("--all", "everything", is_flag=True, help="Show all workspaces, not only that of the API key.")
@click.option("--once", is_flag=True, help="Draw once and end.")
@click.option(
    "--interval", default=1.0, show_default=True, type=click.FloatRange(0.1, 3600), help="Seconds between two drawings."
)
def watch(server: Server, everything: bool, once: bool, interval: float) -> None:
    """Watch the queues of the workspace, until Ctrl-C. Shows their figures and last events."""
    _watch(
        lambda: server.send(calls.show_queues(ALL if everything else None)),
        f"Workyard at {server.url}",
        once=once,
        interval=interval,
    )


def _watch(ask: Callable[[], Mapping[str, Any]], title: str, *, once: bool, interval: float) -> None:
    """Draw the answer of *ask* every *interval* seconds until Ctrl-C, or once.

    Raises:
        click.ClickException: the server did not answer the first time; later failures are drawn.
    """
    queues = ask()
    if once:
        _print(_table(queues, title, width=_size()[0] if sys.stdout.isatty() else WIDTH))
        return
    with _screen() as draw:
        while True:
            width, height = _size()
            draw(_table(queues, f"{title}  {time.strftime('%H:%M:%S')}", width=width, height=height))
            time.sleep(interval)
            try:
                queues = ask()
            except click.ClickException as error:
                draw([truncate(error.message, width)])


def _size() -> tuple[int, int]:
    return shutil.get_terminal_size((WIDTH, 0))


def _print(lines: Sequence[str]) -> None:
    click.echo("\n".join(lines) + "\n")


@contextmanager
def _screen() -> Iterator[Callable[[Sequence[str]], None]]:
    """Yield a function that draws lines: over the last drawing in a terminal, below it elsewhere. Ctrl-C ends it quietly."""
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
