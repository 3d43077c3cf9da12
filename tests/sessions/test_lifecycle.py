"""Sessions as records: create, read, list, change, archive, delete, and what becomes of their work.

Rules: `sessions.*`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing

import pytest
import redis

from tests.support.harness import Api, RedisServer, WorkyardServer, instant, refused, running_server
from tests.support.sessions import ABSENT_AGENT, MESSAGE, events, item, send, session, types

pytestmark = pytest.mark.usefixtures("silent_agent")

RUNNING = "Cannot delete session while it is running. Send an interrupt event or wait for the session to complete."


def test_a_session_without_a_message_is_idle_and_its_work_is_queued(api: Api) -> None:
    """Its one event says so, for workers count their own idle time from it."""
    at = api.freeze()
    queue = api.queue()
    made = session(api, queue, title="first", metadata={"team": "a"})
    assert made["status"] == "idle"
    assert (made["title"], made["metadata"], made["environment_id"]) == ("first", {"team": "a"}, queue)
    assert (made["created_at"], made["updated_at"], made["archived_at"]) == (at, at, None)
    [event] = events(api, made["id"])
    assert (event["type"], event["stop_reason"]) == ("session.status_idle", {"type": "end_turn"})
    work = api.poll(queue)
    assert work["data"] == {"type": "session", "id": made["id"]}
    assert api.poll(queue) is None


def test_a_session_in_a_cloud_environment_has_no_work(api: Api) -> None:
    """Nor does a message make any."""
    cloud = str(api.environment(config={"type": "cloud"})["id"])
    made = session(api, cloud, initial_events=[MESSAGE])
    send(api, made["id"], MESSAGE)
    assert api.stats(cloud)["depth"] == 0
    assert types(api, made["id"]) == ["user.message", "session.status_running", "session.status_idle"] * 2


def test_a_first_message_is_answered_before_the_session_is(api: Api) -> None:
    """The session runs and goes idle."""
    made = session(api, api.queue(), initial_events=[MESSAGE])
    assert made["status"] == "idle"
    assert types(api, made["id"]) == ["user.message", "session.status_running", "session.status_idle"]


def test_a_message_brings_stopped_work_back_with_the_same_id(api: Api) -> None:
    """Stopped, queued by the message, and claimed anew."""
    queue = api.queue()
    made = session(api, queue)
    work, _ = api.active(queue)
    api.ok(api.stop(queue, work, force=True))
    assert api.poll(queue) is None
    send(api, made["id"], MESSAGE)
    again = api.poll(queue)
    assert (again["id"], again["acknowledged_at"], again["stopped_at"]) == (work, None, None)


def test_a_message_that_was_answered_does_not_bring_work_back_when_it_stops(api: Api) -> None:
    """The agent went idle since: nothing is left to serve."""
    queue = api.queue()
    made = session(api, queue)
    work, _ = api.active(queue)
    send(api, made["id"], MESSAGE)
    assert api.ok(api.stop(queue, work, force=True))["state"] == "stopped"
    assert api.work(queue, work)["state"] == "stopped"


def test_work_from_the_control_plane_has_a_session(api: Api) -> None:
    """A made-up one: idle since the item was enqueued, read, changed and written to like any, but not listed."""
    at = api.freeze()
    queue = api.queue()
    [work] = api.enqueue(queue)
    api.advance(5)
    path = f"/v1/sessions/{work['data']['id']}"
    stub = api.ok(api.get(path))
    assert (stub["status"], stub["created_at"], stub["environment_id"]) == ("idle", at, queue)
    assert [tool["type"] for tool in stub["agent"]["tools"]] == ["agent_toolset_20260401"]
    assert [event["processed_at"] for event in events(api, work["data"]["id"])] == [at]
    assert api.ok(api.post(path, json={"title": "named"}))["title"] == "named"
    send(api, stub["id"], MESSAGE)
    assert types(api, stub["id"])[-3:] == ["user.message", "session.status_running", "session.status_idle"]
    assert api.ok(api.get("/v1/sessions"))["data"] == []


def test_enqueueing_costs_no_key_but_the_items_own(
    redis_backed: WorkyardServer, redis_server: RedisServer, new_api: Callable[..., Api]
) -> None:
    """Where a session is, is noted when somebody first looks for it by its id alone, and removed with it."""
    api = new_api(redis_backed.url)
    queue = api.queue()
    with closing(redis.Redis.from_url(redis_server.url, decode_responses=True)) as raw:

        def keys(session_id: str) -> set[str]:
            return {key.removeprefix("wy:") for key in raw.scan_iter(f"wy:*{session_id}*", count=1000)}

        [work] = api.enqueue(queue)
        known = work["data"]["id"]
        assert keys(known) == set()
        worker = api.as_key(str(api.ok(api.post(f"/_emulator/environments/{queue}/keys"))["key"]))
        worker.ok(worker.get(f"/v1/sessions/{known}"))
        worker.close()
        assert keys(known) == {f"{{{queue}}}:session:{known}", f"{{{queue}}}:events:{known}"}
        for _ in range(2):
            api.ok(api.get(f"/v1/sessions/{known}"))
            assert keys(known) == {f"{{{queue}}}:session:{known}", f"{{{queue}}}:events:{known}", f"{{{known}}}:at"}
            api.ok(api.delete(f"/v1/sessions/{known}"))
            assert keys(known) == set()
            refused(api.get(f"/v1/sessions/{known}"), 404, f"Session {known} not found.")
            assert keys(known) == set()
            api.enqueue(queue, session_id=known)
        api.ok(api.delete(f"/v1/environments/{queue}", params={"force": "true"}))
        assert keys(known) == set()


def test_any_token_finds_the_session_of_enqueued_work_and_a_known_key_its_own(
    api: Api, new_api: Callable[..., Api]
) -> None:
    """One that is no known API key looks everywhere, a known one in its workspace, an issued one in its environment's."""
    queues = [api.queue() for _ in range(3)]
    other = new_api(api.url)
    issued = str(other.ok(other.post(f"/_emulator/environments/{other.queue()}/keys"))["key"])
    for token, status in (("made-up", 200), (f"sk-ant-oat01-{queues[0][4:]}-x", 200), (api.api_key, 200),
                          (other.api_key, 404), (issued, 404)):  # fmt: skip
        [work] = api.enqueue(queues[1])
        asking = api.as_key(token)
        assert [asking.get(f"/v1/sessions/{work['data']['id']}").status_code for _ in range(2)] == [status] * 2
        asking.close()


def test_one_session_id_enqueued_in_two_environments_is_each_callers_own(api: Api, new_api: Callable[..., Api]) -> None:
    """The id alone leads each API key to its environment."""
    other = new_api(api.url)
    mine, theirs = api.queue(), other.queue()
    for client, queue in ((api, mine), (other, theirs)):
        client.enqueue(queue, session_id="session_shared")
    for client, queue in ((api, mine), (other, theirs)):
        assert client.ok(client.get("/v1/sessions/session_shared"))["environment_id"] == queue
    other.reset()
    assert api.ok(api.get("/v1/sessions/session_shared"))["environment_id"] == mine


def test_every_credential_of_a_worker_reaches_its_session(api: Api) -> None:
    """Sessions token, issued key, a made-up key, and the id's other form."""
    queue = api.queue()
    made = session(api, queue)
    issued = str(api.ok(api.post(f"/_emulator/environments/{queue}/keys"))["key"])
    for token in (issued, "sk-ant-oat01-made-up", "any worker"):
        worker = api.as_key(token)
        assert worker.ok(worker.get(f"/v1/sessions/{made['id']}"))["id"] == made["id"]
        worker.close()
    assert api.ok(api.get(f"/v1/sessions/{made['id'].replace('session_', 'sesn_')}"))["id"] == made["id"]


def test_a_known_api_key_does_not_reach_a_foreign_session(api: Api, new_api: Callable[..., Api]) -> None:
    """404 on every route, as for one that does not exist."""
    made = session(api, api.queue())["id"]
    other = new_api(api.url)
    other.queue()
    for asked, known in ((other, made), (api, "session_absent"), (api, "nonsense")):
        path = f"/v1/sessions/{known}"
        message = f"Session {known} not found."
        refused(asked.get(path), 404, message)
        refused(asked.post(path, json={"title": "x"}), 404, message)
        refused(asked.post(path + "/archive"), 404, message)
        refused(asked.delete(path), 404, message)
        refused(asked.get(path + "/events"), 404, message)
        refused(asked.get(path + "/events/stream"), 404, message)
        refused(asked.post(path + "/events", json={"events": [MESSAGE]}), 404, message)
    assert api.ok(api.get(f"/v1/sessions/{made}"))["title"] is None


def test_sessions_are_listed_newest_first_across_environments_in_pages(api: Api) -> None:
    """Archived ones only on demand; a deleted one leaves no gap."""
    queues = [api.queue(), api.queue()]
    made = [session(api, queues[n % 2])["id"] for n in range(7)]
    api.ok(api.delete(f"/v1/sessions/{made[3]}"))
    api.ok(api.post(f"/v1/sessions/{made[5]}/archive"))
    for include, wanted in ((False, [6, 4, 2, 1, 0]), (True, [6, 5, 4, 2, 1, 0])):
        seen: list[str] = []
        page: str | None = None
        while True:
            query = {"limit": "2", "include_archived": str(include).lower()} | ({"page": page} if page else {})
            answer = api.ok(api.get("/v1/sessions", params=query))
            seen += [row["id"] for row in answer["data"]]
            page = answer["next_page"]
            if page is None:
                break
        assert seen == [made[n] for n in wanted]
    refused(api.get("/v1/sessions?page=page_x"), 400, "page: Invalid cursor")


def test_an_update_changes_what_it_names_and_says_so_in_an_event(api: Api) -> None:
    """Title, metadata as a patch, and the agent's tools; what is the same makes no event."""
    made = session(api, api.queue(), title="a", metadata={"keep": "1", "drop": "2"})
    path = f"/v1/sessions/{made['id']}"
    tool = {"type": "custom", "name": "look", "description": "Looks", "input_schema": {"type": "object"}}
    patch = {"title": "b", "metadata": {"drop": None, "new": "3"}, "agent": {"tools": [tool]}}
    changed = api.ok(api.post(path, json=patch))
    assert (changed["title"], changed["metadata"]) == ("b", {"keep": "1", "new": "3"})
    assert changed["agent"]["tools"] == [tool]
    last = events(api, made["id"])[-1]
    assert last["type"] == "session.updated"
    assert (last["title"], last["metadata"], last["agent"]) == ("b", changed["metadata"], changed["agent"])
    before = types(api, made["id"])
    assert api.ok(api.post(path, json={"title": "b"}))["title"] == "b"
    assert api.ok(api.post(path))["title"] == "b"
    assert api.ok(api.post(path, json={"metadata": None, "agent": None, "budget": None}))["title"] == "b"
    assert types(api, made["id"]) == before
    assert api.ok(api.post(path, json={"title": None}))["title"] is None
    too_many = {f"k{n}": "v" for n in range(17)}
    answer = api.post(path, json={"metadata": too_many})
    refused(answer, 400, "metadata: too many keys (19 > 16)", {"error_code": "invalid_metadata"})


@pytest.mark.parametrize("verb", ["archive", "delete"])
@pytest.mark.parametrize("state", ["queued", "starting", "active", "stopping", "stopped"])
def test_the_end_of_a_session_stops_its_work_at_once(api: Api, verb: str, state: str) -> None:
    """Whatever state that is in; the item stays on record."""
    queue = api.queue()
    made = session(api, queue)
    work = item(api, queue, made["id"])["id"]
    if state != "queued":
        assert api.poll(queue)["id"] == work
        api.ok(api.ack(queue, work))
    if state in ("active", "stopping", "stopped"):
        api.ok(api.heartbeat(queue, work))
    if state in ("stopping", "stopped"):
        api.ok(api.stop(queue, work, force=state == "stopped"))
    assert api.work(queue, work)["state"] == state
    path = f"/v1/sessions/{made['id']}"
    api.ok(api.post(path + "/archive") if verb == "archive" else api.delete(path))
    assert api.work(queue, work)["state"] == "stopped"
    assert api.poll(queue) is None
    ended = api.ok(api.heartbeat(queue, work))
    assert (ended["state"], ended["lease_extended"]) == ("stopped", False)


def test_an_archived_session_is_terminated_and_takes_nothing_more(api: Api) -> None:
    """A repeat changes nothing."""
    queue = api.queue()
    made = session(api, queue)
    path = f"/v1/sessions/{made['id']}"
    archived = api.ok(api.post(path + "/archive"))
    assert archived["status"] == "terminated"
    assert archived["archived_at"] == archived["updated_at"]
    assert types(api, made["id"])[-1] == "session.status_terminated"
    again = api.ok(api.post(path + "/archive"))
    assert (again["archived_at"], types(api, made["id"]).count("session.status_terminated")) == (
        archived["archived_at"],
        1,
    )
    message = f"Session {made['id']} is archived and takes no events."
    refused(api.post(path + "/events", json={"events": [MESSAGE]}), 400, message)
    refused(api.post(path, json={"title": "x"}), 400, f"Session {made['id']} is archived and cannot be updated.")
    assert api.poll(queue) is None


def test_a_running_session_is_neither_archived_nor_deleted_nor_given_other_tools(api: Api) -> None:
    """The texts of the service; it runs on, and its title can be changed."""
    running = json.dumps({"steps": [{"wait": 3600}, "idle"]})
    made = session(api, api.queue(), metadata={"workyard_script": running}, initial_events=[MESSAGE])
    path = f"/v1/sessions/{made['id']}"
    assert made["status"] == "running"
    refused(
        api.post(path + "/archive"),
        400,
        f'Session {made["id"]} cannot be archived while its status is "running". '
        "Only pending or idle sessions may be archived.",
    )
    refused(api.delete(path), 400, RUNNING)
    told = f"Session {made['id']} is running: its agent cannot be updated."
    refused(api.post(path, json={"agent": {"tools": []}}), 400, told)
    assert api.ok(api.post(path, json={"title": "x"}))["status"] == "running"


def test_a_deleted_session_is_gone_until_the_control_plane_enqueues_it_again(api: Api) -> None:
    """A message through the control plane revives its item, and makes up a session for it."""
    queue = api.queue()
    made = session(api, queue, title="old")
    path = f"/v1/sessions/{made['id']}"
    assert api.ok(api.delete(path)) == {"id": made["id"], "type": "session_deleted"}
    refused(api.get(path), 404, f"Session {made['id']} not found.")
    refused(api.delete(path), 404, f"Session {made['id']} not found.")
    api.enqueue(queue, session_id=made["id"])
    assert api.poll(queue)["data"]["id"] == made["id"]
    assert api.ok(api.get(path))["title"] is None


def test_a_session_needs_a_live_environment_of_the_caller(api: Api, new_api: Callable[..., Api]) -> None:
    """404 for an absent or foreign one, 400 for an archived one."""
    queue = api.queue()
    api.ok(api.post(f"/v1/environments/{queue}/archive"))
    body = {"agent": ABSENT_AGENT, "environment_id": queue}
    refused(api.post("/v1/sessions", json=body), 400, f"Environment {queue} is archived.")
    foreign = new_api(api.url).queue()
    for absent in (foreign, "env_011CZkZ9X2dpNyB7HsEFoRfW", "x"):
        answer = api.post("/v1/sessions", json=body | {"environment_id": absent})
        refused(answer, 404, f"Environment {absent} not found.")
    assert api.ok(api.get("/v1/sessions"))["data"] == []


@pytest.mark.parametrize("kind", ["cloud", "self_hosted"])
def test_an_environment_with_active_sessions_is_deleted_by_force_only(api: Api, kind: str) -> None:
    """Archived sessions and those of the control plane do not count; with force, nothing of them is left."""
    environment = str(api.environment(config={"type": kind})["id"])
    made = [session(api, environment)["id"] for _ in range(3)]
    path = f"/v1/environments/{environment}"
    message = "Environment has {} active sessions. Use force=true to delete anyway."
    refused(api.delete(path), 409, message.format(3))
    api.ok(api.post(f"/v1/sessions/{made[0]}/archive"))
    refused(api.delete(path), 409, message.format(2))
    api.ok(api.delete(path, params={"force": "true"}))
    for each in made:
        refused(api.get(f"/v1/sessions/{each}"), 404, f"Session {each} not found.")
    assert api.ok(api.get("/v1/sessions?include_archived=true"))["data"] == []
    again = str(api.environment(config={"type": kind})["id"])
    only = session(api, again)["id"]
    api.ok(api.delete(f"/v1/sessions/{only}"))
    api.ok(api.delete(f"/v1/environments/{again}"))


def test_an_agent_is_kept_as_it_was_defined_and_copied_into_sessions(api: Api) -> None:
    """A session may replace parts of it; any other id stands for a default agent."""
    at = api.freeze()
    tools = [{"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}}]
    body = {"name": "coder", "model": "some-model", "system": "Be brief.", "tools": tools, "metadata": {"a": "1"}}
    agent = api.ok(api.post("/v1/agents", json={**body, "multiagent": None, "execution_identity": None}))
    assert (agent["name"], agent["system"], agent["version"], agent["created_at"]) == ("coder", "Be brief.", 1, at)
    assert agent["tools"][0]["default_config"] == {"enabled": True, "permission_policy": {"type": "always_ask"}}
    assert api.ok(api.get(f"/v1/agents/{agent['id']}")) == agent
    queue = api.queue()
    copied = session(api, queue, agent=agent["id"])["agent"]
    assert {**agent, **copied} == agent
    override = {"type": "agent_with_overrides", "id": agent["id"], "system": None, "tools": []}
    changed = session(api, queue, agent=override)["agent"]
    assert changed == {**copied, "system": None, "tools": []}
    assert session(api, queue, agent={"type": "agent", "id": agent["id"], "version": 1})["agent"] == copied
    assert session(api, queue, agent="anything")["agent"]["id"] == "anything"
    absent = api.ok(api.get(f"/v1/agents/{ABSENT_AGENT}"))
    assert {**absent, **session(api, queue, agent=ABSENT_AGENT)["agent"]} == absent
    assert absent["created_at"] == "1970-01-01T00:00:00.000000Z"
    refused(api.get("/v1/agents/anything"), 404, "Agent anything not found.")


def test_the_time_of_a_session_is_its_workspaces(api: Api) -> None:
    """Seconds since it was created, until it ends."""
    api.freeze()
    made = session(api, api.queue())
    api.advance(90)
    path = f"/v1/sessions/{made['id']}"
    assert api.ok(api.get(path))["stats"]["duration_seconds"] == 90
    archived = api.ok(api.post(path + "/archive"))
    api.advance(10)
    later = api.ok(api.get(path))
    assert later["stats"]["duration_seconds"] == 90
    assert instant(later["archived_at"]) == instant(archived["archived_at"])


def test_without_credentials_a_session_is_found_wherever_it_is(engine_options: tuple[str, ...]) -> None:
    """Mode `none`: created ones and those of enqueued work, in the workspace of calls without a token and in another."""
    with running_server(*engine_options, "--auth", "none") as server:
        nobody, somebody = Api(server.url, ""), Api(server.url)
        try:
            for owner in (nobody, somebody):
                queue = owner.queue()
                made = [session(owner, queue)["id"], owner.enqueue(queue)[0]["data"]["id"]]
                for known in made:
                    assert nobody.ok(nobody.get(f"/v1/sessions/{known}"))["environment_id"] == queue
                    nobody.ok(nobody.delete(f"/v1/sessions/{known}"))
        finally:
            assert nobody.ok(nobody.post("/_emulator/reset?workspace=default"))["leftover_keys"] == 0
            assert somebody.reset()["leftover_keys"] == 0
            nobody.close()
            somebody.close()
