"""The columns of the compatibility table: what each release has to do, and how it is judged."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.support.harness import Api, running_server
from tests.support.sdk_processes import BOTH, SHORT_TTL_S, check_both, claimed, credentials, finished, running, scripted
from tests.support.sessions import item
from tools.compat.releases import Client
from tools.compat.requests import Recorder, Request, digest


@dataclass(frozen=True)
class Column:
    """A column: its head, what the client does there, and the run, which fails by an AssertionError."""

    title: str
    does: str
    run: Callable[[Stage], None]


@dataclass(frozen=True)
class Cell:
    """The outcome of a run. `log` is the client's requests, in the form that is hashed; `problem` is None if all went well."""

    log: Sequence[str]
    problem: str | None
    took_s: float

    def __str__(self) -> str:
        found = f"`{digest(self.log)}`"
        return f"yes {found}" if self.problem is None else f"**no** {found}"


@dataclass(frozen=True)
class Stage:
    """What a run has: the client, a workspace that no other run uses, its queue, and an empty folder."""

    client: Client
    api: Api
    queue: str
    environment: dict[str, str]
    folder: Path
    requests: list[Request]

    def sent(self, method: str, pattern: str) -> bool:
        """Return whether the client sent a request that matches the target's pattern."""
        return any(each.method == method and re.search(pattern, each.target) for each in list(self.requests))


def _poller(stage: Stage) -> None:
    items = [row["id"] for row in stage.api.enqueue(stage.queue, 2)]
    with running(stage.client.command, "poll", stage.environment, stage.folder) as worker:
        printed = worker.end()
    assert printed == items, f"it printed {printed}, wanted {items}"
    assert {stage.api.work(stage.queue, each)["state"] for each in items} == {"stopping"}, "the items were not stopped"


def _session(stage: Stage) -> None:
    made = scripted(stage.api, stage.queue, *BOTH)
    with running(stage.client.command, "run", stage.environment, stage.folder) as worker:
        worker.until(lambda: finished(stage.api, stage.queue, made), "the session is over")
        worker.terminate()
    check_both(stage.api, stage.queue, made)


def _stop(stage: Stage) -> None:
    # Time stands still, so the session runs on and on.
    made = scripted(stage.api, stage.queue, {"wait": 60})
    work = item(stage.api, stage.queue, made)["id"]
    stage.api.ok(stage.api.post("/_emulator/settings", json={"default_ttl_seconds": SHORT_TTL_S}))
    environment = stage.environment | claimed(stage.api, stage.queue)
    with running(stage.client.command, "handle", environment, stage.folder) as worker:
        worker.until(lambda: stage.api.work(stage.queue, work)["state"] == "active", "it has the lease")
        worker.until(lambda: stage.sent("GET", r"/events(\?|$)"), "it has read the session's events")
        assert stage.api.ok(stage.api.stop(stage.queue, work))["state"] == "stopping"
        worker.end()
    assert stage.sent("POST", "heartbeat.*=2"), "it left before a heartbeat could tell it to stop"
    assert stage.sent("POST", "/stop"), "it left without stopping the item"
    assert stage.api.work(stage.queue, work)["state"] == "stopped", "the item is not stopped"


COLUMNS = {
    "poller": Column("poller", "drains a queue of two items, and stops each", _poller),
    "session": Column(
        "worker session",
        "serves a session to its end: a `bash` call, a custom tool, idle; the work ends `stopped`",
        _session,
    ),
    "stop": Column(
        "stop in mid-run",
        "is handed an item (`handle_item`) of a session that runs on; it sees at a heartbeat that it is to stop, and stops it",
        _stop,
    ),
}


def play(client: Client) -> dict[str, Cell]:
    """Run every column with a client, each against a workspace of its own in a Workyard of the client's own.

    Time stands still there, so that a lease cannot end by itself.
    """
    cells: dict[str, Cell] = {}
    with running_server() as server, Recorder(server.url) as recorder:
        for name, column in COLUMNS.items():
            recorder.requests.clear()
            with tempfile.TemporaryDirectory(prefix="workyard-compat-") as folder, closing(Api(server.url)) as api:
                api.freeze()
                queue = api.queue()
                known = credentials(api, queue)
                environment = known | {"ANTHROPIC_BASE_URL": recorder.url} | dict(client.environment)
                stage = Stage(client, api, queue, environment, Path(folder), recorder.requests)
                begun = time.monotonic()
                problem = None
                try:
                    column.run(stage)
                except AssertionError as failure:
                    problem = str(failure)
                names = {
                    known["ANTHROPIC_API_KEY"]: "{API key}",
                    known["ANTHROPIC_ENVIRONMENT_KEY"]: "{environment key}",
                }
                log = sorted({each.line(names) for each in list(recorder.requests)})
                cells[name] = Cell(log, problem, time.monotonic() - begun)
    return cells
