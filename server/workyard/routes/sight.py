"""`/_emulator`: what happened to work, and what it waits for. Source: issue D, 3; docs/sight.md."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import PlainTextResponse, Response

from ..dependencies import Call, ControlRoute
from ..documentation import refusals, success
from ..drawing import draw
from ..responses import JsonResponse
from ..schemas.sight import WorkTimeline, render_timeline
from .control import EVERY, WorkspaceName, workspace_meant
from .work import WorkId

router = APIRouter(prefix="/_emulator", route_class=ControlRoute)

_SIGHT: list[str | Enum] = ["Sight"]
_AS_TEXT = {"text/plain": "The life line, drawn for people."}


async def _workspaces(call: Call, workspace: str | None) -> list[str]:
    """Return the workspaces that a call means; all if it names none."""
    meant = await workspace_meant(call, workspace)
    return await call.services.workspaces.all() if meant in ("", EVERY) else [meant]


@router.get(
    "/work/{work_id}/timeline",
    tags=_SIGHT,
    responses=success(WorkTimeline, "The life of the item so far.", _AS_TEXT)
    | refusals(400, 404, because={404: "No such work item in the workspace, or in the environment named."}),
)
async def get_timeline(
    work_id: WorkId,
    call: Call,
    workspace: WorkspaceName = None,
    environment_id: Annotated[
        str | None, Query(description="Its environment; left out: the one of the workspace that has the item.")
    ] = None,
    format: Annotated[Literal["json", "text"], Query(description="`text` draws it, in at most 120 columns.")] = "json",
) -> Response:
    """Read the life of a work item: every event, who caused it, and what it means."""
    timelines = call.services.timelines
    if environment_id is None:
        environment_id = await timelines.environment_of(work_id, await _workspaces(call, workspace))
    timeline = await timelines.of(environment_id, work_id)
    if format == "text":
        return PlainTextResponse(draw(timeline))
    return JsonResponse(render_timeline(timeline))
