"""A whole store as a file: every key under the prefix as Redis DUMPs it, and what the API said of it.

Run it to keep the format of the Workyard that is checked out, before the next one replaces it:
`.venv/bin/python tests/support/store_snapshot.py tests/data/store-format-N.json`. Imports nothing from the product.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import redis

from tests.support.harness import Api, RedisServer, WorkyardServer

#: The workspace that the snapshot is of; its API key is no secret.
API_KEY = "a-store-of-an-older-format"


def fill(api: Api) -> None:
    """Bring every kind of environment and every state of an item into the workspace, its clock frozen."""
    api.freeze()
    cloud = api.environment(name="cloud", config={"type": "cloud"}, description="Kept", metadata={"team": "a"})
    archived = api.queue()
    api.enqueue(archived, 2)
    api.ok(api.post(f"/v1/environments/{archived}/archive"))
    api.ok(api.post(f"/_emulator/environments/{cloud['id']}/keys", json={"name": "unused"}))
    env = api.environment(name="busy")["id"]
    api.ok(api.post(f"/_emulator/environments/{env}/keys", json={"name": "worker"}))
    api.ok(api.post("/_emulator/settings", json={"default_ttl_seconds": 60, "reclaim_ms": 7000}))

    api.active(_enqueued(api, env, "active"))
    api.enqueue(env, session_id="session_starting")
    api.ok(api.ack(env, api.poll(env, "worker-a")["id"]))
    api.enqueue(env, session_id="session_stopping")
    stopping, _ = api.active(env)
    api.ok(api.stop(env, stopping))
    api.enqueue(env, session_id="session_stopped")
    api.ok(api.stop(env, api.active(env)[0], force=True))
    # Stopped, then re-enqueued by a message, handed out, and stopped once more: two lives.
    twice = api.enqueue(env, session_id="session_twice")[0]["id"]
    api.ok(api.stop(env, twice, force=True))
    api.enqueue(env, session_id="session_twice")
    api.ok(api.ack(env, api.poll(env)["id"]))
    api.ok(api.stop(env, twice, force=True))
    # Acknowledged, with a message that no acknowledgement has seen.
    told = api.enqueue(env, session_id="session_told")[0]["id"]
    api.ok(api.ack(env, told))
    api.enqueue(env, session_id="session_told")
    # Lapsed and queued again.
    api.enqueue(env, session_id="session_lapsed")
    api.active(env, ttl=1)
    api.advance(2)
    # Waiting, two of them stopped without having been handed out (tombstones), one handed out.
    api.enqueue(env, 5, metadata={"suite": "upgrade"}, idempotency_key="five")
    waiting = [item["id"] for item in api.ok(api.get(api.path(env)))["data"] if item["state"] == "queued"]
    api.poll(env, "worker-b")
    for work in waiting[:2]:
        api.ok(api.stop(env, work))
    api.advance(3)


def _enqueued(api: Api, env: str, name: str) -> str:
    api.enqueue(env, session_id=f"session_{name}", metadata={"name": name})
    return env


def look(api: Api) -> dict[str, Any]:
    """Return all that the API shows of the workspace."""
    environments = api.ok(api.get("/v1/environments", params={"include_archived": "true"}))["data"]
    shown = {"environments": environments, "clock": api.ok(api.get("/_emulator/clock"))["now"]}
    queues = [each["id"] for each in environments if each["config"]["type"] == "self_hosted"]
    shown["work"] = {env: api.ok(api.get(api.path(env)))["data"] for env in queues}
    shown["stats"] = {env: api.stats(env) for env in queues}
    shown["keys"] = {env: api.ok(api.get(f"/_emulator/environments/{env}/keys"))["data"] for env in queues}
    return shown


def lives(api: Api, shown: dict[str, Any]) -> dict[str, Any]:
    """Return the timeline of each item of what `look` returned."""
    items = [item["id"] for work in shown["work"].values() for item in work]
    return {id_: api.ok(api.get(f"/_emulator/work/{id_}/timeline")) for id_ in items}


def dump(url: str) -> dict[str, str]:
    """Return every key of a Redis and its DUMP, base64."""
    with redis.Redis.from_url(url) as client:
        return {
            key.decode(): base64.b64encode(client.dump(key)).decode() for key in sorted(client.scan_iter(count=1000))
        }


def restore(url: str, keys: dict[str, str]) -> None:
    """Put dumped keys into a Redis."""
    with redis.Redis.from_url(url) as client:
        for key, value in keys.items():
            client.restore(key, 0, base64.b64decode(value), replace=True)


def main(target: Path) -> None:
    """Write the snapshot that the Workyard of this checkout makes."""
    store = RedisServer()
    server = WorkyardServer("--redis-url", store.url)
    api = Api(server.url, API_KEY)
    try:
        fill(api)
        shown = look(api)
        taken = {"shown": shown, "lives": lives(api, shown), "keys": dump(store.url)}
        target.write_text(json.dumps(taken, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    finally:
        api.close()
        server.close()
        store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
