"""Requests of the bench under load, each against a rival in the same run: the floor, Steady, or fewer processes.

Blocks of load alternate with blocks of the rival, so that a machine that is busy with something else slows both.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tools.bench.client import Job
from tools.bench.figures import API_KEY, Aim, Bench, Figure, enqueue, new_queue, percentile, say
from tools.bench.processes import FLOOR_PATH, Server, cpu_s
from tools.bench.steady import steady

WORKER_ID = "bench-0123456789ab"
_SINGLE = ("get", "heartbeat", "stats", "empty-poll")
#: What makes two round trips or twenty rows: the floor is no fair match, so there is no aim.
_WIDER = ("empty-long-poll", "list")
#: The five calls of an item's life, by so many workers on one environment.
_CYCLES = {"cycle-1": 1, "cycle-8": 8, "cycle-64": 64}
_ON_REDIS = (*_SINGLE, *_WIDER, *_CYCLES)
REQUESTS = (*_ON_REDIS, *(f"embedded-{name}" for name in _ON_REDIS), "steady", "processes")
_WARM_UP_S = 0.3
#: Cores that two server processes, Redis and two clients need to show what a second process brings.
_ENOUGH_CORES = 5


@dataclass(frozen=True, slots=True)
class Block:
    """The result of some seconds of load. Microseconds are CPU time a request; cores: CPU seconds a second."""

    req_s: float
    p50_ms: float
    p99_ms: float
    server_us: float
    redis_us: float
    client_us: float
    server_cores: float


@dataclass(frozen=True, slots=True)
class _Ratio:
    """A block against the rival's blocks right before and after it: requests/s, and CPU time (above 1: cheaper)."""

    by_rate: float
    by_cpu: float


@dataclass(frozen=True, slots=True)
class Target:
    """A server and what is asked of it."""

    name: str
    engine: str
    at: Server
    job: Job


@dataclass(frozen=True, slots=True)
class _Contest:
    """A target and its rival; `aim` is for the ratio of their rates."""

    target: Target
    rival: Target
    aim: Aim | None


def requests(bench: Bench, cases: list[str]) -> Iterator[Figure]:
    """Run the request cases among *cases* and yield their figures."""
    contests = list(_contests(bench, [case for case in cases if case in REQUESTS]))
    targets = {target.name: target for contest in contests for target in (contest.rival, contest.target)}
    for target in targets.values():
        measured(bench, target, _WARM_UP_S)
    blocks: dict[str, list[Block]] = {name: [] for name in targets}
    ratios: dict[str, list[_Ratio]] = {contest.target.name: [] for contest in contests}
    for turn in range(bench.options.rounds):
        last, before = "", None
        for contest in contests:
            name, rival = contest.target.name, contest.rival.name
            if before is None or last != rival:
                before = measured(bench, contest.rival)
                blocks[rival].append(before)
            block = measured(bench, contest.target)
            after = measured(bench, contest.rival)
            blocks[name].append(block)
            blocks[rival].append(after)
            ratio = _Ratio(
                2 * block.req_s / (before.req_s + after.req_s),
                (before.server_us + after.server_us) / 2 / block.server_us,
            )
            ratios[name].append(ratio)
            say(
                f"{name}, round {turn + 1} of {bench.options.rounds}: {block.req_s:.0f} requests/s, "
                f"{ratio.by_rate:.2f} × {rival}; {block.server_us:.0f} µs of server CPU, {ratio.by_cpu:.2f} × {rival}"
            )
            last, before = rival, after
    contest_of = {contest.target.name: contest for contest in contests}
    for name, target in targets.items():
        yield _request_figure(bench, target, contest_of.get(name), blocks[name], ratios.get(name, []))
    for name, target in targets.items():
        if name in _SINGLE:
            yield _slowest(bench, target, blocks[name])


def _contests(bench: Bench, cases: list[str]) -> Iterator[_Contest]:
    made: dict[str, dict[str, Job]] = {}
    for case in cases:
        if case == "steady":
            mock = steady(bench)
            if mock is not None:
                job = jobs_for(bench, bench.workyard("redis"))["get"]
                ours = Target("get-beside-steady", "redis", bench.workyard("redis"), job)
                theirs = Target("steady", "steady", mock, replace(job, port=mock.port))
                yield _Contest(ours, theirs, Aim(">=", 1.2))
            continue
        if case == "processes":
            one, two = bench.workyard("redis", 1), bench.workyard("redis", 2)
            job = jobs_for(bench, one)["get"]
            aim = Aim(">=", 1.6) if (os.cpu_count() or 1) >= _ENOUGH_CORES else None
            yield _Contest(
                Target("get-by-2-processes", "redis", two, replace(job, port=two.port)),
                Target("get-by-1-process", "redis", one, job),
                aim,
            )
            continue
        engine = "embedded" if case.startswith("embedded-") else "redis"
        name, at = case.removeprefix("embedded-"), bench.workyard(engine)
        jobs = made.setdefault(engine, jobs_for(bench, at))
        aim = None if engine == "embedded" or name in _WIDER else Aim(">=", 0.9 if name in _CYCLES else 1.0)
        yield _Contest(Target(case, engine, at, jobs[name]), _floor(bench, len(jobs[name].paths)), aim)


def _floor(bench: Bench, connections: int) -> Target:
    floor = bench.server("floor", bench.floor_command)
    name = "floor" if connections == bench.options.connections else f"floor-{connections}"
    return Target(name, "redis", floor, _job(bench, floor, [FLOOR_PATH] * connections))


def _job(bench: Bench, at: Server, paths: list[str], **more: Any) -> Job:
    headers = {"accept": "application/json", "x-api-key": API_KEY, **more.pop("headers", {})}
    return Job(port=at.port, paths=paths, seconds=bench.options.seconds, headers=headers, **more)


def jobs_for(bench: Bench, at: Server) -> dict[str, Job]:
    """Create the resources for the requests: an item under lease for each connection, a queue with items, empty queues."""
    link, count = bench.link(at), bench.options.connections
    work, empty, cycle = new_queue(link), new_queue(link), new_queue(link)
    items = []
    enqueue(link, work, count + 100)
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
        "list": _job(bench, at, [work] * count),
        "empty-poll": _job(bench, at, [f"{empty}/poll"] * count, headers=poller),
        # A short wait: it is the work that is measured, not the waiting.
        "empty-long-poll": _job(bench, at, [f"{empty}/poll?block_ms=10"] * count, headers=poller),
        **{name: _job(bench, at, [cycle] * workers, talk="cycle") for name, workers in _CYCLES.items()},
    }


def measured(bench: Bench, target: Target, seconds: float | None = None) -> Block:
    job = target.job if seconds is None else replace(target.job, seconds=seconds)
    server_before, redis_before = cpu_s(target.at.pids), cpu_s(bench.redis.pids)
    done = bench.clients.run(job)
    server_s, redis_s = cpu_s(target.at.pids) - server_before, cpu_s(bench.redis.pids) - redis_before
    latencies = sorted(us for part in done for us in part.latencies_us)
    wall_s = max(part.wall_s for part in done)
    count = len(latencies)
    return Block(
        req_s=count / wall_s,
        p50_ms=percentile(latencies, 50) / 1e3,
        p99_ms=percentile(latencies, 99) / 1e3,
        server_us=server_s / count * 1e6,
        redis_us=redis_s / count * 1e6,
        client_us=sum(part.cpu_s for part in done) / count * 1e6,
        server_cores=server_s / wall_s,
    )


def _median(blocks: list[Block]) -> Block:
    names = Block.__dataclass_fields__
    return Block(**{name: statistics.median(getattr(block, name) for block in blocks) for name in names})


def _request_figure(
    bench: Bench, target: Target, contest: _Contest | None, rounds: list[Block], turns: list[_Ratio]
) -> Figure:
    """Make the row of a target; one without a contest is a rival, and 1 × itself."""
    block = _median(rounds)
    ratio = statistics.median(turn.by_rate for turn in turns) if turns else 1.0
    by_cpu = statistics.median(turn.by_cpu for turn in turns) if turns else 1.0
    rival = target.name if contest is None else contest.rival.name
    return Figure(
        case=target.name,
        engine=target.engine,
        section=f"Requests on {bench.options.connections} connections (cycle-N and floor-N: N), against a rival in the "
        "same run (µs: CPU time a request)",
        value=ratio,
        unit=f"× {rival}",
        aim=None if contest is None else contest.aim,
        cells={
            "requests/s": f"{block.req_s:.0f}",
            "p50 ms": f"{block.p50_ms:.2f}",
            "p99 ms": f"{block.p99_ms:.2f}",
            "server µs": f"{block.server_us:.0f}",
            "redis µs": f"{block.redis_us:.0f}" if target.engine == "redis" else "",
            "client µs": f"{block.client_us:.0f}",
            "server cores": f"{block.server_cores:.2f}",
            "rival": "" if contest is None else rival,
            "by CPU": f"{by_cpu:.2f} ×",
            "ratio": f"{ratio:.2f} ×",
        },
        details={
            "ratio_by_server_cpu": by_cpu,
            **{name: getattr(block, name) for name in Block.__dataclass_fields__},
            "ratio_of_rounds": [turn.by_rate for turn in turns],
            "ratio_by_server_cpu_of_rounds": [turn.by_cpu for turn in turns],
            "req_s_of_rounds": [turn.req_s for turn in rounds],
            "server_us_of_rounds": [turn.server_us for turn in rounds],
        },
    )


def _slowest(bench: Bench, target: Target, rounds: list[Block]) -> Figure:
    p99 = _median(rounds).p99_ms
    return Figure(
        case=f"{target.name}-p99",
        engine=target.engine,
        section=f"The slowest hundredth of requests on {bench.options.connections} connections",
        value=p99,
        unit="ms",
        aim=Aim("<=", 10.0),
        cells={"median ms": f"{p99:.1f}", "worst ms": f"{max(block.p99_ms for block in rounds):.1f}"},
    )
