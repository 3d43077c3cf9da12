"""The checks of the chaos suite: conditions on the journal and the end state that hold after any fault. Pure
functions over plain data; imports nothing from the product.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from operator import itemgetter
from typing import Any

from tests.support.chaos.calls import Call, instant_us
from tests.support.chaos.load import TTL_S

#: No request may take longer, seconds: 0.9 s that a poll blocks, 2 s socket timeout, 1 s to connect, and some for a
#: busy machine.
LONGEST_S = 5.0
_NO_HEARTBEAT = "NO_HEARTBEAT"
_STATUSES = {"ack": {200, 409}, "heartbeat": {200, 412}}


def judge(calls: Iterable[Call], items: list[dict[str, Any]], stats: dict[str, Any]) -> list[str]:
    """Return every breach of the promise, in words; none is the aim.

    Args:
        calls: the journal, of every lane.
        items: the work list at the end.
        stats: the queue's figures at the end.
    """
    journal = sorted(calls, key=lambda call: call.begun)
    by_work: dict[str, list[Call]] = defaultdict(list)
    for call in journal:
        handed_out = call.verb == "poll" and call.status == 200 and call.answer is not None
        by_work[call.answer["id"] if handed_out else call.work].append(call)
    broken = answers(journal) + presence(journal, items) + ends(by_work, items)
    for work, of_one in by_work.items():
        broken += leases(work, of_one) + finality(work, of_one)
    if (stats["depth"], stats["pending"], stats["oldest_queued_at"]) != (0, 0, None):
        broken.append(f"the queue is not empty at the end: {stats}")
    return broken


def answers(journal: list[Call]) -> list[str]:
    """Every request ends in time, with a status its verb may have."""
    broken = []
    for call in journal:
        took_s = call.ended - call.begun
        if took_s > LONGEST_S:
            broken.append(f"{call.verb} {call.work} took {took_s:.1f} s")
        if call.status not in _STATUSES.get(call.verb, {200}) | {0, 503}:
            broken.append(f"{call.verb} {call.work} answered {call.status}: {call.answer}")
    return broken


def presence(journal: list[Call], items: list[dict[str, Any]]) -> list[str]:
    """Every accepted item is there, once, and no other; a key stands for the same items whenever it is answered."""
    broken = []
    accepted: dict[str, list[str]] = {}
    for call in journal:
        if call.verb == "enqueue" and call.status == 200:
            made = [item["id"] for item in call.answer["data"]]
            if accepted.setdefault(call.work, made) != made:
                broken.append(f"key {call.work} stands for {accepted[call.work]} and for {made}")
    wanted = sorted(work for made in accepted.values() for work in made)
    found = sorted(item["id"] for item in items)
    for word, works in (("lost", set(wanted) - set(found)), ("nobody's", set(found) - set(wanted))):
        if works:
            broken.append(f"{len(works)} items are {word}: {sorted(works)[:5]}")
    for word, works_listed in (("accepted", wanted), ("listed", found)):
        if len(works_listed) != len(set(works_listed)):
            broken.append(f"an item is {word} twice")
    return broken


def ends(by_work: dict[str, list[Call]], items: list[dict[str, Any]]) -> list[str]:
    """Every item is stopped, and has the metadata that a client set, if the client got an answer."""
    broken = []
    for item in items:
        if item["state"] != "stopped" or item["stopped_at"] is None:
            broken.append(f"{item['id']} ended {item['state']}")
        updates = [call for call in by_work[item["id"]] if call.verb == "update" and call.sent]
        allowed: set[str | None] = {call.lane for call in updates}
        if not any(call.status == 200 for call in updates):
            allowed.add(None)
        if item["metadata"].get("by") not in allowed:
            broken.append(f"{item['id']} has metadata {item['metadata']}, not by {allowed}")
    return broken


def leases(work: str, calls: list[Call]) -> list[str]:
    """No two workers hold a lease at once: accepted heartbeats form chains, each by one lane, and a chain begins no
    sooner than the lease of the one before it ends.
    """
    broken = []
    chain: list[tuple[int, int | None, str]] = []  # instant, the one it followed or None, lane
    for call in calls:
        if call.verb != "heartbeat":
            continue
        if call.status == 200 and call.answer["lease_extended"]:
            made = call.answer["last_heartbeat"]
        elif call.adopted:
            made = call.answer["error"]["details"]["current_state"]["last_heartbeat"]
        else:
            continue
        followed = None if call.expected == _NO_HEARTBEAT else instant_us(call.expected)
        chain.append((instant_us(made), followed, call.lane))
    chain.sort(key=itemgetter(0))
    for before, after in pairwise(chain):
        if after[0] == before[0]:
            broken.append(f"{work}: two heartbeats are dated {after[0]}, by {before[2]} and {after[2]}")
        elif after[1] is None:
            if after[0] < before[0] + TTL_S * 1_000_000:
                broken.append(f"{work}: {after[2]} claimed it while {before[2]} held it")
        elif (after[1], after[2]) != (before[0], before[2]):
            broken.append(f"{work}: {after[2]} extended from {after[1]}, but the last was {before[0]} by {before[2]}")
    if chain and chain[0][1] is not None:
        broken.append(f"{work}: {chain[0][2]} extended a lease that nobody claimed")
    return broken


def finality(work: str, calls: list[Call]) -> list[str]:
    """An item stopped by force stays stopped: no worker gets, acknowledges or holds it afterwards."""
    broken = []
    stops = [call for call in calls if call.verb == "force stop" and call.status == 200]
    if any(call.answer["state"] != "stopped" for call in stops):
        broken.append(f"{work}: a forced stop did not stop it")
    stopped_at = min((call.ended for call in stops), default=None)
    for call in calls:
        if stopped_at is None or call.begun <= stopped_at or call.status != 200:
            continue
        if call.verb in ("poll", "ack") or (call.verb == "heartbeat" and call.answer["lease_extended"]):
            broken.append(f"{work}: {call.verb} by {call.lane} was accepted after it had been stopped")
    return broken
