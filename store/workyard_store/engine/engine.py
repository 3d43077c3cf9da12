"""Engines: commands, scripts and publish/subscribe on a Redis, embedded or real, alone or a cluster; and the edge where
redis-py's errors become ours. Knows no key but the format marker and no rule of the API.

`batching.py` sends the commands, `cluster.py` chooses the node of a cluster, `requirements.py` says what Redis must offer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Literal, TypeVar

from redis.exceptions import NoPermissionError, NoScriptError, ReadOnlyError, RedisError

from ..calls import CURRENT
from ..errors import StartupRefused, StorageUnavailable
from ..keys import Keys
from .batching import CONNECT_TIMEOUT_S, LOST, SOCKET_TIMEOUT_S, Command, Lane, Reply, lane_to
from .cluster import Cluster
from .lua import LuaArguments, LuaCall
from .requirements import acl_rule, check_server, lacks_permission, missing_permission
from .urls import RedisUrl
from .wake import Heard, Message, Missed, decode, encode

__all__ = ["DATA_FORMAT", "Engine", "Reply"]

_log = logging.getLogger("workyard.redis")

#: Format of the data under a key prefix; data of any other format is refused. Raise it when stored data changes its meaning.
DATA_FORMAT = "4"
_RESUBSCRIBE_PAUSE_S = 0.2
_LISTEN_S = 30.0
_SCAN_COUNT = 1000

T = TypeVar("T")


def _count() -> None:
    """Note a round trip of the call that is being answered."""
    call = CURRENT.get()
    if call is not None:
        call.round_trips += 1


class Engine:
    """A Redis, embedded or real. Open it inside a running event loop; close it in the same.

    Attributes:
        where: the address without any credential.
        errors: number of commands and scripts that Redis failed to run.
        spans_nodes: whether keys of different environments and workspaces may lie on different servers.

    Raises (every call): StorageUnavailable, when Redis did not answer or refused the command.
    """

    def __init__(self, servers: Lane | Cluster, *, name: Literal["embedded", "redis"], keys: Keys, where: str) -> None:
        self.name = name
        self.keys = keys
        self.where = where
        self.errors = 0
        self.spans_nodes = isinstance(servers, Cluster)
        self._servers = servers
        self._enqueue: Callable[[Command], Awaitable[Reply]] = servers.enqueue
        self._subscription: asyncio.Task[None] | None = None

    @staticmethod
    def preload() -> None:
        """Import the modules of the embedded engine, which takes longer than starting it."""
        import fakeredis.commands_mixins.scripting_mixin  # noqa: F401

    @classmethod
    def embedded(cls, keys: Keys) -> Engine:
        """Return an engine that keeps everything in this process (fakeredis with Lua): gone when the process ends."""
        import fakeredis

        # protocol 2: with 3, fakeredis hands maps to Lua where Redis hands arrays.
        client = fakeredis.FakeAsyncRedis(
            server=fakeredis.FakeServer(version=(7, 0)), protocol=2, decode_responses=True
        )
        return cls(Lane(client, connections=1, where="embedded"), name="embedded", keys=keys, where="embedded")

    @classmethod
    def at(cls, url: str, keys: Keys, *, connections: int) -> Engine:
        """Return an engine for a Redis. Connects on the first use; *connections* at most to each server.

        Raises:
            StartupRefused: the URL has none of the known forms.
        """
        try:
            parsed = RedisUrl.parse(url)
        except ValueError as error:
            raise StartupRefused(f"--redis-url / WORKYARD_REDIS_URL: {error}") from None
        cluster = parsed.form == "cluster"
        servers = Cluster(parsed, connections=connections) if cluster else lane_to(parsed, None, connections)
        return cls(servers, name="redis", keys=keys, where=parsed.where)

    async def open(self) -> None:
        """Check that this Redis and the data under the prefix can be used, and mark the data's format if there is none.

        Raises:
            StartupRefused: unreachable, not fit (see `startup.py`), or the data has another format.
        """
        try:
            await self._servers.open()
            if self.name == "redis":
                for lane in self._servers.lanes():
                    await check_server(lane.client, lane.where, self.keys, in_cluster=self.spans_nodes)
            await self._first_answer("SET", self.keys.format, DATA_FORMAT, "NX")
            found = str(await self._first_answer("GET", self.keys.format))
        except NoPermissionError as error:
            raise missing_permission(self.where, error, self.keys) from None
        except LOST as error:
            raise StartupRefused(
                f"Redis at {self.where} cannot be used: {str(error).rstrip('.')}. Start it, or correct "
                "--redis-url, or omit that option to use the embedded engine."
            ) from error
        if found != DATA_FORMAT:
            raise StartupRefused(
                f"The data under the key prefix '{self.keys.prefix}' in Redis at {self.where} has format {found}; "
                f"this Workyard reads and writes only format {DATA_FORMAT}. Use another --key-prefix, or delete the keys "
                f"'{self.keys.prefix}:*', or run the Workyard version that wrote them."
            )

    async def _first_answer(self, *command: str) -> Reply:
        reply = await self._enqueue(command)
        if isinstance(reply, RedisError):
            raise reply
        return reply

    async def close(self) -> None:
        """End the subscription, wait for what is under way, close the connections."""
        if self._subscription is not None:
            self._subscription.cancel()
            with suppress(asyncio.CancelledError):
                await self._subscription
        await self._servers.close()

    async def ping(self) -> None:
        """Ask Redis for a sign of life: in a cluster, every primary."""
        for reply in await asyncio.gather(*[lane.enqueue(("PING",)) for lane in self._servers.lanes()]):
            if isinstance(reply, RedisError):
                raise await self._translated(reply)

    # -- commands ---------------------------------------------------------------------------------------------

    async def command(self, *command: str | int) -> Reply:
        """Run one command; it shares a round trip with the others of this tick."""
        _count()
        reply = await self._enqueue(command)
        if isinstance(reply, RedisError):
            raise await self._translated(reply)
        return reply

    async def commands(self, commands: Iterable[Command]) -> list[Reply]:
        """Run several commands and return their replies in order. Not atomic; across slots, not in order either."""
        _count()
        replies = await asyncio.gather(*[self._enqueue(command) for command in commands])
        for reply in replies:
            if isinstance(reply, RedisError):
                raise await self._translated(reply)
        return replies

    async def run(self, call: LuaCall[T], key: str, *heads: LuaArguments) -> T:
        """Run a script on the slot of *key*, once, and return its reply. *heads*: the arguments of its heads."""
        return call.read(await self.reply(call, key, *heads))

    async def reply(self, call: LuaCall[object], key: str, *heads: LuaArguments) -> Reply:
        """Run a script as `run` does, and return its reply as Redis gives it.

        Redis forgets its scripts when it restarts; then nothing has run and the text is sent instead of the hash.
        """
        text, sha = call.bound.in_cluster if self.spans_nodes else call.bound.plain
        arguments = [value for head in heads for value in head.encoded] + call.encoded
        _count()
        reply = await self._enqueue(("EVALSHA", sha, 1, key, *arguments))
        if isinstance(reply, NoScriptError):
            reply = await self._enqueue(("EVAL", text, 1, key, *arguments))
        if isinstance(reply, RedisError):
            raise await self._translated(reply, call.bound.name)
        return reply

    async def scan(self, pattern: str) -> AsyncIterator[list[str]]:
        """Yield all keys that match *pattern*, in batches, a key perhaps twice. Does not block Redis.

        In a cluster, those of every primary.
        """
        for lane in self._servers.lanes():
            cursor = "0"
            while True:
                reply = await lane.enqueue(("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT))
                if isinstance(reply, RedisError):
                    raise await self._translated(reply)
                cursor, found = str(reply[0]), reply[1]
                yield found
                if cursor == "0":
                    break

    async def _translated(self, error: RedisError, script: str | None = None) -> StorageUnavailable:
        """Convert an error of redis-py into ours, after logging the details that the caller does not see."""
        self.errors += 1
        _log.error("Redis failed to run %s: %s: %s", script or "a command", type(error).__name__, error)
        if lacks_permission(error):
            _log.error("The ACL rule that Workyard needs: %s", acl_rule(self.keys))
        if isinstance(error, ReadOnlyError):
            # The primary has become a replica; nothing has run. The next command goes to the server now at this address.
            await asyncio.gather(*[lane.renew() for lane in self._servers.lanes()])
        return StorageUnavailable()

    # -- publish/subscribe ------------------------------------------------------------------------------------

    async def publish(self, *messages: Message) -> None:
        """Publish messages on the wake channel: every process gets each once, in a cluster too."""
        await self.commands(("PUBLISH", self.keys.wake, encode(message)) for message in messages)

    async def publish_counted(self, message: Message) -> int:
        """Publish a message on the wake channel; return how many processes received it.

        A server of a cluster counts only its own subscribers. So the message is sent to each server, and every process
        receives it once from each.
        """
        heard = 0
        publish = ("PUBLISH", self.keys.wake, encode(message))
        for reply in await asyncio.gather(*[lane.enqueue(publish) for lane in self._servers.lanes()]):
            if isinstance(reply, RedisError):
                raise await self._translated(reply)
            heard += int(reply)
        return heard

    async def subscribe(self, heard: Callable[[Heard], None]) -> None:
        """Call *heard* with every message on the wake channel, and with `Missed` whenever some may have been missed.

        Returns once subscribed. If Redis is away it returns immediately and subscribes in the background. A lost
        subscription is always renewed.
        """
        standing = asyncio.Event()
        self._subscription = asyncio.create_task(self._listen(heard, standing))
        with suppress(TimeoutError):
            await asyncio.wait_for(standing.wait(), CONNECT_TIMEOUT_S + SOCKET_TIMEOUT_S)

    async def _listen(self, heard: Callable[[Heard], None], standing: asyncio.Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        # A cancellation that comes together with a message is swallowed below us (`wait_for` before Python 3.12).
        while not task.cancelling():
            # In a cluster any node will do: the nodes forward published messages to each other.
            pubsub = self._servers.lanes()[0].client.pubsub()
            try:
                await pubsub.subscribe(self.keys.wake)
                while not task.cancelling():
                    # Silence is not an error: TCP reports a lost Redis, and a lost message delays a poll by at most its block_ms.
                    message = await pubsub.get_message(timeout=_LISTEN_S)
                    if message is None:
                        continue
                    if message["type"] == "subscribe":
                        standing.set()
                        heard(Missed())
                    elif message["type"] == "message":
                        _pass_on(message["data"], heard)
            except LOST as error:
                _log.warning("the wake-up subscription was lost (%s); renewing it", error)
            finally:
                with suppress(*LOST):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            heard(Missed())
            await asyncio.sleep(_RESUBSCRIBE_PAUSE_S)


def _pass_on(text: str, heard: Callable[[Heard], None]) -> None:
    try:
        message = decode(text)
    except ValueError as error:  # Another program, or another version of Workyard, publishes on our channel.
        _log.warning("%s; ignored", error)
        return
    heard(message)
