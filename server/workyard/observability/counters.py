"""Counts of the requests that this process has answered. `metrics.py` formats them."""

from __future__ import annotations

from bisect import bisect_left

from ..wire.exchange import Exchange

#: Upper bounds of the histogram of durations, seconds. A poll may take `block_ms`, 999 at most.
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Counters:
    """Counts requests as they end.

    Attributes:
        answers: (operation, status) → answers; a status of 0: cut before there was one.
        durations: operation → how many took at most as long as each of `BUCKETS_S`, with those that took longer last.
        seconds: operation → how long they took in all.
        faults: operation → how often a fault rule was applied.
    """

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], int] = {}
        self.durations: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = {}
        self.faults: dict[str, int] = {}

    def add(self, exchange: Exchange) -> None:
        """Count a request that has ended."""
        operation, took = exchange.operation, exchange.took
        key = operation, exchange.status
        self.answers[key] = self.answers.get(key, 0) + 1
        spread = self.durations.get(operation)
        if spread is None:
            spread = self.durations[operation] = [0] * (len(BUCKETS_S) + 1)
            self.seconds[operation] = 0.0
        spread[bisect_left(BUCKETS_S, took)] += 1
        self.seconds[operation] += took
        api_call = exchange.api_call
        if api_call is not None and api_call.faults:
            self.faults[operation] = self.faults.get(operation, 0) + len(api_call.faults)
