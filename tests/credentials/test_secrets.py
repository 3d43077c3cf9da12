"""No token of any kind is written down: not in logs, journals, exports, timelines, metrics, errors, nor in a `repr`, whatever
place a client puts it in. Rules: `credentials.secrets.*`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

import pytest

from tests.support.credentials import issue, sessions_token
from tests.support.harness import Api, WorkyardServer, refused
from tests.support.sessions import MESSAGE, session
from workyard.settings import Settings
from workyard.testing import Emulator
from workyard_store.access import Caller
from workyard_store.calls import ApiCall
from workyard_store.errors import LaneClosed, TokenRevoked, TokenUnknown

#: Of each token, what nobody can know who has not seen it.
MARK = "Mark0123456789abcdefghijk"
UNISSUED = f"sk-ant-oat01-01AAAAAAAAAAAAAAAAAAAAAA-{MARK}"


def tail(token: str) -> str:
    """Return the part of a token that is its secret."""
    return token[-20:]


def misplaced(client: Api, token: str, queue: str, work: str, made: str) -> list[str]:
    """Put a token into every place of requests where it does not belong; return the texts of the errors."""
    named = ("anthropic-worker-id", "x-stainless-helper", "x-stainless-retry-count", "traceparent", "anthropic-beta")
    headers = {**dict.fromkeys(named, token), "user-agent": f"mine/1 ({token})"}
    work_path, refusals = client.path(queue, work), []
    for answer in (
        client.get(client.path(queue, "poll"), headers=headers),
        client.get(client.path(queue, "poll"), headers=headers, params={"block_ms": token}),
        client.get(client.path(queue, token), headers=headers),
        client.get(f"/v1/environments/{token}", headers=headers),
        client.get(f"/v1/environments/{quote(token).replace('sk-', '%73k-')}/work/stats"),
        client.get(f"/v1/sessions/{token}"),
        client.get(f"/v1/{token}/nothing", params={"key": token}),
        client.get(client.path(queue), params={"page": token, "limit": token}),
        client.get(f"/v1/sessions/{made}/events", params={"types": token}),
        client.post(f"{work_path}/heartbeat", params={"expected_last_heartbeat": token}, headers=headers),
        client.post(f"{work_path}/stop", json={token: True}),
        client.post(f"{work_path}/stop", content=f'{{"force": "{token}'),
        client.post(work_path, json={"metadata": {token * 2: "x"}}),
        client.post("/v1/environments", json={"name": token, "config": {"type": token}}),
        client.post(f"/v1/sessions/{made}/events", json={"events": [{"type": token}]}),
        client.post("/v1/sessions", json={"environment_id": token, "agent": token}),
        client.get(f"/v1/memory_stores/{token}/memories"),
        client.get(f"/v1/skills/{token}/versions/{token}"),
        client.get(f"/v1/agents/{token}"),
    ):
        if answer.status_code >= 400:
            refusals.append(answer.text)
    return refusals


@pytest.mark.xdist_group("strict")
def test_no_token_is_written_down_wherever_it_was_put(
    strict_server: WorkyardServer, new_api: Callable[..., Api]
) -> None:
    """API keys of both forms, keys that are good, revoked and made up, tokens that are good and dead: as the credential that
    they are, as names of workers and clients, in paths, queries and bodies."""
    api = new_api(strict_server.url, f"sk-ant-api03-{MARK}-{id(new_api)}")
    plain = new_api(strict_server.url, f"plain-{id(new_api)}-{MARK}")
    queue, theirs = api.queue(), plain.queue()
    (_, key), (revoked_id, revoked) = issue(api, queue), issue(api, queue)
    api.ok(api.delete(f"/_emulator/environments/{queue}/keys/{revoked_id}"))
    holder = new_api(api.url, key, reset=False)
    made, again = (session(api, queue)["id"] for _ in range(2))
    item, first = holder.poll(queue), holder.poll(queue)
    holder.ok(holder.ack(queue, item["id"]))
    holder.ok(holder.stop(queue, first["id"], force=True))
    api.ok(api.post(f"/v1/sessions/{again}/events", json={"events": [MESSAGE]}))
    good, dead = sessions_token(item), sessions_token(first)
    tokens = [api.api_key, key, revoked, UNISSUED, good, dead, "sk-ant-oat01-" + MARK, "sk-ant-req01-" + MARK]
    tokens.append(item["secret"])
    texts: list[str] = []
    for token in tokens:
        client = new_api(api.url, token, reset=False)
        # As its own credential, and with another of the same workspace.
        texts += misplaced(client, token, queue, item["id"], made)
        texts += misplaced(holder, token, queue, item["id"], made)
    texts += misplaced(plain, plain.api_key, theirs, item["id"], made)
    assert len(texts) > 150
    refused(api.get(f"/v1/environments/{key}"), 404, "Environment sk-ant-*** not found.")
    refused(plain.get(f"/v1/environments/{plain.api_key}"), 404, "Environment *** not found.")

    pollers = api.ok(api.get("/_emulator/state"))["environments"][0]["pollers"]
    # Two workers that are called by their tokens are still two.
    assert len({row["worker_id"] for row in pollers}) == len(pollers) > 4
    shown = {
        "errors": "\n".join(texts),
        "log": strict_server.log(),
        "metrics": api.get("/metrics").text,
        "timeline": api.get(f"/_emulator/work/{item['id']}/timeline").text,
        "timeline, drawn": api.get(f"/_emulator/work/{item['id']}/timeline", headers={"accept": "text/plain"}).text,
    }
    for name, client in (("", api), ("plain ", plain)):
        for path in ("journal?bodies=true&limit=1000", "state", "queues", "clock", "faults"):
            answer = client.get(f"/_emulator/{path}")
            assert answer.status_code == 200, answer.text
            shown[name + path] = answer.text
    assert '"on":"heartbeat"' in shown["journal?bodies=true&limit=1000"].replace(" ", "")
    secrets = {tail(token) for token in (*tokens, plain.api_key, item["secret"], first["secret"])}
    found = [f"{secret} in {place}" for place, text in shown.items() for secret in secrets if secret in text]
    assert found == []


def test_no_token_is_in_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of who calls, of a call, of the settings, of what refuses a token, of an emulator in a test."""
    for token in (UNISSUED, f"sk-ant-req01-01A-01B-{MARK}", f"sk-ant-api03-{MARK}", f"my-{MARK}"):
        caller = Caller(token, strict=True)
        told = ApiCall("poll", "req_1", caller.label, token, token, token)
        told.environment_id = told.work_id = told.session_id = token
        settings = Settings(redis_url=f"redis://user:{MARK}@127.0.0.1:1/0")
        emulator = Emulator(api_key=token, control_token=MARK)
        things = (caller, told, settings, TokenUnknown(), TokenRevoked(), LaneClosed(), emulator)
        assert [thing for thing in things if MARK in repr(thing) + str(thing)] == []
    assert MARK not in json.dumps({"label": caller.label})
