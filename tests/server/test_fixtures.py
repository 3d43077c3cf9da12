"""Fixture mode: the reserved ids are there for whoever calls, as each call needs them; all else is as strict as ever.
Rules: `fixtures.*`. The suites themselves: test_suites_generated.py.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest
import redis

from tests.support.credentials import NEVER_ISSUED, environments, everything_below
from tests.support.harness import Api, RedisServer, WorkyardServer, refused, running_server, wait_until

ENVIRONMENT = "env_011CZkZ9X2dpNyB7HsEFoRfW"
PATH = f"/v1/environments/{ENVIRONMENT}"
HEADER = "workyard-leniency"
#: Every list under /v1 that needs nothing to be there.
LISTS = ("environments", "sessions", "skills", "memory_stores")
#: One server an engine does for all of them.
pytestmark = pytest.mark.xdist_group("fixtures")


@pytest.fixture(scope="session")
def fixture_server(engine_options: tuple[str, ...]) -> Iterator[WorkyardServer]:
    """A server in fixture mode on each engine, beside others on the same Redis. Nothing it logs may be an error."""
    prefix = ("--key-prefix", "fixtures") if engine_options else ()
    with running_server("--fixtures", *engine_options, *prefix) as server:
        yield server
        assert server.stop() == 0
        assert "ERROR" not in server.log(), server.log()


@pytest.fixture
def api(fixture_server: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client of a server in fixture mode, in a workspace of its own."""
    return new_api(fixture_server.url)


@pytest.fixture
def other(fixture_server: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client in another workspace."""
    return new_api(fixture_server.url)


def leniencies(response: httpx.Response) -> list[str]:
    """Return the names in an answer's header."""
    return [name for name in response.headers.get(HEADER, "").split(", ") if name]


def test_every_call_on_the_reserved_ids_succeeds_again_and_again_whoever_calls(
    api: Api, other: Api, new_api: Callable[..., Api]
) -> None:
    """Deleting, archiving and acknowledging too. Each answer names what made it so, and health has counted it."""
    made_up = new_api(api.url, NEVER_ISSUED)
    before = Counter(api.ok(api.get("/_emulator/health"))["leniencies"])
    named: Counter[str] = Counter()
    for client in (api, other, api, made_up):
        answers = list(everything_below(client, ENVIRONMENT, "work_id"))
        for answer in answers:
            client.ok(answer)
            about_work = "/work_id" in answer.request.url.path
            wanted = ["reserved-environment"] + (["reserved-work"] if about_work else [])
            assert leniencies(answer) == wanted, answer.request
            named.update(wanted)
        assert [answer.json().get("type") for answer in answers].count("work") == 5
    assert Counter(api.ok(api.get("/_emulator/health"))["leniencies"]) - before == named


def test_the_reserved_ids_are_in_the_state_that_each_call_needs(api: Api) -> None:
    """What a strict answer would refuse is never met, and what a call does is seen in its answer."""
    made = api.ok(api.get(PATH))
    assert (made["id"], made["config"]["type"], made["archived_at"]) == (ENVIRONMENT, "cloud", None)
    assert api.ok(api.post(PATH, json={"name": "named", "config": {"type": "cloud"}}))["name"] == "named"
    assert api.ok(api.get(PATH))["name"] != "named"
    handed_out = api.poll(ENVIRONMENT, "worker", block_ms=999)
    assert (handed_out["id"], handed_out["environment_id"]) == ("work_id", ENVIRONMENT)
    token = json.loads(base64.urlsafe_b64decode(handed_out["secret"] + "=="))["sessions_token"]
    assert token.startswith("sk-ant-req01-")
    assert api.work(ENVIRONMENT, "work_id")["state"] == "queued"
    assert api.ok(api.ack(ENVIRONMENT, "work_id"))["state"] == "starting"
    beat = api.ok(api.heartbeat(ENVIRONMENT, "work_id", "expected_last_heartbeat", 0))
    assert (beat["state"], beat["lease_extended"]) == ("stopping", False)
    assert beat["last_heartbeat"]
    assert api.ok(api.stop(ENVIRONMENT, "work_id"))["state"] == "stopping"
    assert api.ok(api.stop(ENVIRONMENT, "work_id", force=True))["state"] == "stopped"
    assert [item["id"] for item in api.ok(api.get(api.path(ENVIRONMENT)))["data"]] == ["work_id"]
    figures = api.stats(ENVIRONMENT)
    assert (figures["depth"], figures["pending"]) == (1, 0)


def test_the_reserved_environment_belongs_to_who_called_last(api: Api, other: Api) -> None:
    """It is listed there, and the others' resets leave it alone."""
    api.ok(api.get(PATH))
    assert environments(api) == [ENVIRONMENT]
    api.ok(other.get(PATH))
    assert (environments(api), environments(other)) == ([], [ENVIRONMENT])
    assert api.reset()["leftover_keys"] == 0
    assert environments(other) == [ENVIRONMENT]
    assert other.reset()["leftover_keys"] == 0
    assert environments(other) == []


def test_its_time_is_that_of_its_workspace(api: Api) -> None:
    """As of any environment."""
    noon = api.freeze()
    assert api.ok(api.get(PATH))["created_at"] == noon
    later = api.advance(60)
    assert api.ok(api.ack(ENVIRONMENT, "work_id"))["acknowledged_at"] == later


def test_all_other_ids_and_rules_stay_strict(api: Api, other: Api, new_api: Callable[..., Api]) -> None:
    """The same calls on ids that were made, on ids that are not there, and with what breaks a rule."""
    queue = api.queue()
    [item] = api.enqueue(queue)
    absent = "env_01" + "A" * 22
    other.queue()
    strict = [
        (api.get(f"/v1/environments/{absent}"), 404, f"Environment {absent} not found."),
        (api.get(f"/v1/environments/{absent}/work/work_id"), 404, f"Environment {absent} not found."),
        (api.get(f"/v1/environments/{queue}/work/work_id"), 404, "Work item work_id not found."),
        (api.heartbeat(queue, item["id"]), 412, None),
        (api.stop(queue, item["id"], force=True), 200, None),
        (api.ack(queue, item["id"]), 409, None),
        (api.post(f"/v1/environments/{queue}", json={"config": {"type": "cloud"}}), 400, None),
        (other.get(f"/v1/environments/{queue}"), 404, f"Environment {queue} not found."),
        (api.get(f"{PATH}/nothing"), 404, "Not found"),
        (api.request("PATCH", PATH), 405, "Method Not Allowed"),
        (api.get(f"{PATH}/work/poll?block_ms=0"), 400, "block_ms: Input should be greater than or equal to 1"),
        (api.post(PATH, json={"colour": "red"}), 400, "colour: Extra inputs are not permitted"),
        (new_api(api.url, "").get(PATH), 401, "x-api-key header is required"),
        (api.get("/v1/environments?limit=0"), 400, "limit: Input should be greater than or equal to 1"),
    ]
    for answer, status, message in strict:
        assert answer.status_code == status, answer.request
        assert leniencies(answer) == [], answer.request
        if message is not None:
            refused(answer, status, message)
    # These name the environment, and are strict about the rest.
    for answer, message in (
        (api.get(f"{PATH}/work/{item['id']}"), f"Work item {item['id']} not found."),
        (api.post(f"{PATH}/work/work_ID/ack"), "Work item work_ID not found."),
    ):
        refused(answer, 404, message)
        assert leniencies(answer) == ["reserved-environment"]


def test_a_cursor_of_no_list_means_its_first_page(api: Api) -> None:
    """A cursor of the list goes on, as ever."""
    queue = api.queue()
    items = [item["id"] for item in reversed(api.enqueue(queue, 3))]
    first = api.get(f"{api.path(queue)}?limit=2")
    more = api.get(f"{api.path(queue)}?limit=2&page={first.json()['next_page']}")
    for answer, wanted in ((first, items[:2]), (more, items[2:])):
        assert [item["id"] for item in api.ok(answer)["data"]] == wanted
        assert leniencies(answer) == []
    for page in ("page", "", first.json()["next_page"] + "x"):
        unknown = api.get(api.path(queue), params={"limit": 2, "page": page})
        assert api.ok(unknown) == api.ok(first)
        assert leniencies(unknown) == ["unknown-cursor"]
    for name in LISTS:
        answer = api.get(f"/v1/{name}?page=page")
        assert api.ok(answer)["data"] == api.ok(api.get(f"/v1/{name}"))["data"]
        assert leniencies(answer) == ["unknown-cursor"], name
    both = api.get(f"{PATH}/work?page=page")
    assert leniencies(both) == ["reserved-environment", "unknown-cursor"]
    refused(api.get("/v1/environments?page=page&limit=0"), 400, "limit: Input should be greater than or equal to 1")


def test_parallel_calls_never_meet_each_others_state(api: Api, other: Api, new_api: Callable[..., Api]) -> None:
    """With two keys, beside resets, and with a poll that waits elsewhere and holds up nobody."""
    third = new_api(api.url)
    queue = api.queue()

    def many(client: Api) -> list[str]:
        """Call all that there is, and return what went wrong. None of it waits: a poll that did would take a second."""
        bad = []
        for _ in range(2):
            polled = client.get(client.path(ENVIRONMENT, "poll"), params={"block_ms": 999})
            for answer in (polled, *everything_below(client, ENVIRONMENT, "work_id")):
                if answer.status_code != 200 or answer.json() is None:
                    bad.append(f"{answer.request!r}: {answer.status_code}: {answer.text}")
        return bad

    with ThreadPoolExecutor(6) as pool:
        waiting = pool.submit(api.get, api.path(queue, "poll"), params={"block_ms": 999})
        wait_until(lambda: api.stats(queue) and not waiting.done(), "a poll waits")
        running = [pool.submit(many, client) for client in (api, other, api, other)]
        while not all(each.done() for each in running):
            third.ok(third.get(PATH))
            assert third.reset()["leftover_keys"] == 0
        assert [each.result() for each in running] == [[]] * 4
        assert waiting.result().json() is None
    assert api.ok(api.get("/_emulator/invariants"))["violations"] == []


def test_fault_rules_hold_for_the_reserved_ids_too(api: Api) -> None:
    """One that acts before a call does so before the ids are made; what making them takes is no call, and meets none."""
    rules = [{"on": "ack", "do": {"status": 503}, "times": 1}, {"on": "heartbeat", "do": {"status": 503}}]
    api.ok(api.post("/_emulator/faults", json={"rules": rules}))
    injected = api.ack(ENVIRONMENT, "work_id")
    assert (injected.status_code, leniencies(injected)) == (503, [])
    assert api.ok(api.ack(ENVIRONMENT, "work_id"))["state"] == "starting"
    assert api.ok(api.stop(ENVIRONMENT, "work_id"))["state"] == "stopping"


def test_a_workspace_with_the_reserved_ids_is_exported_and_restored(api: Api) -> None:
    """The item's id does not follow from its session's, as those of others do."""
    api.ok(api.stop(ENVIRONMENT, "work_id"))
    document = api.ok(api.get("/_emulator/state"))
    assert document["environments"][0]["work"][0]["id"] == "work_id"
    api.reset()
    api.ok(api.request("PUT", "/_emulator/state", json=document))
    assert api.ok(api.get("/_emulator/state")) == document
    api.ok(api.post(f"{PATH}/work/work_id/heartbeat"))


def test_what_a_crash_left_of_the_reserved_environment_is_removed(redis_server: RedisServer) -> None:
    """Its deletion was on record, its record gone, its queue not: the next caller has a fresh one, the last one none."""
    with (
        closing(redis.Redis(port=redis_server.port, decode_responses=True)) as raw,
        running_server("--fixtures", "--redis-url", redis_server.url, "--key-prefix", "crashed") as server,
        closing(Api(server.url)) as last,
        closing(Api(server.url)) as caller,
    ):
        last.ok(last.ack(ENVIRONMENT, "work_id"))
        [owner] = raw.hmget(f"crashed:{{{ENVIRONMENT}}}:env", ["ws"])
        raw.zadd("crashed:purge", {f"{owner!s} {ENVIRONMENT}": 1})
        raw.delete(f"crashed:{{{ENVIRONMENT}}}:env")
        assert caller.stats(ENVIRONMENT)["depth"] == 1
        assert environments(last) == []
        assert raw.zcard("crashed:purge") == 0
        assert caller.ok(caller.get("/_emulator/invariants"))["violations"] == []
        assert caller.ok(caller.post("/_emulator/reset?workspace=*"))["leftover_keys"] == 0
        raw.delete(*raw.scan_iter("crashed:*"))
