"""Redis Sentinel: a primary and a replica under three Sentinels; what a failover and a demotion look like from outside.

Source: docs/redis.md. Also a demoted primary by a plain URL: a READONLY answer means that nothing ran.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.support.harness import Api, RedisServer, running_server, wait_until
from tests.support.redis_topologies import SERVICE, Watched, raw, refusal, refused

PASSWORD = "primary-s3cret"
SENTINEL_PASSWORD = "sentinel-s3cret"
#: As in test_redis_faults: no request may take longer than Redis' socket timeout of two seconds and some.
ANSWERED_WITHIN_S = 4.0


@pytest.fixture(scope="module")
def watched(redis_engine: str) -> Iterator[Watched]:
    """A primary, a replica and three Sentinels, of each real Redis."""
    running = Watched(redis_engine, PASSWORD, SENTINEL_PASSWORD)
    yield running
    running.close()


def test_a_service_that_the_sentinels_do_not_know_refuses_to_start(watched: Watched) -> None:
    """The message names the Sentinels and the service, and no password."""
    message = refused(watched.url.replace(SERVICE, "other"))
    assert f"127.0.0.1:{watched.sentinels[0].port}" in message
    assert "service 'other'" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("wrong", [PASSWORD, SENTINEL_PASSWORD])
def test_a_wrong_password_refuses_to_start_and_is_not_shown(watched: Watched, wrong: str) -> None:
    """Of the primary, and of the Sentinels."""
    message = refusal(watched.url.replace(wrong, "wr0ng"))
    assert "cannot be used" in message
    assert "wr0ng" not in message
    assert "s3cret" not in message


def test_a_sentinel_by_a_plain_url_refuses_to_start(watched: Watched) -> None:
    """The message has the form that fits."""
    message = refused(f"redis://:{SENTINEL_PASSWORD}@127.0.0.1:{watched.sentinels[0].port}/0")
    assert "is a Sentinel" in message
    assert f"redis+sentinel://127.0.0.1:{watched.sentinels[0].port}/<service>" in message
    assert "s3cret" not in message


def test_a_replica_by_a_plain_url_refuses_to_start(watched: Watched) -> None:
    """It takes no writes; the message names its primary."""
    message = refused(f"redis://:{PASSWORD}@127.0.0.1:{watched.replica.port}/0")
    assert f"is a replica of 127.0.0.1:{watched.primary.port}" in message
    assert "s3cret" not in message


def test_after_a_failover_the_promoted_replica_serves_what_was_replicated(watched: Watched) -> None:
    """503 in time, never anything else, until there is a new primary; then all goes on, wake-ups too."""
    with running_server("--redis-url", watched.url) as server, closing(Api(server.url)) as api:
        queue = api.queue()
        items = [item["id"] for item in api.enqueue(queue, 3)]
        active, beat = api.active(queue)
        watched.replicated()
        watched.primary.stop()
        answers = []

        def recovered() -> bool:
            started = time.monotonic()
            answers.append(api.heartbeat(queue, active, beat).status_code)
            assert time.monotonic() - started < ANSWERED_WITHIN_S
            return answers[-1] == 200

        wait_until(recovered, "the promoted replica serves", 20)
        assert set(answers) == {503, 200}
        assert answers.count(200) == 1
        figures = api.stats(queue)
        assert (figures["depth"], figures["pending"]) == (2, 0)
        assert [api.active(queue)[0], api.active(queue)[0]] == items[1:]
        with ThreadPoolExecutor(1) as pool:
            wait_until(lambda: "renewing" in server.log(), "the lost subscription was noticed")

            def woken() -> bool:
                blocked = pool.submit(api.poll, queue, "waiting", block_ms=999)
                wait_until(lambda: api.stats(queue)["workers_polling"] == 1, "the poll has begun")
                started = time.monotonic()
                [item] = api.enqueue(queue)
                assert blocked.result()["id"] == item["id"]
                return time.monotonic() - started < 0.5

            wait_until(woken, "wake-ups come from the new primary")
        assert api.reset()["leftover_keys"] == 0
        assert server.stop() == 0
        log = server.log()
        assert "Traceback" not in log
        assert "s3cret" not in log


def test_a_primary_that_becomes_a_replica_is_answered_503_until_there_is_one_again(
    new_redis: Callable[..., RedisServer],
) -> None:
    """By a plain URL. READONLY is no fault of the request and no 500; nothing of the step has run."""
    server, primary = new_redis(), new_redis()
    with (
        running_server("--redis-url", server.url) as workyard,
        closing(Api(workyard.url)) as api,
        closing(raw(server.port)) as client,
    ):
        queue = api.queue()
        api.enqueue(queue)
        # Loading the other's data would empty this one; it never gets that far, for the other does not let it in.
        with closing(raw(primary.port)) as other:
            other.execute_command("CONFIG", "SET", "requirepass", "locked")  # type: ignore[no-untyped-call]
        client.execute_command("REPLICAOF", "127.0.0.1", primary.port)  # type: ignore[no-untyped-call]
        answer = api.post(f"/_emulator/environments/{queue}/work", json={"count": 2})
        assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1")
        client.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
        assert api.stats(queue)["depth"] == 1
        api.enqueue(queue)
        assert api.reset()["leftover_keys"] == 0
        assert "ReadOnlyError" in workyard.log()
