#!/usr/bin/env python3
"""Show that Workyard answers while others misuse its port: idle connections, garbage, heads that dribble in, clients that do not read.

Starts a server, asks for its health all the time under each of these and under all together, prints how long that took, and
fails if the 99th percentile reaches a second. Sends to loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

P99_S = 1.0
_HEALTH = b"GET /_emulator/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
_BIG = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
_HEAD = b"GET /v1/environments HTTP/1.1\r\nhost: localhost\r\nx-api-key: slow\r\n"
_CHUNK = 65_536
#: Connections that are opened at the same time.
_AT_ONCE = 200

Load = Callable[["Target"], AbstractAsyncContextManager[str]]


class Target:
    """The server under load. `idle`, `slow`, `unread`: connections of each kind; `rate`: bytes of garbage a second."""

    def __init__(self, url: str, pid: int, arguments: argparse.Namespace) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.host, self.port, self.pid = parts.hostname, parts.port, pid
        self.idle, self.slow, self.unread = arguments.idle, arguments.slow, arguments.unread
        self.rate = int(arguments.garbage * 1e6)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection."""
        return await asyncio.open_connection(self.host, self.port)

    async def health(self) -> float:
        """Ask for the health on a new connection; return how long that took, seconds."""
        began = time.perf_counter()
        reader, writer = await self.connect()
        writer.write(_HEALTH)
        answer = await reader.read()
        writer.close()
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"health: {answer[:200]!r}")
        return time.perf_counter() - began

    def memory(self) -> float:
        """Return the server's memory, MB."""
        with open(f"/proc/{self.pid}/statm") as figures:
            return int(figures.read().split()[1]) * resource.getpagesize() / 1e6


@asynccontextmanager
async def _open(target: Target, number: int) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Hold this many connections."""
    gate, writers = asyncio.Semaphore(_AT_ONCE), []

    async def one() -> None:
        async with gate:
            writers.append((await target.connect())[1])

    await asyncio.gather(*[one() for _ in range(number)])
    try:
        yield writers
    finally:
        for writer in writers:
            writer.transport.abort()


@asynccontextmanager
async def nothing(target: Target) -> AsyncIterator[str]:
    """Leave it alone."""
    yield "nothing"


@asynccontextmanager
async def idle(target: Target) -> AsyncIterator[str]:
    """Open connections and say nothing."""
    async with _open(target, target.idle):
        yield f"{target.idle} idle connections"


@asynccontextmanager
async def _during(run: Callable[[], asyncio.Future[None]]) -> AsyncIterator[None]:
    task = run()
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def garbage(target: Target) -> AsyncIterator[str]:
    """Send bytes that are no HTTP, on one connection after another."""
    sent, began = 0, time.monotonic()
    dice = random.Random(1)
    rubbish = [dice.randbytes(_CHUNK) for _ in range(16)]

    async def send() -> None:
        nonlocal sent
        while True:
            with suppress(OSError):
                _, writer = await target.connect()
                for _ in range(8):
                    writer.write(dice.choice(rubbish))
                    sent += _CHUNK
                    await writer.drain()
                    await asyncio.sleep(max(sent / target.rate - (time.monotonic() - began), 0))
                writer.close()

    async with _during(lambda: asyncio.ensure_future(send())):
        yield f"{target.rate / 1e6:g} MB/s of garbage"
    rate = sent / (time.monotonic() - began) / 1e6
    if rate < 0.9 * target.rate / 1e6:
        print(f"  (of the garbage, {rate:.1f} MB/s went out)")


@asynccontextmanager
async def slow(target: Target) -> AsyncIterator[str]:
    """Send heads byte by byte, on new connections when the old ones are cut off."""

    async def dribble() -> None:
        while True:
            with suppress(OSError):
                _, writer = await target.connect()
                writer.write(_HEAD)
                while not writer.is_closing():
                    await asyncio.sleep(1)
                    writer.write(b"x")
                    await writer.drain()

    async with _during(lambda: asyncio.gather(*[dribble() for _ in range(target.slow)])):  # type: ignore[arg-type, return-value]
        yield f"{target.slow} heads that dribble in"


@asynccontextmanager
async def unread(target: Target) -> AsyncIterator[str]:
    """Ask for much and read nothing."""
    async with _open(target, target.unread) as writers:
        for writer in writers:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(_BIG * 100)
        yield f"{target.unread} clients that do not read"


@asynccontextmanager
async def everything(target: Target) -> AsyncIterator[str]:
    """Run all of it concurrently."""
    async with idle(target), garbage(target), slow(target), unread(target):
        yield "all of it at once"


async def measure(target: Target, load: Load, seconds: float) -> bool:
    """Ask for the health under a load for so long; print a row, and return whether it came in time."""
    async with load(target) as name:
        # From the first moment on: what comes in a burst comes then.
        took, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            took.append(await target.health())
            await asyncio.sleep(0.005)
        memory = target.memory()
    took.sort()
    p99 = took[min(int(len(took) * 0.99), len(took) - 1)]
    print(
        f"| {name} | {len(took)} | {took[len(took) // 2] * 1e3:.1f} | {p99 * 1e3:.1f} | {took[-1] * 1e3:.1f} | {memory:.0f} |",
        flush=True,
    )
    return p99 < P99_S


async def run(target: Target, seconds: float) -> bool:
    """Measure under each load."""
    print(
        "| under | health asked | median, ms | p99, ms | longest, ms | server's memory, MB |\n|---|---|---|---|---|---|"
    )
    loads: list[Load] = [nothing, idle, garbage, slow, unread, everything, nothing]
    return all([await measure(target, load, seconds) for load in loads])


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="how long each load lasts (%(default)s)")
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections (%(default)s)")
    parser.add_argument("--garbage", type=float, default=10, help="garbage, MB/s (%(default)s)")
    parser.add_argument("--slow", type=int, default=500, help="connections whose heads dribble in (%(default)s)")
    parser.add_argument("--unread", type=int, default=50, help="clients that do not read (%(default)s)")
    parser.add_argument("options", nargs="*", help="options of `workyard serve`, behind --")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKYARD_")}
    command = [sys.executable, "-m", "workyard", "serve", "--port", "0", *arguments.options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, env=clean, text=True, cwd=Path(__file__).parents[2])
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split(" ready at ")[1].split(" ")[0]
        good = asyncio.run(run(Target(url, server.pid, arguments), arguments.seconds))
    finally:
        server.terminate()
        server.wait(30)
    print("passed" if good else f"FAILED: health took {P99_S:g} s or longer at the 99th percentile")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
