"""The load of the chaos suite: workers and an enqueuer that retry as they should. Knows the API's verbs and what a lost
answer means for each; no fault, no judgement, nothing of the product.

As a program it reads a command a line from standard input and answers each with a line: `go` starts the lanes (one
thread and one connection each), `drop` hangs up on calls under way, `finish` works the queue off and writes the
journal. It ends with its input.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.support.chaos.calls import GIVE_UP_S, RETRY_FOR_S, Assignment, Call, Lane, LoadFailed, instant_us
from tests.support.chaos.talk import Talker

#: Lease that the workers ask for with each heartbeat, seconds; the shortest there is.
TTL_S = 1
_RECLAIM_MS = 300
#: How often a worker beats for an item it has left.
_COME_BACK = 6
_NO_HEARTBEAT = "NO_HEARTBEAT"


class Enqueuer(Lane):
    """Enqueues with an idempotency key and repeats until answered; now and then once more, which must change nothing."""

    def run(self) -> None:
        number = 0
        while not self.finishing.is_set():
            number += 1
            body = {"count": self.random.randint(1, 6), "idempotency_key": f"{self.name}-{number}"}
            first = self._enqueue(body)
            if self.random.random() < 0.1 and self._enqueue(body) != first:
                raise LoadFailed(f"{self.name}: a repeated key answered other items: {body}")
            self.finishing.wait(self.random.uniform(0, 0.03))

    def _enqueue(self, body: dict[str, Any]) -> list[str]:
        path = f"/_emulator/environments/{self._given.environment}/work"
        call, _ = self.answered("enqueue", "POST", path, work=body["idempotency_key"], body=body)
        return [item["id"] for item in self.of(call, 200)["data"]]


class Worker(Lane):
    """Takes items through the protocol. A few it abandons, as one that dies would. Leaves when the queue is empty."""

    works_off = True

    def __init__(self, given: Assignment, number: int) -> None:
        super().__init__(given, number)
        self._left: list[tuple[str, str, int]] = []  # item, heartbeat, how often it was tried since

    def run(self) -> None:
        while True:
            finishing = self.finishing.is_set()
            item = self._poll(finishing)
            if item is not None:
                self._work(item["id"])
                self._come_back()
            if finishing and (item is None or not self.works_off):
                return

    def _poll(self, finishing: bool) -> Any:
        block_ms = 20 if finishing else self.random.randint(20, 900)
        # A lost poll is not repeated: an item that it may have received comes back by reclaim.
        call, _ = self.answered(
            "poll", "GET", f"{self.path('poll')}?block_ms={block_ms}&reclaim_older_than_ms={_RECLAIM_MS}"
        )
        return self.of(call, 200)

    def _work(self, work: str) -> None:
        if not self._ack(work) or self.random.random() < 0.03:
            return
        beat = self._claim(work)
        for _ in range(self.random.randint(0, 3)):
            if beat is not None and self.random.random() < 0.3:
                self._patch(work)
            if beat is not None:
                beat = self._extend(work, beat)
        if beat is not None and self.random.random() < 0.03:
            self._left.append((work, beat, 0))
            return
        if beat is None:
            return
        if self.random.random() < 0.3:
            self._stop(work, force=False)
            if self.random.random() < 0.1:
                return  # The lease ends, and with it the item.
        self._stop(work, force=True)

    def _ack(self, work: str) -> bool:
        call, doubt = self.answered("ack", "POST", self.path(work, "ack"), work=work)
        answer = self.of(call, 200, 409)
        # After a lost answer `starting` is this worker's own doing or another's: the claim decides.
        return call.status == 200 or (doubt and answer["error"]["message"].endswith("Current state: starting."))

    def _claim(self, work: str) -> str | None:
        # Refused after a lost answer, it may still be this worker's; who lets go loses nothing but a lease's length.
        call, _ = self._beat(work, _NO_HEARTBEAT)
        return str(call.answer["last_heartbeat"]) if call.status == 200 and call.answer["lease_extended"] else None

    def _extend(self, work: str, beat: str) -> str | None:
        call, doubt = self._beat(work, beat)
        if call.status == 200:
            return str(call.answer["last_heartbeat"]) if call.answer["lease_extended"] else None
        stored = call.answer["error"]["details"]["current_state"]["last_heartbeat"]
        # Until its lease ends, only the holder can have changed the heartbeat.
        if doubt and stored is not None and 0 < instant_us(stored) - instant_us(beat) < TTL_S * 1_000_000:
            call.adopted = True
            return str(stored)
        self._left.append((work, beat, 0))
        return None

    def _come_back(self) -> None:
        """Beat for an item it left or lost, as a worker does that was asleep: refused, if another holds it by now."""
        if self._left:
            work, beat, tries = self._left.pop(0)
            call, _ = self._beat(work, beat)
            held = call.status == 200 and call.answer["lease_extended"]
            if tries < _COME_BACK and (held or call.status == 412):
                self._left.append((work, call.answer["last_heartbeat"] if held else beat, tries + 1))

    def _beat(self, work: str, expected: str) -> tuple[Call, bool]:
        query = f"?expected_last_heartbeat={expected}&desired_ttl_seconds={TTL_S}"
        call, doubt = self.answered(
            "heartbeat", "POST", self.path(work, "heartbeat") + query, work=work, expected=expected
        )
        self.of(call, 200, 412)
        return call, doubt

    def _patch(self, work: str) -> None:
        call, _ = self.answered("update", "POST", self.path(work), work=work, body={"metadata": {"by": self.name}})
        self.of(call, 200)

    def _stop(self, work: str, *, force: bool) -> None:
        verb = "force stop" if force else "stop"
        call, _ = self.answered(verb, "POST", self.path(work, "stop"), work=work, body={"force": force})
        self.of(call, 200)


class Guest(Worker):
    """A worker that leaves when it is asked to, whatever is left to do."""

    works_off = False


ROLES = {"enqueuer": Enqueuer, "talker": Talker, "worker": Worker, "guest": Guest}


@dataclass(slots=True)
class Crew:
    """The lanes of one assignment, each in a thread."""

    given: Assignment
    lanes: list[Lane] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def go(self) -> None:
        """Start all lanes."""
        self.lanes = [ROLES[self.given.role](self.given, number) for number in range(self.given.lanes)]
        self._threads = [threading.Thread(target=self._run, args=(lane,), daemon=True) for lane in self.lanes]
        for thread in self._threads:
            thread.start()

    def _run(self, lane: Lane) -> None:
        try:
            lane.run()
        except Exception:
            # Whatever it is, it must reach the judgement.
            self.failures.append(traceback.format_exc())
        finally:
            lane.close()

    def drop(self, seed: int) -> int:
        """Hang up on the calls under way, each with a chance of two in three; return on how many."""
        chance = random.Random(seed)
        return sum(lane.drop(chance) for lane in self.lanes if chance.random() < 2 / 3)

    def finish(self) -> str:
        """Let all lanes finish, write the journal, and return the problems, if any."""
        for lane in self.lanes:
            lane.finish()
        for thread in self._threads:
            thread.join(RETRY_FOR_S + GIVE_UP_S)
            if thread.is_alive():
                self.failures.append(f"{self.given.name}: a lane does not come to an end")
        calls = [call for lane in self.lanes for call in lane.journal]
        Path(self.given.journal).write_text("".join(json.dumps(asdict(call)) + "\n" for call in calls))
        return "\n".join(self.failures)


def main() -> None:
    """Obey the commands that come in."""
    crew: Crew | None = None
    for line in sys.stdin:
        word, given = json.loads(line)
        answer: str | int = ""
        if word == "go":
            crew = Crew(Assignment(**given))
            crew.go()
        else:
            assert crew is not None
            answer = crew.drop(given) if word == "drop" else crew.finish()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
