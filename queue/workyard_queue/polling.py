"""The long poll: who waits, who is woken, and in what order. Owns no Redis connection and no rule of hand-outs.

Scripts publish `<environment>` when there may be work, `<environment>!` when time or the environment changed. Each
process hears every message once. The first wakes the longest waiting poll, which tries again and, if it got work,
passes the turn on; the second wakes all. A poll is in line before it first tries, so no message falls between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from workyard_store.access import Caller

from .work import WorkItem, WorkQueue

#: The event loop counts in milliseconds and may fire early: without this a poll would look once more for nothing.
_TIMER_GRAIN_S = 0.001

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class _Waiter:
    """One blocked poll. `turn`: it was woken and has not tried since. `gone`: its client has disconnected."""

    __slots__ = ("_future", "gone", "turn")

    def __init__(self) -> None:
        self.turn = False
        self.gone = False
        self._future: asyncio.Future[None] | None = None

    def wake(self) -> None:
        self.turn = True
        self._release()

    def leave(self) -> None:
        self.gone = True
        self._release()

    def _release(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Wait for a turn, the client's departure, or the time."""
        if self.turn or self.gone:
            return
        loop = asyncio.get_running_loop()
        self._future = loop.create_future()
        timer = loop.call_later(seconds, self._release)
        try:
            await self._future
        finally:
            timer.cancel()
            self._future = None


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
        waiter = _Waiter()
        line[waiter] = None
        watch: asyncio.Task[None] | None = None
        passes_on = False
        try:
            while True:
                passes_on, waiter.turn = waiter.turn, False
                found = await self._queue.poll(
                    environment_id, caller, worker_id=worker_id, reclaim_older_than_ms=reclaim_older_than_ms
                )
                if isinstance(found, WorkItem):
                    return found
                passes_on = False
                left = deadline - loop.time()
                if left <= 0:
                    return None
                if watch is None:
                    watch = asyncio.create_task(_watch(receive, waiter))
                pause = left if found.due_us is None else min(left, found.due_us / 1_000_000)
                await waiter.wait(pause + _TIMER_GRAIN_S)
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


async def _watch(receive: Receive, waiter: _Waiter) -> None:
    """Tell the waiter when its client disconnects."""
    with suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
        waiter.leave()
