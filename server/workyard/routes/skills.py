"""`/v1/skills`: what workers and users read of skills. The control plane seeds them. Rules: `skills.*`."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from ..checks.call import Call
from ..checks.route import PublicRoute
from ..contract.describe import download, link, refusals, success
from ..schemas.common import DEFAULT_LIMIT, render_page
from ..schemas.skills import (
    Skill,
    SkillDeleted,
    SkillPage,
    SkillVersion,
    SkillVersionPage,
    render_skill,
    render_skill_version,
)
from ..wire.responses import JsonResponse
from .environments import Limit, Page

router = APIRouter(prefix="/v1/skills", tags=["Skills"], route_class=PublicRoute)

_NO_SKILL = {404: "No such skill for this caller."}
_NO_VERSION = {404: "No such skill for this caller, or no such version of it."}
SkillId = Annotated[
    str, Path(description="The skill's id, `skill_…` or a name.", examples=["skill_011CZkZ9X2dpNyB7HsEFoRfW"])
]


@router.get(
    "",
    responses=success(
        SkillPage,
        "A page of skills, newest first.",
        next_page=link("Go on while `next_page` is not null.", "list_skills", page="next_page"),
    )
    | refusals(400, 401),
)
async def list_skills(
    call: Call,
    limit: Limit = DEFAULT_LIMIT,
    page: Page = None,
    source: Annotated[Literal["custom", "anthropic"] | None, Query(description="Only skills of this source.")] = None,
) -> Response:
    """List the skills of the caller's workspace, newest first."""
    workspace = await call.workspace_of_worker()
    rows, next_page = await call.services.skills.skills(workspace, limit=limit, page=page, source=source)
    return JsonResponse(render_page([render_skill(row) for row in rows], next_page))


@router.get(
    "/{skill_id}",
    responses=success(
        Skill,
        "The skill.",
        newest=link("Read its newest version.", "get_skill_version", path="skill_id", version="latest_version_id"),
        files=link("Download it.", "download_skill_version", path="skill_id", version="latest_version_id"),
    )
    | refusals(401, 404, because=_NO_SKILL),
)
async def get_skill(skill_id: SkillId, call: Call) -> Response:
    """Read a skill."""
    workspace = await call.workspace_of_worker()
    return JsonResponse(render_skill(await call.services.skills.get(workspace, skill_id)))


@router.delete(
    "/{skill_id}", responses=success(SkillDeleted, "It was deleted.") | refusals(401, 404, because=_NO_SKILL)
)
async def delete_skill(skill_id: SkillId, call: Call) -> Response:
    """Delete a skill with all its versions."""
    await call.services.skills.delete(await call.workspace_of_worker(), skill_id)
    return JsonResponse({"id": skill_id, "type": "skill_deleted"})


@router.get(
    "/{skill_id}/versions",
    responses=success(
        SkillVersionPage,
        "A page of versions, newest first.",
        next_page=link(
            "Go on while `next_page` is not null.", "list_skill_versions", path="skill_id", page="next_page"
        ),
    )
    | refusals(400, 401, 404, because=_NO_SKILL),
)
async def list_skill_versions(
    skill_id: SkillId, call: Call, limit: Limit = DEFAULT_LIMIT, page: Page = None
) -> Response:
    """List the stored versions of a skill, newest first."""
    workspace = await call.workspace_of_worker()
    rows, next_page = await call.services.skills.versions(workspace, skill_id, limit=limit, page=page)
    return JsonResponse(render_page([render_skill_version(row) for row in rows], next_page))


@router.get(
    "/{skill_id}/versions/{version}",
    responses=success(SkillVersion, "The version.") | refusals(401, 404, because=_NO_VERSION),
)
async def get_skill_version(
    skill_id: SkillId,
    version: Annotated[str, Path(description="The version's id, or `latest`.", examples=["latest"])],
    call: Call,
) -> Response:
    """Read a version of a skill; `latest` is its newest."""
    workspace = await call.workspace_of_worker()
    return JsonResponse(render_skill_version(await call.services.skills.version(workspace, skill_id, version)))


@router.get(
    "/{skill_id}/versions/{version}/content",
    responses=download("application/zip", "The files, in a folder named after the skill.")
    | refusals(401, 404, because=_NO_VERSION),
    response_class=Response,
)
async def download_skill_version(
    skill_id: SkillId,
    version: Annotated[
        str, Path(description="The version's id; `latest` is not accepted.", examples=["1789532849962294"])
    ],
    call: Call,
) -> Response:
    """Download the files of a version as a zip archive."""
    workspace = await call.workspace_of_worker()
    skill, archive = await call.services.skills.archive(workspace, skill_id, version)
    disposition = f'attachment; filename="{skill.name}.zip"'
    return Response(archive, media_type="application/zip", headers={"content-disposition": disposition})
