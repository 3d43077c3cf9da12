"""The journal of a workspace: a ring of the last requests, as texts. Owns their numbers; what a text says is the server's.

Entries are numbered from 1 in the order they were written, which is that of their answers within one server process. A
number is never used again until a reset. They are stored in batches, as they were written: one entry of a stream each,
whose id is the number of its last. So what a request costs Redis hardly depends on the journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from .access import SCRIPTS, Access
from .engine.engine import Script
from .workspaces.workspaces import WorkspaceStore

_WRITE = Script("journal_write", SCRIPTS / "journal_write.lua")
_READ = Script("journal_read", SCRIPTS / "journal_read.lua")
_CLEAR = Script("journal_clear", SCRIPTS / "journal_clear.lua")
#: Batches that one script reads: few enough not to hold Redis up.
_READ_BATCHES = 20


@dataclass(frozen=True, slots=True)
class Extent:
    """What a journal holds.

    Attributes:
        first: number of the oldest entry that is kept, `last` that of the newest; `last` is below `first` if there is none.
        dropped: how many it has lost to newer ones since the reset, or since it was cleared.
        since: when the first of all its requests came, or it was cleared, wall time in microseconds; None: nothing was ever
            written.
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
        self._key = access.keys.workspace
        self._wall = access.wall
        self._workspaces = workspaces
        self.keeps = keeps

    async def ping(self) -> None:
        """Ask Redis for a sign of life."""
        await self._engine.ping()

    async def write(self, workspace: str, since: int, dropped: int, batches: Iterable[tuple[int, str]]) -> None:
        """Add batches of entries behind the last, each told by how many it has and their text, in one step. *since*: when the
        first of them came, wall time in microseconds; *dropped*: how many came before these and are not written, because
        the batches now written hold as many as are kept."""
        arguments = [argument for batch in batches for argument in batch]
        await self._workspaces.write(_WRITE, workspace, since, self.keeps, dropped, *arguments)

    async def read(self, workspace: str, first: int) -> AsyncIterator[tuple[Extent, list[Batch]]]:
        """Yield what the journal holds and the batches with entries from number *first* on, oldest first, some at a time.

        The first batch may begin with entries in front of *first*, or in front of what is kept; the caller leaves those out.
        """
        while True:
            total, gone, cleared, since, *found = await self._engine.run(
                _READ, self._key(workspace), first, _READ_BATCHES
            )
            oldest = max(total - self.keeps, gone, cleared) + 1
            if first <= oldest <= total:
                # With another setting fewer may have been kept.
                oldest = max(oldest, found[0][0] - found[0][1] + 1) if found else total + 1
            extent = Extent(oldest, total, oldest - 1 - cleared, int(since) if since else None)
            yield extent, [Batch(last - count + 1, count, text) for last, count, text in found]
            if len(found) < _READ_BATCHES:
                return
            first = found[-1][0] + 1

    async def clear(self, workspace: str) -> int:
        """Remove all entries; return how many."""
        removed: int = await self._engine.run(_CLEAR, self._key(workspace), self._wall(), self.keeps)
        return removed
