#!/usr/bin/env python3
"""Break Workyard on purpose, again and again, and count the damage: the long profile of the chaos suite.

Owns the options and the output. The faults, the load and the judgement are the tests' (tests/chaos_*.py).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.support.chaos.faults import FAULTS
from tests.support.chaos.rounds import Round, run, table
from tests.support.harness import REDIS_ENGINES, redis_binary


def main() -> int:
    """Run the rounds; return the exit code."""
    given = _arguments()
    if redis_binary(given.engine) is None:
        wanted = given.engine or "redis-server"
        print(f"chaos: no {wanted}: install Debian's redis-server, or the extra workyard[test]", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    figures: dict[str, list[Round]] = {}
    begun = time.monotonic()
    try:
        for name in given.faults:
            figures[name] = run(name, given.rounds, given.seed, engine=given.engine, progress=_progress)
    except KeyboardInterrupt:
        print("chaos: interrupted", file=sys.stderr)
        return 130
    print(table(figures))
    if given.json is not None:
        facts = {
            "seed": given.seed,
            "redis-server": redis_binary(given.engine),
            "took_s": round(time.monotonic() - begun, 1),
            "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
            "rounds": {name: [asdict(each) for each in rounds] for name, rounds in figures.items()},
        }
        given.json.write_text(json.dumps(facts, indent=2) + "\n")
    return 1 if any(each.broken for rounds in figures.values() for each in rounds) else 0


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End by an exception, so that every process that was started is ended."""
    sys.exit(128 + number)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    what = "\n".join(f"  {name:16}{fault.does}" for name, fault in FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Break Workyard under load and judge what is left. Starts its own Redis, servers and clients on "
        "free loopback ports; prints a table. Exit code 1: a promise was broken.",
        epilog=f"faults:\n{what}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=_count, default=50, metavar="N", help="rounds of each fault; default: 50")
    parser.add_argument(
        "--faults", type=_faults, default=list(FAULTS), metavar="NAMES", help="which, with commas; default: all"
    )
    parser.add_argument("--engine", choices=REDIS_ENGINES, help="which Redis; default: whichever there is, 7 before 8")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30), help="default: a new one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures there too")
    return parser.parse_args()


def _faults(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in FAULTS:
            raise argparse.ArgumentTypeError(f"no fault is called {name!r}; there are {', '.join(FAULTS)}")
    return names


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
