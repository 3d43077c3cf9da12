"""The command `workyard` beside `serve`: env, run, and the twins of control endpoints. Rules: `control.cli.*`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
import redis

from tests.support.command_line import said, workyard
from tests.support.harness import (
    NOON,
    Api,
    RedisServer,
    WorkyardServer,
    after,
    clean_environment,
    free_port,
    new_api_key,
    running_server,
    wait_until,
)

pytestmark = pytest.mark.no_redis

SECRET = "secretpw"
EXPORTED = {"ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "WORKYARD_URL", "WORKYARD_API_KEY"}
OF_AN_ENVIRONMENT = {"ANTHROPIC_ENVIRONMENT_ID", "ANTHROPIC_ENVIRONMENT_KEY"}


@pytest.fixture
def api(embedded: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client of it in a workspace of its own."""
    return new_api(embedded.url)


# -- env ------------------------------------------------------------------------------------------------------


def test_env_prints_the_exports_without_asking_any_server() -> None:
    """The default address, the default key."""
    assert said("env").splitlines() == [
        "export ANTHROPIC_BASE_URL=http://127.0.0.1:4010",
        "export ANTHROPIC_API_KEY=workyard-local",
        "export WORKYARD_URL=http://127.0.0.1:4010",
        "export WORKYARD_API_KEY=workyard-local",
    ]


def test_env_prints_json_with_the_same_values() -> None:
    """By option and by variable."""
    wanted = dict.fromkeys(["ANTHROPIC_BASE_URL", "WORKYARD_URL"], "http://127.0.0.1:1")
    wanted |= dict.fromkeys(["ANTHROPIC_API_KEY", "WORKYARD_API_KEY"], "mine")
    assert json.loads(said("env", "--json", "--url", "http://127.0.0.1:1", "--api-key", "mine")) == wanted
    assert json.loads(said("env", "--json", WORKYARD_URL="http://127.0.0.1:1", WORKYARD_API_KEY="mine")) == wanted


def test_env_create_makes_an_environment_and_a_key_that_work(api: Api, here: dict[str, str]) -> None:
    """A worker polls with nothing but what was printed."""
    printed = json.loads(said("env", "--json", "--create", "mine", **here))
    assert set(printed) == EXPORTED | OF_AN_ENVIRONMENT
    assert (printed["ANTHROPIC_BASE_URL"], printed["ANTHROPIC_API_KEY"]) == (api.url, api.api_key)
    environment = printed["ANTHROPIC_ENVIRONMENT_ID"]
    made = api.ok(api.get(f"/v1/environments/{environment}"))
    assert (made["name"], made["config"]) == ("mine", {"type": "self_hosted"})
    [item] = api.enqueue(environment)
    with closing(api.as_key(printed["ANTHROPIC_ENVIRONMENT_KEY"])) as worker:
        assert worker.poll(environment)["id"] == item["id"]
    [key] = api.ok(api.get(f"/_emulator/environments/{environment}/keys"))["data"]
    assert key["name"] == "mine"


def test_what_env_prints_survives_eval_in_a_shell(api: Api) -> None:
    """Quotes and dollars in a value are quoted."""
    key = f"it's $HOME {new_api_key()}"
    script = (
        'eval "$("$0" -m workyard env --create x)" && printf "%s\\n%s" "$ANTHROPIC_API_KEY" "$ANTHROPIC_ENVIRONMENT_ID"'
    )
    done = subprocess.run(
        ["bash", "-euc", script, sys.executable],
        env=clean_environment({"WORKYARD_URL": api.url, "WORKYARD_API_KEY": key}),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    seen, environment = done.stdout.splitlines()
    assert seen == key
    with closing(api.as_key(key)) as client:
        assert client.stats(environment)["depth"] == 0
        client.reset()


# -- run ------------------------------------------------------------------------------------------------------


class Run:
    """`workyard run`, with a mark in its environment by which everything it starts is found again."""

    def __init__(self) -> None:
        self._mark = f"workyard-test-{uuid.uuid4()}"

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Start it."""
        return subprocess.Popen(
            [sys.executable, "-m", "workyard", "run", *command],
            env=clean_environment(variables | {"TEST_MARK": self._mark}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def done(self, *command: str, text: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end, and check that nothing is left of it."""
        process = self.start(*command, **variables)
        out, err = process.communicate(text, timeout=30)
        assert self.left() == []
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def left(self) -> list[list[str]]:
        """Return the command lines of its processes. Linux tells; elsewhere none is found."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_bytes().decode().split("\0"))
            except OSError:
                continue
        return [line for line in found if line != [""]]  # a process that has ended and was not waited for yet


@pytest.fixture
def run() -> Run:
    """`workyard run`."""
    return Run()


def test_run_exports_everything_and_ends_the_server(run: Run) -> None:
    """All six variables, of a server that answers, on a port of its own; it is gone afterwards."""
    script = """if True:
        import json, os, urllib.request
        url = os.environ["ANTHROPIC_BASE_URL"]
        path = "/v1/environments/" + os.environ["ANTHROPIC_ENVIRONMENT_ID"]
        api_key = {"x-api-key": os.environ["ANTHROPIC_API_KEY"]}
        environment = json.load(urllib.request.urlopen(urllib.request.Request(url + path, headers=api_key)))
        bearer = {"authorization": "Bearer " + os.environ["ANTHROPIC_ENVIRONMENT_KEY"]}
        polled = json.load(urllib.request.urlopen(urllib.request.Request(url + path + "/work/poll", headers=bearer)))
        print(json.dumps({"environment": environment, "polled": polled, "exported": dict(os.environ)}))
    """
    done = run.done("--", sys.executable, "-c", script, ANTHROPIC_API_KEY="real", WORKYARD_API_KEY="theirs")
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert seen["environment"]["config"] == {"type": "self_hosted"}
    assert seen["polled"] is None
    exported = seen["exported"]
    assert set(exported) >= EXPORTED | OF_AN_ENVIRONMENT
    assert exported["ANTHROPIC_BASE_URL"] == exported["WORKYARD_URL"] != "http://127.0.0.1:4010"
    assert exported["ANTHROPIC_API_KEY"] == exported["WORKYARD_API_KEY"] == "workyard-local"
    port = int(exported["WORKYARD_URL"].rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


@pytest.mark.parametrize(
    ("script", "code"),
    [("read line; echo got $line", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)],
)
def test_run_exits_as_its_command_does(run: Run, script: str, code: int) -> None:
    """A code is passed on, a signal as a shell says it; input and output are the command's."""
    done = run.done("--", "sh", "-c", script, text="a line\n")
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout == ("got a line\n" if code == 0 else "")


def test_run_says_what_it_cannot_run(run: Run, tmp_path: Path) -> None:
    """127 and 126, as a shell."""
    done = run.done("--", "no-such-command-here", "--option")
    assert (done.returncode, done.stdout) == (127, "")
    assert "no-such-command-here" in done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / "file").write_text("not a program")
    done = run.done("--", str(tmp_path / "file"))
    assert done.returncode == 126
    assert str(tmp_path / "file") in done.stderr


def test_run_needs_a_command() -> None:
    """It says so."""
    done = workyard("run")
    assert done.returncode == 2
    assert "COMMAND" in done.stderr


def test_the_twins_work_under_run_with_nothing_said(run: Run) -> None:
    """`run` exports what they read, and options of the command stay the command's; no proxy gets in between."""
    script = f"""
        set -eu
        "{sys.executable}" -m workyard enqueue "$ANTHROPIC_ENVIRONMENT_ID" --count 2
        "{sys.executable}" -m workyard reset
    """
    done = run.done("bash", "-c", script, http_proxy="http://127.0.0.1:9", no_proxy="")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, removed = done.stdout.splitlines()
    assert first.startswith("work_")
    assert second.startswith("work_")
    assert removed.endswith(" 0 left over")


def test_run_passes_sigterm_on_to_its_command(run: Run) -> None:
    """The command may still need the server to clean up, and decides how it ends."""
    script = 'trap \'curl -sS --noproxy "*" -o /dev/null "$WORKYARD_URL/_emulator/health" && exit 5\' TERM; echo up; while :; do sleep 0.05; done'
    process = run.start("--", "bash", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (5, "", "")
    assert run.left() == []


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the server in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 1)])
def test_a_signal_while_run_still_starts_its_server_leaves_nothing_behind(
    run: Run, number: signal.Signals, code: int
) -> None:
    """The server has a session of its own, so nobody else would end it."""
    process = run.start("--", "sleep", "30")
    wait_until(lambda: any("serve" in line for line in run.left()), "the server's process is there")
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == code
    wait_until(lambda: run.left() == [], "everything has ended", 5)


def test_run_tells_why_its_server_did_not_start(run: Run) -> None:
    """The server's own words, and exit code 1."""
    port = free_port()
    done = run.done("--", "true", WORKYARD_REDIS_URL=f"redis://user:{SECRET}@127.0.0.1:{port}/0")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Redis at 127.0.0.1:{port} cannot be used" in done.stderr
    assert SECRET not in done.stderr


def test_run_keeps_its_state_in_a_redis_if_told_so(run: Run, redis_server: RedisServer) -> None:
    """The URL does not show in the list of processes: it may hold a password."""
    script = "tr '\\0' ' ' < /proc/$PPID/cmdline; ps -o args= --ppid $PPID; curl -sS \"$WORKYARD_URL/_emulator/health\""
    done = run.done("--", "bash", "-c", script, WORKYARD_REDIS_URL=redis_server.url, WORKYARD_KEY_PREFIX="run")
    assert '"engine":"redis"' in done.stdout
    assert redis_server.url not in done.stdout
    with closing(redis.Redis(port=redis_server.port)) as raw:
        assert raw.delete(*raw.scan_iter("run:*")) > 0


# -- the twins ------------------------------------------------------------------------------------------------


def test_enqueue_prints_the_ids_of_its_items(api: Api, here: dict[str, str]) -> None:
    """One, several, and a message to the session of a stopped one."""
    queue = api.queue()
    ids = said("enqueue", queue, **here).split() + said("enqueue", queue, "--count", "3", **here).split()
    assert [item["id"] for item in api.ok(api.get(api.path(queue)))["data"]] == ids[::-1]
    assert len(ids) == 4
    [chosen] = said("enqueue", queue, "--session-id", "session_011CTwjGCfPqKqzTqqLdG7Ja", **here).split()
    assert api.work(queue, chosen)["data"]["id"] == "session_011CTwjGCfPqKqzTqqLdG7Ja"
    api.ok(api.stop(queue, chosen, force=True))
    assert said("enqueue", queue, "--session-id", "session_011CTwjGCfPqKqzTqqLdG7Ja", **here).split() == [chosen]
    assert api.work(queue, chosen)["state"] == "queued"


def test_the_clock_is_frozen_advanced_shown_and_released(api: Api, here: dict[str, str]) -> None:
    """Durations with and without a unit."""
    assert said("clock", "freeze", "--at", NOON, **here).startswith(f"{NOON} (frozen, +")
    total = 0.0
    for text, seconds in [("30s", 30), ("500ms", 0.5), ("250us", 0.00025), ("2m", 120), ("1h", 3600), ("1.5", 1.5)]:
        total += seconds
        assert said("clock", "advance", text, **here).startswith(f"{after(NOON, total)} (frozen, +")
    assert said("clock", "show", **here).startswith(f"{after(NOON, total)} (frozen, +")
    queue = api.queue()
    api.enqueue(queue)
    work, _ = api.active(queue, 60)
    timer = f"  {after(NOON, total + 60)} lapse {queue} {work} {api.work(queue, work)['data']['id']}"
    assert said("clock", "show", **here).splitlines()[1:] == [f"{timer}, in 60.000000 s"]
    assert said("clock", "next", "--timer", "reclaim", **here).splitlines()[1:] == []
    assert said("clock", "next", **here).splitlines()[1:] == [timer]
    assert "(auto, +" in said("clock", "auto", **here)
    assert "(real, +" in said("clock", "real", **here)
    assert api.ok(api.get("/_emulator/clock"))["mode"] == "real"
    assert "(frozen, +" in said("clock", "freeze", **here)


def test_reset_empties_the_workspace_and_no_other(api: Api, here: dict[str, str], new_api: Callable[..., Api]) -> None:
    """With `--all`, all of them."""
    other = new_api(api.url)
    mine, theirs = api.queue(), other.queue()
    assert said("reset", **here).endswith(" keys, 0 left over\n")
    assert api.get(f"/v1/environments/{mine}").status_code == 404
    assert other.stats(theirs)["depth"] == 0
    assert said("reset", "--all", **here).endswith(" keys, 0 left over\n")
    assert other.get(f"/v1/environments/{theirs}").status_code == 404


def test_invariants_says_what_was_looked_at(api: Api, here: dict[str, str]) -> None:
    """Of the workspace, or of all."""
    api.enqueue(api.queue(), 3)
    words = "0 violations; looked at 3 of 3 items in 1 environments and "
    assert said("invariants", **here).startswith(words)
    assert "violations; looked at" in said("invariants", "--all", **here)


def test_invariants_names_the_damage_and_fails(redis_server: RedisServer, redis_backed: WorkyardServer) -> None:
    """One line a violation, and exit code 1."""
    with closing(Api(redis_backed.url)) as api, closing(redis.Redis(port=redis_server.port)) as raw:
        queue = api.queue()
        [item] = api.enqueue(queue)
        raw.hset(f"wy:{{{queue}}}:work:{item['id']}", "ended", 1)
        done = workyard("invariants", WORKYARD_URL=redis_backed.url, WORKYARD_API_KEY=api.api_key)
        assert done.returncode == 1
        assert f"life: {queue} {item['id']}: entered stopped 1 times" in done.stdout
        assert "1 violations; looked at 1 of 1 items" in done.stdout
        api.reset()


def test_a_timeline_is_drawn_and_fails_where_it_names_a_problem(api: Api, here: dict[str, str]) -> None:
    """As text, or all that is known as JSON."""
    queue = api.queue()
    [item] = said("enqueue", queue, **here).split()
    drawn = workyard("timeline", item, **here)
    assert drawn.returncode == 1
    assert drawn.stdout.startswith(f"{item}  queued\n")
    assert "! nobody_polls: Queued for " in drawn.stdout
    api.poll(queue, "w")
    told = json.loads(said("timeline", item, "--json", **here))
    assert [event["event"] for event in told["events"]] == ["enqueued", "offered"]


def test_watch_prints_a_frame_and_goes_on_in_a_terminal(api: Api, here: dict[str, str]) -> None:
    """Without a terminal one frame below the other; in one, over the last, until Ctrl-C; nothing that a name says moves
    the cursor."""
    queue = api.environment(name="mine\x1b[2J")["id"]
    [item] = said("enqueue", queue, **here).split()
    lines = said("watch", "--once", **here).splitlines()
    assert lines[0] == f"Workyard at {api.url}"
    assert lines[2].split() == ["environment", "name", "depth", "pending", "leased", "stopped", "workers"]
    assert lines[3].split() == [queue, "mine?[2J", "1", "0", "0", "0", "0"]
    assert [line.split()[1:4] for line in lines if item in line] == [["enqueued", "queued", item]]
    assert max(map(len, lines)) <= 120
    master, slave = os.openpty()
    command = [sys.executable, "-m", "workyard", "watch", "--interval", "0.1"]
    size = {"COLUMNS": "100", "LINES": "20"}
    with subprocess.Popen(command, env=clean_environment(here | size), stdout=slave, stderr=slave) as watching:
        os.close(slave)
        shown = b""
        while shown.count(b"\x1b[H") < 3:
            shown += os.read(master, 4096)
        watching.send_signal(signal.SIGINT)
        with suppress(OSError):
            while more := os.read(master, 4096):
                shown += more
        assert watching.wait(10) == 0
    os.close(master)
    assert shown.startswith(b"\x1b[?1049h")
    assert shown.endswith(b"\x1b[?25h\x1b[?1049l")
    assert item.encode() in shown


def test_the_api_key_may_be_the_clients(api: Api) -> None:
    """`ANTHROPIC_API_KEY` names the workspace unless `WORKYARD_API_KEY` or `--api-key` does."""
    queue = api.queue()
    spoken = {"WORKYARD_URL": api.url, "ANTHROPIC_API_KEY": api.api_key}
    said("clock", "freeze", "--at", NOON, **spoken)
    assert said("clock", "show", **spoken).startswith(NOON)
    assert not said("clock", "show", **spoken, WORKYARD_API_KEY=new_api_key()).startswith(NOON)
    assert not said("clock", "show", "--api-key", new_api_key(), **spoken).startswith(NOON)
    assert said("enqueue", queue, "--url", api.url, "--api-key", api.api_key).startswith("work_")


TWINS = [
    ["enqueue", "env_011CTwjGCfPqKqzTqqLdG7Ja"], ["clock", "show"], ["clock", "advance", "1s"], ["clock", "freeze"],
    ["clock", "real"], ["clock", "next"], ["clock", "auto"], ["reset"], ["invariants"], ["env", "--create", "x"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", TWINS, ids=" ".join)
def test_a_twin_without_a_server_says_so(arguments: list[str]) -> None:
    """Where it looked, and what to start."""
    url = f"http://127.0.0.1:{free_port()}"
    done = workyard(*arguments, WORKYARD_URL=url)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert url in done.stderr
    assert "workyard serve" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["enqueue", "env_011CTwjGCfPqKqzTqqLdG7Ja"], "Environment env_011CTwjGCfPqKqzTqqLdG7Ja not found."),
        (["enqueue", "env_x", "--count", "0"], "--count"),
        (["enqueue", "env_x", "--count", "10001"], "--count"),
        (["clock", "advance", "soon"], "30s, 500ms, 2m, 1h"),
        (["clock", "freeze", "--at", "2001-01-01T00:00:00Z"], "at: "),
        (["clock", "freeze", "--at", "noon"], "at: "),
        (["clock", "next", "--timer", "tea"], "timer: "),
        (["clock", "show", "--url", "nowhere"], "nowhere"),
        (["clock", "show", "--url", "http://127.0.0.1:0x1"], "127.0.0.1:0x1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_twin_passes_on_why_it_was_refused(here: dict[str, str], arguments: list[str], words: str) -> None:
    """The server's own message, or which argument is wrong."""
    done = workyard(*arguments, **here)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# -- credentials ----------------------------------------------------------------------------------------------


def test_a_password_in_the_redis_url_appears_nowhere(new_redis: Callable[..., RedisServer]) -> None:
    """Not at a refusal, not in the log of a server that loses its Redis and finds it again."""
    locked = new_redis("--requirepass", SECRET)
    address = f"127.0.0.1:{locked.port}/0"
    for wrong in (f"redis://user:{SECRET}@127.0.0.1:1/0", f"redis://:{SECRET}x@{address}", f"redis://{address}"):
        done = workyard("serve", "--port", "0", "--redis-url", wrong)
        assert done.returncode != 0
        assert "cannot be used" in done.stderr
        assert SECRET not in done.stdout + done.stderr
    with (
        running_server("--log-level", "debug", "--redis-url", f"redis://:{SECRET}@{address}") as server,
        closing(Api(server.url)) as api,
    ):
        assert server.process.stdout is not None
        queue = api.queue()
        locked.stop()
        assert api.get(api.path(queue, "stats")).status_code == 503
        locked.start()
        wait_until(lambda: api.get("/_emulator/health").status_code == 200, "it is back")
        assert server.stop() == 0
        assert "Redis" in server.log()
        assert SECRET not in server.ready_line + server.process.stdout.read() + server.log()


def test_every_line_of_a_json_log_is_json(new_redis: Callable[..., RedisServer]) -> None:
    """Requests, refusals, a lost Redis with its fault, the end; of several processes too."""
    lost = new_redis()
    options = ["--log-format", "json", "--log-level", "debug", "--workers", "2", "--redis-url", lost.url]
    with (
        running_server(*options) as server,
        closing(Api(server.url)) as api,
        closing(redis.Redis(port=lost.port)) as raw,
    ):
        wait_until(lambda: raw.pubsub_numsub("wy:wake")[0][1] == 2, "both processes have started")
        queue = api.queue()
        assert api.get("/v1/environments/none").status_code == 404
        lost.stop()
        assert api.get(api.path(queue, "stats")).status_code == 503
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.log().splitlines()]
    for line in lines:
        assert set(line) - {"exception"} == {"time", "level", "logger", "message"}
    assert {line["level"] for line in lines} >= {"debug", "error"}
    assert any("/v1/environments 200" in line["message"] for line in lines)


def test_the_module_is_the_command() -> None:
    """`workyard` on the path and `python -m workyard` are one."""
    script = Path(sys.executable).with_name("workyard")
    if not script.exists():
        pytest.skip("not installed as a command")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout == said("--version")
