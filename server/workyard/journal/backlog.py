"""The requests that were answered in this process and wait to be written into the journal, and the batches that are written.

A request costs no round trip of its own. Recent requests are written together, or immediately when a client reads the
journal, in this process or another. Requests that the journal would already have dropped by then are never written, so for
most requests of a busy server the only cost is a note by caller and environment; one look-up of a workspace serves many of
them. The embedded engine dies with its process, so there the backlog is written when a client reads, or when it is long.
While Redis is away requests wait, as many as there is room for; lost requests are counted and reported to readers.

A reset forgets a workspace's requests for good: no process writes a request that came before the end of the reset.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from workyard_store.errors import LimitReached, StorageUnavailable
from workyard_store.journal import JournalStore

from ..wire.exchange import Exchange
from ..wire.traffic import Traffic
from . import entry as entries
from .attribution import Names, Owners, names_of
from .entry import Entry
from .masking import mask

_log = logging.getLogger("workyard")

#: Stands for all workspaces.
EVERY = "*"
#: Maximum number of waiting requests; more are partly lost.
_MOST_WAITING = 5000
#: Size of the backlog at which the writer is woken early.
_MANY_WAITING = 4096
#: Seconds after which the workspaces of requests are looked up together, and after which the requests are written unless a
#: client reads earlier: if there are few, and if there are many. Requests that the ring would have lost by then are never
#: written, so a longer interval means less work.
_EVERY_S = 1.0
_WRITE_FEW_S, _WRITE_MANY_S = 5.0, 15.0
_MANY_A_SECOND = 100
#: Seconds between two attempts to reach Redis.
_RETRY_S = 2.0
#: Callers and environments whose workspaces are looked up together.
_LOOK_UP = 512
#: Requests that are masked and encoded in one go.
_AT_A_TIME = 64
#: Most requests of one batch, and characters that are written together.
_BATCH = 128
_MOST_CHARACTERS = 262_144
#: Seconds after which a reset counts as dead if its process has not reported its end.
_LONGEST_RESET_S = 300.0
#: Seconds that the last writing may take.
_CLOSE_WITHIN_S = 0.5


class Waiting:
    """The last *most* answered requests of one caller about one environment that wait to be written.

    Attributes:
        packed: each packed (`entry.pack`).
        came: how many there were.
        oldest: when the first of them began, seconds on the performance counter.
        owner: their workspace, None before it was looked up.
    """

    __slots__ = ("came", "oldest", "owner", "packed")

    def __init__(self, most: int) -> None:
        self.packed = deque[bytes](maxlen=most)
        self.came = 0
        self.oldest = math.inf
        self.owner: str | None = None


class Backlog:
    """Requests to the API that were answered in this process and wait to be written.

    Attributes:
        waiting: these, by caller and environment; `held`: how many.
        on_waiting: called when a caller and environment get their first waiting request, and when the backlog is long.
        lost: how many were thrown away, and `lost_at` when that was last, wall time in seconds.
    """

    def __init__(self, most: int) -> None:
        """*most*: how many requests of a workspace the journal has room for."""
        self.waiting: dict[Names, Waiting] = {}
        self.held = 0
        self.lost = 0
        self.lost_at = 0.0
        self.on_waiting: Callable[[], None] = ignore
        self._most = most

    @property
    def is_long(self) -> bool:
        """Return whether enough requests wait to write them early."""
        return self.held >= _MANY_WAITING

    def add(self, exchange: Exchange) -> None:
        """Keep a request that has ended, if it is one to the API."""
        if not exchange.is_of_the_api:
            return
        try:
            packed = entries.pack(entries.entry_of(exchange))
        except Exception:
            _log.exception("a request could not be put into the journal")
            self.lose(1)
            return
        names = names_of(exchange)
        waiting = self.waiting.get(names)
        if waiting is None:
            waiting = self.waiting[names] = Waiting(self._most)
            self.on_waiting()
        waiting.came += 1
        if exchange.began < waiting.oldest:
            waiting.oldest = exchange.began
        is_full = len(waiting.packed) == self._most
        waiting.packed.append(packed)
        if not is_full:
            self.held += 1
            if self.held == _MANY_WAITING:
                self.on_waiting()
            elif self.held > _MOST_WAITING:
                self._make_room()

    def _make_room(self) -> None:
        names, first = next(iter(self.waiting.items()))
        first.packed.popleft()
        if not first.packed:
            del self.waiting[names]
        self.held -= 1
        self.lose(1)

    def take(self, names: Names) -> Waiting:
        """Remove waiting requests and return them."""
        waiting = self.waiting.pop(names)
        self.held -= len(waiting.packed)
        return waiting

    def drop(self, names: Names, waiting: Waiting) -> int:
        """Remove some requests, if they still wait; return how many."""
        return len(self.take(names).packed) if self.waiting.get(names) is waiting else 0

    def unattributed(self) -> list[tuple[Names, Waiting]]:
        """Return the requests whose workspace has not been looked up."""
        return [(names, waiting) for names, waiting in self.waiting.items() if waiting.owner is None]

    def lose(self, number: int) -> None:
        """Record the loss of requests that the journal should have had."""
        self.lost += number
        self.lost_at = time.time()


def ignore() -> None:
    """Do nothing about waiting requests, because no writer is running."""


class BatchWriter:
    """Writes the backlog of this process in batches. Its methods raise `StorageUnavailable` when Redis does not answer."""

    def __init__(
        self, backlog: Backlog, traffic: Traffic, store: JournalStore, owners: Owners, *, body_bytes: int, lasts: bool
    ) -> None:
        """Write *body_bytes* of each body; *lasts*: what is written outlives this process."""
        self._backlog = backlog
        self._traffic = traffic
        self._store = store
        self._owners = owners
        self._body_bytes = body_bytes
        self._lasts = lasts
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        # Whether the last write failed: then Redis is pinged first.
        self._doubtful = False
        # Workspace being reset → when its reset counts as dead; and workspace that was reset → the earliest arrival of requests
        # that may be written. `*`: all workspaces. Both on the performance counter.
        self._held: dict[str, float] = {}
        self._begins: dict[str, float] = {}
        backlog.on_waiting = self._noticed

    # -- when -------------------------------------------------------------------------------------------------

    def _noticed(self) -> None:
        is_writing = self._task is not None and not self._task.done()
        if self._backlog.is_long and not is_writing and not self._doubtful:
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
            self._timer.cancel()  # An earlier flush, which this one waited for, may have set it.
            self._timer = None
        wait = self._backlog.waiting if self._lasts else self._backlog.unattributed()
        if wait and self._backlog.on_waiting != ignore:
            self._timer = asyncio.get_running_loop().call_later(again, self._time_came)

    def _is_due(self) -> bool:
        waiting = self._backlog.waiting.values()
        waited_s = time.perf_counter() - min((each.oldest for each in waiting), default=math.inf)
        are_many = sum(each.came for each in waiting) > _MANY_A_SECOND * waited_s
        due = self._lasts and waited_s >= (_WRITE_MANY_S if are_many else _WRITE_FEW_S)
        return due or self._backlog.is_long

    # -- writing ----------------------------------------------------------------------------------------------

    async def flush(self, *, only_if_due: bool = False) -> None:
        """Write the requests that this process has answered; *only_if_due*: only if too many wait, or have waited long
        enough."""
        async with self._writing:
            backlog = self._backlog
            if self._doubtful and backlog.waiting:
                await self._store.ping()
            self._doubtful = True
            await self._look_up()
            if not only_if_due or self._is_due():
                by_owner: dict[str, list[Names]] = {}
                for names, waiting in backlog.waiting.items():
                    if waiting.owner is not None:
                        by_owner.setdefault(waiting.owner, []).append(names)
                if by_owner:
                    await self._store.ping()  # What is being written when Redis goes away is lost.
                for owner, those in by_owner.items():
                    taken = [(names[1], backlog.take(names)) for names in those if names in backlog.waiting]
                    await self._write(owner, taken)
            self._doubtful = False
            self._forget_old_resets()

    async def _look_up(self) -> None:
        """Look up the workspaces of the answered requests, while their resources still exist."""
        unknown = self._backlog.unattributed()
        for start in range(0, len(unknown), _LOOK_UP):
            batch = unknown[start : start + _LOOK_UP]
            try:
                owners = await self._owners.of([names for names, _ in batch])
            except StorageUnavailable:
                raise
            except BaseException:
                self._backlog.lose(sum(self._backlog.drop(*each) for each in batch))
                raise
            for (names, waiting), owner in zip(batch, owners, strict=True):
                if owner:
                    waiting.owner = owner
                else:
                    self._backlog.drop(names, waiting)

    async def _write(self, owner: str, parts: list[tuple[str | None, Waiting]]) -> None:
        """Write requests of a workspace; each part has the token of its caller."""
        requests: list[tuple[str | None, Entry]] = []
        dropped = 0
        begin = self._begin_of(owner)
        for token, waiting in parts:
            those = [(token, each) for each in map(entries.unpack, waiting.packed) if each.began > begin]
            if len(those) == len(waiting.packed):
                dropped += waiting.came - len(those)
            requests += those
            await asyncio.sleep(0)
        # The order of their answers.
        requests.sort(key=lambda each: each[1].began + each[1].took / 1e6)
        since = min((entry.at for _, entry in requests), default=0)
        surplus = max(0, len(requests) - self._store.keeps)
        texts: list[str] = []
        for number, (token, entry) in enumerate(requests[surplus:], 1):
            try:
                mask(entry, token, self._body_bytes)
                texts.append(entries.encode(entry))
            except Exception:
                _log.exception("a request could not be put into the journal")
                self._backlog.lose(1)
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)
        dropped += surplus
        try:
            for part in _parts(texts):
                batches = [part[i : i + _BATCH] for i in range(0, len(part), _BATCH)]
                await self._store.write(owner, since, dropped, [(len(each), entries.join(each)) for each in batches])
                dropped = 0
        except LimitReached:
            return  # A workspace beyond the limit of workspaces has no journal.
        except StorageUnavailable:
            self._backlog.lose(len(texts))  # They may have been written, so writing them again could duplicate them.
            raise

    # -- resets -----------------------------------------------------------------------------------------------

    async def hold(self, workspace: str) -> None:
        """Stop writing requests of a workspace (`*`: of all) until `release` is called for it."""
        self._held[workspace] = time.perf_counter() + _LONGEST_RESET_S
        async with self._writing:
            await self._drop_all_of(workspace)

    async def release(self, workspace: str) -> None:
        """Resume writing requests of a workspace that arrive from now on."""
        self._held.pop(workspace, None)
        self._begins[workspace] = time.perf_counter()
        await self._drop_all_of(workspace)

    async def _drop_all_of(self, workspace: str) -> None:
        # Requests from before the reset would not be written anyway, but the ring would count them as lost.
        with suppress(StorageUnavailable):
            await self._look_up()
        for names, waiting in list(self._backlog.waiting.items()):
            if workspace in (EVERY, waiting.owner):
                self._backlog.drop(names, waiting)

    def _begin_of(self, owner: str) -> float:
        """Return the earliest arrival of requests that may be written, on the performance counter."""
        now = time.perf_counter()
        if any(self._held.get(each, -math.inf) > now for each in (owner, EVERY)):
            return math.inf
        return max(self._begins.get(owner, -math.inf), self._begins.get(EVERY, -math.inf))

    def _forget_old_resets(self) -> None:
        if self._begins:
            answering = self._traffic.oldest()
            waiting = self._backlog.waiting.values()
            self._begins = {
                owner: begin
                for owner, begin in self._begins.items()
                if answering <= begin
                or any(each.oldest <= begin and (owner == EVERY or each.owner in (None, owner)) for each in waiting)
            }

    async def close(self) -> None:
        """Write what is left, for the last time."""
        self._backlog.on_waiting = ignore
        if self._timer is not None:
            self._timer.cancel()
        if self._lasts:
            with suppress(StorageUnavailable, TimeoutError):
                async with asyncio.timeout(_CLOSE_WITHIN_S):
                    await self.flush()


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
