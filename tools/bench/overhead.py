"""What the journal costs, and what the timelines cost on top: the server as it is by default against the same without.

Each variant has processes of its own, a Redis too, and what is compared is the CPU time a request that these used: it
hardly depends on what else the machine does. Within a pair the variants take short turns, for a machine changes its pace;
and for each pair they are started anew, for two processes of one program differ by some percent. The server without
a journal runs twice: what the one differs from the other is what such a run cannot tell.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from tools.bench.client import Job
from tools.bench.figures import Aim, Bench, Figure, say
from tools.bench.processes import RedisServer, Server, cpu_s, redis_server, server, workyard_command
from tools.bench.requests import jobs_for

_CALLS = ("get", "heartbeat", "stats", "empty-poll", "cycle-8")
_OFF = ["--journal-requests", "0"]
_VARIANTS = {"on": list[str](), "off": _OFF, "off again": _OFF, "neither": [*_OFF, "--timeline-events", "0"]}
#: The variant to compare with.
_BASES = {"on": ("off", "off again"), "off again": ("off",)}
_TURNS = 6
_WARM_UP_S = 0.2
_MOST_RATIO = 1.05


@dataclass(frozen=True, slots=True)
class _Side:
    """A variant: its server and that's Redis, and what is asked of it."""

    at: Server
    store: RedisServer | None
    jobs: dict[str, Job]

    def cpu_s(self) -> float:
        return cpu_s(self.at.pids) + (cpu_s(self.store.pids) if self.store else 0.0)


def overhead(bench: Bench) -> Iterator[Figure]:
    """Measure all variants on each engine; a figure for all calls together and one for each."""
    for engine in ("redis", "embedded"):
        pairs: list[dict[tuple[str, str], float]] = []
        for number in range(bench.options.pairs):
            with ExitStack() as stack:
                names = list(_VARIANTS)
                # Each is started first as often as the others.
                turns = names[number % len(names) :] + names[: number % len(names)]
                sides = {name: _started(bench, stack, engine, _VARIANTS[name]) for name in turns}
                pairs.append({key: us for call in _CALLS for key, us in _pair(bench, sides, call)})
            ratio, control = (_ratios(pairs[-1:], _CALLS, name, _BASES[name])[0] for name in ("on", "off again"))
            say(
                f"overhead, {engine}, pair {number + 1} of {bench.options.pairs}: {ratio:.3f} × the CPU time without a "
                f"journal, which against itself has {control:.3f} ×"
            )
        yield _figure(engine, "overhead", _CALLS, pairs, Aim("<=", _MOST_RATIO))
        for call in _CALLS:
            yield _figure(engine, f"overhead-{call}", (call,), pairs, None)


def _started(bench: Bench, stack: ExitStack, engine: str, options: list[str]) -> _Side:
    store = stack.enter_context(redis_server(bench.redis.binary)) if engine == "redis" else None
    at = stack.enter_context(server([*workyard_command(store.url if store else None), *options]))
    jobs = jobs_for(bench, at)
    at.look_again()
    return _Side(at, store, jobs)


def _pair(bench: Bench, sides: dict[str, _Side], call: str) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield the CPU time in µs that a request of a kind took each variant, by the kind and the variant."""
    names = list(sides)
    for side in sides.values():
        bench.clients.run(replace(side.jobs[call], seconds=_WARM_UP_S))
    counts = dict.fromkeys(names, 0)
    before = {name: side.cpu_s() for name, side in sides.items()}
    for turn in range(_TURNS):
        # Each comes first as often as the others.
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            job = replace(sides[name].jobs[call], seconds=bench.options.seconds / _TURNS)
            counts[name] += sum(len(part.latencies_us) for part in bench.clients.run(job))
    for name, side in sides.items():
        yield (call, name), (side.cpu_s() - before[name]) / counts[name] * 1e6


def _sum(pair: dict[tuple[str, str], float], calls: tuple[str, ...], name: str) -> float:
    return sum(pair[call, name] for call in calls)


def _ratios(
    pairs: list[dict[tuple[str, str], float]], calls: tuple[str, ...], name: str, bases: tuple[str, ...]
) -> list[float]:
    """Return for each pair the CPU time of the calls, each counted once, of a variant against that of others."""
    return [_sum(pair, calls, name) / statistics.mean(_sum(pair, calls, base) for base in bases) for pair in pairs]


def _figure(
    engine: str, case: str, calls: tuple[str, ...], pairs: list[dict[tuple[str, str], float]], aim: Aim | None
) -> Figure:
    ratios, control = (_ratios(pairs, calls, name, _BASES[name]) for name in ("on", "off again"))
    against_neither = _ratios(pairs, calls, "on", ("neither",))
    ratio = statistics.median(ratios)
    us = {name: statistics.median(_sum(pair, calls, name) for pair in pairs) for name in _VARIANTS}
    details: dict[str, Any] = {
        "us": us, "ratio_of_pairs": ratios, "control_of_pairs": control, "against_neither_of_pairs": against_neither
    }  # fmt: skip
    return Figure(
        case=case,
        engine=engine,
        section="The journal, on as by default, against off; and with the timelines, against neither (µs: CPU time a "
        "request, with Redis's)",
        value=ratio,
        unit="× off",
        aim=aim,
        cells={
            "on µs": f"{us['on']:.0f}",
            "off µs": f"{us['off']:.0f}",
            "neither µs": f"{us['neither']:.0f}",
            "lowest": f"{min(ratios):.3f} ×",
            "highest": f"{max(ratios):.3f} ×",
            "off again": f"{statistics.median(control):.3f} ×",
            "to neither": f"{statistics.median(against_neither):.3f} ×",
            "median": f"{ratio:.3f} ×",
        },
        details=details,
    )
