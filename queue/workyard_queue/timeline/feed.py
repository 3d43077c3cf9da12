"""Live event feeds of timelines in this process. Owns no event: one reader per scope reads the new events of the watched
environments' timelines, and keeps the last of them for all its followers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from workyard_store.access import Access
from workyard_store.engine.engine import Engine
from workyard_store.errors import StorageUnavailable

from ..sessions.streams import too_many_streams
from .events import Event, event_of
from .watch import Watcher, Watching

#: Seconds of silence after which a follower gets a ping.
PING_EVERY_S = 15.0
#: Events that are kept for slow followers, and that are looked up for a follower that reconnects.
MOST_KEPT = 5_000
#: Events that one read of a timeline takes.
_READ_BATCH = 500
#: The entry before the first of a timeline.
_NOTHING = "0-0"
#: Environments whose timelines are read at once.
_READ_AT_ONCE = 200
#: Seconds between two reads that renew the mark "watched" of the environments.
_MARK_EVERY_S = 30.0
#: Seconds after which a reader retries a read that failed because Redis is away.
_RETRY_S = 1.0
#: Extra milliseconds that a look back covers, because environments are read one after the other.
_OVERLAP_MS = 1000


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that are missing here: they came faster than they were read, or are no longer kept."""


class Follower:
    """One client that follows the events of a scope, from its registration until `close`."""

    def __init__(self, feed: _Feed, since: str | None) -> None:
        self.news = asyncio.Event()
        self._feed = feed
        self._since = since
        self._next = feed.number

    async def events(self, seconds: float) -> AsyncIterator[Event | Gap | str]:
        """Yield the events, `ping` when there was none for long, and a `Gap` where some are missing. Ends after *seconds*,
        and when the server stops."""
        feed, now = self._feed, asyncio.get_running_loop().time
        ends = now() + seconds
        if self._since is not None:
            self._next = feed.number
            looked_up = await feed.behind(self._since)
            for event in looked_up:
                yield event
        while not feed.closing:
            # A slow follower still reads these while more arrive: the new ones are for the next round.
            self.news.clear()
            events, self._next = feed.from_number(self._next), feed.number
            for event in events:
                yield event
            left = ends - now()
            if left <= 0:
                return
            try:
                async with asyncio.timeout(min(left, PING_EVERY_S)):
                    await self.news.wait()
            except TimeoutError:
                yield "ping"

    def __enter__(self) -> Follower:
        self._feed.followers.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._feed.leave(self)


class _Feed:
    """The reader of one scope, while somebody follows it.

    Attributes:
        number: how many events it has read.
    """

    def __init__(self, following: Following, scope: str) -> None:
        self.scope = scope
        self.number = 0
        self.followers: set[Follower] = set()
        self._following = following
        self._kept: deque[Event | Gap] = deque(maxlen=MOST_KEPT)
        # Environment → the last entry of its timeline that was read.
        self._reached: dict[str, str] = {}
        self._begun = asyncio.Event()
        self.reading = asyncio.create_task(self._read())

    @property
    def closing(self) -> bool:
        """Return whether nothing more will be read: the server is going down."""
        return self._following.watching.closing or self.reading.done()

    def from_number(self, number: int) -> list[Event | Gap]:
        """Return the events from a number on; a `Gap` first if some of them are no longer kept."""
        missed, kept = self.number - number, len(self._kept)
        gap = [Gap()] if missed > kept else []
        return [*gap, *[self._kept[n] for n in range(-min(missed, kept), 0)]]

    async def begun(self) -> None:
        """Wait until the reader covers all events from now on, or the server stops."""
        await self._begun.wait()

    def leave(self, follower: Follower) -> None:
        """Forget a follower; stop reading after the last one."""
        self.followers.discard(follower)
        if not self.followers:
            self.reading.cancel()
            self._following.forget(self)

    async def behind(self, since: str) -> list[Event | Gap]:
        """Return the events after an instant that were read before those that are kept for this follower."""
        return await self._following.look_back(dict(self._reached), since)

    def _wake(self) -> None:
        for follower in self.followers:
            follower.news.set()

    async def _read(self) -> None:
        try:
            await self._read_until_the_end()
        finally:
            self._begun.set()
            self._wake()

    async def _read_until_the_end(self) -> None:
        watching = self._following.watching
        loop = asyncio.get_running_loop()
        with watching.watcher(self.scope) as watcher:
            mark_at = 0.0
            while not watching.closing:
                try:
                    changed = await watcher.take()
                    if changed is None or loop.time() >= mark_at:
                        changed = await self._mark(watcher)
                        mark_at = loop.time() + _MARK_EVERY_S
                    self._begun.set()
                    await self._read_on(changed)
                except StorageUnavailable:
                    watcher.tell(None)
                    await asyncio.sleep(_RETRY_S)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(mark_at - loop.time(), 0)):
                        await watcher.news.wait()

    async def _mark(self, watcher: Watcher) -> set[str]:
        """Keep all environments watched, and return them. The first time, their past events are skipped."""
        looks = await self._following.watching.look_at(await watcher.environments())
        first = not self._begun.is_set()
        self._reached = {
            id_: look.reached if first else self._reached.get(id_, _NOTHING) for id_, look in looks.items()
        }
        return set(looks)

    async def _read_on(self, environment_ids: set[str]) -> None:
        """Read the new events of the timelines. An environment that is new, or was created or restored under the id of an
        earlier one, is marked as watched first, so that none of its events is missed."""
        marked = await self._following.marked(id_ for id_ in environment_ids if id_ in self._reached)
        ids = [id_ for id_ in environment_ids if id_ in marked]
        for id_ in await self._following.watching.look_at(set(environment_ids) - marked):
            self._reached.setdefault(id_, _NOTHING)
            ids.append(id_)
        while ids:
            part, ids = ids[:_READ_AT_ONCE], ids[_READ_AT_ONCE:]
            events, more = await self._following.read(part, self._reached, marked)
            marked |= set(part)
            for event in events:
                self._kept.append(event)
                self.number += 1
            ids += more
            if events:
                self._wake()


class Following:
    """The followers of this process, with one reader per scope.

    Attributes:
        watching: reports when timelines grow.
    """

    def __init__(self, access: Access, watching: Watching, most: int) -> None:
        """Serve up to the given number of followers with the changes that *watching* reports."""
        self.watching = watching
        self._most = most
        self._engine: Engine = access.engine
        self._keys = access.keys
        self._feeds: dict[str, _Feed] = {}

    async def follow(self, scope: str, since: str | None) -> Follower:
        """Register a follower for all events from now on, or after *since*, an entry of a timeline. The caller closes it,
        with `with`.

        Raises:
            StorageUnavailable: Redis does not answer, or the server is going down.
            TooManyAtOnce: no more may follow.
        """
        await self._engine.ping()
        if sum(len(each.followers) for each in self._feeds.values()) >= self._most:
            raise too_many_streams(self._most)
        feed = self._feeds.get(scope)
        if feed is None:
            feed = self._feeds[scope] = _Feed(self, scope)
        follower = Follower(feed, since)
        feed.followers.add(follower)
        try:
            await feed.begun()
        except BaseException:
            feed.leave(follower)
            raise
        return follower

    def forget(self, feed: _Feed) -> None:
        """Forget a reader without followers."""
        if self._feeds.get(feed.scope) is feed:
            del self._feeds[feed.scope]

    async def marked(self, environment_ids: Iterable[str]) -> set[str]:
        """Return those of some environments that are marked as watched, since whenever."""
        ids, found = list(environment_ids), set[str]()
        for start in range(0, len(ids), _READ_AT_ONCE):
            part = ids[start : start + _READ_AT_ONCE]
            marks = await self._engine.commands(("HEXISTS", self._keys.environment(id_), "watched") for id_ in part)
            found |= {id_ for id_, mark in zip(part, marks, strict=True) if mark}
        return found

    async def read(
        self, environment_ids: list[str], reached: dict[str, str], same: set[str]
    ) -> tuple[list[Event | Gap], list[str]]:
        """Return the next events of some environments in the order of their entries, and those which may have more. A `Gap`
        comes first if the ring of one of the *same* no longer holds the entry that was reached: events after it may be gone
        too. The other environments were created again since."""
        replies = await self._engine.commands(
            ("XRANGE", self._keys.environment(id_, "life"), reached[id_], "+", "COUNT", _READ_BATCH + 1)
            for id_ in environment_ids
        )
        events: list[Event] = []
        more: list[str] = []
        cut = False
        for id_, entries in zip(environment_ids, replies, strict=True):
            if len(entries) > _READ_BATCH:
                more.append(id_)
            if entries and entries[0][0] == reached[id_]:
                del entries[0]
            elif entries and id_ in same and reached[id_] != _NOTHING:
                cut = True
            if entries:
                reached[id_] = entries[-1][0]
                events += _events(id_, entries)
        return [*([Gap()] if cut else []), *sorted(events, key=_order)], more

    async def newest(self, environment_ids: list[str], most: int) -> list[Event]:
        """Return the last events of some environments, in the order of their entries."""
        replies = await self._engine.commands(
            ("XREVRANGE", self._keys.environment(id_, "life"), "+", "-", "COUNT", most) for id_ in environment_ids
        )
        found = [
            event for id_, entries in zip(environment_ids, replies, strict=True) for event in _events(id_, entries)
        ]
        return sorted(found, key=_order)[-most:]

    async def look_back(self, up_to: dict[str, str], since: str) -> list[Event | Gap]:
        """Return the last events of environments after an entry, up to one of each; a `Gap` first if there were more."""
        since_ms = max(int(since.partition("-")[0]) - _OVERLAP_MS, 0)
        found: list[Event] = []
        cut = False
        ids = [id_ for id_, reached in up_to.items() if int(reached.partition("-")[0]) >= since_ms]
        for start in range(0, len(ids), _READ_AT_ONCE):
            part = ids[start : start + _READ_AT_ONCE]
            replies = await self._engine.commands(
                ("XREVRANGE", self._keys.environment(id_, "life"), up_to[id_], since_ms, "COUNT", MOST_KEPT + 1)
                for id_ in part
            )
            for id_, entries in zip(part, replies, strict=True):
                found += _events(id_, entries)
            found.sort(key=_order)
            cut = cut or len(found) > MOST_KEPT
            found = found[-MOST_KEPT:]
        return [*([Gap()] if cut else []), *found]


def _events(environment_id: str, entries: Iterable[tuple[str, dict[str, str]]]) -> list[Event]:
    return [event_of(environment_id, entry, fields["e"]) for entry, fields in entries]


def _order(event: Event) -> tuple[int, int]:
    milliseconds, _, number = event.entry.partition("-")
    return int(milliseconds), int(number)
