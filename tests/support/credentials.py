"""Environment keys and sessions tokens in tests, and the contents of a workspace."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx

from tests.support.harness import Api

#: A token of the environment-key form that no server ever issued.
NEVER_ISSUED = "sk-ant-oat01-01AAAAAAAAAAAAAAAAAAAAAA-" + "A" * 43


def sessions_token(item: dict[str, Any]) -> str:
    """Return the token in the secret of a poll's answer."""
    secret = item["secret"]
    token: str = json.loads(base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4)))["sessions_token"]
    return token


def environments(client: Api) -> list[str]:
    """Return the ids of all environments of the client's workspace, newest first."""
    return [row["id"] for row in client.ok(client.get("/v1/environments", params={"limit": 1000}))["data"]]


def issue(api: Api, environment: str) -> tuple[str, str]:
    """Issue an environment key; return its id and its value."""
    made = api.ok(api.post(f"/_emulator/environments/{environment}/keys", json={"name": "worker"}))
    return made["id"], made["key"]


def everything_below(client: Api, environment: str, work: str) -> Iterator[httpx.Response]:
    """Call every route that names an environment; the destructive ones last."""
    yield client.get(f"/v1/environments/{environment}")
    yield client.post(f"/v1/environments/{environment}", json={"name": "taken over"})
    yield client.get(client.path(environment))
    yield client.get(client.path(environment, "poll"))
    yield client.get(client.path(environment, "stats"))
    yield client.get(client.path(environment, work))
    yield client.post(client.path(environment, work), json={"metadata": {"taken": "over"}})
    yield client.ack(environment, work)
    yield client.heartbeat(environment, work)
    yield client.stop(environment, work, force=True)
    yield client.post(f"/v1/environments/{environment}/archive")
    yield client.delete(f"/v1/environments/{environment}?force=true")
