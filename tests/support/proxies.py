"""A TCP proxy between Workyard and Redis that drops answers."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress

from workyard_queue.lua.sessions import SessionDue

#: No request may take longer than Redis' socket timeout of two seconds and some.
ANSWERED_WITHIN_S = 4.0
#: Scripts that a server also runs periodically, even in the middle of a test.
LOOK_FOR_TURNS = SessionDue.bound.plain[1].encode()


class AnswerDroppingProxy:
    """A TCP proxy to a Redis that, once armed, cuts the connection instead of passing on the answer to a script."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._skip = 0
        self._armed = threading.Event()
        self.dropped = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, skip: int = 0) -> None:
        """Drop the answer to the next script, or to the one after *skip* others."""
        self._skip = skip
        self.dropped.clear()
        self._armed.set()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pump, args=(client,), daemon=True).start()

    def _pump(self, client: socket.socket) -> None:
        # Either side may reset its connection at any time, above all when a test ends.
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._target)) as redis:
            while True:
                ready, _, _ = select.select([client, redis], [], [])
                for source in ready:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    if source is redis:
                        client.sendall(data)
                        continue
                    redis.sendall(data)
                    if self._armed.is_set() and b"EVAL" in data and LOOK_FOR_TURNS not in data:
                        if self._skip:
                            self._skip -= 1
                            continue
                        self._armed.clear()
                        redis.recv(1 << 16)  # Redis has run it, but no client will learn that.
                        self.dropped.set()
                        return
