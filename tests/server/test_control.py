"""The control plane: health, enqueue, keys, clock, settings, reset. Rules: `control.*`."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from tests.support.harness import NOON, Api, RedisServer, WorkyardServer, after, instant, refused, running_server

SESSION = "session_01TheOneSession"
NAME_ONE = (
    "workspace: Name the workspace: with x-api-key or a bearer token, with ?workspace=, or with ?workspace=* for all"
)
DEFAULTS = {"default_ttl_seconds": 300, "startup_lease_seconds": 120, "reclaim_ms": 5000, "id_seed": None}
_names = itertools.count(1)


def post_bytes(api: Api, path: str, body: str) -> Any:
    """Post a body as it is."""
    return api.post(path, content=body.encode(), headers={"content-type": "application/json"})


def near_wall(text: str, seconds: float = 5) -> bool:
    """Tell whether a timestamp is the time of this machine."""
    return abs((instant(text) - datetime.now(UTC)).total_seconds()) < seconds


@pytest.fixture(scope="module")
def own_server(engine_options: tuple[str, ...]) -> Iterator[WorkyardServer]:
    """A server for what concerns all workspaces at once; on Redis under a key prefix of its own."""
    with running_server("--key-prefix", f"control-{os.getpid()}-{next(_names)}", *engine_options) as running:
        yield running


@pytest.fixture
def nobody(own_server: WorkyardServer, new_api: Callable[..., Api]) -> Iterator[Api]:
    """A client without a token, of a server that has no workspace yet."""
    client = new_api(own_server.url, "")
    client.ok(client.post("/_emulator/reset?workspace=*"))
    yield client
    assert client.ok(client.post("/_emulator/reset?workspace=*"))["leftover_keys"] == 0


@pytest.fixture
def pair(nobody: Api, new_api: Callable[..., Api]) -> tuple[Api, Api]:
    """Two workspaces, the only ones of their server."""
    made = new_api(nobody.url, reset=False), new_api(nobody.url, reset=False)
    for client in made:
        client.queue()
    return made


# -- health


def test_health_names_the_engine(api: Api, server: WorkyardServer, new_api: Callable[..., Api]) -> None:
    """With or without a token."""
    for client in (api, new_api(api.url, "")):
        health = client.ok(client.get("/_emulator/health"))
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", health.pop("version"))
        assert health.pop("in_flight") >= 1
        assert health.pop("polls_waiting") >= 0
        assert health == {"status": "ok", "engine": server.engine, "leniencies": {}}


# -- enqueue


def test_enqueue_makes_one_item_unless_told_otherwise(api: Api) -> None:
    """An empty body, an empty object and nulls are the same."""
    api.freeze()
    queue = api.queue()
    seen = set()
    for body in (None, {}, {"count": 1, "session_id": None, "metadata": None, "idempotency_key": None}):
        [item] = api.ok(api.post(f"/_emulator/environments/{queue}/work", json=body))["data"]
        assert re.fullmatch(r"work_01[1-9A-HJ-NP-Za-km-z]{22}", item["id"])
        assert re.fullmatch(r"session_01[1-9A-HJ-NP-Za-km-z]{22}", item["data"]["id"])
        assert item == {
            "id": item["id"],
            "type": "work",
            "environment_id": queue,
            "data": {"type": "session", "id": item["data"]["id"]},
            "state": "queued",
            "metadata": {},
            "secret": None,
            "created_at": NOON,
            "acknowledged_at": None,
            "started_at": None,
            "latest_heartbeat_at": None,
            "stop_requested_at": None,
            "stopped_at": None,
        }
        assert api.work(queue, item["id"]) == item
        seen |= {item["id"], item["data"]["id"]}
    assert len(seen) == 6
    assert api.stats(queue)["depth"] == 3


def test_enqueue_makes_many_in_their_order_over_several_batches(api: Api) -> None:
    """Each with a session of its own and all the metadata."""
    queue = api.queue()
    made = api.enqueue(queue, 501, metadata={"for": "all"})
    assert len({item["id"] for item in made}) == len({item["data"]["id"] for item in made}) == 501
    assert {item["metadata"]["for"] for item in made} == {"all"}
    assert api.stats(queue)["depth"] == 501
    listed = api.ok(api.get(api.path(queue), params={"limit": 1000}))["data"]
    assert [item["id"] for item in listed] == [item["id"] for item in reversed(made)]
    assert api.poll(queue)["id"] == made[0]["id"]


def test_ten_thousand_items_are_the_most_of_one_call(redis_backed: WorkyardServer, new_api: Callable[..., Api]) -> None:
    """On the real engine, which has them in a second."""
    api = new_api(redis_backed.url)
    queue = api.queue()
    assert len({item["id"] for item in api.enqueue(queue, 10_000)}) == 10_000
    assert api.stats(queue)["depth"] == 10_000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"count":0}', "count: Input should be greater than or equal to 1"),
        ('{"count":-1}', "count: Input should be greater than or equal to 1"),
        ('{"count":10001}', "count: Input should be less than or equal to 10000"),
        ('{"count":1000000000000000000000000}', "count: Input should be less than or equal to 10000"),
        ('{"count":"1"}', "count: Input should be a valid integer"),
        ('{"count":true}', "count: Input should be a valid integer"),
        ('{"count":1.0}', "count: Input should be a valid integer"),
        ('{"count":null}', "count: Input should be a valid integer"),
        ('{"count":2,"session_id":"session_01a"}', "count: Must be 1 when session_id is given"),
        ('{"session_id":1}', "session_id: Input should be a valid string"),
        ('{"metadata":{"a":1}}', "metadata.a: Input should be a valid string"),
        ('{"metadata":{"a":null}}', "metadata.a: Input should be a valid string"),
        ('{"metadata":[]}', "metadata: Input should be a valid dictionary"),
        ('{"idempotency_key":""}', "idempotency_key: String should have at least 1 character"),
        ('{"idempotency_key":"' + "k" * 257 + '"}', "idempotency_key: String should have at most 256 characters"),
        ('{"idempotency_key":1}', "idempotency_key: Input should be a valid string"),
        ('{"sesion_id":"session_01a"}', "sesion_id: Extra inputs are not permitted"),
        (
            '{"count":0,"x":1}',
            "count: Input should be greater than or equal to 1; x: Extra inputs are not permitted",
        ),
        ("[]", "Request body must be a JSON object"),
        ("nope", "Request body is not valid JSON"),
    ],
    ids=lambda value: value[:40],
)
def test_a_bad_enqueue_is_refused_by_name(api: Api, body: str, message: str) -> None:
    """And enqueues nothing. The body is checked before the environment."""
    queue = api.queue()
    refused(post_bytes(api, f"/_emulator/environments/{queue}/work", body), 400, message)
    refused(post_bytes(api, "/_emulator/environments/env_01unknown/work", body), 400, message)
    assert api.ok(api.get(api.path(queue))) == {"data": [], "next_page": None}


@pytest.mark.parametrize("value", ["", "session_", "sesn_", "work_01a", "01a", "session_a b", "session_" + "a" * 65])
def test_what_is_no_session_id_is_refused(api: Api, value: str) -> None:
    """`session_` or `sesn_`, then letters and digits."""
    answer = api.post(f"/_emulator/environments/{api.queue()}/work", json={"session_id": value})
    refused(answer, 400, "session_id: Not a session id: session_ followed by 1 to 64 letters and digits")


def test_metadata_over_a_cap_is_refused(api: Api) -> None:
    """With the code, and every problem at once; at the caps it is taken."""
    queue = api.queue()
    path = f"/_emulator/environments/{queue}/work"
    code = {"error_code": "invalid_metadata"}
    many = {f"k{n}": "v" for n in range(17)}
    refused(api.post(path, json={"metadata": many}), 400, "metadata: too many keys (17 > 16)", code)
    answer = api.post(path, json={"metadata": {"": "v", "k" * 65: "v", "k": "v" * 513}})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"] == code
    assert api.stats(queue)["depth"] == 0
    largest = {f"{n:064}": "ü" * 512 for n in range(16)}
    assert api.enqueue(queue, metadata=largest)[0]["metadata"] == largest


def test_enqueue_takes_live_self_hosted_environments_only(api: Api) -> None:
    """The kind comes before the archive; unknown, deleted and malformed ids are 404."""
    cloud, archived, gone = api.environment(config={"type": "cloud"})["id"], api.queue(), api.queue()
    path = "/_emulator/environments/{}/work".format
    api.ok(api.delete(f"/v1/environments/{gone}"))
    refused(api.post(path(cloud)), 400, f"Environment {cloud} is not self-hosted.")
    for each in (cloud, archived):
        api.ok(api.post(f"/v1/environments/{each}/archive"))
    refused(api.post(path(cloud)), 400, f"Environment {cloud} is not self-hosted.")
    refused(api.post(path(archived)), 400, f"Environment {archived} is archived.")
    refused(api.post(path(archived), json={"session_id": SESSION}), 400, f"Environment {archived} is archived.")
    refused(
        api.post(path(archived), json={"idempotency_key": "k"}),
        400,
        f"Environment {archived} is archived.",
    )
    for unknown in (gone, "env_01AAAAAAAAAAAAAAAAAAAAAA", "nonsense"):
        refused(api.post(path(unknown)), 404, f"Environment {unknown} not found.")


def test_a_session_has_one_item_however_its_id_is_written(api: Api) -> None:
    """`sesn_` is accepted in, `session_` comes out; another environment has an item of its own for it."""
    queue, other = api.queue(), api.queue()
    [item] = api.enqueue(queue, session_id="sesn_01TheOneSession", metadata={"a": "1"})
    assert item["data"] == {"type": "session", "id": SESSION}
    [again] = api.enqueue(queue, session_id=SESSION, metadata={"a": "2", "b": "2"})
    assert again == item
    [elsewhere] = api.enqueue(other, session_id=SESSION)
    assert elsewhere["id"] != item["id"]
    assert api.stats(queue)["depth"] == api.stats(other)["depth"] == 1


def test_enqueue_acts_in_the_workspace_of_the_environment(api: Api, new_api: Callable[..., Api]) -> None:
    """Without a token, and with a key that does not reach it under /v1: the control plane knows no lanes."""
    api.freeze()
    queue = api.queue()
    foreign = new_api(api.url)
    foreign.queue()
    for client in (foreign, new_api(api.url, "")):
        assert client.enqueue(queue)[0]["created_at"] == NOON


# -- idempotency keys


def test_a_repeated_enqueue_answers_the_same_items_and_enqueues_once(api: Api) -> None:
    """As they are now, whatever became of them; over several batches too."""
    queue = api.queue()
    made = api.enqueue(queue, 502, idempotency_key="k", metadata={"a": "b"})
    assert api.enqueue(queue, 502, idempotency_key="k", metadata={"a": "b"}) == made
    assert api.stats(queue)["depth"] == 502
    api.ok(api.stop(queue, made[0]["id"]))
    again = api.enqueue(queue, 502, idempotency_key="k", metadata={"a": "b"})
    assert [item["id"] for item in again] == [item["id"] for item in made]
    assert again[0] == api.work(queue, made[0]["id"])
    assert again[0]["state"] == "stopped"
    assert api.stats(queue)["depth"] == 501


def test_simultaneous_repeats_enqueue_once(api: Api) -> None:
    """Eight at a time with one key."""
    queue = api.queue()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.enqueue(queue, 3, idempotency_key="k"), range(8)))
    assert {tuple(item["id"] for item in answer) for answer in answers} == {tuple(i["id"] for i in answers[0])}
    assert api.stats(queue)["depth"] == 3


@pytest.mark.parametrize(
    "other",
    [{"count": 3}, {"count": 2, "metadata": {"a": "c"}}, {"count": 2}, {"session_id": SESSION, "metadata": {"a": "b"}}],
    ids=str,
)
def test_an_idempotency_key_stands_for_one_request(api: Api, other: dict[str, Any]) -> None:
    """Another body with it is refused and does nothing; in another environment the key is free."""
    queue, free = api.queue(), api.queue()
    made = api.enqueue(queue, 2, idempotency_key="k", metadata={"a": "b"})
    refused(
        api.post(f"/_emulator/environments/{queue}/work", json={**other, "idempotency_key": "k"}),
        400,
        "idempotency_key: Was used before for a different request",
    )
    assert api.stats(queue)["depth"] == 2
    elsewhere = api.enqueue(free, 2, idempotency_key="k", metadata={"a": "b"})
    assert not {item["id"] for item in made} & {item["id"] for item in elsewhere}
    others = api.enqueue(queue, 2, idempotency_key="K", metadata={"a": "b"})
    assert not {item["id"] for item in made} & {item["id"] for item in others}


@pytest.mark.parametrize("key", [None, "late"])
def test_an_archived_environment_takes_no_new_item_but_a_message_to_one_it_has(api: Api, key: str | None) -> None:
    """What is there may be re-enqueued (`environments.archive.work-comes-back`); a request that was carried out before may be repeated."""
    queue = api.queue()
    [item] = api.enqueue(queue, session_id=SESSION)
    made = api.enqueue(queue, 2, idempotency_key="early")
    api.ok(api.stop(queue, item["id"]))
    api.ok(api.post(f"/v1/environments/{queue}/archive"))
    new = {"count": 1, "idempotency_key": key}
    for _ in range(2):
        refused(api.post(f"/_emulator/environments/{queue}/work", json=new), 400, f"Environment {queue} is archived.")
    assert [each["id"] for each in api.enqueue(queue, 2, idempotency_key="early")] == [each["id"] for each in made]
    [again] = api.enqueue(queue, session_id=SESSION, idempotency_key=key)
    assert (again["id"], again["state"]) == (item["id"], "queued")
    assert api.stats(queue)["depth"] == 3


def test_a_message_with_an_idempotency_key_acts_once(api: Api) -> None:
    """A repeat re-enqueues nothing, and leaves no message behind for the next stop."""
    queue = api.queue()
    [item] = api.enqueue(queue, session_id=SESSION, idempotency_key="first")
    api.ok(api.stop(queue, item["id"]))
    assert api.enqueue(queue, session_id=SESSION, idempotency_key="first")[0]["state"] == "stopped"
    assert api.enqueue(queue, session_id=SESSION, idempotency_key="second")[0]["state"] == "queued"
    api.ok(api.ack(queue, item["id"]))
    assert api.enqueue(queue, session_id=SESSION, idempotency_key="second")[0]["state"] == "starting"
    api.ok(api.stop(queue, item["id"], force=True))
    assert api.work(queue, item["id"])["state"] == "stopped"
    assert api.enqueue(queue, session_id=SESSION, idempotency_key="second")[0]["state"] == "stopped"
    assert api.enqueue(queue, session_id=SESSION, idempotency_key="third")[0]["state"] == "queued"
    assert api.stats(queue)["depth"] == 1


# -- keys


def test_a_key_is_shown_once_listed_without_its_value_and_revoked(api: Api) -> None:
    """The whole life of two keys, newest first."""
    api.freeze()
    queue = api.queue()
    path = f"/_emulator/environments/{queue}/keys"
    assert api.ok(api.get(path)) == {"data": []}
    first = api.ok(api.post(path, json={"name": "first „key“"}))
    api.freeze(after(NOON, 1))
    second = api.ok(api.post(path, json={"name": "second"}))
    for made, name, at in ((first, "first „key“", 0), (second, "second", 1)):
        assert re.fullmatch(r"sk-ant-oat01-[0-9A-Za-z_-]{40,}", made["key"])
        assert made == {"id": made["id"], "name": name, "key": made["key"], "created_at": after(NOON, at)}
    assert first["id"] != second["id"]
    assert first["key"] != second["key"]
    rows: list[dict[str, Any]] = [
        {"id": second["id"], "name": "second", "created_at": after(NOON, 1), "revoked_at": None},
        {"id": first["id"], "name": "first „key“", "created_at": NOON, "revoked_at": None},
    ]
    assert api.ok(api.get(path)) == {"data": rows}
    for at in (2, 3):
        api.freeze(after(NOON, at))
        revoked = api.ok(api.delete(f"{path}/{first['id']}"))
        assert revoked == {"id": first["id"], "type": "environment_key_revoked"}
        rows[1]["revoked_at"] = after(NOON, 2)
        assert api.ok(api.get(path)) == {"data": rows}


def test_keys_belong_to_one_environment(api: Api) -> None:
    """Unknown keys are 404, those of another environment too; so are unknown environments."""
    queue, other, cloud = api.queue(), api.queue(), api.environment(config={"type": "cloud"})["id"]
    key_id = api.ok(api.post(f"/_emulator/environments/{queue}/keys"))["id"]
    for unknown in (key_id[:-1], "envkey_01AAAAAAAAAAAAAAAAAAAAAA", "nonsense", "*"):
        refused(
            api.delete(f"/_emulator/environments/{queue}/keys/{unknown}"),
            404,
            f"Environment key {unknown} not found.",
        )
    refused(api.delete(f"/_emulator/environments/{other}/keys/{key_id}"), 404, f"Environment key {key_id} not found.")
    for verb, path in (("POST", "keys"), ("GET", "keys"), ("DELETE", f"keys/{key_id}")):
        answer = api.request(verb, f"/_emulator/environments/env_01unknown/{path}")
        refused(answer, 404, "Environment env_01unknown not found.")
    assert api.ok(api.get(f"/_emulator/environments/{queue}/keys"))["data"][0]["revoked_at"] is None
    assert api.ok(api.post(f"/_emulator/environments/{cloud}/keys"))["key"].startswith("sk-ant-oat01-")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"name":""}', "name: String should have at least 1 character"),
        ('{"name":"' + "n" * 257 + '"}', "name: String should have at most 256 characters"),
        ('{"name":1}', "name: Input should be a valid string"),
        ('{"nam":"x"}', "nam: Extra inputs are not permitted"),
    ],
    ids=lambda value: value[:20],
)
def test_a_bad_key_is_refused_by_name(api: Api, body: str, message: str) -> None:
    """And none is issued."""
    path = f"/_emulator/environments/{api.queue()}/keys"
    refused(post_bytes(api, path, body), 400, message)
    assert api.ok(api.get(path)) == {"data": []}


# -- clock


def test_a_clock_ticks_with_the_wall_until_it_is_changed(api: Api) -> None:
    """Real and not ahead."""
    clock = api.ok(api.get("/_emulator/clock"))
    assert (clock["mode"], clock["ahead_seconds"]) == ("real", 0)
    assert near_wall(clock["now"])
    assert near_wall(api.environment()["created_at"])


def test_a_clock_stands_still_jumps_and_ticks_on(api: Api) -> None:
    """Every answer is the clock after the change; time goes on from where it is."""
    stands = api.ok(api.post("/_emulator/clock", json={"mode": "frozen"}))
    assert stands["mode"] == "frozen"
    assert near_wall(stands["now"])
    assert api.ok(api.get("/_emulator/clock"))["now"] == stands["now"]
    clock = api.ok(api.post("/_emulator/clock", json={"mode": "frozen", "at": NOON}))
    assert (clock["mode"], clock["now"]) == ("frozen", NOON)
    ahead = (instant(NOON) - datetime.now(UTC)).total_seconds()
    assert clock["ahead_seconds"] == pytest.approx(ahead, abs=5)
    clock = api.ok(api.post("/_emulator/clock", json={"advance_seconds": 6.5}))
    assert (clock["mode"], clock["now"]) == ("frozen", after(NOON, 6.5))
    clock = api.ok(api.post("/_emulator/clock", json={"mode": "frozen", "at": None}))
    assert clock["now"] == after(NOON, 6.5)
    clock = api.ok(api.post("/_emulator/clock", json={"mode": "real"}))
    assert clock["mode"] == "real"
    assert after(NOON, 6.5) <= clock["now"] < after(NOON, 8)
    later = api.ok(api.get("/_emulator/clock"))
    assert clock["now"] < later["now"] < after(NOON, 30)
    assert later["ahead_seconds"] == pytest.approx(ahead + 6.5, abs=5)
    clock = api.ok(api.post("/_emulator/clock", json={"advance_seconds": 3600}))
    assert clock["mode"] == "real"
    assert after(NOON, 3600) < clock["now"] < after(NOON, 3660)
    assert api.environment()["created_at"] > clock["now"]


@pytest.mark.parametrize(
    ("at", "now"),
    [
        ("2031-05-06T12:00:00Z", NOON),
        ("2031-05-06t14:00:00.5+02:00", "2031-05-06T12:00:00.500000Z"),
        ("2031-05-06T12:00:00.1234567Z", "2031-05-06T12:00:00.123456Z"),
        ("2031-05-05T23:59:59.999999-12:01", "2031-05-06T12:00:59.999999Z"),
        ("2200-01-01T00:00:00Z", "2200-01-01T00:00:00.000000Z"),
    ],
)
def test_an_instant_is_any_rfc_3339_timestamp(api: Api, at: str, now: str) -> None:
    """In any zone; digits beyond microseconds are cut off."""
    assert api.freeze(at) == now


def test_everything_is_dated_by_the_clock(api: Api) -> None:
    """Each step at an instant of its own."""
    api.freeze()
    made = api.environment()
    path = f"/v1/environments/{made['id']}"
    assert (made["created_at"], made["updated_at"]) == (NOON, NOON)
    api.advance(1)
    assert api.ok(api.post(path, json={"name": "new"}))["updated_at"] == after(NOON, 1)
    api.advance(1)
    assert api.enqueue(made["id"])[0]["created_at"] == after(NOON, 2)
    api.advance(1)
    assert api.ok(api.post(f"/_emulator{path.removeprefix('/v1')}/keys"))["created_at"] == after(NOON, 3)
    api.advance(1)
    assert api.ok(api.post(f"{path}/archive"))["archived_at"] == after(NOON, 4)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "mode: Give exactly one of mode, advance_seconds and advance_to_next"),
        ('{"mode":null}', "mode: Give exactly one of mode, advance_seconds and advance_to_next"),
        (
            '{"mode":"frozen","advance_seconds":1}',
            "mode: Give exactly one of mode, advance_seconds and advance_to_next",
        ),
        ('{"advance_to_next":1}', "advance_to_next: Input should be True"),
        ('{"mode":"real","advance_seconds":0}', "mode: Give exactly one of mode, advance_seconds and advance_to_next"),
        ('{"at":"2032-01-01T00:00:00Z"}', "mode: Give exactly one of mode, advance_seconds and advance_to_next"),
        ('{"mode":"stopped"}', "mode: Input should be 'real', 'frozen' or 'auto'"),
        ('{"mode":1}', "mode: Input should be 'real', 'frozen' or 'auto'"),
        ('{"mode":"real","at":"2032-01-01T00:00:00Z"}', "at: Only allowed with mode frozen"),
        ('{"mode":"frozen","at":1}', "at: Input should be a valid string"),
        *(
            (
                '{"mode":"frozen","at":"' + bad + '"}',
                "at: Not an RFC 3339 timestamp, such as 2026-09-16T04:27:29.962294Z",
            )
            for bad in (
                "",
                "tomorrow",
                "2032-01-01",
                "2032-01-01T00:00:00",
                "2032-01-01 00:00:00Z",
                "2032-02-30T00:00:00Z",
                "2032-01-01T24:00:00Z",
                "2032-01-01T00:00:00+24:00",
                "1956528000",
            )
        ),
        (
            '{"mode":"frozen","at":"2031-05-06T11:59:59.999999Z"}',
            "at: Time never goes back: the workspace's clock is at 2031-05-06T12:00:00.000000Z",
        ),
        (
            '{"mode":"frozen","at":"2031-05-06T12:00:00+00:01"}',
            "at: Time never goes back: the workspace's clock is at 2031-05-06T12:00:00.000000Z",
        ),
        (
            '{"mode":"frozen","at":"2200-01-01T00:00:00.000001Z"}',
            "at: A clock stops at 2200-01-01T00:00:00.000000Z",
        ),
        ('{"advance_seconds":6000000000}', "advance_seconds: A clock stops at 2200-01-01T00:00:00.000000Z"),
        ('{"advance_seconds":-0.001}', "advance_seconds: Input should be greater than or equal to 0"),
        ('{"advance_seconds":1e300}', "advance_seconds: Input should be less than or equal to 7258118400"),
        ('{"advance_seconds":1e999}', "Request body is not valid JSON"),
        ('{"advance_seconds":"5"}', "advance_seconds: Input should be a valid number"),
        ('{"advance_seconds":true}', "advance_seconds: Input should be a valid number"),
        ('{"advance":5}', "advance: Extra inputs are not permitted"),
        ('{"advance_seconds":NaN}', "Request body is not valid JSON"),
        ("", "Request body is not valid JSON"),
        ("[]", "Request body must be a JSON object"),
    ],
)
def test_a_bad_change_of_the_clock_is_refused_by_name(api: Api, body: str, message: str) -> None:
    """And changes nothing."""
    api.freeze()
    refused(post_bytes(api, "/_emulator/clock", body), 400, message)
    clock = api.ok(api.get("/_emulator/clock"))
    assert (clock["mode"], clock["now"]) == ("frozen", NOON)


def test_a_released_clock_does_not_go_back_to_the_wall(api: Api) -> None:
    """Neither by `real` nor by an instant before the workspace's own."""
    api.advance(3600)
    wall = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    answer = api.post("/_emulator/clock", json={"mode": "frozen", "at": wall})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("at: Time never goes back: the workspace's clock is at ")
    api.ok(api.post("/_emulator/clock", json={"mode": "real"}))
    assert api.ok(api.get("/_emulator/clock"))["ahead_seconds"] == pytest.approx(3600, abs=1)


def test_simultaneous_advances_all_count(api: Api) -> None:
    """Ten of a second are ten seconds."""
    api.freeze()
    queue = api.queue()
    with ThreadPoolExecutor(5) as pool:
        moments = list(pool.map(lambda _: api.advance(1), range(10)))
    assert sorted(moments) == [after(NOON, second) for second in range(1, 11)]
    assert api.enqueue(queue)[0]["created_at"] == after(NOON, 10)


def test_a_clock_belongs_to_one_workspace(api: Api, new_api: Callable[..., Api]) -> None:
    """All environments of it, present and future; none of another."""
    other = new_api(api.url)
    mine, theirs = api.queue(), other.queue()
    api.freeze()
    assert api.enqueue(mine)[0]["created_at"] == api.enqueue(api.queue())[0]["created_at"] == NOON
    assert near_wall(other.enqueue(theirs)[0]["created_at"])
    assert other.ok(other.get("/_emulator/clock"))["mode"] == "real"


# -- settings


def test_settings_are_the_servers_until_they_are_changed(api: Api, new_api: Callable[..., Api]) -> None:
    """What is left out stays, null goes back; another workspace keeps its own."""
    other = new_api(api.url)
    steps: list[tuple[dict[str, int | None] | None, dict[str, int | None]]] = [
        (None, DEFAULTS),
        ({}, DEFAULTS),
        ({"default_ttl_seconds": 5}, DEFAULTS | {"default_ttl_seconds": 5}),
        ({"reclaim_ms": 1}, DEFAULTS | {"default_ttl_seconds": 5, "reclaim_ms": 1}),
        (
            {"startup_lease_seconds": 3600, "default_ttl_seconds": 1},
            DEFAULTS | {"default_ttl_seconds": 1, "startup_lease_seconds": 3600, "reclaim_ms": 1},
        ),
        ({"default_ttl_seconds": None}, DEFAULTS | {"startup_lease_seconds": 3600, "reclaim_ms": 1}),
        ({"startup_lease_seconds": None, "reclaim_ms": 3_600_000}, DEFAULTS | {"reclaim_ms": 3_600_000}),
        ({"default_ttl_seconds": 3600, "reclaim_ms": None}, DEFAULTS | {"default_ttl_seconds": 3600}),
    ]
    for body, expected in steps:
        assert api.ok(api.post("/_emulator/settings", json=body)) == expected
        assert api.ok(api.get("/_emulator/settings")) == expected
        assert other.ok(other.get("/_emulator/settings")) == DEFAULTS


def test_settings_hold_for_environments_made_before_and_after(api: Api) -> None:
    """TTL, startup lease and reclaim age; then back to the defaults."""
    api.freeze()
    before = api.queue()
    api.ok(
        api.post("/_emulator/settings", json={"default_ttl_seconds": 7, "startup_lease_seconds": 3, "reclaim_ms": 250})
    )
    environments = [before, api.queue()]
    at = 0.0

    def go(seconds: float) -> None:
        nonlocal at
        at += seconds
        api.freeze(after(NOON, at))

    for queue in environments:
        [item] = api.enqueue(queue)
        work = item["id"]
        assert api.poll(queue)["id"] == work
        go(0.249999)
        assert api.poll(queue) is None
        go(0.000001)
        assert api.poll(queue)["id"] == work
        api.ok(api.ack(queue, work))
        go(2.999999)
        assert api.work(queue, work)["state"] == "starting"
        go(0.000001)
        assert api.work(queue, work)["state"] == "queued"
        api.ok(api.ack(queue, work))
        assert api.heartbeat(queue, work, "NO_HEARTBEAT").json()["ttl_seconds"] == 7
        go(6.999999)
        assert api.work(queue, work)["state"] == "active"
        go(0.000001)
        assert api.work(queue, work)["state"] == "queued"
        api.ok(api.ack(queue, work))
        assert api.heartbeat(queue, work, "NO_HEARTBEAT", 60).json()["ttl_seconds"] == 60
    nothing = {"default_ttl_seconds": None, "startup_lease_seconds": None, "reclaim_ms": None}
    assert api.ok(api.post("/_emulator/settings", json=nothing)) == DEFAULTS
    for queue in environments:
        work = api.ok(api.get(api.path(queue)))["data"][0]["id"]
        assert api.heartbeat(queue, work).json()["ttl_seconds"] == 300


def test_a_change_of_settings_leaves_running_leases_alone(api: Api) -> None:
    """They end when they were to end."""
    api.freeze()
    queue = api.queue()
    starting, active = (item["id"] for item in api.enqueue(queue, 2))
    for work in (starting, active):
        api.ok(api.ack(queue, work))
    api.ok(api.heartbeat(queue, active, "NO_HEARTBEAT"))
    api.ok(api.post("/_emulator/settings", json={"default_ttl_seconds": 1, "startup_lease_seconds": 1}))
    for end, work in ((120, starting), (300, active)):
        api.freeze(after(NOON, end - 0.000001))
        assert api.work(queue, work)["state"] != "queued"
        api.freeze(after(NOON, end))
        assert api.work(queue, work)["state"] == "queued"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"default_ttl_seconds":0}', "default_ttl_seconds: Input should be greater than or equal to 1"),
        ('{"default_ttl_seconds":3601}', "default_ttl_seconds: Input should be less than or equal to 3600"),
        ('{"default_ttl_seconds":"5"}', "default_ttl_seconds: Input should be a valid integer"),
        ('{"startup_lease_seconds":0}', "startup_lease_seconds: Input should be greater than or equal to 1"),
        ('{"startup_lease_seconds":3601}', "startup_lease_seconds: Input should be less than or equal to 3600"),
        ('{"startup_lease_seconds":true}', "startup_lease_seconds: Input should be a valid integer"),
        ('{"reclaim_ms":0}', "reclaim_ms: Input should be greater than or equal to 1"),
        ('{"reclaim_ms":3600001}', "reclaim_ms: Input should be less than or equal to 3600000"),
        ('{"reclaim_ms":1.5}', "reclaim_ms: Input should be a valid integer"),
        ('{"default_ttl_seconds":9,"reclaim":1}', "reclaim: Extra inputs are not permitted"),
    ],
)
def test_a_bad_setting_is_refused_by_name(api: Api, body: str, message: str) -> None:
    """And changes nothing."""
    refused(post_bytes(api, "/_emulator/settings", body), 400, message)
    assert api.ok(api.get("/_emulator/settings")) == DEFAULTS


# -- which workspace


def test_a_read_without_a_workspace_covers_all(nobody: Api, pair: tuple[Api, Api]) -> None:
    """One row for each workspace that was ever used, named by its public id; a read makes none."""
    first, second = pair
    first.freeze()
    second.freeze(after(NOON, 60))
    first.ok(first.post("/_emulator/settings", json={"reclaim_ms": 77}))
    for query in ("", "?workspace=", "?workspace=*"):
        clocks = nobody.ok(nobody.get(f"/_emulator/clock{query}"))["data"]
        assert sorted((row["mode"], row["now"]) for row in clocks) == [("frozen", NOON), ("frozen", after(NOON, 60))]
        assert all(set(row) == {"workspace", "mode", "now", "ahead_seconds"} for row in clocks)
        settings = nobody.ok(nobody.get(f"/_emulator/settings{query}"))["data"]
        assert [row.pop("workspace") for row in settings] == [row["workspace"] for row in clocks]
        assert sorted(row["reclaim_ms"] for row in settings) == [77, 5000]
    assert first.ok(first.get("/_emulator/clock?workspace=*"))["data"] != []
    assert not any(client.api_key in nobody.get("/_emulator/clock").text for client in pair)


@pytest.mark.parametrize("path", ["clock", "settings", "reset"])
def test_a_write_without_a_workspace_is_refused(nobody: Api, pair: tuple[Api, Api], path: str) -> None:
    """It says what to add; nothing has happened."""
    before = [client.ok(client.get("/_emulator/settings")) for client in pair]
    body = {"clock": {"advance_seconds": 3600}, "settings": {"reclaim_ms": 1}, "reset": None}[path]
    for query in ("", "?workspace="):
        refused(nobody.post(f"/_emulator/{path}{query}", json=body), 400, NAME_ONE)
    for client, settings in zip(pair, before, strict=True):
        assert client.ok(client.get("/_emulator/clock"))["ahead_seconds"] == 0
        assert client.ok(client.get("/_emulator/settings")) == settings
        assert len(client.ok(client.get("/v1/environments"))["data"]) == 1


@pytest.mark.parametrize("by", ["key", "public id", "bearer", "x-api-key", "key over a token"])
def test_a_workspace_is_named_by_key_public_id_or_token(nobody: Api, pair: tuple[Api, Api], by: str) -> None:
    """What is written goes to that one, and a read of it shows it."""
    chosen, other = pair
    chosen.freeze()
    [public] = [row["workspace"] for row in nobody.ok(nobody.get("/_emulator/clock"))["data"] if row["now"] == NOON]
    query, headers = {
        "key": ({"workspace": chosen.api_key}, {}),
        "public id": ({"workspace": public}, {}),
        "bearer": ({}, {"authorization": f"Bearer {chosen.api_key}"}),
        "x-api-key": ({}, {"x-api-key": chosen.api_key, "authorization": f"Bearer {other.api_key}"}),
        "key over a token": ({"workspace": chosen.api_key}, {"x-api-key": other.api_key}),
    }[by]

    def call(verb: str, path: str, body: object = None) -> Any:
        return nobody.ok(nobody.request(verb, f"/_emulator/{path}", params=query, headers=headers, json=body))

    assert call("POST", "clock", {"advance_seconds": 1})["now"] == after(NOON, 1)
    assert call("GET", "clock")["now"] == after(NOON, 1)
    assert call("POST", "settings", {"reclaim_ms": 5})["reclaim_ms"] == 5
    assert call("GET", "settings")["reclaim_ms"] == 5
    assert chosen.enqueue(chosen.ok(chosen.get("/v1/environments"))["data"][0]["id"])[0]["created_at"] == after(NOON, 1)
    assert call("POST", "reset")["leftover_keys"] == 0
    assert chosen.ok(chosen.get("/v1/environments"))["data"] == []
    assert len(other.ok(other.get("/v1/environments"))["data"]) == 1
    assert other.ok(other.get("/_emulator/settings")) == DEFAULTS
    assert other.ok(other.get("/_emulator/clock"))["ahead_seconds"] == 0


def test_the_default_workspace_has_a_name(nobody: Api, pair: tuple[Api, Api]) -> None:
    """It is the one of callers without a token; nobody's key means it."""
    clock = nobody.ok(nobody.post("/_emulator/clock?workspace=default", json={"mode": "frozen", "at": NOON}))
    assert clock["now"] == NOON
    rows = nobody.ok(nobody.get("/_emulator/clock"))["data"]
    assert {row["workspace"]: row["now"] for row in rows}["default"] == NOON
    assert len(rows) == 3
    for client in pair:
        assert client.ok(client.get("/_emulator/clock"))["ahead_seconds"] == 0


def test_a_star_means_every_workspace(nobody: Api, pair: tuple[Api, Api]) -> None:
    """Clock, settings and reset, from no matter whom."""
    moved = nobody.ok(nobody.post("/_emulator/clock?workspace=*", json={"mode": "frozen", "at": NOON}))["data"]
    assert [row["now"] for row in moved] == [NOON, NOON]
    changed = pair[0].ok(pair[0].post("/_emulator/settings?workspace=*", json={"default_ttl_seconds": 9}))["data"]
    assert [row["default_ttl_seconds"] for row in changed] == [9, 9]
    for client in pair:
        assert client.environment()["created_at"] == NOON
        assert client.ok(client.get("/_emulator/settings"))["default_ttl_seconds"] == 9
    done = nobody.ok(nobody.post("/_emulator/reset?workspace=*"))
    assert done["leftover_keys"] == 0
    assert done["removed_keys"] > 0
    assert nobody.ok(nobody.get("/_emulator/clock")) == {"data": []}
    for client in pair:
        assert client.ok(client.get("/v1/environments"))["data"] == []
        assert client.ok(client.get("/_emulator/clock"))["ahead_seconds"] == 0


# -- reset


def fill(api: Api) -> list[str]:
    """Use everything a workspace can hold; return all ids there are."""
    api.freeze()
    api.ok(api.post("/_emulator/settings", json={"default_ttl_seconds": 100}))
    queue, archived, cloud = api.queue(), api.queue(), api.environment(config={"type": "cloud"})["id"]
    api.ok(api.post(f"/v1/environments/{archived}/archive"))
    made = api.enqueue(queue, 7, idempotency_key="k", metadata={"a": "b"})
    made += api.enqueue(queue, session_id=SESSION)
    keys = [api.ok(api.post(f"/_emulator/environments/{each}/keys")) for each in (queue, cloud)]
    api.ok(api.delete(f"/_emulator/environments/{queue}/keys/{keys[0]['id']}"))
    api.poll(queue, worker="w")
    api.active(queue)
    api.ok(api.ack(queue, made[3]["id"]))
    api.ok(api.ack(queue, made[4]["id"]))
    api.ok(api.stop(queue, made[4]["id"]))
    api.ok(api.stop(queue, made[5]["id"]))
    api.poll(queue, worker="w")
    api.enqueue(queue, session_id=SESSION)
    gone = api.queue()
    api.enqueue(gone, 3)
    api.ok(api.delete(f"/v1/environments/{gone}?force=true"))
    sessions = [item["data"]["id"] for item in made]
    return [queue, archived, cloud, gone, *(item["id"] for item in made), *sessions, *(key["id"] for key in keys)]


def test_a_reset_leaves_nothing_of_a_workspace_and_all_of_the_others(api: Api, new_api: Callable[..., Api]) -> None:
    """As if its key had never been used: 404s, an empty list, the wall clock, the default settings."""
    other = new_api(api.url)
    other.freeze(after(NOON, 5))
    kept = other.queue()
    other.enqueue(kept, 3)
    queue, *ids = fill(api)
    done = api.reset()
    assert set(done) == {"removed_keys", "leftover_keys"}
    assert done["leftover_keys"] == 0
    assert done["removed_keys"] > 10
    for environment in (queue, *ids[:3]):
        refused(api.get(f"/v1/environments/{environment}"), 404, f"Environment {environment} not found.")
        refused(api.post(f"/_emulator/environments/{environment}/work"), 404, f"Environment {environment} not found.")
    assert api.ok(api.get("/v1/environments?include_archived=true")) == {"data": [], "next_page": None}
    assert api.ok(api.get("/_emulator/settings")) == DEFAULTS
    clock = api.ok(api.get("/_emulator/clock"))
    assert (clock["mode"], clock["ahead_seconds"]) == ("real", 0)
    assert near_wall(api.environment()["created_at"])
    assert other.stats(kept)["depth"] == 3
    assert other.ok(other.get("/_emulator/clock"))["now"] == after(NOON, 5)
    assert other.enqueue(kept)[0]["created_at"] == after(NOON, 5)


def test_a_reset_of_nothing_removes_nothing(api: Api) -> None:
    """A workspace nobody used, twice."""
    for _ in range(2):
        assert api.reset() == {"removed_keys": 0, "leftover_keys": 0}


def test_a_workspace_is_as_new_after_a_reset(api: Api) -> None:
    """An idempotency key is free again, and the clock may be set to what it was before."""
    for _ in range(2):
        api.freeze()
        queue = api.queue()
        assert api.enqueue(queue, 2, idempotency_key="k")[0]["created_at"] == NOON
        assert api.stats(queue)["depth"] == 2
        assert api.reset()["leftover_keys"] == 0


def everything_in(client: redis.Redis) -> Iterator[str]:
    """Return every key with all it holds, as text."""
    for key in client.scan_iter("*", count=1000):
        kind = client.type(key)
        if kind == "string":
            held: Any = client.get(key)
        elif kind == "hash":
            held = client.hgetall(key)
        elif kind == "set":
            held = client.smembers(key)
        elif kind == "zset":
            held = client.zrange(key, 0, -1)
        else:
            assert kind == "stream"
            held = client.xrange(key)
        yield f"{key} {held}"


def test_redis_holds_no_secret_and_nothing_at_all_of_a_workspace_that_was_reset(
    redis_server: RedisServer, redis_backed: WorkyardServer, new_api: Callable[..., Api]
) -> None:
    """Looked for with a plain client: in every key, every field and every entry. The log holds no secret either."""
    api, other = new_api(redis_backed.url), new_api(redis_backed.url)
    kept = other.queue()
    ids = fill(api)
    queue = ids[0]
    key = api.ok(api.post(f"/_emulator/environments/{queue}/keys"))["key"]
    worker = new_api(api.url, key, reset=False)
    secret = worker.poll(queue)["secret"]
    token = json.loads(base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4)))["sessions_token"]
    now = api.advance(0.123457)
    rows = api.ok(api.get("/_emulator/clock?workspace=*"))["data"]
    [public] = [row["workspace"] for row in rows if row["now"] == now]
    client: redis.Redis = redis.Redis(port=redis_server.port, decode_responses=True)
    try:
        before = list(everything_in(client))
        for each in (queue, ids[4], public):
            assert any(each in text for text in before)
        secrets = [api.api_key, key[-20:], secret, token[-20:]]
        assert not [text for text in before for secret in secrets if secret in text]
        assert api.reset()["leftover_keys"] == 0
        left = list(everything_in(client))
        assert not [text for text in left for each in (*ids, public) if each in text]
        assert any(kept in text for text in left)
    finally:
        client.close()
    assert not [secret for secret in secrets if secret in redis_backed.log()]


def test_a_reset_while_the_workspace_is_used_leaves_nothing_either(api: Api) -> None:
    """Workers and enqueues meet 404 from one moment on, and put nothing back."""
    queues = [api.queue() for _ in range(4)]
    until = time.monotonic() + 5

    def use(queue: str) -> int:
        calls = 0
        while time.monotonic() < until:
            calls += 1
            for answer in (
                api.post(f"/_emulator/environments/{queue}/work", json={"count": 5}),
                api.get(api.path(queue, "poll"), headers={"Anthropic-Worker-ID": "w"}),
            ):
                if answer.status_code == 404:
                    return calls
                assert answer.status_code == 200, answer.text
        raise AssertionError("it never went")

    with ThreadPoolExecutor(4) as pool:
        users = [pool.submit(use, queue) for queue in queues]
        while api.stats(queues[-1])["depth"] < 15:
            assert time.monotonic() < until
        assert api.reset()["leftover_keys"] == 0
        assert all(user.result() > 0 for user in users)
    assert api.reset() == {"removed_keys": 0, "leftover_keys": 0}
