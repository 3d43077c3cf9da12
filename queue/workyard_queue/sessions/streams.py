"""Listeners to the events of sessions in this process. Owns no event: when the wake channel reports new events, a listener
reads the session from the last event it sent. Listeners have no Redis connections of their own, and those at the same
place share a read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from types import TracebackType
from typing import assert_never

from workyard_store.access import Caller
from workyard_store.engine.wake import Changed, Missed, SessionDeleted, SessionEvents
from workyard_store.errors import EnvironmentNotFound, SessionNotFound, StorageUnavailable, TooManyAtOnce
from workyard_store.ids import canonical_session_id

from .records import SessionEvent
from .sessions import Sessions

#: Seconds of silence after which a listener gets a ping.
PING_EVERY_S = 15.0
#: Seconds after which a listener retries a read that failed because Redis is away.
_RETRY_S = 1.0
#: Events that one read takes.
_BATCH = 200
#: Events that are always a session's last.
_LAST = ("session.status_terminated",)


def too_many_streams(most: int) -> TooManyAtOnce:
    """Return the error for one event stream too many."""
    return TooManyAtOnce(
        f"At most {most} streams of this kind may be open in a server process (--max-streams / WORKYARD_MAX_STREAMS)",
        rule="limits.streams",
    )


class Listener:
    """One client that listens to one session, from its registration until `close`.

    Attributes:
        session_id: the session, and `environment_id` where it is.
        entry: the place of the last event it has sent.
        over: whether that was the session's last.
        deleted_at: when the session was deleted, microseconds, if a message reported that.
    """

    def __init__(self, streams: EventStreams, session_id: str) -> None:
        self.session_id = session_id
        self.environment_id = ""
        self.entry = 0
        self.over = False
        self.deleted_at: int | None = None
        self.news = asyncio.Event()
        self._streams = streams

    async def events(self) -> AsyncIterator[SessionEvent | str]:
        """Yield each event once, `ping` when there was none for long, and `deleted` as the last if the session is gone.

        Ends after the session's last event, and when the server stops; not because Redis is away.
        """
        while not (self.over or self._streams.closing):
            try:
                async with asyncio.timeout(PING_EVERY_S):
                    await self.news.wait()
            except TimeoutError:
                yield "ping"
            self.news.clear()
            found: list[SessionEvent] | None = None
            while found is None or len(found) == _BATCH:
                try:
                    found = await self._streams.read(self)
                except (SessionNotFound, EnvironmentNotFound):
                    yield "deleted"
                    return
                except StorageUnavailable:
                    asyncio.get_running_loop().call_later(_RETRY_S, self.news.set)
                    break
                for event in found:
                    self.entry, self.over = event.entry, event.content["type"] in _LAST
                    yield event

    def close(self) -> None:
        """Stop listening."""
        self._streams.leave(self)

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EventStreams:
    """The listeners of this process.

    Attributes:
        sessions: where they read.
        closing: whether the server is going down.
    """

    def __init__(self, sessions: Sessions, most: int) -> None:
        """Serve up to the given number of listeners from *sessions*."""
        self.sessions = sessions
        self._most = most
        self.closing = False
        self._listeners: dict[str, set[Listener]] = {}
        # Reads under way that began after the last news of any session, by environment, session, and place in it.
        self._reads: dict[tuple[str, str, int], asyncio.Task[list[SessionEvent]]] = {}

    @property
    def listening(self) -> int:
        """Return how many clients listen here."""
        return sum(map(len, self._listeners.values()))

    async def listen(self, session_id: str, caller: Caller) -> Listener:
        """Register a listener for all events appended from now on. The caller closes it.

        Raises:
            SessionNotFound: the caller reaches no such session.
            TooManyAtOnce: no more may listen.
        """
        known = canonical_session_id(session_id)
        if known is None:
            raise SessionNotFound(session_id)
        if self.listening >= self._most:
            raise too_many_streams(self._most)
        listener = Listener(self, known)
        self._listeners.setdefault(known, set()).add(listener)
        try:
            listener.environment_id, last = await self.sessions.newest(session_id, caller)
            listener.entry, listener.over = last.entry, last.content["type"] in _LAST
        except BaseException:
            listener.close()
            raise
        return listener

    async def read(self, listener: Listener) -> list[SessionEvent]:
        """Return the next events for a listener, in one read for all listeners at the same place.

        Raises:
            SessionNotFound, EnvironmentNotFound: the session is gone.
            StorageUnavailable: Redis did not answer.
        """
        place = (listener.environment_id, listener.session_id, listener.entry)
        reading = self._reads.get(place)
        if reading is None:
            reading = self._reads[place] = asyncio.create_task(self.sessions.behind(*place, _BATCH))
            reading.add_done_callback(partial(self._has_read, place))
        return await asyncio.shield(reading)

    def _has_read(self, place: tuple[str, str, int], reading: asyncio.Task[list[SessionEvent]]) -> None:
        if self._reads.get(place) is reading:
            del self._reads[place]
        if not reading.cancelled():
            reading.exception()  # Those who waited may all have left.

    def leave(self, listener: Listener) -> None:
        """Forget a listener."""
        others = self._listeners.get(listener.session_id, set())
        others.discard(listener)
        if not others:
            self._listeners.pop(listener.session_id, None)

    def heard(self, message: SessionEvents | SessionDeleted | Changed | Missed) -> None:
        """Wake the listeners that a message of the wake channel concerns: a changed environment may be gone."""
        self._reads.clear()
        match message:
            case SessionEvents(session_id):
                concerned = self._listeners.get(session_id, set())
            case SessionDeleted(session_id, deleted_at):
                concerned = self._listeners.get(session_id, set())
                for listener in concerned:
                    listener.deleted_at = deleted_at
            case Changed(environment_id):
                concerned = {each for each in self._all() if each.environment_id == environment_id}
            case Missed():
                concerned = set(self._all())
            case _:
                assert_never(message)
        for listener in concerned:
            listener.news.set()

    def _all(self) -> Iterator[Listener]:
        for listeners in self._listeners.values():
            yield from listeners

    def close(self) -> None:
        """End every stream now: the server is going down."""
        self.closing = True
        self.heard(Missed())
