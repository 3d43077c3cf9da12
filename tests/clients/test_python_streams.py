"""The SDK's own client follows a session over cut connections and two servers, and misses nothing.

Rules: `sessions.stream.*`.
"""

from __future__ import annotations

import random
import select
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import takewhile
from urllib.parse import urlsplit

import anthropic
import httpx2

from tests.support.harness import SILENT, Api, RedisServer, WorkyardServer, running_server
from tests.support.sessions import MESSAGE, events, send, session
from tests.support.streams import ANSWERED

DISCONNECTS = 200
#: The most that a connection lets through, bytes: more than its head, a sign of life, and the events.
LONGEST = 2000
#: A connection on which nothing comes is cut too.
QUIET_S = 0.05


class CuttingProxy:
    """A TCP proxy that takes each connection to any of some servers, and cuts it at a random byte of the answer."""

    def __init__(self, chance: random.Random, *servers: str) -> None:
        self._chance = chance
        self._ports = [urlsplit(each).port for each in servers]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, socket.create_connection(("127.0.0.1", self._chance.choice(self._ports))) as server:
                    self._pass_on(client, server, self._chance.randrange(1, LONGEST))

    @staticmethod
    def _pass_on(client: socket.socket, server: socket.socket, left: int) -> None:
        with suppress(OSError):
            server.sendall(client.recv(1 << 16))
            while left and select.select([server], [], [], QUIET_S)[0]:
                data = server.recv(left)
                client.sendall(data)
                left -= len(data)


def test_the_sdks_client_misses_nothing_over_cut_connections_and_two_servers(
    redis_server: RedisServer, redis_backed: WorkyardServer, new_api: Callable[..., Api]
) -> None:
    """It opens the stream, lists back to what it knows, and reads until the connection breaks, 200 times; the writer goes
    through one server and the other. No stream brings an event twice, or out of the order of the list."""
    chance = random.Random(11)
    api = new_api(redis_backed.url)
    api.script(SILENT)
    made = str(session(api, api.queue())["id"])
    known: set[str] = set()
    streams: list[list[str]] = []
    with ExitStack() as stack:
        second = stack.enter_context(running_server("--redis-url", redis_server.url))
        writers = [api, new_api(second.url, api.api_key, reset=False)]
        proxy = stack.enter_context(closing(CuttingProxy(chance, api.url, second.url)))
        client = partial(anthropic.Anthropic, api_key=api.api_key, max_retries=0)
        direct = stack.enter_context(client(base_url=second.url))
        through = stack.enter_context(client(base_url=proxy.url))
        stream = through.beta.sessions.events.stream
        permits = threading.Semaphore(0)

        def write() -> None:
            for number in range(DISCONNECTS):
                assert permits.acquire(timeout=30)
                send(writers[number % 2], made, MESSAGE)

        def read_back() -> None:
            newest_first = (event.id for event in direct.beta.sessions.events.list(made, order="desc", limit=20))
            known.update([*takewhile(lambda each: each not in known, newest_first)])

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(DISCONNECTS):
            heard: list[str] = []
            # Cut in its head, it never was a stream.
            with suppress(httpx2.HTTPError, anthropic.APIConnectionError), stream(made) as answer:
                permits.release()
                read_back()
                for event in answer:
                    heard.append(event.id)  # type: ignore[union-attr] # Deltas have none; they must be asked for.
            known.update(heard)
            streams.append(heard)
        permits.release(DISCONNECTS)
        writer.join(30)
        read_back()
    listed = [event["id"] for event in events(api, made)]
    assert len(listed) == 1 + DISCONNECTS * len(ANSWERED)
    assert known == set(listed)
    place = {identifier: number for number, identifier in enumerate(listed)}
    for heard in filter(None, streams):
        first = place[heard[0]]
        assert heard == listed[first : first + len(heard)]
    assert sum(map(len, streams)) > DISCONNECTS / 2
