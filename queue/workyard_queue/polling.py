"""The long poll: who waits, who is woken, and in what order. Owns no Redis connection and no rule of hand-outs.

Scripts publish `<environment>` when there may be work, `<environment>!` when time or the environment changed. Each
process hears every message once. The first wakes the longest waiting poll, which tries again and, if it got work,
passes the turn on; the second wakes all. A poll is in line before it first tries, so no message falls between.
When time alone makes work, whoever's timer fires first, or whoever comes then, lets those ahead try first. What one
poll learns of the time sets the timers of all in its line: who was not woken could not know that somebody took what it
may take over.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any

from workyard_store.access import Caller

from .work import WorkItem, WorkQueue

#: The event loop counts in milliseconds and may fire early: without this a poll would look once more for nothing.
_TIMER_GRAIN_S = 0.001

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class _Waiter:
    """One blocked poll. `turn`: it was woken and has not tried since. `gone`: its client has disconnected.
    `due`: when time alone can make work for it, on the event loop's clock."""

    __slots__ = ("_deadline", "_future", "_time_came", "_timer", "due", "gone", "reclaim_older_than_ms", "turn")

    def __init__(
        self, reclaim_older_than_ms: int | None, deadline: float, time_came: Callable[[_Waiter], None]
    ) -> None:
        self.reclaim_older_than_ms = reclaim_older_than_ms
        self.due = math.inf
        self.turn = False
        self.gone = False
        self._deadline = deadline
        self._time_came = time_came
        self._timer: asyncio.TimerHandle | None = None
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

    def expect(self, due: float) -> None:
        """Look again at *due* at the latest."""
        if due < self.due - _TIMER_GRAIN_S:
            self.due = due
            if self._timer is not None and due < self._deadline:
                self._timer.cancel()
                self._set_timer()

    def _set_timer(self) -> None:
        when = min(self._deadline, self.due) + _TIMER_GRAIN_S
        self._timer = asyncio.get_running_loop().call_at(when, self._time_came, self)

    async def wait(self) -> None:
        """Wait for a turn, the client's departure, or the time; then `time_came` is to release this waiter."""
        if self.turn or self.gone:
            return
        self._future = asyncio.get_running_loop().create_future()
        self._set_timer()
        try:
            await self._future
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._future = None


class LongPoll:
    """The blocked polls of this process, in one line an environment."""

    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue
        self._lines: dict[str, dict[_Waiter, None]] = {}
        self._closing = False

    @property
    def blocked(self) -> int:
        """Return how many polls wait here."""
        return sum(len(line) for line in self._lines.values())

    def heard(self, message: str | None) -> None:
        """Take a message from the wake channel; None means that some may have been missed."""
        if message is None:
            for environment_id in list(self._lines):
                self._wake_all(environment_id)
        elif message.endswith("!"):
            self._wake_all(message[:-1])
        else:
            self._wake_first(message)

    def close(self) -> None:
        """Answer every blocked poll now, and every later one at once: the server is going down."""
        self._closing = True
        self.heard(None)

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
            environment_id: whose queue.
            caller: who polls.
            worker_id: counted among the workers polling, each time the poll looks.
            reclaim_older_than_ms: age of a hand-out that may be taken over; None: the default.
            block_ms: how long to wait, milliseconds; None: not at all.
            receive: tells when the client disconnects; such a poll takes nothing with it.

        Raises:
            EnvironmentNotFound, WorkPollingUnsupported, StorageUnavailable: as `WorkQueue.poll`, at any time.
        """
        if block_ms is None:
            found = await self._queue.poll(
                environment_id, caller, worker_id=worker_id, reclaim_older_than_ms=reclaim_older_than_ms
            )
            return found if isinstance(found, WorkItem) else None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + block_ms / 1000
        line = self._lines.setdefault(environment_id, {})
        waiter = _Waiter(reclaim_older_than_ms, deadline, partial(_time_came, line))
        line[waiter] = None
        watch: asyncio.Task[None] | None = None
        passes_on = False
        try:
            soon = loop.time() + _TIMER_GRAIN_S
            if any(each.due <= soon for each in line):
                await asyncio.sleep(3 * _TIMER_GRAIN_S)  # Their timers fire meanwhile: they ask before this one.
            while True:
                passes_on, waiter.turn = waiter.turn, False
                waiter.due, asked_at = math.inf, loop.time()
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
                if found.lease_ends_us >= 0 or found.handed_out_us >= 0:
                    for each in line:
                        each.expect(asked_at + found.due_us(each.reclaim_older_than_ms) / 1_000_000)
                await waiter.wait()
                if waiter.gone or self._closing:
                    return None
        finally:
            if watch is not None:
                watch.cancel()
            del line[waiter]
            if not line:
                # An empty line may already have been replaced by a newer one.
                if self._lines.get(environment_id) is line:
                    del self._lines[environment_id]
            elif passes_on or waiter.turn:
                self._wake_first(environment_id)

    def _wake_first(self, environment_id: str) -> None:
        for waiter in self._lines.get(environment_id, ()):
            waiter.wake()
            return

    def _wake_all(self, environment_id: str) -> None:
        for waiter in list(self._lines.get(environment_id, ())):
            waiter.wake()


def _time_came(line: dict[_Waiter, None], waiter: _Waiter) -> None:
    """Release a waiter whose timer fired, after those ahead for whom it is time too: timers fire in any order."""
    now = asyncio.get_running_loop().time()
    for each in line:
        if each is waiter:
            break
        if each.due <= now + _TIMER_GRAIN_S:
            each.release()
    waiter.release()


async def _watch(receive: Receive, waiter: _Waiter) -> None:
    """Tell the waiter when its client disconnects."""
    with suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
        waiter.leave()
