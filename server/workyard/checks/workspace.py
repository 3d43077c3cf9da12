"""The workspace of a call to the control plane. Rules: `control.workspace.*`.

A path that names an environment acts in its workspace. Otherwise `?workspace=` decides, or else the token; with neither,
a read covers all workspaces and a write is refused.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from workyard_store.access import DEFAULT_WORKSPACE, workspace_of_api_key
from workyard_store.errors import InvalidRequest

from ..services import Services
from ..wire.responses import JsonResponse
from .call import Call

#: Every workspace, as `?workspace=` names them.
EVERY = "*"
#: Description of status 400 in the OpenAPI document.
NO_WORKSPACE = "The request breaks a rule, or names no workspace; the message says which."
_PUBLIC_ID = re.compile(r"wrkspc_[0-9A-Za-z]{1,64}")

WorkspaceName = Annotated[
    str | None,
    Query(
        description="An API key, the public id of a workspace, `default` (calls without a credential), or `*` for "
        "all; wins over the token."
    ),
]


async def workspace_meant(call: Call, workspace: str | None) -> str:
    """Return the workspace a call means; `EVERY` for all, an empty string if it names none."""
    if workspace is None or not workspace.strip():
        return "" if call.caller.token is None else await call.services.access.workspace(call.caller)
    if workspace in (EVERY, DEFAULT_WORKSPACE) or _PUBLIC_ID.fullmatch(workspace):
        return workspace
    return workspace_of_api_key(workspace)


def workspace_to_write(workspace: str) -> str:
    """Return the result of `workspace_meant` for a call that writes.

    Raises:
        InvalidRequest: the call names no workspace.
    """
    if not workspace:
        raise InvalidRequest(
            "workspace: Name the workspace: with x-api-key or a bearer token, with ?workspace=, or with "
            "?workspace=* for all",
            rule="control.workspace.write",
        )
    return workspace


async def one_workspace(call: Call, workspace: str | None) -> str:
    """Return the workspace that a call means.

    Raises:
        InvalidRequest: it names none, or all.
    """
    meant = await workspace_meant(call, workspace)
    if meant in ("", EVERY):
        raise InvalidRequest(
            "workspace: Name one workspace: with x-api-key or a bearer token, or with ?workspace=",
            rule="control.workspace.one",
        )
    return meant


async def each_workspace(
    services: Services, workspace: str, one: Callable[[str], Awaitable[dict[str, Any]]]
) -> Response:
    """Answer for one workspace, or with one row for each workspace."""
    if workspace not in ("", EVERY):
        return JsonResponse(await one(workspace))
    rows = [{"workspace": each, **await one(each)} for each in await services.workspaces.all()]
    return JsonResponse({"data": rows})
