"""The long poll: the lines of waiting polls, and the order in which they wake. Owns no Redis connection and no rule of
hand-outs.

Scripts publish `WorkReady` when there may be work, and `Changed` when time or the environment changed (`engine/wake.py`).
Each process receives every message once. The first wakes the longest waiting poll, which tries again and, if it got
work, passes the turn on; the second wakes all. A poll enters the line before it first tries, so it misses no message.

When only the passage of time makes work available (a lapse or a reclaim), the polls that are now eligible retry in line
order. A poll that arrives or times out at that moment lets the earlier ones go first. The whole line shares what one poll
learns about coming timers, because a poll that was not woken does not see that another one took the item it may reclaim. An
empty poll attempt costs the same in a line of one and of a thousand.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, assert_never

from workyard_store.access import Caller
from workyard_store.calls import CURRENT
from workyard_store.engine.wake import Changed, Missed, WorkReady
from workyard_store.errors import TooManyAtOnce

from .work_queue import NoWork, WorkItem, WorkQueue

#: The event loop counts in milliseconds and may fire early: without this a poll would look once more for nothing.
_TIMER_GRAIN_S = 0.001

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class _Waiter:
    """One blocked poll. `turn`: it was woken and has not tried since. `gone`: its client has disconnected."""

    __slots__ = ("_call", "_future", "gone", "reclaim_older_than_ms", "turn")

    def __init__(self, reclaim_older_than_ms: int | None) -> None:
        self._call = CURRENT.get()
        self.reclaim_older_than_ms = reclaim_older_than_ms
        self.turn = False
        self.gone = False
        self._future: asyncio.Future[None] | None = None

    def wake(self) -> None:
        self.turn = True
        self.release()

    def leave(self) -> None:
        self.gone = True
        self.release()

    def release(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
            self._tell(waits=False)

    def _tell(self, *, waits: bool) -> None:
        if self._call is not None:
            self._call.waits = waits

    async def wait(self, line: _Line, deadline: float) -> None:
        """Wait for a turn, the client's departure, or the time."""
        if self.turn or self.gone:
            return
        loop = asyncio.get_running_loop()
        self._future = loop.create_future()
        self._tell(waits=True)
        timer = loop.call_at(deadline + _TIMER_GRAIN_S, line.deadline_came, self)
        try:
            await self._future
        finally:
            timer.cancel()
            self._future = None
            self._tell(waits=False)


class _Line:
    """The blocked polls of one environment in the order they came, and when the passage of time may make work for them.

    `due`: the earliest such moment, on the event loop's clock. `ages`: reclaim age in ms → how many of them name it.
    """

    __slots__ = ("_answered_at", "_asked_at", "_found", "_timer", "ages", "due", "waiters")

    def __init__(self) -> None:
        self.waiters: dict[_Waiter, None] = {}
        self.due = math.inf
        self.ages: Counter[int | None] = Counter()
        self._found: NoWork | None = None
        self._asked_at = self._answered_at = -math.inf
        self._timer: asyncio.TimerHandle | None = None

    def join(self, waiter: _Waiter) -> None:
        self.waiters[waiter] = None
        self.ages[waiter.reclaim_older_than_ms] += 1

    def part(self, waiter: _Waiter) -> None:
        del self.waiters[waiter]
        self.ages -= Counter((waiter.reclaim_older_than_ms,))
        if not self.waiters:
            self._set_timer(math.inf)

    def learn(self, asked_at: float, found: NoWork) -> None:
        """Record the result of a poll attempt. Two attempts may overlap, so either result may be the newer one; the result
        that promises work sooner counts, and at worst an attempt comes too early.
        """
        due = min(asked_at + found.due_us(age) / 1_000_000 for age in self.ages)
        if asked_at >= self._answered_at or due < self.due:
            self._asked_at, self._answered_at, self._found = asked_at, asyncio.get_running_loop().time(), found
            self._set_timer(due)

    def _set_timer(self, due: float) -> None:
        self.due = due
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due < math.inf:
            self._timer = asyncio.get_running_loop().call_at(due + _TIMER_GRAIN_S, self._time_came)

    def _time_came(self) -> None:
        """Wake all polls for which time has made work; their results set the timer again."""
        self._release_due(None)
        self._set_timer(math.inf)

    def deadline_came(self, waiter: _Waiter) -> None:
        """Let a poll try for the last time, after the earlier ones that are due too: timers fire in any order."""
        self._release_due(waiter)
        waiter.release()

    def _release_due(self, up_to: _Waiter | None) -> None:
        now = asyncio.get_running_loop().time() + _TIMER_GRAIN_S
        if self._found is None or self.due > now:
            return
        for each in self.waiters:
            if each is up_to:
                return
            if self._asked_at + self._found.due_us(each.reclaim_older_than_ms) / 1_000_000 <= now:
                each.release()


class LongPoll:
    """The blocked polls of this process, one line per environment."""

    def __init__(self, queue: WorkQueue, most: int) -> None:
        """Poll *queue*; limits how many polls of one environment may wait."""
        self._queue = queue
        self._most = most
        #: Called with every environment where a poll blocks while its clock stands in mode `auto`.
        self.in_auto: Callable[[str], None] = lambda environment_id: None
        self._lines: dict[str, _Line] = {}
        self._closing = False

    @property
    def blocked(self) -> int:
        """Return how many polls wait here."""
        return sum(len(line.waiters) for line in self._lines.values())

    def waiting(self, environment_id: str) -> int:
        """Return how many polls of an environment wait here."""
        line = self._lines.get(environment_id)
        return 0 if line is None else len(line.waiters)

    def reclaim_ages(self, environment_id: str) -> list[int | None]:
        """Return the different reclaim ages, in ms, of those that wait; None: of polls that name none."""
        line = self._lines.get(environment_id)
        return [] if line is None else list(line.ages)

    def heard(self, message: WorkReady | Changed | Missed) -> None:
        """Wake the polls that a message of the wake channel concerns."""
        match message:
            case WorkReady(environment_id):
                self._wake_first(environment_id)
            case Changed(environment_id):
                self._wake_all(environment_id)
            case Missed():
                for environment_id in list(self._lines):
                    self._wake_all(environment_id)
            case _:
                assert_never(message)

    def close(self) -> None:
        """Answer every blocked poll now, and every later one immediately: the server is going down."""
        self._closing = True
        self.heard(Missed())

    async def poll(
        self,
        environment_id: str,
        caller: Caller,
        *,
        worker_id: str | None,
        reclaim_older_than_ms: int | None,
        block_ms: int | None,
        receive: Receive,
    ) -> WorkItem | None:
        """Return an item, or None when none came within *block_ms* of wall time.

        Args:
            environment_id: the environment of the queue.
            caller: the polling client.
            worker_id: counted among the workers polling, each time the poll tries.
            reclaim_older_than_ms: age of a hand-out that may be taken over; None: the default.
            block_ms: how long to wait, milliseconds; None: not at all.
            receive: returns the ASGI message when the client disconnects; such a poll takes no item.

        Raises:
            EnvironmentNotFound, WorkPollingUnsupported, StorageUnavailable: as `WorkQueue.poll`, at any time.
            TooManyAtOnce: the limit of waiting polls is reached.
        """
        if block_ms is None:
            found = await self._queue.poll(
                environment_id, caller, worker_id=worker_id, reclaim_older_than_ms=reclaim_older_than_ms
            )
            return found if isinstance(found, WorkItem) else None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + block_ms / 1000
        line = self._lines.get(environment_id)
        if line is None:
            line = self._lines[environment_id] = _Line()
        if len(line.waiters) >= self._most:
            raise TooManyAtOnce(
                f"At most {self._most} polls of an environment may block in a server process (--max-blocked-polls / "
                "WORKYARD_MAX_BLOCKED_POLLS)",
                rule="limits.blocked-polls",
            )
        waiter = _Waiter(reclaim_older_than_ms)
        line.join(waiter)
        watch: asyncio.Task[None] | None = None
        passes_on = False
        try:
            if line.due <= loop.time() + _TIMER_GRAIN_S:
                await asyncio.sleep(3 * _TIMER_GRAIN_S)  # The timer fires meanwhile: those ahead ask before this one.
            while True:
                passes_on, waiter.turn = waiter.turn, False
                asked_at = loop.time()
                found = await self._queue.poll(
                    environment_id, caller, worker_id=worker_id, reclaim_older_than_ms=reclaim_older_than_ms
                )
                if isinstance(found, WorkItem):
                    return found
                passes_on = False
                if loop.time() >= deadline:
                    return None
                if watch is None:
                    watch = asyncio.create_task(_watch(receive, waiter))
                line.learn(asked_at, found)
                if found.auto:
                    self.in_auto(environment_id)
                await waiter.wait(line, deadline)
                if waiter.gone or self._closing:
                    return None
        finally:
            if watch is not None:
                watch.cancel()
            line.part(waiter)
            if not line.waiters:
                # An empty line may already have been replaced by a newer one.
                if self._lines.get(environment_id) is line:
                    del self._lines[environment_id]
            elif passes_on or waiter.turn:
                self._wake_first(environment_id)

    def _wake_first(self, environment_id: str) -> None:
        line = self._lines.get(environment_id)
        if line is not None:
            next(iter(line.waiters)).wake()

    def _wake_all(self, environment_id: str) -> None:
        line = self._lines.get(environment_id)
        for waiter in list(line.waiters) if line is not None else ():
            waiter.wake()


async def _watch(receive: Receive, waiter: _Waiter) -> None:
    """Tell the waiter when its client disconnects."""
    with suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
        waiter.leave()
