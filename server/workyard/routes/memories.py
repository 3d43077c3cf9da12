"""`/v1/memory_stores` and their memories, as far as workers and those who set them up need them. Rules: `memory.*`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from workyard_queue.sessions.records import merged_metadata
from workyard_store.resources.memories import LONGEST_PATH_BYTES
from workyard_store.resources.memories import MemoryStore as MemoryStoreRecord

from ..checks.call import Call
from ..checks.parameters import AS_QUERY_INTEGER, QueryBoolean
from ..checks.route import PublicRoute
from ..contract.describe import FULL, link, refusals, success
from ..schemas.common import DEFAULT_LIMIT, render_page
from ..schemas.memories import (
    SHA256,
    Memory,
    MemoryCreate,
    MemoryDeleted,
    MemoryPage,
    MemoryStore,
    MemoryStoreCreate,
    MemoryStoreDeleted,
    MemoryStorePage,
    MemoryStoreUpdate,
    MemoryUpdate,
    View,
    render_memory,
    render_memory_store,
)
from ..wire.responses import JsonResponse
from .environments import Page
from .sessions import Since, Until

router = APIRouter(prefix="/v1/memory_stores", tags=["Memory"], route_class=PublicRoute)

#: A page with contents has no more rows than this.
MOST_FULL_ROWS = 20
_NO_STORE = {404: "No such memory store for this caller."}
_NO_MEMORY = {404: "No such memory store for this caller, or no such memory in it."}
_ARCHIVED = {400: "The request breaks a rule, or the store is archived."}
_TAKEN = "Another memory is at the path, above it, or below it"
_TOO_LARGE = {413: "The body, the content, or that of the whole store exceeds its limit."}
_OF_STORE = {
    name: link(text, operation, memory_store_id="id")
    for name, operation, text in (
        ("read", "get_memory_store", "Read it."),
        ("change", "update_memory_store", "Rename it."),
        ("fill", "create_memory", "Create a memory in it."),
        ("list", "list_memories", "List its memories."),
        ("archive", "archive_memory_store", "Make it read-only."),
        ("delete", "delete_memory_store", "Remove it."),
    )
}
_OF_MEMORY = {
    name: link(text, operation, path="memory_store_id", memory_id="id")
    for name, operation, text in (
        ("read", "get_memory", "Read it."),
        ("change", "update_memory", "Change it."),
        ("delete", "delete_memory", "Remove it."),
    )
}
StoreId = Annotated[
    str, Path(description="The store's id, `memstore_…`.", examples=["memstore_011CZkZ9X2dpNyB7HsEFoRfW"])
]
MemoryId = Annotated[str, Path(description="The memory's id, `mem_…`.", examples=["mem_011CZkZ9X2dpNyB7HsEFoRfW"])]
Limit = Annotated[int, Field(ge=1, le=100), AS_QUERY_INTEGER, Query(description="Maximum number of rows.")]
_VIEW = Query(description="`full`: with the content.")


@router.post(
    "",
    responses=success(MemoryStore, "The new memory store.", **_OF_STORE) | refusals(400, 401, 409, 413, because=FULL),
)
async def create_memory_store(body: MemoryStoreCreate, call: Call) -> Response:
    """Create a memory store in the caller's workspace."""
    store = await call.services.memories.create(
        await call.workspace_of_worker(),
        name=body.name,
        description=body.description or "",
        metadata=call.checked_metadata(body.metadata or {}),
    )
    return JsonResponse(render_memory_store(store))


@router.get(
    "",
    responses=success(
        MemoryStorePage,
        "A page of memory stores, newest first.",
        next_page=link("Go on while `next_page` is not null.", "list_memory_stores", page="next_page"),
    )
    | refusals(400, 401),
)
async def list_memory_stores(
    call: Call,
    limit: Limit = DEFAULT_LIMIT,
    page: Page = None,
    include_archived: Annotated[QueryBoolean, Query(description="Whether to include archived ones.")] = False,
    since: Since = None,
    until: Until = None,
) -> Response:
    """List the memory stores of the caller's workspace, newest first."""
    rows, next_page = await call.services.memories.stores(
        await call.workspace_of_worker(),
        limit=limit,
        page=page,
        include_archived=include_archived,
        created=(since, until),
    )
    return JsonResponse(render_page([render_memory_store(row) for row in rows], next_page))


@router.get("/{memory_store_id}", responses=success(MemoryStore, "The store.") | refusals(401, 404, because=_NO_STORE))
async def get_memory_store(memory_store_id: StoreId, call: Call) -> Response:
    """Read a memory store, archived or not."""
    workspace = await call.workspace_of_worker()
    return JsonResponse(render_memory_store(await call.services.memories.get(workspace, memory_store_id)))


@router.post(
    "/{memory_store_id}",
    responses=success(MemoryStore, "The changed store.") | refusals(400, 401, 404, 413, because=_NO_STORE | _ARCHIVED),
)
async def update_memory_store(memory_store_id: StoreId, call: Call, body: MemoryStoreUpdate | None = None) -> Response:
    """Change a memory store; omitted fields stay. Sessions that use it keep its old name and description."""
    patch = body or MemoryStoreUpdate()

    def changed(stored: MemoryStoreRecord) -> tuple[str, str, dict[str, str]]:
        description = stored.description if patch.description is None else patch.description
        metadata = call.checked_metadata(merged_metadata(stored.metadata, patch.metadata or {}))
        return patch.name or stored.name, description, metadata

    workspace = await call.workspace_of_worker()
    return JsonResponse(render_memory_store(await call.services.memories.update(workspace, memory_store_id, changed)))


@router.delete(
    "/{memory_store_id}",
    responses=success(MemoryStoreDeleted, "It was deleted.") | refusals(401, 404, because=_NO_STORE),
)
async def delete_memory_store(memory_store_id: StoreId, call: Call) -> Response:
    """Delete a memory store with all its memories."""
    await call.services.memories.delete(await call.workspace_of_worker(), memory_store_id)
    return JsonResponse({"id": memory_store_id, "type": "memory_store_deleted"})


@router.post(
    "/{memory_store_id}/archive",
    responses=success(MemoryStore, "The archived store.") | refusals(401, 404, because=_NO_STORE),
)
async def archive_memory_store(memory_store_id: StoreId, call: Call) -> Response:
    """Archive a memory store: it can still be read, and its memories deleted. A repeat changes nothing."""
    workspace = await call.workspace_of_worker()
    return JsonResponse(render_memory_store(await call.services.memories.archive(workspace, memory_store_id)))


@router.post(
    "/{memory_store_id}/memories",
    responses=success(Memory, "The new memory.", **_OF_MEMORY)
    | refusals(400, 401, 404, 409, 413, because=_NO_STORE | _ARCHIVED | _TOO_LARGE | {409: f"{_TAKEN}."}),
)
async def create_memory(
    memory_store_id: StoreId, body: MemoryCreate, call: Call, view: Annotated[View, _VIEW] = "basic"
) -> Response:
    """Create a memory at a free path."""
    memory = await call.services.memories.write(
        await call.workspace_of_worker(),
        memory_store_id,
        path=body.path,
        content=body.content or "",
    )
    return JsonResponse(render_memory(memory, full=view == "full"))


@router.get(
    "/{memory_store_id}/memories",
    responses=success(
        MemoryPage,
        "A page of memories, sorted by path.",
        next_page=link(
            "Go on while `next_page` is not null.", "list_memories", path="memory_store_id", page="next_page"
        ),
    )
    | refusals(400, 401, 404, because=_NO_STORE),
)
async def list_memories(
    memory_store_id: StoreId,
    call: Call,
    limit: Limit = DEFAULT_LIMIT,
    page: Page = None,
    path_prefix: Annotated[
        Annotated[str, Field(pattern=r"^/([\s\S]*/)?$", max_length=LONGEST_PATH_BYTES)],
        Query(description="Only memories below this folder; must end in `/`."),
    ] = "/",
    depth: Annotated[
        int,
        Field(ge=0),
        AS_QUERY_INTEGER,
        Query(
            description="Number of segments below the prefix; deeper memories are rolled up into their folder. 0: all."
        ),
    ] = 0,
    view: Annotated[View, Query(description="`full`: with the content, at most 20 rows.")] = "basic",
) -> Response:
    """List the memories of a store, sorted by path."""
    full = view == "full"
    rows, next_page = await call.services.memories.memories(
        await call.workspace_of_worker(),
        memory_store_id,
        limit=min(limit, MOST_FULL_ROWS) if full else limit,
        page=page,
        prefix=path_prefix,
        depth=depth,
        full=full,
    )
    return JsonResponse(render_page([render_memory(row, full=full) for row in rows], next_page))


@router.get(
    "/{memory_store_id}/memories/{memory_id}",
    responses=success(Memory, "The memory.") | refusals(400, 401, 404, because=_NO_MEMORY),
)
async def get_memory(
    memory_store_id: StoreId, memory_id: MemoryId, call: Call, view: Annotated[View, _VIEW] = "full"
) -> Response:
    """Read a memory."""
    workspace = await call.workspace_of_worker()
    full = view == "full"
    memory = await call.services.memories.read(workspace, memory_store_id, memory_id, full=full)
    return JsonResponse(render_memory(memory, full=full))


@router.post(
    "/{memory_store_id}/memories/{memory_id}",
    responses=success(Memory, "The memory after the change.")
    | refusals(
        400,
        401,
        404,
        409,
        413,
        because=_NO_MEMORY
        | _ARCHIVED
        | _TOO_LARGE
        | {409: f"{_TAKEN}; or the content does not have the expected digest."},
    ),
)
async def update_memory(
    memory_store_id: StoreId,
    memory_id: MemoryId,
    call: Call,
    body: MemoryUpdate | None = None,
    view: Annotated[View, _VIEW] = "basic",
) -> Response:
    """Change the content or the path of a memory; omitted fields stay."""
    patch = body or MemoryUpdate()
    memory = await call.services.memories.write(
        await call.workspace_of_worker(),
        memory_store_id,
        memory_id=memory_id,
        path=patch.path,
        content=patch.content,
        expected_sha256=None if patch.precondition is None else patch.precondition.content_sha256,
    )
    return JsonResponse(render_memory(memory, full=view == "full"))


@router.delete(
    "/{memory_store_id}/memories/{memory_id}",
    responses=success(MemoryDeleted, "It was deleted.")
    | refusals(400, 401, 404, 409, because=_NO_MEMORY | {409: "The content does not have the expected digest."}),
)
async def delete_memory(
    memory_store_id: StoreId,
    memory_id: MemoryId,
    call: Call,
    expected_content_sha256: Annotated[
        Annotated[str, Field(pattern=SHA256)] | None,
        Query(description="Delete it only if its content still has this digest."),
    ] = None,
) -> Response:
    """Delete a memory. Its versions are not kept."""
    workspace = await call.workspace_of_worker()
    await call.services.memories.remove(workspace, memory_store_id, memory_id, expected_content_sha256)
    return JsonResponse({"id": memory_id, "type": "memory_deleted"})
