"""Fault rules: which calls they are about, how these are counted, what is refused, and the command.

Rules: `faults.*`.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from click.testing import CliRunner, Result

from tests.support.harness import NOON, Api, WorkyardServer, after, refused, running_server, wait_until
from tests.support.sessions import ABSENT_AGENT, MESSAGE, session
from tests.support.timelines import timeline
from workyard.cli.main import main
from workyard.faults.scenarios import LONGEST_TEXT, ready_scenario, ready_scenarios
from workyard.wire.operations import OPERATIONS
from workyard_store.plain_text import plain_data

ROOT = Path(__file__).parents[2]


def put(api: Api, *rules: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    """Add rules and return them as they are listed."""
    rows: list[dict[str, Any]] = api.ok(api.post("/_emulator/faults", json={"rules": list(rules)}, params=query))[
        "data"
    ]
    return rows


def counts(api: Api) -> list[tuple[int, int, int | None]]:
    """Return of each rule how many calls it was asked about, how many it hit, and how many it may yet."""
    rows = api.ok(api.get("/_emulator/faults"))["data"]
    return [(row["asked"], row["hits"], row["left"]) for row in rows]


def statuses(api: Api, queue: str, calls: int) -> list[int]:
    """Read the statistics several times and return the statuses."""
    return [api.get(api.path(queue, "stats")).status_code for _ in range(calls)]


FAIL: dict[str, Any] = {"on": "stats", "do": {"status": 500}}


# -- which calls, and how often ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "hit", "left"),
    [
        ({}, [1], 0),
        ({"times": 2}, [1, 2], 0),
        ({"nth": 3}, [3], 0),
        ({"nth": [2, 5, 9]}, [2, 5], 1),
        ({"nth": "every"}, [1, 2, 3, 4, 5, 6], None),
        ({"nth": "every", "times": 2}, [1, 2], 0),
        ({"nth": [2, 4, 6], "times": 2}, [2, 4], 0),
        ({"probability": 1}, [1, 2, 3, 4, 5, 6], None),
        ({"probability": 0}, [], None),
    ],
    ids=str,
)
def test_a_rule_counts_the_calls_it_is_about(api: Api, rule: dict[str, Any], hit: list[int], left: int | None) -> None:
    """And is applied to those that it says."""
    queue = api.queue()
    put(api, FAIL | rule)
    assert [n for n, status in enumerate(statuses(api, queue, 6), 1) if status == 500] == hit
    assert api.get(api.path(queue), params={"limit": 0}).status_code == 400  # Another call, and refused before.
    assert counts(api) == [(6, len(hit), left)]


def test_rules_are_counted_seeded_ended_and_forgotten(api: Api) -> None:
    """On each engine: the same dice for the same seed, virtual time, the order of rules, removal and reset."""
    api.freeze()
    queue = api.queue()

    def rolled(seed: int) -> list[int]:
        body = {"rules": [FAIL | {"probability": 0.3}], "seed": seed}
        api.ok(api.post("/_emulator/faults", json=body, params={"replace": "true"}))
        return [n for n, status in enumerate(statuses(api, queue, 30)) if status == 500]

    first = rolled(1)
    assert first == rolled(1) == [0, 1, 2, 5, 10, 11, 13, 14, 15, 17, 20, 26, 29]
    assert rolled(2) != first

    [row] = put(api, FAIL | {"nth": "every", "for_seconds": 30}, replace=True)
    assert row["ends_at"] == after(NOON, 30)
    api.advance(29.999999)
    assert statuses(api, queue, 1) == [500]
    api.advance(0.000001)
    assert statuses(api, queue, 1) == [200]
    assert counts(api) == [(1, 1, 0)]

    # The first that settles the answer does; what only takes time or moves the clock comes on top.
    rows = put(
        api,
        FAIL | {"do": {"clock": {"advance_seconds": 5}}},
        FAIL | {"nth": [1, 2], "do": {"status": 529}},
        FAIL,
        FAIL | {"do": {"clock": {"advance_seconds": 7}}},
        replace=True,
    )
    before = api.ok(api.get("/_emulator/clock"))["now"]
    assert statuses(api, queue, 3) == [529, 529, 500]
    assert api.ok(api.get("/_emulator/clock"))["now"] == after(before, 12)
    assert counts(api) == [(3, 1, 0), (3, 2, 0), (3, 1, 0), (3, 1, 0)]

    assert api.ok(api.delete(f"/_emulator/faults/{rows[1]['id']}")) == {"type": "faults_deleted", "removed": 1}
    assert len(counts(api)) == 3
    assert api.ok(api.delete("/_emulator/faults")) == {"type": "faults_deleted", "removed": 3}

    # The same of a poll, which is asked once more about what it hands out: that comes too late, and is no hit.
    secret, empty = {"on": "poll", "do": {"malformed_secret": True}}, {"on": "poll", "do": {"empty": True}}
    put(api, secret, empty | {"when": "after"})
    api.enqueue(queue)
    assert api.poll(queue) is None
    assert counts(api) == [(1, 0, 1), (1, 1, 0)]

    put(api, FAIL | {"nth": "every"}, replace=True)
    other = api.queue()
    assert statuses(api, other, 1) == [500]  # An environment that is younger than the rule.
    assert api.reset()["leftover_keys"] == 0
    assert counts(api) == []
    assert statuses(api, api.queue(), 1) == [200]


def test_a_rule_is_about_what_it_names(api: Api) -> None:
    """Environment, item, session, worker; an item by its session and a session by its item; of polls, what they hand out."""
    queue, other = api.queue(), api.queue()
    made = str(session(api, queue, initial_events=[MESSAGE])["id"])
    first = api.ok(api.get(api.path(queue)))["data"][0]["id"]
    [second] = [item["id"] for item in api.enqueue(queue)]

    def hit(call: Callable[[], httpx.Response], rule: dict[str, Any]) -> bool:
        put(api, {"nth": "every", "do": {"status": 500}} | rule, replace=True)
        return call().status_code == 500

    def get(work: str) -> Callable[[], httpx.Response]:
        return lambda: api.get(api.path(queue, work))

    assert hit(get(first), {"on": "get", "match": {"environment_id": queue}})
    assert not hit(get(first), {"on": "get", "match": {"environment_id": other}})
    assert hit(get(first), {"on": "work", "match": {"work_id": first}})
    assert not hit(get(first), {"on": "any", "match": {"work_id": second}})
    assert hit(get(first), {"on": "any", "match": {"session_id": made}})
    assert not hit(get(second), {"on": "any", "match": {"session_id": made}})
    its_session = f"/v1/sessions/{made}"
    assert hit(lambda: api.get(its_session), {"on": "sessions", "match": {"work_id": first, "environment_id": queue}})
    assert not hit(lambda: api.get(its_session), {"on": "sessions.events"})
    assert not hit(lambda: api.get(its_session), {"on": "work"})
    named = {"anthropic-worker-id": "a"}
    for name, expected in (("a", True), ("b", False)):
        rule = {"on": "poll", "match": {"worker_id": name}, "when": "before"}
        assert hit(lambda: api.get(api.path(other, "poll"), headers=named), rule) is expected
    put(api, {"on": "any", "match": {"work_id": second}, "do": {"drop": True}, "when": "after"}, replace=True)
    assert api.poll(queue)["id"] == first
    with pytest.raises(httpx.RemoteProtocolError):
        api.poll(queue)
    assert [event["event"] for event in timeline(api, second)["events"]] == ["enqueued", "offered", "fault"]


def test_every_call_of_the_api_can_be_hit(api: Api) -> None:
    """Before it has any effect; and no call of the control plane."""
    queue = api.queue()
    made = str(session(api, queue)["id"])
    work = str(api.enqueue(queue)[0]["id"])
    store = str(api.ok(api.post("/v1/memory_stores", json={"name": "kept"}))["id"])
    names = {
        "environment_id": queue,
        "session_id": made,
        "work_id": work,
        "memory_store_id": store,
        "memory_id": "mem_1",
    }
    names |= {"agent_id": ABSENT_AGENT, "skill_id": "skill_1", "version": "1"}
    bodies: dict[str, Any] = {
        "create_agent": {"name": "a", "model": "claude-sonnet-4-5"},
        "create_environment": {"name": "new"},
        "create_memory_store": {"name": "new"},
        "create_memory": {"path": "/a", "content": ""},
        "create_session": {"agent": ABSENT_AGENT, "environment_id": queue},
        "send_events": {"events": [MESSAGE]},
    }
    put(api, {"on": "any", "nth": "every", "do": {"status": 529}})
    paths = json.loads((ROOT / "openapi" / "workyard.json").read_text())["paths"]
    asked = 0
    for path, methods in paths.items():
        for method, operation in methods.items():
            body = {"json": bodies[operation["operationId"]]} if operation["operationId"] in bodies else {}
            answer = api.request(method.upper(), path.format(**names), **body)
            assert (answer.status_code, answer.json()["error"]["type"]) == (529, "overloaded_error"), (method, path)
            assert OPERATIONS[operation["operationId"]]
            asked += 1
    assert asked == len(OPERATIONS) == counts(api)[0][0]
    api.ok(api.delete("/_emulator/faults"))
    assert [row["name"] for row in api.ok(api.get("/v1/environments"))["data"]] == ["test"]
    assert api.work(queue, work)["state"] == "queued"
    assert api.ok(api.get("/v1/memory_stores"))["data"][0]["id"] == store
    assert [event["event"] for event in timeline(api, work)["events"]].count("fault") == 5


# -- what a client gets -----------------------------------------------------------------------------------------


def test_an_injected_error_is_told_as_a_real_one(api: Api) -> None:
    """The envelope, its type and headers, and the API's own words where it has any for the call."""
    noon = api.freeze()
    queue = api.queue()
    work = api.enqueue(queue)[0]["id"]

    def told(on: str, answered: Callable[[], httpx.Response], **do: Any) -> tuple[Any, ...]:
        put(api, {"on": on, "do": do}, replace=True)
        answer = answered()
        error, headers = answer.json()["error"], answer.headers
        assert answer.json()["request_id"] == headers["request-id"]
        assert answer.status_code == do["status"]
        return error["type"], error["message"], headers.get("x-should-retry"), headers.get("retry-after")

    def stats() -> httpx.Response:
        return api.get(api.path(queue, "stats"))

    assert told("stats", stats, status=503) == ("api_error", "Storage is unavailable", None, "1")
    assert told("stats", stats, status=503, retry_after=7) == ("api_error", "Storage is unavailable", None, "7")
    assert told("stats", stats, status=429) == ("rate_limit_error", "Rate limit exceeded", None, None)
    assert told("stats", stats, status=529) == ("overloaded_error", "Overloaded", None, None)
    revoked = ("authentication_error", "OAuth access token has been revoked.", "false", None)
    assert told("stats", stats, status=401) == revoked
    assert told("stats", stats, status=418, message="No coffee") == (
        "invalid_request_error",
        "No coffee",
        "false",
        None,
    )
    absent = ("not_found_error", f"Work item {work} not found.", "false", None)
    assert told("get", lambda: api.get(api.path(queue, work)), status=404) == absent
    assert told("ack", lambda: api.ack(queue, work), status=409)[1].endswith("Current state: starting.")
    put(api, {"on": "heartbeat", "do": {"status": 412}}, replace=True)
    assert api.heartbeat(queue, work).json()["error"]["details"]["current_state"] == {
        "state": "active",
        "last_heartbeat": noon,
        "lease_extended": False,
        "ttl_seconds": 300,
    }
    assert api.work(queue, work)["state"] == "queued"


def test_an_item_that_is_delivered_twice_goes_to_another_worker_whatever_became_of_it(api: Api) -> None:
    """Never to the worker that has it; as it was when it was queued, with a secret of its own; of no worker, to any."""
    queue = api.queue()
    for ended in (False, True):
        work = api.enqueue(queue)[0]["id"]
        put(api, {"on": "poll", "do": {"duplicate_delivery": True}}, replace=True)
        first = api.poll(queue, "a")
        api.ok(api.ack(queue, work))
        if ended:
            api.ok(api.stop(queue, work, force=True))
        assert api.poll(queue, "a") is None
        again = api.poll(queue, "b")
        assert (again["id"], again["state"], again["acknowledged_at"]) == (work, "queued", None)
        assert again["secret"] != first["secret"]
        assert api.poll(queue, "c") is None
        assert api.work(queue, work)["state"] == ("stopped" if ended else "starting")
    put(api, {"on": "poll", "do": {"duplicate_delivery": True}}, replace=True)
    work = api.enqueue(queue)[0]["id"]
    assert api.poll(queue)["id"] == api.poll(queue)["id"] == work


def test_what_changes_an_answer_leaves_the_rest_of_it(api: Api) -> None:
    """A poll that finds nothing, a secret that is none, a heartbeat that says something else, a lease that is lost."""
    api.freeze()
    queue = api.queue()
    work = api.enqueue(queue)[0]["id"]
    put(api, {"on": "poll", "do": {"empty": True}})
    assert api.poll(queue) is None
    assert api.stats(queue)["depth"] == 1
    put(api, {"on": "poll", "do": {"malformed_secret": True}})
    polled = api.poll(queue)
    assert (polled["id"], polled["secret"]) == (work, "malformed secret!")
    api.ok(api.ack(queue, work))
    put(api, {"on": "heartbeat", "do": {"heartbeat": {"state": "stopping"}}})
    beat = api.heartbeat(queue, work, "NO_HEARTBEAT").json()
    assert (beat["state"], beat["lease_extended"], beat["ttl_seconds"]) == ("stopping", True, 300)
    assert api.work(queue, work)["state"] == "active"
    put(api, {"on": "heartbeat", "do": {"lose_lease": True}})
    assert api.heartbeat(queue, work, beat["last_heartbeat"]).status_code == 412
    assert api.work(queue, work)["state"] == "queued"
    put(api, {"on": "environments.list", "do": {"empty": True}})
    assert api.ok(api.get("/v1/environments"))["data"] == []
    assert counts(api) == [(2, 1, 0), (1, 1, 0), (2, 1, 0), (1, 1, 0), (1, 1, 0)]


def test_a_poll_that_is_blocked_already_is_not_asked(api: Api) -> None:
    """The next one is."""
    queue = api.queue()
    with ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(api.poll, queue, "a", block_ms=300)
        wait_until(lambda: api.stats(queue)["workers_polling"] == 1, "it is blocked")
        put(api, {"on": "poll", "do": {"status": 529}})
        assert blocked.result() is None
    assert counts(api) == [(0, 0, 1)]
    assert api.get(api.path(queue, "poll")).status_code == 529


# -- pauses -----------------------------------------------------------------------------------------------------


def test_a_paused_poll_holds_nobody_up(embedded: WorkyardServer, new_api: Callable[..., Api]) -> None:
    """Not another poll, nor itself when its client goes away."""
    api = new_api(embedded.url)
    queue = api.queue()
    put(api, {"on": "poll", "do": {"delay_ms": 600_000}})
    with ThreadPoolExecutor(2) as pool:
        gone = pool.submit(
            lambda: httpx.get(
                f"{api.url}{api.path(queue, 'poll')}",
                headers={"x-api-key": api.api_key},
                params={"block_ms": 900},
                timeout=1,
            )
        )
        wait_until(lambda: counts(api) == [(1, 1, 0)], "it is paused")
        blocked = pool.submit(api.poll, queue, block_ms=999)
        [item] = api.enqueue(queue)
        started = time.monotonic()
        assert blocked.result()["id"] == item["id"]
        assert time.monotonic() - started < 0.5
        with pytest.raises(httpx.ReadTimeout):
            gone.result()


def test_the_end_of_the_server_ends_pauses() -> None:
    """A hanging call is cut, a delayed one is answered, and the exit is clean."""
    with running_server() as server:
        api = Api(server.url)
        queue = api.queue()
        put(
            api,
            {"on": "stats", "do": {"hang_ms": 600_000}},
            {"on": "list", "do": {"delay_ms": 600_000}},
        )
        with ThreadPoolExecutor(2) as pool:
            hanging = pool.submit(httpx.get, f"{api.url}{api.path(queue, 'stats')}", headers={"x-api-key": api.api_key})
            delayed = pool.submit(httpx.get, f"{api.url}{api.path(queue)}", headers={"x-api-key": api.api_key})
            wait_until(lambda: counts(api) == [(1, 1, 0), (1, 1, 0)], "both wait")
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.RemoteProtocolError):
                hanging.result(5)
            assert delayed.result(5).json() == {"data": [], "next_page": None}
        assert server.process.wait(5) == 0
        assert "Traceback" not in server.log()
        assert "ASGI" not in server.log()
        api.close()


def test_a_stream_is_cut_behind_its_first_frame(api: Api) -> None:
    """And after that another one stands."""
    stream = f"/v1/sessions/{session(api, api.queue())['id']}/events/stream"
    put(
        api,
        {"on": "any", "nth": "every", "do": {"status": 500}, "when": "after"},
        {"on": "sessions", "do": {"truncate": True}},
    )
    with api.http.stream("GET", stream) as answer:
        frames = answer.iter_lines()
        assert [next(frames) for _ in range(3)] == ["event: ping", 'data: {"type":"ping"}', ""]
        with pytest.raises(httpx.RemoteProtocolError):
            next(frames)
    assert counts(api)[0][0] == 0  # A stream that has begun has no status any more.
    with api.http.stream("GET", stream) as answer:
        assert next(answer.iter_lines()) == "event: ping"


# -- what is refused --------------------------------------------------------------------------------------------

#: What is wrong with rules → how the message begins.
BAD: list[tuple[Any, str]] = [
    ({"rules": []}, "rules: List should have at least 1 item"),
    ({"rules": [{"on": "ack"}]}, "rules.0.do: Field required"),
    ({"rules": [FAIL, {"on": "ack", "do": {"explode": True}}]}, "rules.1.do.explode: Extra inputs are not permitted"),
    ({"rules": [{"on": "acks", "do": {"drop": True}}]}, "rules.0.on: Not an operation: use one of poll, ack, "),
    ({"rules": [{"on": "ack", "do": {}}]}, "rules.0.do: No fault kind given; use one of status, delay_ms, "),
    ({"rules": [{"on": "ack", "do": {"drop": True, "status": 500}}]}, "rules.0.do: Several fault kinds given, status and drop; use one"),
    ({"rules": [{"on": "ack", "do": {"status": 200}}]}, "rules.0.do.status: Input should be greater than or equal to 400"),
    ({"rules": [{"on": "ack", "do": {"status": "503"}}]}, "rules.0.do.status: Input should be a valid integer"),
    ({"rules": [{"on": "ack", "do": {"drop": False}}]}, "rules.0.do.drop: Input should be True"),
    ({"rules": [{"on": "ack", "do": {"drop": 1}}]}, "rules.0.do.drop: Input should be True"),
    ({"rules": [{"on": "ack", "do": {"drop": True, "retry_after": 1}}]}, "rules.0.do: retry_after is allowed with status only"),
    ({"rules": [{"on": "ack", "do": {"hang_ms": 600_001}}]}, "rules.0.do.hang_ms: Input should be less than or equal to 600000"),
    ({"rules": [{"on": "ack", "nth": 0, "do": {"drop": True}}]}, "rules.0.nth: Input should be a number from 1, a list"),
    ({"rules": [{"on": "ack", "nth": [], "do": {"drop": True}}]}, "rules.0.nth: Input should be a number from 1, a list"),
    ({"rules": [{"on": "ack", "probability": 2, "do": {"drop": True}}]}, "rules.0.probability: Input should be less than"),
    ({"rules": [{"on": "ack", "nth": 1, "probability": 1, "do": {"drop": True}}]}, "rules.0.probability: Cannot be given together with nth"),
    ({"rules": [{"on": "ack", "do": {"truncate": True}, "when": "before"}]}, "rules.0.when: truncate can act after only"),
    ({"rules": [{"on": "ack", "do": {"drop": True}, "when": "later"}]}, "rules.0.when: Input should be 'before' or 'after'"),
    ({"rules": [{"on": "ack", "do": {"duplicate_delivery": True}}]}, "rules.0.do: duplicate_delivery is only possible with on: poll"),
    ({"rules": [{"on": "get", "do": {"empty": True}}]}, "rules.0.do: empty is only possible with on: poll or list or environments.list"),
    ({"rules": [{"on": "heartbeat", "do": {"heartbeat": {}}}]}, "rules.0.do: heartbeat changes nothing: give at least one of "),
    ({"rules": [{"on": "heartbeat", "do": {"heartbeat": {"state": "idle"}}}]}, "rules.0.do.heartbeat.state: Input should be 'queued',"),
    ({"rules": [{"on": "poll", "match": {"work_id": "w"}, "do": {"drop": True}}]}, "rules.0.when: The item of a poll is only known after"),
    ({"rules": [{"on": "ack", "match": {"work": "w"}, "do": {"drop": True}}]}, "rules.0.match.work: Extra inputs are not permitted"),
    ({"rules": [{"on": "sessions.events.stream", "do": {"drop": True}, "when": "after"}]}, "rules.0.when: A stream has no end"),
    ({"rules": [FAIL], "seeds": 1}, "seeds: Extra inputs are not permitted"),
    ({"rules": [FAIL] * 101}, "rules: List should have at most 100 items"),
    ({"rules": [{"on": "ack", "name": None, "do": {"drop": True}}]}, "rules.0: name cannot be null: leave it out"),
    ({"rules": None}, "rules cannot be null: leave it out"),
    ({"on": "ack", "do": {"status": 99}, "seed": 1.5}, "seed: Input should be a valid integer"),
    ({"on": "ack", "do": {"status": 99}}, "do.status: Input should be greater than or equal to 400"),
    ({"scenario": "lost-acks"}, "scenario: No ready scenario with this name: use one of double-delivery, "),
    ({"scenario": "lost-ack", "environment": "x"}, "environment: Extra inputs are not permitted"),
    ({}, "rules: Field required"),
    ([FAIL], "Scenario must be a mapping"),
    ("rules: [{on: ack, do: {drop: true}, on: poll}]", "Scenario is not valid YAML or JSON: line 1, column 37: duplicate key on"),
    ("rules: &a [*a]", "Scenario is not valid YAML or JSON: line 1, column 12: aliases are not allowed"),
    ("name: \"\\0\"", "name: String contains a character that cannot be stored"),
    ("[" * 5000, "Scenario is nested too deeply"),
]  # fmt: skip


def test_what_is_no_rule_is_refused_by_its_path_and_nothing_is_applied(api: Api) -> None:
    """As JSON and as YAML; the rules that were there stay."""
    kept = put(api, FAIL)
    for body, begins in BAD:
        text = body if isinstance(body, str) else json.dumps(body)
        answer = api.post(
            "/_emulator/faults", content=text, headers={"content-type": "application/yaml"}, params={"replace": "true"}
        )
        assert answer.status_code == 400, text[:200]
        assert answer.json()["error"]["message"].startswith(begins), (text[:200], answer.text)
    put(api, *[FAIL] * 99)
    refused(
        api.post("/_emulator/faults", json=FAIL),
        400,
        "rules: A workspace has at most 100 fault rules: remove some first",
    )
    rows = api.ok(api.get("/_emulator/faults"))["data"]
    assert (len(rows), rows[:1]) == (100, kept)
    for unknown in ("fault_101", "fault_01", "fault_", "1", "fault_²", "fault_" + "9" * 400):
        refused(api.delete(f"/_emulator/faults/{unknown}"), 404, f"Fault {unknown} not found.")
    refused(
        httpx.get(f"{api.url}/_emulator/faults"),
        400,
        "workspace: Name one workspace: with x-api-key or a bearer token, or with ?workspace=",
    )
    refused(api.get("/_emulator/faults/scenarios/none"), 404, "Scenario none not found.")


def test_the_published_schema_describes_scenarios() -> None:
    """The ready ones keep it, and what it can say of the bad ones it does."""
    schema = json.loads((ROOT / "openapi" / "scenario.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name, text in ready_scenarios().items():
        validator.validate(plain_data(text, "Scenario", most=LONGEST_TEXT))
        assert ready_scenario(name).name == name
    passed = [body for body, _ in BAD if isinstance(body, dict) and "rules" in body and validator.is_valid(body)]
    # Rules about two members at once.
    assert len(passed) <= 8, passed
    assert all(
        ("when" in rule or "match" in rule or "probability" in rule or "do" in rule)
        for body in passed
        for rule in body["rules"]
    )


# -- the command ------------------------------------------------------------------------------------------------


def test_the_command_adds_lists_and_clears_faults(
    embedded: WorkyardServer, new_api: Callable[..., Api], tmp_path: Path
) -> None:
    """And knows the ready scenarios without a server."""
    api = new_api(embedded.url)
    queue = api.queue()

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, env={"WORKYARD_URL": api.url, "WORKYARD_API_KEY": api.api_key})

    def said(*arguments: str) -> str:
        done = run(*arguments)
        assert (done.exit_code, done.stderr) == (0, "")
        return done.stdout

    rule = '{"on": "stats", "do": {"status": 500}}'
    shown = "fault_1: 0 of 0 calls hit, 1 left: " + rule + "\n"
    assert said("faults", "add", "{on: stats, do: {status: 500}}") == shown
    assert statuses(api, queue, 2) == [500, 200]
    assert said("faults", "list") == shown.replace("0 of 0 calls hit, 1 left", "1 of 2 calls hit, 0 left")
    assert said("faults", "clear", "fault_1") == "removed 1\n"
    assert said("faults", "run", "lost-ack", "--environment", queue).startswith("fault_1 lost-ack: 0 of 0 ")
    assert api.ok(api.get("/_emulator/faults"))["data"][0]["rule"]["match"] == {"environment_id": queue}
    mine = tmp_path / "mine.yaml"
    mine.write_text(said("faults", "show", "outage-30s"))
    assert said("faults", "check", str(mine)) == f"{mine}: 1 rules, no problem\n"
    assert ", until " in said("faults", "run", "--replace", str(mine))
    assert said("faults", "clear") == "removed 1\n"
    listed = said("faults", "scenarios")
    assert [line.partition(":")[0] for line in listed.splitlines()] == list(ready_scenarios())
    assert [row["name"] for row in api.ok(api.get("/_emulator/faults/scenarios"))["data"]] == list(ready_scenarios())
    assert api.ok(api.get("/_emulator/faults/scenarios/lost-ack"))["rules"][0]["when"] == "after"
    mine.write_text("rules: [{on: ack, do: {dorp: true}}]")
    failed = run("faults", "check", str(mine))
    assert (failed.exit_code, failed.stderr) == (
        1,
        f"Error: {mine}: rules.0.do.dorp: Extra inputs are not permitted\n",
    )
    assert run("faults", "run", "none").exit_code == 1
