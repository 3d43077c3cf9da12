"""Lists of sessions and of events: filters, both orders, pages. Rules: `sessions.list.*`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import anthropic
import pytest
import redis
from anthropic.types.beta.sessions import BetaManagedAgentsSessionEventType

from tests.support.harness import SILENT, Api, RedisServer, WorkyardServer, after, instant, refused, scripts_run
from tests.support.sessions import MESSAGE, events, send, session

SCRIPTS = {"idle": SILENT, "running": {"steps": [{"wait": 3600}, "idle"]}, "terminated": {"steps": ["terminate"]}}
#: One session a second: its status and its agent.
MADE = [("idle", "a"), ("running", "b"), ("terminated", "a"), ("idle", "b"), ("running", "a"), ("idle", "a")]
NOT_AN_INSTANT = "Not an RFC 3339 timestamp, such as 2026-09-16T04:27:29.962294Z"


def listed(api: Api, path: str, **query: Any) -> list[dict[str, Any]]:
    """Return the rows of all pages, two at a time, the last page found by its cursor."""
    rows: list[dict[str, Any]] = []
    while True:
        answer = api.ok(api.get(path, params={"limit": 2, **query}))
        assert set(answer) == {"data", "next_page"}
        rows += answer["data"]
        if answer["next_page"] is None:
            return rows
        assert len(answer["data"]) == 2
        query["page"] = answer["next_page"]


@pytest.fixture
def made(api: Api) -> tuple[str, list[str]]:
    """Sessions, one a second; return the instant of the first, and their ids. The fourth is archived."""
    start = api.freeze()
    queue, ids = api.queue(), []
    store = api.ok(api.post("/v1/memory_stores", json={"name": "notes"}))["id"]
    for n, (status, agent) in enumerate(MADE):
        if n:
            api.advance(1)
        new = session(
            api,
            queue,
            agent=f"agent_{agent}",
            metadata={"workyard_script": json.dumps(SCRIPTS[status])},
            resources=[{"type": "memory_store", "memory_store_id": store}] if n == 1 else [],
            initial_events=[MESSAGE],
        )
        assert new["status"] == status
        ids.append(new["id"])
    api.ok(api.post(f"/v1/sessions/{ids[3]}/archive"))
    return start, ids


def test_sessions_are_filtered_by_all_that_the_sdk_names(api: Api, made: tuple[str, list[str]]) -> None:
    """Each filter alone, and together; in both orders and in pages."""
    start, ids = made
    second, fifth = after(start, 1), after(start, 4)
    store = api.ok(api.get("/v1/memory_stores"))["data"][0]["id"]
    for query, wanted in (
        ({}, [0, 1, 2, 4, 5]),
        ({"include_archived": "true"}, [0, 1, 2, 3, 4, 5]),
        ({"agent_id": "agent_a"}, [0, 2, 4, 5]),
        ({"agent_id": "agent_a", "agent_version": 1}, [0, 2, 4, 5]),
        ({"agent_id": "agent_a", "agent_version": 2}, []),
        ({"agent_version": 2}, [0, 1, 2, 4, 5]),
        ({"agent_id": "agent_c"}, []),
        ({"statuses": "running"}, [1, 4]),
        ({"statuses": ["running", "terminated"]}, [1, 2, 4]),
        ({"statuses[]": ["running", "terminated"]}, [1, 2, 4]),
        ({"statuses": "terminated", "include_archived": "true"}, [2, 3]),
        ({"memory_store_id": store}, [1]),
        ({"memory_store_id": "memstore_none"}, []),
        ({"deployment_id": "deployment_1"}, []),
        ({"created_at[gt]": second}, [2, 4, 5]),
        ({"created_at[gte]": second}, [1, 2, 4, 5]),
        ({"created_at[lt]": fifth}, [0, 1, 2]),
        ({"created_at[lte]": fifth}, [0, 1, 2, 4]),
        ({"created_at[gt]": second, "created_at[lt]": fifth, "agent_id": "agent_a", "statuses": "terminated"}, [2]),
        ({"created_at[gte]": instant(second).isoformat(), "created_at[lte]": second}, [1]),
        ({"unheard_of": "x"}, [0, 1, 2, 4, 5]),
    ):
        for order, expected in (("asc", wanted), ("desc", wanted[::-1])):
            found = [row["id"] for row in listed(api, "/v1/sessions", order=order, **query)]
            assert found == [ids[n] for n in expected], (query, order)


def test_a_cursor_of_sessions_belongs_to_its_order_and_the_filters_may_change(
    api: Api, made: tuple[str, list[str]]
) -> None:
    """It is a place in the whole list."""
    _, ids = made
    page = api.ok(api.get("/v1/sessions", params={"limit": 2}))["next_page"]
    refused(api.get("/v1/sessions", params={"order": "asc", "page": page}), 400, "page: Invalid cursor")
    rest = listed(api, "/v1/sessions", page=page, agent_id="agent_a", limit=1000)
    assert [row["id"] for row in rest] == [ids[2], ids[0]]


def test_events_are_filtered_by_type_and_date(api: Api) -> None:
    """By one type or several, by a span of time, in both orders and in pages."""
    start = api.freeze()
    made = session(api, api.queue())
    for _ in range(5):
        api.advance(1)
        send(api, made["id"], MESSAGE, {"type": "user.interrupt"})
    path = f"/v1/sessions/{made['id']}/events"
    every = events(api, made["id"])
    asked = [event for event in every if event["type"] == "user.message"]
    stamped = [event for event in every if after(start, 2) < event["processed_at"] <= after(start, 4)]
    assert (len(asked), len({event["processed_at"] for event in stamped})) == (5, 2)
    for query, wanted in (
        ({}, every),
        ({"types": "user.message"}, asked),
        ({"types[]": "user.message", "created_at[lt]": after(start, 3)}, asked[:2]),
        ({"types": ["user.message", "user.interrupt"]},
         [event for event in every if event["type"] in ("user.message", "user.interrupt")]),
        ({"types": "agent.thinking"}, []),
        ({"created_at[gt]": after(start, 2), "created_at[lte]": after(start, 4)}, stamped),
        ({"created_at[gte]": after(start, 5), "types": "user.message"}, asked[4:]),
    ):  # fmt: skip
        for order, expected in (("asc", wanted), ("desc", wanted[::-1])):
            assert listed(api, path, order=order, **query) == expected, (query, order)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("order=up", "order: Input should be 'asc' or 'desc'"),
        ("created_at[gte]=yesterday", f"created_at[gte]: {NOT_AN_INSTANT}"),
        ("created_at[lt]=2026-01-01&created_at[gt]=", f"created_at[gt]: {NOT_AN_INSTANT}; created_at[lt]: {NOT_AN_INSTANT}"),
        ("limit=0", "limit: Input should be greater than or equal to 1"),
        ("page=page_x", "page: Invalid cursor"),
    ],
)  # fmt: skip
def test_a_bad_filter_is_refused_by_its_name(api: Api, query: str, message: str) -> None:
    """In both lists."""
    made = session(api, api.queue())
    for path in ("/v1/sessions", f"/v1/sessions/{made['id']}/events"):
        refused(api.get(f"{path}?{query}"), 400, message)


def test_a_filter_that_one_list_has_is_refused_by_its_name_there(api: Api) -> None:
    """The place in a list of values is named too."""
    made = session(api, api.queue())
    statuses = "Input should be 'rescheduling', 'running', 'idle' or 'terminated'"
    refused(api.get("/v1/sessions?statuses=idle&statuses=busy"), 400, f"statuses.1: {statuses}")
    refused(
        api.get("/v1/sessions?agent_version=one"),
        400,
        "agent_version: Input should be a valid integer, unable to parse string as an integer",
    )
    answer = api.get(f"/v1/sessions/{made['id']}/events?types[]=agent.massage")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("types.0: Input should be 'user.message', ")
    assert [row["id"] for row in api.ok(api.get("/v1/sessions?types=nonsense"))["data"]] == [made["id"]]


def test_the_sdk_lists_with_every_filter_and_each_of_its_event_types_is_known(api: Api) -> None:
    """As it writes them: arrays with brackets, dates as RFC 3339."""
    start = api.freeze()
    made = session(api, api.queue(), initial_events=[MESSAGE])
    day = instant(start)
    with anthropic.Anthropic(base_url=api.url, api_key=api.api_key, _strict_response_validation=True) as sdk:
        sessions = sdk.beta.sessions.list(
            agent_id=made["agent"]["id"], agent_version=1, created_at_gte=day, created_at_lte=day, order="asc",
            statuses=["idle", "running"], limit=1,
        )  # fmt: skip
        assert [each.id for each in sessions] == [made["id"]]
        assert list(sdk.beta.sessions.list(created_at_gt=day, statuses=["idle", "running"])) == []
        every = list(get_args(BetaManagedAgentsSessionEventType))
        found = sdk.beta.sessions.events.list(made["id"], types=every, created_at_gte=day, limit=2)
        assert [each.id for each in found] == [each["id"] for each in events(api, made["id"])]
        asked = sdk.beta.sessions.events.list(made["id"], types=["user.message"], order="desc")
        assert [each.type for each in asked] == ["user.message"]


def test_a_page_of_few_rows_among_many_others_takes_few_reads(
    redis_backed: WorkyardServer, redis_server: RedisServer, new_api: Callable[..., Api]
) -> None:
    """However small it is: a session may have ten thousand events, of which one is wanted."""
    api = new_api(redis_backed.url)
    api.script(SILENT)
    made = session(api, api.queue())["id"]
    send(api, made, *[MESSAGE] * 300)
    before = events(api, made)
    send(api, made, {"type": "user.interrupt"})
    send(api, made, *[MESSAGE] * 300)
    [wanted] = [event for event in events(api, made)[len(before) :] if event["type"] == "user.interrupt"]
    with redis.Redis(port=redis_server.port) as raw:
        scripts = scripts_run(raw)
        answer = api.ok(api.get(f"/v1/sessions/{made}/events", params={"types": "user.interrupt", "limit": 1}))
        assert scripts_run(raw) - scripts <= 20
    assert answer == {"data": [wanted], "next_page": None}
