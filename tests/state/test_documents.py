"""`/_emulator/state`: all that a workspace holds goes into a document and comes back, and nothing but a good document does.

Rules: `state.*`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from tests.support.harness import (
    NOON,
    Api,
    RedisServer,
    WorkyardServer,
    after,
    new_api_key,
    options_of,
    refused,
    running_server,
    wait_until,
)
from workyard.cli.main import main
from workyard.settings import Settings
from workyard.state.file import read_state
from workyard.state.rules import checked_state
from workyard.state.shape import SCHEMA_FILE, state_schema
from workyard.testing import Emulator
from workyard_queue.lua.state import StateRead
from workyard_queue.state import snapshots
from workyard_store.access import Access, workspace_of_api_key
from workyard_store.errors import EnvironmentInMotion, StartupRefused

ROOT = Path(__file__).parents[2]
SKILL = "---\nname: greeting\ndescription: How to greet.\n---\n"
#: A call that a client answers, a wait, and an end.
STEPS: list[Any] = [
    {"use_custom_tool": {"name": "ask", "input": {}}},
    {"wait": 30},
    {"say": "late: {{result}}"},
    {"idle": "end_turn"},
    "terminate",
]
Scene = dict[str, Any]
#: Less than a poll waits that nobody wakes, and more than one takes that is woken on a busy machine.
SOON_S = 0.5
QUEUED = "It is queued, but not in the queue"


def message(text: str) -> dict[str, Any]:
    """Return a message to an agent."""
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def export(api: Api) -> dict[str, Any]:
    """Return the workspace's document."""
    document: dict[str, Any] = api.ok(api.get("/_emulator/state"))
    return document


def put(api: Api, document: Any) -> Any:
    """Restore a document."""
    return api.http.put("/_emulator/state", json=document)


def rich(api: Api) -> Scene:
    """Fill a workspace with everything, in every state."""
    api.freeze()
    ok, post = api.ok, api.post
    ok(post("/_emulator/settings", json={"default_ttl_seconds": 60, "reclaim_ms": 9000}))
    env = api.queue()
    key = ok(post(f"/_emulator/environments/{env}/keys", json={"name": 'a "worker"'}))
    gone = ok(post(f"/_emulator/environments/{env}/keys"))["id"]
    ok(api.delete(f"/_emulator/environments/{env}/keys/{gone}"))
    cloud = api.environment(name="cloud", config={"type": "cloud"}, metadata={"team": "ü"})["id"]
    ok(post(f"/v1/environments/{cloud}/archive"))
    ok(api.delete(f"/v1/environments/{api.queue()}"))  # Leaves a gap in the sequence.
    # Work in every state: pending, waiting, a tombstone, lapsed and back, stopped and revived, its session deleted.
    items = [item["id"] for item in api.enqueue(env, 7, metadata={"suite": "rich"}, idempotency_key="once")]
    api.enqueue(env, session_id="session_again")
    taken = [api.poll(env, worker="w1") for _ in range(7)]
    for item in taken[:6]:
        ok(api.ack(env, item["id"]))
    stopped, stopping, active, lapsing, starting, deleted, pending = (item["id"] for item in taken)
    beat = ok(api.heartbeat(env, active, "NO_HEARTBEAT", 600))["last_heartbeat"]
    ok(api.heartbeat(env, lapsing, "NO_HEARTBEAT", 1))
    ok(api.heartbeat(env, stopping, "NO_HEARTBEAT", 600))
    ok(api.stop(env, stopping))
    ok(api.stop(env, stopped, force=True))
    ok(api.stop(env, deleted, force=True))
    ok(api.delete(f"/v1/sessions/{api.work(env, deleted)['data']['id']}"))
    api.advance(2)
    assert api.work(env, lapsing)["state"] == "queued"
    again = api.poll(env)["id"]
    ok(api.ack(env, again))
    ok(api.stop(env, again, force=True))
    api.enqueue(env, session_id="session_again")
    ok(api.stop(env, api.enqueue(env)[0]["id"], force=True))
    waiting = api.enqueue(env)[0]["id"]
    # Sessions: a call waits, a wait runs, archived, terminated, made up; a stub that was looked at.
    api.script({"steps": STEPS}, "steps")
    api.script({"steps": ["terminate"]}, "end")
    agent = ok(post("/v1/agents", json={"name": "a", "model": "m", "tools": [{"type": "agent_toolset_20260401"}]}))[
        "id"
    ]
    store = ok(post("/v1/memory_stores", json={"name": "notes", "metadata": {"k": "v"}}))["id"]
    ok(post(f"/v1/memory_stores/{store}/memories", json={"path": "/a/b.md", "content": "ü\n"}))
    memory = ok(post(f"/v1/memory_stores/{store}/memories", json={"path": "/c", "content": "c"}))["id"]
    other = ok(post("/v1/memory_stores", json={"name": "old"}))["id"]
    ok(post(f"/v1/memory_stores/{other}/archive"))
    for text in ("one", "two"):
        files = {"SKILL.md": SKILL + text}
        ok(api.http.put("/_emulator/skills/greeting", json={"files": files}))

    def session(script: str, where: str = env) -> str:
        body = {
            "agent": agent, "environment_id": where, "metadata": {"workyard_script": script}, "title": "t",
            "resources": [{"type": "memory_store", "memory_store_id": store}], "initial_events": [message("go")],
        }  # fmt: skip
        return str(ok(post("/v1/sessions", json=body))["id"])

    calling, waits, over, kept = session("steps"), session("steps"), session("end"), session("steps")
    for id_ in (waits, kept):
        [call] = [e for e in ok(api.get(f"/v1/sessions/{id_}/events"))["data"] if e["type"] == "agent.custom_tool_use"]
        answer = {
            "type": "user.custom_tool_result",
            "custom_tool_use_id": call["id"],
            "content": [{"type": "text", "text": "x"}],
        }
        ok(post(f"/v1/sessions/{id_}/events", json={"events": [answer]}))
    api.advance(0.5)
    ok(post(f"/v1/sessions/{calling}/events", json={"events": [{"type": "user.interrupt"}, message("again")]}))
    ok(api.get("/v1/sessions/session_again"))
    silent = ok(post("/v1/sessions", json={"agent": agent, "environment_id": env}))["id"]
    ok(post(f"/v1/sessions/{silent}/archive"))
    rules = [{"on": "stop", "nth": [2], "do": {"status": 503}}, {"on": "poll", "nth": [99], "do": {"empty": True}}]
    ok(post("/_emulator/faults", json={"rules": rules, "seed": 7}))
    api.work(env, active)
    return {
        "env": env, "cloud": cloud, "key": key["key"], "items": items, "active": active, "beat": beat, "pending": pending,
        "starting": starting, "waiting": waiting,
        "calling": calling, "waits": waits, "over": over, "store": store, "memory": memory, "agent": agent,
        "deleted": deleted, "silent": silent,
    }  # fmt: skip


def seen(api: Api, scene: Scene) -> dict[str, Any]:
    """Return what clients see of the workspace."""
    env, store = scene["env"], scene["store"]
    paths = [
        "/v1/environments?include_archived=true", f"/v1/environments/{env}/work?limit=3", f"/v1/environments/{env}/work",
        f"/v1/environments/{env}/work/stats", "/v1/sessions?include_archived=true", "/v1/sessions?limit=1", f"/v1/agents/{scene['agent']}",
        "/v1/skills", "/v1/memory_stores?include_archived=true", f"/v1/memory_stores/{store}/memories?view=full",
        f"/_emulator/environments/{env}/keys", "/_emulator/clock", "/_emulator/settings", "/_emulator/scripts",
        *(f"/v1/sessions/{scene[name]}/events?limit=5" for name in ("calling", "waits", "over", "silent")),
        *(f"/_emulator/sessions/{scene[name]}/script" for name in ("calling", "waits", "over")),
    ]  # fmt: skip
    answers = {path: api.ok(api.get(path)) for path in paths}
    answers.pop("/_emulator/clock").pop("ahead_seconds")
    return answers


def test_a_workspace_comes_back_as_it_was(api: Api) -> None:
    """The same document, the same answers, cursors that still lead on, and lives that go on where they were."""
    scene = rich(api)
    before = seen(api, scene)
    document = export(api)
    assert {item["state"] for item in document["environments"][0]["work"]} == {
        "queued", "starting", "active", "stopping", "stopped",
    }  # fmt: skip
    assert api.reset()["leftover_keys"] == 0
    assert put(api, document).json() == {"environments": 2, "work": 15, "sessions": 6}
    assert export(api) == document
    assert api.ok(api.get("/_emulator/invariants"))["violations"] == []
    assert seen(api, scene) == before
    env = scene["env"]
    page = before[f"/v1/environments/{env}/work?limit=3"]["next_page"]
    assert len(api.ok(api.get(api.path(env), params={"page": page}))["data"]) == 12
    # A lease is its holder's, a key good, a lapse due, the pending one is taken over before the waiting one.
    assert api.ok(api.heartbeat(env, scene["active"], scene["beat"]))["lease_extended"] is True
    with closing(api.as_key(scene["key"])) as worker:
        assert worker.poll(env)["id"] != scene["pending"]
        api.advance(9)
        assert worker.poll(env)["id"] == scene["pending"]
    api.advance(120)
    assert api.work(env, scene["starting"])["state"] == "queued"
    # The session that waited has gone on.
    said = [e for e in api.ok(api.get(f"/v1/sessions/{scene['waits']}/events"))["data"] if e["type"] == "agent.message"]
    assert said[0]["content"][0]["text"] == "late: x"
    # What is new has new numbers, and an idempotency key is known.
    assert [item["id"] for item in api.enqueue(env, 7, metadata={"suite": "rich"}, idempotency_key="once")] == scene[
        "items"
    ]
    assert api.environment()["id"] == api.ok(api.get("/v1/environments?limit=1"))["data"][0]["id"]
    # A fault rule has not forgotten what it counted.
    assert [api.stop(env, scene["active"], force=True).status_code for _ in range(2)] == [200, 503]
    # Over what is there: the same once more.
    assert put(api, document).status_code == 200
    assert export(api) == document


def test_with_a_ticking_clock_the_document_does_not_move(api: Api) -> None:
    """It has the clock's shift, not its instant; two exports are the same, and so is that of what was restored."""
    api.advance(3600)
    env = api.queue()
    api.enqueue(env, 2)
    api.active(env, ttl=600)
    document = export(api)
    assert document["clock"] == {
        "mode": "real", "at": None, "shift_us": pytest.approx(3_600_000_000, abs=1), "changed_to": document["clock"]["changed_to"],
    }  # fmt: skip
    assert export(api) == document
    api.reset()
    assert put(api, document).status_code == 200
    assert export(api) == document
    assert 3599 < api.ok(api.get("/_emulator/clock"))["ahead_seconds"] < 3601


def test_an_environment_that_never_keeps_still_is_409_after_twenty_tries(
    engine_options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read in parts of two rows here, and somebody changes it before each."""
    with (
        Emulator(**options_of(engine_options)) as running,
        closing(Api(running.url)) as api,
        closing(Api(running.url, api.api_key)) as reader,
    ):
        queue = api.queue()
        item = api.enqueue(queue, 5)[0]["id"]
        plain, marks = Access.run, set()

        async def disturbed(self: Access, call: Any, *arguments: Any, **named: Any) -> Any:
            if isinstance(call, StateRead):
                marks.add(call.encoded[0])
                await asyncio.to_thread(api.post, api.path(queue, item), json={"metadata": {"a": "b"}})
            return await plain(self, call, *arguments, **named)

        monkeypatch.setattr(snapshots, "_PART", 2)
        monkeypatch.setattr(snapshots, "_LARGE_PART", 2)
        assert reader.get("/_emulator/state").status_code == 200
        monkeypatch.setattr(Access, "run", disturbed)
        answer = reader.get("/_emulator/state")
        monkeypatch.undo()
        refused(answer, 409, str(EnvironmentInMotion(queue)))
        assert answer.headers["workyard-rule"] == "state.in-motion"
        assert len(marks) == 20
        assert reader.get("/_emulator/state").status_code == 200
        api.reset()


def test_a_seed_makes_ids_and_tokens_repeatable(api: Api, new_api: Callable[..., Api]) -> None:
    """The same calls give the same, after a reset too, whatever other workspaces do; with another seed, others."""

    def story(seed: int) -> Any:
        api.reset()
        api.ok(api.post("/_emulator/settings", json={"id_seed": seed}))
        scene = rich(api)
        document = export(api)
        assert api.ok(api.get("/_emulator/invariants"))["violations"] == []
        for environment in document["environments"]:
            for event in environment.pop("timeline"):
                assert event["by"] is None or event["by"]["request_id"]
        for skill in document["skills"]:
            skill.pop("versions")
        tokens = [api.poll(scene["env"]) for _ in range(2)]
        return scene, document, tokens

    first = story(42)
    new_api(api.url).queue()
    assert story(42) == first
    assert first[1]["settings"]["id_seed"] == 42
    others = set()
    for seed in (43, None, None):
        api.reset()
        api.ok(api.post("/_emulator/settings", json={"id_seed": seed}))
        others.add(api.queue())
    assert len(others | {first[0]["env"]}) == 4


def test_an_environment_of_another_workspace_is_a_conflict(api: Api, new_api: Callable[..., Api]) -> None:
    """Nothing is changed on either side; once it is gone there, it may come here. A seed gives no id that is taken."""
    other = new_api(api.url)
    for client in (api, other):
        client.ok(client.post("/_emulator/settings", json={"id_seed": 1}))
    env = other.queue()
    document = export(other)
    mine = api.queue()
    message = f"environments.0.id: {env} belongs to another workspace"
    refused(put(api, document), 409, message)
    assert api.stats(mine)["depth"] == other.stats(env)["depth"] == 0
    other.reset()
    assert put(api, document).status_code == 200
    assert [each["id"] for each in api.ok(api.get("/v1/environments"))["data"]] == [env]
    other.ok(other.post("/_emulator/settings", json={"id_seed": 1}))
    assert other.queue() != env
    assert len(other.ok(other.get("/v1/environments"))["data"]) == 1


def _at(document: Any, path: str) -> tuple[Any, str | int]:
    """Return the container of a member and its name there."""
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in steps:
        document = document[step]
    return document, last


E0 = "environments.0."
#: Member to change, what it becomes (DROP: it goes), and the path that the refusal begins with.
DROP = object()
DAMAGES: list[tuple[str, Any, str]] = [
    ("version", 2, "version: Must be 1, the only version that this Workyard reads"),
    ("version", True, "version: Must be 1, the only version that this Workyard reads"),
    ("version", DROP, "version: Field required"),
    ("environment", [], "environment: Extra inputs are not permitted"),
    ("clock.at", None, "clock.at: Must be given with the modes frozen and auto"),
    ("clock.at", "yesterday", "clock.at: Not a timestamp"),
    ("settings.id_seed", -1, "settings.id_seed: Input should be greater than or equal to 0"),
    ("counters.resources", 1, "environments.1.sequence: 2 is more than counters.resources says"),
    ("counters.sessions", 0, "environments.0.sessions.0.sequence: 1 is more than counters.sessions says"),
    ("agents.0.model", "m", "agents.0.model: Input should be"),
    ("scripts.steps.steps.1", {"wait": -1}, "scripts.steps: steps.1.wait"),
    ("skills.0.versions.0.archive", "?", "skills.0.versions.0.archive: Not base64"),
    ("memory_stores.0.memories.0.path", "/c/d", "memory_stores.0.memories.0.path: /c is a memory, not a folder"),
    (E0 + "id", "work_1", E0 + "id: String should match pattern"),
    (E0 + "config", {"type": "cloud"}, E0 + "config.networking: Field required"),
    (E0 + "last_step_at", NOON, E0 + "queue.1.entered_at: Must not be later than last_step_at; "),
    (E0 + "keys.0.sha256", "x", E0 + "keys.0.sha256: String should match pattern"),
    (E0 + "keys.1.sha256", lambda d: d["keys"][0]["sha256"], E0 + "keys.1.sha256: "),
    (E0 + "work.3.session_id", "session_other", E0 + "work.3.session_id: The work item of session_other in this"),
    (E0 + "work.3.state", "done", E0 + "work.3.state: Input should be"),
    (E0 + "work.0.stopped_at", None, E0 + "work.0.stopped_at: An item that is stopped has one"),
    (E0 + "work.0.times_stopped", 2, E0 + "work.0.times_stopped: Is 2 of an item that is stopped and was revived 0 times"),
    (E0 + "work.1.lease_ends_at", None, E0 + "work.1.lease_ends_at: An item that is stopping has a lease"),
    (E0 + "work.6.lease_ends_at", NOON, E0 + "work.6.lease_ends_at: An item that is queued has no lease"),
    (E0 + "work.2.acknowledged_at", "2031-05-06T11:00:00.000000Z", E0 + "work.2.acknowledged_at: "),
    (E0 + "work.2.metadata", {"": "x"}, E0 + "work.2.metadata: key must not be empty"),
    (E0 + "queue.0.work_id", "work_1", E0 + "queue.0.work_id: work_1 is not among the work"),
    (E0 + "queue.0.work_id", lambda d: d["work"][0]["id"], E0 + "queue.0.work_id: "),
    (E0 + "queue.1.work_id", lambda d: d["queue"][0]["work_id"], E0 + "queue.1.work_id: "),
    (E0 + "queue", [], E0 + "work.3.state: It is queued, but not in the queue"),
    (E0 + "queue.2.handed_out_at", NOON, E0 + "queue.2.handed_out_at: An item before it is waiting"),
    (E0 + "work", [], E0 + "queue.0.work_id: "),
    (E0 + "sessions.0.agent", None, E0 + "sessions.0.agent: Must be null if, and only if, sequence is null"),
    (E0 + "sessions.0.events", [], E0 + "sessions.0.events: List should have at least 1 item"),
    (E0 + "sessions.0.events_seen", 99, E0 + "sessions.0.events_seen: There are "),
    (E0 + "sessions.0.events_seen", 1, E0 + "sessions.0.agent_acts_at: Cannot be null while there are events"),
    (E0 + "sessions.0.events.0.event", {"type": "user.message"}, E0 + "sessions.0.events.0.event: Must have an id"),
    (E0 + "sessions.0.events.0.event.content", 1, E0 + "sessions.0.events.0.event.content: Input should be a valid array"),
    (E0 + "sessions.0.agent_state.step", 9, E0 + "sessions.0.agent_state.step: The script has 5 steps"),
    (E0 + "sessions.0.script", None, E0 + "sessions.0.script: Cannot be null if agent_state is not"),
    (E0 + "sessions.1.id", lambda d: d["sessions"][0]["id"], E0 + "sessions.1.id: "),
    (E0 + "timeline.1.id", "0-1", E0 + "timeline.1.id: Must be greater than the one before"),
    (E0 + "timeline.1.kind", "a\nb", E0 + "timeline.1.kind: Has a line break"),
    (E0 + "timeline.1.work_id", "a\nb", E0 + "timeline.1.work_id: Has a line break"),
    (E0 + "timeline.1.details", {"x": "a\nb"}, E0 + "timeline.1.details.'x': Has a line break"),
    (E0 + "timeline.1.details", {"a\nb": "x"}, E0 + "timeline.1.details.'a\\nb': Has a line break"),
    ("environments.1.work", lambda d: [], "environments.1.work: A cloud environment has no queue"),
    ("environments.1.id", "env_1", ""),
]  # fmt: skip


def test_a_bad_document_is_refused_by_path_and_nothing_of_it_applied(
    embedded: WorkyardServer, new_api: Callable[..., Api], subtests: Any
) -> None:
    """Whatever is wrong with it; several problems are named together."""
    api = new_api(embedded.url)
    rich(api)
    document = export(api)
    work = document["environments"][0]["work"]
    assert [work[n]["state"] for n in (0, 1, 2, 6)] == ["stopped", "stopping", "active", "queued"]
    for path, value, problem in DAMAGES:
        with subtests.test(path=path, problem=problem):
            damaged = copy.deepcopy(document)
            container, name = _at(damaged, path)
            if value is DROP:
                del container[name]
            elif path == "environments.1.work":
                container[name] = [work[0]]
            else:
                container[name] = value(damaged["environments"][0]) if callable(value) else value
            answer = put(api, damaged)
            if problem:
                assert answer.status_code == 400, answer.text
                assert answer.json()["error"]["message"].startswith(problem), answer.text
                assert export(api) == document
            else:
                assert put(api, document).status_code == 200
    everything = {"version": 1, "environments": [{}] * 30}
    found = put(api, everything).json()["error"]["message"]
    assert found.startswith("environments.0.id: Field required; ")
    assert re.search(r"; and \d+ more$", found)
    refused(api.http.put("/_emulator/state", json=[]), 400, "Request body must be a JSON object")
    refused(
        api.http.put("/_emulator/state?workspace=*", json=document),
        400,
        "workspace: Name one workspace: with x-api-key or a bearer token, or with ?workspace=",
    )


def test_a_document_that_breaks_a_rule_changes_nothing(api: Api) -> None:
    """On each engine: another version, a broken reference, a bound; and one that names no workspace."""
    env = api.queue()
    api.enqueue(env, 2)
    document = export(api)
    first = document["environments"][0]["work"][0]
    for change, message in (
        ({"version": 2}, "version: Must be 1, the only version that this Workyard reads"),
        ({"agents": [{}]}, "agents.0.id: Field required"),
        ({"counters": {**document["counters"], "resources": 0}}, "environments.0.sequence: 1 is more than counters."),
        ({"environments": [{**document["environments"][0], "queue": []}]}, f"environments.0.work.0.state: {QUEUED}"),
    ):
        answer = put(api, document | change)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith(message), answer.text
        assert export(api) == document
    assert put(api, {**document, "environments": []}).json() == {"environments": 0, "work": 0, "sessions": 0}
    assert api.get(api.path(env, first["id"])).status_code == 404


def test_restores_at_once_take_their_turns_and_a_reset_wins(api: Api) -> None:
    """Each of them succeeds, one behind the other; one that a reset has overtaken leaves nothing."""
    noon = api.freeze()
    api.enqueue(api.queue(), 150)
    document = export(api)

    def restored(_: int) -> tuple[int, str]:
        with closing(Api(api.url, api.api_key)) as mine:
            answer = put(mine, document)
            return answer.status_code, answer.text

    with ThreadPoolExecutor(3) as pool:
        assert {status for status, _ in pool.map(restored, range(3))} == {200}
        assert export(api) == document
        for _ in range(10):
            api.reset()
            running = pool.submit(restored, 0)
            wait_until(lambda: api.ok(api.get("/_emulator/clock"))["now"] == noon, "it has begun")
            api.reset()
            status, text = running.result()
            assert export(api)["environments"] == []
            if status != 200:
                break
    assert (status, "The workspace was reset while its state was being restored" in text) == (409, True)


def test_a_document_of_two_mebibytes_is_taken(api: Api) -> None:
    """Where other bodies may have one; blanks are as good as anything."""
    api.queue()
    document = export(api)
    padded = json.dumps(document) + " " * 2_097_152
    assert api.http.put("/_emulator/state", content=padded).status_code == 200
    assert export(api) == document
    assert api.http.post("/_emulator/settings", content="{}" + " " * 2_097_152).status_code == 413


def test_a_large_document_is_taken_and_a_larger_one_is_not(
    embedded: WorkyardServer, new_api: Callable[..., Api]
) -> None:
    """64 MiB are the bound, where other bodies have 1 MiB."""
    api = new_api(embedded.url)
    store = api.ok(api.post("/v1/memory_stores", json={"name": "large"}))["id"]
    for n in range(15):
        api.ok(api.post(f"/v1/memory_stores/{store}/memories", json={"path": f"/{n}", "content": "x" * 100_000}))
    document = export(api)
    assert len(json.dumps(document)) > 1_048_576
    api.reset()
    assert put(api, document).status_code == 200
    assert export(api) == document
    larger = api.http.put("/_emulator/state", content=b" " * 67_108_865)
    refused(larger, 413, "Request body exceeds 67108864 bytes")
    assert larger.headers["workyard-rule"] == "state.bound"


def test_exports_beside_running_work_are_each_of_one_instant(
    redis_backed: WorkyardServer, new_api: Callable[..., Api]
) -> None:
    """Of an environment that is read in several parts, too: each keeps all the rules that a restore asks for."""
    api = new_api(redis_backed.url)
    env = api.queue()
    api.enqueue(env, 3200)

    def work() -> None:
        with closing(Api(api.url, api.api_key)) as mine:
            for _ in range(8):
                item = mine.poll(env)["id"]
                mine.ok(mine.ack(env, item))
                mine.ok(mine.stop(env, item, force=True))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        documents = [export(api)]
        running.result()
    documents.append(export(api))
    stopped = []
    for document in documents:
        items = checked_state(document).environments[0].work
        assert len(items) == 3200
        stopped.append(sum(item.state == "stopped" for item in items))
    assert stopped[0] <= stopped[1] == 8
    assert put(api, documents[1]).status_code == 200
    assert export(api) == documents[1]


def test_a_restore_that_a_crash_ended_is_mended_by_a_repeat_or_a_reset(
    redis_backed: WorkyardServer, redis_server: RedisServer, new_api: Callable[..., Api]
) -> None:
    """What a crash leaves: keys of an environment without its record, and the notes that it was being written."""
    api = new_api(redis_backed.url)
    scene = rich(api)
    document = export(api)
    workspace = workspace_of_api_key(api.api_key)
    with closing(redis.Redis.from_url(redis_server.url, decode_responses=True)) as raw:
        for _ in range(2):
            raw.delete(f"wy:{{{scene['env']}}}:env")
            raw.zadd("wy:purge", {f"{workspace} ": 1, f"{workspace} {scene['env']}": 1})
            assert api.ok(api.get("/_emulator/invariants"))["violations"] == []
            assert put(api, document).status_code == 200
            assert export(api) == document
            assert not [member for member in raw.zrange("wy:purge", 0, -1) if str(member).startswith(workspace)]
        raw.delete(f"wy:{{{scene['env']}}}:env")
        raw.zadd("wy:purge", {f"{workspace} ": 9e15, f"{workspace} {scene['env']}": 9e15})
        assert api.reset()["leftover_keys"] == 0
        assert not list(raw.scan_iter(f"wy:{{{scene['env']}}}*"))


def test_blocked_polls_see_what_was_restored(api: Api) -> None:
    """One that waited while its environment was replaced gets the work that came with the document."""
    env = api.queue()
    work = api.enqueue(env)[0]["id"]
    document = export(api)
    api.ok(api.stop(env, work, force=True))
    with ThreadPoolExecutor(1) as pool, closing(Api(api.url, api.api_key)) as waiting:
        poll = pool.submit(waiting.poll, env, "w", block_ms=999)
        wait_until(lambda: api.stats(env)["workers_polling"] == 1, "it waits")
        assert put(api, document).status_code == 200
        restored = time.monotonic()
        assert poll.result()["id"] == work
        assert time.monotonic() - restored < SOON_S


def test_a_server_starts_with_the_state_that_another_ended_with(tmp_path: Path) -> None:
    """All workspaces, by the file; the commands save and load one."""
    file = tmp_path / "state.json"
    keys = [new_api_key(), new_api_key()]
    environments = []
    with running_server("--state", str(file), "--save-state") as first:
        for key in keys:
            with closing(Api(first.url, key)) as api:
                environments.append(api.queue())
                api.enqueue(environments[-1], 2)
        assert first.stop() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert len(json.loads(file.read_text())["workspaces"]) == 2
    with running_server("--state", str(file)) as second, closing(Api(second.url, keys[1])) as api:
        assert api.stats(environments[1])["depth"] == 2
        saved = tmp_path / "mine.json"
        variables = {"WORKYARD_URL": api.url, "WORKYARD_API_KEY": api.api_key}
        done = CliRunner().invoke(main, ["state", "save", str(saved)], env=variables)
        assert (done.exit_code, done.output) == (0, f"saved 1 environments to {saved}\n")
        assert json.loads(saved.read_text()) == export(api)
        api.reset()
        done = CliRunner().invoke(main, ["state", "load", str(saved)], env=variables)
        assert (done.exit_code, done.output) == (0, "loaded 1 environments, 2 work items, 0 sessions\n")
        assert api.stats(environments[1])["depth"] == 2
    [(workspace, _)] = read_state(Settings(state=str(saved)))
    assert workspace == workspace_of_api_key(keys[1])


def test_a_file_that_is_no_state_refuses_the_start(tmp_path: Path) -> None:
    """The message names the option, the file, and the path in it; a missing one is an empty state only to be written."""
    file = tmp_path / "state.json"

    def refusal(text: str | None = None) -> str:
        if text is not None:
            file.write_text(text)
        with pytest.raises(StartupRefused) as caught:
            read_state(Settings(state=str(file)))
        return caught.value.message.removeprefix(f"--state / WORKYARD_STATE: {file}: ")

    assert refusal() == "No such file or directory"
    assert read_state(Settings(state=str(file), save_state=True)) == []
    assert refusal("{") == "It is not valid JSON"
    assert (
        refusal('{"version": 3, "workspaces": []}') == "version: Must be 1, the only version that this Workyard reads"
    )
    assert refusal('{"version": 1}') == "workspace: Field required"
    two = [{"workspace": "default", "clock": {"mode": "frozen"}}, {"workspace": "default"}]
    assert refusal(json.dumps({"version": 1, "workspaces": two})) == (
        "workspaces.0.clock.at: Must be given with the modes frozen and auto, and only with them; "
        "workspaces.1.workspace: default is already used by workspaces.0"
    )


def test_the_published_schema_is_that_of_the_code_and_fits(
    embedded: WorkyardServer, new_api: Callable[..., Api]
) -> None:
    """A document of everything is valid; one with another member is not."""
    text = (ROOT / "openapi" / SCHEMA_FILE).read_text()
    assert text == state_schema()
    api = new_api(embedded.url)
    rich(api)
    document = export(api)
    schema = Draft202012Validator(json.loads(text))
    assert list(schema.iter_errors(document)) == []
    assert list(schema.iter_errors({**document, "more": 1}))
    assert after(NOON, 2.5) == document["clock"]["at"]


def test_restores_and_a_reset_at_once_never_make_half_a_workspace(
    redis_backed: WorkyardServer, new_api: Callable[..., Api]
) -> None:
    """Each ends well, or is refused because of another; nothing fails, and what is left is whole, or nothing."""
    api = new_api(redis_backed.url)
    for _ in range(3):
        api.enqueue(api.queue(), 40)
    document = export(api)
    answers: list[int] = []
    with ExitStack() as closing_all, ThreadPoolExecutor(3) as pool:
        others = [closing_all.enter_context(closing(Api(api.url, api.api_key))) for _ in range(2)]
        for _ in range(3):
            restores = [pool.submit(put, each, document) for each in others]
            api.reset()  # What it counts as left over may be what came after it.
            answers += [restore.result().status_code for restore in restores]
            assert api.ok(api.get("/_emulator/invariants"))["violations"] == []
    assert set(answers) <= {200, 409}, answers
    assert put(api, document).status_code == 200
    assert export(api)["environments"] == document["environments"]


def test_of_two_that_write_one_environment_neither_goes_on_where_the_other_was(
    redis_backed: WorkyardServer, redis_server: RedisServer, new_api: Callable[..., Api]
) -> None:
    """A restore leaves alone what another one writes, and stops where what it has written was removed."""
    api = new_api(redis_backed.url)
    env = api.queue()
    api.enqueue(env, 2000)
    document = export(api)
    api.reset()
    writer = f"wy:{{{env}}}:restore"
    with closing(redis.Redis.from_url(redis_server.url)) as raw, ThreadPoolExecutor(1) as pool:
        raw.set(writer, "another")
        refused(put(api, document), 409, "Another restore of this workspace is in progress")
        assert raw.get(writer) == b"another"
        raw.delete(writer)
        restore = pool.submit(put, api, document)
        wait_until(lambda: bool(raw.delete(writer)) or restore.done(), "the restore has begun to write")
        refused(restore.result(), 409, "The workspace was reset while its state was being restored")
        api.reset()
        assert put(api, document).status_code == 200
        assert not raw.exists(writer)
    assert export(api) == document
