"""Watchers of environments in this process: clients that wait for a state or for figures, and followers of events.
Watchers have no Redis connections of their own.

Reading an environment with `look.lua` marks it as watched for a while; its scripts then publish `Watched` when something
changes. A new environment always does. Changes through the passage of time are read when they are due.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, assert_never

from workyard_store.access import TRUSTED, Access
from workyard_store.engine.wake import Changed, Missed, Watched
from workyard_store.errors import EnvironmentNotFound, StorageUnavailable, WorkNotFound
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..lua.timeline import Look as LookCall

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
#: The scope of a watcher of all workspaces.
EVERYWHERE = ""
#: How long a look keeps an environment watched: longer than any wait, and than the time between two looks of a follower.
_WATCHED_US = 90_000_000
#: Environments that one round trip looks at.
_LOOK_BATCH = 200
#: Events of a timeline that one look searches for the states of an item.
_EVENTS_BATCH = 1000
#: Environments whose workspace is remembered.
_MOST_KNOWN = 10_000
#: The event loop counts in milliseconds and may fire early.
_TIMER_GRAIN_S = 0.001
#: Seconds after which a look is repeated if Redis did not answer.
_RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Look:
    """An environment at one instant.

    Attributes:
        state: of the item that was looked for; None if it is not there.
        entered: the states that item entered since the last look.
        reached: the last entry of the timeline.
        depth, pending, leased, items: how many items wait, are handed out, are under lease, and are there at all.
        workers_polling: named workers that polled in the last 30 seconds.
        due_us: until time alone changes one of these; infinity: it cannot.
    """

    state: str | None
    entered: tuple[str, ...]
    reached: str
    depth: int
    pending: int
    leased: int
    items: int
    workers_polling: int
    due_us: float


@dataclass(frozen=True, slots=True)
class Row:
    """An environment among others; `kind`: `cloud` or `self_hosted`."""

    environment_id: str
    workspace: str
    name: str
    kind: str
    look: Look


@dataclass(frozen=True, slots=True)
class Until:
    """The condition of a wait: an item in a state, figures of the queues, or nothing left to do. `figures`: name → value."""

    work_id: str | None = None
    state: str | None = None
    figures: Mapping[str, int] | None = None

    def __str__(self) -> str:
        """Return the condition as it appears in error messages."""
        if self.work_id is not None:
            return f"{self.work_id} to be {self.state}"
        return ", ".join(f"{name} {value}" for name, value in (self.figures or {}).items())


#: Nothing is queued, handed out or under lease.
IDLE = {"depth": 0, "pending": 0, "leased": 0}


@dataclass(frozen=True, slots=True)
class Seen:
    """The last observation of a wait, summed over the environments it looked at; `state` of its item.

    `met`: whether it fulfils the condition.
    """

    met: bool
    state: str | None
    environments: int
    depth: int
    pending: int
    leased: int
    workers_polling: int


class Watcher:
    """A watcher of one environment, or of those of a workspace.

    Attributes:
        scope: the environment, the workspace, or `EVERYWHERE`.
        changed: environments that have changed since they were last taken.
        anew: whether any may have, or be new.
        news: set whenever one of these grows.
    """

    def __init__(self, watching: Watching, scope: str) -> None:
        self.scope = scope
        self.changed: set[str] = set()
        self.anew = True
        self.news = asyncio.Event()
        self._watching = watching

    def concerns(self, environment_id: str, workspace: str | None) -> bool:
        """Tell whether an environment is watched; *workspace* is None if it is gone."""
        return self.scope in (environment_id, EVERYWHERE) or workspace in (None, self.scope)

    def tell(self, environment_id: str | None) -> None:
        """Take note of a change; None: there may be any."""
        if environment_id is None:
            self.anew = True
        else:
            self.changed.add(environment_id)
        self.news.set()

    async def take(self) -> set[str] | None:
        """Return what changed since the last time; None: look at all."""
        self.news.clear()
        changed, self.changed = self.changed, set()
        anew, self.anew = self.anew, False
        return None if anew else changed

    async def environments(self) -> list[str]:
        """Return all that is watched."""
        return await self._watching.environments(self.scope)

    def __enter__(self) -> Watcher:
        self._watching.join(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.leave(self)


class Watching:
    """The watchers of this process.

    Attributes:
        closing: whether the server is going down.
    """

    def __init__(self, access: Access, workspaces: WorkspaceStore) -> None:
        self.closing = False
        self._access = access
        self._workspaces = workspaces
        self._watchers: set[Watcher] = set()
        self._owners: dict[str, str] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    @property
    def watchers(self) -> int:
        """Return how many watch here."""
        return len(self._watchers)

    def watcher(self, scope: str) -> Watcher:
        """Return a watcher, which watches within a `with`."""
        return Watcher(self, scope)

    def join(self, watcher: Watcher) -> None:
        """Register a watcher, so that it gets the changes of its scope."""
        self._watchers.add(watcher)

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        self._watchers.discard(watcher)

    async def environments(self, scope: str) -> list[str]:
        """Return the environments of a scope."""
        if scope.startswith("env_"):
            return [scope]
        found: list[str] = []
        for workspace in [scope] if scope != EVERYWHERE else await self._workspaces.all():
            ids = await self._workspaces.environments(workspace)
            found += ids
            self._owners.update(dict.fromkeys(ids[-_MOST_KNOWN:], workspace))
        self._bound()
        return found

    def heard(self, message: Watched | Changed | Missed) -> None:
        """Tell the watchers of an environment that it has changed, or all watchers that any may have."""
        match message:
            case Watched(environment_id) | Changed(environment_id):
                self._changed(environment_id)
            case Missed():
                for watcher in self._watchers:
                    watcher.tell(None)
            case _:
                assert_never(message)

    def _changed(self, environment_id: str) -> None:
        if not self._watchers:
            return
        owner = self._owners.get(environment_id)
        if owner is not None or all(watcher.scope.startswith("env_") for watcher in self._watchers):
            self._pass_on(environment_id, owner or EVERYWHERE)
        elif environment_id not in self._asking:
            asking = self._asking[environment_id] = asyncio.create_task(self._learn(environment_id))
            asking.add_done_callback(lambda _: self._asking.pop(environment_id, None))

    def _pass_on(self, environment_id: str, owner: str | None) -> None:
        for watcher in self._watchers:
            if watcher.concerns(environment_id, owner):
                watcher.tell(environment_id)

    async def _learn(self, environment_id: str) -> None:
        """Look up the workspace of an environment, to find the watchers that its changes concern."""
        try:
            key = self._access.keys.environment(environment_id)
            owner: str | None = await self._access.engine.command("HGET", key, "ws")
        except StorageUnavailable:
            owner = None
        if owner is not None:
            self._owners[environment_id] = owner
            self._bound()
        self._pass_on(environment_id, owner)

    def _bound(self) -> None:
        while len(self._owners) > _MOST_KNOWN:
            del self._owners[next(iter(self._owners))]

    def close(self) -> None:
        """End all watchers: the server is going down."""
        self.closing = True
        self.heard(Missed())

    # -- looking ----------------------------------------------------------------------------------------------

    async def look(self, environment_id: str, work_id: str = "", since: str = "", *, once: bool = False) -> Look:
        """Read an environment, and keep it watched unless *once*.

        Args:
            environment_id: the environment.
            work_id: an item whose states to report, or an empty string.
            since: `reached` of the last look.
            once: whether no watcher waits for changes.

        Raises:
            EnvironmentNotFound: it is gone.
        """
        until = None if once else self._access.wall() + _WATCHED_US
        call = LookCall(watch_until=until, work_id=work_id, since=since, count=_EVENTS_BATCH)
        seen = await self._access.run(call, environment_id, TRUSTED)
        return Look(
            state=seen.state if seen.there else None,
            entered=tuple(seen.entered),
            reached=seen.reached,
            depth=seen.depth,
            pending=seen.pending,
            leased=seen.leased,
            items=seen.items,
            workers_polling=seen.workers_polling,
            due_us=seen.due_us if seen.due_us >= 0 else math.inf,
        )

    async def look_at(self, environment_ids: Iterable[str], *, once: bool = False) -> dict[str, Look]:
        """Read many environments as `look` does, and leave out those that are gone."""
        found: dict[str, Look] = {}
        ids = list(environment_ids)
        for start in range(0, len(ids), _LOOK_BATCH):
            part = ids[start : start + _LOOK_BATCH]
            looks = await asyncio.gather(*[self.look(id_, once=once) for id_ in part], return_exceptions=True)
            for id_, look in zip(part, looks, strict=True):
                if isinstance(look, Look):
                    found[id_] = look
                elif not isinstance(look, EnvironmentNotFound):
                    raise look
        return found

    async def table(self, scope: str, most: int) -> tuple[list[Row], int]:
        """Return the newest environments of a scope, newest first in each workspace, and how many there are in all."""
        every = await self.environments(scope)
        ids = every[: -most - 1 : -1]
        looks = await self.look_at(ids, once=True)
        keys = self._access.keys
        told = await self._access.engine.commands(
            ("HMGET", keys.environment(id_), "ws", "name", "kind") for id_ in looks
        )
        rows = [
            Row(id_, record[0], record[1], record[2], look)
            for (id_, look), record in zip(looks.items(), told, strict=True)
            if record[0]
        ]
        return rows, len(every)

    # -- waiting ----------------------------------------------------------------------------------------------

    async def wait(self, scope: str, until: Until, seconds: float, receive: Receive) -> Seen:
        """Wait for a condition. Return the last observation: when the condition is met, the time is over, or the client left.

        For an item, the scope is its environment, and it is enough that the item entered the state since the wait began.
        Figures are summed over the environments of the scope.

        Args:
            scope: an environment, a workspace, or `EVERYWHERE`.
            until: the condition.
            seconds: wall time.
            receive: returns the ASGI message when the client disconnects.

        Raises:
            EnvironmentNotFound, WorkNotFound: the resource does not exist, or no longer.
            StorageUnavailable: Redis does not answer, or the server is going down.
        """
        deadline = time.monotonic() + seconds
        with self.watcher(scope) as watcher:
            gone = asyncio.create_task(_departure(receive, watcher))
            try:
                waiting = _OneItem(self, until) if until.work_id is not None else _Figures(self, until)
                while True:
                    seen, due = await waiting.look(watcher)
                    if seen.met or gone.done() or time.monotonic() >= deadline:
                        return seen
                    if self.closing:
                        raise StorageUnavailable("The server is shutting down", rule="conventions.shutdown")
                    left = min(deadline, due + _TIMER_GRAIN_S) - time.monotonic()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(max(left, 0)):
                            await watcher.news.wait()
            finally:
                gone.cancel()


class _OneItem:
    """A wait for a state of an item; the scope is its environment."""

    def __init__(self, watching: Watching, until: Until) -> None:
        self._watching = watching
        self._until = until
        self._reached = ""

    async def look(self, watcher: Watcher) -> tuple[Seen, float]:
        """Return the current observation, and when the passage of time may change it."""
        assert self._until.work_id is not None
        await watcher.take()
        now = time.monotonic()
        look = await self._watching.look(watcher.scope, self._until.work_id, self._reached)
        if look.state is None:
            raise WorkNotFound(self._until.work_id)
        met = self._until.state in (look.state, *look.entered)
        self._reached = look.reached
        seen = Seen(met, look.state, 1, look.depth, look.pending, look.leased, look.workers_polling)
        return seen, now + look.due_us / 1_000_000


class _Figures:
    """A wait for figures of all environments of a scope."""

    def __init__(self, watching: Watching, until: Until) -> None:
        self._watching = watching
        self._until = until
        self._looks: dict[str, Look] = {}
        self._due: dict[str, float] = {}

    async def look(self, watcher: Watcher) -> tuple[Seen, float]:
        """Read the environments that have changed; return the sums, and when the passage of time may change them."""
        changed, now = await watcher.take(), time.monotonic()
        if changed is None:
            changed = set(await watcher.environments()) | set(self._looks)
        changed |= {id_ for id_, due in self._due.items() if due <= now}
        found = await self._watching.look_at(changed)
        for id_ in changed:
            self._looks.pop(id_, None)
            self._due.pop(id_, None)
        self._looks |= found
        self._due |= {id_: now + look.due_us / 1_000_000 for id_, look in found.items()}
        if not self._looks and watcher.scope.startswith("env_"):
            raise EnvironmentNotFound(watcher.scope)
        sums = {
            name: sum(getattr(look, name) for look in self._looks.values())
            for name in ("depth", "pending", "leased", "workers_polling")
        }
        met = all(sums[name] == wanted for name, wanted in (self._until.figures or {}).items())
        return Seen(met, None, len(self._looks), **sums), min(self._due.values(), default=math.inf)


async def _departure(receive: Receive, watcher: Watcher) -> None:
    """Return when the client disconnects, and let the watcher know."""
    while (await receive())["type"] != "http.disconnect":
        pass
    watcher.news.set()
