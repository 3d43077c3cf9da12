#!/usr/bin/env python3
"""Run the workers of old and new SDK releases against Workyard, and write docs/compatibility.md from what they did.

Owns the options and the table. Which releases, what they have to do, how their requests are compared: compat_*.py.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.support.sdk_processes import ROOT
from tools.compat.cells import COLUMNS, Cell, play
from tools.compat.releases import CACHE, RELEASES, CannotInstall, install

_TABLE = ROOT / "docs" / "compatibility.md"
_AT_ONCE = 2
_TEXT = """\
# Compatibility

Unmodified releases of the SDKs, each run against Workyard by `scripts/compat`, which wrote this page. The releases are
the first one with workers, those at which what a worker sends or does has changed, and the newest.

{table}

{columns}

**The hash** is that of the requests the client sent: each distinct one once, with method, path, query, headers that say
how it speaks (`anthropic-version`, `anthropic-beta`, `x-stainless-helper`, content types, which credential goes in which
header) and the shape of its body; ids, times and contents left out. It is the same whenever it is run again. Two releases
with the same hash sent the same requests. `scripts/compat --log FOLDER` writes out what was hashed.

Where they differ:

- Python before 0.125.0 and TypeScript before 0.120.0 serve a session with the environment key, later ones with the sessions
  token of the item; TypeScript 0.97.0 reads the session itself with its API key.
- Python before 2.0.0 and TypeScript before 1.0.0 say `anthropic-version: 2023-06-01`, later ones `2026-10-21`.
- The newest leave `?beta=true` out.

The hosted service was not run: this table says that these clients get on with Workyard, no more. `scripts/compat --check`
makes it anew and compares; CI does so with the newest release of each language and the oldest.
"""
_ROW = re.compile(r"\| (\w+) `[^`]+` (\S+) \|")


def main() -> int:
    """Run the releases; return the exit code."""
    given = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    before = _rows(given.file.read_text()) if given.file.exists() else {}
    rows = dict(before)
    failed = False
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        running = {pool.submit(_played, name): name for name in given.only}
        for done in as_completed(running):
            name = running[done]
            cells = done.result()
            rows[name] = _row(name, cells)
            failed |= any(cell.problem is not None for cell in cells.values())
            if given.log is not None:
                _write_logs(given.log, name, cells)
    except CannotInstall as error:
        print(f"compat: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("compat: interrupted", file=sys.stderr)
        return 130
    finally:
        pool.shutdown(cancel_futures=True)
    if given.check:
        stale = [name for name in given.only if before.get(name) != rows[name]]
        for name in stale:
            print(f"compat: {given.file.name} has\n  {before.get(name, 'no such row')}\nbut now it is\n  {rows[name]}")
        return 1 if failed or stale else 0
    given.file.write_text(_document(rows))
    return 1 if failed else 0


def _played(name: str) -> dict[str, Cell]:
    client = install(RELEASES[name])
    cells = play(client)
    for column, cell in cells.items():
        outcome = f"ok ({cell.took_s:.1f} s)" if cell.problem is None else f"FAILED: {cell.problem}"
        print(f"{name}: {COLUMNS[column].title}: {outcome}", file=sys.stderr, flush=True)
    return cells


def _row(name: str, cells: Mapping[str, Cell]) -> str:
    return f"| {RELEASES[name].title} | {' | '.join(str(cells[column]) for column in COLUMNS)} |"


def _rows(text: str) -> dict[str, str]:
    """Return the rows of a table that was written before, by the name of their release."""
    return {f"{found[1].lower()}-{found[2]}": line for line in text.splitlines() if (found := _ROW.match(line))}


def _document(rows: Mapping[str, str]) -> str:
    """Return the page; of a release that never ran there is no row."""
    head = ["client", *(column.title for column in COLUMNS.values())]
    table = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(rows[name] for name in RELEASES if name in rows)]
    columns = "\n".join(f"- **{column.title}**: {column.does}." for column in COLUMNS.values())
    return _TEXT.format(table="\n".join(table), columns=columns)


def _write_logs(folder: Path, name: str, cells: Mapping[str, Cell]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for column, cell in cells.items():
        (folder / f"{name}-{column}.txt").write_text("\n".join(cell.log) + "\n")


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End by an exception, so that every process that was started is ended."""
    sys.exit(128 + number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/compat",
        description="Run SDK releases against a Workyard that it starts itself, and write docs/compatibility.md. Fetches each "
        f"release once, by pip or npm, into {CACHE.name}/. Exit code 1: a client failed, or with --check the table differs.",
        epilog="releases: " + ", ".join(RELEASES),
    )
    parser.add_argument(
        "--only", type=_releases, default=list(RELEASES), metavar="NAMES", help="which, with commas; other rows stay"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if what is written is not so any more"
    )
    parser.add_argument("--file", type=Path, default=_TABLE, help="the table; default: docs/compatibility.md")
    parser.add_argument(
        "--log", type=Path, metavar="FOLDER", help="write the requests that are hashed there, a file a cell"
    )
    return parser.parse_args()


def _releases(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in RELEASES:
            raise argparse.ArgumentTypeError(f"no release is called {name!r}; there are {', '.join(RELEASES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
