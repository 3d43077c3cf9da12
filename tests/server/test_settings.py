"""The options of `workyard serve` and their variables: what they take, what they refuse, and what they do.

Source: docs/settings.md.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from tests.support.command_line import workyard
from tests.support.harness import Api, RedisServer, free_port, running_server
from workyard.cli.main import main
from workyard.settings import Settings
from workyard_store.engine.engine import DATA_FORMAT

REDIS = "redis://127.0.0.1:6390/3"
SCRIPT = Path(__file__).parents[1] / "data" / "script.yaml"
#: Setting → text that is taken, its value, texts that are refused.
TABLE: dict[str, tuple[str, object, list[str]]] = {
    "host": ("127.0.0.2", "127.0.0.2", ["0.0.0.0", "192.0.2.1", "::", "example.com"]),
    "port": ("0", 0, ["65536", "-1", "http", "1.5"]),
    "redis_url": (REDIS, REDIS, ["http://127.0.0.1", "127.0.0.1:6379", "redis://", "redis://u:p/w@127.0.0.1:1"]),
    "redis_connections": ("3", 3, ["0", "1001", "many"]),
    "key_prefix": ("other.1", "other.1", ["a:b", "{a}", "a b", "x" * 65]),
    "workers": ("2", 2, ["0", "65", "two"]),
    "auth": ("strict", "strict", ["lax", "ANY"]),
    "default_ttl": ("60", 60, ["0", "3601", "1m"]),
    "startup_lease": ("5", 5, ["0", "3601", "x"]),
    "reclaim_ms": ("1", 1, ["0", "3600001", "5s"]),
    "journal_requests": ("500", 500, ["-1", "20001", "some"]),
    "journal_body_bytes": ("100", 100, ["-1", "65537", "some"]),
    "timeline_events": ("500", 500, ["-1", "1000001", "some"]),
    "state": (str(SCRIPT), str(SCRIPT), ["/nowhere.json", str(SCRIPT.parent)]),
    "save_state": ("true", True, ["maybe", "2"]),
    "seed_file": (str(SCRIPT), str(SCRIPT), ["/nowhere.yaml", str(SCRIPT.parent)]),
    "script": (str(SCRIPT), str(SCRIPT), [str(SCRIPT.parent), "/nowhere.yaml", __file__]),
    "memory_mount": ("/tmp/.notes/a", "/tmp/.notes/a", ["notes", "/", "/a/", "/a//b", "/a/../b", "/./a", "Workdir"]),
    "fixtures": ("true", True, ["maybe", "2"]),
    "require_headers": ("true", True, ["maybe", "2"]),
    "check_responses": ("true", True, ["maybe", "2"]),
    "control_token": ("a-long-secret", "a-long-secret", ["p/w", "p/w two", "p/wé-long-enough"]),
    "allowed_hosts": ("server,*.example.com", "server,*.example.com", ["http://server", "a:1", "a,,b", "a b"]),
    "cors_origins": ("http://localhost:3000", "http://localhost:3000", ["localhost:3000", "http://a/b", "ftp://a"]),
    "max_body_bytes": ("2048", 2048, ["1023", "67108865", "1M"]),
    "max_header_bytes": ("2048", 2048, ["1023", "1048577", "many"]),
    "max_url_bytes": ("300", 300, ["255", "60001", "long"]),
    "max_json_depth": ("10", 10, ["7", "501", "deep"]),
    "max_metadata_keys": ("3", 3, ["-1", "17", "few"]),
    "max_count": ("5", 5, ["0", "10001", "few"]),
    "max_blocked_polls": ("2", 2, ["0", "1000001", "few"]),
    "max_streams": ("2", 2, ["0", "1000001", "few"]),
    "max_workspaces": ("2", 2, ["0", "10000001", "few"]),
    "max_environments": ("2", 2, ["0", "10000001", "few"]),
    "max_items": ("2", 2, ["0", "100000001", "few"]),
    "max_connections": ("20", 20, ["0", "1000001", "few"]),
    "head_timeout": ("0.5", 0.5, ["0", "3601", "nan", "soon"]),
    "body_timeout": ("0.5", 0.5, ["0", "3601", "nan", "soon"]),
    "idle_timeout": ("0.5", 0.5, ["0", "3601", "nan", "soon"]),
    "write_timeout": ("0.5", 0.5, ["0", "3601", "nan", "soon"]),
    "log_bodies": ("true", True, ["maybe", "2"]),
    "log_level": ("debug", "debug", ["loud", "DEBUG"]),
    "log_format": ("json", "json", ["xml"]),
    "i_know": ("true", True, ["maybe", "2"]),
}


def is_flag(name: str) -> bool:
    """Tell whether a setting is switched on and takes no value."""
    return Settings.model_fields[name].annotation is bool


REFUSED = [(name, text) for name, (_, _, texts) in TABLE.items() for text in texts]


def option(name: str) -> str:
    """Return a setting's option."""
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    """Return a setting's variable."""
    return f"WORKYARD_{name.upper()}"


def arguments(name: str, text: str) -> list[str]:
    """Return a setting's option with its value; a flag has none."""
    return [option(name)] if is_flag(name) else [option(name), text]


class Serve:
    """`workyard serve` in this process, up to the point where the server would start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings: Settings | None = None
        monkeypatch.setattr("workyard.serving.server.serve", self._start)
        monkeypatch.setattr("workyard.observability.logs.configure", lambda level, form: None)
        for name in Settings.model_fields:
            monkeypatch.delenv(variable(name), raising=False)

    def _start(self, settings: Settings, on_ready: object) -> None:
        self.settings = settings

    def __call__(self, *options: str, **environment: str) -> Result:
        self.settings = None
        return CliRunner().invoke(main, ["serve", *options], env=environment)

    def value(self, name: str) -> object:
        """Return what the server would have been started with."""
        assert self.settings is not None
        return getattr(self.settings, name)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """A server that only takes down what it was told."""
    return Serve(monkeypatch)


def needed_by(name: str) -> list[str]:
    """Return what a setting needs beside it."""
    return {"workers": ["--redis-url", REDIS], "save_state": ["--state", str(SCRIPT)]}.get(name, [])


# -- taken and refused ----------------------------------------------------------------------------------------


def test_the_table_above_knows_every_setting() -> None:
    """A new setting is tested too."""
    assert list(TABLE) == list(Settings.model_fields)


def test_help_shows_every_option_with_its_variable_and_default(serve: Serve) -> None:
    """Nobody needs the README for it."""
    text = " ".join(serve("--help").stdout.split())
    for name, field in Settings.model_fields.items():
        default = "unset" if field.default is None else field.default
        assert f"{option(name)} " in text
        if not is_flag(name):
            assert f"[{variable(name)}; default: {default}]" in text


@pytest.mark.parametrize("name", TABLE)
def test_a_setting_comes_from_its_option_or_its_variable(serve: Serve, name: str) -> None:
    """Both say the same; with neither, the default holds."""
    text, value, _ = TABLE[name]
    assert serve().exit_code == 0
    assert serve.value(name) == Settings.model_fields[name].default != value
    done = serve(*arguments(name, text), *needed_by(name))
    assert (done.exit_code, serve.value(name)) == (0, value), done.output
    done = serve(*needed_by(name), **{variable(name): text})
    assert (done.exit_code, serve.value(name)) == (0, value), done.output


@pytest.mark.parametrize("name", [name for name in TABLE if not is_flag(name)])
def test_an_option_wins_over_its_variable_even_over_a_bad_one(serve: Serve, name: str) -> None:
    """The command line is nearer."""
    text, value, [bad, *_] = TABLE[name]
    done = serve(*arguments(name, text), *needed_by(name), **{variable(name): bad})
    assert (done.exit_code, serve.value(name)) == (0, value), done.output


@pytest.mark.parametrize(("name", "text"), REFUSED)
def test_a_bad_value_refuses_to_start_and_names_the_setting(serve: Serve, name: str, text: str) -> None:
    """By option and by variable, with the same words."""
    asked = [serve(**{variable(name): text})]
    if not is_flag(name):
        asked.append(serve(*arguments(name, text)))
    for refusal in asked:
        assert refusal.exit_code != 0
        assert serve.settings is None
        assert refusal.stdout == ""
        assert f"{option(name)} / {variable(name)}: " in refusal.stderr
        assert refusal.stderr == asked[0].stderr
        assert ("p/w" if name in ("redis_url", "control_token") else "Traceback") not in refusal.stderr


def test_several_bad_values_are_named_together(serve: Serve) -> None:
    """One look is enough."""
    refusal = serve("--port", "x", "--auth", "lax", WORKYARD_WORKERS="0")
    assert refusal.exit_code != 0
    for name in ("port", "auth", "workers"):
        assert f"{option(name)} / {variable(name)}: " in refusal.stderr


def test_a_host_that_is_not_loopback_needs_i_know(serve: Serve) -> None:
    """Loopback has many addresses; a name other than localhost may be anything."""
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert serve("--host", host).exit_code == 0
    for host in ("0.0.0.0", "::", "192.0.2.1", "workyard.example"):
        assert "--i-know" in serve("--host", host).stderr
        assert serve("--host", host, "--i-know").exit_code == 0
        assert serve.value("host") == host
        assert serve("--host", host, WORKYARD_I_KNOW="1").exit_code == 0


def test_several_processes_need_a_redis(serve: Serve) -> None:
    """The embedded engine lives in one process."""
    refusal = serve("--workers", "2")
    assert refusal.exit_code != 0
    assert "--workers / WORKYARD_WORKERS: " in refusal.stderr
    assert "--redis-url" in refusal.stderr


def test_fixture_mode_needs_one_process(serve: Serve) -> None:
    """Its lock lives in one; a Redis does not help."""
    refusal = serve("--fixtures", "--workers", "2", "--redis-url", REDIS)
    assert refusal.exit_code != 0
    assert "--workers / WORKYARD_WORKERS: --fixtures needs a single process" in refusal.stderr
    assert "a lock" in refusal.stderr
    assert serve("--redis-url", REDIS, WORKYARD_FIXTURES="1").exit_code == 0
    assert serve.value("fixtures") is True


# -- refused by what the server meets -------------------------------------------------------------------------


def refusal(*options: str, **environment: str) -> str:
    """Start a server that must refuse; return what it says."""
    done = workyard("serve", "--port", "0", *options, **environment)
    assert done.returncode != 0
    assert done.stdout == ""
    return done.stderr


def told(message: str, *parts: str) -> None:
    """Check that a refusal is one clear line that holds these parts."""
    assert "Traceback" not in message
    assert len(message.splitlines()) == 1
    for part in parts:
        assert part in message


def test_a_taken_port_refuses_to_start() -> None:
    """It says which, and the way out."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        told(refusal("--port", port), "--port / WORKYARD_PORT", f"127.0.0.1:{port}", "in use", "0 takes any free one")


def test_an_address_of_another_machine_refuses_to_start() -> None:
    """192.0.2.1 is nobody's (RFC 5737)."""
    told(refusal("--host", "192.0.2.1", "--i-know"), "--host / WORKYARD_HOST", "192.0.2.1")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_redis_that_is_not_there_refuses_to_start(workers: str) -> None:
    """It says where it looked and what to do."""
    port = free_port()
    message = refusal("--redis-url", f"redis://127.0.0.1:{port}/0", "--workers", workers)
    told(message, f"Redis at 127.0.0.1:{port}", "Start it", "--redis-url", "embedded engine")


@pytest.mark.parametrize("found", ["1", "2", "99"])
def test_data_of_another_format_refuses_to_start(redis_server: RedisServer, found: str) -> None:
    """The message says what to do; the data stays as it is. Under another prefix the same Redis is fine."""
    prefix = f"format{found}"
    data = {f"{prefix}:format": found, f"{prefix}:{{default}}:settings": "old"}
    with closing(redis.Redis(port=redis_server.port, decode_responses=True)) as raw:
        raw.mset(data)
        try:
            message = refusal("--redis-url", redis_server.url, "--key-prefix", prefix)
            told(
                message, f"'{prefix}'", f"format {found};", "format 4", "--key-prefix", f"delete the keys '{prefix}:*'"
            )
            assert {key: raw.get(key) for key in raw.scan_iter(f"{prefix}:*")} == data
        finally:
            raw.delete(*data)


@contextmanager
def fake_redis(answer: Callable[[int, list[str]], bytes]) -> Iterator[int]:
    """Speak RESP on a port: *answer* gets the connection's number and a command, and returns the reply's bytes."""
    numbers = iter(range(1, 1000))

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            number = next(numbers)
            while line := self.rfile.readline():
                command = []
                for _ in range(int(line[1:])):
                    length = int(self.rfile.readline()[1:])
                    command.append(self.rfile.read(length + 2)[:-2].decode())
                self.wfile.write(answer(number, command))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Connection) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def bulk(text: str) -> bytes:
    """Return a RESP bulk string."""
    return f"${len(text)}\r\n{text}\r\n".encode()


def of_version(version: str, command: list[str]) -> bytes:
    """Answer the few commands that a start needs, as a Redis of that version."""
    match command[0].upper():
        case "INFO":
            return bulk(f"# Server\r\nredis_version:{version}\r\n")
        case "GET":
            return bulk(DATA_FORMAT)
        case _:
            return b"+OK\r\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_redis_older_than_seven_refuses_to_start(workers: str) -> None:
    """6.2 does not tell a group's lag."""
    with fake_redis(lambda number, command: of_version("6.2.14", command)) as port:
        message = refusal("--redis-url", f"redis://127.0.0.1:{port}/0", "--workers", workers)
    told(message, f"127.0.0.1:{port}", "6.2.14", "7.0 or newer", "Upgrade it", "embedded engine")


def test_what_is_no_redis_at_all_refuses_to_start() -> None:
    """A web server, say."""
    with fake_redis(lambda number, command: b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        told(refusal("--redis-url", f"redis://127.0.0.1:{port}/0"), f"Redis at 127.0.0.1:{port} cannot be used")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_whose_processes_cannot_start_ends_with_a_failure(workers: str) -> None:
    """The Redis was fine when it was looked at first, and is not when the processes open it."""

    def answer(number: int, command: list[str]) -> bytes:
        return of_version("7.2.0" if number == 1 else "6.2.14", command)

    with fake_redis(answer) as port:
        assert "7.0 or newer" in refusal("--redis-url", f"redis://127.0.0.1:{port}/0", "--workers", workers)


def test_an_unknown_option_in_the_redis_url_refuses_to_start() -> None:
    """redis-py looks at it only when it connects."""
    told(refusal("--redis-url", "redis://127.0.0.1:1/0?colour=red"), "--redis-url / WORKYARD_REDIS_URL", "colour")


# -- what they do ---------------------------------------------------------------------------------------------

WORDS = {
    "host": "127.0.0.1", "redis_connections": "2", "workers": "2", "auth": "none", "default_ttl": "77",
    "startup_lease": "33", "reclaim_ms": "1234", "log_level": "debug", "log_format": "json",
}  # fmt: skip


@pytest.mark.parametrize("by", ["option", "variable"])
def test_every_setting_does_what_it_says(redis_server: RedisServer, by: str) -> None:
    """All of them together, once as options and once as variables."""
    words = WORDS | {"redis_url": redis_server.url, "key_prefix": f"by-{by}"}
    given = [part for name, text in words.items() for part in (option(name), text)] if by == "option" else []
    environment = {variable(name): text for name, text in words.items()} if by == "variable" else {}
    with (
        closing(redis.Redis(port=redis_server.port, decode_responses=True)) as raw,
        running_server(*given, environment=environment) as server,
        closing(Api(server.url, "")) as api,
    ):
        assert server.engine == "redis"
        queue = api.queue()  # without a token
        keys = list(raw.scan_iter(f"by-{by}:*"))
        assert any(queue in key for key in keys)
        assert not list(raw.scan_iter(f"wy:*{queue}*"))
        settings: dict[str, Any] = api.ok(api.get("/_emulator/settings?workspace=default"))
        assert settings["default_ttl_seconds"] == 77
        assert settings["startup_lease_seconds"] == 33
        assert settings["reclaim_ms"] == 1234
        [item] = api.enqueue(queue)
        api.ok(api.ack(queue, item["id"]))
        assert api.ok(api.heartbeat(queue, item["id"]))["ttl_seconds"] == 77
        api.ok(api.post("/_emulator/reset?workspace=*"))
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.log().splitlines()]
        assert {"time", "level", "logger", "message"} == set(lines[0])
        assert any(f"/work/{item['id']}/ack 200" in line["message"] for line in lines)
        raw.delete(*raw.scan_iter(f"by-{by}:*"))


def test_text_log_lines_hold_no_json_and_info_holds_no_requests() -> None:
    """The defaults."""
    with running_server() as server, closing(Api(server.url)) as api:
        api.queue()
        server.stop()
        assert "/v1/environments" not in server.log()
