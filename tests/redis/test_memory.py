"""Redis at its `maxmemory`: it refuses what needs memory, unless a script has begun to write. So a step is refused with
503 or happens wholly; deleting works, for it is what helps. Rule: `conventions.storage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import pytest
import redis

from tests.support.harness import Api, RedisServer, running_server


@pytest.fixture(scope="module")
def full(redis_engine: str) -> Iterator[tuple[Api, Callable[[bool], object]]]:
    """A client, and what fills its Redis or makes room again."""
    store = RedisServer(engine=redis_engine)
    with (
        running_server("--redis-url", store.url, "--log-level", "error") as server,
        closing(Api(server.url)) as api,
        closing(redis.Redis(port=store.port)) as raw,
    ):
        yield api, lambda is_full: raw.config_set("maxmemory", "1" if is_full else "0")
    store.close()


CALLS: dict[str, Callable[[Api, str, str, str], httpx.Response]] = {
    "poll": lambda api, env, work, beat: api.get(api.path(env, "poll")),
    "ack": lambda api, env, work, beat: api.ack(env, work),
    "heartbeat": lambda api, env, work, beat: api.heartbeat(env, work, beat),
    "stop": lambda api, env, work, beat: api.stop(env, work),
    "force stop": lambda api, env, work, beat: api.stop(env, work, force=True),
    "get": lambda api, env, work, beat: api.get(api.path(env, work)),
    "list": lambda api, env, work, beat: api.get(api.path(env)),
    "stats": lambda api, env, work, beat: api.get(api.path(env, "stats")),
    "update": lambda api, env, work, beat: api.post(api.path(env, work), json={"metadata": {"a": "b"}}),
    "enqueue": lambda api, env, work, beat: api.post(f"/_emulator/environments/{env}/work"),
    "message": lambda api, env, work, beat: api.post(
        f"/_emulator/environments/{env}/work", json={"session_id": "session_told"}
    ),
    "archive": lambda api, env, work, beat: api.post(f"/v1/environments/{env}/archive"),
    "create": lambda api, env, work, beat: api.post("/v1/environments", json={"name": "more"}),
    "clock": lambda api, env, work, beat: api.post("/_emulator/clock", json={"advance_seconds": 1}),
    "key": lambda api, env, work, beat: api.post(f"/_emulator/environments/{env}/keys"),
}


#: Those that need memory whatever else there is to do.
REFUSED = {"create", "clock"}


@pytest.mark.parametrize("lapsed", [False, True], ids=["", "a lease has ended that nobody has noticed"])
@pytest.mark.parametrize("call", CALLS)
def test_a_full_redis_refuses_a_step_or_lets_it_happen_wholly(
    full: tuple[Api, Callable[[bool], object]], call: str, lapsed: bool
) -> None:
    """On an item in each state: an answer as ever, or a 503 after which nothing has changed. With room again all goes on."""
    api, fill = full
    api.freeze()
    env = api.queue()
    api.enqueue(env, session_id="session_told", metadata={"k": "v"})
    api.enqueue(env, 4)
    stopped, _ = api.active(env)
    api.ok(api.stop(env, stopped, force=True))
    active, beat = api.active(env, ttl=5)
    stopping, _ = api.active(env, ttl=6)
    api.ok(api.stop(env, stopping))
    starting = api.poll(env)["id"]
    api.ok(api.ack(env, starting))
    pending = api.poll(env)["id"]
    if lapsed:
        api.advance(7)  # Whoever comes first meets the lapses, and Redis is full by then.
    for work in (stopped, active, stopping, starting, pending):
        fill(True)
        answer = CALLS[call](api, env, work, beat)
        fill(False)
        assert answer.status_code in (200, 409, 412, 503), answer.text
        if call in REFUSED:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
        assert api.ok(api.get("/_emulator/invariants"))["violations"] == []
    for item in api.ok(api.get(api.path(env)))["data"]:
        api.ok(api.stop(env, item["id"], force=True))
        api.ack(env, item["id"])
        api.ok(api.stop(env, item["id"], force=True))
    assert {item["state"] for item in api.ok(api.get(api.path(env)))["data"]} == {"stopped"}
    assert api.reset()["leftover_keys"] == 0


@pytest.mark.parametrize("way", ["delete", "reset"])
def test_deleting_makes_room_in_a_full_redis(full: tuple[Api, Callable[[bool], object]], way: str) -> None:
    """Nothing is left of it, and the next enqueue finds room."""
    api, fill = full
    env = api.queue()
    api.enqueue(env, 600, metadata={"k": "v" * 100})
    api.active(env)
    fill(True)
    if way == "delete":
        api.ok(api.delete(f"/v1/environments/{env}?force=true"))
    else:
        assert api.reset()["leftover_keys"] == 0
    fill(False)
    assert api.ok(api.get("/_emulator/invariants"))["violations"] == []
    api.enqueue(api.queue())
    assert api.reset()["leftover_keys"] == 0


def test_skills_and_memories_are_kept_wholly_or_not_at_all_and_can_be_removed(
    full: tuple[Api, Callable[[bool], object]],
) -> None:
    """Nothing new enters a full Redis; what is there may change, and go; counts and sizes are still right."""
    api, fill = full
    put = {"files": {"SKILL.md": "---\nname: full\ndescription: d\n---\n"}}
    skill = api.ok(api.request("PUT", "/_emulator/skills/full", json=put))["id"]
    store = api.ok(api.post("/v1/memory_stores", json={"name": "full"}))["id"]
    memories = f"/v1/memory_stores/{store}/memories"
    kept, gone = (api.ok(api.post(memories, json={"path": f"/{n}", "content": "x"}))["id"] for n in "ab")
    fill(True)
    try:
        for refused in (
            api.post(memories, json={"path": "/c", "content": "x"}),
            api.post("/v1/memory_stores", json={"name": "more"}),
            api.request("PUT", "/_emulator/skills/full", json={"files": {**put["files"], "more": "x"}}),
        ):
            assert refused.status_code == 503, refused.text
        changed = api.post(f"{memories}/{kept}", json={"content": "changed"})
        assert changed.status_code in (200, 503)
        api.ok(api.delete(f"{memories}/{gone}"))
        api.ok(api.delete(f"/v1/skills/{skill}"))
    finally:
        fill(False)
    listed = api.ok(api.get(memories, params={"view": "full"}))["data"]
    assert [(row["path"], row["content"]) for row in listed] == [("/a", "changed" if changed.is_success else "x")]
    assert api.ok(api.get("/v1/skills"))["data"] == []
    fill(True)
    try:
        api.ok(api.delete(f"/v1/memory_stores/{store}"))
        assert api.reset()["leftover_keys"] == 0
    finally:
        fill(False)
