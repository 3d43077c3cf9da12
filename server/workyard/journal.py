"""The journal: what is answered in this process is written into Redis in batches, and read from all processes.

A request costs no round trip of its own. Written are the requests of the last moments together, or at once when somebody
reads, here or in another process. Of those, only what the journal would still keep then: most of what a busy server
answers costs no more than its being noted. The embedded engine dies with its process, so there what was answered is
written when somebody reads, or when it has become much. What cannot be written because Redis is away waits, as much as
there is room for; what is lost is counted, and a reader told.

A workspace that is reset stays forgotten: no process writes a request that came before the reset's end.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from workyard_store.errors import LimitReached, StorageUnavailable
from workyard_store.journal import Extent, JournalStore

from . import entries
from .entries import Entry
from .owners import Owners
from .questions import Questions
from .traffic import MANY_KEPT, Kept, Traffic, nobody

_log = logging.getLogger("workyard")

#: Seconds after which requests are looked at together, and after which they are written, unless somebody asks: what the
#: ring would by then have lost is never written, so the longer the less work.
_EVERY_S = 1.0
_WRITE_EVERY_S = 5.0
#: Seconds until Redis is asked again that could not be reached.
_RETRY_S = 2.0
#: Requests that wait to be written, at which that is done at once.
_MOST_WAITING = 4096
#: Requests whose workspaces are looked up together.
_LOOK_UP = 512
#: Requests whose texts are made in one go.
_AT_A_TIME = 64
#: Requests of one batch at most, and characters that are written together.
_BATCH = 128
_MOST_CHARACTERS = 262_144
#: Seconds in which a process has to answer that does not run well; only such ones are waited for.
_PATIENCE_S = 2.0
#: Seconds after which a reset is taken for dead, whose process did not say that it is over.
_LONGEST_RESET_S = 300.0
#: Seconds that the last writing may take.
_CLOSE_WITHIN_S = 0.5
_EVERY = "*"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found.

    Attributes:
        entries: the requests, in the order they came.
        extent: what the journal holds.
        complete: whether every server process has said that it has written what it had answered, and none has lost any since
            the journal began.
        keeps: whether there is a journal at all.
    """

    entries: list[Entry]
    extent: Extent
    complete: bool
    keeps: bool


class _Waiting:
    """The requests of a workspace that are still to be written: the last ones, *most* of them, and how many came before."""

    __slots__ = ("dropped", "requests")

    def __init__(self, most: int) -> None:
        self.requests = deque[Kept](maxlen=most)
        self.dropped = 0

    def add(self, requests: list[Kept]) -> None:
        """Add some behind the others; the first of all make room for them."""
        all_of_them = len(self.requests) + len(requests)
        self.requests.extend(requests)
        self.dropped += all_of_them - len(self.requests)


class Journal:
    """The journal of this process. Its methods raise `StorageUnavailable` when Redis does not answer."""

    def __init__(
        self,
        traffic: Traffic,
        store: JournalStore,
        owners: Owners,
        questions: Questions,
        *,
        body_bytes: int,
        lasts: bool,
    ) -> None:
        """Write what *traffic* keeps, with *body_bytes* of each body; *lasts*: what is written outlives this process."""
        self._traffic = traffic
        self._store = store
        self._owners = owners
        self._questions = questions
        self._body_bytes = body_bytes
        self._lasts = lasts
        self._waiting: dict[str, _Waiting] = {}
        self._write_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        # Whether the last writing has failed: then Redis is first asked for a sign of life.
        self._doubtful = False
        # Workspaces being reset, by the moment at which that is taken for dead; and when requests have to have come to be
        # written, of those that were. `*`: all of them. On the performance counter.
        self._held: dict[str, float] = {}
        self._begins: dict[str, float] = {}
        traffic.on_kept = self._kept
        questions.answer("flush", self._flushed)
        questions.answer("forget", self._forget)
        questions.answer("remember", self._remember)

    # -- writing ----------------------------------------------------------------------------------------------

    def _kept(self) -> None:
        if self._timer is not None and len(self._traffic.kept) >= MANY_KEPT and not self._doubtful:
            self._timer.cancel()
            self._time_came()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._time_came)

    def _time_came(self) -> None:
        self._task = asyncio.create_task(self._flush_soon())

    async def _flush_soon(self) -> None:
        again = _EVERY_S
        try:
            await self.flush(only_if_many=not self._lasts or time.perf_counter() < self._write_at)
        except StorageUnavailable:
            again = _RETRY_S
        except Exception:
            _log.exception("the journal could not be written")
        if self._timer is not None:
            self._timer.cancel()  # Another flush, which this one had to wait for, may have set it.
            self._timer = None
        if (self._traffic.kept or (self._waiting and self._lasts)) and self._traffic.on_kept != nobody:
            self._timer = asyncio.get_running_loop().call_later(again, self._time_came)

    async def flush(self, *, only_if_many: bool = False) -> None:
        """Write what was answered in this process until now; *only_if_many*: if that is more than should wait."""
        async with self._writing:
            if self._doubtful and (self._traffic.kept or self._waiting):
                await self._store.ping()
            self._doubtful = True
            await self._look_up()
            if not only_if_many or sum(len(each.requests) for each in self._waiting.values()) > _MOST_WAITING:
                if self._waiting:
                    await self._store.ping()  # What is being written when Redis goes away is lost.
                while self._waiting:
                    await self._write(*self._waiting.popitem())
            self._doubtful = False
            self._forget_old_resets()

    async def _look_up(self) -> None:
        """Find out whose the requests are that were answered until now, while there still is what they are about."""
        kept = self._traffic.kept
        left = len(kept)
        while left > 0 and kept:
            batch = [kept.popleft() for _ in range(min(len(kept), left, _LOOK_UP))]
            left -= len(batch)
            try:
                owners = await self._owners.of([(each.call.environment_id, each.token) for each in batch])
            except StorageUnavailable:
                kept.extendleft(reversed(batch))
                self._traffic.on_kept()
                raise
            except BaseException:
                self._traffic.lose(len(batch))
                raise
            # Most often they are all of one workspace.
            for owner in filter(None, dict.fromkeys(owners)):
                begin = self._begin_of(owner)
                those = [each for each, of in zip(batch, owners, strict=True) if of == owner and each.began > begin]
                if those:
                    if not self._waiting:
                        self._write_at = time.perf_counter() + _WRITE_EVERY_S
                    self._waiting.setdefault(owner, _Waiting(self._store.keeps)).add(those)

    async def _write(self, owner: str, waiting: _Waiting) -> None:
        written: list[str] = []
        for number, each in enumerate(waiting.requests, 1):
            try:
                written.append(entries.written(each, self._body_bytes))
            except Exception:
                _log.exception("a request could not be put into the journal")
                self._traffic.lose(1)
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)
        dropped = waiting.dropped
        try:
            for part in _parts(written):
                batches = [part[i : i + _BATCH] for i in range(0, len(part), _BATCH)]
                await self._store.write(owner, dropped, [(len(each), "".join(each)) for each in batches])
                dropped = 0
        except LimitReached:
            return  # A workspace that there is no room for has no journal.
        except StorageUnavailable:
            self._traffic.lose(len(written))  # They may have been written, so they are not written again.
            raise

    def _begin_of(self, owner: str) -> float:
        """Return when a request has to have come to be written, on the performance counter."""
        now = time.perf_counter()
        if any(self._held.get(each, -math.inf) > now for each in (owner, _EVERY)):
            return math.inf
        return max(self._begins.get(owner, -math.inf), self._begins.get(_EVERY, -math.inf))

    def _forget_old_resets(self) -> None:
        if self._begins:
            oldest = self._traffic.oldest()
            self._begins = {owner: begin for owner, begin in self._begins.items() if begin >= oldest}

    async def close(self) -> None:
        """Write what is left, for the last time."""
        self._traffic.on_kept = nobody
        if self._timer is not None:
            self._timer.cancel()
        if self._lasts:
            with suppress(StorageUnavailable, TimeoutError):
                async with asyncio.timeout(_CLOSE_WITHIN_S):
                    await self.flush()

    # -- what other processes ask -----------------------------------------------------------------------------

    async def _flushed(self, argument: str) -> str:
        await self.flush()
        return str(int(self._traffic.lost_at * 1e6))

    async def _forget(self, workspace: str) -> str:
        self._held[workspace] = time.perf_counter() + _LONGEST_RESET_S
        async with self._writing:
            if workspace == _EVERY:
                self._waiting.clear()
            else:
                self._waiting.pop(workspace, None)
            return "ok"

    async def _remember(self, workspace: str) -> str:
        self._held.pop(workspace, None)
        self._begins[workspace] = time.perf_counter()
        self._owners.forget(None if workspace == _EVERY else workspace)
        return "ok"

    # -- reading ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def forgotten(self, workspace: str) -> AsyncIterator[None]:
        """While a workspace is reset, `*`: all, let no process write its requests; nor later those that came before."""
        if not self._store.keeps:
            yield
            return
        await self._questions.ask("forget", workspace, within_s=_PATIENCE_S)
        try:
            yield
        finally:
            await self._questions.ask("remember", workspace, within_s=_PATIENCE_S)

    async def gather(self) -> int | None:
        """Have all processes write what they answered until now. Return when one has lost any, wall time in microseconds, 0
        for never; None if not all have answered."""
        answers = await self._questions.ask("flush", within_s=_PATIENCE_S)
        return max(map(int, answers.words.values()), default=0) if answers.complete else None

    async def read(self, workspace: str, gathered: int | None, *, first: int = 1, bodies: bool = False) -> Reading:
        """Return a workspace's requests from number *first* on; *gathered*: what `gather` has answered before."""
        found: list[Entry] = []
        extent = Extent(1, 0, 0, None)
        async for now, batches in self._store.read(workspace, first):
            extent = now
            for batch in batches:
                found += entries.read(batch.first, batch.count, batch.text, bodies=bodies)
                await asyncio.sleep(0)
        first = max(first, extent.first)
        found = [entry for entry in found if entry.number >= first]
        found.sort(key=lambda entry: (entry.at, entry.number))
        complete = gathered is not None and gathered <= (extent.since or 0)
        return Reading(found, extent, complete and self._store.keeps > 0, self._store.keeps > 0)

    async def clear(self, workspace: str) -> int:
        """Remove what was answered until now from a workspace's journal; return how many requests that were."""
        return await self._store.clear(workspace)


def _parts(texts: list[str]) -> Iterator[list[str]]:
    """Yield texts in parts that are not too big."""
    part: list[str] = []
    room = _MOST_CHARACTERS
    for text in texts:
        if part and len(text) > room:
            yield part
            part, room = [], _MOST_CHARACTERS
        part.append(text)
        room -= len(text)
    if part:
        yield part
