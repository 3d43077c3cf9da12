"""Long queues of the bench: what each call costs at a million items, what an item takes, what holds Redis up."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tools.bench.client import Job, Link
from tools.bench.figures import API_KEY, Aim, Bench, Figure, enqueue, new_queue, percentile, say
from tools.bench.processes import BenchFailed, Server, Slow, cpu_s
from workyard_store.pages import encode_cursor

#: Items in the queue that a long one is compared with, and how many of them a round uses up.
_SHORT_QUEUE, _PER_ROUND = 100, 50
#: Milliseconds that one command may hold Redis up.
_MOST_MS = 20.0
_NOTED_MS = 1.0
#: Removing a million items is one call.
_REMOVED_WITHIN_S = 600.0
_STOPPING_CONNECTIONS = 32


class _Costs:
    """The cost of each call on one queue: seconds seen by the client, microseconds of CPU and of scripts in Redis."""

    def __init__(self) -> None:
        self.latencies_s: dict[str, list[float]] = {}
        self.server_us: dict[str, list[float]] = {}
        self.redis_us: dict[str, list[float]] = {}


def depth(bench: Bench) -> Iterator[Figure]:
    """Compare a long queue with a short one, call by call."""
    at = bench.workyard("redis")
    link = bench.link(at)
    long = new_queue(link)
    say(f"depth: enqueuing {bench.options.queued} items")
    enqueue(link, long, bench.options.queued)
    yield from _compared(bench, at, link, "depth", long, bench.options.queued)


def scale(bench: Bench) -> Iterator[Figure]:
    """The same at a million items, and what they take; then the environment is deleted, and one like it reset."""
    count, at = bench.options.scale, bench.workyard("redis")
    link = bench.link(at, _REMOVED_WITHIN_S)
    with bench.redis.commands_over(_NOTED_MS) as over:
        before, began = bench.redis.used_memory(), time.perf_counter()
        long = new_queue(link)
        say(f"scale: enqueuing {count} items")
        enqueue(link, long, count)
        bytes_an_item = (bench.redis.used_memory() - before) / count
        took_s = time.perf_counter() - began
        yield Figure(
            case="scale-memory",
            engine="redis",
            section="Memory",
            value=bytes_an_item,
            unit="bytes",
            aim=Aim("<=", 1536),
            cells={"what": f"of Redis for each of {count} queued items", "bytes": f"{bytes_an_item:.0f}"},
        )
        yield _held_up(bench, "scale-enqueue", f"enqueuing {count} items", took_s, over())
        yield from _compared(bench, at, link, "scale", long, count)
        yield _removed(bench, "scale-delete", link, long, count, "DELETE", f"{long.removesuffix('/work')}?force=true")
        say(f"scale: enqueuing {count} items")
        again = Link(at.port, {"x-api-key": f"{API_KEY}-reset"}, _REMOVED_WITHIN_S)
        bench.stack.callback(again.close)
        enqueue(again, long := new_queue(again), count)
        yield _removed(bench, "scale-reset", again, long, count, "POST", "/_emulator/reset")


def tombstones(bench: Bench) -> Iterator[Figure]:
    """Stop items that nobody has polled, all but the last; then the figures and a poll must be exact, and soon there."""
    count, at = bench.options.tombstones, bench.workyard("redis")
    link = bench.link(at, _REMOVED_WITHIN_S)
    queue = new_queue(link)
    say(f"tombstones: enqueuing and stopping {count} items")
    items = enqueue(link, queue, count)
    (live,) = enqueue(link, queue, 1)
    headers = {"x-api-key": API_KEY, "content-type": "application/json"}
    # Newest first, as a list shows them: not one can be stepped over until the last is stopped.
    paths = [f"{queue}/{item}/stop" for item in reversed(items)]
    stop = Job(at.port, paths, 0.0, headers, method="POST", talk="each", connections=_STOPPING_CONNECTIONS)
    with bench.redis.commands_over(_NOTED_MS) as over:
        began = time.perf_counter()
        bench.clients.run(stop)
        yield _held_up(
            bench, "tombstones-stop", f"stopping {count} unpolled items", time.perf_counter() - began, over()
        )
    for name, path in (("stats", f"{queue}/stats"), ("poll", f"{queue}/poll")):
        with bench.redis.commands_over(_NOTED_MS) as over:
            answer = link.call("GET", path)
            yield _held_up(bench, f"tombstones-{name}", f"the first {name} after {count} of them", link.took_s, over())
        right = answer["id"] == live if name == "poll" else (answer["depth"], answer["pending"]) == (1, 0)
        if not right:
            raise BenchFailed(f"the {name} behind {count} stopped items answered {answer}")


def _compared(bench: Bench, at: Server, link: Link, case: str, long: str, length: int) -> Iterator[Figure]:
    """Use a short and a long queue in turns; yield what each call costs on the long one against the short one."""
    rounds = bench.options.depth_rounds
    short = new_queue(link)
    enqueue(link, short, _SHORT_QUEUE)
    queues = [(short, _SHORT_QUEUE, _Costs()), (long, length, _Costs())]
    for turn in range(rounds + 1):
        for queue, queued, costs in queues if turn % 2 else reversed(queues):
            # The first round warms up.
            _one_round(bench, at, link, queue, queued, costs if turn else _Costs())
        say(f"{case}: round {turn} of {rounds} done")
    (_, _, few), (_, _, many) = queues
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
            case=f"{case}-{name}",
            engine="redis",
            section=f"One call at a time at {length} queued items against {_SHORT_QUEUE} (ms: p50 seen by the client)",
            value=max(latency, script),
            unit=f"× the cost at {_SHORT_QUEUE}",
            aim=Aim("<=", 1.2),
            cells={
                f"{column} at {queued}": f"{value:.{2 if column == 'ms' else 0}f}"
                for n, column in enumerate(columns)
                for queued, value in ((_SHORT_QUEUE, medians[0][n]), (length, medians[1][n]))
            }
            | {"latency": f"{latency:.2f} ×", "CPU": f"{cpu:.2f} ×", "in Redis": f"{script:.2f} ×"},
            details={
                "ratio_latency": latency,
                "ratio_server_cpu": cpu,
                "ratio_redis_script": script,
                **{
                    f"at_{queued}": {"p50_ms": row[0], "server_us": row[1], "redis_script_us": row[2]}
                    for queued, row in ((_SHORT_QUEUE, medians[0]), (length, medians[1]))
                },
            },
        )


def _one_round(bench: Bench, at: Server, link: Link, queue: str, length: int, costs: _Costs) -> None:
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

    def repeated(path: str) -> list[Callable[[], Any]]:
        return [lambda: link.call("GET", path)] * _PER_ROUND

    def on_items(verb: str, body: Any = None) -> list[Callable[[], Any]]:
        return [lambda path=path: link.call("POST", f"{path}/{verb}", body) for path in items]  # type: ignore[misc]

    cursor = "work " + queue.split("/")[3]
    measured("stats", repeated(f"{queue}/stats"))
    measured("list-first", repeated(queue))
    measured("list-middle", repeated(f"{queue}?page={encode_cursor(cursor, length // 2)}"))
    # Twenty items and none after them.
    measured("list-last", repeated(f"{queue}?page={encode_cursor(cursor, 21)}"))
    measured("poll", [poll] * _PER_ROUND)
    measured("stats", repeated(f"{queue}/stats"))
    measured("get", [lambda path=path: link.call("GET", path) for path in items])  # type: ignore[misc]
    measured("ack", on_items("ack"))
    for path in items:
        beat(path)
    measured("heartbeat", [lambda path=path: beat(path) for path in items])  # type: ignore[misc]
    measured("stop", on_items("stop", {"force": True}))
    enqueue(link, queue, len(items))


def _removed(bench: Bench, case: str, link: Link, queue: str, count: int, method: str, path: str) -> Figure:
    """Remove a long queue with one call, while another connection goes on asking for something else."""
    say(f"{case}: {method} {path}")
    other = bench.link(bench.workyard("redis"))
    elsewhere = f"{new_queue(other)}/stats"
    over_ends = threading.Event()
    waits_ms: list[float] = []

    def ask() -> None:
        while not over_ends.is_set():
            other.call("GET", elsewhere)
            waits_ms.append(other.took_s * 1e3)
            over_ends.wait(0.002)

    asking = threading.Thread(target=ask)
    with bench.redis.commands_over(_NOTED_MS) as over:
        asking.start()
        try:
            link.call(method, path)
        finally:
            over_ends.set()
            asking.join()
        slow = over()
    waits_ms.sort()
    figure = _held_up(bench, case, f"{method} {path.split('/')[1]}: {count} items", link.took_s, slow)
    meanwhile = {"p50_ms": percentile(waits_ms, 50), "p99_ms": percentile(waits_ms, 99), "worst_ms": waits_ms[-1]}
    say(f"{case}: {link.took_s:.1f} s; another call meanwhile {meanwhile}")
    figure.details["another_call_meanwhile"] = meanwhile
    return figure


def _held_up(bench: Bench, case: str, what: str, took_s: float, slow: Slow) -> Figure:
    worst = slow.ms[-1] if slow.ms else _NOTED_MS
    return Figure(
        case=case,
        engine="redis",
        section="What holds Redis up: single commands and scripts, by the wall (a core that Redis waits for counts too)",
        value=worst,
        unit="ms",
        aim=Aim("<=", _MOST_MS),
        cells={
            "what": what,
            "took": f"{took_s:.2f} s" if took_s >= 1 else f"{took_s * 1e3:.1f} ms",
            f"over {_NOTED_MS:g} ms": str(len(slow.ms)),
            f"over {_MOST_MS:g} ms": str(sum(ms > _MOST_MS for ms in slow.ms)),
            "median of these": f"{statistics.median(slow.ms):.1f} ms" if slow.ms else "",
            "longest": f"{worst:.1f} ms" if slow.ms else f"< {_NOTED_MS:g} ms",
            "CPU a script": f"{slow.cpu_ms:.2f} ms",
            "waited for a core": f"{slow.waited_s * 1e3:.0f} ms",
        },
        details={
            "took_s": took_s,
            "commands_over_1_ms": len(slow.ms),
            "waited_for_a_core_s": slow.waited_s,
            "cpu_ms_a_script": slow.cpu_ms,
        },
    )
