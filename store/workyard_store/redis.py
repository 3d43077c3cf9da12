"""The one module that knows Redis connections: engines, batching, scripts, publish/subscribe, and the edge where
redis-py's errors become ours. Knows no key but the format marker and no rule of the API.

Commands issued in one tick of the event loop share one round trip (a pipeline without MULTI). At most `connections`
pipelines are under way, so any number of requests and waiting polls share a handful of connections.

Nothing is ever sent twice: a command whose answer was lost may have run, and redis-py would repeat it by default.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from importlib.resources.abc import Traversable
from typing import Any, Literal
from urllib.parse import urlsplit

import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from .errors import StartupRefused, StorageUnavailable
from .keys import LUA_NAMES, Keys

_log = logging.getLogger("workyard.redis")

#: Version of the data under a key prefix. Raise it whenever stored data changes its meaning.
DATA_FORMAT = "2"
#: Older versions that `workyard_queue.upgrade` brings up to date.
UPGRADABLE_FORMATS = ("1",)
OLDEST_REDIS = (7, 0)
#: Commands in one pipeline: more would only make the first of them wait for the last.
_BATCH = 64
#: Seconds an answer may take. A lost Redis is noticed at once; this is for one that hangs.
_SOCKET_TIMEOUT_S = 2.0
_CONNECT_TIMEOUT_S = 1.0
#: Seconds that commands under way get when the engine is closed: a Redis that hangs must not hold up the end.
_CLOSE_WITHIN_S = 0.5
_RESUBSCRIBE_PAUSE_S = 0.2
_LISTEN_S = 30.0
_SCAN_COUNT = 1000

Reply = Any
_Command = tuple[Any, ...]


class Script:
    """A Lua script: the prelude of key names, the shared parts it names, and its own file."""

    def __init__(self, name: str, *files: Traversable) -> None:
        self.name = name
        names = "\n".join(f"local {local} = BASE .. '{suffix}'" for local, suffix in LUA_NAMES.items())
        prelude = f"local BASE = string.match(KEYS[1], '^(.*:)[a-z]+$')\n{names}\n"
        self.text = prelude + "\n".join(file.read_text(encoding="utf-8") for file in files)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Engine:
    """A connection to one Redis, embedded or real. Open it inside a running event loop; close it in the same.

    Raises (every call): StorageUnavailable, when Redis did not answer or refused the command.
    """

    def __init__(
        self, client: redis_asyncio.Redis, *, name: Literal["embedded", "redis"], keys: Keys, connections: int
    ):
        self.name = name
        self.keys = keys
        self._client = client
        self._connections = connections
        self._waiting: list[tuple[_Command, asyncio.Future[Reply]]] = []
        self._scheduled = False
        self._under_way: set[asyncio.Task[None]] = set()
        self._subscription: asyncio.Task[None] | None = None

    @classmethod
    def embedded(cls, keys: Keys) -> Engine:
        """Return an engine that keeps everything in this process (fakeredis with Lua): gone when the process ends."""
        import fakeredis

        # protocol 2: with 3, fakeredis hands maps to Lua where Redis hands arrays.
        client = fakeredis.FakeAsyncRedis(
            server=fakeredis.FakeServer(version=(7, 0)), protocol=2, decode_responses=True
        )
        return cls(client, name="embedded", keys=keys, connections=1)

    @classmethod
    def at(cls, url: str, keys: Keys, *, connections: int) -> Engine:
        """Return an engine for a Redis server. Connects on the first use.

        Raises:
            StartupRefused: the URL is not one redis-py understands.
        """
        try:
            client = redis_asyncio.Redis.from_url(
                url,
                protocol=2,
                decode_responses=True,
                retry=Retry(NoBackoff(), 0),
                retry_on_error=[],
                socket_timeout=_SOCKET_TIMEOUT_S,
                socket_connect_timeout=_CONNECT_TIMEOUT_S,
            )
            # Options in the URL are looked at only here.
            client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError) as error:
            raise StartupRefused(f"--redis-url / WORKYARD_REDIS_URL: {error}") from None
        return cls(client, name="redis", keys=keys, connections=connections)

    async def open(self) -> str:
        """Check that this Redis and the data under the prefix are ours to use; return the data's format.

        Raises:
            StartupRefused: unreachable, older than 7.0, or written by another data format version.
        """
        try:
            if self.name == "redis":
                version = str((await self._client.info("server"))["redis_version"])
                if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
                    raise StartupRefused(
                        f"Redis at {self.where} is version {version}; Workyard needs 7.0 or newer "
                        "(it counts on the lag of consumer groups). Upgrade it, or leave out --redis-url "
                        "to use the embedded engine."
                    )
            await self._client.set(self.keys.format, DATA_FORMAT, nx=True)
            found = str(await self._client.get(self.keys.format))
        except (RedisError, OSError) as error:
            raise StartupRefused(
                f"Redis at {self.where} cannot be used: {error}. Start it, or correct --redis-url, or leave that "
                "out to use the embedded engine."
            ) from error
        if found not in (DATA_FORMAT, *UPGRADABLE_FORMATS):
            raise StartupRefused(
                f"The data under the key prefix '{self.keys.prefix}' in Redis at {self.where} has format {found}; "
                f"this Workyard reads and writes format {DATA_FORMAT}. Use another --key-prefix, or delete the keys "
                f"'{self.keys.prefix}:*', or run the Workyard version that wrote them."
            )
        return found

    async def mark_format(self) -> None:
        """Note that the data under the prefix has the current format."""
        await self.command("SET", self.keys.format, DATA_FORMAT)

    @property
    def where(self) -> str:
        """Return the address without any credential."""
        kwargs = self._client.connection_pool.connection_kwargs
        if "path" in kwargs:
            return f"unix://{kwargs['path']}"
        return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"

    async def close(self) -> None:
        """End the subscription, wait for what is under way, close the connections."""
        if self._subscription is not None:
            self._subscription.cancel()
            with suppress(asyncio.CancelledError):
                await self._subscription
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_WITHIN_S):
                while self._under_way:
                    await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._client.aclose()

    async def ping(self) -> None:
        """Ask Redis for a sign of life."""
        await self.command("PING")

    # -- commands ---------------------------------------------------------------------------------------------

    async def command(self, *command: Any) -> Reply:
        """Run one command; it shares a round trip with the others of this tick."""
        reply = await self._enqueue(command)
        if isinstance(reply, RedisError):
            raise _translated(reply)
        return reply

    async def commands(self, commands: Iterable[_Command]) -> list[Reply]:
        """Run several commands, in order but not atomically, and return their replies in order."""
        replies = await asyncio.gather(*[self._enqueue(command) for command in commands])
        for reply in replies:
            if isinstance(reply, RedisError):
                raise _translated(reply)
        return replies

    async def scan(self, pattern: str) -> AsyncIterator[list[str]]:
        """Yield all keys that match *pattern*, in batches, a key perhaps twice. Does not hold Redis up."""
        cursor = "0"
        while True:
            cursor, found = await self.command("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
            yield found
            if str(cursor) == "0":
                return

    async def run(self, script: Script, key: str, *arguments: str | int) -> Reply:
        """Run a script on the slot of *key*, once.

        Redis forgets its scripts when it restarts; then nothing has run and the text is sent instead of the hash.
        """
        reply = await self._enqueue(("EVALSHA", script.sha, 1, key, *arguments))
        if isinstance(reply, NoScriptError):
            reply = await self._enqueue(("EVAL", script.text, 1, key, *arguments))
        if isinstance(reply, RedisError):
            raise _translated(reply, script.name)
        return reply

    def _enqueue(self, command: _Command) -> asyncio.Future[Reply]:
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

    async def _send(self, batch: list[tuple[_Command, asyncio.Future[Reply]]]) -> None:
        replies: list[Reply]
        try:
            if len(batch) == 1:
                try:
                    replies = [await self._client.execute_command(*batch[0][0])]  # type: ignore[no-untyped-call]
                except redis_asyncio.ResponseError as error:
                    replies = [error]
            else:
                pipeline = self._client.pipeline(transaction=False)
                for command, _ in batch:
                    pipeline.execute_command(*command)
                replies = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, asyncio.CancelledError) as error:
            fault = error if isinstance(error, RedisError) else RedisError(repr(error))
            if isinstance(error, redis_asyncio.TimeoutError):
                # What waited behind a Redis that hangs has waited as long, and would wait as long again.
                batch, self._waiting = batch + self._waiting, []
            replies = [fault] * len(batch)
        for (_, future), reply in zip(batch, replies, strict=True):
            if not future.done():
                future.set_result(reply)

    # -- publish/subscribe ------------------------------------------------------------------------------------

    async def subscribe(self, heard: Callable[[str | None], None]) -> None:
        """Call *heard* with every message on the wake channel, and with None whenever messages may have been missed.

        Returns when the subscription stands, or at once in the background if Redis is away; it is renewed for ever.
        """
        standing = asyncio.Event()
        self._subscription = asyncio.create_task(self._listen(heard, standing))
        with suppress(TimeoutError):
            await asyncio.wait_for(standing.wait(), _CONNECT_TIMEOUT_S + _SOCKET_TIMEOUT_S)

    async def _listen(self, heard: Callable[[str | None], None], standing: asyncio.Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        # A cancellation that comes together with a message is swallowed below us (`wait_for` before Python 3.12).
        while not task.cancelling():
            pubsub = self._client.pubsub()
            try:
                await pubsub.subscribe(self.keys.wake)
                while not task.cancelling():
                    # Silence is no fault: TCP tells when Redis goes, and a lost message costs a poll at most its block_ms.
                    message = await pubsub.get_message(timeout=_LISTEN_S)
                    if message is None:
                        continue
                    if message["type"] == "subscribe":
                        standing.set()
                        heard(None)
                    elif message["type"] == "message":
                        heard(message["data"])
            except (RedisError, OSError) as error:
                _log.warning("the wake-up subscription was lost (%s); renewing it", error)
            finally:
                with suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            heard(None)
            await asyncio.sleep(_RESUBSCRIBE_PAUSE_S)


def _translated(error: RedisError, script: str | None = None) -> StorageUnavailable:
    """Return our error for one of redis-py's, after logging what the caller is not told."""
    _log.error("Redis did not carry out %s: %s: %s", script or "a command", type(error).__name__, error)
    return StorageUnavailable()


def address_of(url: str) -> str:
    """Return a Redis URL without its credentials, for people to read."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
