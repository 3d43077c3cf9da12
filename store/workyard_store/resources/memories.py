"""Memory stores: small texts at paths, read and written back by workers. Source: the SDK's types of memory
stores and its `lib/tools/_memories.py`.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..access import Access
from ..engine.lua import Refused, Word
from ..errors import (
    InvalidRequest,
    MemoryNotFound,
    MemoryPathTaken,
    MemoryPreconditionFailed,
    MemoryStoreIsArchived,
    MemoryStoreNotFound,
    StorageUnavailable,
    TooLarge,
)
from ..ids import is_id
from ..lua.heads import NO_STORE, Archived, Full, MemoryCall, MemoryHead
from ..lua.resources import (
    Changed,
    MemoryChanged,
    MemoryDelete,
    MemoryFull,
    MemoryPut,
    MemoryRead,
    MemoryStoreDelete,
    MemoryStorePut,
    MemoryTaken,
    NoMemory,
    StoredMemory,
    StoredRecord,
)
from ..pages import decode_text_cursor, encode_text_cursor, page_of
from ..seeds import Fresh, fresh
from ..workspaces.workspaces import WorkspaceStore

T = TypeVar("T")

MOST_STORES = 100
MOST_MEMORIES = 2000
MOST_BYTES = 102_400
MOST_STORE_BYTES = 10_485_760
LONGEST_PATH_BYTES = 1024
MOST_SEGMENTS = 20
#: How often a change of a store is retried after a concurrent change. Each time the other change has succeeded.
_MOST_TRIES = 1000
#: Control and format characters, line and paragraph separators.
_NOT_IN_PATHS = ("Cc", "Cf", "Zl", "Zp")


@dataclass(frozen=True, slots=True)
class MemoryStore:
    """One memory store. Instants are microseconds."""

    id: str
    sequence: int
    name: str
    description: str
    metadata: dict[str, str]
    created_at: int
    updated_at: int
    archived_at: int | None

    @classmethod
    def of(cls, store_id: str, record: str) -> MemoryStore:
        """Read a record as `memory_store_put.lua` writes it."""
        sequence, created, updated, archived, rest = record.split(" ", 4)
        return cls(
            id=store_id,
            sequence=int(sequence),
            created_at=int(created),
            updated_at=int(updated),
            archived_at=None if archived == "-" else int(archived),
            **json.loads(rest),
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory, `content` None where it was not read. Instants are microseconds."""

    id: str
    store_id: str
    path: str
    version_id: str
    sha256: str
    size: int
    created_at: int
    updated_at: int
    content: str | None

    @classmethod
    def of(cls, memory_id: str, record: str, content: str | None) -> Memory:
        """Read a record as `memory_put.lua` writes it."""
        store, created, updated, version, sha256, size, path = record.split(" ", 6)
        return cls(memory_id, store, path, version, sha256, int(size), int(created), int(updated), content)


def path_problem(path: str) -> str | None:
    """Return why *path* is not a valid path of a memory, or None."""
    segments = path.split("/")[1:]
    if not path.startswith("/"):
        return "Must start with /"
    if any(segment in ("", ".", "..") for segment in segments):
        return "A segment must not be empty, . or .."
    if len(segments) > MOST_SEGMENTS:
        return f"At most {MOST_SEGMENTS} segments"
    if len(path.encode("utf-8", "replace")) > LONGEST_PATH_BYTES:
        return f"At most {LONGEST_PATH_BYTES} bytes"
    if any(unicodedata.category(character) in _NOT_IN_PATHS for character in path):
        return "Control and format characters and line separators are not allowed"
    if not unicodedata.is_normalized("NFC", path):
        return "Must be in Unicode Normalization Form C"
    return None


class MemoryStores:
    """The memory stores of all workspaces. Every method except `create` and `stores` raises `MemoryStoreNotFound`."""

    def __init__(self, access: Access, workspaces: WorkspaceStore) -> None:
        self._engine = access.engine
        self._workspaces = workspaces

    # -- stores -----------------------------------------------------------------------------------------------

    async def create(self, workspace: str, *, name: str, description: str, metadata: dict[str, str]) -> MemoryStore:
        """Create a memory store.

        Raises:
            InvalidRequest: the workspace has `MOST_STORES`.
        """
        store_id = ""
        text = _dump(name, description, metadata)

        async def create(new: Fresh) -> StoredRecord | Word[Full] | Word[Changed]:
            nonlocal store_id
            store_id = new.id("memstore")
            call = MemoryStorePut(expected="", content=text, archive=False, most=MOST_STORES, seeded=new.seeded)
            return await self._workspaces.write(call, workspace, MemoryHead(store_id=store_id))

        reply = await fresh(workspace, create)
        if reply.word != "OK":
            raise InvalidRequest(f"A workspace has at most {MOST_STORES} memory stores", rule="memory.store.bounds")
        return MemoryStore.of(store_id, reply.record)

    async def get(self, workspace: str, store_id: str) -> MemoryStore:
        """Return a memory store."""
        return MemoryStore.of(store_id, await self._record(workspace, store_id))

    async def stores(
        self,
        workspace: str,
        *,
        limit: int,
        page: str | None,
        include_archived: bool,
        created: tuple[int | None, int | None] = (None, None),
    ) -> tuple[list[MemoryStore], str | None]:
        """Return a page of memory stores, newest first, and the cursor of the next, if there is one.

        Args:
            workspace: whose.
            limit: most rows.
            page: the cursor, None for the first page.
            include_archived: whether archived ones are among them.
            created: the earliest and latest instant of creation, in microseconds, None for any.
        """
        fields = await self._engine.command("HGETALL", self._engine.keys.workspace(workspace, "stores"))
        since, until = created
        found = sorted((MemoryStore.of(id_, text) for id_, text in fields.items()), key=lambda each: -each.sequence)
        rows = [
            each
            for each in found
            if (include_archived or each.archived_at is None)
            and (since is None or each.created_at >= since)
            and (until is None or each.created_at <= until)
        ]
        return page_of(f"memory_stores {workspace}", rows, lambda each: each.sequence, limit=limit, page=page)

    async def update(
        self,
        workspace: str,
        store_id: str,
        change: Callable[[MemoryStore], tuple[str, str, dict[str, str]]],
    ) -> MemoryStore:
        """Apply *change* to name, description and metadata. It is called again after a concurrent change.

        Raises:
            MemoryStoreIsArchived: it is archived.
            InvalidRequest: *change* refuses the update.
        """

        def text(store: MemoryStore) -> str:
            if store.archived_at is not None:
                raise MemoryStoreIsArchived(store_id)
            return _dump(*change(store))

        return await self._change(workspace, store_id, text, archive=False)

    async def archive(self, workspace: str, store_id: str) -> MemoryStore:
        """Archive a memory store; a repeat changes nothing."""
        store = await self.get(workspace, store_id)
        if store.archived_at is not None:
            return store
        return await self._change(
            workspace,
            store_id,
            lambda stored: _dump(stored.name, stored.description, stored.metadata),
            archive=True,
        )

    async def delete(self, workspace: str, store_id: str) -> None:
        """Remove a memory store with all its memories."""
        await self._run(MemoryStoreDelete(), workspace, store_id)

    async def _change(
        self, workspace: str, store_id: str, text: Callable[[MemoryStore], str], *, archive: bool
    ) -> MemoryStore:
        for _ in range(_MOST_TRIES):
            record = await self._record(workspace, store_id)
            said = text(MemoryStore.of(store_id, record))
            # Only a new store has an id that may follow from a seed.
            call = MemoryStorePut(expected=record, content=said, archive=archive, most=MOST_STORES, seeded=False)
            reply = await self._run(call, workspace, store_id)
            if reply.word == "OK":
                return MemoryStore.of(store_id, reply.record)
        raise StorageUnavailable

    async def _record(self, workspace: str, store_id: str) -> str:
        record = None
        if is_id("memstore", store_id):
            record = await self._engine.command("HGET", self._engine.keys.workspace(workspace, "stores"), store_id)
        if record is None:
            raise MemoryStoreNotFound(store_id)
        return str(record)

    # -- memories ---------------------------------------------------------------------------------------------

    async def write(
        self,
        workspace: str,
        store_id: str,
        *,
        memory_id: str | None = None,
        path: str | None = None,
        content: str | None = None,
        expected_sha256: str | None = None,
    ) -> Memory:
        """Create a memory (*memory_id* None: with path and content), or change content or path of one.

        Raises:
            InvalidRequest: the path has no proper form, or the store has `MOST_MEMORIES`.
            TooLarge: the content, or that of the whole store, would exceed its limit.
            MemoryNotFound: no such memory in this store.
            MemoryStoreIsArchived: it is archived.
            MemoryPathTaken: by another memory, or a folder of others.
            MemoryPreconditionFailed: the stored content is not the expected one.
        """
        if path is not None and (problem := path_problem(path)) is not None:
            raise InvalidRequest(f"path: {problem}")
        data = (content or "").encode()
        if len(data) > MOST_BYTES:
            raise TooLarge(
                f"content: {len(data)} bytes exceed the limit of {MOST_BYTES} for a memory", rule="memory.bounds"
            )
        if memory_id is not None and not is_id("mem", memory_id):
            raise MemoryNotFound(memory_id)
        chosen = memory_id or ""

        async def put(
            new: Fresh,
        ) -> StoredMemory | Word[NoMemory] | Word[Archived] | MemoryChanged | MemoryTaken | MemoryFull:
            nonlocal chosen
            chosen = memory_id or new.id("mem")
            call = MemoryPut(
                memory_id=chosen,
                action="create" if memory_id is None else "update",
                path=path or "",
                content_sha="" if content is None else hashlib.sha256(data).hexdigest(),
                content=content or "",
                size=len(data),
                version_id=new.id("memver"),
                expected=expected_sha256 or "",
                most_memories=MOST_MEMORIES,
                most_bytes=MOST_STORE_BYTES,
                seeded=new.seeded,
            )
            return await self._run(call, workspace, store_id)

        reply = await fresh(workspace, put)
        if isinstance(reply, MemoryTaken):
            raise MemoryPathTaken(path or "", reply.memory_id, reply.path)
        if isinstance(reply, MemoryFull):
            if reply.of == "count":
                raise InvalidRequest(f"path: A memory store has at most {MOST_MEMORIES} memories", rule="memory.bounds")
            raise TooLarge(
                f"content: A memory store has at most {MOST_STORE_BYTES} bytes of content", rule="memory.bounds"
            )
        if reply.word == "ARCHIVED":
            raise MemoryStoreIsArchived(store_id)
        if reply.word != "OK":
            raise _refusal(reply, chosen, expected_sha256)
        return Memory.of(chosen, reply.record, reply.content)

    async def read(self, workspace: str, store_id: str, memory_id: str, *, full: bool) -> Memory:
        """Return a memory.

        Raises:
            MemoryNotFound: no such memory in this store.
        """
        found = await self._read(workspace, store_id, [memory_id] if is_id("mem", memory_id) else [], full=full)
        if not found:
            raise MemoryNotFound(memory_id)
        return found[0]

    async def remove(self, workspace: str, store_id: str, memory_id: str, expected_sha256: str | None) -> None:
        """Remove a memory.

        Raises:
            MemoryNotFound: no such memory in this store.
            MemoryPreconditionFailed: the stored content is not the expected one.
        """
        if not is_id("mem", memory_id):
            await self._record(workspace, store_id)
            raise MemoryNotFound(memory_id)
        call = MemoryDelete(memory_id=memory_id, expected=expected_sha256 or "")
        reply = await self._run(call, workspace, store_id)
        if reply.word != "OK":
            raise _refusal(reply, memory_id, expected_sha256)

    async def memories(
        self, workspace: str, store_id: str, *, limit: int, page: str | None, prefix: str, depth: int, full: bool
    ) -> tuple[list[Memory | str], str | None]:
        """Return a page of what is below *prefix* (`/` or `/…/`), sorted by path, and the cursor of the next page.

        Memories more than *depth* segments below it (0: none are too deep) are rolled up into their folder, which is a
        string that ends in `/`.
        """
        await self._record(workspace, store_id)
        list_name = f"memories {workspace} {store_id} {prefix} {depth}"
        behind = "" if page is None else decode_text_cursor(list_name, page)
        key = self._engine.keys.workspace(workspace, "memory_paths")
        first = f"[{store_id} {prefix}"
        members = await self._engine.command("ZRANGE", key, first, f"({store_id} {prefix[:-1]}0", "BYLEX")
        rows: dict[str, str | None] = {}
        for member in members:
            path, _, memory_id = member.partition(" ")[2].partition("\n")
            below = path[len(prefix) :].split("/")
            if depth and len(below) > depth:
                path, memory_id = prefix + "/".join(below[:depth]) + "/", None
            if path > behind:
                rows[path] = memory_id
                if len(rows) > limit:
                    break
        chosen = list(rows.items())[:limit]
        more = encode_text_cursor(list_name, chosen[-1][0]) if len(rows) > limit else None
        ids = [memory_id for _, memory_id in chosen if memory_id is not None]
        found = {each.id: each for each in await self._read(workspace, store_id, ids, full=full)}
        listed = [path if memory_id is None else found.get(memory_id) for path, memory_id in chosen]
        return [each for each in listed if each is not None], more

    async def _read(self, workspace: str, store_id: str, ids: Sequence[str], *, full: bool) -> list[Memory]:
        reply = await self._run(MemoryRead(full=full, memory_ids=list(ids)), workspace, store_id)
        return [Memory.of(row.memory_id, row.record, row.content if full else None) for row in reply.rows]

    async def _run(self, call: MemoryCall[T], workspace: str, store_id: str) -> T:
        if not is_id("memstore", store_id):
            raise MemoryStoreNotFound(store_id)
        try:
            return await self._workspaces.run(call, workspace, MemoryHead(store_id=store_id))
        except Refused as refused:
            if refused.word == NO_STORE:
                raise MemoryStoreNotFound(store_id) from None
            raise


def _refusal(
    reply: Word[NoMemory] | MemoryChanged, memory_id: str, expected: str | None
) -> MemoryNotFound | MemoryPreconditionFailed:
    if reply.word == "MEMORY":
        return MemoryNotFound(memory_id)
    return MemoryPreconditionFailed(memory_id, expected or "", reply.sha)


def _dump(name: str, description: str, metadata: dict[str, str]) -> str:
    value = {"name": name, "description": description, "metadata": metadata}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
