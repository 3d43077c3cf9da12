"""What the journal and the life lines cost: the server as it is by default against the same without either.

Blocks of the two alternate. What is compared is CPU time a request, of the server and of Redis together: it hardly depends
on what else the machine does.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench_figures import Aim, Bench, Figure, say
from bench_processes import workyard_command
from bench_requests import Block, Target, jobs_for, measured

_CALLS = ("get", "heartbeat", "stats", "empty-poll", "cycle-8")
_OFF = ["--journal-requests", "0", "--life-line-events", "0", "--key-prefix", "off"]
_MOST_RATIO = 1.05


def overhead(bench: Bench) -> Iterator[Figure]:
    """Measure both on each engine; a figure for all calls together and one for each."""
    for engine in ("redis", "embedded"):
        command = workyard_command(bench.redis.url if engine == "redis" else None)
        servers = {"on": bench.workyard(engine, 1), "off": bench.server(f"{engine}-off", [*command, *_OFF])}
        jobs = {name: jobs_for(bench, at) for name, at in servers.items()}
        targets = {
            (call, name): Target(f"{call}-{name}", engine, at, jobs[name][call])
            for call in _CALLS
            for name, at in servers.items()
        }
        for target in targets.values():
            measured(bench, target, 0.3)
        blocks: dict[tuple[str, str], list[Block]] = {key: [] for key in targets}
        for pair in range(bench.options.pairs):
            for call in _CALLS:
                # Each is first as often as the other.
                for name in ("on", "off") if pair % 2 == 0 else ("off", "on"):
                    blocks[call, name].append(measured(bench, targets[call, name]))
            ratio = _ratios(blocks, _CALLS)[-1]
            say(f"overhead, {engine}, pair {pair + 1} of {bench.options.pairs}: {ratio:.3f} × the CPU time of neither")
        yield _figure(engine, "overhead", _CALLS, blocks, Aim("<=", _MOST_RATIO))
        for call in _CALLS:
            yield _figure(engine, f"overhead-{call}", (call,), blocks, None)


def _cpu_us(blocks: dict[tuple[str, str], list[Block]], call: str, name: str) -> list[float]:
    return [block.server_us + block.redis_us for block in blocks[call, name]]


def _ratios(blocks: dict[tuple[str, str], list[Block]], calls: tuple[str, ...]) -> list[float]:
    """Return for each pair the CPU time of the calls, each counted once, with both against that without."""
    sums = {
        name: [sum(each) for each in zip(*[_cpu_us(blocks, call, name) for call in calls], strict=True)]
        for name in ("on", "off")
    }
    return [on / off for on, off in zip(sums["on"], sums["off"], strict=True)]


def _figure(
    engine: str, case: str, calls: tuple[str, ...], blocks: dict[tuple[str, str], list[Block]], aim: Aim | None
) -> Figure:
    ratios = _ratios(blocks, calls)
    ratio = statistics.median(ratios)
    us = {name: sum(statistics.median(_cpu_us(blocks, call, name)) for call in calls) for name in ("on", "off")}
    rates = {
        name: statistics.median(block.req_s for call in calls for block in blocks[call, name]) for name in ("on", "off")
    }
    return Figure(
        case=case,
        engine=engine,
        section="Journal and life lines, on as by default, against both off (µs: CPU time a request, with Redis's)",
        value=ratio,
        unit="× off",
        aim=aim,
        cells={
            "on µs": f"{us['on']:.0f}",
            "off µs": f"{us['off']:.0f}",
            "on requests/s": f"{rates['on']:.0f}",
            "off requests/s": f"{rates['off']:.0f}",
            "lowest": f"{min(ratios):.3f} ×",
            "highest": f"{max(ratios):.3f} ×",
            "median": f"{ratio:.3f} ×",
        },
        details={"us": us, "req_s": rates, "ratio_of_pairs": ratios},
    )
