"""`/_emulator/environments/…`: work without a session, and environment keys. Rules: `control.*`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from workyard_store.errors import InvalidRequest

from ..checks.call import Call
from ..checks.route import ControlRoute
from ..contract.describe import FULL, link, refusals, success
from ..schemas.queues import Enqueue, Enqueued, IssuedKey, KeyCreate, KeyRevoked, Keys, render_key
from ..schemas.work import render_work
from ..wire.responses import JsonResponse
from .environments import EnvironmentId

router = APIRouter(prefix="/_emulator", route_class=ControlRoute)

_QUEUES: list[str | Enum] = ["Queues"]
_NO_ENVIRONMENT = {404: "No such environment."}


@router.post(
    "/environments/{environment_id}/work",
    tags=_QUEUES,
    responses=success(Enqueued, "The items, in queue order.")
    | refusals(
        400,
        404,
        409,
        413,
        because=FULL
        | _NO_ENVIRONMENT
        | {400: "The request breaks a rule, or the environment is a cloud one or archived."},
    ),
)
async def enqueue_work(environment_id: EnvironmentId, call: Call, body: Enqueue | None = None) -> Response:
    """Enqueue work, each item for a made-up session unless one is given.

    If the given session already has an item, it gets a message instead, which queues a stopped item again. Large
    numbers of items are enqueued in batches of 250. A crash between batches leaves the first ones; a repeat with
    the same `idempotency_key` adds the rest.
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
        revoke=link("Revoke the key.", "revoke_key", path="environment_id", key_id="id"),
    )
    | refusals(400, 404, 413, because=_NO_ENVIRONMENT),
)
async def issue_key(environment_id: EnvironmentId, call: Call, body: KeyCreate | None = None) -> Response:
    """Issue an environment key. Its value is shown only in this response."""
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
    """List an environment's keys, including revoked ones, without their values."""
    return JsonResponse({"data": [render_key(key) for key in await call.services.credentials.list(environment_id)]})


@router.delete(
    "/environments/{environment_id}/keys/{key_id}",
    tags=_QUEUES,
    responses=success(KeyRevoked, "It was revoked.")
    | refusals(404, because={404: "No such environment, or no such key."}),
)
async def revoke_key(
    environment_id: EnvironmentId,
    key_id: Annotated[str, Path(description="The key's id, `envkey_…`.", examples=["envkey_011CZkZ9X2dpNyB7HsEFoRfW"])],
    call: Call,
) -> Response:
    """Revoke an environment key; a repeat changes nothing. Polls that wait with the key try again immediately."""
    await call.services.credentials.revoke(environment_id, key_id)
    return JsonResponse({"id": key_id, "type": "environment_key_revoked"})
