"""`/_emulator`: the control plane. Rules: `control.*`.

A path that names an environment acts in its workspace. Otherwise `?workspace=`, else the token, says which; with
neither, a read covers all and a write is refused.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from workyard_store.access import DEFAULT_WORKSPACE, workspace_of_api_key
from workyard_store.clock import parse_instant
from workyard_store.errors import InvalidRequest
from workyard_store.workspaces.workspaces import Profile

from .. import __version__
from ..checks.route import Call, ControlRoute, Services
from ..contract.describe import FULL, link, refusals, success
from ..schemas.clock import (
    MOST_PENDING,
    ClockAhead,
    ClockChange,
    ClockMoved,
    Clocks,
    ClocksMoved,
    render_clock,
    render_clock_ahead,
    render_clock_moved,
)
from ..schemas.control import (
    AllSettings,
    Enqueue,
    Enqueued,
    Health,
    IssuedKey,
    KeyCreate,
    KeyRevoked,
    Keys,
    LeaseSettings,
    Recount,
    ResetDone,
    SettingsChange,
    render_key,
    render_recount,
)
from ..schemas.work import render_work
from ..wire.responses import JsonResponse
from .environments import EnvironmentId

router = APIRouter(prefix="/_emulator", route_class=ControlRoute)

EVERY = "*"
_PUBLIC_ID = re.compile(r"wrkspc_[0-9A-Za-z]{1,64}")
_SERVER: list[str | Enum] = ["Server"]
_QUEUES: list[str | Enum] = ["Queues"]
_CLOCK: list[str | Enum] = ["Clock"]
_WORKSPACES: list[str | Enum] = ["Workspaces"]
_NO_ENVIRONMENT = {404: "No such environment."}
_NO_WORKSPACE = "The request breaks a rule, or names no workspace; the message says which."


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
    if not workspace:
        raise InvalidRequest(
            "workspace: Say which workspace: by x-api-key or a bearer token, by ?workspace=, or ?workspace=* for all",
            rule="control.workspace.write",
        )
    return workspace


async def one_workspace(call: Call, workspace: str | None) -> str:
    """Return the workspace that a call means.

    Raises:
        InvalidRequest: it means none, or all.
    """
    meant = await workspace_meant(call, workspace)
    if meant in ("", EVERY):
        raise InvalidRequest(
            "workspace: Say which one: by x-api-key or a bearer token, or by ?workspace=", rule="control.workspace.one"
        )
    return meant


async def _each(services: Services, workspace: str, one: Callable[[str], Awaitable[dict[str, Any]]]) -> Response:
    """Answer for one workspace, or with a row for each of all."""
    if workspace not in ("", EVERY):
        return JsonResponse(await one(workspace))
    rows = [{"workspace": each, **await one(each)} for each in await services.workspaces.all()]
    return JsonResponse({"data": rows})


@router.get("/health", tags=_SERVER, responses=success(Health, "Server and Redis answer.") | refusals())
async def health(call: Call) -> Response:
    """Tell whether the server can work: 503 while Redis is unreachable."""
    services = call.services
    await services.engine.ping()
    fixtures = services.fixtures
    return JsonResponse(
        {
            "status": "ok",
            "engine": services.engine.name,
            "version": __version__,
            "in_flight": len(services.traffic.in_flight),
            "polls_waiting": services.long_poll.blocked,
            "leniencies": {} if fixtures is None else dict(sorted(fixtures.counts.items())),
        }
    )


@router.post(
    "/environments/{environment_id}/work",
    tags=_QUEUES,
    responses=success(Enqueued, "The items, in the order of the queue.")
    | refusals(
        400,
        404,
        409,
        413,
        because=FULL
        | _NO_ENVIRONMENT
        | {400: "The request breaks a rule, or the environment is a cloud or an archived one."},
    ),
)
async def enqueue_work(environment_id: EnvironmentId, call: Call, body: Enqueue | None = None) -> Response:
    """Enqueue work, each item for a made-up session unless one is given.

    If the given session has an item already, that gets a message instead: a stopped one is enqueued again. Many items
    are enqueued in batches of 250: a crash in between leaves a prefix, which a repeat with the same `idempotency_key`
    completes.
    """
    wanted = body or Enqueue()
    most = call.services.settings.max_count
    if wanted.count > most:
        raise InvalidRequest(
            f"count: Input should be less than or equal to {most} (--max-count / WORKYARD_MAX_COUNT)",
            rule="limits.count",
        )
    items = await call.services.queue.enqueue(
        environment_id,
        count=wanted.count,
        session_id=wanted.session_id,
        metadata=call.checked_metadata(wanted.metadata or {}),
        idempotency_key=wanted.idempotency_key,
    )
    return JsonResponse({"data": [render_work(item) for item in items]})


@router.post(
    "/environments/{environment_id}/keys",
    tags=_QUEUES,
    responses=success(
        IssuedKey,
        "The new key.",
        revoke=link("Make the key useless.", "revoke_key", path="environment_id", key_id="id"),
    )
    | refusals(400, 404, 413, because=_NO_ENVIRONMENT),
)
async def issue_key(environment_id: EnvironmentId, call: Call, body: KeyCreate | None = None) -> Response:
    """Issue an environment key. Its value is shown here and nowhere else."""
    key = await call.services.credentials.issue(environment_id, (body or KeyCreate()).name)
    shown = render_key(key)
    del shown["revoked_at"]
    return JsonResponse({**shown, "key": key.value})


@router.get(
    "/environments/{environment_id}/keys",
    tags=_QUEUES,
    responses=success(Keys, "All keys, newest first.") | refusals(404, because=_NO_ENVIRONMENT),
)
async def list_keys(environment_id: EnvironmentId, call: Call) -> Response:
    """List an environment's keys, revoked ones too, without their values."""
    return JsonResponse({"data": [render_key(key) for key in await call.services.credentials.list(environment_id)]})


@router.delete(
    "/environments/{environment_id}/keys/{key_id}",
    tags=_QUEUES,
    responses=success(KeyRevoked, "It is revoked.")
    | refusals(404, because={404: "No such environment, or no such key."}),
)
async def revoke_key(
    environment_id: EnvironmentId,
    key_id: Annotated[str, Path(description="The key's id, `envkey_…`.", examples=["envkey_011CZkZ9X2dpNyB7HsEFoRfW"])],
    call: Call,
) -> Response:
    """Revoke an environment key; a repeat changes nothing. Polls that wait with it try again at once."""
    await call.services.credentials.revoke(environment_id, key_id)
    return JsonResponse({"id": key_id, "type": "environment_key_revoked"})


@router.get(
    "/clock",
    tags=_CLOCK,
    responses=success(ClockAhead | Clocks, "The workspace's clock, or all clocks when none is named.") | refusals(),
)
async def get_clock(call: Call, workspace: WorkspaceName = None) -> Response:
    """Read the workspace's clock, with the timers it has ahead, soonest first; of all clocks, only their instants."""
    services = call.services
    meant = await workspace_meant(call, workspace)
    if meant not in ("", EVERY):
        return JsonResponse(render_clock_ahead(*await services.clocks.pending(meant, MOST_PENDING)))

    async def one(name: str) -> dict[str, Any]:
        return render_clock(await services.workspaces.clock(name))

    return await _each(services, meant, one)


@router.post(
    "/clock",
    tags=_CLOCK,
    responses=success(ClockMoved | ClocksMoved, "The clock after the change; all clocks for `?workspace=*`.")
    | refusals(400, 409, 413, because=FULL | {400: f"{_NO_WORKSPACE} Time never goes back."}),
)
async def change_clock(body: ClockChange, call: Call, workspace: WorkspaceName = None) -> Response:
    """Freeze, advance or release the workspace's clock, or move it to the next timer.

    All that the server dates or times out follows it, but `block_ms`, which is wall time. It never goes back and stops
    at 2200-01-01T00:00:00Z. Every timer that the change ends has fired before the answer, which names them: leases have
    lapsed, agents have acted. Every request that starts after the answer sees the change.
    """
    clocks = call.services.clocks

    async def one(name: str) -> dict[str, Any]:
        if body.advance_to_next is not None:
            return render_clock_moved(*await clocks.to_next(name, body.timer))
        if body.advance_seconds is not None:
            moved = await clocks.change(name, "advance", round(body.advance_seconds * 1_000_000))
        else:
            moved = await clocks.change(name, str(body.mode), None if body.at is None else parse_instant(body.at))
        return render_clock_moved(*moved)

    return await _each(call.services, workspace_to_write(await workspace_meant(call, workspace)), one)


@router.get(
    "/settings",
    tags=_WORKSPACES,
    responses=success(LeaseSettings | AllSettings, "The settings in force; those of all workspaces when none is named.")
    | refusals(),
)
async def get_settings(call: Call, workspace: WorkspaceName = None) -> Response:
    """Read the workspace's settings."""

    async def one(name: str) -> dict[str, Any]:
        return _in_force(call.services, await call.services.workspaces.profile(name))

    return await _each(call.services, await workspace_meant(call, workspace), one)


@router.post(
    "/settings",
    tags=_WORKSPACES,
    responses=success(LeaseSettings | AllSettings, "The settings now in force; all for `?workspace=*`.")
    | refusals(400, 409, 413, because=FULL | {400: _NO_WORKSPACE}),
)
async def change_settings(call: Call, workspace: WorkspaceName = None, body: SettingsChange | None = None) -> Response:
    """Change the workspace's settings, for leases, polls and ids from now on.

    With an `id_seed`, the same calls in the same order give the same ids and tokens, in this workspace: after a reset too.
    """
    changes = (body or SettingsChange()).changes

    async def one(name: str) -> dict[str, Any]:
        return _in_force(call.services, await call.services.workspaces.change_settings(name, changes))

    return await _each(call.services, workspace_to_write(await workspace_meant(call, workspace)), one)


@router.post(
    "/reset",
    tags=_WORKSPACES,
    responses=success(ResetDone, "All of it is gone.")
    | refusals(400, because={400: "The request names no workspace."}),
)
async def reset(call: Call, workspace: WorkspaceName = None) -> Response:
    """Remove everything of a workspace, its clock and settings too: as if its API key had never been used."""
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
    responses=success(Recount, "What was found. No violation is an empty list.") | refusals(),
)
async def recount(call: Call, workspace: WorkspaceName = None) -> Response:
    """Recount the queues of a workspace, or of all, from the raw keys, and name what contradicts their rules.

    Changes nothing. An environment is recounted in one step, so that work may go on beside it. Of one with more than
    10 000 items, 10 000 are looked at and `checked.sampled` says so. Keys of deleted environments are always looked for.
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
