"""Credentials and workspaces in the modes `any` and `none`: who reaches what. Rules: `credentials.*`."""

from __future__ import annotations

import http.client
import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.credentials import NEVER_ISSUED, environments, everything_below, issue, sessions_token
from tests.support.harness import NOON, Api, WorkyardServer, after, refused, running_server

_names = itertools.count(1)


def spaced_get(api: Api, headers: dict[str, str]) -> tuple[int, list[str]]:
    """List environments with header values that httpx would refuse to send; return the status and the ids."""
    link = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=10)
    try:
        link.request("GET", "/v1/environments?limit=1000", headers=headers)
        answer = link.getresponse()
        return answer.status, [row["id"] for row in json.load(answer).get("data", [])]
    finally:
        link.close()


def works_off(client: Api, environment: str, work: str) -> dict[str, Any]:
    """Do what a worker does with the next item, which must be this one; return the stopped item."""
    assert client.poll(environment)["id"] == work
    client.ok(client.ack(environment, work))
    assert client.ok(client.heartbeat(environment, work, "NO_HEARTBEAT"))["lease_extended"] is True
    client.ok(client.stop(environment, work))
    stopped: dict[str, Any] = client.ok(client.stop(environment, work, force=True))
    return stopped


# -- a token must be there (mode any)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Basic abc"},
        {"authorization": "abc"},
        {"x-api-key": "", "authorization": "Bearer"},
    ],
    ids=str,
)
def test_without_a_token_every_call_is_refused(api: Api, headers: dict[str, str]) -> None:
    """An empty header counts as absent. The credential comes before everything but the path."""
    queue = api.queue()
    [item] = api.enqueue(queue)
    with httpx.Client(base_url=api.url, headers=headers, verify=False) as nobody:
        client = api.as_key("")
        client.close()
        client.get, client.post, client.delete = nobody.get, nobody.post, nobody.delete
        for answer in (
            nobody.get("/v1/environments"),
            nobody.post("/v1/environments", json={"name": "x"}),
            nobody.post("/v1/environments", content=b"not json"),
            nobody.get("/v1/environments/env_unknown"),
            *everything_below(client, queue, item["id"]),
        ):
            refused(answer, 401, "x-api-key header is required")
        refused(nobody.get("/v1/nothing"), 404, "Not found")
    assert api.work(queue, item["id"])["state"] == "queued"


def test_space_is_no_token(api: Api) -> None:
    """Nothing but space behind the name of the header, or of the scheme."""
    for headers in (
        {"x-api-key": "   "},
        {"authorization": "Bearer   "},
        {"x-api-key": " ", "authorization": "Bearer "},
    ):
        assert spaced_get(api, headers) == (401, [])


def test_a_key_is_the_same_in_either_header(api: Api) -> None:
    """SDKs have used both. The name of the scheme has no case, and space around a token is none of it."""
    queue = api.queue()
    for form in ("x-api-key: {}", "X-Api-Key:  {} ", "Authorization: Bearer {}", "authorization: bearer  {} "):
        name, _, value = form.format(api.api_key).partition(":")
        assert spaced_get(api, {name: value}) == (200, [queue])


def test_x_api_key_wins_over_a_bearer_token(api: Api, new_api: Callable[..., Api]) -> None:
    """Unless it is empty."""
    other = new_api(api.url)
    mine, theirs = api.queue(), other.queue()
    bearer = {"authorization": f"Bearer {other.api_key}"}
    assert [row["id"] for row in api.ok(api.get("/v1/environments", headers=bearer))["data"]] == [mine]
    refused(api.get(f"/v1/environments/{theirs}", headers=bearer), 404, f"Environment {theirs} not found.")
    for empty in ("", "  "):
        assert spaced_get(api, {"x-api-key": empty, **bearer}) == (200, [theirs])


# -- isolation


def test_a_known_key_does_not_reach_another_workspace(api: Api, new_api: Callable[..., Api]) -> None:
    """Every call is 404, whatever it would have done, and nothing has changed."""
    other = new_api(api.url)
    other.queue()
    queue = api.queue()
    [item] = api.enqueue(queue)
    before = api.ok(api.get(f"/v1/environments/{queue}"))
    for answer in everything_below(other, queue, item["id"]):
        refused(answer, 404, f"Environment {queue} not found.")
    assert api.ok(api.get(f"/v1/environments/{queue}")) == before
    assert api.work(queue, item["id"]) == item
    assert api.stats(queue)["depth"] == 1


def test_lists_show_the_own_workspace_only(api: Api, new_api: Callable[..., Api]) -> None:
    """Each key has its own, and one that nobody used before has none."""
    other = new_api(api.url)
    mine = [api.queue() for _ in range(3)]
    theirs = [other.queue() for _ in range(2)]
    assert environments(api) == mine[::-1]
    assert environments(other) == theirs[::-1]
    assert environments(new_api(api.url)) == []


def test_a_key_stays_known_when_its_environments_are_gone(api: Api, new_api: Callable[..., Api]) -> None:
    """Known is one that *has* created an environment."""
    other = new_api(api.url)
    queue = api.queue()
    assert other.stats(queue)["depth"] == 0
    gone = other.queue()
    refused(other.get(other.path(queue, "stats")), 404, f"Environment {queue} not found.")
    other.ok(other.delete(f"/v1/environments/{gone}"))
    refused(other.get(other.path(queue, "stats")), 404, f"Environment {queue} not found.")


# -- made-up tokens


@pytest.mark.parametrize(
    "token",
    [
        "anything",
        "sk-ant-api03-made-up",
        "sk-ant-oat01-made-up",
        "sk-ant-oat01-",
        "sk-ant-req01-",
        "sk-ant-req01-x-y-z",
        NEVER_ISSUED,
        NEVER_ISSUED.replace("oat01", "req01"),
        "k" * 4000,
    ],
)
def test_a_worker_works_with_any_made_up_token(api: Api, new_api: Callable[..., Api], token: str) -> None:
    """Below an environment it acts in that environment's workspace, by its clock; elsewhere it has its own."""
    api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue)
    worker = new_api(api.url, token, reset=False)
    assert worker.ok(worker.get(f"/v1/environments/{queue}"))["id"] == queue
    assert worker.stats(queue)["depth"] == 1
    assert works_off(worker, queue, item["id"])["stopped_at"] == NOON
    assert environments(worker) == []


def test_a_worker_whose_token_has_a_clock_of_its_own_works_by_the_environments(
    api: Api, new_api: Callable[..., Api]
) -> None:
    """To have set a clock does not make a key known."""
    api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue)
    worker = new_api(api.url)
    worker.freeze(after(NOON, 1000))
    worker.ok(worker.post("/_emulator/settings", json={"default_ttl_seconds": 7}))
    assert works_off(worker, queue, item["id"])["acknowledged_at"] == NOON


# -- environment keys


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_an_environment_key_means_its_environments_workspace_everywhere(
    api: Api, new_api: Callable[..., Api], header: str
) -> None:
    """On its environment, on the others of the workspace, and where no environment is named; not elsewhere."""
    foreign = new_api(api.url)
    theirs = foreign.queue()
    api.freeze()
    queue, sibling = api.queue(), api.queue()
    _, key = issue(api, queue)
    worker = new_api(api.url, "")
    worker.http.headers[header] = f"Bearer {key}" if header == "authorization" else key
    for environment in (queue, sibling):
        [item] = api.enqueue(environment)
        assert works_off(worker, environment, item["id"])["stopped_at"] == NOON
    made = worker.environment(name="made by a worker")
    assert made["created_at"] == NOON
    assert environments(worker) == environments(api) == [made["id"], sibling, queue]
    assert worker.ok(worker.get("/_emulator/clock"))["now"] == NOON
    worker.ok(worker.post("/_emulator/clock", json={"advance_seconds": 1}))
    assert api.ok(api.get("/_emulator/clock"))["now"] == after(NOON, 1)
    for answer in everything_below(worker, theirs, "work_01AAAAAAAAAAAAAAAAAAAAAA"):
        refused(answer, 404, f"Environment {theirs} not found.")


def test_a_revoked_environment_key_is_an_ordinary_token(api: Api, new_api: Callable[..., Api]) -> None:
    """It names no workspace any more; below an environment it works as any made-up token does, even a foreign one."""
    foreign = new_api(api.url)
    theirs, queue = foreign.queue(), api.queue()
    key_id, key = issue(api, queue)
    worker = new_api(api.url, key, reset=False)
    assert environments(worker) == [queue]
    api.ok(api.delete(f"/_emulator/environments/{queue}/keys/{key_id}"))
    assert environments(worker) == []
    for client, environment in ((api, queue), (foreign, theirs)):
        [item] = client.enqueue(environment)
        works_off(worker, environment, item["id"])


def test_an_issued_key_does_not_outlive_its_environment(api: Api, new_api: Callable[..., Api]) -> None:
    """With the environment, what made it special is gone."""
    queue, sibling = api.queue(), api.queue()
    _, key = issue(api, queue)
    worker = new_api(api.url, key, reset=False)
    assert environments(worker) == [sibling, queue]
    api.ok(api.delete(f"/v1/environments/{queue}"))
    assert environments(worker) == []


def test_a_key_with_another_secret_is_not_the_issued_one(api: Api, new_api: Callable[..., Api]) -> None:
    """Only the whole value is the key: neither its name nor a part of it is enough."""
    queue = api.queue()
    _, key = issue(api, queue)
    for value in (key[:-1], key + "A", key[:-1] + ("A" if key[-1] != "A" else "B"), key.upper()):
        assert environments(new_api(api.url, value, reset=False)) == []
    assert environments(new_api(api.url, key, reset=False)) == [queue]


# -- sessions tokens


def test_a_sessions_token_means_its_environments_workspace_everywhere(api: Api, new_api: Callable[..., Api]) -> None:
    """As an environment key does: on its item, on others, on POST /v1/environments; 404 in a foreign workspace."""
    foreign = new_api(api.url)
    theirs = foreign.queue()
    api.freeze()
    queue = api.queue()
    first, second = (item["id"] for item in api.enqueue(queue, 2))
    token = sessions_token(api.poll(queue))
    session = new_api(api.url, token, reset=False)
    session.ok(session.ack(queue, first))
    assert session.ok(session.heartbeat(queue, first, "NO_HEARTBEAT"))["last_heartbeat"] == NOON
    session.ok(session.stop(queue, second))
    made = session.environment()
    assert made["created_at"] == NOON
    assert environments(session) == environments(api) == [made["id"], queue]
    refused(session.get(f"/v1/environments/{theirs}"), 404, f"Environment {theirs} not found.")


@pytest.mark.parametrize("death", ["lapse", "message", "delete"])
def test_all_tokens_of_one_life_are_good_and_none_of_the_life_before(
    api: Api, new_api: Callable[..., Api], death: str
) -> None:
    """Each hand-out mints one; they outlive ack, reclaim and stop, not a re-queue, a re-enqueue or the deletion."""
    api.freeze()
    queue, sibling = api.queue(), api.queue()
    [item] = api.enqueue(queue)
    tokens = [sessions_token(api.poll(queue))]
    api.advance(5)
    tokens.append(sessions_token(api.poll(queue)))
    assert len(set(tokens)) == 2
    sessions = [new_api(api.url, token, reset=False) for token in tokens]
    assert [environments(session) for session in sessions] == [[sibling, queue]] * 2
    api.ok(api.ack(queue, item["id"]))
    if death == "message":
        api.ok(api.stop(queue, item["id"], force=True))
    assert [environments(session) for session in sessions] == [[sibling, queue]] * 2
    if death == "lapse":
        api.advance(120)
        assert api.stats(queue)["depth"] == 1
    elif death == "message":
        api.enqueue(queue, session_id=item["data"]["id"])
    else:
        api.ok(api.delete(f"/v1/environments/{queue}"))
    assert [environments(session) for session in sessions] == [[], []]
    if death != "delete":
        fresh = new_api(api.url, sessions_token(api.poll(queue)), reset=False)
        assert environments(fresh) == [sibling, queue]
        assert [environments(session) for session in sessions] == [[], []]


@pytest.mark.parametrize("death", ["lapse", "message"])
def test_a_token_of_an_earlier_life_is_refused_on_its_item_and_its_session(
    api: Api, new_api: Callable[..., Api], death: str
) -> None:
    """A heartbeat is told 412, whatever it expects and whoever holds the item now; everything else 401."""
    api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue)
    work, session = item["id"], f"/v1/sessions/{item['data']['id']}"
    old = new_api(api.url, sessions_token(api.poll(queue)), reset=False)
    old.ok(old.ack(queue, work))
    beat = old.ok(old.heartbeat(queue, work, "NO_HEARTBEAT"))["last_heartbeat"]
    assert old.ok(old.get(session))["status"] == "idle"
    assert old.ok(old.get(f"{session}/events"))["data"]
    if death == "lapse":
        api.advance(300)
    else:
        old.ok(old.stop(queue, work, force=True))
        assert old.ok(old.get(session))["status"] == "idle"
        api.enqueue(queue, session_id=item["data"]["id"])
    for holder in (None, "active", "stopping"):
        if holder == "active":
            fresh = new_api(api.url, sessions_token(api.poll(queue)), reset=False)
            fresh.ok(fresh.ack(queue, work))
            beat = fresh.ok(fresh.heartbeat(queue, work, "NO_HEARTBEAT"))["last_heartbeat"]
        elif holder == "stopping":
            fresh.ok(fresh.stop(queue, work))
        for expected in (None, "NO_HEARTBEAT", beat):
            answer = old.heartbeat(queue, work, expected)
            assert answer.status_code == 412, (holder, expected, answer.text)
            assert answer.headers["workyard-rule"] == "credentials.sessions-token.dead-heartbeat"
            assert answer.json()["error"]["details"]["current_state"]["state"] == (holder or "queued")
        tool_result = {"type": "user.tool_result", "tool_use_id": "sevt_1", "content": []}
        for refusal in (
            old.ack(queue, work),
            old.stop(queue, work, force=True),
            old.get(api.path(queue, work)),
            old.get(session),
            old.get(f"{session}/events"),
            old.get(f"{session}/events/stream"),
            old.post(f"{session}/events", json={"events": [tool_result]}),
        ):
            refused(refusal, 401, "OAuth access token has been revoked.")
        assert api.work(queue, work)["state"] == (holder or "queued")


def test_secrets_are_shown_by_polls_only(api: Api) -> None:
    """Null in every other answer that holds the object."""
    queue = api.queue()
    [item] = api.enqueue(queue)
    assert item["secret"] is None
    assert sessions_token(api.poll(queue))
    answers = [
        api.work(queue, item["id"]),
        *api.ok(api.get(api.path(queue)))["data"],
        api.ok(api.post(api.path(queue, item["id"]), json={"metadata": {}})),
        api.ok(api.ack(queue, item["id"])),
        api.ok(api.stop(queue, item["id"])),
    ]
    assert [answer["secret"] for answer in answers] == [None] * 5


# -- mode none


@pytest.fixture(scope="module")
def open_server(engine_options: tuple[str, ...]) -> Iterator[WorkyardServer]:
    """A server that asks for no token; on Redis under a key prefix of its own. What it leaves there is removed."""
    prefix = f"none-{os.getpid()}-{next(_names)}"
    with running_server("--auth", "none", "--key-prefix", prefix, *engine_options) as running, ExitStack() as closing:
        yield running
        client = Api(running.url, "")
        closing.callback(client.close)
        assert client.ok(client.post("/_emulator/reset?workspace=*"))["leftover_keys"] == 0


@pytest.fixture
def nobody(open_server: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client without a token."""
    return new_api(open_server.url, "")


@pytest.fixture
def keyed(open_server: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client with a key that has created an environment."""
    client = new_api(open_server.url)
    client.queue()
    return client


def test_without_a_token_an_environment_is_made_in_the_default_workspace(nobody: Api, keyed: Api) -> None:
    """It has its list and its clock, which `?workspace=default` names."""
    there = environments(nobody)
    made = nobody.queue()
    assert environments(nobody) == [made, *there]
    assert made not in environments(keyed)
    [item] = nobody.enqueue(made)
    works_off(nobody, made, item["id"])
    now = nobody.ok(nobody.post("/_emulator/clock?workspace=default", json={"advance_seconds": 3600}))["now"]
    assert nobody.enqueue(made)[0]["created_at"] >= now
    assert keyed.ok(keyed.get("/_emulator/clock"))["now"] < now


def test_an_empty_header_is_no_token(nobody: Api) -> None:
    """It acts in the default workspace, as without the header."""
    made = nobody.queue()
    for headers in ({"x-api-key": ""}, {"authorization": "Bearer "}, {"authorization": "Basic abc"}):
        status, ids = spaced_get(nobody, headers)
        assert (status, ids[0]) == (200, made)


def test_without_a_token_a_call_acts_in_the_workspace_of_what_its_path_names(nobody: Api, keyed: Api) -> None:
    """Everything below an environment, by that workspace's clock."""
    keyed.freeze()
    queue = keyed.queue()
    [item] = keyed.enqueue(queue)
    assert nobody.ok(nobody.get(f"/v1/environments/{queue}"))["id"] == queue
    assert works_off(nobody, queue, item["id"])["stopped_at"] == NOON
    assert queue not in environments(nobody)
    assert nobody.ok(nobody.post(f"/v1/environments/{queue}/archive"))["archived_at"] == NOON
    assert nobody.ok(nobody.delete(f"/v1/environments/{queue}")) == {"id": queue, "type": "environment_deleted"}


def test_keys_are_workspaces_in_mode_none_too(nobody: Api, keyed: Api, new_api: Callable[..., Api]) -> None:
    """Known keys are kept apart, from the default workspace as well; made-up tokens work below any environment."""
    other = new_api(nobody.url)
    theirs, default = other.queue(), nobody.queue()
    for environment in (theirs, default):
        refused(keyed.get(f"/v1/environments/{environment}"), 404, f"Environment {environment} not found.")
        refused(keyed.get(keyed.path(environment, "poll")), 404, f"Environment {environment} not found.")
        assert new_api(nobody.url, reset=False).stats(environment)["depth"] == 0
    assert environments(other) == [theirs]


def test_issued_tokens_mean_the_default_workspace_where_their_environment_is_in_it(
    nobody: Api, keyed: Api, new_api: Callable[..., Api]
) -> None:
    """An environment key and a sessions token, in mode none."""
    queue = nobody.queue()
    nobody.enqueue(queue)
    _, key = issue(nobody, queue)
    token = sessions_token(nobody.poll(queue))
    [theirs] = environments(keyed)
    for value in (key, token):
        worker = new_api(nobody.url, value, reset=False)
        made = worker.queue()
        assert environments(worker)[0] == environments(nobody)[0] == made
        refused(worker.get(f"/v1/environments/{theirs}"), 404, f"Environment {theirs} not found.")
