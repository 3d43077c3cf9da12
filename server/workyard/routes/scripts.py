"""`/_emulator/…script…`: what the agents of sessions do. Source: docs/agent-scripts.md."""

from __future__ import annotations

import asyncio
import json
from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from workyard_queue.agent import Script, parse_script
from workyard_queue.sessions.records import ChosenScript
from workyard_queue.sessions.scripts import NAME, as_text, report_of, restarted
from workyard_store.access import TRUSTED

from ..checks.call import Call
from ..checks.route import ControlRoute
from ..checks.workspace import WorkspaceName, one_workspace
from ..contract.describe import FULL, link, refusals, success
from ..schemas.scripts import SCRIPT_BODY, NamedScript, NamedScriptList, ScriptDeleted, SessionScript
from ..wire.responses import JsonResponse
from .sessions import SessionId

router = APIRouter(prefix="/_emulator", route_class=ControlRoute)

_TAGS: list[str | Enum] = ["Scripts"]
#: Media types of what is JSON or YAML.
TEXT_TYPES = (
    "application/json",
    "application/yaml",
    "application/x-yaml",
    "text/yaml",
    "text/plain",
)
_NO_SESSION = {404: "No such session."}
_BAD = {400: "The script is invalid; the message names each step and field."}
_NO_SCRIPT = {404: "The workspace has no script with this name."}
ScriptName = Annotated[
    str,
    Path(
        description="The script's name; `default` applies to sessions that name no script.",
        pattern=f"^{NAME}$",
        examples=["default"],
    ),
]


@router.get(
    "/sessions/{session_id}/script",
    tags=_TAGS,
    responses=success(SessionScript, "The script and its progress.") | refusals(404, because=_NO_SESSION),
)
async def get_session_script(session_id: SessionId, call: Call) -> Response:
    """Read a session's script and its report: the progress, and the deviations from the script."""
    return await _answer(call, session_id)


@router.put(
    "/sessions/{session_id}/script",
    tags=_TAGS,
    openapi_extra=SCRIPT_BODY,
    responses=success(
        SessionScript,
        "The script, which has not started.",
        read=link("See its progress.", "get_session_script", session_id="session_id"),
    )
    | refusals(
        400,
        404,
        409,
        413,
        because=_NO_SESSION
        | {400: f"{_BAD[400]} Or the session is terminated.", 409: "The session is in the middle of a turn."},
    ),
)
async def put_session_script(session_id: SessionId, call: Call) -> Response:
    """Set a session's script. It starts from its beginning with the next message."""
    chosen = ChosenScript(as_text(await _read(call)), "session")
    await call.services.sessions.set_script(session_id, TRUSTED, chosen, restarted)
    return await _answer(call, session_id)


@router.get(
    "/scripts",
    tags=_TAGS,
    responses=success(NamedScriptList, "The scripts, by name.")
    | refusals(400, because={400: "The request names no workspace."}),
)
async def list_scripts(call: Call, workspace: WorkspaceName = None) -> Response:
    """List the scripts of a workspace."""
    found = await call.services.scripts.all(await one_workspace(call, workspace))
    return JsonResponse({"data": [_named(name, script) for name, script in found.items()]})


@router.get(
    "/scripts/{name}",
    tags=_TAGS,
    responses=success(NamedScript, "The script.")
    | refusals(400, 404, because=_NO_SCRIPT | {400: "The request names no workspace, or the name is not valid."}),
)
async def get_script(name: ScriptName, call: Call, workspace: WorkspaceName = None) -> Response:
    """Read a script of a workspace."""
    meant = await one_workspace(call, workspace)
    return JsonResponse(_named(name, await call.services.scripts.get(meant, name)))


@router.put(
    "/scripts/{name}",
    tags=_TAGS,
    openapi_extra=SCRIPT_BODY,
    responses=success(
        NamedScript,
        "The script.",
        read=link("Read it.", "get_script", name="name"),
        remove=link("Remove it.", "delete_script", name="name"),
    )
    | refusals(400, 409, 413, because=_BAD | FULL),
)
async def put_script(name: ScriptName, call: Call, workspace: WorkspaceName = None) -> Response:
    """Store a script under a name, replacing any script with that name.

    `default` applies to all sessions that name no script; any other applies to sessions whose metadata has its
    name as `workyard_script`. A session keeps the script with which it started.
    """
    meant = await one_workspace(call, workspace)
    script = await _read(call)
    await call.services.scripts.put(meant, name, script)
    return JsonResponse(_named(name, script))


@router.delete(
    "/scripts/{name}",
    tags=_TAGS,
    responses=success(ScriptDeleted, "It was deleted.")
    | refusals(400, 404, because=_NO_SCRIPT | {400: "The request names no workspace, or the name is not valid."}),
)
async def delete_script(name: ScriptName, call: Call, workspace: WorkspaceName = None) -> Response:
    """Delete a script of a workspace; sessions that use it keep it."""
    await call.services.scripts.delete(await one_workspace(call, workspace), name)
    return JsonResponse({"name": name, "type": "script_deleted"})


async def _read(call: Call) -> Script:
    # In a thread: a long script in YAML takes seconds, in which workers must have their heartbeats answered.
    return await asyncio.to_thread(parse_script, await call.text(*TEXT_TYPES))


async def _answer(call: Call, session_id: str) -> Response:
    session = await call.services.sessions.get(session_id, TRUSTED)
    chosen = session.script or await call.services.scripts.default(session.workspace)
    archived = session.archived_at is not None
    script, report = report_of(chosen.text, session.agent_state, held_since_us=session.held_since, archived=archived)
    return JsonResponse(
        {
            "session_id": session.id,
            "source": chosen.source,
            "script": _plain(script),
            "report": report.model_dump(mode="json"),
        }
    )


def _named(name: str, script: Script) -> dict[str, Any]:
    return {"name": name, "script": _plain(script)}


def _plain(script: Script) -> dict[str, Any]:
    """Return a script as it was written; what equals its default is left out of steps."""
    shown = {"repeat": script.repeat, "result_limit_seconds": script.result_limit_seconds}
    return {**json.loads(as_text(script)), **shown}
