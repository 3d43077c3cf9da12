"""The cases of the bench by name, and those about starting and idling. Owns no process and prints no table.

CPU time is what the kernel says the processes used; it hardly depends on what else runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from tools.bench.figures import Aim, Bench, Figure, say
from tools.bench.overhead import overhead
from tools.bench.processes import memory_mb, server, workyard_command
from tools.bench.requests import REQUESTS, requests
from tools.bench.scale import depth, scale, tombstones
from tools.bench.workers import WAITING, pollers, takeover, wake_up

#: What runs unless cases are named, and what only runs when it is named: each of those takes minutes or installs something.
USUAL = (
    *(name for name in REQUESTS if name not in ("steady", "processes")),
    "depth",
    "wake-up",
    "takeover",
    "start-up",
    "memory",
)
NAMED = ("scale", "tombstones", "pollers", "processes", "overhead", "steady")
CASES = (*USUAL, *NAMED)


def run(bench: Bench, cases: list[str]) -> Iterator[Figure]:
    """Run the cases and yield their figures.

    Raises:
        BenchFailed, BadAnswer: a server did not do what it should.
    """
    if any(case in REQUESTS for case in cases):
        yield from requests(bench, cases)
    if "depth" in cases:
        yield from depth(bench)
    if "wake-up" in cases:
        yield wake_up(bench)
    if "takeover" in cases:
        yield from takeover(bench)
    if "pollers" in cases:
        yield from pollers(bench)
    if "overhead" in cases:
        yield from overhead(bench)
    if "start-up" in cases or "memory" in cases:
        for figure in _starts(bench):
            if figure.case in cases:
                yield figure
    if "tombstones" in cases:
        yield from tombstones(bench)
    if "scale" in cases:
        yield from scale(bench)


def _starts(bench: Bench) -> Iterator[Figure]:
    """Start servers one after the other; measure the start-up time of each, and its memory when it is ready."""
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
        section = WAITING
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
