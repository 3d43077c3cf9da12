"""`/_emulator/skills`: skills from local folders. Rules: `skills.*`."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from workyard_store.errors import InvalidRequest
from workyard_store.ids import is_id
from workyard_store.resources.skill_archives import SkillFile, pack, unpack
from workyard_store.resources.skills import SLUG, id_of_name

from ..checks.call import Call
from ..checks.route import ControlRoute
from ..checks.workspace import WorkspaceName, one_workspace
from ..contract.describe import FULL, refusals, success
from ..schemas.skills import Skill, SkillPut, render_skill
from ..wire.responses import JsonResponse

router = APIRouter(prefix="/_emulator", tags=["Skills"], route_class=ControlRoute)

SkillKey = Annotated[
    str,
    Path(
        description="The skill's id, `skill_…`, or its name; the id of a custom skill is derived from workspace and name.",
        examples=["greeting"],
    ),
]


@router.put("/skills/{skill}", responses=success(Skill, "The skill.") | refusals(400, 409, 413, because=FULL))
async def put_skill(skill: SkillKey, body: SkillPut, call: Call, workspace: WorkspaceName = None) -> Response:
    """Upload a skill for workers to download. Changed files create a new version; ten versions are kept."""
    chosen = await one_workspace(call, workspace)
    packed = pack(unpack(_decoded("archive", body.archive)) if body.archive is not None else _files(body))
    if is_id("skill", skill) and body.source == "custom":
        skill_id = skill
    elif not SLUG.fullmatch(skill):
        form = "skill_ followed by letters and digits, or a name" if body.source == "custom" else "a name such as xlsx"
        raise InvalidRequest(f"skill: Must be {form}")
    elif packed.name != skill:
        raise InvalidRequest(
            f"files.SKILL.md: name: The path names {skill}, but SKILL.md names {packed.name}", rule="skills.name"
        )
    else:
        skill_id = skill if body.source == "anthropic" else id_of_name(chosen, skill)
    kept = await call.services.skills.put(
        chosen,
        skill_id,
        name=packed.name,
        display_name=body.display_name or packed.name,
        source=body.source,
        description=packed.description,
        archive=packed.archive,
    )
    return JsonResponse(render_skill(kept))


def _files(body: SkillPut) -> dict[str, SkillFile]:
    files = {}
    for path, file in (body.files or {}).items():
        if isinstance(file, str):
            files[path] = SkillFile(file.encode())
        elif file.encoding == "base64":
            files[path] = SkillFile(_decoded(f"files.{path}.content", file.content), file.executable)
        else:
            files[path] = SkillFile(file.content.encode(), file.executable)
    return files


def _decoded(field: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{field}: Not base64") from None
