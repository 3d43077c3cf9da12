#!/usr/bin/env python3
"""Contract tests for anyone: Schemathesis over the served OpenAPI documents, all checks on, longer than in CI.

Without `--url` it starts servers in mode `strict` for it, one on each engine that is here. Prints for each document how many
requests were made and what failed; exits with 1 if anything did, with 2 if the run could not be made.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.support.harness import REDIS_ENGINES, RedisServer, redis_binary, running_server
from tools.contract.runs import DOCUMENTS, run


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--url", help="a running server of yours, in mode strict, with no control token and no required headers"
    )
    parser.add_argument("--document", choices=DOCUMENTS, action="append", help="one document; both unless given")
    parser.add_argument("--examples", type=int, default=100, metavar="N", help="for each operation and phase (100)")
    parser.add_argument("--minutes", type=float, default=60, metavar="N", help="that each document may take (60)")
    options = parser.parse_args()
    failed = False
    with ExitStack() as closing:
        for name, url in _servers(options.url, closing):
            for document in options.document or DOCUMENTS:
                began = time.monotonic()
                folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
                try:
                    done = run(url, document, folder, examples=options.examples, within_s=60 * options.minutes)
                except httpx.HTTPStatusError as error:
                    return _failed(f"{url} refuses what the run begins with: {error.response.text}")
                except httpx.HTTPError as error:
                    return _failed(f"{url} does not answer: {error}")
                except subprocess.TimeoutExpired:
                    return _failed(
                        f"{name}, {document}: not over in {options.minutes:g} minutes (--minutes, --examples)"
                    )
                failed |= not done.passed
                took = time.monotonic() - began
                verdict = "no failure" if done.passed else "FAILURES"
                print(f"{name}, {document}: {done.cases} requests in {took:.0f} s, {verdict}", flush=True)
                if not done.passed:
                    print(done.output)
    return 1 if failed else 0


def _failed(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


def _servers(url: str | None, closing: ExitStack) -> Iterator[tuple[str, str]]:
    """Yield name and URL of each server to try."""
    if url is not None:
        yield url, url
        return
    strict = ("--auth", "strict", "--check-responses")
    yield "embedded", closing.enter_context(running_server(*strict)).url
    for engine in REDIS_ENGINES:
        if redis_binary(engine) is not None:
            redis = RedisServer(engine=engine)
            closing.callback(redis.close)
            yield engine, closing.enter_context(running_server(*strict, "--redis-url", redis.url)).url


if __name__ == "__main__":
    sys.exit(main())
