"""Where the chaos suite plays: a Redis with an append-only file, two servers, the processes of the load. Starts, restarts
and ends them; knows no fault and no rule of the API.
"""

from __future__ import annotations

import json
import random
import select
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.support.chaos.calls import GIVE_UP_S, RETRY_FOR_S, Assignment, Call
from tests.support.harness import ROOT, Api, RedisServer, WorkyardServer, clean_environment, wait_until

SERVERS = 2
#: Role, processes, connections of each. Few enough for two processors, enough to keep both servers busy.
CREWS = (("worker", 3, 4), ("enqueuer", 1, 2), ("talker", 1, 1))
_ANSWER_WITHIN_S = RETRY_FOR_S + 3 * GIVE_UP_S
#: The setting that the promise assumes: every answered change is on the disk.
_DURABLE = (
    "--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0",
    # Rewritten often, so that a restart reads a snapshot and the changes after it.
    "--auto-aof-rewrite-percentage", "50", "--auto-aof-rewrite-min-size", "500kb",
)  # fmt: skip


def steady_port() -> int:
    """Return a free port below the range of outgoing connections, so that no process takes it during a restart.

    A client that keeps trying to reach a free port in that range could even connect to itself.
    """
    for _ in range(100):
        with socket.socket() as probe:
            port = random.SystemRandom().randrange(20_000, 32_000)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


class LoadProcess:
    """One process of the load."""

    def __init__(self, role: str, name: str, lanes: int) -> None:
        self.role, self.name, self.lanes = role, name, lanes
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.chaos.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=ROOT,
            env=clean_environment(),
        )

    def ask(self, word: str, given: Any = None) -> None:
        """Give it a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([word, given]).encode() + b"\n")

    def answer(self) -> Any:
        """Wait for the answer to a command."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _ANSWER_WITHIN_S)
        assert ready, f"{self.name} does not answer"
        line = self._process.stdout.readline()
        assert line, f"{self.name} has ended"
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Stage:
    """Everything that runs while a fault is repeated. Use it as a context manager."""

    def __enter__(self) -> Stage:
        return self

    def __init__(self, engine: str | None, server_options: tuple[str, ...] = ()) -> None:
        self.engine = engine
        self._server_options = server_options
        self._tracebacks: list[str] = []
        self._stack = ExitStack()
        with ExitStack() as started:
            started.callback(self._stack.close)
            self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="workyard-chaos-")))
            self.redis = RedisServer(*_DURABLE, engine=engine, port=steady_port())
            self._stack.callback(self.redis.close)
            self.load: list[LoadProcess] = []
            for role, processes, lanes in CREWS:
                for number in range(processes):
                    self.load.append(LoadProcess(role, f"{role}{number}", lanes))
                    self._stack.callback(self.load[-1].close)
            self.ports = [steady_port() for _ in range(SERVERS)]
            with ThreadPoolExecutor(SERVERS) as pool:
                starts = [pool.submit(self._server, port) for port in self.ports]
            self.servers = [start.result() for start in starts if start.exception() is None]
            self._stack.callback(self._close_servers)
            for start in starts:
                start.result()
            started.pop_all()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _close_servers(self) -> None:
        for server in self.servers:
            server.close()

    def _server(self, port: int) -> WorkyardServer:
        # The last of an option counts.
        return WorkyardServer(
            "--port", str(port), "--redis-url", self.redis.url, "--log-level", "error", *self._server_options
        )

    def tracebacks(self) -> list[str]:
        """Return the servers' logs, those of killed ones too, that contain an unhandled exception."""
        return self._tracebacks + [log for log in (server.log() for server in self.servers) if "Traceback" in log]

    def kill_server(self, number: int) -> None:
        """SIGKILL a server."""
        self.servers[number].process.kill()
        self.servers[number].process.wait()
        if "Traceback" in (log := self.servers[number].log()):
            self._tracebacks.append(log)

    def start_server(self, number: int) -> None:
        """Start a killed server again, on the same port."""
        self.servers[number].close()
        self.servers[number] = self._server(self.ports[number])

    def wait_healthy(self) -> None:
        """Wait until both servers reach Redis."""
        for server in self.servers:
            wait_until(partial(_healthy, server.url), f"{server.url} is well", 20)

    # -- the load

    def go(self, api: Api, environment: str, seed: int) -> None:
        """Start the load on an environment; return when each of its processes has begun."""
        for process in self.load:
            given = Assignment(
                role=process.role,
                name=process.name,
                lanes=process.lanes,
                ports=self.ports,
                api_key=api.api_key,
                environment=environment,
                seed=seed,
                journal=str(self.folder / f"{process.name}.jsonl"),
            )
            process.ask("go", asdict(given))
        for process in self.load:
            process.answer()

    def drop(self, seed: int) -> int:
        """Hang up on about two in three of the calls under way; return on how many."""
        for number, process in enumerate(self.load):
            process.ask("drop", seed + number)
        return sum(process.answer() for process in self.load)

    def finish(self) -> tuple[list[Call], list[str]]:
        """Stop the load, enqueuers first; return its journal and its failures."""
        failures: list[str] = []
        calls: list[Call] = []
        for role in ("enqueuer", "talker", "worker"):
            crew = [process for process in self.load if process.role == role]
            for process in crew:
                process.ask("finish")
            failures += [process.answer() for process in crew]
        for process in self.load:
            lines = (self.folder / f"{process.name}.jsonl").read_text().splitlines()
            calls += [Call(**json.loads(line)) for line in lines]
        return calls, failures


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_emulator/health", timeout=GIVE_UP_S).status_code == 200
    except httpx.HTTPError:
        return False


def pause(seconds: float) -> None:
    """Let real time pass: the length of an outage, or the moment it begins at. Never to wait for something."""
    time.sleep(seconds)
