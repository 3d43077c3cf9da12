"""The common parts of the bench's cases: options, figures, servers, and the first calls of each. Measures nothing."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tools.bench.client import Link
from tools.bench.processes import FLOOR_PATH, Clients, RedisServer, Server, server, workyard_command

API_KEY = "workyard-bench"
_ENQUEUE_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured, and from how many connections and processes."""

    seconds: float
    rounds: int
    queued: int
    scale: int
    tombstones: int
    pollers: int
    polling_s: float
    depth_rounds: int
    wake_ups: int
    takeovers: int
    start_ups: int
    pairs: int
    connections: int = 16
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Aim:
    """The aim of a figure: at least or at most *bound*."""

    sign: str
    bound: float

    def met(self, value: float) -> bool:
        """Return whether *value* is good enough."""
        return value >= self.bound if self.sign == ">=" else value <= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One result. `section` and `cells` are its place and its row in the table; `details` is for the JSON only."""

    case: str
    engine: str
    section: str
    value: float
    unit: str
    aim: Aim | None
    cells: dict[str, str]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Return whether the aim is met; None without one."""
        return None if self.aim is None else self.aim.met(self.value)


@dataclass(slots=True)
class Bench:
    """What the cases share. Servers start when a case first needs them and run on until the stack ends."""

    options: Options
    stack: ExitStack
    redis: RedisServer
    clients: Clients
    floor_command: list[str]
    _servers: dict[str, Server] = field(default_factory=dict)

    def server(self, name: str, command: list[str]) -> Server:
        """Return the server of that name; *command* starts it."""
        if name not in self._servers:
            started = self.stack.enter_context(server(command))
            link = Link(started.port, {})
            link.call("GET", FLOOR_PATH if name == "floor" else "/_emulator/health")
            link.close()
            started.look_again()
            self._servers[name] = started
        return self._servers[name]

    def workyard(self, engine: str, processes: int | None = None) -> Server:
        """Return the server under test, on Redis with as many processes as the options or the case says."""
        count = processes or self.options.processes
        if engine == "redis":
            return self.server(f"redis-{count}", workyard_command(self.redis.url, count))
        return self.server(engine, workyard_command(None))

    def link(self, to: Server, answer_within_s: float = 10.0, api_key: str = API_KEY) -> Link:
        """Return a connection for single calls."""
        link = Link(to.port, {"x-api-key": api_key}, answer_within_s)
        self.stack.callback(link.close)
        return link


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def new_queue(link: Link) -> str:
    """Make a self-hosted environment; return the path of its work."""
    made = link.call("POST", "/v1/environments", {"name": "bench", "config": {"type": "self_hosted"}})
    return f"/v1/environments/{made['id']}/work"


def enqueue(link: Link, queue: str, count: int) -> list[str]:
    """Put made-up items into a queue; return their ids."""
    ids: list[str] = []
    while count > len(ids):
        batch = {"count": min(count - len(ids), _ENQUEUE_MOST)}
        ids += [item["id"] for item in link.call("POST", queue.replace("/v1/", "/_emulator/"), batch)["data"]]
    return ids


def percentile(ordered: list[Any], percent: int) -> float:
    """Return a percentile of ordered values."""
    return float(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)])
