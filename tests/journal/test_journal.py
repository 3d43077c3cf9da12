"""The journal: every request to the API is told once, to whoever asks next, without secrets; and verified. Rules:
`journal.*`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import redis

from tests.support.harness import (
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
from tests.support.sessions import session
from workyard.journal import backlog as server_backlog
from workyard.testing import Emulator

AT_LEAST_ONE = {"on": "stop"}


def journal(api: Api, **query: Any) -> list[dict[str, Any]]:
    """Return the requests that a query finds; the journal must be complete."""
    page = api.ok(api.get("/_emulator/journal", params=query))
    assert page["complete"]
    rows: list[dict[str, Any]] = page["data"]
    return rows


def verified(api: Api, *expect: dict[str, Any], **more: Any) -> list[tuple[int, str, int]]:
    """Return what is not met: place, result, found."""
    answer = api.ok(api.post("/_emulator/journal/verify", json={"expect": expect, **more}))
    assert answer["ok"] == (not answer["failures"])
    return [(failure["index"], failure["result"], failure["found"]) for failure in answer["failures"]]


def test_a_reader_sees_what_was_answered_before_it_asked(api: Api) -> None:
    """Refused requests and those without a route too; each filter finds what it says, and the count agrees."""
    began = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    queue, other = api.queue(), api.queue()
    [item] = api.enqueue(queue)
    work, session_id = item["id"], item["data"]["id"]
    assert api.poll(queue, "worker-1", block_ms=999)["id"] == work
    api.ok(api.ack(queue, work))
    unmet = api.post(
        api.path(queue, work, "heartbeat"),
        params={"expected_last_heartbeat": "never"},
        headers={
            "x-stainless-retry-count": "2",
            "x-stainless-helper": "environments-work-poller",
            "user-agent": "me/1",
        },
    )
    api.get("/v1/nothing/here?a=b")
    api.delete("/v1/environments")
    api.ok(api.delete(f"/v1/environments/{other}"))

    rows = journal(api)
    assert [row["on"] for row in rows] == [
        *["environments.create"] * 2, "poll", "ack", "heartbeat", *["unknown"] * 2, "environments.delete",
    ]  # fmt: skip
    assert [row["status"] for row in rows] == [200, 200, 200, 200, 412, 404, 405, 200]
    assert [row["number"] for row in rows] == list(range(1, 9))
    poll, beat = rows[2], rows[4]
    assert (poll["worker_id"], poll["work_id"], poll["session_id"]) == ("worker-1", work, session_id)
    assert (poll["query"], poll["path"], poll["method"]) == ("block_ms=999", api.path(queue, "poll"), "GET")
    assert beat["request_id"] == unmet.headers["request-id"]
    assert (beat["retry_count"], beat["helper"], beat["user_agent"]) == (2, "environments-work-poller", "me/1")
    assert beat["error"] == {"type": "invalid_request_error", "message": unmet.json()["error"]["message"]}
    assert beat["credential"].startswith("api key ")
    assert not any(row["cut"] for row in rows)
    assert all("request_body" not in row and 0 <= row["duration_ms"] < 5000 for row in rows)

    filters: list[tuple[dict[str, Any], int]] = [
        ({"on": "poll"}, 1),
        ({"on": "environments"}, 3),
        ({"on": "any", "status": "4xx"}, 3),
        ({"status": "412"}, 1),
        ({"environment_id": queue}, 4),
        ({"work_id": work}, 3),
        ({"session_id": session_id}, 3),
        ({"session_id": session_id.replace("session_", "sesn_"), "on": "ack"}, 1),
        ({"worker_id": "worker-1"}, 1),
        ({"request_id": beat["request_id"]}, 1),
        ({"since": began, "until": poll["at"]}, 2),
        ({"since": after(rows[-1]["at"], 0.000001)}, 0),
        ({"until": began}, 0),
        ({"after": 6}, 2),
    ]
    for query, count in filters:
        assert len(journal(api, **query)) == count, query
        assert api.ok(api.get("/_emulator/journal/count", params=query))["count"] == count, query
    assert [row["number"] for row in journal(api, limit=3)] == [6, 7, 8]
    assert [row["number"] for row in journal(api, limit=3, after=2)] == [3, 4, 5]
    assert api.ok(api.delete("/_emulator/journal")) == {"removed": 8}
    assert api.ok(api.get("/_emulator/journal")) == {
        "data": [], "dropped": 0, "first": 9, "last": 8, "complete": True,
    }  # fmt: skip


def test_requests_are_told_in_the_order_of_their_arrival(api: Api) -> None:
    """A poll that blocked came before what was answered meanwhile, and was written after it."""
    queue = api.queue()
    with ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(api.poll, queue, "w", block_ms=300)
        wait_until(lambda: api.ok(api.get("/_emulator/queues"))["data"][0]["workers_polling"] == 1, "it is blocked")
        api.stats(queue)
        assert [row["on"] for row in journal(api)] == ["environments.create", "stats"]
        assert blocked.result() is None
    assert [(row["on"], row["number"]) for row in journal(api)] == [
        ("environments.create", 1),
        ("poll", 3),
        ("stats", 2),
    ]


def test_a_request_is_told_to_the_workspace_of_what_it_is_about(api: Api, new_api: Callable[..., Api]) -> None:
    """Whoever made it, and when the environment is gone as well; one about nothing is its token's."""
    stranger, queue = new_api(api.url), api.queue()
    stranger.stats(queue)
    assert journal(stranger) == []
    stranger.get("/v1/skills")
    api.ok(api.delete(f"/v1/environments/{queue}"))
    assert stranger.get(api.path(queue, "stats")).status_code == 404
    assert [row["on"] for row in journal(stranger)] == ["skills.list"]
    told = [(row["on"], row["status"]) for row in journal(api)]
    assert told == [("environments.create", 200), ("stats", 200), ("environments.delete", 200), ("stats", 404)]


def test_bodies_are_shown_on_request_and_hold_no_secret(api: Api) -> None:
    """Secrets of whatever form, escaped and cut too, stand nowhere."""
    queue = api.queue()
    key = api.ok(api.post(f"/_emulator/environments/{queue}/keys"))["key"]
    api.enqueue(queue)
    worker = api.as_key(key)
    item = worker.poll(queue)
    worker.close()
    secrets = [key, item["secret"], "sk-ant-api03-Hidden", "hunter22", api.api_key]
    body = {"name": f"{api.api_key} {key}", "config": {"type": "self_hosted"}, "metadata": {"My_Password": "hunter22"}}
    api.environment(**body)
    # An answer in which nothing else is secret.
    api.environment(metadata={"My_Password_2": "hunter22"})
    escaped = json.dumps({**body, "description": "sk-ant-api03-Hidden"}).replace("sk-ant", "\\u0073k\\u002dant")
    api.post("/v1/environments", content=escaped, headers={"content-type": "application/json"})
    api.post("/v1/environments", json={"name": "x" * 2030 + key})
    api.get(f"/v1/environments/{key}", params={"page": api.api_key, "limit": "%73k-ant-api03-Hidden"})
    api.get("/v1/environments", headers={"user-agent": f"with {key}", "anthropic-worker-id": key})

    rows = journal(api, bodies=True)
    text = json.dumps(rows)
    assert [secret for secret in secrets if secret in text] == []
    assert key[: len(key) - 20] not in text
    poll = rows[1]
    assert json.loads(poll["response_body"]) == {**item, "secret": "***"}
    assert json.loads(rows[2]["request_body"])["metadata"] == {"My_Password": "***"}
    long = rows[5]
    assert long["request_bytes"] > 2048 >= len(long["request_body"]) > 2000


def test_verify_counts_within_spans_and_in_order(api: Api) -> None:
    """Each kind of number, met and not met; what came nearest is named."""
    queue = api.queue()
    api.enqueue(queue)
    work, _ = api.active(queue)
    api.heartbeat(queue, work, "wrong")
    api.ok(api.stop(queue, work))
    poll, ack = {"on": "poll", "environment_id": queue}, {"on": "ack", "work_id": work}
    beat, stop = {"on": "heartbeat", "work_id": work}, {"on": "stop", "work_id": work}
    assert not verified(api, poll, ack, {**beat, "at_least": 2, "at_most": 2}, {**stop, "exactly": 1})
    assert not verified(
        api, {**beat, "status": 412, "exactly": 1}, {"on": "list", "never": True}, {"exactly": 0, "on": "get"}
    )
    assert not verified(api, poll, ack, beat, {**beat, "status": "4xx"}, stop, in_order=True)
    assert not verified(api, {**beat, "at_most": 2, "within_seconds": 60})
    failing: list[tuple[dict[str, Any], int]] = [
        ({**beat, "at_least": 3}, 2),
        ({**beat, "at_most": 1}, 2),
        ({**beat, "exactly": 1}, 2),
        ({**stop, "never": True}, 1),
        ({**beat, "at_least": 2, "within_seconds": 0.000001}, 1),
        ({"on": "environments.delete"}, 0),
    ]
    expected = [(place, "failed", found) for place, (_, found) in enumerate(failing)]
    assert verified(api, *[expectation for expectation, _ in failing]) == expected
    assert verified(api, stop, poll, in_order=True) == [(1, "failed", 1)]
    assert verified(api, {**beat, "status": 200}, {**beat, "status": 200}, in_order=True) == [(1, "failed", 1)]

    wanted = {**beat, "status": 409, "at_least": 1}
    [failure] = api.ok(api.post("/_emulator/journal/verify", json={"expect": [wanted]}))["failures"]
    assert (failure["expected"], failure["reason"]) == (wanted, "found 0, expected at least 1")
    assert failure["nearest"]["differs"] == ["status"]
    assert (failure["nearest"]["entry"]["on"], failure["nearest"]["entry"]["status"]) == ("heartbeat", 412)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"expect": []}, "expect: List should have at least 1 item after validation, not 0"),
        ({"expect": [{"on": "heartbeats"}]}, "expect.0.on: Not an operation, a group of operations, or any; docs/journal.md lists them"),
        ({"expect": [{}, {"never": True, "at_most": 1}]}, "expect.1: Give either exactly, or never, or at_least and at_most"),
        ({"expect": [{"within_seconds": 0}]}, "expect.0.within_seconds: Input should be greater than 0"),
        ({"expect": [{"never": 1}]}, "expect.0.never: Input should be True"),
        ({"expect": [{"sort": 1}]}, "expect.0.sort: Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_bad_expectations_are_refused(api: Api, body: Any, message: str) -> None:
    """A typo must not be a test that passes."""
    refused(api.post("/_emulator/journal/verify", json=body), 400, message)


def test_a_workspace_is_named_or_all_are_shown(embedded: WorkyardServer, new_api: Callable[..., Api]) -> None:
    """By `?workspace=`; expectations are about one."""
    one, nobody = new_api(embedded.url), new_api(embedded.url, "")
    one.queue()
    rows = nobody.ok(nobody.get("/_emulator/journal"))["data"]
    [own] = [
        row for row in rows if any(each["credential"] == "none" for each in row["data"]) is False and row["last"] == 1
    ]
    assert own["data"][0]["on"] == "environments.create"
    counts = nobody.ok(nobody.get("/_emulator/journal/count?workspace=*"))["data"]
    assert {"workspace": own["workspace"], "count": 1, "dropped": 0, "complete": True} in counts
    assert journal(nobody, workspace=one.api_key) == own["data"]
    refused(
        nobody.post("/_emulator/journal/verify", json={"expect": [{}]}),
        400,
        "workspace: Name one workspace: with x-api-key or a bearer token, or with ?workspace=",
    )
    assert nobody.delete("/_emulator/journal").status_code == 400
    nobody.get("/v1/environments")
    assert [row["status"] for row in journal(nobody, workspace="default")][-1:] == [401]
    nobody.ok(nobody.post("/_emulator/reset?workspace=default"))


def test_what_the_journal_has_dropped_it_does_not_deny(
    engine_options: tuple[str, ...], new_api: Callable[..., Api]
) -> None:
    """The ring is bounded; `never` and upper bounds are then unknown, until it is cleared. No journal knows nothing."""
    with running_server("--journal-requests", "20", "--journal-body-bytes", "10", *engine_options) as server:
        api = new_api(server.url, reset=False)
        queue = api.queue()
        for _ in range(25):
            api.stats(queue)
        page = api.ok(api.get("/_emulator/journal?bodies=true"))
        assert (len(page["data"]), page["dropped"], page["first"], page["last"]) == (20, 6, 7, 26)
        assert {len(row["response_body"]) for row in page["data"]} == {10}
        assert not verified(api, {"on": "stats", "at_least": 20})
        # More in one go than the ring holds: what it would have lost at once is counted, and was never in it.
        for _ in range(45):
            api.stats(queue)
        page = api.ok(api.get("/_emulator/journal"))
        assert (len(page["data"]), page["dropped"], page["first"], page["last"]) == (20, 51, 52, 71)
        assert [row["number"] for row in page["data"]] == list(range(52, 72))
        for _ in range(5):
            api.stats(queue)
        page = api.ok(api.get("/_emulator/journal?limit=1"))
        assert (page["dropped"], page["first"], page["last"]) == (56, 57, 76)
        bounds: list[dict[str, Any]] = [
            {"never": True, "on": "stop"},
            {"at_most": 1, "on": "stop"},
            {"exactly": 20, "on": "stats"},
            AT_LEAST_ONE,
        ]
        assert [result for _, result, _ in verified(api, *bounds)] == ["unknown"] * 4
        assert verified(api, {"on": "stats", "at_most": 19}) == [(0, "failed", 20)]
        api.ok(api.delete("/_emulator/journal"))
        assert [result for _, result, _ in verified(api, *bounds)] == ["failed"] * 2
    with running_server("--journal-requests", "0", *engine_options) as server:
        api = new_api(server.url, reset=False)
        api.queue()
        page = api.ok(api.get("/_emulator/journal"))
        assert (page["data"], page["complete"]) == ([], False)
        assert verified(api, {"on": "stop", "never": True}) == [(0, "unknown", 0)]


def test_of_many_environments_the_last_requests_are_kept_in_the_order_of_their_answers(
    engine_options: tuple[str, ...], new_api: Callable[..., Api]
) -> None:
    """Each keeps as many until they are written; what is left of all of them is what the ring would hold."""
    with running_server("--journal-requests", "20", *engine_options) as server:
        api, other = (new_api(server.url, reset=False) for _ in range(2))
        queues = [api.queue(), api.queue(), other.queue()]
        for _ in range(30):
            for queue, whose in zip(queues, (api, api, other), strict=True):
                whose.stats(queue)
        page = api.ok(api.get("/_emulator/journal"))
        assert (page["dropped"], page["first"], page["last"]) == (42, 43, 62)
        assert [row["environment_id"] for row in page["data"]] == [*queues[:2]] * 10
        page = other.ok(other.get("/_emulator/journal"))
        assert (page["dropped"], page["first"], page["last"]) == (11, 12, 31)
        # What a reset forgets is not missing afterwards.
        for _ in range(30):
            api.stats(queues[0])
        api.reset()
        for _ in range(25):
            assert api.get(api.path(queues[0], "stats")).status_code == 404
        page = api.ok(api.get("/_emulator/journal"))
        assert (page["dropped"], page["first"], page["last"], page["complete"]) == (5, 6, 25, True)
        api.reset()


@pytest.mark.parametrize("setting", ["_WRITE_FEW_S", "_WRITE_MANY_S", "_MANY_WAITING"])
def test_what_nobody_reads_is_written_some_time(
    redis_server: RedisServer, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """After some seconds, after more where requests are many, or when they are too many; not before."""
    for name, value in {"_EVERY_S": 0.005, "_WRITE_FEW_S": 1e6, "_WRITE_MANY_S": 1e6, "_MANY_WAITING": 10**6}.items():
        monkeypatch.setattr(server_backlog, name, value)
    monkeypatch.setattr(server_backlog, "_MANY_A_SECOND", 0 if setting == "_WRITE_MANY_S" else 10**9)
    prefix = new_api_key()
    with Emulator(redis_url=redis_server.url, key_prefix=prefix) as emu:
        queue = emu.environment()
        for _ in range(20):
            emu.stats(queue)

        def written() -> list[str]:
            return list(raw.scan_iter(f"{prefix}:*:requests"))

        assert written() == []
        monkeypatch.setattr(server_backlog, setting, 1 if setting == "_MANY_WAITING" else 0.0)
        wait_until(written, "the journal is written", 5)
        emu.reset()


def test_what_there_is_no_room_for_is_lost_and_told(
    engine_options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of requests that cannot be written for long; a group of which nothing is left too."""
    monkeypatch.setattr(server_backlog, "_MOST_WAITING", 10)
    monkeypatch.setattr(server_backlog, "_EVERY_S", 1e6)
    with Emulator(api_key=new_api_key(), key_prefix=new_api_key(), **options_of(engine_options)) as emu:
        first, second = emu.environment(), emu.environment()
        for queue in (*[first] * 4, *[second] * 8):
            emu.stats(queue)
        with httpx.Client(base_url=emu.url, headers={"x-api-key": emu.api_key}) as http:
            page = http.get("/_emulator/journal").json()
            assert [row["environment_id"] for row in page["data"]] == [second.id, first.id, *[second.id] * 8]
            assert (page["complete"], page["dropped"]) == (False, 4)
            lost = [line for line in http.get("/metrics").text.splitlines() if "journal_lost_total{" in line]
            assert [line.rpartition(" ")[2] for line in lost] == ["4"]
            # Nothing is left of the first, and it begins anew.
            for queue in (first, *[second] * 10, first):
                emu.stats(queue)
            page = http.get("/_emulator/journal?limit=10").json()
            assert [row["environment_id"] for row in page["data"]] == [*[second.id] * 9, first.id]
        emu.reset()


@pytest.fixture
def raw(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """A plain client of the Redis under `redis_backed`."""
    server: RedisServer = request.getfixturevalue("redis_server")
    client: redis.Redis = redis.Redis(port=server.port, decode_responses=True)
    yield client
    client.close()


def test_a_restored_workspace_begins_its_journal_anew(api: Api) -> None:
    """Not even a request that was answered before, and not yet written, is in it."""
    queue = api.queue()
    document = api.ok(api.get("/_emulator/state"))
    api.poll(queue)
    assert api.http.put("/_emulator/state", json=document).status_code == 200
    assert api.ok(api.get("/_emulator/journal"))["data"] == []
    api.poll(queue)
    assert [entry["on"] for entry in api.ok(api.get("/_emulator/journal"))["data"]] == ["poll"]


def test_polls_and_streams_are_told_when_they_end_and_not_after_a_reset(
    server: WorkyardServer, new_api: Callable[..., Api]
) -> None:
    """What was under way when its workspace was reset leaves nothing behind, whatever it is answered later."""
    api = new_api(server.url)
    queue = api.queue()
    stream = session(api, api.queue())
    listening = threading.Event()

    def listen() -> None:
        with api.http.stream("GET", f"/v1/sessions/{stream['id']}/events/stream") as answer:
            listening.set()
            answer.read()

    def poll() -> None:
        api.get(api.path(queue, "poll"), params={"block_ms": 999})

    with ThreadPoolExecutor(6) as pool, ExitStack() as closing:
        under_way = [pool.submit(listen)]
        closing.callback(api.reset)  # It ends the stream, which the pool waits for, also when the test has failed.
        assert listening.wait(5)
        with pytest.raises(httpx.ReadTimeout):
            api.get(api.path(queue, "poll"), params={"block_ms": 999}, timeout=0.2)
        cut = wait_until(lambda: journal(api, on="poll"), "the poll whose client left is told")
        assert [row["cut"] for row in cut] == [True]
        assert journal(api, on="sessions.events.stream") == []
        under_way += [pool.submit(poll) for _ in range(4)]
        wait_until(lambda: api.ok(api.get("/_emulator/health"))["polls_waiting"] >= 4, "the polls have arrived")
        assert api.reset()["leftover_keys"] == 0
        for each in under_way:
            each.result()
    assert journal(api) == []
    assert api.ok(api.get("/v1/environments"))["data"] == []
    assert [row["on"] for row in journal(api)] == ["environments.list"]


def test_any_server_process_tells_what_all_have_answered(
    redis_backed: WorkyardServer, redis_server: RedisServer, new_api: Callable[..., Api], raw: redis.Redis
) -> None:
    """At once; a reset through one leaves nothing that another has not written yet."""
    with running_server("--redis-url", redis_server.url) as second:
        here = new_api(redis_backed.url)
        there = new_api(second.url, here.api_key, reset=False)
        queue = here.queue()
        for turn in range(20):
            there.stats(queue)
            assert len(journal(here, on="stats")) == turn + 1
            assert not verified(there, {"on": "stats", "exactly": turn + 1}, {"on": "environments.create"})
        public = here.ok(here.get("/_emulator/journal?workspace=*"))["data"]
        [own] = [row["workspace"] for row in public if any(entry["environment_id"] == queue for entry in row["data"])]
        for _ in range(5):
            there.ok(there.post("/v1/environments", json={"name": "n", "config": {"type": "self_hosted"}}))
            assert here.reset()["leftover_keys"] == 0
        journal(new_api(second.url, reset=False))  # For any reader, all processes write what they still have.
        assert list(raw.scan_iter(f"wy:*{own}*")) == []
        assert not raw.sismember("wy:workspaces", own)


def test_a_server_that_ends_leaves_its_journal_to_the_next(
    redis_server: RedisServer, new_api: Callable[..., Api]
) -> None:
    """What nobody has read yet is written at its end."""
    with running_server("--redis-url", redis_server.url) as server:
        api = new_api(server.url, reset=False)
        queue = api.queue()
        api.stats(queue)
        server.process.terminate()
        server.process.wait(10)
    with running_server("--redis-url", redis_server.url) as server:
        again = new_api(server.url, api.api_key, reset=False)
        assert [row["on"] for row in journal(again)] == ["environments.create", "stats"]
        again.reset()


def test_requests_wait_while_redis_is_away(new_redis: Callable[..., RedisServer], new_api: Callable[..., Api]) -> None:
    """They are refused and told later; a reader gets 503 meanwhile."""
    under = new_redis()
    with running_server("--redis-url", under.url) as server:
        api = new_api(server.url, reset=False)
        queue = api.queue()
        assert len(journal(api)) == 1
        under.stop()
        for _ in range(30):
            assert api.get(api.path(queue, "stats")).status_code == 503
        assert api.get("/_emulator/journal").status_code == 503
        under.start()
        found = wait_until(lambda: _told(api), "the journal is written", 20)
        assert [row["status"] for row in found if row["on"] == "stats"] == [503] * 30


def _told(api: Api) -> list[dict[str, Any]]:
    page = api.get("/_emulator/journal")
    return page.json()["data"] if page.status_code == 200 and page.json()["complete"] else []
