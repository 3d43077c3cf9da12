"""Instants and clocks: microseconds since 1970, their RFC 3339 form, and a workspace's clock. Reads the wall clock
in one place only (`wall_now`); scripts and tests pass instants.

Microseconds fit a Lua double until 2255; `LAST_INSTANT` stops a clock well before that.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_MICROSECOND = timedelta(microseconds=1)
_RENDERED_LENGTH = len("1970-01-01T00:00:00.000000Z")
_second_cache: tuple[int, str] = (0, "1970-01-01T00:00:00")

#: 2200-01-01T00:00:00Z in microseconds: the latest instant a clock may be set to.
LAST_INSTANT = 7_258_118_400_000_000


def wall_now() -> int:
    """Return the wall clock in microseconds since 1970."""
    return time.time_ns() // 1000


def format_instant(us: int) -> str:
    """Render an instant as the API does: UTC, always six fractional digits, `Z`. Rule: `conventions.timestamps`."""
    global _second_cache
    second, fraction = divmod(us, 1_000_000)
    cached, text = _second_cache
    if second != cached:
        text = (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
        _second_cache = (second, text)
    return f"{text}.{fraction:06d}Z"


def parse_instant(text: str) -> int | None:
    """Return the instant of an RFC 3339 timestamp in microseconds (finer digits are cut off), or None if it is not one."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    us = (moment - _EPOCH) // _MICROSECOND + int((match[7] or "0").ljust(9, "0")[:6])
    if match[9]:
        if int(match[10]) > 23 or int(match[11]) > 59:
            return None
        offset = (int(match[10]) * 60 + int(match[11])) * 60_000_000
        us -= offset if match[9] == "+" else -offset
    return us


def rendered_instant(text: str) -> int | None:
    """Return the instant whose rendering is *text* byte for byte, or None if no instant renders so."""
    if len(text) != _RENDERED_LENGTH:
        return None
    try:
        us = (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
    except (ValueError, TypeError):
        return None
    return us if us >= 0 and format_instant(us) == text else None


@dataclass(frozen=True, slots=True)
class Clock:
    """A workspace's clock. `shift_us`: how far a ticking clock is ahead; `frozen_at`: the instant it stands at, or None;
    `auto`: it stands, and the server moves it to the next timer when everybody waits."""

    shift_us: int = 0
    frozen_at: int | None = None
    auto: bool = False

    @property
    def mode(self) -> str:
        """Return `real` (ticking, perhaps ahead of wall time), `frozen` or `auto`."""
        if self.auto:
            return "auto"
        return "real" if self.frozen_at is None else "frozen"

    def now(self, wall: int) -> int:
        """Return the workspace's instant for a wall instant, both in microseconds."""
        return wall + self.shift_us if self.frozen_at is None else self.frozen_at
