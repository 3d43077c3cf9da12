"""How `workyard serve` begins and ends: the ready line, the exports, blocked polls and running requests at a signal.

Rule: `conventions.shutdown`.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest
import redis

from tests.support.harness import Api, RedisServer, WorkyardServer, running_server, wait_until

END_WITHIN_S = 2.0
#: Where the server is busy until the end, the machine's other load counts too.
BUSY_END_WITHIN_S = 5.0
POLLS = 5


@pytest.fixture(params=["1", "2"], ids=["one process", "two processes"])
def serving(request: pytest.FixtureRequest, engine_options: tuple[str, ...]) -> Iterator[WorkyardServer]:
    """A server of each kind, to be ended by the test."""
    if request.param == "2" and not engine_options:
        pytest.skip("the embedded engine is of one process")
    with running_server(*engine_options, "--workers", request.param) as server:
        yield server


def health(url: str) -> tuple[int, bytes]:
    """Ask for the health on a connection of its own, with nothing set up beforehand."""
    link = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    with closing(link):
        link.request("GET", "/_emulator/health")
        answer = link.getresponse()
        return answer.status, answer.read()


def ends(server: WorkyardServer, within_s: float = END_WITHIN_S) -> None:
    """Send SIGTERM; check that the server ends with 0 in time and without a fault in its log."""
    started = time.monotonic()
    server.process.terminate()
    assert server.process.wait(10) == 0
    assert time.monotonic() - started < within_s
    assert "Traceback" not in server.log()


# -- ready ----------------------------------------------------------------------------------------------------


def test_a_request_sent_the_moment_the_ready_line_appears_is_answered() -> None:
    """Whenever it is started."""
    for _ in range(4):
        with running_server() as server:
            status, body = health(server.url)
            assert (status, json.loads(body)["engine"]) == (200, "embedded")


def test_ready_means_ready_for_several_processes_too(redis_server: RedisServer) -> None:
    """The parent says it when the first of them answers, whatever proxy the environment names."""
    proxy = {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    for _ in range(2):
        with running_server("--redis-url", redis_server.url, "--workers", "2", environment=proxy) as server:
            status, body = health(server.url)
            assert (status, json.loads(body)["engine"]) == (200, "redis")


def test_the_ready_line_is_followed_by_what_a_client_must_export(serving: WorkyardServer) -> None:
    """One line with the real URL and the engine, then `export NAME=value` lines that a shell takes."""
    assert serving.ready_line.startswith("Workyard ")
    assert serving.process.stdout is not None
    exports = {}
    for _ in range(4):
        word, assignment = shlex.split(serving.process.stdout.readline())
        assert word == "export"
        name, _, exports[name] = assignment.partition("=")
    ends(serving)
    assert serving.process.stdout.read() == ""
    assert exports == {
        "ANTHROPIC_BASE_URL": serving.url,
        "ANTHROPIC_API_KEY": "workyard-local",
        "WORKYARD_URL": serving.url,
        "WORKYARD_API_KEY": "workyard-local",
    }


def test_several_processes_answer_on_one_port_with_the_same_state(redis_server: RedisServer) -> None:
    """Each connection may meet the other process."""
    with (
        running_server("--redis-url", redis_server.url, "--key-prefix", "two", "--workers", "2") as server,
        closing(redis.Redis(port=redis_server.port)) as raw,
        closing(Api(server.url)) as api,
    ):
        wait_until(lambda: raw.pubsub_numsub("two:wake")[0][1] == 2, "both processes have started")
        queue = api.queue()
        api.enqueue(queue)
        for _ in range(20):
            assert _apart(api, queue).json()["depth"] == 1
        assert api.reset()["leftover_keys"] == 0
        raw.delete(*raw.scan_iter("two:*"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_a_server_process_that_dies_is_replaced(redis_server: RedisServer) -> None:
    """The others serve on meanwhile."""
    with (
        running_server("--redis-url", redis_server.url, "--workers", "2") as server,
        closing(Api(server.url)) as api,
    ):
        before = wait_until(lambda: _workers(server, 2), "two processes")
        queue = api.queue()
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: set(_workers(server, 2)) - set(before), "another in its place")
        assert _apart(api, queue).json()["depth"] == 0
        api.reset()
        assert f"server process {before[0]} died" in server.log()
        assert server.stop() == 0


def _workers(server: WorkyardServer, count: int) -> list[int]:
    """Return the ids of its processes if there are that many; multiprocessing adds one that only keeps its books."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    spawned = []
    for pid in children:
        with suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                spawned.append(int(pid))
    return spawned if len(spawned) == count else []


# -- the end --------------------------------------------------------------------------------------------------


def test_sigterm_answers_blocked_polls_with_null_and_ends_in_time(serving: WorkyardServer) -> None:
    """Five polls wait for 0.999 s each; none of them is cut off, and a single process lets none of them wait on."""
    with ExitStack() as stack:
        api, *clients = [stack.enter_context(closing(Api(serving.url, "five"))) for _ in range(1 + POLLS)]
        pool = stack.enter_context(ThreadPoolExecutor(POLLS))
        for _ in range(10):  # a busy machine may bring the fifth poll when the first has ended
            polls = _blocked(pool, api, clients)
            if not any(poll.done() for poll in polls):
                break
        signalled = time.monotonic()
        ends(serving)
        for poll in polls:
            answer, at = poll.result(1)
            assert (answer.status_code, answer.text) == (200, "null")
            if "--workers" not in str(serving.process.args):
                assert at - signalled < 0.5, "the poll was left to run out"


def _blocked(pool: ThreadPoolExecutor, api: Api, clients: list[Api]) -> list[Future[tuple[httpx.Response, float]]]:
    """Let each client poll the same new queue; return when all have arrived there."""
    queue = api.queue()
    polls = [pool.submit(_answered, client, queue, f"worker-{number}") for number, client in enumerate(clients)]
    wait_until(lambda: api.stats(queue)["workers_polling"] == len(clients), "all polls have arrived")
    return polls


def _answered(client: Api, queue: str, worker: str) -> tuple[httpx.Response, float]:
    """Poll, and tell when the answer came."""
    answer = client.get(client.path(queue, "poll"), params={"block_ms": 999}, headers={"Anthropic-Worker-ID": worker})
    return answer, time.monotonic()


def test_ctrl_c_ends_as_sigterm_does_and_a_second_signal_does_no_harm(serving: WorkyardServer) -> None:
    """Nobody waits for two seconds in patience."""
    serving.process.send_signal(signal.SIGINT)
    ends(serving)


def test_sigterm_while_ten_thousand_items_are_enqueued_gets_an_answer(serving: WorkyardServer) -> None:
    """The whole answer if it is ready in time, else a 503 in the envelope; a prefix of whole batches stays."""
    with closing(Api(serving.url)) as api, ThreadPoolExecutor(1) as pool:
        queue = api.queue()
        path = f"/_emulator/environments/{queue}/work"
        running: Future[httpx.Response] = pool.submit(api.post, path, json={"count": 10_000})
        with closing(Api(serving.url, api.api_key)) as watching:
            wait_until(lambda: watching.stats(queue)["depth"] > 0, "the first batch is in")
        ends(serving, BUSY_END_WITHIN_S)
        answer = running.result(1)
    if answer.status_code == 200:
        assert len(answer.json()["data"]) == 10_000
    else:
        assert answer.status_code == 503
        assert answer.json()["error"]["type"] == "api_error"
        assert "shutting down" in answer.json()["error"]["message"]
        assert answer.json()["request_id"] == answer.headers["request-id"]
        assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_ends_in_time_even_when_redis_hangs(new_redis: Callable[..., RedisServer], workers: str) -> None:
    """A Redis that takes connections and answers nothing: the waiting requests get a 503 and the server its end."""
    hung = new_redis()
    with running_server("--redis-url", hung.url, "--workers", workers) as server:
        with closing(redis.Redis(port=hung.port)) as raw:
            subscribed = int(workers)
            wait_until(lambda: raw.pubsub_numsub("wy:wake")[0][1] == subscribed, "every process has started")
        with closing(Api(server.url)) as api, ThreadPoolExecutor(POLLS) as pool:
            queue = api.queue()
            assert hung.process is not None
            hung.process.send_signal(signal.SIGSTOP)
            asked = [pool.submit(_apart, api, queue) for _ in range(POLLS)]
            _settled(lambda: sum(not request.done() for request in asked) == POLLS)
            ends(server, BUSY_END_WITHIN_S)
            assert [request.result(1).status_code for request in asked] == [503] * POLLS


def _apart(api: Api, queue: str) -> httpx.Response:
    """Read the statistics through a connection of its own."""
    with closing(Api(api.url, api.api_key)) as client:
        return client.get(client.path(queue, "stats"))


def _settled(holds: Callable[[], bool]) -> None:
    """Check that something holds for a quarter of a second: there is no event to wait for."""
    until = time.monotonic() + 0.25
    while time.monotonic() < until:
        assert holds()
        threading.Event().wait(0.05)
