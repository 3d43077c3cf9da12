"""The load of the bench: one lean client process with several keep-alive connections. Knows HTTP/1.1, no rule of the API.

As a program it reads one job a line from standard input and writes one result a line to standard output, until the
input ends. It speaks through bare sockets, so that on a small machine it is the server that bounds a figure.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

_ANSWER_WITHIN_S = 10.0
_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length: "
_BEAT = b'"last_heartbeat":"'


class BadAnswer(Exception):
    """A server answered anything but 200, or not at all."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one client process is to do.

    Attributes:
        port: the server's, on 127.0.0.1.
        paths: one a connection, so one at a time under way on each.
        method: of every request.
        headers: of every request.
        echo: send the `last_heartbeat` of each answer as `expected_last_heartbeat` of the next request.
        seconds: how long to go on.
    """

    port: int
    paths: list[str]
    seconds: float
    headers: dict[str, str]
    method: str = "GET"
    echo: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What one client process achieved: latencies of all requests, wall and CPU seconds, or what went wrong."""

    latencies_us: list[int]
    wall_s: float
    cpu_s: float
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


def _body(data: bytes) -> bytes | None:
    """Return the body of a whole answer, None while some of it is missing.

    Raises:
        BadAnswer: the status is not 200.
    """
    end = data.find(_END)
    if end < 0:
        return None
    start = data.find(_LENGTH, 0, end + 2)
    length = int(data[start + len(_LENGTH) : data.index(b"\r\n", start + 2)]) if start >= 0 else 0
    if len(data) < end + 4 + length:
        return None
    if not data.startswith(b"HTTP/1.1 200 "):
        raise BadAnswer(data.decode("utf-8", "replace")[:500])
    return data[end + 4 :]


class Link:
    """One keep-alive connection for single calls. `took_s` is what the last one took."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self._socket = _connected(port)
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
        data = b""
        while (body := _body(data)) is None:
            part = self._socket.recv(1 << 20)
            if not part:
                raise BadAnswer("the server closed the connection")
            data += part
        self.took_s = time.perf_counter() - self._sent_at
        return json.loads(body)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the JSON of its answer."""
        self.send(method, path, body)
        return self.receive()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class _Lane:
    """One connection under load."""

    __slots__ = ("data", "echo", "job", "link", "message", "path", "sent_at")

    def __init__(self, job: Job, path: str) -> None:
        self.job, self.path, self.echo = job, path, job.echo
        self.link = _connected(job.port)
        self.message = request(job.method, path, job.headers)
        self.data = b""
        self.sent_at = 0.0

    def send(self) -> None:
        self.sent_at = time.perf_counter()
        self.link.sendall(self.message)

    def take(self) -> bool:
        """Take what has come; tell whether the answer is whole."""
        part = self.link.recv(65536)
        if not part:
            raise BadAnswer("the server closed the connection")
        self.data = self.data + part if self.data else part
        body = _body(self.data)
        if body is None:
            return False
        if self.echo:
            start = body.index(_BEAT) + len(_BEAT)
            beat = body[start : body.index(b'"', start)].decode()
            self.message = request(self.job.method, f"{self.path}?expected_last_heartbeat={beat}", self.job.headers)
        self.data = b""
        return True


def load(job: Job) -> Done:
    """Send requests on every connection, each as soon as the one before it is answered, until the time is up.

    Raises:
        BadAnswer: an answer was not 200, or none came for ten seconds.
    """
    poller = select.epoll()
    lanes: dict[int, _Lane] = {}
    latencies: list[int] = []
    try:
        for path in job.paths:
            lane = _Lane(job, path)
            lanes[lane.link.fileno()] = lane
            poller.register(lane.link, select.EPOLLIN)
        cpu, started = time.process_time(), time.perf_counter()
        deadline = started + job.seconds
        for lane in lanes.values():
            lane.send()
        busy = len(lanes)
        while busy:
            events = poller.poll(_ANSWER_WITHIN_S)
            if not events:
                raise BadAnswer(f"no answer within {_ANSWER_WITHIN_S:.0f} s")
            for number, _ in events:
                lane = lanes[number]
                if not lane.take():
                    continue
                now = time.perf_counter()
                latencies.append(int((now - lane.sent_at) * 1e6))
                if now < deadline:
                    lane.send()
                else:
                    busy -= 1
        return Done(latencies, time.perf_counter() - started, time.process_time() - cpu)
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
            done = Done([], 0.0, 0.0, f"{type(error).__name__}: {error}")
        print(json.dumps(asdict(done)), flush=True)


if __name__ == "__main__":
    main()
