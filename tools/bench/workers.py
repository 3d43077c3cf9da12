"""Waiting workers of the bench: how soon work that is enqueued reaches a poll that waits for it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from tools.bench.client import Job, Link
from tools.bench.figures import API_KEY, Aim, Bench, Figure, new_queue, percentile, say
from tools.bench.processes import BenchFailed, workyard_command

WAITING = "Waking, starting, idling"
_ENVIRONMENTS = 100
#: Items enqueued a second while the workers wait.
_ITEMS_A_SECOND = 50
_SERVER_PROCESSES = 2
_CONNECTIONS_A_PROCESS = 8


def wake_up(bench: Bench) -> Figure:
    """One poll blocked on one server, the enqueue on another."""
    polled_at = bench.workyard("redis")
    enqueued_at = bench.server("second", workyard_command(bench.redis.url))
    poller, producer = bench.link(polled_at), bench.link(enqueued_at)
    queue = new_queue(poller)
    enqueue = queue.replace("/v1/", "/_emulator/")
    waits_ms: list[float] = []
    for turn in range(bench.options.wake_ups + 1):
        poller.send("GET", f"{queue}/poll?block_ms=999")
        # Any moment of the wait when the poll surely blocks.
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
    return _wake_figure(
        "wake-up", "blocked poll on one server, enqueue on another: p50", waits_ms, percent=50, aim=Aim("<=", 50.0)
    )


def takeover(bench: Bench) -> Iterator[Figure]:
    """A worker's lease ends, another takes over, the first is told: by a clock that stands, again and again."""
    for engine in ("redis", "embedded"):
        at = bench.workyard(engine)
        # A clock of its own: the other cases have leases, too.
        control, first, second = [bench.link(at, api_key="workyard-bench-takeover") for _ in range(3)]
        queue = new_queue(control)
        control.call("POST", "/_emulator/clock", {"mode": "frozen"})
        took_ms = [_take_over(control, first, second, queue) for _ in range(bench.options.takeovers + 1)]
        yield _wake_figure(
            "takeover",
            "poll, ack, claim; the lease ends; poll, ack, claim by another; 412: median",
            took_ms[1:],  # The first one warms up.
            percent=50,
            aim=Aim("<=", 50.0),
            engine=engine,
        )


def _take_over(control: Link, first: Link, second: Link, queue: str) -> float:
    """Let two workers meet on one item; return how long that took, in ms, from the first one's poll.

    Raises:
        BenchFailed: an answer was not what it has to be.
    """
    work_id = control.call("POST", queue.replace("/v1/", "/_emulator/"), {"count": 1})["data"][0]["id"]
    of_it = f"{queue}/{work_id}"
    claim = f"{of_it}/heartbeat?expected_last_heartbeat="
    began = time.perf_counter()
    polled = first.call("GET", f"{queue}/poll?block_ms=999")
    first.call("POST", f"{of_it}/ack")
    stale = first.call("POST", f"{claim}NO_HEARTBEAT")["last_heartbeat"]
    second.send("GET", f"{queue}/poll?block_ms=999")
    fired = control.call("POST", "/_emulator/clock", {"advance_to_next": True, "timer": "lapse"})["fired"]
    taken = second.receive() or second.call("GET", f"{queue}/poll?block_ms=999")
    second.call("POST", f"{of_it}/ack")
    fresh = second.call("POST", f"{claim}NO_HEARTBEAT")
    told = first.refused("POST", f"{claim}{stale}")
    took_ms = (time.perf_counter() - began) * 1e3
    holds = (
        polled["id"] == taken["id"] == fired[-1]["work_id"] == work_id,
        fresh["lease_extended"],
        told.startswith(b"HTTP/1.1 412 ") and fresh["last_heartbeat"].encode() in told,
    )
    if not all(holds):
        raise BenchFailed(f"a take-over went wrong: {holds}, {told!r}")
    control.call("POST", f"{of_it}/stop", {"force": True})
    return took_ms


def pollers(bench: Bench) -> Iterator[Figure]:
    """A thousand workers long-poll a hundred environments on two server processes, while items trickle in."""
    options = bench.options
    others = bench.redis.connections()
    command = workyard_command(bench.redis.url, _SERVER_PROCESSES)
    at = bench.server("pollers", [*command, "--redis-connections", str(_CONNECTIONS_A_PROCESS)])
    link = bench.link(at)
    queues = [new_queue(link) for _ in range(min(_ENVIRONMENTS, options.pollers))]
    headers = {"x-api-key": API_KEY, "anthropic-worker-id": "bench-worker"}
    paths = [queues[n % len(queues)] for n in range(options.pollers)]
    # The clients deal the paths out among themselves; shuffled, so that each environment is polled by all of them.
    random.Random(1).shuffle(paths)
    # The workers' connections and their first polls come first.
    settle_s, seconds = options.polling_s / 6, options.polling_s
    job = Job(at.port, paths, settle_s + seconds, headers, talk="work")
    say(f"pollers: {len(paths)} workers on {len(queues)} environments, {_ITEMS_A_SECOND} items a second")
    began = time.perf_counter()
    finish = bench.clients.begin(job)
    sent: dict[str, float] = {}
    most_connections = 0
    pause_s = 1 / _ITEMS_A_SECOND
    time.sleep(settle_s)
    # The last items come a second before the workers leave.
    while time.perf_counter() - began < settle_s + seconds - 1:
        work_id, sent_at = _enqueue_one(link, random.choice(queues))
        sent[work_id] = sent_at
        if len(sent) % (_ITEMS_A_SECOND // 2) == 1:
            most_connections = max(most_connections, bench.redis.connections())
        time.sleep(random.uniform(0.0, 2 * pause_s))
    done = finish()
    taken = {work_id: when for part in done for work_id, when in part.taken.items()}
    missing = sent.keys() - taken.keys()
    if missing:
        raise BenchFailed(f"{len(missing)} of {len(sent)} items reached no worker")
    waits_ms = [(taken[work_id] - sent_at) * 1e3 for work_id, sent_at in sent.items()]
    yield _wake_figure(
        "pollers",
        f"{len(paths)} workers, {len(queues)} environments, {_SERVER_PROCESSES} processes: p99 from enqueue to answer",
        waits_ms,
        percent=99,
        aim=Aim("<=", 100.0),
    )
    # One more each hears the wake-ups.
    bound = _SERVER_PROCESSES * (_CONNECTIONS_A_PROCESS + 1)
    opened = most_connections - others
    yield Figure(
        case="pollers-redis",
        engine="redis",
        section=WAITING,
        value=opened,
        unit="connections",
        aim=Aim("<=", bound),
        cells={
            "what": f"connections to Redis of {_SERVER_PROCESSES} processes meanwhile, at most",
            "median": "",
            "worst": str(opened),
            "times": "",
        },
    )


def _enqueue_one(link: Link, queue: str) -> tuple[str, float]:
    sent_at = link.send("POST", queue.replace("/v1/", "/_emulator/"), {"count": 1})
    return str(link.receive()["data"][0]["id"]), sent_at


def _wake_figure(
    case: str, what: str, waits_ms: list[float], *, percent: int, aim: Aim, engine: str = "redis"
) -> Figure:
    waits_ms.sort()
    p50, p99 = percentile(waits_ms, 50), percentile(waits_ms, 99)
    say(f"{case}, {engine}: p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(waits_ms)}")
    return Figure(
        case=case,
        engine=engine,
        section=WAITING,
        value=percentile(waits_ms, percent),
        unit="ms",
        aim=aim,
        cells={
            "what": what,
            "median": f"{p50:.1f} ms",
            "worst": f"{waits_ms[-1]:.1f} ms",
            "times": str(len(waits_ms)),
        },
        details={"p50_ms": p50, "p99_ms": p99, "worst_ms": waits_ms[-1], "times": len(waits_ms)},
    )
