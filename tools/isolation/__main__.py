#!/usr/bin/env python3
"""Show that workspaces of one server do not meet: many test processes at once, each test with its own clock and faults.

Beside them stand workspaces that nobody touches: after all tests, and after a reset, every key of theirs in Redis has to be
what it was, and no key but theirs may be left. The tests are in tests.py.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from tests.support.harness import NOON, REDIS_ENGINES, Api, RedisServer, clean_environment, redis_binary, running_server
from tests.support.sdk_processes import scripted

_ROOT = Path(__file__).resolve().parents[2]
_BYSTANDERS = 3
_ALL = b"wy:workspaces"
_TESTS = _ROOT / "tools" / "isolation" / "tests.py"


class Broken(Exception):
    """A workspace has met another."""


def main() -> int:
    """Run the tests beside the bystanders; return the exit code."""
    given = _arguments()
    if redis_binary(given.engine) is None:
        print(
            f"isolation: no {given.engine or 'redis-server'}: install it, or the extra workyard[test]", file=sys.stderr
        )
        return 1
    try:
        with ExitStack() as closing:
            store = RedisServer(engine=given.engine)
            closing.callback(store.close)
            server = closing.enter_context(running_server("--redis-url", store.url, "--workers", str(given.workers)))
            raw = closing.enter_context(redis.Redis.from_url(store.url))
            bystanders = [Api(server.url) for _ in range(_BYSTANDERS)]
            for api in bystanders:
                closing.callback(api.close)
                _fill(api)
            before = _keys(raw)
            print(
                f"isolation: {given.tests} tests in each of {given.processes} processes at {server.url}",
                file=sys.stderr,
            )
            begun = time.monotonic()
            passed = _run_tests(server.url, given.processes, given.tests)
            took_s = time.monotonic() - begun
            _check(_keys(raw), before, "after the tests")
            print(f"{passed} tests in {given.processes} processes on one server: passed in {took_s:.1f} s")
            print(f"{_BYSTANDERS} workspaces beside them: {len(before)} keys, none changed, none added")
            _reset_one_by_one(raw, bystanders, before)
    except Broken as broken:
        print(f"isolation: {broken}", file=sys.stderr)
        return 1
    return 0


def _fill(api: Api) -> None:
    """Put something of everything into a workspace, and let its time stand."""
    api.freeze(NOON)
    queue = api.queue()
    scripted(api, queue, {"say": "hello"})
    api.enqueue(queue, 5, metadata={"kept": "yes"})
    api.poll(queue, worker="bystander")
    api.ok(api.stop(queue, api.active(queue)[0], force=True))
    api.ok(api.stop(queue, api.active(queue)[0]))
    api.active(queue)
    rules = [
        {"on": "any", "nth": "every", "do": {"status": 503}},
        {"on": "poll", "probability": 0.5, "do": {"drop": True}},
    ]
    api.ok(api.post("/_emulator/faults", json={"rules": rules}))
    # Requests are journaled after their answers; a reader of the journal gets all of them.
    assert api.ok(api.get("/_emulator/journal/count"))["complete"]


def _keys(raw: redis.Redis) -> dict[bytes, Any]:
    """Return every key with all that it holds."""
    names = sorted(raw.scan_iter(count=1000))
    if len(names) != raw.dbsize():
        raise Broken(f"SCAN finds {len(names)} keys, and DBSIZE is {raw.dbsize()}")
    # The list of workspaces is shared: what counts is who is on it, not how Redis has packed it.
    return {name: sorted(raw.smembers(name)) if name == _ALL else raw.dump(name) for name in names}


def _check(now: dict[bytes, Any], before: dict[bytes, Any], when: str) -> None:
    if now != before:
        differing = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
        raise Broken(f"{when} {len(differing)} keys of others differ: {b', '.join(differing[:10]).decode()}")


def _run_tests(url: str, processes: int, tests: int) -> int:
    """Run the tests, all of them in each process; return how many there were."""
    path = [_ROOT, *(_ROOT / part for part in ("server", "store", "queue"))]
    environment = {
        "ISOLATION_TESTS": str(tests),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join(map(str, path)),
    }
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-p", "workyard.pytest_plugin", "-p", "no:cacheprovider",
        "-c", os.devnull, "--rootdir", str(_TESTS.parent), "--dist", "each", "--tx", f"{processes}*popen",
        "--workyard-url", url, str(_TESTS),
    ]  # fmt: skip
    done = subprocess.run(command, env=clean_environment(environment), stdout=subprocess.PIPE, text=True, check=False)
    found = re.search(r"^(\d+) passed in", done.stdout, re.MULTILINE)
    if done.returncode != 0 or found is None or int(found[1]) != processes * tests:
        print(done.stdout[-20_000:], file=sys.stderr)
        raise Broken(f"tests failed (exit code {done.returncode})")
    return int(found[1])


def _reset_one_by_one(raw: redis.Redis, bystanders: Sequence[Api], before: dict[bytes, Any]) -> None:
    """Reset each workspace: it goes with all its keys, and none of the others changes."""
    left = dict(before)
    for n, api in enumerate(bystanders):
        done = api.reset()
        now = _keys(raw)
        gone = left.keys() - now.keys()
        left = {name: now[name] if name == _ALL else held for name, held in left.items() if name in now}
        _check(now, left, f"after reset {n + 1}")
        if done["leftover_keys"] != 0:
            raise Broken(f"reset {n + 1}: {done}")
        print(f"reset {n + 1}: {len(gone)} keys went, 0 left over; the other {len(now)} are what they were")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/isolation",
        description="Run tests in many processes against one server on a real Redis that it starts itself, and check that "
        "no workspace sees or touches another. Exit code 1: one did.",
    )
    parser.add_argument("--processes", type=int, default=8, metavar="N", help="test processes at once; default 8")
    parser.add_argument("--tests", type=int, default=500, metavar="N", help="tests of each process; default 500")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="server processes; default 1")
    parser.add_argument("--engine", choices=REDIS_ENGINES, help="which Redis; default: any that is there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
