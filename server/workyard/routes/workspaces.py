"""`/_emulator/settings`, `reset` and `invariants`: a workspace as a whole. Rules: `control.*`."""

from __future__ import annotations

from enum import Enum
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from workyard_store.workspaces.workspaces import Profile

from ..checks.call import Call
from ..checks.route import ControlRoute
from ..checks.workspace import (
    EVERY,
    NO_WORKSPACE,
    WorkspaceName,
    each_workspace,
    workspace_meant,
    workspace_to_write,
)
from ..contract.describe import FULL, refusals, success
from ..schemas.workspaces import AllSettings, LeaseSettings, Recount, ResetDone, SettingsChange, render_recount
from ..services import Services
from ..wire.responses import JsonResponse

router = APIRouter(prefix="/_emulator", route_class=ControlRoute)

_WORKSPACES: list[str | Enum] = ["Workspaces"]


@router.get(
    "/settings",
    tags=_WORKSPACES,
    responses=success(
        LeaseSettings | AllSettings, "The settings in force; those of all workspaces if the request names none."
    )
    | refusals(),
)
async def get_settings(call: Call, workspace: WorkspaceName = None) -> Response:
    """Read the workspace's settings."""

    async def one(name: str) -> dict[str, Any]:
        return _in_force(call.services, await call.services.workspaces.profile(name))

    return await each_workspace(call.services, await workspace_meant(call, workspace), one)


@router.post(
    "/settings",
    tags=_WORKSPACES,
    responses=success(
        LeaseSettings | AllSettings, "The settings now in force; those of all workspaces for `?workspace=*`."
    )
    | refusals(400, 409, 413, because=FULL | {400: NO_WORKSPACE}),
)
async def change_settings(call: Call, workspace: WorkspaceName = None, body: SettingsChange | None = None) -> Response:
    """Change the workspace's settings for future leases, polls and ids.

    With an `id_seed`, the same calls in the same order give the same ids and tokens in this workspace, also after
    a reset.
    """
    changes = (body or SettingsChange()).changes

    async def one(name: str) -> dict[str, Any]:
        return _in_force(call.services, await call.services.workspaces.change_settings(name, changes))

    return await each_workspace(call.services, workspace_to_write(await workspace_meant(call, workspace)), one)


@router.post(
    "/reset",
    tags=_WORKSPACES,
    responses=success(ResetDone, "Everything was removed.")
    | refusals(400, because={400: "The request names no workspace."}),
)
async def reset(call: Call, workspace: WorkspaceName = None) -> Response:
    """Remove everything in a workspace, including its clock and settings, as if its API key had never been used."""
    chosen = workspace_to_write(await workspace_meant(call, workspace))
    workspaces = call.services.workspaces
    async with call.services.journal.forgotten(chosen):
        removed, tags = 0, set[str]()
        for name in await workspaces.all() if chosen == EVERY else [chosen]:
            count, gone = await call.services.snapshots.clear(name)
            removed, tags = removed + count, tags | gone
        leftovers = await workspaces.count_leftovers(tags)
    return JsonResponse({"removed_keys": removed, "leftover_keys": leftovers})


@router.get(
    "/invariants",
    tags=_WORKSPACES,
    responses=success(Recount, "The result of the check; an empty list means no violation.") | refusals(),
)
async def recount(call: Call, workspace: WorkspaceName = None) -> Response:
    """Recount the queues of a workspace, or of all, from the raw keys, and list violations of their rules. This
    changes nothing.

    An environment is recounted in one step, so work may continue. Of an environment with more than 10 000 items,
    10 000 are checked, and `checked.sampled` counts it. Keys of deleted environments are always searched for.
    """
    chosen = await workspace_meant(call, workspace)
    names = await call.services.workspaces.all() if chosen in ("", EVERY) else [chosen]
    return JsonResponse(render_recount(await call.services.invariants.recount(names)))


def _in_force(services: Services, profile: Profile) -> dict[str, Any]:
    settings = services.settings
    return {
        "default_ttl_seconds": profile.default_ttl_seconds or settings.default_ttl,
        "startup_lease_seconds": profile.startup_lease_seconds or settings.startup_lease,
        "reclaim_ms": profile.reclaim_ms or settings.reclaim_ms,
        "id_seed": None if profile.seed is None else int(profile.seed),
    }
