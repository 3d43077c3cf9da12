"""The clock's mode `auto`: the clock stands, and jumps to the next timer when the workspace is idle. Rules: `clock.auto.*`.

A workspace is idle when one of its polls is blocked, no other request of it is under way at any server process, no item
of it is leased, and nothing has changed in it for `QUIET_S`. The clock jumps to the next instant that helps a waiting
client: a reclaim age, the end of the window of a departed worker, an instant for which an agent waits.

A process checks this only while polls of such a workspace are blocked in it; the polls report the clock's mode. Several
processes may reach the same decision: each names the target instant, so the clock moves only once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from workyard_store.access import TRUSTED, Access
from workyard_store.calls import CURRENT
from workyard_store.errors import EnvironmentNotFound, StorageUnavailable
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..lua.clock import Auto, Waiting
from ..work.polling import LongPoll
from .timers import Clocks

#: How long nothing must have changed: the time a client may need from an answer to its next request. Seconds.
QUIET_S = 0.05
#: How long a worker must not have polled to count as departed: longer than any poll blocks. Seconds.
_GONE_S = 2.0
#: Seconds between two checks while an item is leased, or no timer is ahead.
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class _Found:
    """The instant to move a clock to (None: it stays), and the seconds until the next check."""

    at: int | None
    pause: float


class AutoClocks:
    """Moves the clocks of the mode `auto` for which polls wait in this process."""

    def __init__(
        self,
        access: Access,
        workspaces: WorkspaceStore,
        long_poll: LongPoll,
        clocks: Clocks,
        idle: Callable[[str], Awaitable[bool]],
        *,
        default_reclaim_ms: int,
    ) -> None:
        """Move *clocks* for the polls of *long_poll*; *idle* tells whether no request of a workspace is under way."""
        self._access = access
        self._workspaces = workspaces
        self._long_poll = long_poll
        self._clocks = clocks
        self._idle = idle
        self._default_reclaim_us = default_reclaim_ms * 1000
        #: Environment → what looks after its workspace.
        self._watched: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    def noticed(self, environment_id: str) -> None:
        """Register a poll that blocks in an environment whose clock is in mode `auto`."""
        if environment_id not in self._watched and not self._closing:
            self._watched[environment_id] = asyncio.create_task(self._watch(environment_id))

    async def close(self) -> None:
        """Stop moving clocks."""
        self._closing = True
        tasks = list(self._watched.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, environment_id: str) -> None:
        """While polls wait in an environment, check repeatedly whether its workspace's clock must move."""
        CURRENT.set(None)  # It runs on behalf of no call.
        try:
            workspace = await self._access.engine.command("HGET", self._access.keys.environment(environment_id), "ws")
            pause: float | None = 0.0
            while workspace is not None and pause is not None:
                await asyncio.sleep(pause)
                pause = await self._look(workspace, environment_id)
        except StorageUnavailable:
            pass  # The next poll starts again.
        finally:
            del self._watched[environment_id]

    async def _look(self, workspace: str, environment_id: str) -> float | None:
        """Move a clock if its workspace is idle; return the seconds until the next check, None if none is needed."""
        if not self._long_poll.waiting(environment_id):
            return None
        if not (await self._workspaces.profile(workspace)).clock.auto:
            return None
        ids = await self._workspaces.environments(workspace)
        if next((each for each in ids if self._long_poll.waiting(each)), environment_id) != environment_id:
            return _LOOK_EVERY_S  # Another one does it.
        found = await self._next(ids)
        if found.at is not None:
            if not await self._idle(workspace):
                return QUIET_S
            # Look again: a request that was under way at the first look may have ended before the question, and changed something.
            found = await self._next(ids)
        if found.at is not None:
            await self._clocks.jump(workspace, found.at)
        return found.pause

    async def _next(self, ids: list[str]) -> _Found:
        """Find the target instant from the timers of a workspace's environments in Redis."""
        states = [state for state in await asyncio.gather(*[self._state(each) for each in ids]) if state is not None]
        quiet_us = self._access.wall() - max((state.stirred_at for state in states), default=0)
        if abs(quiet_us) < QUIET_S * 1_000_000:
            return _Found(None, QUIET_S - abs(quiet_us) / 1_000_000)
        ahead = [state.next_at for state in states if state.next_at is not None]
        if not ahead or any(state.leased for state in states):
            return _Found(None, _LOOK_EVERY_S)
        return _Found(min(ahead), QUIET_S)

    async def _state(self, environment_id: str) -> Waiting | None:
        call = Auto(
            gone_us=round(_GONE_S * 1_000_000),
            reclaim_us=self._default_reclaim_us,
            ages=["" if age is None else age * 1000 for age in self._long_poll.reclaim_ages(environment_id)],
        )
        with suppress(EnvironmentNotFound):  # Half created or half deleted.
            return await self._access.run(call, environment_id, TRUSTED)
        return None
