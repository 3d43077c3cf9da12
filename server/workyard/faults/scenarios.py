"""Scenarios: groups of fault rules, from a request or from the library. Docs: docs/faults.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError
from pydantic.json_schema import SkipJsonSchema

from workyard_store.errors import InvalidRequest
from workyard_store.plain_text import in_words, plain_data, unstorable

from .kinds import Part
from .rules import MOST_RULES, FaultRule, Id

LONGEST_TEXT = 262_144
SCHEMA_FILE = "scenario.schema.json"
#: The ledger rule that a refused text breaks.
_RULE = "faults.rules"
_T = TypeVar("_T")

Seed = Annotated[int, Field(ge=-(2**53), le=2**53)]


class Scenario(Part):
    """A set of rules with a name."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9-]*$")] | SkipJsonSchema[None] = (
        Field(None, description="Its name.")
    )
    description: Annotated[str, Field(max_length=4096)] | SkipJsonSchema[None] = Field(
        None, description="Description of what it causes."
    )
    seed: Seed = Field(0, description="Seed of the random choices for `probability`.")
    rules: Annotated[list[FaultRule], Field(min_length=1, max_length=MOST_RULES)] = Field(
        description="The rules, in order."
    )


class _Named(Part):
    """A ready scenario, for all environments or for one."""

    scenario: str
    environment_id: Id | None = None
    seed: Seed | None = None


class _One(Part):
    """A single rule with a seed."""

    seed: Seed = 0


def read_scenario(text: str) -> Scenario:
    """Return the rules in *text*, YAML or JSON, which is one rule, a scenario, or the name of a ready scenario.

    Raises:
        InvalidRequest: it is not valid; the message names the path of each problem.
    """
    value = plain_data(text, "Scenario", most=LONGEST_TEXT, rule=_RULE)
    if not isinstance(value, dict):
        raise InvalidRequest(
            "Scenario must be a mapping: a rule, or rules, or scenario with the name of a ready scenario", rule=_RULE
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
    rule = _checked(FaultRule.model_validate, {key: each for key, each in value.items() if key != "seed"})
    return Scenario(rules=[rule], seed=seed)


def _within(rule: FaultRule, environment_id: str | None) -> FaultRule:
    if environment_id is None:
        return rule
    return rule.model_copy(update={"match": rule.match.model_copy(update={"environment_id": environment_id})})


def _checked(read: Callable[[Any], _T], value: Mapping[str, Any]) -> _T:
    try:
        return read(value)
    except ValidationError as error:
        # Optional members are declared as "or null": ignore the problem that the value is not null.
        found = [each for each in error.errors() if each["type"] != "none_required"]
        # A problem of the whole document has no path.
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
        InvalidRequest: no scenario has this name; the message begins with *field*.
    """
    texts = ready_scenarios()
    if name not in texts:
        raise InvalidRequest(f"{field}: No ready scenario with this name: use one of {', '.join(texts)}", rule=_RULE)
    return _checked(Scenario.model_validate, plain_data(texts[name], "Scenario", most=LONGEST_TEXT))


def scenario_schema() -> str:
    """Return the published JSON Schema of scenarios, as the text of its file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
