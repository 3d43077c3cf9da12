"""`/_emulator/state`: all that a workspace holds, as one document. Source: docs/state.md."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from workyard_store.errors import BodyTooLarge

from ..checks.call import Call
from ..checks.route import ControlRoute
from ..checks.workspace import WorkspaceName, one_workspace
from ..contract.describe import refusals, success
from ..state.answers import STATE_BODY, StateRestored, WorkspaceDocument
from ..state.document import render_state
from ..state.file import restore
from ..state.rules import checked_state
from ..state.stored import stored_of
from ..wire.responses import JsonResponse

router = APIRouter(prefix="/_emulator", tags=["State"], route_class=ControlRoute)

#: Most bytes of a document that is restored.
MOST_STATE_BYTES = 67_108_864


@router.get(
    "/state",
    responses=success(WorkspaceDocument, "The document.")
    | refusals(
        400,
        409,
        because={
            400: "The request names no workspace.",
            409: "An environment is too large for one step, and changes faster than it can be read in parts.",
        },
    ),
)
async def export_state(call: Call, workspace: WorkspaceName = None) -> Response:
    """Export everything in a workspace except its journal of requests; this changes nothing.

    Each environment is captured at one instant, whatever else happens at the same time. If the clock has ended a
    lease and no call has noticed it, the lease is exported as it is stored.
    """
    meant = await one_workspace(call, workspace)
    stored = await call.services.snapshots.read(meant)
    # In a thread: a large one takes seconds, in which workers must have their heartbeats answered.
    return await asyncio.to_thread(lambda: JsonResponse(render_state(meant, stored)))


@router.put(
    "/state",
    openapi_extra=STATE_BODY,
    responses=success(StateRestored, "It was restored.")
    | refusals(
        400,
        409,
        413,
        because={
            400: "The request names no workspace, or the body is not a valid document of this version; the message "
            "names each path. Nothing was changed.",
            409: "An environment belongs to another workspace, or another restore of this workspace is in "
            "progress: nothing was changed. Or the workspace was reset during the restore.",
            413: "The body exceeds 64 MiB.",
        },
    ),
)
async def restore_state(call: Call, workspace: WorkspaceName = None) -> Response:
    """Replace everything in a workspace by a document, with the same ids.

    The whole document is checked before anything is changed. After a crash in the middle some environments may be
    missing, but none is incomplete; a repeat or a reset repairs this.
    """
    meant = await one_workspace(call, workspace)
    try:
        await call.load(required=True, most_bytes=MOST_STATE_BYTES)
    except BodyTooLarge as error:
        error.rule = "state.bound"
        raise
    value: dict[str, Any] = await call.json()
    stored = await asyncio.to_thread(lambda: stored_of(checked_state(value)))
    counts = {
        "environments": len(stored.environments),
        "work": sum(len(each.work) for each in stored.environments),
        "sessions": sum(len(each.sessions) for each in stored.environments),
    }
    async with call.services.journal.forgotten(meant):
        await restore(call.services, meant, stored)
    return JsonResponse(counts)
