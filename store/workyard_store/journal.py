"""The journal of a workspace: a ring of the last requests, as texts. Owns their numbers; the server owns the texts.

Entries are numbered from 1 in the order they were written, which within one server process is the order of their
answers. A number is not reused before a reset. Entries are stored in the batches they were written in. A batch is one
stream entry, and its id is the number of its last journal entry. So the journal adds little to a request's cost in Redis.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from .access import Access
from .lua.journal import JournalClear, JournalRead, JournalWrite, WrittenBatch
from .workspaces.workspaces import WorkspaceStore

#: Batches that one script reads: few enough not to block Redis.
_READ_BATCHES = 20


@dataclass(frozen=True, slots=True)
class Extent:
    """What a journal holds.

    Attributes:
        first: number of the oldest entry that is kept; `last`: that of the newest, below `first` if the journal is empty.
        dropped: how many entries newer ones have displaced since the reset, or since the journal was cleared.
        since: arrival of its very first request, or the time it was cleared, wall time in microseconds; None: nothing was
            ever written.
    """

    first: int
    last: int
    dropped: int
    since: int | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that were written together: the number of the first, how many there are, their texts as one."""

    first: int
    count: int
    text: str


class JournalStore:
    """The journals of all workspaces of one Redis. Every method raises `StorageUnavailable` when Redis does not answer.

    Attributes:
        keeps: how many entries of each workspace are kept, the last ones; 0: there is no journal.
    """

    def __init__(self, access: Access, workspaces: WorkspaceStore, keeps: int) -> None:
        """Keep the last *keeps* entries of each workspace."""
        self._engine = access.engine
        self._workspaces = workspaces
        self.keeps = keeps

    async def ping(self) -> None:
        """Ask Redis for a sign of life."""
        await self._engine.ping()

    async def write(self, workspace: str, since: int, dropped: int, batches: Iterable[tuple[int, str]]) -> None:
        """Append batches of entries, each given as its number of entries and their text, in one step. *since*: arrival of
        the first of them, wall time in microseconds; *dropped*: how many earlier entries are not written, because the
        batches now written already fill the journal."""
        written = [WrittenBatch(count, text) for count, text in batches]
        call = JournalWrite(since=since, keeps=self.keeps, dropped=dropped, batches=written)
        await self._workspaces.write(call, workspace)

    async def read(self, workspace: str, first: int) -> AsyncIterator[tuple[Extent, list[Batch]]]:
        """Yield what the journal holds and the batches with entries from number *first* on, oldest first, some at a time.

        The first batch may begin with entries before *first*, or before the oldest kept one; the caller skips those.
        """
        while True:
            part = await self._workspaces.run(JournalRead(first=first, count=_READ_BATCHES), workspace)
            total, cleared, found = part.total, part.cleared, part.batches
            oldest = max(total - self.keeps, part.gone, cleared) + 1
            if first <= oldest <= total:
                # With another setting fewer may have been kept.
                oldest = max(oldest, found[0].last - found[0].entries + 1) if found else total + 1
            extent = Extent(oldest, total, oldest - 1 - cleared, part.since)
            yield extent, [Batch(last - count + 1, count, text) for last, count, text in found]
            if len(found) < _READ_BATCHES:
                return
            first = found[-1].last + 1

    async def clear(self, workspace: str) -> int:
        """Remove all entries; return how many."""
        return await self._workspaces.run(JournalClear(keeps=self.keeps), workspace)
