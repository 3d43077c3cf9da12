"""Command routing in a Redis Cluster. Owns the slot map and one lane per primary; sends nothing itself.

A command is sent again only if the reply proves that nothing ran: after MOVED to the slot's new owner, after ASK and
TRYAGAIN to the same owner after a pause. A lost answer proves nothing, so the command is not repeated.

ASK is not followed: the command waits until the migration is over. A script names one key and touches other keys of its
environment. While their slot migrates, each of the two nodes has some of these keys, and neither can run the script. The
keys are on one node again once the slot has its new owner.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from contextlib import suppress

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError, TryAgainError

from ..errors import StartupRefused
from .batching import LOST, Command, Lane, Reply, lane_to
from .urls import Address, RedisUrl, address_text

_log = logging.getLogger("workyard.redis")

#: Seconds that a call waits for a slot that is being moved, and the pause between two looks.
_MOVED_WITHIN_S = 2.0
_LOOK_AGAIN_S = 0.02
#: Seconds between two looks at the map of slots, at least.
_REFRESH_PAUSE_S = 0.2


class Cluster:
    """The primaries of a cluster, one lane each. Belongs to one event loop."""

    def __init__(self, url: RedisUrl, *, connections: int) -> None:
        self._url = url
        self._connections = connections
        self._lanes: dict[Address, Lane] = {}
        self._owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._refreshing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Learn the map of slots from the first node that answers.

        Raises:
            RedisError, OSError: none did.
            StartupRefused: that node is in no cluster, or the cluster does not serve every slot.
        """
        try:
            await self._refresh()
        except ResponseError as error:
            if "cluster support disabled" not in str(error):
                raise
            scheme, host = "rediss" if self._url.tls else "redis", address_text(self._url.hosts[0])
            raise StartupRefused(
                f"Redis at {self._url.where} is not a cluster: write {scheme}://{host}/0, with the same credentials."
            ) from None
        if None in self._owners:
            raise StartupRefused(
                f"The Redis Cluster at {self._url.where} has slots that no node serves. Repair it (`redis-cli "
                "--cluster check` shows what is missing)."
            )

    def lanes(self) -> list[Lane]:
        """Return the lanes to all primaries, in no order."""
        lanes = [self._lane(owner) for owner in {owner for owner in self._owners if owner is not None}]
        random.shuffle(lanes)
        return lanes

    async def enqueue(self, command: Command) -> Reply:
        """Send *command* to the owner of its key's slot. Return the reply, or the error as a value."""
        slot = key_slot(_key_of(command).encode())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _MOVED_WITHIN_S
        redirected = False
        while True:
            owner = self._owners[slot]
            if owner is None:
                self._refresh_soon()
                return ClusterDownError(f"no node serves slot {slot}")
            reply = await self._lane(owner).enqueue(command)
            if not isinstance(reply, RedisError):
                return reply
            if not isinstance(reply, (AskError, TryAgainError)):
                if not isinstance(reply, ResponseError):
                    self._refresh_soon()  # The node is away: it may have a successor.
                return reply
            if loop.time() > deadline:
                return reply
            if isinstance(reply, MovedError):
                self._owners[slot] = (reply.host or owner[0], reply.port)
                self._refresh_soon()
                if not redirected:
                    redirected = True
                    continue
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def close(self) -> None:
        """Close all lanes."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await self._refreshing
        await asyncio.gather(*[lane.close() for lane in self._lanes.values()])

    def _lane(self, address: Address) -> Lane:
        lane = self._lanes.get(address)
        if lane is None:
            lane = self._lanes[address] = lane_to(self._url, address, self._connections)
        return lane

    def _refresh_soon(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh_and_pause())

    async def _refresh_and_pause(self) -> None:
        try:
            await self._refresh()
        except LOST as error:
            _log.warning("no node of the Redis Cluster returned the slot map: %s", error)
        await asyncio.sleep(_REFRESH_PAUSE_S)

    async def _refresh(self) -> None:
        """Ask the known nodes one after the other for the map of slots, until one answers.

        In random order: a node that is cut off from the others answers too, and must not be asked first every time.
        """
        fault: RedisError | None = None
        known = random.sample(list(self._lanes), len(self._lanes))
        for address in dict.fromkeys([*known, *self._url.hosts]):
            reply = await self._lane(address).enqueue(("CLUSTER", "SLOTS"))
            if not isinstance(reply, RedisError) and reply:
                self._take(reply, address)
                await self._close_unused()
                return
            fault = reply or ClusterDownError("no node serves any slot")
        assert fault is not None
        raise fault

    def _take(self, ranges: Iterable[Reply], asked: Address) -> None:
        owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, primary, *_ in ranges:
            # A node that does not know its own host name sends an empty one: it is the node that was asked.
            owner = (primary[0] or asked[0], int(primary[1]))
            owners[first : last + 1] = [owner] * (last - first + 1)
        self._owners = owners

    async def _close_unused(self) -> None:
        used = {*self._owners, *self._url.hosts}
        for address in [address for address in self._lanes if address not in used]:
            await self._lanes.pop(address).close()


def _key_of(command: Command) -> str:
    """Return the key that decides the slot: the key of a script, or else the first argument."""
    return str(command[3] if command[0] in ("EVALSHA", "EVAL") else command[1])
