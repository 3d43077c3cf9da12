"""The rounds of the chaos suite: load, a fault at a random moment, heal, work off what is left, judge, count. The tests
and `scripts/chaos` share it.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis

from tests.support.chaos.calls import Assignment, Call
from tests.support.chaos.checks import judge
from tests.support.chaos.faults import FAULTS, Fault, Strike
from tests.support.chaos.load import TTL_S, Crew
from tests.support.chaos.stage import Stage, pause
from tests.support.harness import Api, new_api_key

#: How often all leases end together after a fault, under load: each holder then sends heartbeats for an item that
#: another one has taken.
_LAPSES = 4
#: Passes over the remaining items until everything is stopped: in each, workers abandon a few percent of them.
_PASSES = 20
#: Further than any lease, startup lease and reclaim age of the load.
_LET_LAPSE_S = 10


@dataclass(frozen=True, slots=True)
class Round:
    """The result of one round.

    Attributes:
        in_flight: requests that the servers hit had not answered when the fault struck.
        steps_in_flight: the same without polls, most of which only wait.
        lost: requests that were never answered.
        unavailable: requests answered 503.
        items: accepted, each of which is stopped.
        longest_s: the longest any request took.
        broken: every breach of the promise.
    """

    number: int
    in_flight: int
    steps_in_flight: int
    lost: int
    unavailable: int
    calls: int
    items: int
    longest_s: float
    broken: list[str]


def run(
    name: str, rounds: int, seed: int, *, engine: str | None = None, progress: Callable[[str], None] = print
) -> list[Round]:
    """Repeat a fault, each round on an environment of its own, on one Redis and two servers that stay.

    Args:
        name: of the fault.
        rounds: how often; a few times more if too often it hit nothing but polls that wait (`enough_hit`).
        seed: every random choice follows from it; when processes get their turn does not.
        engine: which Redis, `redis-7` or `redis-8`; None: whichever there is.
        progress: gets a line a round.
    """
    fault = FAULTS[name]()
    done: list[Round] = []
    with Stage(engine, fault.server_options) as stage:
        while len(done) < rounds or (len(done) < 2 * rounds + 2 and not enough_hit(done)):
            number = len(done) + 1
            done.append(_round(fault, stage, number, random.Random(f"{seed} {name} {number}")))
            progress(f"{name}, seed {seed}, round {number} of {rounds}: {_told(done[-1])}")
        if tracebacks := stage.tracebacks():
            first = tracebacks[0][tracebacks[0].index("Traceback") :]
            done[-1].broken.append(f"a server logged an exception that nobody handled: {first[:3000]}")
    return done


def enough_hit(rounds: list[Round]) -> bool:
    """Return whether at least 80 % of the rounds struck while a request other than a poll was under way."""
    return 5 * sum(each.steps_in_flight > 0 for each in rounds) >= 4 * len(rounds)


def _told(done: Round) -> str:
    text = f"{done.in_flight} in flight, {done.lost} lost, {done.unavailable} × 503, {done.items} items"
    return f"{text}; BROKEN: {done.broken[0]}" if done.broken else text


def _round(fault: Fault, stage: Stage, number: int, chance: random.Random) -> Round:
    api = Api(stage.servers[0].url, new_api_key())
    try:
        api.ok(api.post("/_emulator/settings", json={"startup_lease_seconds": 1}))
        environment = api.queue()
        stage.go(api, environment, chance.randrange(1 << 30))
        pause(chance.uniform(0.3, 1.0))
        strike = fault.strike(stage, api, environment, chance)
        stage.wait_healthy()
        api.close()  # Its connection may be to a server that was killed.
        api = Api(stage.servers[0].url, api.api_key)
        for _ in range(_LAPSES):
            api.advance(TTL_S)
            pause(chance.uniform(0.03, 0.12))
        calls, failures = stage.finish()
        more, failures_after = _work_off(stage, api, environment, chance.randrange(1 << 30))
        items = list(_items(api, environment))
        calls += more + strike.calls
        broken = [failure for failure in (*failures, strike.failures, *failures_after) if failure]
        broken += judge(calls, items, api.stats(environment))
        broken += _raw_breaches(stage, api, environment)
        if (left := api.reset()["leftover_keys"]) != 0:
            broken.append(f"a reset leaves {left} keys")
    finally:
        api.close()
    return _counted(number, calls, strike, items, broken)


def _work_off(stage: Stage, api: Api, environment: str, seed: int) -> tuple[list[Call], list[str]]:
    """Bring every item to its end through the ordinary verbs; let time pass by the workspace's clock."""
    calls: list[Call] = []
    failures: list[str] = []
    for number in range(_PASSES):
        api.advance(_LET_LAPSE_S)
        journal = str(stage.folder / "rest.jsonl")
        given = Assignment("worker", f"rest{number}", 4, stage.ports, api.api_key, environment, seed + number, journal)
        crew = Crew(given)
        crew.go()
        failures.append(crew.finish())
        calls += [call for lane in crew.lanes for call in lane.journal]
        if all(item["state"] == "stopped" for item in _items(api, environment)):
            break
    return calls, failures


def _items(api: Api, environment: str) -> Iterator[dict[str, Any]]:
    page: str | None = ""
    while page is not None:
        answer = api.ok(api.get(api.path(environment), params={"limit": 1000} | ({"page": page} if page else {})))
        yield from answer["data"]
        page = answer["next_page"]


def _raw_breaches(stage: Stage, api: Api, environment: str) -> list[str]:
    """Return the contradictions in Redis, and the items that entered `stopped` more than once, or never."""
    broken = [f"invariant: {violation}" for violation in api.ok(api.get("/_emulator/invariants"))["violations"]]
    with redis.Redis(port=stage.redis.port, decode_responses=True) as raw:
        works = raw.zrange(f"wy:{{{environment}}}:index", 0, -1)
        counts = {work: raw.hget(f"wy:{{{environment}}}:work:{work}", "ended") for work in works}
    return broken + [f"{work} entered stopped {count} times" for work, count in counts.items() if count != "1"]


def _counted(number: int, calls: list[Call], strike: Strike, items: list[dict[str, Any]], broken: list[str]) -> Round:
    hit = [
        call
        for call in calls
        if call.sent and call.port in strike.ports and any(call.begun < at < call.ended for at in strike.moments)
    ]
    return Round(
        number=number,
        in_flight=len(hit),
        steps_in_flight=sum(call.verb != "poll" for call in hit),
        lost=sum(call.sent and call.status == 0 for call in calls),
        unavailable=sum(call.status == 503 for call in calls),
        calls=len(calls),
        items=len(items),
        longest_s=max(call.ended - call.begun for call in calls),
        broken=broken,
    )


def table(figures: dict[str, list[Round]]) -> str:
    """Return the figures of each fault as a Markdown table."""
    lines = [
        "| fault | rounds | with a request in flight | in flight, median (most) | answers lost | 503 | items accepted, "
        "all stopped once | requests | longest request | broken |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rounds in figures.items():
        in_flight = [each.in_flight for each in rounds]
        cells = [
            f"`{name}`",
            len(rounds),
            f"{sum(each.steps_in_flight > 0 for each in rounds)}",
            f"{statistics.median(in_flight):.0f} ({max(in_flight)})",
            sum(each.lost for each in rounds),
            sum(each.unavailable for each in rounds),
            sum(each.items for each in rounds),
            sum(each.calls for each in rounds),
            f"{max(each.longest_s for each in rounds):.2f} s",
            sum(len(each.broken) for each in rounds),
        ]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines)
