"""Work, call by call: what each answers, what it refuses, which bounds hold. Rules: `work.*`."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.harness import NOON, Api, WorkyardServer, after, instant, refused, wait_until

UNKNOWN_ENVIRONMENT = "env_011CZkZ9X2dpNyB7HsEFoRfW"
UNKNOWN_WORK = "work_011CZkZ9X2dpNyB7HsEFoRfW"
#: Every call on one item: method and verb.
ITEM_CALLS = [("GET", ""), ("POST", ""), ("POST", "ack"), ("POST", "heartbeat"), ("POST", "stop")]
#: Every call on the whole queue.
QUEUE_CALLS = [("GET", "poll"), ("GET", "stats"), ("GET", "")]
STAMPS = ("acknowledged_at", "started_at", "latest_heartbeat_at", "stop_requested_at", "stopped_at")
NOT_AN_INTEGER = "Input should be a valid integer, unable to parse string as an integer"


def cloud(api: Api, *, archived: bool) -> str:
    """Return a cloud environment."""
    environment = str(api.environment(config={"type": "cloud"})["id"])
    if archived:
        api.ok(api.post(f"/v1/environments/{environment}/archive"))
    return environment


# -- items in each state


def queued(api: Api, queue: str) -> str:
    """Make an item that waits."""
    return str(api.enqueue(queue)[0]["id"])


def polled(api: Api, queue: str) -> str:
    """Make an item that was handed out and not acknowledged."""
    work = queued(api, queue)
    assert api.poll(queue)["id"] == work
    return work


def starting(api: Api, queue: str) -> str:
    """Make an acknowledged item."""
    work = polled(api, queue)
    api.ok(api.ack(queue, work))
    return work


def active(api: Api, queue: str) -> str:
    """Make a claimed item with a lease of 60 seconds."""
    work = starting(api, queue)
    api.ok(api.heartbeat(queue, work, "NO_HEARTBEAT", 60))
    return work


def stopping_from_starting(api: Api, queue: str) -> str:
    """Make an item that was asked to stop before it was claimed."""
    work = starting(api, queue)
    api.ok(api.stop(queue, work))
    return work


def stopping(api: Api, queue: str) -> str:
    """Make a claimed item that was asked to stop."""
    work = active(api, queue)
    api.ok(api.stop(queue, work))
    return work


def stopped_unpolled(api: Api, queue: str) -> str:
    """Make an item that ended before anybody had it."""
    work = queued(api, queue)
    api.ok(api.stop(queue, work))
    return work


def stopped(api: Api, queue: str) -> str:
    """Make an item that ended under lease."""
    work = active(api, queue)
    api.ok(api.stop(queue, work, force=True))
    return work


def lapsed(api: Api, queue: str) -> str:
    """Make an item whose lease of 60 seconds has ended: it is queued again."""
    work = active(api, queue)
    api.advance(60)
    return work


def re_enqueued(api: Api, queue: str) -> str:
    """Make an item that a message has put back."""
    [item] = api.enqueue(queue)
    api.ok(api.stop(queue, item["id"]))
    api.enqueue(queue, session_id=item["data"]["id"])
    return str(item["id"])


STATES: dict[Callable[[Api, str], str], str] = {
    queued: "queued",
    polled: "queued",
    lapsed: "queued",
    re_enqueued: "queued",
    starting: "starting",
    active: "active",
    stopping_from_starting: "stopping",
    stopping: "stopping",
    stopped_unpolled: "stopped",
    stopped: "stopped",
}
Arrange = Callable[[Api, str], str]


def in_state(*names: str) -> list[Arrange]:
    """Return the ways into the states of these names."""
    return [arrange for arrange, state in STATES.items() if state in names]


# -- the object, and what is not there


def test_an_item_has_all_members_from_the_start(api: Api) -> None:
    """`Object (all members always present)`, and no other; enqueue, get and list show the same, none with a secret."""
    api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue, metadata={"k": "v"})
    assert item == {
        "id": item["id"],
        "type": "work",
        "environment_id": queue,
        "data": {"type": "session", "id": item["data"]["id"]},
        "state": "queued",
        "metadata": {"k": "v"},
        "secret": None,
        "created_at": NOON,
        **dict.fromkeys(STAMPS),
    }
    assert re.fullmatch("work_01[1-9A-HJ-NP-Za-km-z]{22}", item["id"])
    assert re.fullmatch("session_01[1-9A-HJ-NP-Za-km-z]{22}", item["data"]["id"])
    assert api.work(queue, item["id"]) == item
    assert api.ok(api.get(api.path(queue))) == {"data": [item], "next_page": None}


def test_every_call_shows_the_whole_object_with_the_stages_reached(api: Api) -> None:
    """Through its life: `Stages not reached are null`; each stamp is the instant of its step."""
    api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue, metadata={"k": "v"})
    work = item["id"]
    steps: list[tuple[Callable[[], Any], dict[str, str]]] = [
        (lambda: api.poll(queue), {}),
        (lambda: api.ok(api.ack(queue, work)), {"state": "starting", "acknowledged_at": "now"}),
        (
            lambda: api.ok(api.heartbeat(queue, work, "NO_HEARTBEAT")),
            {"state": "active", "started_at": "now", "latest_heartbeat_at": "now"},
        ),
        (lambda: api.ok(api.heartbeat(queue, work)), {"latest_heartbeat_at": "now"}),
        (lambda: api.ok(api.stop(queue, work)), {"state": "stopping", "stop_requested_at": "now"}),
        (lambda: api.ok(api.stop(queue, work, force=True)), {"state": "stopped", "stopped_at": "now"}),
    ]
    expected = dict(item)
    for step, changes in steps:
        now = api.advance(1)
        answer = step()
        expected |= {name: now if value == "now" else value for name, value in changes.items()}
        if answer["type"] == "work":
            assert answer | {"secret": None} == expected
        assert api.work(queue, work) == expected


@pytest.mark.parametrize(("method", "verb"), [*QUEUE_CALLS, *ITEM_CALLS], ids=str)
def test_an_unknown_environment_is_404_on_every_call(api: Api, method: str, verb: str) -> None:
    """404 `Environment {env} not found.`, also for an item of another environment."""
    queue = api.queue()
    work = queued(api, queue) if (method, verb) in ITEM_CALLS else ""
    for environment in (UNKNOWN_ENVIRONMENT, "env_x", queue + "x"):
        response = api.request(method, api.path(environment, work, verb))
        refused(response, 404, f"Environment {environment} not found.")


@pytest.mark.parametrize(("method", "verb"), ITEM_CALLS, ids=str)
def test_an_unknown_item_is_404_on_every_call(api: Api, method: str, verb: str) -> None:
    """`unknown id, or one of another environment → 404 Work item {work} not found.`; the item is untouched."""
    queue, other = api.queue(), api.queue()
    foreign = queued(api, other)
    session = api.work(other, foreign)["data"]["id"]
    for work in (foreign, UNKNOWN_WORK, "work_", "work_{x}", "nonsense", session):
        refused(api.request(method, api.path(queue, work, verb)), 404, f"Work item {work} not found.")
    assert api.work(other, foreign)["state"] == "queued"


@pytest.mark.parametrize("archived", [False, True], ids=["live", "archived"])
def test_a_cloud_environment_has_no_items(api: Api, archived: bool) -> None:
    """`Cloud: 404, no such item`, on every call."""
    environment = cloud(api, archived=archived)
    foreign = queued(api, api.queue())
    for method, verb in ITEM_CALLS:
        for work in (UNKNOWN_WORK, foreign):
            refused(api.request(method, api.path(environment, work, verb)), 404, f"Work item {work} not found.")


# -- poll


@pytest.fixture(scope="module")
def busy(server: WorkyardServer) -> Iterator[tuple[Api, str]]:
    """A client and a queue with one waiting item, for polls that are refused."""
    api = Api(server.url)
    queue = api.queue()
    api.enqueue(queue)
    yield api, queue
    api.reset()
    api.close()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"block_ms": "0"}, "block_ms: Input should be greater than or equal to 1"),
        ({"block_ms": "-1"}, "block_ms: Input should be greater than or equal to 1"),
        ({"block_ms": "-999999999999999999999999"}, "block_ms: Input should be greater than or equal to 1"),
        ({"block_ms": "1000"}, "block_ms: Input should be less than or equal to 999"),
        ({"block_ms": "999999999999999999999999"}, "block_ms: Input should be less than or equal to 999"),
        ({"block_ms": "1.5"}, f"block_ms: {NOT_AN_INTEGER}"),
        ({"block_ms": "soon"}, f"block_ms: {NOT_AN_INTEGER}"),
        ({"block_ms": ""}, f"block_ms: {NOT_AN_INTEGER}"),
        ({"reclaim_older_than_ms": "0"}, "reclaim_older_than_ms: Input should be greater than or equal to 1"),
        ({"reclaim_older_than_ms": "-5000"}, "reclaim_older_than_ms: Input should be greater than or equal to 1"),
        ({"reclaim_older_than_ms": ""}, f"reclaim_older_than_ms: {NOT_AN_INTEGER}"),
        ({"reclaim_older_than_ms": "5s"}, f"reclaim_older_than_ms: {NOT_AN_INTEGER}"),
        (
            {"block_ms": "0", "reclaim_older_than_ms": "x"},
            "block_ms: Input should be greater than or equal to 1; reclaim_older_than_ms: " + NOT_AN_INTEGER,
        ),
    ],
    ids=str,
)
def test_poll_refuses_a_parameter_out_of_bounds_and_hands_nothing_out(
    busy: tuple[Api, str], query: dict[str, str], message: str
) -> None:
    """`block_ms` 1–999, `reclaim_older_than_ms` ≥ 1."""
    api, queue = busy
    refused(api.get(api.path(queue, "poll"), params=query, headers={"Anthropic-Worker-ID": "w"}), 400, message)
    found = api.stats(queue)
    assert (found["depth"], found["pending"], found["workers_polling"]) == (1, 0, 0)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"block_ms": 1},
        {"block_ms": 999},
        {"reclaim_older_than_ms": 1},
        {"reclaim_older_than_ms": 5000},
        {"reclaim_older_than_ms": 10**30},
        {"block_ms": 999, "reclaim_older_than_ms": 10**30},
    ],
    ids=str,
)
def test_poll_takes_every_parameter_within_bounds(api: Api, query: dict[str, Any]) -> None:
    """With work there, none of them waits."""
    queue = api.queue()
    work = queued(api, queue)
    assert api.poll(queue, **query)["id"] == work


@pytest.mark.parametrize("arrange", [None, polled, *in_state("starting", "active", "stopping", "stopped")])
def test_poll_without_work_is_null(api: Api, arrange: Arrange | None) -> None:
    """`none → 200 with the JSON literal null`, whatever items there are that are not to be had."""
    queue = api.queue()
    if arrange is not None:
        arrange(api, queue)
    for query in ({}, {"block_ms": 1}, {"block_ms": 5, "reclaim_older_than_ms": 10**30}):
        response = api.get(api.path(queue, "poll"), params=query)
        assert (response.status_code, response.content) == (200, b"null")


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "real"])
def test_block_ms_is_wall_time_in_every_clock_mode(api: Api, frozen: bool) -> None:
    """A blocked poll ends although the workspace's clock stands still."""
    queue = api.queue()
    if frozen:
        api.freeze()
    started = time.monotonic()
    assert api.poll(queue, block_ms=60) is None
    assert 0.06 <= time.monotonic() - started < 5


def test_poll_leaves_the_item_queued(api: Api) -> None:
    """`state stays queued`; nothing but the secret tells the answer from the item."""
    api.freeze()
    queue = api.queue()
    [item] = api.enqueue(queue, metadata={"k": "v"})
    handed_out = api.poll(queue, worker="w")
    assert handed_out | {"secret": None} == item
    assert api.work(queue, item["id"]) == item


def test_the_secret_is_unpadded_base64url_json_with_the_sessions_token(api: Api) -> None:
    """Set in poll answers only; each hand-out mints another one."""
    api.freeze()
    queue = api.queue()
    work = queued(api, queue)
    tokens = set()
    for _ in range(5):
        secret = api.poll(queue)["secret"]
        assert re.fullmatch("[A-Za-z0-9_-]+", secret)
        content = json.loads(base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4)))
        assert isinstance(content, dict)
        assert isinstance(content["sessions_token"], str)
        tokens.add(content["sessions_token"])
        api.advance(5)
    assert len(tokens) == 5
    assert "" not in tokens
    assert api.work(queue, work)["secret"] is None


def test_the_secret_is_in_poll_answers_only(api: Api) -> None:
    """`null elsewhere`: get, list, ack, update, stop, and the control plane's enqueue."""
    queue = api.queue()
    [item] = api.enqueue(queue)
    work, path = item["id"], api.path(queue, item["id"])
    assert item["secret"] is None
    assert api.poll(queue)["secret"] is not None
    shown = [
        api.work(queue, work),
        *api.ok(api.get(api.path(queue)))["data"],
        api.ok(api.post(path, json={"metadata": {"k": "v"}})),
        api.ok(api.ack(queue, work)),
        api.ok(api.stop(queue, work)),
        api.ok(api.stop(queue, work, force=True)),
        *api.enqueue(queue, session_id=item["data"]["id"]),
    ]
    assert [answer["secret"] for answer in shown] == [None] * 7


def test_the_oldest_waiting_item_comes_first(api: Api) -> None:
    """First in, first out: within a batch, between batches, at one instant."""
    api.freeze()
    queue = api.queue()
    expected = [item["id"] for count in (3, 1, 2) for item in api.enqueue(queue, count)]
    assert [api.poll(queue)["id"] for _ in expected] == expected
    assert api.poll(queue) is None


def test_reclaimable_items_come_first_by_time_of_hand_out(api: Api) -> None:
    """`reclaimable ones first, by time of hand-out then stream order, else the oldest waiting`."""
    api.freeze()
    queue = api.queue()
    a, b, c, d = (item["id"] for item in api.enqueue(queue, 4))
    assert [api.poll(queue)["id"], api.poll(queue)["id"]] == [a, b]
    api.advance(1)
    assert api.poll(queue)["id"] == c
    api.advance(4.5)
    assert api.poll(queue)["id"] == a  # With b, handed out at 0; a is older in the stream.
    api.advance(0.5)
    assert [api.poll(queue)["id"] for _ in range(3)] == [b, c, d]  # b since 0, c since 1, then what waits.
    assert api.poll(queue) is None
    api.advance(4.5)
    assert api.poll(queue)["id"] == a  # Since 5.5; the others since 6.
    assert api.poll(queue) is None
    api.advance(0.5)
    assert [api.poll(queue)["id"] for _ in range(3)] == [b, c, d]


@pytest.mark.parametrize(("query", "age"), [({}, 5.0), ({"reclaim_older_than_ms": 1}, 0.001),
                                            ({"reclaim_older_than_ms": 60_000}, 60.0)], ids=str)  # fmt: skip
def test_an_unacked_item_is_reclaimed_at_its_age_and_not_before(api: Api, query: dict[str, Any], age: float) -> None:
    """`pending for ≥ reclaim_older_than_ms, not acked`; each hand-out counts anew."""
    api.freeze()
    queue = api.queue()
    work = polled(api, queue)
    for _ in range(2):
        api.advance(age - 0.000001)
        assert api.poll(queue, **query) is None
        api.advance(0.000001)
        assert api.poll(queue, **query)["id"] == work
    api.ok(api.ack(queue, work))
    api.advance(age)
    assert api.poll(queue, **query) is None


def test_a_worker_id_has_at_most_256_characters(api: Api) -> None:
    """`Anthropic-Worker-ID ≤ 256 characters, else 400`."""
    queue = api.queue()
    queued(api, queue)
    for length in (257, 1000):
        response = api.get(api.path(queue, "poll"), headers={"Anthropic-Worker-ID": "w" * length})
        refused(response, 400, "Anthropic-Worker-ID: String should have at most 256 characters")
    assert api.stats(queue)["depth"] == 1
    assert api.poll(queue, worker="w" * 256) is not None
    assert api.stats(queue)["workers_polling"] == 1


@pytest.mark.parametrize("archived", [False, True], ids=["live", "archived"])
@pytest.mark.parametrize("query", [{}, {"block_ms": 999}], ids=str)
def test_poll_of_a_cloud_environment_is_refused_at_once(api: Api, query: dict[str, Any], archived: bool) -> None:
    """`Cloud, live or archived → 400`, blocked or not; the worker does not count there."""
    environment = cloud(api, archived=archived)
    started = time.monotonic()
    response = api.get(api.path(environment, "poll"), params=query, headers={"Anthropic-Worker-ID": "w"})
    refused(
        response,
        400,
        f"Only BYOC and bridge environments support work polling. Environment {environment} is anthropic_cloud.",
    )
    assert time.monotonic() - started < 0.9


def test_an_archived_self_hosted_environment_drains(api: Api) -> None:
    """`Archived self-hosted drains`: poll, ack, heartbeat, stop, then null."""
    queue = api.queue()
    items = [item["id"] for item in api.enqueue(queue, 2)]
    api.ok(api.post(f"/v1/environments/{queue}/archive"))
    for work in items:
        assert api.active(queue)[0] == work
        assert api.ok(api.stop(queue, work, force=True))["state"] == "stopped"
    assert api.poll(queue) is None


# -- blocked polls


class Blocked:
    """A poll in a thread of its own; `workers_polling` tells that it has arrived."""

    def __init__(self, api: Api, queue: str, worker: str, **query: Any) -> None:
        self._client = Api(api.url, api.api_key)
        self._answer: list[httpx.Response] = []
        known = api.stats(queue)["workers_polling"]

        def run() -> None:
            headers = {"Anthropic-Worker-ID": worker}
            path = api.path(queue, "poll")
            self._answer.append(self._client.get(path, params={"block_ms": 999, **query}, headers=headers))

        self._thread = threading.Thread(target=run)
        self._thread.start()
        wait_until(lambda: api.stats(queue)["workers_polling"] == known + 1, f"{worker} polls")

    def answer(self) -> httpx.Response:
        """Return its response once it comes."""
        self._thread.join(20)
        self._client.close()
        return self._answer[0]


def by_enqueue(api: Api, queue: str) -> None:
    """Put an item in."""
    api.enqueue(queue)


def by_message(api: Api, queue: str) -> None:
    """Wake the session of a stopped item."""
    [item] = api.ok(api.get(api.path(queue)))["data"]
    api.enqueue(queue, session_id=item["data"]["id"])


def by_advance(api: Api, queue: str) -> None:
    """Move the clock far enough for every lease and every reclaim age."""
    api.advance(3600)


@pytest.mark.parametrize(
    ("arrange", "cause"),
    [
        pytest.param(None, by_enqueue, id="enqueue"),
        pytest.param(stopped, by_message, id="message"),
        pytest.param(active, by_advance, id="lapse"),
        pytest.param(starting, by_advance, id="startup-lapse"),
        pytest.param(polled, by_advance, id="reclaim-age"),
    ],
)
def test_a_blocked_poll_answers_as_soon_as_work_is_available(
    api: Api, arrange: Arrange | None, cause: Callable[[Api, str], None]
) -> None:
    """`by any cause: enqueue, lapse, reclaim age reached, clock advanced`; well before its 999 ms are over."""
    api.freeze()
    queue = api.queue()
    if arrange is not None:
        arrange(api, queue)
    poll = Blocked(api, queue, "w")
    cause(api, queue)
    caused = time.monotonic()
    found = Api.ok(poll.answer())
    assert time.monotonic() - caused < 0.8
    assert found["id"] == api.ok(api.get(api.path(queue)))["data"][0]["id"]


def test_a_blocked_poll_answers_404_when_its_environment_is_deleted_or_its_workspace_reset(api: Api) -> None:
    """`at once, as a new poll would`."""
    for end in (lambda queue: api.ok(api.delete(f"/v1/environments/{queue}")), lambda _: api.reset()):
        queue = api.queue()
        poll = Blocked(api, queue, "w")
        end(queue)
        ended = time.monotonic()
        refused(poll.answer(), 404, f"Environment {queue} not found.")
        assert time.monotonic() - ended < 0.8


def test_waiters_are_served_first_come_first_served(api: Api) -> None:
    """Within a process; each wake-up serves the one that waits longest."""
    queue = api.queue()
    polls = [Blocked(api, queue, f"w{n}", block_ms=block_ms) for n, block_ms in enumerate((999, 999, 400))]
    items = [item["id"] for item in api.enqueue(queue, 2)]
    answers = [Api.ok(poll.answer()) for poll in polls]
    assert [answer and answer["id"] for answer in answers] == [*items, None]


# -- ack


@pytest.mark.parametrize("arrange", in_state("queued"))
def test_ack_takes_an_item_that_is_queued_polled_or_not(api: Api, arrange: Arrange) -> None:
    """200 with the object: `starting`, `acknowledged_at`; it leaves the queue."""
    api.freeze()
    queue = api.queue()
    work = arrange(api, queue)
    before = api.work(queue, work)
    now = api.advance(1)
    assert api.ok(api.ack(queue, work)) == before | {"state": "starting", "acknowledged_at": now}
    figures = api.stats(queue)
    assert (figures["depth"], figures["pending"]) == (0, 0)


@pytest.mark.parametrize("arrange", in_state("starting", "active", "stopping", "stopped"))
def test_ack_out_of_state_is_409(api: Api, arrange: Arrange) -> None:
    """The text names the state; nothing changes."""
    api.freeze()
    queue = api.queue()
    work = arrange(api, queue)
    before = api.work(queue, work)
    api.advance(1)
    refused(
        api.ack(queue, work),
        409,
        f"Work item {work} must be in QUEUED state to acknowledge. Current state: {STATES[arrange]}.",
    )
    assert api.work(queue, work) == before


# -- heartbeat


@pytest.mark.parametrize(
    ("desired", "effective"),
    [
        (None, 300),
        ("1", 1),
        ("300", 300),
        ("3600", 3600),
        ("0", 1),
        ("-1", 1),
        ("-" + "9" * 30, 1),
        ("3601", 3600),
        ("9" * 30, 3600),
    ],
)
def test_the_ttl_is_1_to_3600_seconds_and_the_answer_tells_the_effective_one(
    api: Api, desired: str | None, effective: int
) -> None:
    """`any integer: omitted → 300, below 1 → 1, above 3600 → 3600`; the lease ends exactly then."""
    api.freeze()
    queue = api.queue()
    query = {} if desired is None else {"desired_ttl_seconds": desired}
    work = starting(api, queue)
    for _ in ("claiming", "extending"):
        beat = api.ok(api.post(api.path(queue, work, "heartbeat"), params=query))
        assert (beat["ttl_seconds"], beat["lease_extended"]) == (effective, True)
    api.advance(effective - 0.000001)
    assert api.work(queue, work)["state"] == "active"
    api.advance(0.000001)
    assert api.work(queue, work)["state"] == "queued"


def test_the_default_ttl_is_a_setting_of_a_workspace(api: Api) -> None:
    """`Settings, also per workspace through the control plane: default TTL 300 s`."""
    api.freeze()
    queue = api.queue()
    work = starting(api, queue)
    api.ok(api.post("/_emulator/settings", json={"default_ttl_seconds": 7}))
    assert api.ok(api.heartbeat(queue, work))["ttl_seconds"] == 7
    api.advance(6.999999)
    assert api.work(queue, work)["state"] == "active"
    api.advance(0.000001)
    assert api.work(queue, work)["state"] == "queued"


def test_a_ttl_that_is_no_integer_is_refused(api: Api) -> None:
    """`any integer`, and nothing else; nothing is written."""
    queue = api.queue()
    work = starting(api, queue)
    for text in ("", "1.0", "1e3", "ten", "+1", " 1"):
        response = api.post(api.path(queue, work, "heartbeat"), params={"desired_ttl_seconds": text})
        refused(response, 400, f"desired_ttl_seconds: {NOT_AN_INTEGER}")
    assert api.work(queue, work)["state"] == "starting"


@pytest.mark.parametrize("expected", ["NO_HEARTBEAT", None, ""], ids=["NO_HEARTBEAT", "omitted", "empty"])
def test_a_heartbeat_claims_an_unclaimed_item(api: Api, expected: str | None) -> None:
    """`NO_HEARTBEAT` claims; omitted or empty claims when unclaimed."""
    api.freeze()
    queue = api.queue()
    work = starting(api, queue)
    before = api.work(queue, work)
    now = api.advance(1)
    assert api.ok(api.heartbeat(queue, work, expected, 30)) == {
        "type": "work_heartbeat",
        "last_heartbeat": now,
        "lease_extended": True,
        "state": "active",
        "ttl_seconds": 30,
    }
    assert api.work(queue, work) == before | {"state": "active", "started_at": now, "latest_heartbeat_at": now}


@pytest.mark.parametrize("expected", ["the stored one", None, ""], ids=["stored", "omitted", "empty"])
def test_a_heartbeat_extends_a_claimed_item(api: Api, expected: str | None) -> None:
    """The value is `compared byte for byte with the stored value as rendered`; omitted or empty extends."""
    api.freeze()
    queue = api.queue()
    work = active(api, queue)
    before = api.work(queue, work)
    now = api.advance(59)
    value = before["latest_heartbeat_at"] if expected else expected
    assert api.ok(api.heartbeat(queue, work, value, 45)) == {
        "type": "work_heartbeat",
        "last_heartbeat": now,
        "lease_extended": True,
        "state": "active",
        "ttl_seconds": 45,
    }
    assert api.work(queue, work) == before | {"latest_heartbeat_at": now}
    api.advance(44.999999)
    assert api.work(queue, work)["state"] == "active"
    api.advance(0.000001)
    assert api.work(queue, work)["state"] == "queued"


def test_a_heartbeat_may_shorten_the_lease(api: Api) -> None:
    """`lease end = now + TTL`."""
    api.freeze()
    queue = api.queue()
    work = active(api, queue)
    api.ok(api.heartbeat(queue, work, ttl=1))
    api.advance(1)
    assert api.work(queue, work)["state"] == "queued"


def test_every_accepted_heartbeat_is_strictly_later_even_when_time_stands_still(api: Api) -> None:
    """≥ 1 µs later than every earlier one of this id, re-queues included: a stale value never matches."""
    api.freeze()
    queue = api.queue()
    work = starting(api, queue)
    beats = [api.ok(api.heartbeat(queue, work))["last_heartbeat"] for _ in range(3)]
    assert beats == [NOON, after(NOON, 0.000001), after(NOON, 0.000002)]
    api.ok(api.stop(queue, work, force=True))
    api.enqueue(queue, session_id=api.work(queue, work)["data"]["id"])
    again, fresh = api.active(queue)
    assert (again, fresh) == (work, after(NOON, 0.000003))
    for stale in beats:
        assert api.heartbeat(queue, work, stale).status_code == 412


@pytest.mark.parametrize("arrange", in_state("stopping", "stopped"))
def test_on_stopping_and_stopped_nothing_is_compared_and_nothing_written(api: Api, arrange: Arrange) -> None:
    """200, `lease_extended:false`, the state, the stored heartbeat or `""`, `ttl_seconds` 120."""
    api.freeze()
    queue = api.queue()
    work = arrange(api, queue)
    before = api.work(queue, work)
    stored = before["latest_heartbeat_at"]
    assert (stored is None) is (arrange in (stopping_from_starting, stopped_unpolled))
    api.advance(30)
    for expected in (None, "", "NO_HEARTBEAT", stored or "NULL", "2020-01-01T00:00:00.000000Z", "nonsense"):
        assert api.ok(api.heartbeat(queue, work, expected, 77)) == {
            "type": "work_heartbeat",
            "last_heartbeat": stored or "",
            "lease_extended": False,
            "state": STATES[arrange],
            "ttl_seconds": 120,
        }
    assert api.work(queue, work) == before


def test_a_heartbeat_on_stopping_does_not_move_the_leases_end(api: Api) -> None:
    """`the lease runs on`: it ends 60 seconds after the last accepted heartbeat."""
    api.freeze()
    queue = api.queue()
    work = stopping(api, queue)
    api.advance(59.999999)
    assert api.ok(api.heartbeat(queue, work, ttl=3600))["state"] == "stopping"
    api.advance(0.000001)
    ended = api.work(queue, work)
    assert (ended["state"], ended["stopped_at"]) == ("stopped", after(NOON, 60))


def test_of_claims_at_once_one_is_accepted(api: Api) -> None:
    """Eight workers with the same expectation: one holds the item, the others have lost."""
    queue = api.queue()
    work = starting(api, queue)
    clients = [api.as_key(api.api_key) for _ in range(8)]
    with ThreadPoolExecutor(len(clients)) as pool:
        answers = list(pool.map(lambda client: client.heartbeat(queue, work, "NO_HEARTBEAT"), clients))
    for client in clients:
        client.close()
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 7]
    [accepted] = [answer.json()["last_heartbeat"] for answer in answers if answer.status_code == 200]
    assert api.work(queue, work)["latest_heartbeat_at"] == accepted


STALE = "2020-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("arrange", "values", "actual", "state", "ttl"),
    [
        pytest.param(queued, [None, "", "NO_HEARTBEAT", STALE], None, "queued", 120, id="queued"),
        pytest.param(polled, [None, "NO_HEARTBEAT", STALE], None, "queued", 120, id="polled"),
        pytest.param(lapsed, [None, "NO_HEARTBEAT", NOON], None, "queued", 120, id="lapsed"),
        pytest.param(re_enqueued, [None, "NO_HEARTBEAT", STALE], None, "queued", 120, id="re-enqueued"),
        pytest.param(starting, [STALE, "nonsense", "NULL", "None", "no_heartbeat"], None, "starting", 120, id="starting"),
        pytest.param(
            active,
            [
                "NO_HEARTBEAT",
                STALE,
                "nonsense",
                "no_heartbeat",
                # The same instant, written in another way.
                "2031-05-06T12:00:00Z",
                "2031-05-06T12:00:00.000Z",
                "2031-05-06T12:00:00.0000000Z",
                "2031-05-06T12:00:00.000000z",
                "2031-05-06t12:00:00.000000Z",
                "2031-05-06 12:00:00.000000Z",
                "2031-05-06T12:00:00.000000+00:00",
                "2031-05-06T12:00:00.000000Z ",
                # A microsecond off.
                "2031-05-06T11:59:59.999999Z",
                "2031-05-06T12:00:00.000001Z",
            ],
            NOON, "active", 60, id="active",
        ),
    ],
)  # fmt: skip
def test_412_says_what_was_expected_what_is_stored_and_in_which_state(
    api: Api, arrange: Arrange, values: list[str | None], actual: str | None, state: str, ttl: int
) -> None:
    """Message and details, member by member and in order; nothing is written."""
    api.freeze()
    queue = api.queue()
    work = arrange(api, queue)
    before = api.work(queue, work)
    details = {
        "current_state": {"state": state, "last_heartbeat": actual, "lease_extended": False, "ttl_seconds": ttl},
        "error_visibility": "user_facing",
        "error_code": "heartbeat_precondition_failed",
    }
    for expected in values:
        response = api.heartbeat(queue, work, expected, 1)
        message = f"Heartbeat precondition failed: expected {expected or 'NO_HEARTBEAT'}, actual was {actual or 'NULL'}"
        refused(response, 412, message, details)
        found = response.json()["error"]["details"]
        assert list(found) == ["current_state", "error_visibility", "error_code"]
        assert list(found["current_state"]) == ["state", "last_heartbeat", "lease_extended", "ttl_seconds"]
    assert api.work(queue, work) == before


def test_412_names_the_ttl_last_applied(api: Api) -> None:
    """`the TTL last applied since it entered the queue, else 120`: a refused one was not applied."""
    api.freeze()
    queue = api.queue()
    work = starting(api, queue)

    def named(ttl: int | None = None) -> int:
        response = api.heartbeat(queue, work, STALE, ttl)
        assert response.status_code == 412
        return int(response.json()["error"]["details"]["current_state"]["ttl_seconds"])

    assert named(11) == 120
    api.ok(api.heartbeat(queue, work, ttl=33))
    assert named(11) == 33
    api.ok(api.heartbeat(queue, work))
    assert named() == 300
    api.advance(300)
    assert named() == 120
    api.ok(api.ack(queue, work))
    assert named() == 120


# -- lapse


def test_a_lapse_by_the_passing_of_time_shows_to_whoever_looks_first(api: Api) -> None:
    """Nobody changes the clock, and nothing but the call itself can have noticed: get, list, figures, enqueue, delete."""
    got, listed, counted, entered, deleted = queues = [api.queue() for _ in range(5)]
    taken = []
    for queue in queues:
        api.enqueue(queue)
        taken.append(api.active(queue, ttl=1))
    api.advance(0.4)
    end = instant(after(taken[-1][1], 1))
    wait_until(lambda: instant(api.ok(api.get("/_emulator/clock"))["now"]) >= end, "the last lease has ended")
    assert api.work(got, taken[0][0])["state"] == "queued"
    assert [row["state"] for row in api.ok(api.get(api.path(listed)))["data"]] == ["queued"]
    assert api.stats(counted)["depth"] == 1
    [new] = api.enqueue(entered)
    assert [api.poll(entered)["id"], api.poll(entered)["id"]] == [taken[3][0], new["id"]]
    assert api.delete(f"/v1/environments/{deleted}").status_code == 409


# -- stop


def test_stop_refuses_another_body(api: Api) -> None:
    """The body is `{"force":bool}`, `{}` or empty; refused, it stops nothing."""
    queue = api.queue()
    work = active(api, queue)
    for content, message in (
        (b'{"force":true,"reason":"x"}', "reason: Extra inputs are not permitted"),
        (b'{"Force":true}', "Force: Extra inputs are not permitted"),
        (b'{"force":"yes"}', "force: Input should be a valid boolean"),
        (b'{"force":1}', "force: Input should be a valid boolean"),
        (b"{", "Request body is not valid JSON"),
        (b"true", "Request body must be a JSON object"),
        (b"null", "Request body must be a JSON object"),
    ):
        refused(api.post(api.path(queue, work, "stop"), content=content), 400, message)
    assert api.work(queue, work)["state"] == "active"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"force":false}'], ids=["empty", "object", "false"])
def test_a_stop_is_graceful_unless_it_says_force(api: Api, content: bytes) -> None:
    """Three ways to say the same."""
    queue = api.queue()
    work = active(api, queue)
    assert api.ok(api.post(api.path(queue, work, "stop"), content=content))["state"] == "stopping"


@pytest.mark.parametrize(
    ("arrange", "force", "changes"),
    [
        pytest.param(queued, False, {"state": "stopped", "stop_requested_at": "now", "stopped_at": "now"},
                     id="queued-graceful"),
        pytest.param(polled, False, {"state": "stopped", "stop_requested_at": "now", "stopped_at": "now"},
                     id="polled-graceful"),
        pytest.param(lapsed, False, {}, id="lapsed-graceful-is-an-earlier-holders"),
        pytest.param(re_enqueued, False, {}, id="re-enqueued-graceful-is-an-earlier-holders"),
        pytest.param(starting, False, {"state": "stopping", "stop_requested_at": "now"}, id="starting-graceful"),
        pytest.param(active, False, {"state": "stopping", "stop_requested_at": "now"}, id="active-graceful"),
        pytest.param(stopping, False, {}, id="stopping-graceful"),
        pytest.param(stopping_from_starting, False, {}, id="stopping-from-starting-graceful"),
        pytest.param(stopped, False, {}, id="stopped-graceful"),
        *(
            pytest.param(arrange, True, {"state": "stopped", "stop_requested_at": "now", "stopped_at": "now"},
                         id=f"{arrange.__name__}-force")
            for arrange in (queued, polled, lapsed, starting, active)
        ),
        pytest.param(stopping, True, {"state": "stopped", "stopped_at": "now"}, id="stopping-force"),
        pytest.param(stopping_from_starting, True, {"state": "stopped", "stopped_at": "now"},
                     id="stopping-from-starting-force"),
        pytest.param(stopped, True, {}, id="stopped-force"),
    ],
)  # fmt: skip
def test_stop_answers_200_with_the_object_after_the_step(
    api: Api, arrange: Arrange, force: bool, changes: dict[str, str]
) -> None:
    """`Always 200`; the first `stop_requested_at` is kept; what is not queued any more is not counted."""
    api.freeze()
    queue = api.queue()
    work = arrange(api, queue)
    before = api.work(queue, work)
    now = api.advance(1)
    expected = before | {name: now if value == "now" else value for name, value in changes.items()}
    assert api.ok(api.stop(queue, work, force=force)) == expected
    assert api.work(queue, work) == expected
    figures = api.stats(queue)
    assert figures["depth"] + figures["pending"] == (1 if expected["state"] == "queued" else 0)


def test_a_stop_by_force_of_an_item_whose_session_has_an_unseen_message_re_enqueues_it(api: Api) -> None:
    """`the stop answers stopped, the next read shows queued`: the message came after the item's last ack."""
    api.freeze()
    queue = api.queue()
    work = re_enqueued(api, queue)
    before = api.work(queue, work)
    now = api.advance(1)
    answer = api.ok(api.stop(queue, work, force=True))
    assert answer == before | {"state": "stopped", "stop_requested_at": now, "stopped_at": now}
    assert api.work(queue, work) == before
    assert api.stats(queue)["oldest_queued_at"] == now


# -- list, get


def test_list_shows_every_item_newest_first_stopped_ones_too(api: Api) -> None:
    """A row is what get shows."""
    api.freeze()
    queue, other = api.queue(), api.queue()
    queued(api, other)
    ids = [
        arrange(api, queue)
        for arrange in (stopped, stopping, active, starting, stopped_unpolled, polled, queued)
    ][::-1]  # fmt: skip
    page = api.ok(api.get(api.path(queue)))
    assert page == {"data": [api.work(queue, work) for work in ids], "next_page": None}
    assert [row["state"] for row in page["data"]] == [
        "queued", "queued", "stopped", "starting", "active", "stopping", "stopped",
    ]  # fmt: skip


def test_a_re_enqueued_item_keeps_its_place_in_the_list(api: Api) -> None:
    """The order is that of creation."""
    queue = api.queue()
    first, second = stopped_unpolled(api, queue), queued(api, queue)
    api.enqueue(queue, session_id=api.work(queue, first)["data"]["id"])
    rows = api.ok(api.get(api.path(queue)))["data"]
    assert [(row["id"], row["state"]) for row in rows] == [(second, "queued"), (first, "queued")]


@pytest.mark.parametrize("query", [{}, {"limit": "1000"}], ids=str)
def test_list_of_a_live_cloud_environment_is_404(api: Api, query: dict[str, str]) -> None:
    """As if it had no such list, with a text of its own."""
    environment = cloud(api, archived=False)
    refused(
        api.get(api.path(environment), params=query),
        404,
        f"Environment `{environment}` not found, or does not support work listing. "
        "The work API is only available for self-hosted environments.",
    )


def test_list_of_an_archived_cloud_environment_is_400(api: Api) -> None:
    """`archived cloud → 400`."""
    environment = cloud(api, archived=True)
    refused(api.get(api.path(environment)), 400, f"Environment {environment} is archived.")


def test_list_and_get_of_an_archived_self_hosted_environment_go_on(api: Api) -> None:
    """Only a cloud one is refused."""
    queue = api.queue()
    work = queued(api, queue)
    api.ok(api.post(f"/v1/environments/{queue}/archive"))
    assert [row["id"] for row in api.ok(api.get(api.path(queue)))["data"]] == [work]
    assert api.work(queue, work)["state"] == "queued"


# -- update


@pytest.mark.parametrize(
    ("body", "metadata"),
    [
        pytest.param({}, {"a": "1", "b": "2"}, id="nothing"),
        pytest.param({"metadata": None}, {"a": "1", "b": "2"}, id="null-keeps"),
        pytest.param({"metadata": {}}, {"a": "1", "b": "2"}, id="empty-map-keeps"),
        pytest.param({"metadata": {"c": "3"}}, {"a": "1", "b": "2", "c": "3"}, id="sets"),
        pytest.param({"metadata": {"a": "9"}}, {"a": "9", "b": "2"}, id="overwrites"),
        pytest.param({"metadata": {"a": ""}}, {"a": "", "b": "2"}, id="an-empty-string-sets"),
        pytest.param({"metadata": {"a": None}}, {"b": "2"}, id="null-deletes"),
        pytest.param({"metadata": {"x": None}}, {"a": "1", "b": "2"}, id="deletes-what-is-not-there"),
        pytest.param({"metadata": {"a": None, "b": "", "c": "3"}}, {"b": "", "c": "3"}, id="all-at-once"),
        pytest.param({"metadata": {"a": None, "b": None}}, {}, id="deletes-all"),
        pytest.param({"metadata": {"state": "x", "secret": "y", "m:a": "z"}},
                     {"a": "1", "b": "2", "state": "x", "secret": "y", "m:a": "z"}, id="names-of-members"),
    ],
)  # fmt: skip
def test_update_patches_metadata_and_nothing_else(api: Api, body: dict[str, Any], metadata: dict[str, str]) -> None:
    """`a string sets (also ""), null deletes, omitted keeps all`."""
    queue = api.queue()
    [item] = api.enqueue(queue, metadata={"a": "1", "b": "2"})
    assert api.ok(api.post(api.path(queue, item["id"]), json=body)) == item | {"metadata": metadata}
    assert api.work(queue, item["id"]) == item | {"metadata": metadata}


@pytest.mark.parametrize("arrange", [queued, polled, lapsed, re_enqueued, starting, active, stopping, stopped])
def test_update_works_in_every_state_and_is_no_step(api: Api, arrange: Arrange) -> None:
    """It moves no stamp, and the queue's figures stay exact: queued items, never polled or polled."""
    api.freeze()
    queue = api.queue()
    work = arrange(api, queue)
    before, known = api.work(queue, work), api.stats(queue)
    waiting = STATES[arrange] == "queued"
    assert (known["depth"], known["pending"]) == (int(waiting and arrange is not polled), int(arrange is polled))
    api.advance(1)
    updated = api.ok(api.post(api.path(queue, work), json={"metadata": {"k": "v"}}))
    assert updated == before | {"metadata": {"k": "v"}}
    assert (api.work(queue, work), api.stats(queue)) == (updated, known)


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"metadata": {"x": 1}}, "metadata.x: Input should be a valid string", None),
        ({"metadata": "x"}, "metadata: Input should be a valid dictionary", None),
        ({"state": "stopped"}, "state: Extra inputs are not permitted", None),
        ({"metadata": {"": "x"}}, "metadata: key must not be empty", "invalid_metadata"),
        ({"metadata": {"x": "y" * 513}}, "metadata: value of 'x' is longer than 512 characters", "invalid_metadata"),
        ({"metadata": {f"k{n}": "" for n in range(16)}}, "metadata: too many keys (17 > 16)", "invalid_metadata"),
    ],
    ids=str,
)
def test_update_refuses_and_changes_nothing(api: Api, body: dict[str, Any], message: str, code: str | None) -> None:
    """Validation without a code, caps with one."""
    queue = api.queue()
    [item] = api.enqueue(queue, metadata={"a": "1"})
    response = api.post(api.path(queue, item["id"]), json=body)
    refused(response, 400, message, None if code is None else {"error_code": code})
    assert api.work(queue, item["id"]) == item


def test_metadata_outlives_a_lapse_and_a_re_enqueue(api: Api) -> None:
    """`metadata kept`."""
    api.freeze()
    queue = api.queue()
    work = active(api, queue)
    api.ok(api.post(api.path(queue, work), json={"metadata": {"k": "v"}}))
    api.advance(60)
    assert api.work(queue, work)["metadata"] == {"k": "v"}
    api.ok(api.stop(queue, work, force=True))
    [again] = api.enqueue(queue, session_id=api.work(queue, work)["data"]["id"])
    assert (again["state"], again["metadata"]) == ("queued", {"k": "v"})


# -- stats


def figures(depth: int, pending: int, oldest: str | None, workers: int | None = 0) -> dict[str, Any]:
    """Return the figures of a queue, whole."""
    return {
        "type": "work_queue_stats",
        "depth": depth,
        "pending": pending,
        "oldest_queued_at": oldest,
        "workers_polling": workers,
    }


def test_stats_of_an_empty_queue(api: Api) -> None:
    """Zeros, and null for a date there is not."""
    assert api.stats(api.queue()) == figures(0, 0, None)


@pytest.mark.parametrize("archived", [False, True], ids=["live", "archived"])
def test_stats_of_a_cloud_environment(api: Api, archived: bool) -> None:
    """`Cloud → 200, zeros, null, workers_polling null`."""
    assert api.stats(cloud(api, archived=archived)) == figures(0, 0, None, None)


def test_stats_follow_every_step(api: Api) -> None:
    """`depth`: never polled; `pending`: polled, not acked; the oldest that is still queued."""
    api.freeze()
    queue = api.queue()
    first = queued(api, queue)
    api.advance(1)
    second, third = (item["id"] for item in api.enqueue(queue, 2))
    assert api.stats(queue) == figures(3, 0, NOON)
    assert api.poll(queue)["id"] == first
    assert api.stats(queue) == figures(2, 1, NOON)
    assert api.poll(queue)["id"] == second
    assert api.stats(queue) == figures(1, 2, NOON)
    api.advance(5)
    assert [api.poll(queue)["id"], api.poll(queue)["id"]] == [first, second]  # Reclaimed: still pending.
    assert api.stats(queue) == figures(1, 2, NOON)
    api.ok(api.ack(queue, first))
    assert api.stats(queue) == figures(1, 1, after(NOON, 1))
    api.ok(api.ack(queue, third))  # Never polled.
    assert api.stats(queue) == figures(0, 1, after(NOON, 1))
    api.ok(api.stop(queue, second))
    assert api.stats(queue) == figures(0, 0, None)


def test_a_re_queued_item_counts_from_the_end_of_its_lease(api: Api) -> None:
    """`enqueue time, or the lease's end for a re-queued one`, whenever somebody looks."""
    api.freeze()
    queue = api.queue()
    active(api, queue)
    api.advance(30)
    queued(api, queue)
    api.advance(100)
    assert api.stats(queue) == figures(2, 0, after(NOON, 30))
    assert api.poll(queue) is not None
    assert api.stats(queue) == figures(1, 1, after(NOON, 30))
    api.ok(api.stop(queue, api.ok(api.get(api.path(queue)))["data"][0]["id"]))
    assert api.stats(queue) == figures(1, 0, after(NOON, 60))


def test_workers_polling_counts_distinct_ids_of_the_last_thirty_seconds(api: Api) -> None:
    """Under 30 s old; polls without the header, or with an empty one, do not count; neither do other queues'."""
    api.freeze()
    queue, other = api.queue(), api.queue()
    api.poll(queue)
    api.poll(queue, worker="")
    api.poll(other, worker="elsewhere")
    assert api.stats(queue)["workers_polling"] == 0
    api.poll(queue, worker="a")
    api.poll(queue, worker="a")
    api.poll(queue, worker="A")
    assert api.stats(queue)["workers_polling"] == 2
    api.advance(20)
    api.poll(queue, worker="a")
    api.advance(9.999999)
    assert api.stats(queue)["workers_polling"] == 2
    api.advance(0.000001)
    assert api.stats(queue)["workers_polling"] == 1
    api.advance(20)
    assert api.stats(queue) == figures(0, 0, None)


def test_a_poll_that_gets_work_counts_as_one_that_gets_none(api: Api) -> None:
    """The worker is seen whatever it is given; an archived queue's too."""
    queue = api.queue()
    queued(api, queue)
    api.ok(api.post(f"/v1/environments/{queue}/archive"))
    assert api.poll(queue, worker="a") is not None
    assert api.poll(queue, worker="b") is None
    assert api.stats(queue)["workers_polling"] == 2


# -- settings


def test_startup_lease_and_reclaim_age_are_settings_of_a_workspace(api: Api) -> None:
    """`startup lease 120 s, reclaim default 5000 ms`, changed so that a lease loss can be shown in seconds."""
    api.freeze()
    queue = api.queue()
    api.ok(api.post("/_emulator/settings", json={"startup_lease_seconds": 2, "reclaim_ms": 10}))
    work = polled(api, queue)
    api.advance(0.009999)
    assert api.poll(queue) is None
    api.advance(0.000001)
    assert api.poll(queue)["id"] == work
    api.ok(api.ack(queue, work))
    api.advance(1.999999)
    assert api.work(queue, work)["state"] == "starting"
    api.advance(0.000001)
    assert api.work(queue, work)["state"] == "queued"
