#!/usr/bin/env python3
"""Run the SDKs' own generated test suites against `workyard serve --fixtures`, and print a table.

Owns the options and the table. Where the suites come from, and how each is run: runs.py.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.support.harness import REDIS_ENGINES, redis_binary
from tools.compat.releases import CACHE, CannotInstall
from tools.suites.runs import NEWEST, OLD, Outcome, Suite, fixture_server, play, python_suite, typescript_suite

_HEAD = ("suite", "engine", "processes", "passed", "skipped", "failed", "took", "leniencies")


def main() -> int:
    """Run them; return the exit code."""
    given = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    rows: list[Sequence[str]] = [_HEAD]
    failed = False
    try:
        suites: list[Suite] = []
        for version in given.releases:
            _say(f"Python {version}: fetching what is not there yet")
            suites.append(python_suite(version))
        if given.typescript is not None:
            suites.append(typescript_suite(given.typescript))
        for engine in given.engines:
            with fixture_server(engine) as url:
                for suite in suites:
                    for processes in given.processes:
                        _say(f"{suite.name} on {engine}, {processes} at once: running")
                        outcome = play(suite, url, processes)
                        _say(f"{suite.name} on {engine}, {processes} at once: {outcome} ({outcome.took_s:.1f} s)")
                        for text in (outcome.said, *outcome.problems):
                            print(text, end="\n" if text else "", file=sys.stderr, flush=True)
                        failed |= not outcome.ok
                        rows.append(_row(suite, engine, processes, outcome))
    except CannotInstall as error:
        print(f"sdk-suites: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sdk-suites: interrupted", file=sys.stderr)
        return 130
    print(_table(rows))
    return 1 if failed else 0


def _row(suite: Suite, engine: str, processes: int, outcome: Outcome) -> Sequence[str]:
    counted = ", ".join(f"{name} {number}" for name, number in outcome.leniencies.items() if number)
    numbers = (processes, outcome.passed, outcome.skipped, outcome.failed)
    return (suite.name, engine, *map(str, numbers), f"{outcome.took_s:.1f} s", counted)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _say(text: str) -> None:
    print(f"sdk-suites: {text}", file=sys.stderr, flush=True)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End by an exception, so that every process that was started is ended."""
    sys.exit(128 + number)


def _arguments() -> argparse.Namespace:
    here = [engine for engine in REDIS_ENGINES if redis_binary(engine) is not None]
    parser = argparse.ArgumentParser(
        prog="scripts/sdk-suites",
        description="Run the SDKs' own generated tests of environments and work, as they were published, against a Workyard "
        "in fixture mode that it starts itself, and print a table. Fetches the source archive of each release of Python's "
        f"SDK by pip, and what its tests import into {CACHE.name}/, once. Exit code 1: a test failed, a release could not "
        "be had, the queues contradict their rules, or keys were left behind.",
    )
    parser.add_argument(
        "--releases",
        type=_words,
        default=[NEWEST, OLD],
        metavar="VERSIONS",
        help=f"releases of Python's SDK, with commas; {NEWEST}: what the index has; default: {NEWEST},{OLD}",
    )
    parser.add_argument(
        "--engines",
        type=_engines,
        default=["embedded", *(here[:1] or REDIS_ENGINES[:1])],
        metavar="NAMES",
        help=f"with commas, of: embedded, {', '.join(REDIS_ENGINES)}; default: embedded and the first Redis that is there",
    )
    parser.add_argument(
        "--processes", type=_numbers, default=[1, 4], metavar="N", help="pytest processes, with commas; default: 1,4"
    )
    parser.add_argument(
        "--typescript",
        type=Path,
        metavar="PATH",
        help="run the suite in this checkout of the TypeScript SDK too; its packages must be installed",
    )
    return parser.parse_args()


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _engines(text: str) -> list[str]:
    names = _words(text)
    for name in names:
        if name not in ("embedded", *REDIS_ENGINES):
            raise argparse.ArgumentTypeError(f"no engine is called {name!r}")
        if name in REDIS_ENGINES and redis_binary(name) is None:
            raise argparse.ArgumentTypeError(f"there is no {name} here: scripts/test fetches it")
    return names


def _numbers(text: str) -> list[int]:
    numbers = [int(word) if word.isdecimal() else 0 for word in _words(text)]
    if not numbers or not all(1 <= number <= 16 for number in numbers):
        raise argparse.ArgumentTypeError("numbers from 1 to 16, with commas")
    return numbers


if __name__ == "__main__":
    sys.exit(main())
