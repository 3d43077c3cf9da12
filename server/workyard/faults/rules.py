"""Fault rules and scenarios: their shape, their rules, their JSON Schema, which calls a rule fits. Counting calls is the
store's `faults.py`, what a fault does to a call `faults.py` here. Rules: `faults.*`; docs/faults.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Annotated, Any, Literal, LiteralString, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from workyard_store.calls import ApiCall
from workyard_store.errors import InvalidRequest
from workyard_store.faults import Dice
from workyard_store.ids import canonical_session_id, work_id
from workyard_store.plain_text import in_words, plain_data, unstorable

from ..schemas.common import OnlyTrue
from ..wire.operations import OPERATIONS

MOST_RULES = 100
LONGEST_TEXT = 262_144
#: Longest pause that a rule makes, milliseconds.
LONGEST_PAUSE_MS = 600_000
LONGEST_LIFE_S = 86_400 * 365
SCHEMA_FILE = "scenario.schema.json"
STREAM = "sessions.events.stream"
#: What a text that asks for no faults breaks, by the ledger.
_RULE = "faults.rules"

When = Literal["before", "after"]
StateWord = Literal["queued", "starting", "active", "stopping", "stopped"]
_ITEM_CALLS = ("ack", "heartbeat", "stop", "get", "update")
_WORDS = tuple(OPERATIONS.values())
#: What `on` may say beside an operation.
GROUPS = ("any", "work", *sorted({word[:n] for word in _WORDS for n, sign in enumerate(word) if sign == "."}))
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a kind of fault.

    Attributes:
        default: when it acts unless the rule says.
        allowed: when it can act.
        calls: the operations that it is for, None for all.
        settles: whether it settles what the client gets.
    """

    default: When
    allowed: tuple[When, ...]
    calls: tuple[str, ...] | None = None
    settles: bool = True


_BOTH: tuple[When, ...] = ("before", "after")
KINDS: dict[str, Kind] = {
    "status": Kind("before", _BOTH),
    "delay_ms": Kind("before", _BOTH, settles=False),
    "drop": Kind("before", _BOTH),
    "hang_ms": Kind("before", _BOTH),
    "truncate": Kind("after", ("after",)),
    "heartbeat": Kind("after", ("after",), ("heartbeat",)),
    "lose_lease": Kind("before", _BOTH, _ITEM_CALLS, settles=False),
    "duplicate_delivery": Kind("after", ("after",), ("poll",), settles=False),
    "empty": Kind("before", _BOTH, ("poll", *(word for word in _WORDS if word == "list" or word.endswith(".list")))),
    "malformed_secret": Kind("after", ("after",), ("poll",)),
    "clock": Kind("before", _BOTH, settles=False),
}


class _Part(BaseModel):
    """JSON types are taken as they are, unknown keys are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_null(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name, each in value.items():
                if each is None:
                    raise _refuse("{name} cannot be null: leave it out", name=str(name))
        return value


def _refuse(problem: LiteralString, **values: str) -> PydanticCustomError:
    return PydanticCustomError("rule", problem, values)


_Id = Annotated[str, Field(min_length=1, max_length=256)]
_Pause = Annotated[int, Field(ge=1, le=LONGEST_PAUSE_MS)]


class Match(_Part):
    """Which calls of an operation a rule is about; what is left out may be anything."""

    environment_id: _Id | SkipJsonSchema[None] = Field(
        None, description="The environment, as the path or the session has it."
    )
    work_id: _Id | SkipJsonSchema[None] = Field(
        None, description="The work item that the path names, or whose session it names; of a poll, what it hands out."
    )
    session_id: _Id | SkipJsonSchema[None] = Field(None, description="The session, likewise.")
    worker_id: _Id | SkipJsonSchema[None] = Field(
        None, description="Header `Anthropic-Worker-ID`, which the SDKs send with polls only."
    )

    @property
    def item(self) -> bool:
        """Tell whether an item, or its session, is named."""
        return self.work_id is not None or self.session_id is not None


class HeartbeatChange(_Part):
    """Members of a heartbeat's answer that are not what they would be."""

    lease_extended: bool | SkipJsonSchema[None] = Field(None, description="Whether the lease was extended.")
    state: StateWord | SkipJsonSchema[None] = Field(None, description="The item's state.")
    last_heartbeat: str | SkipJsonSchema[None] = Field(None, max_length=64, description="The heartbeat to expect next.")
    ttl_seconds: Annotated[int, Field(ge=0, le=86_400)] | SkipJsonSchema[None] = Field(
        None, description="Length of the lease, seconds."
    )
    model_config = ConfigDict(json_schema_extra={"minProperties": 1})


class ClockStep(_Part):
    """A step of the workspace's clock."""

    advance_seconds: Annotated[float, Field(gt=0, le=LONGEST_LIFE_S)] = Field(description="Seconds.")


class Do(_Part):
    """What happens to the call: one of the kinds."""

    status: Annotated[int, Field(ge=400, le=599)] | SkipJsonSchema[None] = Field(
        None, description="The call is answered with this error, in the API's own words."
    )
    message: Annotated[str, Field(max_length=4096)] | SkipJsonSchema[None] = Field(
        None, description="With `status`: the message in place of the API's."
    )
    retry_after: Annotated[int, Field(ge=0, le=86_400)] | SkipJsonSchema[None] = Field(
        None, description="With `status`: header `retry-after`, seconds."
    )
    delay_ms: _Pause | SkipJsonSchema[None] = Field(None, description="A pause, milliseconds of wall time.")
    drop: OnlyTrue | SkipJsonSchema[None] = Field(
        None, description="The connection is cut without a byte of an answer."
    )
    hang_ms: _Pause | SkipJsonSchema[None] = Field(
        None, description="Nothing comes for so long, milliseconds of wall time; then the connection is cut."
    )
    truncate: OnlyTrue | SkipJsonSchema[None] = Field(
        None,
        description="The connection is cut in the middle of the answer's body; of a stream, behind its first frame.",
    )
    heartbeat: HeartbeatChange | SkipJsonSchema[None] = Field(
        None, description="Members of a heartbeat's answer are changed."
    )
    lose_lease: OnlyTrue | SkipJsonSchema[None] = Field(
        None, description="The item's lease ends now, as if it had lapsed."
    )
    duplicate_delivery: OnlyTrue | SkipJsonSchema[None] = Field(
        None, description="The item that the poll hands out is handed out to another worker's next poll too."
    )
    empty: OnlyTrue | SkipJsonSchema[None] = Field(None, description="A poll finds nothing; a list is empty.")
    malformed_secret: OnlyTrue | SkipJsonSchema[None] = Field(
        None, description="The `secret` of a poll cannot be decoded."
    )
    clock: ClockStep | SkipJsonSchema[None] = Field(None, description="The workspace's clock moves.")
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [kind]} for kind in KINDS],
            "dependentRequired": {"message": ["status"], "retry_after": ["status"]},
        }
    )

    @property
    def kinds(self) -> list[str]:
        """Return the kinds that are named; a checked one names one."""
        return [kind for kind in KINDS if getattr(self, kind) is not None]


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
            "Not an operation: one of {words}, or a group of them: {groups}",
            {"words": ", ".join(_WORDS), "groups": ", ".join(GROUPS)},
        )
    return value


_NUMBER = {"type": "integer", "minimum": 1, "maximum": 10**9}
_NthSchema = {
    "anyOf": [_NUMBER, {"type": "array", "items": _NUMBER, "minItems": 1, "maxItems": 1000}, {"const": "every"}]
}


class Rule(_Part):
    """One fault: which calls it is about, which of these it is applied to, and what it does."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w .:-]+$")] | SkipJsonSchema[None] = Field(
        None, description="How timelines and the journal call it; left out: its id."
    )
    on: Annotated[str, AfterValidator(_on), WithJsonSchema({"enum": [*_WORDS, *GROUPS]})] = Field(
        description="The operation, or a group: `work`, a resource such as `environments`, or `any`."
    )
    match: Match = Field(Match(), description="Which of these calls.")
    nth: Annotated[Any, AfterValidator(_nth), WithJsonSchema(_NthSchema)] = Field(
        None, description="The how manieth of these calls, or several, or `every`. Left out: the next."
    )
    probability: Annotated[float, Field(ge=0, le=1)] | SkipJsonSchema[None] = Field(
        None, description="How likely each of these calls is to be hit, in place of `nth`."
    )
    times: Annotated[int, Field(ge=1, le=10**9)] | SkipJsonSchema[None] = Field(
        None,
        description="How often at most; left out: without a bound where `nth` or `probability` is given, else once.",
    )
    for_seconds: Annotated[float, Field(gt=0, le=LONGEST_LIFE_S)] | SkipJsonSchema[None] = Field(
        None, description="How long the rule is there, seconds of the workspace's time; left out: until it is removed."
    )
    do: Do = Field(description="What happens.")
    when: When | SkipJsonSchema[None] = Field(
        None,
        validate_default=True,
        description="`before` the call has any effect, or `after` it; left out: as is usual for the kind.",
    )

    @field_validator("probability")
    @classmethod
    def _one_way_to_choose(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("nth") is not None:
            raise _refuse("Cannot stand beside nth")
        return value

    @field_validator("do")
    @classmethod
    def _one_kind(cls, value: Do, info: ValidationInfo) -> Do:
        if len(value.kinds) != 1:
            named = " and ".join(value.kinds)
            problem = "Names several kinds of fault: {named}" if named else "Names no kind of fault: one of {kinds}"
            raise _refuse(problem, named=named, kinds=", ".join(KINDS))
        for member in ("message", "retry_after"):
            if getattr(value, member) is not None and value.status is None:
                raise _refuse("{member} goes with status only", member=member)
        if value.heartbeat is not None and not value.heartbeat.model_dump(exclude_none=True):
            raise _refuse(
                "heartbeat changes nothing: one of {members}", members=", ".join(HeartbeatChange.model_fields)
            )
        calls, on = KINDS[value.kinds[0]].calls, info.data.get("on")
        if calls is not None and on is not None and on not in calls:
            raise _refuse("{kind} is for on: {calls}", kind=value.kinds[0], calls=" or ".join(calls))
        return value

    @field_validator("when")
    @classmethod
    def _possible(cls, value: When | None, info: ValidationInfo) -> When | None:
        do, on, match = info.data.get("do"), info.data.get("on"), info.data.get("match")
        if do is None or on is None or match is None:
            return value
        kind = KINDS[do.kinds[0]]
        if value is not None and value not in kind.allowed:
            raise _refuse("{kind} can act {allowed} only", kind=do.kinds[0], allowed=kind.allowed[0])
        if on == "poll" and match.item and (value or kind.default) == "before":
            raise _refuse(
                "What a poll hands out is known after it: match.work_id and match.session_id need when: after"
            )
        if on == STREAM and (value or kind.default) == "after" and kind.settles and do.truncate is None:
            raise _refuse("A stream has no end: of what settles an answer only truncate can act after it")
        return value

    @property
    def kind(self) -> str:
        """Return the kind of fault."""
        return self.do.kinds[0]

    @cached_property
    def acts(self) -> When:
        """Return when it acts."""
        return self.when or KINDS[self.kind].default

    @cached_property
    def is_for_items(self) -> bool:
        """Tell whether, of polls, it is about those only that hand out an item."""
        return self.acts == "after" and (self.match.item or self.kind in ("duplicate_delivery", "malformed_secret"))

    @property
    def most_hits(self) -> int | None:
        """Return how often it is applied at most, or None."""
        return 1 if self.times is None and self.nth is None and self.probability is None else self.times

    def left(self, asked: int, hits: int) -> int | None:
        """Return how often it may yet be applied, or None for without a bound."""
        left = None if self.most_hits is None else max(self.most_hits - hits, 0)
        if self.nth is None or self.nth == "every":
            return left
        to_come = len({number for number in self._numbers if number > asked})
        return to_come if left is None else min(left, to_come)

    @property
    def _numbers(self) -> list[int]:
        return self.nth if isinstance(self.nth, list) else [self.nth]

    def fits(self, call: ApiCall, item: tuple[str, str] | None = None) -> bool:
        """Tell whether a call is one of those the rule is about.

        Args:
            call: the call.
            item: of a poll that is over, the item that it handed out and its session. A rule that is for items fits such
                a poll only, any other only one that is not over.
        """
        on, match = self.on, self.match
        if not (on in ("any", call.on) or call.on.startswith(on + ".") or (on == "work" and "." not in call.on)):
            return False
        if call.on == STREAM and self.acts == "after" and KINDS[self.kind].settles and self.kind != "truncate":
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

    rule: Rule
    seed: int
    place: int

    @property
    def dice(self) -> Dice:
        """Return how its calls are counted."""
        rule = self.rule
        nth = (
            rule.nth
            if isinstance(rule.nth, str)
            else ""
            if rule.nth is None
            else f",{','.join(map(str, rule._numbers))},"
        )
        return Dice(nth, rule.probability, f"{self.seed} {self.place}", rule.most_hits, KINDS[rule.kind].settles)

    @property
    def text(self) -> str:
        """Return it as it is stored."""
        return json.dumps({"rule": plain(self.rule), "seed": self.seed, "place": self.place}, ensure_ascii=False)


def plain(rule: Rule) -> dict[str, Any]:
    """Return a rule as it was written."""
    return rule.model_dump(mode="json", exclude_defaults=True, exclude_none=True)


@lru_cache(maxsize=1024)
def read_stored(text: str) -> Given | None:
    """Return a stored rule; None for one that another version of Workyard wrote."""
    try:
        stored = json.loads(text)
        return Given(Rule.model_validate(stored["rule"]), stored["seed"], stored["place"])
    except (ValueError, KeyError, TypeError):
        return None


Seed = Annotated[int, Field(ge=-(2**53), le=2**53)]


class Scenario(_Part):
    """Rules that belong together, with a name."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9-]*$")] | SkipJsonSchema[None] = (
        Field(None, description="How it is called.")
    )
    description: Annotated[str, Field(max_length=4096)] | SkipJsonSchema[None] = Field(
        None, description="What it makes happen, for people."
    )
    seed: Seed = Field(0, description="Decides what probabilities come to.")
    rules: Annotated[list[Rule], Field(min_length=1, max_length=MOST_RULES)] = Field(
        description="The rules, in their order."
    )


class _Named(_Part):
    """A ready scenario, for all environments or one."""

    scenario: str
    environment_id: _Id | None = None
    seed: Seed | None = None


class _One(_Part):
    """A rule by itself, with a seed."""

    seed: Seed = 0


def read_scenario(text: str) -> Scenario:
    """Return the rules that *text*, YAML or JSON, asks for: one rule, a scenario, or the name of a ready one.

    Raises:
        InvalidRequest: it is none of these; the message names the path of each problem.
    """
    value = plain_data(text, "Scenario", most=LONGEST_TEXT, rule=_RULE)
    if not isinstance(value, dict):
        raise InvalidRequest(
            "Scenario must be a mapping: a rule, or rules, or scenario with the name of a ready one", rule=_RULE
        )
    try:
        problems = unstorable(value, "Scenario")
    except RecursionError:
        raise InvalidRequest("Scenario is nested too deeply", rule=_RULE) from None
    if problems:
        raise InvalidRequest("; ".join(problems), rule=_RULE)
    if "scenario" in value:
        named = _checked(_Named.model_validate, value)
        found = ready_scenario(named.scenario, "scenario")
        rules = [_within(rule, named.environment_id) for rule in found.rules]
        return found.model_copy(update={"rules": rules, "seed": found.seed if named.seed is None else named.seed})
    if "rules" in value or not {"on", "do"} & set(value):
        return _checked(Scenario.model_validate, value)
    seed = _checked(_One.model_validate, {key: each for key, each in value.items() if key == "seed"}).seed
    rule = _checked(Rule.model_validate, {key: each for key, each in value.items() if key != "seed"})
    return Scenario(rules=[rule], seed=seed)


def _within(rule: Rule, environment_id: str | None) -> Rule:
    if environment_id is None:
        return rule
    return rule.model_copy(update={"match": rule.match.model_copy(update={"environment_id": environment_id})})


def _checked(read: Callable[[Any], _T], value: Mapping[str, Any]) -> _T:
    try:
        return read(value)
    except ValidationError as error:
        # What may be left out is declared as "or null": that it is not null is no problem.
        found = [each for each in error.errors() if each["type"] != "none_required"]
        # A problem of the whole has no path.
        problems = [f"{_path(each['loc'], value)}: {in_words(each['msg'])}".removeprefix(": ") for each in found]
        raise InvalidRequest("; ".join(problems), rule=_RULE) from None
    except RecursionError:
        raise InvalidRequest("Scenario is nested too deeply", rule=_RULE) from None


def _path(location: tuple[int | str, ...], value: Any) -> str:
    """Return a problem's path as it was written: Pydantic names the alternative of a union that it tried, too."""
    parts: list[str] = []
    for n, step in enumerate(location):
        if isinstance(value, dict) and (step in value or n == len(location) - 1):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            value = value[step]
        else:
            continue
        parts.append(str(step))
    return ".".join(parts)


# -- the ready ones ---------------------------------------------------------------------------------------------

_LIBRARY = files("workyard") / "faults" / "scenarios"


@lru_cache(maxsize=1)
def ready_scenarios() -> dict[str, str]:
    """Return the texts of the ready scenarios by name, in the names' order."""
    found = {each.name.removesuffix(".yaml"): each for each in _LIBRARY.iterdir() if each.name.endswith(".yaml")}
    return {name: found[name].read_text(encoding="utf-8") for name in sorted(found)}


def ready_scenario(name: str, field: str = "name") -> Scenario:
    """Return a ready scenario.

    Raises:
        InvalidRequest: there is none of this name; the message begins with *field*.
    """
    texts = ready_scenarios()
    if name not in texts:
        raise InvalidRequest(f"{field}: No ready scenario of this name: one of {', '.join(texts)}", rule=_RULE)
    return _checked(Scenario.model_validate, plain_data(texts[name], "Scenario", most=LONGEST_TEXT))


def scenario_schema() -> str:
    """Return the published JSON Schema of scenarios, as the text of its file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
