"""The command `workyard journal`: prints the requests of the journal, one on a line, and follows the journal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import click

from ..client import calls
from .options import ALL, Server, server_options

#: Seconds between two reads of the journal when following it.
_EVERY_S = 0.5
#: Control characters, which a client may put into its headers, must not reach the terminal.
_HARMLESS = dict.fromkeys((*range(32), *range(127, 160)), "?")
#: The largest number of requests of one page.
_MOST = 1000


@click.command()
@server_options
@click.option("--all", "everything", is_flag=True, help="Show all workspaces, not only that of the API key.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new requests, until Ctrl-C.")
@click.option(
    "--limit", "-n", default=20, show_default=True, type=click.IntRange(1, 1000), help="Most requests to show."
)
@click.option("--on", help="Only this operation or group of operations: poll, heartbeat, sessions, …")
@click.option("--status", help="Only answers of this status: 409, or 4xx.")
@click.option("--environment", "environment_id", metavar="ID", help="Only requests about this environment.")
@click.option("--work", "work_id", metavar="ID", help="Only requests about this work item.")
@click.option("--session", "session_id", metavar="ID", help="Only requests about this session or its work item.")
@click.option("--worker", "worker_id", metavar="ID", help="Only requests of this worker (Anthropic-Worker-ID).")
def journal(server: Server, /, everything: bool, follow: bool, **filters: Any) -> None:
    """Print the last requests to the API, oldest first.

    A line has time, status, operation, duration, subject, sender, and the error if there is one.
    """
    with suppress(KeyboardInterrupt):
        for line in _lines(server, filters, everything=everything, follow=follow):
            click.echo(line)


def _lines(server: Server, filters: Mapping[str, object], *, everything: bool, follow: bool) -> Iterator[str]:
    """Yield a line for each request that is found; with *follow*, also for later ones, without end.

    Args:
        filters: parameters of `GET /_emulator/journal`; those that are None are left out.
        everything: whether to show all workspaces.
    """
    #: Workspace → the number of its last request that was read.
    last: dict[str, int] = {}
    pages = _pages(server, {**filters, "workspace": ALL if everything else None})
    while True:
        rows = [row for page in pages for row in page["data"]]
        yield from map(_line, sorted(rows, key=lambda row: str(row["at"])))
        if not follow:
            return
        for page in pages:
            # After the last row of a full page there may be more.
            numbers = [row["number"] for row in page["data"]]
            last[page.get("workspace", "")] = max(numbers) if len(numbers) == _MOST else page["last"]
        time.sleep(_EVERY_S)
        pages = []
        for workspace in _workspaces(server) if everything else [""]:
            after = {**filters, "after": last.get(workspace, 0), "limit": _MOST, "workspace": workspace or None}
            [page] = _pages(server, after)
            pages.append(page | ({"workspace": workspace} if workspace else {}))


def _pages(server: Server, query: Mapping[str, object]) -> list[dict[str, Any]]:
    answer: dict[str, Any] = server.send(calls.list_journal(query))
    return [answer] if "last" in answer else answer["data"]


def _workspaces(server: Server) -> list[str]:
    return [str(row["workspace"]) for row in server.send(calls.get_clock(ALL))["data"]]


def _line(row: Mapping[str, Any]) -> str:
    """Return one request as a line."""
    status = "cut" if row["status"] is None or row["cut"] else str(row["status"])
    sender = row["worker_id"] or row["helper"] or row["user_agent"] or row["credential"]
    subject = row["work_id"] or row["session_id"] or row["environment_id"] or row["path"]
    parts = [f"{row['at'][11:23]} {status:>3} {row['on']:<22} {row['duration_ms']:>8.1f} ms  {subject}  {sender}"]
    if row["faults"]:
        parts.append(f"fault {', '.join(row['faults'])}")
    if row["error"] is not None:
        parts.append(row["error"]["message"])
    return "  ".join(parts).translate(_HARMLESS)
