"""`/v1/environments`. Rules: `environments.*`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from workyard_store.errors import EnvironmentIsArchived
from workyard_store.workspaces import configs
from workyard_store.workspaces.environments import Environment as EnvironmentRecord

from ..checks.call import Call
from ..checks.parameters import AS_QUERY_INTEGER, QueryBoolean
from ..checks.route import PublicRoute
from ..contract.describe import FULL, link, refusals, success
from ..schemas.common import DEFAULT_LIMIT, MOST_PER_PAGE, render_page
from ..schemas.environments import (
    Environment,
    EnvironmentCreate,
    EnvironmentDeleted,
    EnvironmentPage,
    EnvironmentUpdate,
    render_environment,
)
from ..wire.responses import JsonResponse

router = APIRouter(prefix="/v1/environments", tags=["Environments"], route_class=PublicRoute)

_NO_ENVIRONMENT = {404: "No such environment for this caller."}
EnvironmentId = Annotated[
    str, Path(description="The environment's id, `env_…`.", examples=["env_011CZkZ9X2dpNyB7HsEFoRfW"])
]
Limit = Annotated[int, Field(ge=1, le=MOST_PER_PAGE), AS_QUERY_INTEGER, Query(description="Maximum number of rows.")]
Page = Annotated[
    str | None,
    Query(
        description="Cursor: `next_page` of the previous page. A cursor is valid only in the list that returned it. "
        "Default: start with the newest."
    ),
]


@router.post("", responses=success(Environment, "The new environment.") | refusals(400, 401, 409, 413, because=FULL))
async def create_environment(body: EnvironmentCreate, call: Call) -> Response:
    """Create an environment in the caller's workspace; by default a cloud environment with an unrestricted network."""
    config = configs.merged(None, None if body.config is None else body.config.model_dump())
    scope = body.scope or "organization"
    configs.check(config, scope)
    environment = await call.services.environments.create(
        await call.services.access.workspace(call.caller),
        name=body.name,
        description=body.description or "",
        config=config,
        metadata=call.checked_metadata(body.metadata or {}),
        scope=scope,
    )
    call.api_call.environment_id = environment.id
    return JsonResponse(render_environment(environment))


@router.get(
    "",
    responses=success(
        EnvironmentPage,
        "A page of environments, newest first.",
        next_page=link("Go on while `next_page` is not null.", "list_environments", page="next_page"),
    )
    | refusals(400, 401),
)
async def list_environments(
    call: Call,
    limit: Limit = DEFAULT_LIMIT,
    page: Page = None,
    include_archived: Annotated[QueryBoolean, Query(description="Whether to include archived ones.")] = False,
) -> Response:
    """List the environments of the caller's workspace, newest first."""
    rows, next_page = await call.services.environments.list(
        await call.services.access.workspace(call.caller), limit=limit, page=page, include_archived=include_archived
    )
    return JsonResponse(render_page([render_environment(row) for row in rows], next_page))


@router.get(
    "/{environment_id}",
    responses=success(Environment, "The environment.") | refusals(401, 404, because=_NO_ENVIRONMENT),
)
async def get_environment(environment_id: EnvironmentId, call: Call) -> Response:
    """Read an environment, archived or not."""
    return JsonResponse(render_environment(await call.services.environments.get(environment_id, call.caller)))


@router.post(
    "/{environment_id}",
    responses=success(Environment, "The changed environment.")
    | refusals(
        400,
        401,
        404,
        413,
        because=_NO_ENVIRONMENT
        | {400: "The request or its result breaks a rule, the type would change, or the environment is archived."},
    ),
)
async def update_environment(
    environment_id: EnvironmentId, call: Call, body: EnvironmentUpdate | None = None
) -> Response:
    """Change an environment; omitted fields stay. The result must satisfy the rules of a new environment."""
    patch = body or EnvironmentUpdate()
    changed = await call.services.environments.update(
        environment_id, call.caller, lambda stored: _changed(call, stored, patch)
    )
    return JsonResponse(render_environment(changed))


@router.delete(
    "/{environment_id}",
    responses=success(EnvironmentDeleted, "It was deleted.")
    | refusals(
        400,
        401,
        404,
        409,
        because=_NO_ENVIRONMENT | {409: "Work is queued or sessions are active, and `force` was not given."},
    ),
)
async def delete_environment(
    environment_id: EnvironmentId,
    call: Call,
    force: Annotated[
        QueryBoolean, Query(description="Delete even if work is queued or sessions are active, and delete them too.")
    ] = False,
) -> Response:
    """Delete an environment and everything that belongs to it: its work, whatever its state, its sessions and its
    keys.
    """
    environment = await call.services.environments.get(environment_id, call.caller)
    await call.services.queue.delete_environment(
        environment_id, call.caller, force=force, workspace=environment.workspace
    )
    return JsonResponse({"id": environment_id, "type": "environment_deleted"})


@router.post(
    "/{environment_id}/archive",
    responses=success(Environment, "The archived environment.") | refusals(401, 404, because=_NO_ENVIRONMENT),
)
async def archive_environment(environment_id: EnvironmentId, call: Call) -> Response:
    """Archive an environment: it accepts no new work, but queued and running work continues. A repeat changes
    nothing.
    """
    return JsonResponse(render_environment(await call.services.environments.archive(environment_id, call.caller)))


def _changed(call: Call, stored: EnvironmentRecord, patch: EnvironmentUpdate) -> EnvironmentRecord:
    """Return the record after an update: archived, type change, rules on the result, in this order."""
    if stored.archived_at is not None:
        raise EnvironmentIsArchived(f"Environment {stored.id} is archived and cannot be updated.")
    config = configs.merged(stored.config, None if patch.config is None else patch.config.model_dump())
    scope = patch.scope or stored.scope
    configs.check(config, scope)
    metadata = dict(stored.metadata)
    for key, value in (patch.metadata or {}).items():
        if value:
            metadata[key] = value
        else:
            metadata.pop(key, None)
    return replace(
        stored,
        name=patch.name or stored.name,
        description=(patch.description or "") if "description" in patch.model_fields_set else stored.description,
        config=config,
        metadata=call.checked_metadata(metadata),
        scope=scope,
    )
