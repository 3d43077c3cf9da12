"""The connections of one server process: how many there may be, and which are cut off because nothing comes or goes on them.

Owns the limits of what comes off the wire and the look around for slow clients; what a connection says is `protocol.py`'s business.
No timer of its own for each request: a connection notes until when it may wait, and one look now and then finds those that
have waited too long.
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

#: Open files that are kept free for what is not a connection: Redis, files, the program's own.
_OTHER_FILES = 128
#: Seconds between two lines about refused connections or bytes that are not HTTP.
_LINES_EVERY_S = 10.0
_LONGEST_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What a process takes off the wire. `…_bytes` in bytes, `…_s` in seconds; the settings say what each is."""

    url_bytes: int
    header_bytes: int
    connections: int
    head_s: float
    body_s: float
    idle_s: float
    write_s: float

    @classmethod
    def of(cls, settings: Settings, room: int | None = None) -> WireLimits:
        """Return the limits that the settings name; *room*: for so many connections instead."""
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
    """A connection that is looked at now and then."""

    def look(self, now: float) -> None:
        """End what has taken too long; *now*: seconds on the event loop's clock."""


class Connections:
    """The connections of one process, and how it treats slow ones.

    It is handed to server processes when they are started, so until its first connection it holds limits only.
    """

    def __init__(self, limits: WireLimits) -> None:
        self.limits = limits
        shortest = min(limits.head_s, limits.body_s, limits.idle_s, limits.write_s)
        self._every_s = min(shortest / 4, _LONGEST_LOOK_S)
        self._looking = False
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def watch(self, loop: asyncio.AbstractEventLoop, connections: Collection[Watched]) -> None:
        """Look at *connections* every so often for as long as there are any."""
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
        """Log a line about *what* somebody outside does, however often they do it not more than one in ten seconds."""
        untold = self._untold.get(what, 0)
        if now - self._told_at.get(what, -_LINES_EVERY_S) < _LINES_EVERY_S:
            self._untold[what] = untold + 1
            return
        self._told_at[what], self._untold[what] = now, 0
        _log.warning("%s%s", what, f" ({untold} more since this was last said)" if untold else "")


def make_room(settings: Settings) -> int:
    """Raise this process's limit of open files as far as it may be, and return how many connections that leaves room for.

    At most `max_connections`; if it is fewer, a line of the log says so.
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
