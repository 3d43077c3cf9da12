"""Events of a session: what may be sent, how they are listed, and what a refusal names. Rules: `sessions.events.*`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.harness import Api, refused
from tests.support.session_events import SENDABLE, TEXT
from tests.support.sessions import MESSAGE, events, send, session

pytestmark = pytest.mark.usefixtures("silent_agent")

OVERRIDDEN = {"type": "agent_with_overrides", "id": "a"}
TYPES = (
    "'user.message', 'user.interrupt', 'user.tool_confirmation', 'user.custom_tool_result', 'user.define_outcome', "
    "'user.tool_result', 'system.message'"
)
UNKNOWN = f"events.0: Input tag 'agent.message' found using 'type' does not match any of the expected tags: {TYPES}"
PLACE = "events: system.message must be the last event, immediately after the message or result that it accompanies"


@pytest.mark.parametrize("event", SENDABLE, ids=lambda event: str(event["type"]))
def test_an_event_comes_back_as_it_was_sent_with_an_id_and_a_date(api: Api, event: dict[str, Any]) -> None:
    """In the answer and in the list."""
    at = api.freeze()
    made = session(api, api.queue())
    [sent] = send(api, made["id"], event)
    assert {**sent, **event} == sent
    assert sent["processed_at"] == at
    assert sent["id"].startswith("sevt_")
    assert sent in events(api, made["id"])
    assert set(sent) - set(event) == {"id", "processed_at"} | (
        {"outcome_id"} if event["type"] == "user.define_outcome" else set()
    )


def test_what_asks_the_agent_to_go_on_queues_the_work_again(api: Api) -> None:
    """Each type that a client may send, to a session whose work has stopped."""
    queue = api.queue()
    queued = []
    for event in SENDABLE:
        made = session(api, queue)
        work, _ = api.active(queue)
        api.ok(api.stop(queue, work, force=True))
        send(api, made["id"], event)
        if api.work(queue, work)["state"] == "queued":
            queued.append(event["type"])
            api.ok(api.stop(queue, work, force=True))
    assert queued == ["user.message", "user.tool_confirmation", "user.custom_tool_result", "user.define_outcome"]


def test_events_are_listed_in_the_order_they_were_sent_and_back_in_pages(api: Api) -> None:
    """Ascending unless asked otherwise; a cursor belongs to its order and its session."""
    api.freeze()
    made, other = session(api, api.queue()), session(api, api.queue())
    for n in range(4):
        send(api, made["id"], {"type": "user.message", "content": [{"type": "text", "text": str(n)}]})
    path = f"/v1/sessions/{made['id']}/events"
    whole = api.ok(api.get(path))
    assert whole["next_page"] is None
    ids = [event["id"] for event in whole["data"]]
    assert len(set(ids)) == len(ids) == 1 + 4 * 3
    assert [e["content"][0]["text"] for e in whole["data"] if e["type"] == "user.message"] == ["0", "1", "2", "3"]
    for order, wanted in (("asc", ids), ("desc", ids[::-1])):
        seen: list[str] = []
        query: dict[str, Any] = {"order": order, "limit": 5}
        while True:
            answer = api.ok(api.get(path, params=query))
            seen += [event["id"] for event in answer["data"]]
            if answer["next_page"] is None:
                break
            query["page"] = answer["next_page"]
        assert seen == wanted
    refused(api.get(path, params={**query, "order": "asc"}), 400, "page: Invalid cursor")
    refused(api.get(f"/v1/sessions/{other['id']}/events", params=query), 400, "page: Invalid cursor")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "events: Field required"),
        ({"events": []}, "events: List should have at least 1 item after validation, not 0"),
        ({"events": [{}]}, "events.0: Unable to extract tag using discriminator 'type'"),
        ({"events": [{"type": "agent.message"}]}, UNKNOWN),
        ({"events": [MESSAGE, {"type": "user.message"}]}, "events.1.content: Field required"),
        (
            {"events": [{"type": "user.message", "content": [{"type": "text"}]}]},
            "events.0.content.0.text: Field required",
        ),
        (
            {"events": [{"type": "user.message", "content": [{"type": "text", "text": 1}]}]},
            "events.0.content.0.text: Input should be a valid string",
        ),
        ({"events": [MESSAGE | {"id": "mine"}]}, "events.0.id: Extra inputs are not permitted"),
        ({"events": [{"type": "user.tool_result"}]}, "events.0.tool_use_id: Field required"),
        ({"events": [{"type": "system.message", "content": TEXT}]}, PLACE),
        ({"events": [MESSAGE, {"type": "system.message", "content": TEXT}, MESSAGE]}, PLACE),
        (
            {"events": [SENDABLE[2] | {"result": "allow"}]},
            "events.0.deny_message: Only allowed when result is 'deny'",
        ),
        ({"events": [MESSAGE], "more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_a_refused_request_names_the_field_and_appends_nothing(api: Api, body: dict[str, Any], message: str) -> None:
    """All events of a request or none."""
    made = session(api, api.queue())
    before = events(api, made["id"])
    refused(api.post(f"/v1/sessions/{made['id']}/events", json=body), 400, message)
    assert events(api, made["id"]) == before


def test_what_is_taken_can_be_read_again_however_deep_it_is(api: Api) -> None:
    """Content that is kept and never looked at: the deepest that a body may hold, in an event and in an agent."""
    api.freeze()
    queue = api.queue()
    made = session(api, queue)
    deep: Any = 1e308
    for _ in range(490):
        deep = {"a": deep}
    message = {"type": "user.message", "content": [{"type": "image", "source": deep}]}
    assert send(api, made["id"], message)[0] in events(api, made["id"])
    tool = {"type": "custom", "name": "t", "description": "", "input_schema": deep}
    kept = api.ok(api.post("/v1/agents", json={"name": "a", "model": "m", "tools": [tool]}))
    used = session(api, queue, agent=kept["id"])
    assert api.ok(api.get("/v1/sessions"))["data"][0] == used
    assert used["agent"]["tools"] == kept["tools"]


def test_a_system_message_is_taken_behind_the_message_it_accompanies(api: Api) -> None:
    """As the last event of its request."""
    made = session(api, api.queue())
    sent = send(api, made["id"], MESSAGE, {"type": "system.message", "content": TEXT})
    assert [event["type"] for event in sent] == ["user.message", "system.message"]


def test_the_result_of_a_workers_tool_is_refused_where_no_worker_runs(api: Api) -> None:
    """The service itself runs the tools of a cloud environment."""
    made = session(api, str(api.environment(config={"type": "cloud"})["id"]))
    answer = api.post(f"/v1/sessions/{made['id']}/events", json={"events": [MESSAGE, SENDABLE[3]]})
    refused(answer, 400, "events.1: user.tool_result is only valid in self-hosted environments")
    assert [event["type"] for event in events(api, made["id"])] == ["session.status_idle"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "agent: Field required; environment_id: Field required"),
        ({"agent": "", "environment_id": "e"}, "agent: String should have at least 1 character"),
        (
            {"agent": {"type": "other"}, "environment_id": "e"},
            "agent: Input should be the id of an agent, or an object of type 'agent' or 'agent_with_overrides'",
        ),
        ({"agent": {"type": "agent"}, "environment_id": "e"}, "agent.id: Field required"),
        (
            {"agent": "a", "environment_id": "e", "initial_events": [{"type": "user.interrupt"}]},
            "initial_events.0: Input tag 'user.interrupt' found using 'type' does not match any of the expected tags: "
            "'user.message', 'user.define_outcome'",
        ),
        (
            {"agent": "a", "environment_id": "e", "resources": [{"type": "file", "file_id": "f"}]},
            "resources.0.type: Input should be 'memory_store'; resources.0.memory_store_id: Field required; "
            "resources.0.file_id: Extra inputs are not permitted",
        ),
        ({"agent": "a", "environment_id": "e", "budget": {}}, "budget: Extra inputs are not permitted"),
        (
            {"agent": OVERRIDDEN | {"model": ""}, "environment_id": "e"},
            "agent.model: String should have at least 1 character",
        ),
        (
            {"agent": OVERRIDDEN | {"model": {"id": "m", "speed": "warp"}}, "environment_id": "e"},
            "agent.model.speed: Input should be 'standard' or 'fast'",
        ),
        (
            {"agent": OVERRIDDEN | {"model": {"id": "m", "effort": 1}}, "environment_id": "e"},
            "agent.model.effort: Input should be a string or an object",
        ),
    ],
)
def test_a_refused_session_names_the_field(api: Api, body: dict[str, Any], message: str) -> None:
    """Validation comes before the environment is looked for."""
    refused(api.post("/v1/sessions", json=body), 400, message)
