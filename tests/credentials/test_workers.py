"""Mode `strict` at work: the SDK's own workers with real keys and tokens, blocked polls, what an API key may not send, round
trips, the headers that are asked for, fixtures and faults. Rules: `credentials.strict.*`, `credentials.headers.*`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
import redis
from click.testing import CliRunner

from tests.support.credentials import issue, sessions_token
from tests.support.harness import Api, WorkyardServer, refused, running_server, wait_until
from tests.support.sdk_processes import BOTH, claimed, credentials, texts
from tests.support.sessions import MESSAGE, session
from tests.support.workers import Worker
from workyard.cli.main import main
from workyard.testing import Emulator, WorkyardRefused

pytestmark = pytest.mark.xdist_group("strict")

REVOKED = "OAuth access token has been revoked."
RESULT = {"type": "user.tool_result", "tool_use_id": "sevt_1", "content": [{"type": "text", "text": "x"}]}
ENVIRONMENT_CREDENTIALS = (
    "events[{}]: `user.tool_result` may only be sent with environment credentials (the self-hosted runner's "
    "Session-Instance JWT); an API key or Console session cannot post this event type"
)
Start = Callable[..., Worker]
NewWorker = Callable[[Api, str], Api]


@pytest.fixture
def api(strict_server: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client of a strict server, in a workspace of its own."""
    return new_api(strict_server.url)


@pytest.fixture
def other(strict_server: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client in another workspace."""
    return new_api(strict_server.url)


def scripted(api: Api) -> tuple[str, str]:
    """Create a session in an environment of its own, with a script that calls tools; return both."""
    queue = api.queue()
    script = json.dumps({"steps": BOTH})
    return queue, str(session(api, queue, metadata={"workyard_script": script}, initial_events=[MESSAGE])["id"])


def finished(api: Api, made: str) -> bool:
    """Tell whether a session has come to the end of its script."""
    return bool(api.ok(api.get(f"/_emulator/sessions/{made}/script"))["report"]["finished"])


@pytest.mark.no_redis
def test_the_sdks_workers_run_sessions_with_the_credentials_that_they_are_given(
    api: Api, new_worker: NewWorker, start_worker: Start
) -> None:
    """A worker with its environment's key, one that is handed an item with either credential, and a poller."""

    def serve(story: str) -> None:
        queue, made = scripted(api)
        known = credentials(api, queue)
        program = {"run": "run", "poller": "sync_poller"}.get(story, "handle_item")
        if program == "handle_item":
            known |= claimed(new_worker(api, queue), queue)
            del known["ANTHROPIC_ENVIRONMENT_KEY" if story == "by secret" else "ANTHROPIC_WORK_SECRET"]
            del known["ANTHROPIC_API_KEY"]
        process = start_worker(program, known, story.replace(" ", "-"))
        if program == "run":
            process.until(lambda: finished(api, made), "the session is over")
            process.terminate()
        else:
            process.end()
        assert finished(api, made), process.log()
        assert texts(api, made, "agent.message") == ["bash: 42", "weather: sunny in Bern"]

    with ThreadPoolExecutor() as pool:
        list(pool.map(serve, ("run", "by secret", "by key", "poller")))


def test_a_blocked_poll_is_answered_when_its_key_is_revoked(api: Api, new_worker: NewWorker) -> None:
    """At once, as a new one would be; another key's waits on."""
    queue = api.queue()
    key_id, key = issue(api, queue)
    answers: dict[str, tuple[httpx.Response, float]] = {}

    def poll(name: str, client: Api) -> None:
        answer = client.get(client.path(queue, "poll"), params={"block_ms": 999})
        answers[name] = answer, time.monotonic()

    loser, other_worker = api.as_key(key), new_worker(api, queue)
    threads = [threading.Thread(target=poll, args=pair) for pair in (("loser", loser), ("other", other_worker))]
    for each in threads:
        each.start()
    wait_until(lambda: api.ok(api.get("/_emulator/health"))["polls_waiting"] == 2, "both wait")
    began = time.monotonic()
    api.ok(api.delete(f"/_emulator/environments/{queue}/keys/{key_id}"))
    for each in threads:
        each.join()
    loser.close()
    refused(answers["loser"][0], 401, REVOKED)
    assert answers["loser"][0].headers["workyard-rule"] == "credentials.strict.revoked"
    assert answers["loser"][1] - began < 0.5
    assert api.ok(answers["other"][0]) is None


def test_the_result_of_a_workers_tool_is_taken_from_workers_only(api: Api, new_worker: NewWorker) -> None:
    """Of several events, none is taken; the first that may not be sent is named."""
    queue = api.queue()
    made = session(api, queue)["id"]
    path, body = f"/v1/sessions/{made}/events", {"events": [{"type": "user.interrupt"}, RESULT, RESULT]}
    before = api.ok(api.get(path))
    refused(api.post(path, json=body), 403, ENVIRONMENT_CREDENTIALS.format(1))
    assert api.ok(api.get(path)) == before
    holder = new_worker(api, queue)
    token = api.as_key(sessions_token(holder.poll(queue)))
    for client in (holder, token):
        client.ok(client.post(path, json=body))
    token.close()


def test_a_credential_is_judged_by_the_step_that_it_is_for(
    api: Api, new_worker: NewWorker, engine_options: tuple[str, ...]
) -> None:
    """A call that succeeds asks Redis once, as in the other modes."""
    if not engine_options:
        pytest.skip("the embedded engine has no monitor")
    queue = api.queue()
    holder = new_worker(api, queue)
    made = session(api, queue)["id"]
    item = holder.poll(queue)
    token = api.as_key(sessions_token(item))
    calls: list[Callable[[], httpx.Response]] = [
        lambda: holder.get(holder.path(queue, "poll")),
        lambda: holder.ack(queue, item["id"]),
        lambda: token.heartbeat(queue, item["id"]),
        lambda: holder.get(holder.path(queue)),
        lambda: holder.get(holder.path(queue, "stats")),
        lambda: api.get(api.path(queue, item["id"])),
        lambda: token.get(f"/v1/sessions/{made}"),
        lambda: holder.get(f"/v1/sessions/{made}/events"),
        lambda: token.stop(queue, item["id"]),
        lambda: api.get(f"/v1/environments/{queue}"),
    ]
    api.ok(api.get("/_emulator/journal"))  # The journal has nothing left to write.
    with redis.Redis.from_url(engine_options[1]) as raw, raw.monitor() as monitor:
        for each in calls:
            api.ok(each())
        raw.echo("over")
        seen: list[str] = []
        for command in monitor.listen():
            if command["command"].endswith("over"):
                break
            # The journal finds the owner of what it writes in its own time.
            if (
                command["client_type"] != "lua"
                and queue in command["command"]
                and not command["command"].endswith(" ws")
            ):
                seen.append(command["command"].split(" ")[0])
    token.close()
    # A script that the server did not know yet was sent once more.
    assert [name for name in seen if name != "EVAL"] == ["EVALSHA"] * (len(calls) - 1) + ["HGETALL"]


def test_environments_of_another_workspace_are_not_there(api: Api, other: Api) -> None:
    """For a key that has made nothing too, which the other modes would let in; nor do names of scripts tell of them."""
    queue = api.queue()
    api.script({"steps": ["idle"]}, "mine")
    body = {"agent": "agent_1", "environment_id": queue}
    refused(other.post("/v1/sessions", json=body), 404, f"Environment {queue} not found.")
    for name in ("mine", "theirs"):
        answer = other.post("/v1/sessions", json={**body, "metadata": {"workyard_script": name}})
        missing = "metadata.workyard_script: The environment's workspace has no script named"
        refused(answer, 400, f"{missing} {name}")
    assert api.ok(api.post("/v1/sessions", json={**body, "metadata": {"workyard_script": "mine"}}))["id"]


def test_what_was_issued_for_an_environment_goes_with_it_and_the_control_plane_asks_for_none(
    api: Api, new_worker: NewWorker
) -> None:
    """Nobody knows any more that it was issued. To the control plane a token only names a workspace."""
    queue = api.queue()
    session(api, queue)
    holder = new_worker(api, queue)
    item = holder.poll(queue)
    token = api.as_key(sessions_token(item))
    api.ok(api.delete(f"/v1/environments/{queue}?force=true"))
    refused(holder.get(holder.path(queue, "poll")), 401, "Invalid bearer token")
    refused(holder.get("/v1/agents/agent_1"), 401, "Invalid bearer token")
    refused(token.heartbeat(queue, item["id"]), 401, REVOKED)
    refused(token.get("/v1/agents/agent_1"), 401, REVOKED)
    refused(api.get(api.path(queue, "stats")), 404, f"Environment {queue} not found.")
    for client in (holder, token):
        client.ok(client.get("/_emulator/clock"))
    token.close()


def test_the_helpers_of_an_emulator_work_in_this_mode_too(strict_server: WorkyardServer) -> None:
    """The list of work is not for API keys: they take a key of the environment, and make one where they have none."""
    with Emulator(url=strict_server.url) as emu:
        queue = emu.environment()
        made = emu.enqueue(queue)
        assert emu.work(queue) == emu.work(queue.id) == made
        assert emu.stats(queue).depth == 1
        assert queue.key not in repr(queue)
        with pytest.raises(WorkyardRefused, match="not found"):
            emu.work("env_unknown")
        emu.reset()


@pytest.mark.no_redis
def test_headers_faults_and_fixtures_keep_the_lanes() -> None:
    """One server for what is set when it starts: the headers of the siblings of this API are asked for, behind the
    credential and before the body; a fault rule refuses what the lane lets pass; reserved ids are in the lanes too."""
    version = {"anthropic-version": "2026-10-21"}
    beta = {"anthropic-beta": "other-1, managed-agents-2026-04-01"}
    memory = {"anthropic-beta": "agent-memory-2026-07-22"}
    in_beta = "this API is in beta: add `{}` to the `anthropic-beta` header"
    # The reserved ids do not have the form that the document describes.
    unchecked = {"WORKYARD_CHECK_RESPONSES": "false"}
    options = ("--auth", "strict", "--require-headers", "--fixtures")
    with running_server(*options, environment=unchecked) as server, ExitStack() as clients:
        api = Api(server.url)
        clients.callback(api.close)
        no_version, no_beta = "anthropic-version: header is required", in_beta.format("managed-agents-2026-04-01")
        for headers, message in (
            ({}, no_version),
            (beta | {"anthropic-version": ""}, no_version),
            (version, no_beta),
            (version | {"anthropic-beta": "managed-agents"}, no_beta),
            (version | memory, no_beta),
        ):
            refused(api.post("/v1/environments", content=b"no json", headers=headers), 400, message)
        stores = "/v1/memory_stores"
        refused(api.get(stores, headers=version), 400, in_beta.format("agent-memory-2026-07-22"))
        for headers in (version | beta, version | memory):
            assert api.ok(api.get(stores, headers=headers))["data"] == []
        assert api.ok(api.get("/v1/skills", headers=version))["data"] == []
        unknown = api.as_key("sk-ant-oat01-unknown")
        refused(unknown.get(stores), 401, "Invalid bearer token")
        refused(unknown.get("/v1/nothing"), 404, "Not found")
        clients.callback(unknown.close)

        # Workyard's own calls keep to it.
        made = CliRunner().invoke(main, ["env", "--create", "demo", "--url", server.url])
        assert made.exit_code == 0, made.output
        with Emulator(url=server.url) as emulator:
            assert emulator.work(emulator.environment()) == []

        api.http.headers.update(version | beta)
        queue = api.queue()
        holder = api.as_key(issue(api, queue)[1])
        clients.callback(holder.close)
        holder.http.headers.update(version | beta)
        api.ok(api.post("/_emulator/faults", json={"scenario": "key-revoked", "environment_id": queue}))
        refused(holder.get(holder.path(queue, "poll")), 401, REVOKED)
        assert holder.stats(queue)["depth"] == 0
        api.ok(api.delete("/_emulator/faults"))
        assert holder.poll(queue) is None

        reserved = "env_011CZkZ9X2dpNyB7HsEFoRfW"
        assert api.work(reserved, "work_id")["state"] == "queued"
        refused(api.get(api.path(reserved, "poll")), 401, "Authentication failed")
        refused(holder.get(holder.path(reserved, "poll")), 403, "Token not authorized for this environment")
        forgotten = api.as_key(issue(api, reserved)[1])
        forgotten.http.headers.update(version | beta)
        refused(forgotten.get(forgotten.path(reserved, "poll")), 401, "Invalid bearer token")
        clients.callback(forgotten.close)
        assert api.ok(api.get(f"/v1/environments/{reserved}"))["id"] == reserved
