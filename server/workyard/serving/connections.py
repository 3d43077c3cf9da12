"""The connections of one server process: the limit on their number, and the time-outs of idle and slow ones.

Owns the limits on input and the regular check for slow clients; `protocol.py` speaks HTTP. Requests have no timers of their
own: each connection keeps its deadline, and one regular check finds the connections that have passed it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol as Shape

from ..settings import Settings

_log = logging.getLogger("workyard")

#: Open files reserved for other uses than client connections: Redis, files, the program's own.
_OTHER_FILES = 128
#: Seconds between two lines about refused connections or bytes that are not HTTP.
_LINES_EVERY_S = 10.0
_LONGEST_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class WireLimits:
    """The input limits of a process. `…_bytes` in bytes, `…_s` in seconds; the settings describe each."""

    url_bytes: int
    header_bytes: int
    connections: int
    head_s: float
    body_s: float
    idle_s: float
    write_s: float

    @classmethod
    def of(cls, settings: Settings, room: int | None = None) -> WireLimits:
        """Return the limits from the settings; *room*: another maximum number of connections."""
        return cls(
            url_bytes=settings.max_url_bytes,
            header_bytes=settings.max_header_bytes,
            connections=room or settings.max_connections,
            head_s=settings.head_timeout,
            body_s=settings.body_timeout,
            idle_s=settings.idle_timeout,
            write_s=settings.write_timeout,
        )


class Watched(Shape):
    """A connection that is checked regularly."""

    def look(self, now: float) -> None:
        """End the connection, or its request, if it has taken too long; *now*: seconds on the event loop's clock."""


class Connections:
    """The connections of one process, and how it treats slow ones.

    It is passed to server processes at their start, so before its first connection it holds only limits.
    """

    def __init__(self, limits: WireLimits) -> None:
        self.limits = limits
        shortest = min(limits.head_s, limits.body_s, limits.idle_s, limits.write_s)
        self._every_s = min(shortest / 4, _LONGEST_LOOK_S)
        self._looking = False
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def watch(self, loop: asyncio.AbstractEventLoop, connections: Collection[Watched]) -> None:
        """Check *connections* regularly as long as there are any."""
        if not self._looking:
            self._looking = True
            loop.call_later(self._every_s, self._look, loop, connections)

    def _look(self, loop: asyncio.AbstractEventLoop, connections: Collection[Watched]) -> None:
        now = loop.time()
        for each in list(connections):
            each.look(now)
        self._looking = False
        if connections:
            self.watch(loop, connections)

    def tell(self, what: str, now: float) -> None:
        """Log a warning about client behaviour, at most once every ten seconds for the same text."""
        untold = self._untold.get(what, 0)
        if now - self._told_at.get(what, -_LINES_EVERY_S) < _LINES_EVERY_S:
            self._untold[what] = untold + 1
            return
        self._told_at[what], self._untold[what] = now, 0
        _log.warning("%s%s", what, f" ({untold} more since this was last said)" if untold else "")


def make_room(settings: Settings) -> int:
    """Raise this process's limit of open files as far as allowed, and return how many connections that permits.

    At most `max_connections`; a log line reports a lower number.
    """
    if sys.platform == "win32":
        return settings.max_connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + settings.redis_connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        reached = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (reached, hard))
            soft = reached
        except (OSError, ValueError):
            pass
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings.max_connections
    room = max(soft - settings.redis_connections - _OTHER_FILES, 1)
    _log.warning(
        "at most %d connections, not %d (--max-connections / WORKYARD_MAX_CONNECTIONS): this process can "
        "open only %d files",
        room,
        settings.max_connections,
        soft,
    )
    return room
