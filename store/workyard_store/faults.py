"""The fault rules of workspaces: their storage, their counters, and the decision which rules apply, shared by all server
processes. The server's `faults/rules.py` knows what a rule contains and which calls it matches, `faults/apply.py` there
what it does.

A workspace with rules marks its environments, so that the scripts of API calls ask first (`Access.run`); a workspace
without rules pays nothing. Every method raises `StorageUnavailable` when Redis does not answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .engine.engine import Engine, Reply
from .ids import random_suffix
from .lua.faults import AskedRule, FaultAsk, FaultDelete, FaultPut, NewRule
from .workspaces.workspaces import Profile, WorkspaceStore

#: Workspaces whose rules a process remembers.
_MOST_REMEMBERED = 1000
#: No version of any rules.
_NONE_KNOWN = "-"
RuleT = TypeVar("RuleT")


@dataclass(frozen=True, slots=True)
class Dice:
    """Selects the calls that a rule is applied to, among those that it matches.

    Attributes:
        nth: ordinals of the calls to hit: `every`, numbers with commas around each, or empty for all.
        probability: the probability that a call is hit, or None.
        seed: any text; together with the number of the call it decides the random choice.
        times: maximum number of applications, or None.
        settles: whether the rule determines the answer; no later rule that does so is then applied to the call.
    """

    nth: str = ""
    probability: float | None = None
    seed: str = ""
    times: int | None = None
    settles: bool = True


@dataclass(frozen=True, slots=True)
class StoredRule(Generic[RuleT]):
    """A rule as it is kept: `number` within its workspace, from 1; `ends_at` in us of the workspace's time, or None."""

    number: int
    ends_at: int | None
    rule: RuleT


@dataclass(frozen=True, slots=True)
class Counted(Generic[RuleT]):
    """A rule, how many calls it has been asked about, and how often it was applied."""

    stored: StoredRule[RuleT]
    asked: int
    hits: int


class FaultStore(Generic[RuleT]):
    """The fault rules of all workspaces.

    Attributes:
        heard_of_any: False while this process can be sure that no workspace has rules. Only the embedded engine, which no
            other process shares, gives that certainty. Code that restores rules there without this class must set it.
    """

    def __init__(
        self, engine: Engine, workspaces: WorkspaceStore, read: Callable[[str], RuleT | None], wall: Callable[[], int]
    ) -> None:
        """Store rules as texts that *read* parses; it returns None for a text it cannot parse."""
        self._engine = engine
        self._workspaces = workspaces
        self._read = read
        self._wall = wall
        self._known: dict[str, tuple[str, list[StoredRule[RuleT]]]] = {}
        self.heard_of_any = engine.name != "embedded"

    def _key(self, workspace: str, name: str) -> str:
        return self._engine.keys.workspace(workspace, name)

    async def put(
        self, workspace: str, rules: Sequence[tuple[str, int | None]], *, replace: bool, most: int
    ) -> int | None:
        """Add rules, all or none. Every call that starts after this returns is asked about them.

        Args:
            workspace: where.
            rules: the text of each, and for how long it lives, us of the workspace's time, or None.
            replace: whether they replace all existing rules.
            most: maximum number of rules of a workspace.

        Returns: the number of the first, or None if there would be too many.
        """
        self.heard_of_any = True
        new = [NewRule(text, lives) for text, lives in rules]
        call = FaultPut(version=random_suffix(), replace=replace, most=most, rules=new)
        reply = await self._workspaces.write(call, workspace)
        if reply.word == "FULL":
            return None
        await self._workspaces.spread(workspace, Profile.of(reply.profile))
        return reply.first

    async def delete(self, workspace: str, number: int | None) -> int:
        """Remove a rule, or all. Return how many were removed."""
        reply = await self._workspaces.run(FaultDelete(number=number, version=random_suffix()), workspace)
        if reply.removed:
            await self._workspaces.spread(workspace, Profile.of(reply.profile))
        return reply.removed

    async def all(self, workspace: str) -> list[Counted[RuleT]]:
        """Return a workspace's rules in their order."""
        stored, counts = await self._engine.commands(
            [("HGETALL", self._key(workspace, "faults")), ("HGETALL", self._key(workspace, "fault_counts"))]
        )
        count = _pairs(counts)
        return [
            Counted(each, int(count.get(f"{each.number} asked", 0)), int(count.get(f"{each.number} hits", 0)))
            for each in self._rules(_pairs(stored))
        ]

    async def are_in(self, workspace: str) -> bool:
        """Return whether a workspace has rules."""
        return bool(await self._engine.command("HGET", self._key(workspace, "state"), "faults"))

    async def ask(
        self, workspace: str, fits: Callable[[RuleT], bool], dice: Callable[[RuleT], Dice], *, settled: bool = False
    ) -> list[StoredRule[RuleT]]:
        """Count a call for the rules that match it, and return those that are applied to it, in their order.

        Args:
            workspace: whose rules.
            fits: returns whether a rule matches the call.
            dice: returns how a rule selects calls.
            settled: whether the call's answer is already determined: then no rule that determines it is applied.
        """
        self.heard_of_any = True
        while True:
            version, rules = self._known.get(workspace, (_NONE_KNOWN, []))
            fitting = [stored for stored in rules if fits(stored.rule)]
            asked = [_asked(stored, dice(stored.rule)) for stored in fitting]
            reply = await self._workspaces.run(FaultAsk(version=version, settled=settled, rules=asked), workspace)
            if reply.word == "OK":
                applied = set(reply.numbers)
                return [stored for stored in fitting if stored.number in applied]
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[workspace] = reply.version, self._rules(_pairs(reply.stored))

    def _rules(self, stored: dict[str, str]) -> list[StoredRule[RuleT]]:
        found: list[StoredRule[RuleT]] = []
        for number in sorted(int(name) for name in stored if name != "version"):
            ends, _, text = stored[str(number)].partition("\n")
            rule = self._read(text)
            if rule is not None:
                found.append(StoredRule(number, int(ends) if ends else None, rule))
        return found


def _asked(stored: StoredRule[RuleT], dice: Dice) -> AskedRule:
    return AskedRule(
        number=stored.number,
        nth=dice.nth,
        probability=dice.probability,
        dice_seed=int.from_bytes(hashlib.sha256(dice.seed.encode()).digest()[:3]),
        times=dice.times,
        ends_at=stored.ends_at,
        settles=dice.settles,
    )


def _pairs(reply: Reply) -> dict[str, str]:
    """Return a hash as Redis answers it, whichever protocol it speaks."""
    return dict(reply) if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
