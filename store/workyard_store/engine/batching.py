"""A lane: the commands to one Redis server, batched. Owns its connections and the making of clients from a URL; knows
no key, no script and no slot.

Commands issued in one tick of the event loop share one round trip (a pipeline without MULTI). At most `connections`
pipelines are under way, so any number of requests and waiting polls share a handful of connections.

Nothing is ever sent twice: a command whose answer was lost may have run, and redis-py would repeat it by default.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from .urls import Address, RedisUrl, address_text

#: Commands in one pipeline: more would only make the first of them wait for the last.
_BATCH = 64
#: Seconds an answer may take. A lost connection is noticed immediately; this is for a Redis that hangs.
SOCKET_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 1.0
#: Seconds a Sentinel may take to answer; several of them may have to be asked in turn.
_SENTINEL_TIMEOUT_S = 0.5
#: Seconds that commands under way get when a lane is closed: a Redis that hangs must not delay the shutdown.
_CLOSE_WITHIN_S = 0.5

#: Errors of a lost connection. uvloop raises RuntimeError on a write to a connection that was closed a moment ago.
LOST = (RedisError, OSError, RuntimeError)

Reply = Any
Command = tuple[Any, ...]


class Lane:
    """Commands on their way to one server, in order, and their replies. Belongs to one event loop.

    Attributes:
        client: redis-py's client, for what does not belong into a batch.
        where: the server's address, for people to read.
    """

    def __init__(
        self,
        client: redis_asyncio.Redis,
        *,
        connections: int,
        where: str,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.client = client
        self.where = where
        self._connections = connections
        self._on_close = on_close
        self._waiting: list[tuple[Command, asyncio.Future[Reply]]] = []
        self._scheduled = False
        self._under_way: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Do nothing: a lane connects on its first use."""

    def lanes(self) -> list[Lane]:
        """Return the lanes to all servers that hold data: this one."""
        return [self]

    def enqueue(self, command: Command) -> asyncio.Future[Reply]:
        """Send *command* with the others of this tick. Its result is the reply, or the error as a value."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self._waiting.append((command, future))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        return future

    def _flush(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._under_way) < self._connections:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            task = asyncio.create_task(self._send(batch))
            self._under_way.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._waiting:
            self._flush()

    async def _send(self, batch: list[tuple[Command, asyncio.Future[Reply]]]) -> None:
        replies: list[Reply]
        try:
            if len(batch) == 1:
                try:
                    replies = [await self.client.execute_command(*batch[0][0])]  # type: ignore[no-untyped-call]
                except redis_asyncio.ResponseError as error:
                    replies = [error]
            else:
                pipeline = self.client.pipeline(transaction=False)
                for command, _ in batch:
                    pipeline.execute_command(*command)
                replies = await pipeline.execute(raise_on_error=False)
        except (Exception, asyncio.CancelledError) as error:
            # Pass on every error: otherwise the waiting callers would wait for ever.
            fault = error if isinstance(error, RedisError) else RedisError(repr(error))
            if isinstance(error, redis_asyncio.TimeoutError):
                # Commands queued for a Redis that hangs have waited this long already, and would wait as long again.
                batch, self._waiting = batch + self._waiting, []
            replies = [fault] * len(batch)
        for (_, future), reply in zip(batch, replies, strict=True):
            if not future.done():
                future.set_result(reply)

    async def renew(self) -> None:
        """Drop the idle connections, so that the next command resolves the address again."""
        with suppress(*LOST):
            await self.client.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Wait briefly for the commands under way, and close the connections."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_WITHIN_S):
                while self._under_way:
                    await asyncio.gather(*self._under_way, return_exceptions=True)
        await self.client.aclose()
        if self._on_close is not None:
            await self._on_close()


def lane_to(url: RedisUrl, address: Address | None, connections: int) -> Lane:
    """Return a lane to the server at *address*, as the URL says to connect; None: to the one that the URL names."""
    if address is None and url.form == "sentinel":
        return _lane_by_sentinel(url, connections)
    if url.form == "unix":
        place: dict[str, Any] = {"unix_socket_path": url.path}
    else:
        address = address or url.hosts[0]
        place = {"host": address[0], "port": address[1], "ssl": url.tls}
    client = redis_asyncio.Redis(**place, **_as_user(url))
    return Lane(client, connections=connections, where=address_text(address) if address else url.where)


def _lane_by_sentinel(url: RedisUrl, connections: int) -> Lane:
    """Return a lane that asks the Sentinels for the primary each time it opens a connection."""
    as_sentinel_user = _timeouts(_SENTINEL_TIMEOUT_S, _SENTINEL_TIMEOUT_S) | {
        "username": url.sentinel_username,
        "password": url.sentinel_password,
        "ssl": url.tls,
        **dict(url.options),
    }
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        url.hosts, sentinel_kwargs=as_sentinel_user, ssl=url.tls, **_as_user(url)
    )
    client = sentinel.master_for(url.service)
    return Lane(client, connections=connections, where=url.where, on_close=sentinel.aclose)


def _as_user(url: RedisUrl) -> dict[str, Any]:
    return _timeouts(SOCKET_TIMEOUT_S, CONNECT_TIMEOUT_S) | {
        "db": url.db,
        "username": url.username,
        "password": url.password,
        **dict(url.options),
    }


def _timeouts(answer_s: float, connect_s: float) -> dict[str, Any]:
    return {
        "protocol": 2,
        "decode_responses": True,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "socket_timeout": answer_s,
        "socket_connect_timeout": connect_s,
    }
