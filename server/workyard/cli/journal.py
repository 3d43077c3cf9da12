"""What `workyard journal` prints: the requests of the journal, a line each, and those that follow. Owns no call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

#: Seconds between two looks when following.
_EVERY_S = 0.5
#: What a client may have written into its headers must not reach the terminal as commands.
_HARMLESS = dict.fromkeys((*range(32), *range(127, 160)), "?")
_MOST = 1000


def shown(
    call: Callable[[str, str], Any], query: Mapping[str, object], *, everything: bool, follow: bool
) -> Iterator[str]:
    """Yield a line for each request that is found, and with *follow* for those that come later, without end.

    Args:
        call: calls the server with a method and a path, and returns its JSON.
        query: parameters of `GET /_emulator/journal`; None: left out.
        everything: whether to show all workspaces.
        follow: see above.
    """
    given = {name: value for name, value in query.items() if value is not None}
    last: dict[str, int] = {}
    pages = _pages(call, given | ({"workspace": "*"} if everything else {}))
    while True:
        rows = [row for page in pages for row in page["data"]]
        yield from map(line, sorted(rows, key=lambda row: str(row["at"])))
        if not follow:
            return
        for page in pages:
            # Of a page that is full, there may be more behind its last row.
            numbers = [row["number"] for row in page["data"]]
            last[page.get("workspace", "")] = max(numbers) if len(numbers) == _MOST else page["last"]
        time.sleep(_EVERY_S)
        pages = []
        for workspace in _workspaces(call) if everything else [""]:
            after = {**given, "after": last.get(workspace, 0), "limit": _MOST}
            [page] = _pages(call, after | ({"workspace": workspace} if workspace else {}))
            pages.append(page | ({"workspace": workspace} if workspace else {}))


def _pages(call: Callable[[str, str], Any], query: Mapping[str, object]) -> list[dict[str, Any]]:
    answer: dict[str, Any] = call("GET", f"/_emulator/journal?{urlencode(query)}")
    return [answer] if "last" in answer else answer["data"]


def _workspaces(call: Callable[[str, str], Any]) -> list[str]:
    return [str(row["workspace"]) for row in call("GET", "/_emulator/clock?workspace=*")["data"]]


def line(row: Mapping[str, Any]) -> str:
    """Return one request as a line."""
    status = "cut" if row["status"] is None or row["cut"] else str(row["status"])
    who = row["worker_id"] or row["helper"] or row["user_agent"] or row["credential"]
    about = row["work_id"] or row["session_id"] or row["environment_id"] or row["path"]
    parts = [f"{row['at'][11:23]} {status:>3} {row['on']:<22} {row['duration_ms']:>8.1f} ms  {about}  {who}"]
    if row["faults"]:
        parts.append(f"fault {', '.join(row['faults'])}")
    if row["error"] is not None:
        parts.append(row["error"]["message"])
    return "  ".join(parts).translate(_HARMLESS)
