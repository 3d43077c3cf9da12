"""`workyard.testing`: a server inside the process, its helpers for both kinds of callers, its end.

Rules: `testing.*`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tests.support.harness import NOON, WorkyardServer, clean_environment, new_api_key, options_of
from workyard.client.steps import read
from workyard.schemas.journal import JournalEntryWithBodies
from workyard.schemas.workspaces import ResetDone
from workyard.testing import (
    AsyncEmulator,
    Emulator,
    StartupRefused,
    WorkyardRefused,
    WorkyardUnreachable,
)

READY_WITHIN_S = 0.05
END_WITHIN_S = 1.0


@pytest.fixture(scope="module")
def shared(engine_options: tuple[str, ...]) -> Iterator[Emulator]:
    """One server of each engine in this process."""
    with Emulator(**options_of(engine_options)) as running:
        yield running


@pytest.fixture
def emu(shared: Emulator) -> Iterator[Emulator]:
    """A workspace of its own on it."""
    with shared.workspace() as workspace:
        yield workspace
        workspace.assert_invariants()
        assert workspace.reset().leftover_keys == 0


# -- beginning and end ----------------------------------------------------------------------------------------


def test_it_is_ready_at_once_and_nothing_is_left_of_it() -> None:
    """In the best of ten starts, for others use the machine too; threads and open files are those of before."""

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    with Emulator():
        pass  # what a first start of a process opens for ever
    threads, files = set(threading.enumerate()), open_files()
    starts = []
    for _ in range(10):
        begun = time.perf_counter()
        with Emulator() as emu:
            starts.append(time.perf_counter() - begun)
            emu.environment()
    assert min(starts) < READY_WITHIN_S
    assert set(threading.enumerate()) == threads
    assert open_files() == files


def test_emulators_side_by_side_do_not_meet() -> None:
    """Each has its engine, whatever the key; the end of one does not touch another."""
    with Emulator(api_key="same", default_ttl=7) as one:
        with Emulator(api_key="same") as other:
            assert one.url != other.url
            queue = one.environment()
            one.clock.freeze(NOON)
            assert (one.settings().default_ttl_seconds, other.settings().default_ttl_seconds) == (7, 300)
            assert other.clock.read().mode == "real"
            with pytest.raises(WorkyardRefused) as refusal:
                other.enqueue(queue)
            assert refusal.value.status == 404
            assert refusal.value.message == f"Environment {queue.id} not found."
        assert len(one.enqueue(queue)) == 1
    with pytest.raises(RuntimeError, match="not running"):
        one.enqueue(queue)


def test_workspaces_of_one_server_do_not_meet_but_share_it(emu: Emulator) -> None:
    """A new key each, unless one is given."""
    with emu.workspace() as other, emu.workspace(emu.api_key) as same:
        queue = emu.environment()
        emu.clock.freeze(NOON)
        assert (other.url, same.url) == (emu.url, emu.url)
        assert other.clock.read().mode == "real"
        assert same.clock.now() == datetime.fromisoformat(NOON)
        assert other.reset().removed_keys <= 1  # its clock was read
        assert [item.environment_id for item in same.enqueue(queue)] == [queue.id]


def test_its_end_answers_a_blocked_poll_and_comes_soon() -> None:
    """As the end of a server process does."""
    with Emulator() as emu, ThreadPoolExecutor(1) as pool:
        queue = emu.environment()
        work = emu.client(max_retries=0).beta.environments.work
        poll = pool.submit(work.poll, queue.id, block_ms=999, anthropic_worker_id="waiting")
        emu.wait(stats={"workers_polling": 1})
        begun = time.perf_counter()
        emu._target.close()
        assert time.perf_counter() - begun < END_WITHIN_S
        assert poll.result(1) is None


def test_it_connects_to_a_running_server(embedded: WorkyardServer) -> None:
    """By its URL; that has its settings already."""
    with Emulator(url=embedded.url) as emu:
        assert len(emu.enqueue(emu.environment(), 2)) == 2
        emu.reset()
    with pytest.raises(TypeError, match="url together with default_ttl"):
        Emulator(url=embedded.url, default_ttl=1)


def test_what_cannot_be_started_or_reached_is_refused_in_words() -> None:
    """A setting that is bad, or of a process of its own; a Redis or a server that is not there."""
    with (
        pytest.raises(StartupRefused, match=r"--default-ttl / WORKYARD_DEFAULT_TTL: .* \(got -1\)"),
        Emulator(default_ttl=-1),
    ):
        pass
    with (
        pytest.raises(TypeError, match=r"no setting 'workers' .* the settings are port, redis_url"),
        Emulator(workers=2),
    ):
        pass
    with (
        pytest.raises(StartupRefused, match=r"Redis at 127\.0\.0\.1:1 cannot be used"),
        Emulator(redis_url="redis://127.0.0.1:1/0"),
    ):
        pass
    with (
        pytest.raises(WorkyardUnreachable, match=r"no answer from http://127\.0\.0\.1:1: .*refused"),
        Emulator(url="http://127.0.0.1:1"),
    ):
        pass
    with pytest.raises(ValueError, match="begin with http://"), Emulator(url="redis://127.0.0.1"):
        pass


def test_it_listens_on_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a variable says that is meant for a server of its own."""
    monkeypatch.setenv("WORKYARD_HOST", "0.0.0.0")
    monkeypatch.setenv("WORKYARD_WORKERS", "2")
    with Emulator() as emu:
        assert emu.url.startswith("http://127.0.0.1:")


def test_it_starts_with_the_state_in_a_file_and_leaves_it_there(
    engine_options: tuple[str, ...], tmp_path: Path
) -> None:
    """As `workyard serve` does; a file that cannot be written is told of in the end."""
    folder = tmp_path / "states"
    folder.mkdir()
    settings: dict[str, Any] = {"state": str(folder / "state.json"), "save_state": True}
    settings |= options_of(engine_options)
    with Emulator(api_key="kept", key_prefix=new_api_key(), **settings) as emu:
        queue = emu.environment()
        emu.enqueue(queue, 2)
    with Emulator(api_key="kept", key_prefix=new_api_key(), **settings) as emu:
        assert emu.stats(queue).depth == 2
        emu.reset()
        shutil.rmtree(folder)
        with pytest.raises(StartupRefused, match="No such file"):
            emu.close()


def test_it_starts_with_what_a_seed_file_declares(engine_options: tuple[str, ...], tmp_path: Path) -> None:
    """It says what was made."""
    file = tmp_path / "seeds.yaml"
    file.write_text("{api_key: mine, environments: [{name: builds, keys: [worker], work: [{count: 3}]}]}")
    options = options_of(engine_options)
    with Emulator(api_key="mine", key_prefix=new_api_key(), seed_file=str(file), **options) as emu:
        queue, key = emu.seeded["WORKYARD_ENVIRONMENT_BUILDS"], emu.seeded["WORKYARD_KEY_BUILDS_WORKER"]
        assert emu.stats(queue).depth == 3
        assert emu.client(auth_token=key).beta.environments.work.poll(queue) is not None
        emu.reset()


def test_a_seed_file_over_what_it_made_makes_nothing_twice(engine_options: tuple[str, ...], tmp_path: Path) -> None:
    """Environments and keys are known by name, work by what its entry says; only what is new is made."""
    file, state = tmp_path / "seeds.yaml", str(tmp_path / "state.json")
    settings: dict[str, Any] = {"state": state, "save_state": True, "seed_file": str(file)}
    settings |= options_of(engine_options)
    found = []
    for work in ("{count: 2}", "{count: 2}, {metadata: {new: entry}}"):
        text = f"{{api_key: mine, environments: [{{name: builds, keys: [worker], work: [{work}]}}]}}"
        file.write_text(text)
        with Emulator(api_key="mine", key_prefix=new_api_key(), **settings) as emu:
            queue = emu.seeded["WORKYARD_ENVIRONMENT_BUILDS"]
            found.append((queue, "WORKYARD_KEY_BUILDS_WORKER" in emu.seeded, emu.stats(queue).depth))
    assert found == [(queue, True, 2), (queue, False, 3)]


def test_what_a_request_was_made_of_is_freed_when_it_ends(emu: Emulator) -> None:
    """With no garbage collection: what these cost would be a tenth of a request's time."""
    queue = emu.environment()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            emu.stats(queue)
        assert sum(isinstance(each, RequestResponseCycle) for each in gc.get_objects()) < 10
    finally:
        gc.enable()


FORKING = """
import logging, os, sys, threading
from workyard.testing import Emulator

logging.getLogger("asyncio").setLevel(logging.ERROR)  # how long a step took

emu = Emulator()
emu.__enter__()
queue = emu.environment()
child = os.fork()
if child == 0:
    emu.enqueue(queue)  # by a connection of its own
    emu.close()  # the server is not its own
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert len(emu.work(queue)) == 1
url = emu.url
(ends, lives), (begun, begins) = os.pipe(), os.pipe()
if os.fork() == 0:
    os.close(lives)
    os.write(begins, b".")
    os.read(ends, 1)  # lives on until its parent has ended
    os._exit(0)
os.read(begun, 1)
emu.close()
with Emulator(port=int(url.rpartition(":")[2])) as again:  # the port is free though a child lives
    assert again.url == url
    again.environment()
Emulator().__enter__()  # and never ended: the process ends all the same
print(threading.active_count())
"""


def test_processes_may_be_forked_off_and_no_warning_is_given() -> None:
    """With everything that Python checks on; an emulator that nobody ended does not hold up the end of the process."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c", FORKING],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
    assert time.monotonic() - begun < 30


# -- helpers --------------------------------------------------------------------------------------------------


def test_an_item_is_led_through_a_lapse_by_helpers_and_the_sdk(emu: Emulator) -> None:
    """Environment, key, clients, clock, work and figures: no sleep, no HTTP by hand."""
    queue = emu.environment("takeover", metadata={"suite": "own"})
    emu.clock.freeze(NOON)
    [item] = emu.enqueue(queue, metadata={"n": "1"})
    first, second = emu.client(), emu.client(auth_token=queue.key)
    for client in (first, second):
        polled = client.beta.environments.work.poll(queue.id)
        assert polled is not None
        assert polled.id == item.id
        client.beta.environments.work.ack(item.id, environment_id=queue.id)
        beat = client.beta.environments.work.heartbeat(
            item.id, environment_id=queue.id, expected_last_heartbeat="NO_HEARTBEAT", desired_ttl_seconds=30
        )
        assert beat.state == "active"
        assert emu.stats(queue).depth == 0
        now = emu.clock.now()
        [timer] = emu.clock.advance_to_next("lapse").fired
        assert (timer.timer, timer.work_id) == ("lapse", item.id)
        assert emu.clock.now() - now == timedelta(seconds=30)
        assert [(each.state, each.metadata) for each in emu.work(queue)] == [("queued", {"n": "1"})]
    life = emu.timeline(item)
    assert [event.event for event in life.events] == ["enqueued", *(["offered", "acked", "beat", "lapsed"] * 2)]
    assert "lease_lapsed" in {finding.code for finding in life.diagnosis}
    assert life.complete
    assert item.id in life.text
    emu.clock.real()
    assert emu.clock.read().mode == "real"


def test_a_worker_in_a_process_of_its_own_is_told_all_it_needs(emu: Emulator) -> None:
    """By variables."""
    queue = emu.environment()
    assert queue.variables == {
        "ANTHROPIC_BASE_URL": emu.url,
        "ANTHROPIC_API_KEY": emu.api_key,
        "WORKYARD_URL": emu.url,
        "WORKYARD_API_KEY": emu.api_key,
        "ANTHROPIC_ENVIRONMENT_ID": queue.id,
        "ANTHROPIC_ENVIRONMENT_KEY": queue.key,
    }


def test_settings_and_scripts_are_the_workspaces(emu: Emulator) -> None:
    """Set, read, and taken back by None."""
    assert emu.settings(default_ttl_seconds=5, reclaim_ms=10).reclaim_ms == 10
    assert emu.settings(default_ttl_seconds=None).default_ttl_seconds == 300
    assert emu.settings().reclaim_ms == 10
    emu.script("steps: [{say: hello}]")
    emu.script({"steps": [{"say": "bye"}]}, name="other")
    client = emu.client()
    assert client.get("/_emulator/scripts/default", cast_to=dict[str, Any])["script"]["steps"] == [{"say": "hello"}]
    assert client.get("/_emulator/scripts/other", cast_to=dict[str, Any])["script"]["steps"] == [{"say": "bye"}]


def test_calls_go_wrong_as_they_are_told_to(emu: Emulator, tmp_path: Path) -> None:
    """By rules, by ready scenarios, by a file; counted, listed, taken back."""
    queue = emu.environment()
    emu.enqueue(queue, 2)
    work = emu.client(max_retries=0).beta.environments.work
    [added] = emu.faults.add({"on": "poll", "do": {"status": 529, "message": "busy"}})
    with pytest.raises(anthropic.InternalServerError, match="busy"):
        work.poll(queue.id)
    item = work.poll(queue.id)
    assert item is not None
    assert [(rule.id, rule.asked, rule.hits) for rule in emu.faults.list()] == [(added.id, 2, 1)]
    file = tmp_path / "mine.yaml"
    file.write_text("rules: [{on: stop, do: {empty: true}}]")
    with pytest.raises(WorkyardRefused, match=r"rules\.0\.do: empty is only possible with on: poll"):
        emu.faults.scenario(file)
    file.write_text("rules: [{on: stop, do: {status: 409}}]")
    assert [rule.rule["on"] for rule in emu.faults.scenario(file)] == ["stop"]
    assert [rule.rule["match"] for rule in emu.faults.scenario("lost-ack", environment=queue)] == [
        {"environment_id": queue.id}
    ]
    with pytest.raises(ValueError, match="sets its own"):
        emu.faults.scenario(file, environment=queue)
    assert emu.faults.clear() == 3
    assert emu.faults.list() == []
    assert work.stop(item.id, environment_id=queue.id, force=True).state == "stopped"


def test_what_is_waited_for_is_told_by_the_server(emu: Emulator) -> None:
    """A state, figures, or that nothing is left to do; what does not come in time is an error that says what there was."""
    queue = emu.environment()
    [item] = emu.enqueue(queue)
    work = emu.client().beta.environments.work
    with pytest.raises(TimeoutError, match="queued"):
        emu.wait(item, "starting", timeout=0.05)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(emu.wait, item, "starting")
        work.poll(queue.id)
        work.ack(item.id, environment_id=queue.id)
        assert waiting.result(5).state == "starting"
        waiting = pool.submit(emu.wait, idle=True, environment=queue)
        assert emu.wait(stats={"depth": 0, "leased": 1}).leased == 1
        work.stop(item.id, environment_id=queue.id, force=True)
        assert waiting.result(5).leased == 0
    with pytest.raises(WorkyardRefused, match="work_id and state must be given together"):
        emu.wait(item)


def test_a_workspace_comes_back_as_it_was(emu: Emulator) -> None:
    """Also elsewhere, once it is gone; and with a seed, the same calls give the same ids."""
    assert emu.settings(id_seed=42).id_seed == 42
    emu.clock.freeze(NOON)
    queue = emu.environment()
    items = emu.enqueue(queue, 2)
    document = emu.state()
    emu.reset()
    restored = emu.restore(document)
    assert (restored.environments, restored.work) == (1, 2)
    assert [item.id for item in emu.work(queue)] == [item.id for item in reversed(items)]
    assert emu.state() == document
    emu.reset()
    emu.settings(id_seed=42)
    assert emu.environment() == queue


def test_what_was_sent_is_told_counted_and_verified(emu: Emulator) -> None:
    """With what came nearest, where it is not as expected."""
    queue = emu.environment()
    work = emu.client(max_retries=0).beta.environments.work
    for worker in ("a", "a", "b"):
        work.poll(queue.id, anthropic_worker_id=worker)
    with pytest.raises(anthropic.NotFoundError):
        work.ack("work_none", environment_id=queue.id)
    assert emu.journal.count(on="poll") == 3
    assert emu.journal.count(on="poll", worker_id="a") == 2
    [refused] = emu.journal.list(status="4xx", environment_id=queue.id, bodies=True)
    assert isinstance(refused, JournalEntryWithBodies)
    assert (refused.on, refused.status, refused.work_id) == ("ack", 404, "work_none")
    assert "Work item work_none not found." in refused.response_body
    assert emu.journal.verify({"on": "poll", "exactly": 3}, {"on": "ack", "status": 404}, in_order=True).ok
    with pytest.raises(
        AssertionError, match=r"(?s)found 0, expected at least 1.*nearest: POST .*: 404; differs in status"
    ):
        emu.journal.verify({"on": "ack", "status": 200})


def test_an_instant_without_a_time_zone_is_refused(emu: Emulator) -> None:
    """It could mean any; with one it is that instant."""
    with pytest.raises(ValueError, match="time zone"):
        emu.clock.freeze(datetime(2031, 1, 1))
    assert emu.clock.freeze(datetime(2031, 1, 1, tzinfo=UTC)).now == "2031-01-01T00:00:00.000000Z"


def test_what_a_newer_server_adds_is_passed_over() -> None:
    """By whatever helper reads it."""
    answer = {"removed_keys": 1, "leftover_keys": 0, "seconds": 0.1}
    assert read(ResetDone, answer).removed_keys == 1


def test_callers_that_await_get_the_same(emu: Emulator) -> None:
    """The twin has every helper, on the same workspace, and its own client; a wait that is given up ends at once."""

    async def use() -> None:
        async with emu.asynchronous() as twin:
            queue = await twin.environment()
            items = await twin.enqueue(queue, 3)
            await twin.clock.freeze(NOON)
            assert [item.id for item in emu.work(queue)] == [item.id for item in reversed(items)]
            polled = await twin.client().beta.environments.work.poll(queue.id)
            assert polled is not None
            assert polled.id == items[0].id
            assert (await twin.stats(queue)).pending == 1
            assert (await twin.clock.now()) == emu.clock.now()
            with pytest.raises(WorkyardRefused):
                await twin.stats("env_none")
            async with twin.workspace() as other:
                assert (await other.clock.read()).mode == "real"

    asyncio.run(use())


def test_an_asynchronous_one_runs_a_server_of_its_own_too() -> None:
    async def use() -> None:
        async with AsyncEmulator(default_ttl=9) as emu:
            assert (await emu.settings()).default_ttl_seconds == 9

    threads = set(threading.enumerate())
    asyncio.run(use())
    assert {thread for thread in threading.enumerate() if thread.name.startswith("workyard")} <= threads


def test_clients_reach_it_whatever_proxy_the_environment_names(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so do the helpers; a client's own connections are left to it."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with emu.workspace() as here:
        assert here.client(max_retries=0).beta.environments.list().data == []
    with anthropic.DefaultHttpxClient(timeout=3) as own:
        assert emu.client(http_client=own)._client is own


def test_without_the_sdk_all_but_its_clients_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """They say what is missing."""
    with Emulator() as emu:
        monkeypatch.setitem(sys.modules, "anthropic", None)
        with pytest.raises(ModuleNotFoundError, match="pip install anthropic"):
            emu.client()
        assert emu.stats(emu.environment()).depth == 0
