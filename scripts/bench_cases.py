"""The cases of the bench: what is measured, how, and what is aimed at. Owns no process and prints no table.

Every case yields figures. A ratio is taken inside one run from blocks that alternate with what they are compared to,
so that a machine that is busy with something else slows both. CPU time is what the kernel says the processes used; it
hardly depends on what else runs.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from bench_client import Job, Link
from bench_processes import FLOOR_PATH, Clients, RedisServer, Server, cpu_s, memory_mb, server, workyard_command

API_KEY = "workyard-bench"
WORKER_ID = "bench-0123456789ab"
REQUESTS = ("get", "heartbeat", "stats", "empty-poll")
EMBEDDED = tuple(f"embedded-{name}" for name in REQUESTS)
CASES = (*REQUESTS, *EMBEDDED, "depth", "wake-up", "start-up", "memory")
#: Items in the queue that a long one is compared with, and how many of them a round of `depth` uses up.
_SHORT_QUEUE, _PER_ROUND = 100, 50
_ENQUEUE_MOST = 10_000
_WARM_UP_S = 0.3


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured, and from how many connections and processes."""

    seconds: float
    rounds: int
    queued: int
    depth_rounds: int
    wake_ups: int
    start_ups: int
    connections: int = 16
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure should be: at least or at most *bound*."""

    sign: str
    bound: float

    def met(self, value: float) -> bool:
        """Tell whether *value* is good enough."""
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
        """Tell whether the aim is met; None without one."""
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

    def workyard(self, engine: str) -> Server:
        """Return the server under test."""
        redis_url = self.redis.url if engine == "redis" else None
        return self.server(engine, workyard_command(redis_url, self.options.processes))

    def link(self, to: Server) -> Link:
        """Return a connection for single calls."""
        link = Link(to.port, {"x-api-key": API_KEY})
        self.stack.callback(link.close)
        return link


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def run(bench: Bench, cases: list[str]) -> Iterator[Figure]:
    """Run the cases and yield their figures.

    Raises:
        BenchFailed, BadAnswer: a server did not do what it should.
    """
    requests = [case for case in cases if case in REQUESTS + EMBEDDED]
    if requests:
        yield from _requests(bench, requests)
    if "depth" in cases:
        yield from _depth(bench)
    if "wake-up" in cases:
        yield _wake_up(bench)
    if "start-up" in cases or "memory" in cases:
        for figure in _starts(bench):
            if figure.case in cases:
                yield figure


# -- requests against the floor -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    """What some seconds of load gave. Microseconds are CPU time a request; busy: CPU seconds a second and process."""

    req_s: float
    p50_ms: float
    p99_ms: float
    server_us: float
    redis_us: float
    client_us: float
    server_busy: float


@dataclass(frozen=True, slots=True)
class _Ratio:
    """A block against the floor's blocks right before and after it: requests/s, and CPU time (above 1: cheaper)."""

    by_rate: float
    by_cpu: float


def _requests(bench: Bench, cases: list[str]) -> Iterator[Figure]:
    floor = bench.server("floor", bench.floor_command)
    targets: dict[str, tuple[Server, Job]] = {
        "floor": (floor, _job(bench, floor, [FLOOR_PATH] * bench.options.connections))
    }
    for engine, prefix in (("redis", ""), ("embedded", "embedded-")):
        wanted = [name for name in REQUESTS if prefix + name in cases]
        if wanted:
            at = bench.workyard(engine)
            jobs = _jobs(bench, at)
            targets |= {prefix + name: (at, jobs[name]) for name in wanted}
    for at, job in targets.values():
        _block(bench, at, job, _WARM_UP_S)
    blocks: dict[str, list[_Block]] = {name: [] for name in targets}
    ratios: dict[str, list[_Ratio]] = {name: [] for name in cases}
    for turn in range(bench.options.rounds):
        before = _block(bench, *targets["floor"])
        blocks["floor"].append(before)
        for name in cases:
            block = _block(bench, *targets[name])
            after = _block(bench, *targets["floor"])
            blocks[name].append(block)
            blocks["floor"].append(after)
            ratio = _Ratio(
                2 * block.req_s / (before.req_s + after.req_s),
                (before.server_us + after.server_us) / 2 / block.server_us,
            )
            ratios[name].append(ratio)
            say(
                f"{name}, round {turn + 1} of {bench.options.rounds}: {block.req_s:.0f} requests/s, "
                f"{ratio.by_rate:.2f} × the floor; {block.server_us:.0f} µs of server CPU, "
                f"{ratio.by_cpu:.2f} × the floor"
            )
            before = after
    yield _request_figure("floor", blocks["floor"], [_Ratio(1.0, 1.0)])
    for name in cases:
        yield _request_figure(name, blocks[name], ratios[name])


def _job(bench: Bench, at: Server, paths: list[str], **more: Any) -> Job:
    headers = {"accept": "application/json", "x-api-key": API_KEY, **more.pop("headers", {})}
    return Job(port=at.port, paths=paths, seconds=bench.options.seconds, headers=headers, **more)


def _jobs(bench: Bench, at: Server) -> dict[str, Job]:
    """Make what the requests need: an item under lease for each connection, a queue with items, an empty queue."""
    link, count = bench.link(at), bench.options.connections
    work, empty = _queue(link), _queue(link)
    items = []
    _enqueue(link, work, count + _SHORT_QUEUE)
    for _ in range(count):
        path = f"{work}/{link.call('GET', f'{work}/poll')['id']}"
        link.call("POST", f"{path}/ack")
        link.call("POST", f"{path}/heartbeat?expected_last_heartbeat=NO_HEARTBEAT&desired_ttl_seconds=3600")
        items.append(path)
    beats = [f"{path}/heartbeat" for path in items]
    poller = {"anthropic-worker-id": WORKER_ID}
    return {
        "get": _job(bench, at, items),
        "heartbeat": _job(bench, at, beats, method="POST", echo=True),
        "stats": _job(bench, at, [f"{work}/stats"] * count),
        "empty-poll": _job(bench, at, [f"{empty}/poll"] * count, headers=poller),
    }


def _queue(link: Link) -> str:
    """Make a self-hosted environment; return the path of its work."""
    made = link.call("POST", "/v1/environments", {"name": "bench", "config": {"type": "self_hosted"}})
    return f"/v1/environments/{made['id']}/work"


def _enqueue(link: Link, queue: str, count: int) -> None:
    while count > 0:
        batch = min(count, _ENQUEUE_MOST)
        link.call("POST", queue.replace("/v1/", "/_emulator/"), {"count": batch})
        count -= batch


def _block(bench: Bench, at: Server, job: Job, seconds: float | None = None) -> _Block:
    if seconds is not None:
        job = Job(job.port, job.paths, seconds, job.headers, job.method, job.echo)
    server_before, redis_before = cpu_s(at.pids), cpu_s(bench.redis.pids)
    done = bench.clients.run(job)
    server_s, redis_s = cpu_s(at.pids) - server_before, cpu_s(bench.redis.pids) - redis_before
    latencies = sorted(us for part in done for us in part.latencies_us)
    wall_s = max(part.wall_s for part in done)
    count = len(latencies)
    return _Block(
        req_s=count / wall_s,
        p50_ms=_percentile(latencies, 50) / 1e3,
        p99_ms=_percentile(latencies, 99) / 1e3,
        server_us=server_s / count * 1e6,
        redis_us=redis_s / count * 1e6,
        client_us=sum(part.cpu_s for part in done) / count * 1e6,
        server_busy=server_s / wall_s / bench.options.processes,
    )


def _percentile(ordered: list[Any], percent: int) -> float:
    return float(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)])


def _median(blocks: list[_Block]) -> _Block:
    names = _Block.__dataclass_fields__
    return _Block(**{name: statistics.median(getattr(block, name) for block in blocks) for name in names})


def _request_figure(name: str, rounds: list[_Block], ratios: list[_Ratio]) -> Figure:
    engine = "embedded" if name in EMBEDDED else "redis"
    block = _median(rounds)
    ratio = statistics.median(turn.by_rate for turn in ratios)
    by_cpu = statistics.median(turn.by_cpu for turn in ratios)
    return Figure(
        case=name,
        engine=engine,
        section="Requests, against the floor in the same run (µs: CPU time a request)",
        value=ratio,
        unit="× floor",
        aim=Aim(">=", 0.8) if name in REQUESTS else None,
        cells={
            "requests/s": f"{block.req_s:.0f}",
            "p50 ms": f"{block.p50_ms:.2f}",
            "p99 ms": f"{block.p99_ms:.2f}",
            "server µs": f"{block.server_us:.0f}",
            "redis µs": f"{block.redis_us:.0f}" if engine == "redis" else "",
            "client µs": f"{block.client_us:.0f}",
            "server busy": f"{block.server_busy:.0%}",
            "by CPU": f"{by_cpu:.2f} ×",
            "ratio": f"{ratio:.2f} ×",
        },
        details={
            "ratio_by_server_cpu": by_cpu,
            **{name: getattr(block, name) for name in _Block.__dataclass_fields__},
            "ratio_of_rounds": [turn.by_rate for turn in ratios],
            "ratio_by_server_cpu_of_rounds": [turn.by_cpu for turn in ratios],
            "req_s_of_rounds": [turn.req_s for turn in rounds],
            "server_us_of_rounds": [turn.server_us for turn in rounds],
        },
    )


# -- a long queue against a short one -------------------------------------------------------------------------


class _Costs:
    """What each call cost on one queue: seconds seen by the client, microseconds of CPU and of scripts in Redis."""

    def __init__(self) -> None:
        self.latencies_s: dict[str, list[float]] = {}
        self.server_us: dict[str, list[float]] = {}
        self.redis_us: dict[str, list[float]] = {}


def _depth(bench: Bench) -> Iterator[Figure]:
    options, at = bench.options, bench.workyard("redis")
    link = bench.link(at)
    queues = [(_queue(link), _SHORT_QUEUE, _Costs()), (_queue(link), options.queued, _Costs())]
    for queue, length, _ in queues:
        say(f"depth: enqueuing {length} items")
        _enqueue(link, queue, length)
    for turn in range(options.depth_rounds + 1):
        for queue, _, costs in queues if turn % 2 else reversed(queues):
            # The first round warms up.
            _one_round(bench, at, link, queue, costs if turn else _Costs())
        say(f"depth: round {turn} of {options.depth_rounds} done")
    (_, short, few), (_, long, many) = queues
    for name in few.latencies_s:
        medians = [
            (
                statistics.median(costs.latencies_s[name]) * 1e3,
                statistics.median(costs.server_us[name]),
                statistics.median(costs.redis_us[name]),
            )
            for costs in (few, many)
        ]
        latency, cpu, script = (b / a for a, b in zip(*medians, strict=True))
        columns = ("ms", "server µs", "script µs")
        yield Figure(
            case=f"depth-{name}",
            engine="redis",
            section=f"One call at a time at {long} queued items against {short} (ms: p50 seen by the client)",
            value=max(latency, script),
            unit=f"× the cost at {short}",
            aim=Aim("<=", 1.2),
            cells={
                f"{column} at {length}": f"{value:.{2 if column == 'ms' else 0}f}"
                for n, column in enumerate(columns)
                for length, value in ((short, medians[0][n]), (long, medians[1][n]))
            }
            | {"latency": f"{latency:.2f} ×", "CPU": f"{cpu:.2f} ×", "in Redis": f"{script:.2f} ×"},
            details={
                "ratio_latency": latency,
                "ratio_server_cpu": cpu,
                "ratio_redis_script": script,
                **{
                    f"at_{length}": {"p50_ms": row[0], "server_us": row[1], "redis_script_us": row[2]}
                    for length, row in ((short, medians[0]), (long, medians[1]))
                },
            },
        )


def _one_round(bench: Bench, at: Server, link: Link, queue: str, costs: _Costs) -> None:
    """Take some items from the queue to their end, one kind of call after the other, and put as many in again."""
    items: list[str] = []
    beats: dict[str, str] = {}

    def measured(name: str, calls: Iterable[Callable[[], Any]]) -> None:
        calls_before, us_before = bench.redis.scripts()
        cpu_before, count = cpu_s(at.pids), 0
        for call in calls:
            call()
            costs.latencies_s.setdefault(name, []).append(link.took_s)
            count += 1
        cpu = cpu_s(at.pids) - cpu_before
        calls_after, us_after = bench.redis.scripts()
        costs.server_us.setdefault(name, []).append(cpu / count * 1e6)
        costs.redis_us.setdefault(name, []).append((us_after - us_before) / (calls_after - calls_before))

    def poll() -> None:
        items.append(f"{queue}/{link.call('GET', f'{queue}/poll?reclaim_older_than_ms=3600000')['id']}")

    def beat(path: str) -> None:
        expected = beats.get(path, "NO_HEARTBEAT")
        beats[path] = link.call("POST", f"{path}/heartbeat?expected_last_heartbeat={expected}")["last_heartbeat"]

    measured("stats", [lambda: link.call("GET", f"{queue}/stats")] * _PER_ROUND)
    measured("poll", [poll] * _PER_ROUND)
    measured("stats", [lambda: link.call("GET", f"{queue}/stats")] * _PER_ROUND)
    measured("ack", [lambda path=path: link.call("POST", f"{path}/ack") for path in items])  # type: ignore[misc]
    for path in items:
        beat(path)
    measured("heartbeat", [lambda path=path: beat(path) for path in items])  # type: ignore[misc]
    for path in items:
        link.call("POST", f"{path}/stop", {"force": True})
    _enqueue(link, queue, len(items))


# -- waking, starting, idling ---------------------------------------------------------------------------------


def _wake_up(bench: Bench) -> Figure:
    polled_at = bench.workyard("redis")
    enqueued_at = bench.server("second", workyard_command(bench.redis.url))
    poller, producer = bench.link(polled_at), bench.link(enqueued_at)
    queue = _queue(poller)
    enqueue = queue.replace("/v1/", "/_emulator/")
    waits_ms: list[float] = []
    for turn in range(bench.options.wake_ups + 1):
        poller.send("GET", f"{queue}/poll?block_ms=999")
        # Any moment of the wait, but one at which the poll surely blocks.
        time.sleep(random.uniform(0.05, 0.15))
        sent_at = producer.send("POST", enqueue, {"count": 1})
        item = poller.receive()
        woken_at = time.perf_counter()
        producer.receive()
        if item is None:
            raise AssertionError("a blocked poll was not woken")
        poller.call("POST", f"{queue}/{item['id']}/stop", {"force": True})
        if turn:  # The first one warms up.
            waits_ms.append((woken_at - sent_at) * 1e3)
    waits_ms.sort()
    p50, p99 = _percentile(waits_ms, 50), _percentile(waits_ms, 99)
    say(f"wake-up: p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(waits_ms)}")
    return Figure(
        case="wake-up",
        engine="redis",
        section="Waking, starting, idling",
        value=p50,
        unit="ms",
        aim=Aim("<=", 50.0),
        cells={
            "what": "blocked poll on one server, enqueue on another: p50",
            "median": f"{p50:.1f} ms",
            "worst": f"{waits_ms[-1]:.1f} ms",
            "times": str(len(waits_ms)),
        },
        details={"p50_ms": p50, "p99_ms": p99, "worst_ms": waits_ms[-1], "times": len(waits_ms)},
    )


def _starts(bench: Bench) -> Iterator[Figure]:
    """Start servers one after the other; how long each took, and what it holds when it is ready."""
    for engine in ("redis", "embedded"):
        times: list[float] = []
        cpu: list[float] = []
        memory: list[dict[str, float]] = []
        for turn in range(bench.options.start_ups + 1):
            with server(workyard_command(bench.redis.url if engine == "redis" else None)) as started:
                if turn:  # The first one fills the disk cache.
                    times.append(started.ready_s)
                    cpu.append(started.ready_cpu_s)
                    memory.append(memory_mb(started.pids))
        ready = statistics.median(times)
        held = {name: statistics.median(row[name] for row in memory) for name in memory[0]}
        cpu_used = statistics.median(cpu)
        say(f"start-up, {engine}: {ready:.2f} s, {cpu_used:.2f} s of CPU, {held['pss_mb']:.1f} MB PSS")
        section = "Waking, starting, idling"
        yield Figure(
            case="start-up",
            engine=engine,
            section=section,
            value=ready,
            unit="s",
            aim=Aim("<=", 0.8),
            cells={
                "what": f"spawn of `workyard serve` to its ready line ({cpu_used:.2f} s of CPU)",
                "median": f"{ready:.2f} s",
                "worst": f"{max(times):.2f} s",
                "times": str(len(times)),
            },
            details={"cpu_s": cpu_used, "worst_s": max(times), "times_s": times},
        )
        yield Figure(
            case="memory",
            engine=engine,
            section=section,
            value=held["pss_mb"],
            unit="MB",
            aim=Aim("<=", 90.0),
            cells={
                "what": f"PSS when ready (private {held['private_mb']:.1f} MB, RSS {held['rss_mb']:.1f} MB)",
                "median": f"{held['pss_mb']:.1f} MB",
                "worst": f"{max(row['pss_mb'] for row in memory):.1f} MB",
                "times": str(len(memory)),
            },
            details={**held, "pss_mb_of_starts": [row["pss_mb"] for row in memory]},
        )
