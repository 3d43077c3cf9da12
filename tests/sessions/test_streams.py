"""Event streams: nothing missed, nothing twice, whoever writes and however a stream ends.

Rules: `sessions.stream.*`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice, takewhile

import pytest

from tests.support.harness import NOON, SILENT, Api, RedisServer, WorkyardServer, running_server, wait_until
from tests.support.sessions import MESSAGE, events, send, session
from tests.support.streams import ANSWERED, LISTENERS, Follower, frames

pytestmark = pytest.mark.usefixtures("silent_agent")

DISCONNECTS = 200


@pytest.fixture
def follow(api: Api) -> Callable[[str], Follower]:
    """Follow a session with the test's API key."""
    return lambda session_id: Follower(api.url, session_id, api.api_key)


def test_a_stream_brings_what_happens_after_its_head_as_it_is_listed(
    api: Api, follow: Callable[[str], Follower]
) -> None:
    """Not what was before; a sign of life first."""
    made = session(api, api.queue())["id"]
    send(api, made, MESSAGE)
    before = events(api, made)
    stream = follow(made)
    assert stream.headers is not None
    assert stream.headers["content-type"] == "text/event-stream"
    assert stream.headers["request-id"].startswith("req_01")
    for _ in range(3):
        send(api, made, MESSAGE)
    wait_until(lambda: len(stream.events) == 9, "three messages and their answers")
    assert stream.events == events(api, made)[len(before) :]
    assert stream.pings == 1
    api.ok(api.post(f"/v1/sessions/{made}/archive"))
    assert stream.ended()
    assert stream.types == ANSWERED * 3 + ["session.status_terminated"]
    late = follow(made)
    assert late.ended()
    assert (late.events, late.pings) == ([], 1)


def test_a_stream_is_not_resumed_and_has_no_deltas(api: Api) -> None:
    """A client that names the last event it knows gets what comes after the head, event by event."""
    made = session(api, api.queue())["id"]
    send(api, made, MESSAGE)
    before = events(api, made)
    with api.http.stream(
        "GET",
        f"/v1/sessions/{made}/events/stream",
        params={"event_deltas": "true"},
        headers={"Last-Event-ID": before[0]["id"]},
    ) as answer:
        send(api, made, MESSAGE)
        ping, *heard = islice(frames(answer.iter_lines()), 1 + len(ANSWERED))
    assert ping["type"] == "ping"
    assert heard == events(api, made)[len(before) :]


def test_a_frame_has_its_data_on_one_line_whatever_text_an_event_has(
    api: Api, follow: Callable[[str], Follower]
) -> None:
    """For clients that take all that Unicode calls the end of a line for one, too."""
    made = session(api, api.queue())["id"]
    stream = follow(made)
    text = "a\r\nb\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029c\ufeff\U0001f600\u202e"
    send(api, made, {"type": "user.message", "content": [{"type": "text", "text": text}]})
    wait_until(lambda: stream.types == ANSWERED, "the message")
    assert stream.events == events(api, made)[1:]
    assert stream.events[0]["content"][0]["text"] == text


def test_a_stream_of_a_deleted_session_ends_with_that(api: Api, follow: Callable[[str], Follower]) -> None:
    """At the instant of the deletion, for each listener the same event."""
    api.freeze()
    made = session(api, api.queue())["id"]
    streams = [follow(made) for _ in range(2)]
    api.ok(api.delete(f"/v1/sessions/{made}"))
    assert all(stream.ended() for stream in streams)
    assert streams[0].events == streams[1].events
    [event] = streams[0].events
    assert (event["type"], event["processed_at"]) == ("session.deleted", NOON)


@pytest.mark.parametrize("end", ["delete", "reset"])
def test_a_stream_ends_with_its_environment(api: Api, follow: Callable[[str], Follower], end: str) -> None:
    """As if the session had been deleted."""
    queue = api.queue()
    stream = follow(session(api, queue)["id"])
    if end == "delete":
        api.ok(api.delete(f"/v1/environments/{queue}", params={"force": "true"}))
    else:
        api.reset()
    assert stream.ended()
    assert stream.types == ["session.deleted"]


def test_fifty_listeners_all_hear_everything_and_others_nothing(api: Api, follow: Callable[[str], Follower]) -> None:
    """Each session has its own."""
    queue = api.queue()
    made, other = session(api, queue)["id"], session(api, queue)["id"]
    streams, quiet = [follow(made) for _ in range(LISTENERS)], follow(other)
    send(api, made, MESSAGE)
    send(api, made, MESSAGE)
    wait_until(lambda: all(len(stream.events) == 6 for stream in streams), "every listener has heard both messages")
    assert [stream.events for stream in streams] == [events(api, made)[1:]] * LISTENERS
    assert quiet.events == []
    api.reset()
    assert all(stream.ended() for stream in [*streams, quiet])


def test_the_end_of_the_server_ends_streams_as_whole_answers(
    engine_options: tuple[str, ...], new_api: Callable[..., Api]
) -> None:
    """Within the time that a blocked poll may take."""
    with running_server(*engine_options) as server:
        api = new_api(server.url, reset=False)
        api.script(SILENT)
        made = session(api, api.queue())["id"]
        streams = [Follower(api.url, made, api.api_key) for _ in range(5)]
        if engine_options:
            send(api, made, MESSAGE)
            wait_until(lambda: all(stream.types == ANSWERED for stream in streams), "the message and its answer")
        assert server.stop(2) == 0
        assert all(stream.ended() for stream in streams)
        assert "Traceback" not in server.log()
        assert "ERROR" not in server.log()


@pytest.fixture(scope="module")
def second(redis_server: RedisServer) -> Iterator[WorkyardServer]:
    """Another server process on the same Redis."""
    with running_server("--redis-url", redis_server.url) as running:
        yield running


def test_a_stream_hears_what_is_written_through_another_process(
    redis_backed: WorkyardServer, second: WorkyardServer, new_api: Callable[..., Api]
) -> None:
    """Both listen to one session, and each writes."""
    one = new_api(redis_backed.url)
    one.script(SILENT)
    two = new_api(second.url, one.api_key, reset=False)
    made = session(one, one.queue())["id"]
    streams = [Follower(each.url, made, one.api_key) for each in (one, two)]
    for client in (one, two) * 5:
        send(client, made, MESSAGE)
    wait_until(lambda: all(len(stream.events) == 30 for stream in streams), "ten messages and their answers")
    for stream in streams:
        assert stream.events == events(one, made)[1:]
    two.ok(two.delete(f"/v1/sessions/{made}"))
    assert all(stream.ended() for stream in streams)


def test_list_and_stream_miss_nothing_and_repeat_nothing_over_random_disconnects(api: Api) -> None:
    """A client as the SDKs' is: it opens the stream, lists back to what it knows, then reads on, and loses the stream."""
    made = session(api, api.queue())["id"]
    chance = random.Random(7)
    known: set[str] = set()
    heard: list[list[str]] = []
    permits = threading.Semaphore(0)

    def write() -> None:
        with closing(api.as_key(api.api_key)) as client:
            for _ in range(DISCONNECTS * 2):
                assert permits.acquire(timeout=30)
                send(client, made, MESSAGE)

    def listed(order: str) -> Iterator[str]:
        query = {"limit": "20", "order": order}
        while True:
            answer = api.ok(api.get(f"/v1/sessions/{made}/events", params=query))
            yield from (event["id"] for event in answer["data"])
            if answer["next_page"] is None:
                return
            query["page"] = answer["next_page"]

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(DISCONNECTS):
        # Two messages make six events: enough for whatever is read below.
        reads = chance.randrange(6)
        with api.http.stream("GET", f"/v1/sessions/{made}/events/stream") as answer:
            permits.release(2)
            known.update([*takewhile(lambda each: each not in known, listed("desc"))])
            stream = (event["id"] for event in frames(answer.iter_lines()) if event["type"] != "ping")
            heard.append([*islice(stream, reads)])
            known.update(heard[-1])
    writer.join(30)
    known.update([*takewhile(lambda each: each not in known, listed("desc"))])
    final = [*listed("asc")]
    assert len(final) == 1 + DISCONNECTS * 2 * len(ANSWERED)
    assert known == set(final)
    place = {identifier: n for n, identifier in enumerate(final)}
    assert len(place) == len(final)
    for each in heard:
        places = [place[identifier] for identifier in each]
        assert places == [*range(places[0], places[0] + len(places))] if places else True
