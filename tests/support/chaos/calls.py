"""One connection of the chaos suite's load: makes a call, journals it, repeats it until it is answered, can be hung up on.
Knows HTTP and what "not answered" means; no verb of the API.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

#: A client that has waited for this long gives up. Longer than any request may take, so that one which hangs is seen.
GIVE_UP_S = 8.0
#: The same call is repeated for this long, counted from the end of the load: then something is wrong.
RETRY_FOR_S = 30.0
_NO_LINGER = struct.pack("ii", 1, 0)


class LoadFailed(Exception):
    """A call was not answered whatever was tried, or answered as no correct server would."""


@dataclass(slots=True)
class Call:
    """One request in the journal. Instants are of the machine's monotonic clock, which all its processes share.

    Attributes:
        lane: who sent it.
        port: the server it went to.
        verb: of the API, or `enqueue`.
        work: the item, or an enqueue's idempotency key.
        expected: what a heartbeat expected.
        sent: whether the server may have seen it.
        status: of the answer; 0: none came.
        answer: the answer's JSON.
        adopted: a refused heartbeat whose answer shows that an earlier try was carried out.
    """

    lane: str
    port: int
    verb: str
    work: str
    begun: float
    expected: str = ""
    sent: bool = False
    ended: float = 0.0
    status: int = 0
    answer: Any = None
    adopted: bool = False

    @property
    def in_doubt(self) -> bool:
        """Return whether the caller cannot know if the step was done."""
        return self.sent and self.status in (0, 503)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one process of the load is to do. `lanes` is the number of connections; `journal` the file for the calls."""

    role: str
    name: str
    lanes: int
    ports: list[int]
    api_key: str
    environment: str
    seed: int
    journal: str


class Lane:
    """One connection and its user, one call at a time."""

    def __init__(self, given: Assignment, number: int) -> None:
        self.name = f"{given.name}.{number}"
        self.journal: list[Call] = []
        self.finishing = threading.Event()
        self.random = random.Random(f"{given.seed} {self.name}")
        self._given = given
        self._turn = number
        self._headers = {"x-api-key": given.api_key, "anthropic-worker-id": self.name}
        self._link: http.client.HTTPConnection | None = None
        self._under_way: socket.socket | None = None
        self._finish_by = float("inf")

    def finish(self) -> None:
        """Ask it to come to an end."""
        self._finish_by = time.monotonic() + RETRY_FOR_S
        self.finishing.set()

    def run(self) -> None:
        """Play its role until asked to finish."""
        raise NotImplementedError

    def drop(self, chance: random.Random) -> bool:
        """Hang up on the call under way, with a FIN or an RST; tell whether there was one. For another thread."""
        link = self._under_way
        if link is None:
            return False
        with suppress(OSError):
            if chance.random() < 0.5:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                link.shutdown(socket.SHUT_RD)  # Says nothing to the server; the close that follows is the RST.
            else:
                link.shutdown(socket.SHUT_RDWR)
        return True

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def call(self, verb: str, method: str, path: str, work: str = "", expected: str = "", body: Any = None) -> Call:
        """Make one call and journal it; a failed one makes the next go to another server."""
        port = self._given.ports[self._turn % len(self._given.ports)]
        call = Call(self.name, port, verb, work, time.monotonic(), expected)
        try:
            if self._link is None:
                self._link = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)
                self._link.connect()
            self._under_way = self._link.sock
            call.sent = True
            headers = self._headers | ({} if body is None else {"content-type": "application/json"})
            self._link.request(method, path, None if body is None else json.dumps(body), headers)
            response = self._link.getresponse()
            call.answer = json.loads(response.read())
            call.status = response.status
        except (OSError, http.client.HTTPException, ValueError) as error:
            call.answer = repr(error)
            self._under_way = None
            self.close()
            self._turn += 1
        self._under_way = None
        call.ended = time.monotonic()
        self.journal.append(call)
        return call

    def answered(self, verb: str, method: str, path: str, **keywords: Any) -> tuple[Call, bool]:
        """Repeat a call until it is answered; tell too whether an earlier try may have been carried out.

        Raises:
            LoadFailed: no answer came, though the load was to finish.
        """
        doubt = False
        while True:
            call = self.call(verb, method, path, **keywords)
            if call.status not in (0, 503):
                return call, doubt
            doubt = doubt or call.in_doubt
            if time.monotonic() > self._finish_by:
                raise LoadFailed(f"{self.name}: {verb} was never answered; last: {call.status} {call.answer}")
            time.sleep(self.random.uniform(0.01, 0.04))  # A client's pause before it tries again.

    def path(self, work: str = "", verb: str = "") -> str:
        """Return the path of the environment's work, an item, or a verb on it."""
        parts = ("/v1/environments", self._given.environment, "work", work, verb)
        return "/".join(part for part in parts if part)

    def of(self, call: Call, *statuses: int) -> Any:
        """Return the answer of a call that must have one of these statuses.

        Raises:
            LoadFailed: it has another.
        """
        if call.status not in statuses:
            raise LoadFailed(f"{self.name}: {call.verb} {call.work} answered {call.status}: {call.answer}")
        return call.answer


def instant_us(text: str) -> int:
    """Return a timestamp of the API in microseconds since 1970."""
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
