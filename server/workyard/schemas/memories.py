"""Wire shapes of memory stores and memories. Source: the SDK's types of memory stores."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from workyard_store.clock import format_instant
from workyard_store.resources.memories import LONGEST_PATH_BYTES, MOST_BYTES, MOST_SEGMENTS
from workyard_store.resources.memories import Memory as MemoryRecord
from workyard_store.resources.memories import MemoryStore as MemoryStoreRecord

from .common import Body, Metadata, NextPage, Shape, Timestamp, metadata_patch_schema, optional_instant

View = Literal["basic", "full"]
SHA256 = "^[0-9a-f]{64}$"
_STORE_ID = "^memstore_[0-9A-Za-z]{1,64}$"
_NAME_LENGTHS = {"minLength": 1, "maxLength": 255}
_Name = Annotated[
    str,
    Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$"),
    WithJsonSchema({"type": "string", **_NAME_LENGTHS, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}),
]
_Description = Annotated[str, Field(max_length=1024)]
#: What a pattern can say of it; the store knows all of it.
_Path = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^(?:/[^/]+){{1,{MOST_SEGMENTS}}}$",
            "maxLength": LONGEST_PATH_BYTES,
            "examples": ["/notes/today.md"],
        }
    ),
]
_Patch = Annotated[dict[str, str | None], WithJsonSchema(metadata_patch_schema(None))]


class MemoryStoreCreate(Body):
    """Request to create a memory store."""

    name: _Name = Field(description="Display name; the folder on a worker is named after it.")
    description: _Description | None = Field(None, description="Its purpose.")
    metadata: Metadata | None = Field(None, description="Custom key-value pairs.")
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "User preferences"}]})


class MemoryStoreUpdate(Body):
    """Request to change a memory store; omitted fields stay."""

    name: _Name | None = Field(None, description="New name.")
    description: _Description | None = Field(None, description="New description; an empty string clears it.")
    metadata: _Patch | None = Field(None, description="Patch: a string sets a key, null deletes it.")


class MemoryStore(Shape):
    """A memory store."""

    id: str = Field(description="Identifier, `memstore_…`.", pattern=_STORE_ID)
    type: Literal["memory_store"] = Field(description="Always `memory_store`.")
    name: str = Field(description="Display name.")
    description: str = Field(description="Its purpose.")
    metadata: Metadata = Field(description="Custom key-value pairs.")
    created_at: Timestamp = Field(description="When it was created.")
    updated_at: Timestamp = Field(description="When it was last changed; changes of its memories do not count.")
    archived_at: Timestamp | None = Field(description="When it was archived; null if it is not archived.")


class MemoryStorePage(Shape):
    """A page of memory stores, newest first."""

    data: list[MemoryStore] = Field(description="The rows of this page.")
    next_page: NextPage


class MemoryStoreDeleted(Shape):
    """Confirmation of a deletion."""

    id: str = Field(description="The deleted memory store.")
    type: Literal["memory_store_deleted"] = Field(description="Always `memory_store_deleted`.")


class MemoryCreate(Body):
    """Request to create a memory."""

    path: _Path = Field(description=f"Its path: `/` followed by 1 to {MOST_SEGMENTS} segments.")
    content: str | None = Field(description=f"Its content, at most {MOST_BYTES} bytes; null means empty.")


class Precondition(Body):
    """A condition for a change."""

    type: Literal["content_sha256"] = Field(description="The type of condition; the only one.")
    content_sha256: Annotated[str, Field(pattern=SHA256)] = Field(description="SHA-256 of the stored content.")


class MemoryUpdate(Body):
    """Request to change a memory; omitted fields stay."""

    content: str | None = Field(None, description="New text.")
    path: _Path | None = Field(None, description="New path.")
    precondition: Precondition | None = Field(None, description="Change it only if its content still has this digest.")


class Memory(Shape):
    """A memory: text stored under a path."""

    id: str = Field(description="Identifier, `mem_…`.", pattern="^mem_")
    type: Literal["memory"] = Field(description="Always `memory`.")
    memory_store_id: str = Field(description="The store that contains it.")
    memory_version_id: str = Field(description="Changes with every change of the memory. Old versions are not stored.")
    path: str = Field(description="Its path in the store.")
    content: str | None = Field(description="Its content; null with `view=basic`.")
    content_sha256: Annotated[str, Field(pattern=SHA256)] = Field(description="SHA-256 of the content.")
    content_size_bytes: Annotated[int, Field(ge=0)] = Field(description="Size of the content.")
    created_at: Timestamp = Field(description="When it was created.")
    updated_at: Timestamp = Field(description="When it was last changed.")


class MemoryPrefix(Shape):
    """A folder, in place of its memories that are deeper than `depth`."""

    type: Literal["memory_prefix"] = Field(description="Always `memory_prefix`.")
    path: str = Field(description="The folder, ending in `/`.")


class MemoryPage(Shape):
    """A page of memories, sorted by path."""

    data: list[Annotated[Memory | MemoryPrefix, Field(discriminator="type")]] = Field(
        description="The rows of this page."
    )
    next_page: NextPage


class MemoryDeleted(Shape):
    """Confirmation of a deletion."""

    id: str = Field(description="The deleted memory.")
    type: Literal["memory_deleted"] = Field(description="Always `memory_deleted`.")


def render_memory_store(store: MemoryStoreRecord) -> dict[str, Any]:
    """Render a memory store."""
    return {
        "id": store.id,
        "type": "memory_store",
        "name": store.name,
        "description": store.description,
        "metadata": store.metadata,
        "created_at": format_instant(store.created_at),
        "updated_at": format_instant(store.updated_at),
        "archived_at": optional_instant(store.archived_at),
    }


def render_memory(memory: MemoryRecord | str, *, full: bool) -> dict[str, Any]:
    """Render a memory, with its content or without, or the folder that stands for several."""
    if isinstance(memory, str):
        return {"type": "memory_prefix", "path": memory}
    return {
        "id": memory.id,
        "type": "memory",
        "memory_store_id": memory.store_id,
        "memory_version_id": memory.version_id,
        "path": memory.path,
        "content": memory.content if full else None,
        "content_sha256": memory.sha256,
        "content_size_bytes": memory.size,
        "created_at": format_instant(memory.created_at),
        "updated_at": format_instant(memory.updated_at),
    }
