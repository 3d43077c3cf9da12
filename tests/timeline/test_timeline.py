"""Timelines: every event of an item with its caller, its drawing, and issue #1779 of the Python SDK.

Rules: `timeline.*`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.agent_reports import message
from tests.support.harness import NOON, Api, WorkyardServer, after, refused, running_server
from tests.support.sdk_processes import LONG, credentials
from tests.support.sessions import session
from tests.support.timelines import timeline
from tests.support.workers import Worker


def drawing(api: Api, work: str) -> str:
    """Return it as text."""
    answer = api.get(f"/_emulator/work/{work}/timeline", params={"format": "text"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return answer.text


def digits(secret: str) -> str:
    """Return what is shown of a credential."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


@pytest.fixture
def worn(api: Api) -> tuple[str, str, list[str]]:
    """An item that was lost by one worker and stopped by the next, and the request ids of the calls that made events."""
    api.freeze()
    queue = api.queue()
    made: list[str] = []

    def done(method: str, path: str, status: int = 200, **options: Any) -> Any:
        answer = api.request(method, path, **options)
        assert answer.status_code == status, answer.text
        made.append(answer.headers["request-id"])
        return answer.json()

    enqueue = done("POST", f"/_emulator/environments/{queue}/work")
    work = str(enqueue["data"][0]["id"])
    poll, item = api.path(queue, "poll"), api.path(queue, work)
    done("GET", poll, headers={"anthropic-worker-id": "a"})
    api.advance(5)
    done("GET", poll, headers={"anthropic-worker-id": "b", "user-agent": b"other\x9b31m"})
    done("POST", f"{item}/ack")
    done("POST", f"{item}/ack", 409)
    claim = {"expected_last_heartbeat": "NO_HEARTBEAT", "desired_ttl_seconds": 2}
    done("POST", f"{item}/heartbeat", params=claim)
    done("POST", f"{item}/heartbeat", 412, params=claim)
    api.advance(3)
    done("POST", item, json={"metadata": {"one": "1", "two": None}})
    done("POST", f"{item}/stop")
    done("GET", poll)
    done("POST", f"{item}/ack")
    done("POST", f"{item}/stop")
    done("POST", f"{item}/heartbeat", headers={"x-stainless-helper": "environments-worker"})
    done("POST", f"{item}/stop", json={"force": True})
    return queue, work, made


def test_a_timeline_has_every_event_with_its_caller(api: Api, worn: tuple[str, str, list[str]]) -> None:
    """In the order of what happened, each once, dated by the workspace; what the clock does is nobody's."""
    queue, work, made = worn
    found = timeline(api, work)
    events = found["events"]
    assert [(event["event"], event["from"], event["to"]) for event in events] == [
        ("enqueued", None, "queued"),
        ("offered", None, None),
        ("reclaimed", None, None),
        ("acked", "queued", "starting"),
        ("ack_refused", "starting", None),
        ("beat", "starting", "active"),
        ("beat_refused", "active", None),
        ("lapsed", "active", "queued"),
        ("metadata", None, None),
        ("stop_asked", "queued", "queued"),
        ("offered", None, None),
        ("acked", "queued", "starting"),
        ("stop_asked", "starting", "stopping"),
        ("beat_ended", "stopping", None),
        ("stop_asked", "stopping", "stopped"),
    ]
    assert (found["work_id"], found["environment_id"], found["state"], found["complete"]) == (
        work,
        queue,
        "stopped",
        True,
    )
    [lapsed] = [event for event in events if event["event"] == "lapsed"]
    assert lapsed["at"] == after(NOON, 7)
    assert found["now"] == after(NOON, 8)
    assert [lapsed[name] for name in ("operation", "request_id", "worker_id", "credential")] == [None] * 4
    assert [event["request_id"] for event in events if event is not lapsed] == made
    assert {event["credential"] for event in events if event is not lapsed} == {f"api key {digits(api.api_key)}"}
    operations = [event["operation"] for event in events if event is not lapsed]
    assert operations[:3] == ["control.enqueue_work", "poll", "poll"]
    assert operations[-3:] == ["stop", "heartbeat", "stop"]
    beat, refusal = events[5], events[6]
    assert (beat["expected"], beat["actual"], beat["lease_seconds"]) == ("NO_HEARTBEAT", None, 2)
    assert (refusal["expected"], refusal["actual"], refusal["earlier_life"]) == (
        "NO_HEARTBEAT",
        beat["heartbeat"],
        False,
    )
    assert events[2]["age_seconds"] == 5
    assert events[8]["keys"] == 2
    assert events[13]["helper"] == "environments-worker"
    assert [event["force"] for event in events if event["event"] == "stop_asked"] == [False, False, True]
    assert [event["worker_id"] for event in events[1:4]] == ["a", "b", "a"]


def test_a_drawing_fits_a_terminal_whatever_clients_call_themselves(api: Api, worn: tuple[str, str, list[str]]) -> None:
    """At most 120 columns, one line an event, and no control character of a header gets through."""
    _, work, _ = worn
    drawn = drawing(api, work)
    lines = drawn.split("\n")
    assert max(map(len, lines)) <= 120
    assert all(line.isprintable() for line in lines)
    assert len([line for line in lines if re.match(r" +\d+\.\d{3} s ", line)]) == 15
    assert re.search(r"^   7\.000 s +\+2 s  ~  lapsed +active → queued +the clock$", drawn, re.MULTILINE)
    assert "worker b, token " in drawn
    assert "\n! double_delivery: Delivered twice: " in drawn


def test_many_heartbeats_in_a_row_are_drawn_as_two(api: Api) -> None:
    """The first of them and the last, with their number."""
    api.freeze()
    queue = api.queue()
    api.ok(api.post(f"/_emulator/environments/{queue}/work"))
    work, beat = api.active(queue)
    for _ in range(20):
        api.advance(1)
        beat = api.ok(api.heartbeat(queue, work, beat))["last_heartbeat"]
    drawn = drawing(api, work)
    assert drawn.count("<  beat ") == 3
    assert "(18 more heartbeats)" in drawn


def test_a_timeline_is_found_by_the_item_alone_in_the_workspace_meant(api: Api, new_api: Callable[..., Api]) -> None:
    """Or in all if none is named; an environment that is named is looked at only."""
    queues = [api.queue() for _ in range(3)]
    work = api.ok(api.post(f"/_emulator/environments/{queues[1]}/work"))["data"][0]["id"]
    assert timeline(api, work)["environment_id"] == queues[1]
    assert timeline(api, work, environment_id=queues[1])["work_id"] == work
    path = f"/_emulator/work/{work}/timeline"
    missing = f"Work item {work} not found."
    refused(api.get(path, params={"environment_id": queues[0]}), 404, missing)
    refused(api.get(path, params={"environment_id": "env_x"}), 404, "Environment env_x not found.")
    refused(api.get("/_emulator/work/work_1/timeline"), 404, "Work item work_1 not found.")
    refused(api.get(f"{path}?format=html"), 400, "format: Input should be 'json' or 'text'")
    stranger = new_api(api.url)
    refused(stranger.get(path), 404, missing)
    assert timeline(stranger, work, workspace=api.api_key)["complete"]
    anybody = new_api(api.url, "", reset=False)
    assert timeline(anybody, work)["complete"]


def test_without_a_ring_there_are_no_events(engine_options: tuple[str, ...], new_api: Callable[..., Api]) -> None:
    """The item is told of all the same, and nothing is said to be known."""
    with running_server("--timeline-events", "0", *engine_options) as server:
        api = new_api(server.url, reset=False)
        queue = api.queue()
        work = api.ok(api.post(f"/_emulator/environments/{queue}/work"))["data"][0]["id"]
        found = timeline(api, work)
        assert drawing(api, work)
        api.reset()
    assert (found["state"], found["complete"], found["events"], found["diagnosis"]) == ("queued", False, [], [])


def test_the_reported_issue_is_named(api: Api, server: WorkyardServer, start_worker: Callable[..., Worker]) -> None:
    """anthropic-sdk-python #1779: a worker that is started for each claimed item is told to shut down before it executes.

    The dispatcher is the SDK's poller, whose body returns at once; its loop then stops the item. The worker connects when
    that has happened.
    """
    queue = api.queue()
    made = str(session(api, queue, initial_events=[message(LONG)])["id"])
    key = credentials(api, queue)
    dispatcher = start_worker("dispatcher", key, "dispatcher")
    dispatcher.end()
    told = dict(re.findall(r"^(ANTHROPIC_\w+)=(.*)$", dispatcher.log(), re.MULTILINE))
    work = told["ANTHROPIC_WORK_ID"]
    before = timeline(api, work)
    assert [finding["code"] for finding in before["diagnosis"]] == ["stopped_unclaimed", "winding_down"]
    late = start_worker("handle_item", key | told, "late")
    late.end()
    found = timeline(api, work)
    [finding] = [finding for finding in found["diagnosis"] if finding["severity"] == "problem"]
    poll = next(event for event in found["events"] if event["event"] == "offered")
    stop = next(event for event in found["events"] if event["event"] == "stop_asked")
    beat = next(event for event in found["events"] if event["event"] == "beat_ended")
    assert (finding["code"], finding["at"]) == ("dispatcher_returned", stop["at"])
    assert finding["text"].startswith(f"Stopped by the poller of worker {poll['worker_id']} ")
    assert f"(sessions token {poll['token']}): the dispatcher returned before its sandbox connected." in finding["text"]
    assert (stop["helper"], beat["helper"]) == ("environments-work-poller", "environments-worker")
    assert beat["worker_id"] == poll["worker_id"]
    # Nothing was executed, which is what was reported.
    assert not (late.folder / "started").exists()
    assert made == found["session_id"]
    everything = api.get(f"/_emulator/work/{work}/timeline").text
    assert key["ANTHROPIC_ENVIRONMENT_KEY"] not in everything


def test_tokens_in_headers_are_not_kept(api: Api) -> None:
    """Who sends a credential as the name of a worker or client does not have it stored in timelines."""
    queue, secret = api.queue(), "sk-ant-oat01-0123456789_abc-def"
    [work] = api.enqueue(queue)
    headers = {"anthropic-worker-id": secret, "user-agent": f"mine/1 {secret}", "x-stainless-helper": secret}
    api.ok(api.get(api.path(queue, "poll"), headers=headers))
    offered = timeline(api, str(work["id"]))["events"][-1]
    masked = {"worker_id": "sk-ant-***", "user_agent": "mine/1 sk-ant-***", "helper": "sk-ant-***"}
    assert {name: offered[name] for name in masked} == masked
