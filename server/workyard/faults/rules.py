"""Fault rules: their shape, their checks, which calls a rule matches, how it is stored. `kinds.py` has the kinds of
faults, `apply.py` applies them to calls; the store's `faults.py` counts the calls. Rules: `faults.*`; docs/faults.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema, field_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from workyard_store.calls import ApiCall
from workyard_store.faults import Dice
from workyard_store.ids import canonical_session_id, work_id

from ..wire.operations import GROUPS, TABLE, is_in_group
from .kinds import LONGEST_LIFE_S, AnyKind, ByKind, Part, When, problem

MOST_RULES = 100
STREAM = "sessions.events.stream"
_WORDS = tuple(row.name for row in TABLE)

Id = Annotated[str, Field(min_length=1, max_length=256)]


class Match(Part):
    """Conditions on a call of the operation; omitted ones match anything."""

    environment_id: Id | SkipJsonSchema[None] = Field(
        None, description="The environment of the path or of the session."
    )
    work_id: Id | SkipJsonSchema[None] = Field(
        None,
        description="The work item in the path, or the item of the session in the path; for a poll, the item that it "
        "hands out.",
    )
    session_id: Id | SkipJsonSchema[None] = Field(None, description="The session, in the same way.")
    worker_id: Id | SkipJsonSchema[None] = Field(
        None, description="Header `Anthropic-Worker-ID`, which the SDKs send with polls only."
    )

    @property
    def item(self) -> bool:
        """Return whether an item, or its session, is named."""
        return self.work_id is not None or self.session_id is not None


def _nth(value: Any) -> Any:
    numbers = value if isinstance(value, list) else [value]
    if value != "every" and not (
        1 <= len(numbers) <= 1000 and all(type(each) is int and 1 <= each <= 10**9 for each in numbers)
    ):
        raise PydanticCustomError("nth", 'Input should be a number from 1, a list of such numbers, or "every"')
    return value


def _on(value: str) -> str:
    if value not in _WORDS and value not in GROUPS:
        raise PydanticCustomError(
            "operation",
            "Not an operation: use one of {words}, or a group of operations: {groups}",
            {"words": ", ".join(_WORDS), "groups": ", ".join(GROUPS)},
        )
    return value


_NUMBER = {"type": "integer", "minimum": 1, "maximum": 10**9}
_NthSchema = {
    "anyOf": [_NUMBER, {"type": "array", "items": _NUMBER, "minItems": 1, "maxItems": 1000}, {"const": "every"}]
}


class FaultRule(Part):
    """A fault: the calls that it matches, which of them it is applied to, and its effect."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w .:-]+$")] | SkipJsonSchema[None] = Field(
        None, description="Its name in timelines and in the journal; default: its id."
    )
    on: Annotated[str, AfterValidator(_on), WithJsonSchema({"enum": [*_WORDS, *GROUPS]})] = Field(
        description="The operation, or a group: `work`, a resource such as `environments`, or `any`."
    )
    match: Match = Field(Match(), description="Conditions on these calls.")
    nth: Annotated[Any, AfterValidator(_nth), WithJsonSchema(_NthSchema)] = Field(
        None,
        description="Which matching call to hit: its 1-based ordinal, a list of ordinals, or `every`. Default: the next.",
    )
    probability: Annotated[float, Field(ge=0, le=1)] | SkipJsonSchema[None] = Field(
        None, description="Probability that a matching call is hit, in place of `nth`."
    )
    times: Annotated[int, Field(ge=1, le=10**9)] | SkipJsonSchema[None] = Field(
        None,
        description="Largest number of hits; default: no limit if `nth` or `probability` is given, otherwise 1.",
    )
    for_seconds: Annotated[float, Field(gt=0, le=LONGEST_LIFE_S)] | SkipJsonSchema[None] = Field(
        None, description="How long the rule lasts, in seconds of the workspace's time; default: until it is removed."
    )
    do: Annotated[AnyKind, ByKind()] = Field(description="What happens.")
    when: When | SkipJsonSchema[None] = Field(
        None,
        validate_default=True,
        description="`before` the call has any effect, or `after` it; default: depends on the kind of fault.",
    )

    @field_validator("probability")
    @classmethod
    def _one_way_to_choose(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("nth") is not None:
            raise problem("Cannot be given together with nth")
        return value

    @field_validator("do")
    @classmethod
    def _for_the_operation(cls, value: AnyKind, info: ValidationInfo) -> AnyKind:
        on = info.data.get("on")
        if value.calls is not None and on is not None and on not in value.calls:
            raise problem("{kind} is only possible with on: {calls}", kind=value.kind, calls=" or ".join(value.calls))
        return value

    @field_validator("when")
    @classmethod
    def _possible(cls, value: When | None, info: ValidationInfo) -> When | None:
        do, on, match = info.data.get("do"), info.data.get("on"), info.data.get("match")
        if do is None or on is None or match is None:
            return value
        if value is not None and value not in do.allowed:
            raise problem("{kind} can act {allowed} only", kind=do.kind, allowed=do.allowed[0])
        acts = value or do.default
        if on == "poll" and match.item and acts == "before":
            raise problem(
                "The item of a poll is only known after the poll: match.work_id and match.session_id need when: after"
            )
        if on == STREAM and acts == "after" and do.settles and not do.cuts_streams:
            raise problem("A stream has no end: the only fault that can settle its response after the call is truncate")
        return value

    @property
    def kind(self) -> str:
        """Return the kind of fault."""
        return self.do.kind

    @cached_property
    def acts(self) -> When:
        """Return when it acts."""
        return self.when or self.do.default

    @cached_property
    def is_for_items(self) -> bool:
        """Return whether it matches a poll only if the poll hands out an item."""
        return self.acts == "after" and (self.match.item or self.do.needs_item)

    @property
    def most_hits(self) -> int | None:
        """Return the largest number of hits, None for no limit."""
        return 1 if self.times is None and self.nth is None and self.probability is None else self.times

    def left(self, asked: int, hits: int) -> int | None:
        """Return the remaining hits, None for no limit."""
        left = None if self.most_hits is None else max(self.most_hits - hits, 0)
        if self.nth is None or self.nth == "every":
            return left
        to_come = len({number for number in self._numbers if number > asked})
        return to_come if left is None else min(left, to_come)

    @property
    def _numbers(self) -> list[int]:
        return self.nth if isinstance(self.nth, list) else [self.nth]

    def fits(self, call: ApiCall, item: tuple[str, str] | None = None) -> bool:
        """Return whether the rule matches a call.

        Args:
            call: the call.
            item: for a finished poll, the item that it handed out and its session. A rule for items matches only finished
                polls, any other rule only unfinished ones.
        """
        on, match = self.on, self.match
        if not is_in_group(call.on, on):
            return False
        if call.on == STREAM and self.acts == "after" and self.do.settles and not self.do.cuts_streams:
            return False
        if match.environment_id not in (None, call.environment_id) or match.worker_id not in (None, call.worker_id):
            return False
        if call.on == "poll":
            if self.is_for_items is (item is None):
                return False
            work, session = item or ("", "")
        else:
            work, session = call.work_id or work_of(call), canonical_session_id(call.session_id) or ""
        if match.work_id not in (None, work):
            return False
        if match.session_id is None:
            return True
        wanted = canonical_session_id(match.session_id) or ""
        return wanted == session or (work != "" and work == work_id(call.environment_id, wanted))


def work_of(call: ApiCall) -> str:
    """Return the item of the session that a call's path names, or an empty string."""
    known = canonical_session_id(call.session_id)
    return "" if known is None or not call.environment_id else work_id(call.environment_id, known)


@dataclass(frozen=True, slots=True)
class Given:
    """A rule as it was given: the seed of the request that brought it, and its place in that, from 0."""

    rule: FaultRule
    seed: int
    place: int

    @property
    def dice(self) -> Dice:
        """Return how it selects among the calls that it matches."""
        rule = self.rule
        nth = (
            rule.nth
            if isinstance(rule.nth, str)
            else ""
            if rule.nth is None
            else f",{','.join(map(str, rule._numbers))},"
        )
        return Dice(nth, rule.probability, f"{self.seed} {self.place}", rule.most_hits, rule.do.settles)

    @property
    def text(self) -> str:
        """Return its stored form."""
        return json.dumps({"rule": plain(self.rule), "seed": self.seed, "place": self.place}, ensure_ascii=False)


def plain(rule: FaultRule) -> dict[str, Any]:
    """Return a rule as it was written."""
    return rule.model_dump(mode="json", exclude_defaults=True, exclude_none=True)


@lru_cache(maxsize=1024)
def read_stored(text: str) -> Given | None:
    """Return a stored rule; None for one that another version of Workyard wrote."""
    try:
        stored = json.loads(text)
        return Given(FaultRule.model_validate(stored["rule"]), stored["seed"], stored["place"])
    except (ValueError, KeyError, TypeError):
        return None
