"""The journal: every server process writes it (`backlog.py`) and can read it. Owns the questions that processes ask each
other for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from workyard_store.engine.peers import Peers
from workyard_store.journal import Extent, JournalStore

from ..wire.traffic import Traffic
from . import entry as entries
from .attribution import Owners
from .backlog import EVERY, Backlog, BatchWriter
from .entry import Entry

#: Seconds to wait for an answer of every process; only a process in trouble takes this long.
_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of a read.

    Attributes:
        entries: the requests, in the order they came.
        extent: the extent of the journal.
        complete: whether every server process has confirmed that it wrote all answered requests, and none has lost any
            since the journal began.
        keeps: whether there is a journal at all.
    """

    entries: list[Entry]
    extent: Extent
    complete: bool
    keeps: bool


class Journal:
    """The journal, as this process writes and reads it. Its methods raise `StorageUnavailable` when Redis does not answer.

    Attributes:
        backlog: the requests of this process that wait to be written.
    """

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
        """Write the requests of *traffic*, with *body_bytes* of each body; *lasts*: what is written outlives this process."""
        self._store = store
        self._owners = owners
        self._peers = peers
        self.backlog = Backlog(store.keeps)
        self._writer = BatchWriter(self.backlog, traffic, store, owners, body_bytes=body_bytes, lasts=lasts)
        if store.keeps:
            traffic.on_end.append(self.backlog.add)
        peers.on("flush", self._flushed)
        peers.on("forget", self._forget)
        peers.on("remember", self._remember)

    async def close(self) -> None:
        """Write what is left, for the last time."""
        await self._writer.close()

    # -- what other processes ask -----------------------------------------------------------------------------

    async def _flushed(self, argument: str) -> str:
        await self._writer.flush()
        return str(int(self.backlog.lost_at * 1e6))

    async def _forget(self, workspace: str) -> str:
        await self._writer.hold(workspace)
        return "ok"

    async def _remember(self, workspace: str) -> str:
        await self._writer.release(workspace)
        self._owners.forget(None if workspace == EVERY else workspace)
        return "ok"

    # -- reading ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def forgotten(self, workspace: str) -> AsyncIterator[None]:
        """During the reset of a workspace (`*`: all), keep every process from writing its requests, and afterwards from writing
        earlier ones."""
        if not self._store.keeps:
            yield
            return
        await self._peers.ask("forget", workspace, within_s=_PATIENCE_S)
        try:
            yield
        finally:
            await self._peers.ask("remember", workspace, within_s=_PATIENCE_S)

    async def gather(self) -> int | None:
        """Have all processes write their answered requests. Return when one last lost a request, wall time in microseconds, 0
        for never; None if not all processes have replied."""
        answers = await self._peers.ask("flush", within_s=_PATIENCE_S)
        return max(map(int, answers.words.values()), default=0) if answers.complete else None

    async def read(self, workspace: str, gathered: int | None, *, first: int = 1, bodies: bool = False) -> Reading:
        """Return a workspace's requests from number *first* on; *gathered*: an earlier result of `gather`."""
        found: list[Entry] = []
        extent = Extent(1, 0, 0, None)
        async for now, batches in self._store.read(workspace, first):
            extent = now
            for batch in batches:
                found += entries.decode(batch.first, batch.text, bodies=bodies)
                await asyncio.sleep(0)
        first = max(first, extent.first)
        found = [entry for entry in found if entry.number >= first]
        found.sort(key=lambda entry: (entry.at, entry.number))
        complete = gathered is not None and gathered <= (extent.since or 0)
        return Reading(found, extent, complete and self._store.keeps > 0, self._store.keeps > 0)

    async def clear(self, workspace: str) -> int:
        """Remove all requests answered until now from a workspace's journal; return how many there were."""
        return await self._store.clear(workspace)
