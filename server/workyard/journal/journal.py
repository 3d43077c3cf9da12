"""The journal: what is answered in this process is written into Redis in batches, and read from all processes.

A request costs no round trip of its own. Written are the requests of the last moments together, or at once when somebody
reads, here or in another process. Of those, only what the journal would still keep then: most of what a busy server
answers costs no more than its being noted, by caller and environment, so that a workspace is looked up once for many. The
embedded engine dies with its process, so there what was answered is written when somebody reads, or when it has become
much. What cannot be written because Redis is away waits, as much as there is room for; what is lost is counted, and a
reader told.

A workspace that is reset stays forgotten: no process writes a request that came before the reset's end.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from workyard_store.engine.peers import Peers
from workyard_store.errors import LimitReached, StorageUnavailable
from workyard_store.journal import Extent, JournalStore

from ..wire.exchange import MANY_KEPT, Kept, Names, Traffic, nobody
from . import entry as entries
from .attribution import Owners
from .entry import Answered, Entry

_log = logging.getLogger("workyard")

#: Seconds after which the workspaces of requests are looked up together, and after which these are written, unless somebody
#: asks: where they are few, and where they are many. What the ring would by then have lost is never written, so the longer
#: the less work.
_EVERY_S = 1.0
_WRITE_FEW_S, _WRITE_MANY_S = 5.0, 15.0
_MANY_A_SECOND = 100
#: Seconds until Redis is asked again that could not be reached.
_RETRY_S = 2.0
#: Callers and environments whose workspaces are looked up together.
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


class Journal:
    """The journal of this process. Its methods raise `StorageUnavailable` when Redis does not answer."""

    def __init__(
        self,
        traffic: Traffic,
        store: JournalStore,
        owners: Owners,
        peers: Peers,
        *,
        body_bytes: int,
        lasts: bool,
    ) -> None:
        """Write what *traffic* keeps, with *body_bytes* of each body; *lasts*: what is written outlives this process."""
        self._traffic = traffic
        self._store = store
        self._owners = owners
        self._peers = peers
        self._body_bytes = body_bytes
        self._lasts = lasts
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
        peers.on("flush", self._flushed)
        peers.on("forget", self._forget)
        peers.on("remember", self._remember)

    # -- writing ----------------------------------------------------------------------------------------------

    def _kept(self) -> None:
        is_writing = self._task is not None and not self._task.done()
        if self._traffic.held >= MANY_KEPT and not is_writing and not self._doubtful:
            if self._timer is not None:
                self._timer.cancel()
            self._time_came()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._time_came)

    def _time_came(self) -> None:
        self._task = asyncio.create_task(self._flush_soon())

    async def _flush_soon(self) -> None:
        again = _EVERY_S
        try:
            await self.flush(only_if_due=True)
        except StorageUnavailable:
            again = _RETRY_S
        except Exception:
            _log.exception("the journal could not be written")
        if self._timer is not None:
            self._timer.cancel()  # Another flush, which this one had to wait for, may have set it.
            self._timer = None
        wait = self._traffic.kept if self._lasts else self._unknown()
        if wait and self._traffic.on_kept != nobody:
            self._timer = asyncio.get_running_loop().call_later(again, self._time_came)

    async def flush(self, *, only_if_due: bool = False) -> None:
        """Write what was answered in this process until now; *only_if_due*: if that is more than should wait, or has waited
        long enough."""
        async with self._writing:
            if self._doubtful and self._traffic.kept:
                await self._store.ping()
            self._doubtful = True
            await self._look_up()
            if not only_if_due or self._is_due():
                whose: dict[str, list[Names]] = {}
                for names, kept in self._traffic.kept.items():
                    if kept.owner is not None:
                        whose.setdefault(kept.owner, []).append(names)
                if whose:
                    await self._store.ping()  # What is being written when Redis goes away is lost.
                for owner, those in whose.items():
                    await self._write(owner, [self._traffic.take(each) for each in those if each in self._traffic.kept])
            self._doubtful = False
            self._forget_old_resets()

    def _is_due(self) -> bool:
        kept = self._traffic.kept.values()
        waited_s = time.perf_counter() - min((each.oldest for each in kept), default=math.inf)
        are_many = sum(each.came for each in kept) > _MANY_A_SECOND * waited_s
        due = self._lasts and waited_s >= (_WRITE_MANY_S if are_many else _WRITE_FEW_S)
        return due or self._traffic.held >= MANY_KEPT

    def _unknown(self) -> list[tuple[Names, Kept]]:
        return [(names, kept) for names, kept in self._traffic.kept.items() if kept.owner is None]

    async def _look_up(self) -> None:
        """Find out whose the requests are that were answered until now, while there still is what they are about."""
        unknown = self._unknown()
        for start in range(0, len(unknown), _LOOK_UP):
            batch = unknown[start : start + _LOOK_UP]
            try:
                owners = await self._owners.of([names for names, _ in batch])
            except StorageUnavailable:
                raise
            except BaseException:
                self._traffic.lose(sum(self._drop(*each) for each in batch))
                raise
            for (names, kept), owner in zip(batch, owners, strict=True):
                if owner:
                    kept.owner = owner
                else:
                    self._drop(names, kept)

    def _drop(self, names: Names, kept: Kept) -> int:
        """Keep some requests no longer, if they still are; return how many."""
        return len(self._traffic.take(names).requests) if self._traffic.kept.get(names) is kept else 0

    async def _write(self, owner: str, parts: list[Kept]) -> None:
        requests: list[Answered] = []
        dropped = 0
        begin = self._begin_of(owner)
        for kept in parts:
            those = [each for each in map(entries.unpacked, kept.requests) if each.began > begin]
            if len(those) == len(kept.requests):
                dropped += kept.came - len(those)
            requests += those
            await asyncio.sleep(0)
        # The order of their answers.
        requests.sort(key=lambda each: each.began + each.took)
        surplus = max(0, len(requests) - self._store.keeps)
        written: list[str] = []
        for number, each in enumerate(requests[surplus:], 1):
            try:
                written.append(entries.written(each, self._body_bytes))
            except Exception:
                _log.exception("a request could not be put into the journal")
                self._traffic.lose(1)
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)
        dropped += surplus
        since = min((each.at for each in requests), default=0.0)
        try:
            for part in _parts(written):
                batches = [part[i : i + _BATCH] for i in range(0, len(part), _BATCH)]
                await self._store.write(
                    owner, int(since * 1e6), dropped, [(len(each), "".join(each)) for each in batches]
                )
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
            answering = self._traffic.oldest()
            kept = self._traffic.kept.values()
            self._begins = {
                owner: begin
                for owner, begin in self._begins.items()
                if answering <= begin
                or any(each.oldest <= begin and (owner == _EVERY or each.owner in (None, owner)) for each in kept)
            }

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
            await self._drop_all_of(workspace)
            return "ok"

    async def _drop_all_of(self, workspace: str) -> None:
        # What came before a reset would not be written anyway, but be counted among what the ring has lost.
        with suppress(StorageUnavailable):
            await self._look_up()
        for names, kept in list(self._traffic.kept.items()):
            if workspace in (_EVERY, kept.owner):
                self._drop(names, kept)

    async def _remember(self, workspace: str) -> str:
        self._held.pop(workspace, None)
        self._begins[workspace] = time.perf_counter()
        await self._drop_all_of(workspace)
        self._owners.forget(None if workspace == _EVERY else workspace)
        return "ok"

    # -- reading ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def forgotten(self, workspace: str) -> AsyncIterator[None]:
        """While a workspace is reset, `*`: all, let no process write its requests; nor later those that came before."""
        if not self._store.keeps:
            yield
            return
        await self._peers.ask("forget", workspace, within_s=_PATIENCE_S)
        try:
            yield
        finally:
            await self._peers.ask("remember", workspace, within_s=_PATIENCE_S)

    async def gather(self) -> int | None:
        """Have all processes write what they answered until now. Return when one has lost any, wall time in microseconds, 0
        for never; None if not all have answered."""
        answers = await self._peers.ask("flush", within_s=_PATIENCE_S)
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
