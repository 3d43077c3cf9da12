"""The load of the bench: one lean client process with many keep-alive connections. What is said on one connection is a
generator: it yields a request and is sent the body of the answer. Knows HTTP/1.1, and of the API what a worker calls.

As a program it reads one job a line from standard input and writes one result a line to standard output, until the
input ends. It speaks through bare sockets, so that on a small machine it is the server that bounds a figure.
"""

from __future__ import annotations

import json
import random
import select
import socket
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from typing import Any

_ANSWER_WITHIN_S = 10.0
_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length: "
_CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"
_BEAT = b'"last_heartbeat":"'
_WORK = b'{"id":"'


class BadAnswer(Exception):
    """A server answered anything but 200, or not at all."""


class Refusal(BadAnswer):
    """An answer came whose status is not 200."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(answer.decode("utf-8", "replace")[:500])
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Job:
    """The job of one client process.

    Attributes:
        port: the server's, on 127.0.0.1.
        paths: one a connection, so one at a time under way on each; for `each`, what the connections share.
        seconds: how long to go on; `each` goes on until every path was asked for.
        headers: of every request.
        method: of every request.
        talk: what is said on a connection: `repeat`, `each`, `cycle` or `work` (see `TALKS`).
        echo: send the `last_heartbeat` of each answer as `expected_last_heartbeat` of the next request.
        connections: how many connections share the paths of `each`.
    """

    port: int
    paths: list[str]
    seconds: float
    headers: dict[str, str]
    method: str = "GET"
    talk: str = "repeat"
    echo: bool = False
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """The result of one client process: latencies of all requests, wall and CPU seconds, or the error.

    `taken`: when each item came to a poll of the talk `work` (`time.perf_counter`, which all processes share).
    """

    latencies_us: list[int]
    wall_s: float
    cpu_s: float
    taken: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def request(method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *[f"{name}: {value}" for name, value in headers.items()]]
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    elif method == "POST":
        lines.append("content-length: 0")
    return "\r\n".join(lines).encode() + _END + (body or b"")


def _connected(port: int) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_WITHIN_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def _body(data: bytes | bytearray) -> bytes | bytearray | None:
    """Return the body of a whole answer, None while some of it is missing.

    Raises:
        Refusal: the status is not 200.
    """
    end = data.find(_END)
    if end < 0:
        return None
    start = data.find(_LENGTH, 0, end + 2)
    if start >= 0:
        if len(data) < end + 4 + int(data[start + len(_LENGTH) : data.index(b"\r\n", start + 2)]):
            return None
    elif _CHUNKED in data[:end] + b"\r\n" and not data.endswith(b"\r\n0\r\n\r\n"):
        return None
    if not data.startswith(b"HTTP/1.1 200 "):
        raise Refusal(bytes(data))
    return data[end + 4 :]


class Link:
    """One keep-alive connection for single calls. `took_s` is what the last one took."""

    def __init__(self, port: int, headers: dict[str, str], answer_within_s: float = _ANSWER_WITHIN_S) -> None:
        self._socket = _connected(port)
        self._socket.settimeout(answer_within_s)
        self._headers = headers
        self._sent_at = 0.0
        self.took_s = 0.0

    def send(self, method: str, path: str, body: Any = None) -> float:
        """Send a request; return the instant before it went out (`time.perf_counter`)."""
        data = request(method, path, self._headers, None if body is None else json.dumps(body).encode())
        self._sent_at = time.perf_counter()
        self._socket.sendall(data)
        return self._sent_at

    def receive(self) -> Any:
        """Wait for the answer and return its JSON.

        Raises:
            BadAnswer: the status is not 200, or the server hung up.
        """
        return json.loads(self.receive_body())

    def receive_body(self) -> bytes | bytearray:
        """Wait for the answer and return its body as it came."""
        data = bytearray()
        while (body := _body(data)) is None:
            part = self._socket.recv(1 << 20)
            if not part:
                raise BadAnswer("the server closed the connection")
            data += part
        self.took_s = time.perf_counter() - self._sent_at
        return body

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the JSON of its answer."""
        self.send(method, path, body)
        return self.receive()

    def refused(self, method: str, path: str) -> bytes:
        """Send a request that is refused; return the whole answer.

        Raises:
            BadAnswer: the status is 200.
        """
        self.send(method, path)
        try:
            body = self.receive_body()
        except Refusal as refusal:
            return refusal.answer
        raise BadAnswer(f"not refused: {bytes(body)!r}")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


Talk = Generator[bytes, bytes | bytearray, None]


def _repeat(job: Job, path: str, deadline: float, taken: dict[str, float]) -> Talk:
    """Send one request again and again."""
    message = request(job.method, path, job.headers)
    while True:
        body = yield message
        if time.perf_counter() > deadline:
            return
        if job.echo:
            start = body.index(_BEAT) + len(_BEAT)
            beat = body[start : body.index(b'"', start)].decode()
            message = request(job.method, f"{path}?expected_last_heartbeat={beat}", job.headers)


def _each(job: Job, path: str, deadline: float, taken: dict[str, float]) -> Talk:
    """Send one request for each of several paths."""
    for one in path.split():
        yield request(job.method, one, job.headers)


def _cycle(job: Job, path: str, deadline: float, taken: dict[str, float]) -> Talk:
    """Take one item after the other through its life: enqueue, poll, ack, heartbeat, stop."""
    enqueue = request("POST", path.replace("/v1/", "/_emulator/"), job.headers, b'{"count":1}')
    poll = request("GET", f"{path}/poll", job.headers)
    while time.perf_counter() < deadline:
        yield enqueue
        item = f"{path}/{_work_id((yield poll))}"
        yield request("POST", f"{item}/ack", job.headers)
        yield request("POST", f"{item}/heartbeat?expected_last_heartbeat=NO_HEARTBEAT", job.headers)
        yield request("POST", f"{item}/stop", job.headers, b'{"force":true}')


def _work(job: Job, path: str, deadline: float, taken: dict[str, float]) -> Talk:
    """Wait for work as a worker does, one long poll after the other, and do away with what comes."""
    # Workers that began at different times do not all come back in the same moment.
    poll = request("GET", f"{path}/poll?block_ms={random.randint(1, 999)}", job.headers)
    while time.perf_counter() < deadline:
        body = yield poll
        poll = request("GET", f"{path}/poll?block_ms=999", job.headers)
        if body != b"null":
            work_id = _work_id(body)
            taken[work_id] = time.perf_counter()
            yield request("POST", f"{path}/{work_id}/ack", job.headers)
            yield request("POST", f"{path}/{work_id}/stop", job.headers, b'{"force":true}')


def _work_id(body: bytes | bytearray) -> str:
    if not body.startswith(_WORK):
        raise BadAnswer(f"no work item: {body[:200]!r}")
    return body[len(_WORK) : body.index(b'"', len(_WORK))].decode()


TALKS: dict[str, Callable[[Job, str, float, dict[str, float]], Talk]] = {
    "repeat": _repeat,
    "each": _each,
    "cycle": _cycle,
    "work": _work,
}


class _Lane:
    """One connection under load."""

    __slots__ = ("data", "link", "sent_at", "talk")
    talk: Talk

    def __init__(self, port: int) -> None:
        self.link = _connected(port)
        self.data = b""
        self.sent_at = 0.0

    def send(self, message: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.link.sendall(message)

    def take(self) -> bytes | bytearray | None:
        """Process received bytes; return the answer's body if it is complete."""
        part = self.link.recv(65536)
        if not part:
            raise BadAnswer("the server closed the connection")
        self.data = self.data + part if self.data else part
        body = _body(self.data)
        if body is not None:
            self.data = b""
        return body


def load(job: Job) -> Done:
    """Talk on every connection until each talk has ended.

    Raises:
        BadAnswer: an answer was not 200, or none came for ten seconds.
    """
    poller = select.epoll()
    lanes: dict[int, _Lane] = {}
    latencies: list[int] = []
    taken: dict[str, float] = {}
    shares = job.paths
    if job.talk == "each":
        lots = (job.paths[number :: job.connections] for number in range(job.connections))
        shares = [" ".join(lot) for lot in lots if lot]
    try:
        for _ in shares:
            lane = _Lane(job.port)
            lanes[lane.link.fileno()] = lane
            poller.register(lane.link, select.EPOLLIN)
        cpu, started = time.process_time(), time.perf_counter()
        for lane, share in zip(lanes.values(), shares, strict=True):
            lane.talk = TALKS[job.talk](job, share, started + job.seconds, taken)
            lane.send(next(lane.talk))
        busy = len(lanes)
        while busy:
            events = poller.poll(_ANSWER_WITHIN_S)
            if not events:
                raise BadAnswer(f"no answer within {_ANSWER_WITHIN_S:.0f} s")
            for number, _ in events:
                lane = lanes[number]
                body = lane.take()
                if body is None:
                    continue
                latencies.append(int((time.perf_counter() - lane.sent_at) * 1e6))
                try:
                    lane.send(lane.talk.send(body))
                except StopIteration:
                    busy -= 1
        return Done(latencies, time.perf_counter() - started, time.process_time() - cpu, taken)
    finally:
        for lane in lanes.values():
            lane.link.close()
        poller.close()


def main() -> None:
    """Do the jobs that come in."""
    for line in sys.stdin:
        try:
            done = load(Job(**json.loads(line)))
        except (BadAnswer, OSError, ValueError) as error:
            done = Done([], 0.0, 0.0, error=f"{type(error).__name__}: {error}")
        print(json.dumps(asdict(done)), flush=True)


if __name__ == "__main__":
    main()
