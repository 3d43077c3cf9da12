"""`/_emulator`: the control plane. Source: contract §6.

A path that names an environment acts in its workspace. Otherwise `?workspace=`, else the token, says which; with
neither, a read covers all and a write is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from workyard_store.access import DEFAULT_WORKSPACE, workspace_of_api_key
from workyard_store.clock import parse_instant
from workyard_store.configs import checked_metadata
from workyard_store.errors import InvalidRequest
from workyard_store.workspaces import Profile

from .. import __version__
from ..dependencies import CallerDep, ControlRoute, Services, ServicesDep
from ..documentation import refusals, success
from ..responses import JsonResponse
from ..schemas.control import (
    AllSettings,
    Clock,
    ClockChange,
    Clocks,
    Enqueue,
    Enqueued,
    Health,
    IssuedKey,
    KeyCreate,
    KeyRevoked,
    Keys,
    LeaseSettings,
    ResetDone,
    SettingsChange,
    render_clock,
    render_key,
)
from ..schemas.work import render_work
from .environments import EnvironmentId

router = APIRouter(prefix="/_emulator", tags=["Control plane"], route_class=ControlRoute)

EVERY = "*"
_PUBLIC_ID = "wrkspc_"


async def _named_workspace(
    services: ServicesDep,
    caller: CallerDep,
    workspace: Annotated[
        str | None,
        Query(description="An API key, the public id of a workspace, `default`, or `*` for all; wins over the token."),
    ] = None,
) -> str:
    """Return the workspace a call means; `EVERY` for all, an empty string if it names none."""
    if workspace is None or not workspace.strip():
        return "" if caller.token is None else await services.access.workspace(caller)
    if workspace in (EVERY, DEFAULT_WORKSPACE) or workspace.startswith(_PUBLIC_ID):
        return workspace
    return workspace_of_api_key(workspace)


WorkspaceDep = Annotated[str, Depends(_named_workspace)]


def _to_write(workspace: str) -> str:
    if not workspace:
        raise InvalidRequest(
            "workspace: Say which workspace: by x-api-key or a bearer token, by ?workspace=, or ?workspace=* for all"
        )
    return workspace


async def _each(services: Services, workspace: str, one: Callable[[str], Awaitable[dict[str, Any]]]) -> Response:
    """Answer for one workspace, or with a row for each of all."""
    if workspace not in ("", EVERY):
        return JsonResponse(await one(workspace))
    rows = [{"workspace": each, **await one(each)} for each in await services.workspaces.all()]
    return JsonResponse({"data": rows})


@router.get("/health", responses=success(Health, "Server and Redis answer.") | refusals())
async def health(services: ServicesDep) -> Response:
    """Tell whether the server can work: 503 while Redis is unreachable."""
    await services.engine.ping()
    return JsonResponse({"status": "ok", "engine": services.engine.name, "version": __version__})


@router.post("/environments/{environment_id}/work", responses=success(Enqueued, "The items.") | refusals(400, 404, 413))
async def enqueue_work(environment_id: EnvironmentId, services: ServicesDep, body: Enqueue | None = None) -> Response:
    """Enqueue work, in batches of 500: a crash may leave a prefix. An existing session's item gets a message instead."""
    wanted = body or Enqueue()
    items = await services.queue.enqueue(
        environment_id,
        count=wanted.count,
        session_id=wanted.session_id,
        metadata=checked_metadata(wanted.metadata or {}),
        idempotency_key=wanted.idempotency_key,
    )
    return JsonResponse({"data": [render_work(item) for item in items]})


@router.post(
    "/environments/{environment_id}/keys", responses=success(IssuedKey, "The new key.") | refusals(400, 404, 413)
)
async def issue_key(environment_id: EnvironmentId, services: ServicesDep, body: KeyCreate | None = None) -> Response:
    """Issue an environment key. Its value is shown here and nowhere else."""
    key = await services.credentials.issue(environment_id, (body or KeyCreate()).name)
    shown = render_key(key)
    del shown["revoked_at"]
    return JsonResponse({**shown, "key": key.value})


@router.get("/environments/{environment_id}/keys", responses=success(Keys, "All keys.") | refusals(404))
async def list_keys(environment_id: EnvironmentId, services: ServicesDep) -> Response:
    """List an environment's keys, without their values."""
    return JsonResponse({"data": [render_key(key) for key in await services.credentials.list(environment_id)]})


@router.delete(
    "/environments/{environment_id}/keys/{key_id}", responses=success(KeyRevoked, "It is revoked.") | refusals(404)
)
async def revoke_key(
    environment_id: EnvironmentId,
    key_id: Annotated[str, Path(description="The key's id, `envkey_…`.")],
    services: ServicesDep,
) -> Response:
    """Revoke an environment key; a repeat changes nothing."""
    await services.credentials.revoke(environment_id, key_id)
    return JsonResponse({"id": key_id, "type": "environment_key_revoked"})


@router.get("/clock", responses=success(Clock | Clocks, "The workspace's clock, or all clocks.") | refusals())
async def get_clock(services: ServicesDep, workspace: WorkspaceDep) -> Response:
    """Read the workspace's clock."""

    async def one(name: str) -> dict[str, Any]:
        return render_clock(await services.workspaces.clock(name))

    return await _each(services, workspace, one)


@router.post("/clock", responses=success(Clock | Clocks, "The clock after the change.") | refusals(400, 413))
async def change_clock(body: ClockChange, services: ServicesDep, workspace: WorkspaceDep) -> Response:
    """Freeze, advance or release the workspace's clock. Every request that starts after the answer sees the change."""
    value: int | None
    if body.advance_seconds is not None:
        change, value = "advance", round(body.advance_seconds * 1_000_000)
    else:
        change = str(body.mode)
        value = None if body.at is None else parse_instant(body.at)

    async def one(name: str) -> dict[str, Any]:
        return render_clock(await services.workspaces.change_clock(name, change, value))

    return await _each(services, _to_write(workspace), one)


@router.get("/settings", responses=success(LeaseSettings | AllSettings, "The settings in force.") | refusals())
async def get_settings(services: ServicesDep, workspace: WorkspaceDep) -> Response:
    """Read the workspace's lease settings."""

    async def one(name: str) -> dict[str, Any]:
        return _in_force(services, await services.workspaces.profile(name))

    return await _each(services, workspace, one)


@router.post(
    "/settings", responses=success(LeaseSettings | AllSettings, "The settings now in force.") | refusals(400, 413)
)
async def change_settings(
    services: ServicesDep, workspace: WorkspaceDep, body: SettingsChange | None = None
) -> Response:
    """Change the workspace's lease settings, for leases and polls from now on."""
    given = (body or SettingsChange()).model_dump(exclude_unset=True)
    names = {"default_ttl_seconds": "ttl", "startup_lease_seconds": "startup", "reclaim_ms": "reclaim"}
    changes = {names[name]: value for name, value in given.items()}

    async def one(name: str) -> dict[str, Any]:
        return _in_force(services, await services.workspaces.change_settings(name, changes))

    return await _each(services, _to_write(workspace), one)


@router.post("/reset", responses=success(ResetDone, "All of it is gone.") | refusals(400))
async def reset(services: ServicesDep, workspace: WorkspaceDep) -> Response:
    """Remove everything of a workspace, its clock and settings too: as if its API key had never been used."""
    chosen = _to_write(workspace)
    workspaces = services.workspaces
    names = await workspaces.all() if chosen == EVERY else [chosen]
    removed, tags = 0, set(names)
    for name in names:
        ids = await workspaces.environments(name)
        tags.update(ids)
        counts = await asyncio.gather(*[services.queue.remove_environment(id_, workspace=name) for id_ in ids])
        removed += sum(counts) + await workspaces.forget(name)
    return JsonResponse({"removed_keys": removed, "leftover_keys": await workspaces.count_leftovers(tags)})


def _in_force(services: Services, profile: Profile) -> dict[str, Any]:
    settings = services.settings
    return {
        "default_ttl_seconds": profile.default_ttl_seconds or settings.default_ttl,
        "startup_lease_seconds": profile.startup_lease_seconds or settings.startup_lease,
        "reclaim_ms": profile.reclaim_ms or settings.reclaim_ms,
    }
