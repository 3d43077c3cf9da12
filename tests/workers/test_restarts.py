"""Workers of the Python SDK get over a restart in mid-run, of Redis or of the server.

Rules: `conventions.storage`, `work.crash`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.support.agent_reports import message, report
from tests.support.chaos.stage import steady_port
from tests.support.harness import Api, RedisServer, running_server
from tests.support.sdk_processes import LONG, credentials, finished, texts
from tests.support.sessions import item, session
from tests.support.workers import Worker

#: What the SDK's client writes when a call failed and it will try again.
TRIES_AGAIN = "Retrying request to"


@pytest.mark.parametrize("what", ["redis killed", "server killed", "server told to end"])
def test_a_worker_gets_over_a_restart_in_mid_run(
    new_redis: Callable[..., RedisServer],
    new_api: Callable[..., Api],
    start_worker: Callable[..., Worker],
    what: str,
) -> None:
    """Its tool ends in the outage: the result comes to the session all the same, once, and it is run to idle."""
    store = new_redis("--appendonly", "yes", "--appendfsync", "always")
    options = ("--port", str(steady_port()), "--redis-url", store.url)
    with running_server(*options) as server:
        api = new_api(server.url, reset=False)
        queue = api.queue()
        made = str(session(api, queue, initial_events=[message(LONG)])["id"])
        worker = start_worker("run", credentials(api, queue))
        worker.runs_its_tool()
        worker.until(lambda: item(api, queue, made)["state"] == "active", "it has claimed its item")
        if what == "redis killed":
            store.stop(signal.SIGKILL)
        elif what == "server killed":
            server.process.kill()
            server.process.wait()
        else:
            assert server.stop() == 0
        worker.let_go()
        worker.says(TRIES_AGAIN)
        if what == "redis killed":
            store.start()
            check(api, queue, made, worker)
        else:
            with running_server(*options) as again:
                check(api, queue, made, worker)
                assert "Traceback" not in again.log()
        assert "Traceback" not in server.log()


def check(api: Api, queue: str, session_id: str, worker: Worker) -> None:
    """Check that a worker finishes a session."""
    worker.until(lambda: finished(api, queue, session_id), "the session is over")
    worker.terminate()
    assert texts(api, session_id, "user.tool_result") == texts(api, session_id, "agent.message") == ["gone"]
    assert report(api, session_id)["report"]["unexpected"] == []
    assert api.ok(api.get("/_emulator/invariants"))["violations"] == []
