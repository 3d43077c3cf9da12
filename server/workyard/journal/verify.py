"""Verification of expected requests: filters over the journal, expectations, and the nearest request to an expectation
that is not met. Owns no storage.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

from workyard_store.ids import canonical_session_id, work_id

from ..wire.exchange import UNKNOWN
from ..wire.operations import OPERATIONS
from .entry import Entry
from .journal import Reading

#: Stands for every operation.
ANY = "any"
_US = 1_000_000
#: Matching entries that an answer names.
_MOST_NAMED = 10


def _words() -> frozenset[str]:
    operations = {*OPERATIONS.values(), UNKNOWN}
    groups = {".".join(parts[:n]) for each in operations for parts in [each.split(".")] for n in range(1, len(parts))}
    return frozenset(operations | groups | {ANY})


#: Values of `on`: an operation, a group of them such as `environments` or `sessions.events`, or `any`.
WORDS = _words()


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter of requests; members that are None match anything.

    Attributes:
        on: one of `WORDS`.
        status: three digits, or the first and `xx`.
        session_id: also matches requests on the session's work item, in any environment.
        since, until: bounds of the arrival in wall time, microseconds; the second is exclusive.
    """

    on: str | None = None
    status: str | None = None
    environment_id: str | None = None
    work_id: str | None = None
    session_id: str | None = None
    worker_id: str | None = None
    request_id: str | None = None
    since: int | None = None
    until: int | None = None

    def differs(self, entry: Entry) -> list[str]:
        """Return the names of the members that do not match; empty: the entry matches."""
        return [each.name for each in _CHECKS if not self._agrees(each.name, entry)]

    def matches(self, entry: Entry) -> bool:
        """Return whether an entry matches."""
        return all(self._agrees(name, entry) for name in self.given)

    @property
    def given(self) -> list[str]:
        """Return the names of the members that are set."""
        return [each.name for each in _CHECKS if getattr(self, each.name) is not None]

    def _agrees(self, name: str, entry: Entry) -> bool:
        wanted = getattr(self, name)
        if wanted is None:
            return True
        match name:
            case "on":
                return wanted == ANY or entry.on == wanted or entry.on.startswith(f"{wanted}.")
            case "status":
                status = str(entry.status)
                return bool(status == wanted or (wanted.endswith("xx") and status[0] == wanted[0] and len(status) == 3))
            case "session_id":
                session = canonical_session_id(wanted) or wanted
                return entry.session_id == session or (
                    entry.work_id != "" and entry.work_id == _item_of(entry.environment_id, session)
                )
            case "since":
                return bool(entry.at >= wanted)
            case "until":
                return bool(entry.at < wanted)
        return bool(getattr(entry, name) == wanted)


_CHECKS = fields(Filter)


@lru_cache(maxsize=256)
def _item_of(environment_id: str, session_id: str) -> str:
    return work_id(environment_id, session_id)


@dataclass(frozen=True, slots=True)
class Expectation:
    """The expected number of requests that match a filter.

    Attributes:
        which: the filter.
        at_least, at_most: the bounds; None: unbounded.
        within_us: count only the requests within one span of this length, placed so that it contains the most of them;
            None: count all.
    """

    which: Filter
    at_least: int | None
    at_most: int | None
    within_us: int | None


@dataclass(frozen=True, slots=True)
class Failure:
    """An expectation that is not met, or that the journal cannot decide.

    Attributes:
        index: its place among the expectations.
        found: the number of matching requests.
        known: whether the journal can decide it.
        reason: the problem.
        matches: numbers of the last matching requests.
        nearest: if too few were found, the request that differs in the fewest members; `differs` names these.
    """

    index: int
    found: int
    known: bool
    reason: str
    matches: list[int]
    nearest: Entry | None
    differs: list[str]


async def verify(expectations: Sequence[Expectation], reading: Reading, *, in_order: bool) -> list[Failure]:
    """Return the failed expectations; empty if all are met.

    Args:
        expectations: the expectations.
        reading: the requests.
        in_order: whether each expectation that requires a request must find one after the request of the previous one.
    """
    failures: list[Failure] = []
    for index, expectation in enumerate(expectations):
        failure = _check(index, expectation, reading)
        failures += [] if failure is None else [failure]
        await asyncio.sleep(0)  # There may be many entries to check: let other tasks run meanwhile.
    if in_order and not failures:
        failures = _out_of_order(expectations, reading)
    return failures


def _check(index: int, expected: Expectation, reading: Reading) -> Failure | None:
    matching = [entry for entry in reading.entries if expected.which.matches(entry)]
    count = len(matching) if expected.within_us is None else _most_within(matching, expected.within_us)
    too_few = expected.at_least is not None and count < expected.at_least
    too_many = expected.at_most is not None and count > expected.at_most
    # Dropped entries can only have added to the number.
    known = too_many or not (too_few or expected.at_most is not None) or _knows_all(reading)
    if known and not too_few and not too_many:
        return None
    span = "" if expected.within_us is None else f" within {expected.within_us / _US:g} s"
    if not known:
        reason = f"found {count}{span}, and nobody can tell whether there were more: {_unknown(reading)}"
    elif too_few:
        reason = f"found {count}{span}, expected at least {expected.at_least}"
    else:
        most = f"at most {expected.at_most}" if expected.at_most else "none"
        reason = f"found {count}{span}, expected {most}"
    nearest, differs = _nearest(expected.which, reading.entries) if too_few else (None, [])
    numbers = [entry.number for entry in matching[-_MOST_NAMED:]]
    return Failure(index, count, known, reason, numbers, nearest, differs)


def _knows_all(reading: Reading) -> bool:
    return reading.complete and reading.extent.dropped == 0


def _unknown(reading: Reading) -> str:
    """Return why the journal cannot decide."""
    if not reading.keeps:
        return "the journal is off"
    if reading.extent.dropped:
        return f"the journal has dropped {reading.extent.dropped} older requests"
    return "a server process did not say what it has answered, or could not write it"


def _most_within(matching: Sequence[Entry], span_us: int) -> int:
    """Return the largest number of entries, sorted by time, within one span."""
    most = start = 0
    for end, entry in enumerate(matching):
        while matching[start].at < entry.at - span_us:
            start += 1
        most = max(most, end - start + 1)
    return most


def _nearest(which: Filter, entries: Iterable[Entry]) -> tuple[Entry | None, list[str]]:
    """Return the newest of the entries that differ in the fewest members, if it differs in some but not in all."""
    differing = ((which.differs(entry), entry) for entry in entries)
    near = heapq.nsmallest(
        1,
        ((len(differs), -entry.at, -entry.number, entry, differs) for differs, entry in differing if differs),
        key=lambda each: each[:3],
    )
    if not near or near[0][0] == len(which.given):
        return None, []
    return near[0][3], near[0][4]


def _out_of_order(expectations: Sequence[Expectation], reading: Reading) -> list[Failure]:
    place, before = 0, 0
    for index, expected in enumerate(expectations):
        if not expected.at_least:
            continue
        numbers = [n for n, entry in enumerate(reading.entries) if expected.which.matches(entry)]
        behind = [n for n in numbers if n >= place]
        if not behind:
            known = _knows_all(reading)
            reason = f"none of the {len(numbers)} found came behind the one found for expectation {before}"
            if not known:
                reason += f", and nobody can tell whether there were more: {_unknown(reading)}"
            matches = [reading.entries[n].number for n in numbers[-_MOST_NAMED:]]
            return [Failure(index, len(numbers), known, reason, matches, None, [])]
        place, before = behind[0] + 1, index
    return []
