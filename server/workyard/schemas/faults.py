"""Wire shapes of fault rules. The shape of a rule itself is in `faults/rules.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from workyard_store.faults import Counted

from ..faults.rules import MOST_RULES, Given, plain
from ..faults.scenarios import LONGEST_TEXT, Scenario
from .common import Shape, Timestamp, optional_instant

_SCHEMA = "Each is described by openapi/scenario.schema.json."
_RULE = {"type": "object", "description": f"The rule. {_SCHEMA}"}
#: Rules as a request brings them. What is in one, the schema of scenarios says.
RULES_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"A rule, a scenario, or the name of a ready scenario, as JSON or YAML of at most {LONGEST_TEXT} "
        "characters.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "Rules to add.",
                    "properties": {
                        "name": {"type": "string", "description": "Display name of the scenario."},
                        "description": {"type": "string", "description": "Description of what it causes."},
                        "seed": {
                            "type": "integer",
                            "description": "Seed of the random choices for `probability`.",
                        },
                        "rules": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MOST_RULES,
                            "items": {"type": "object"},
                            "description": f"The rules, in order. {_SCHEMA}",
                        },
                    },
                    "required": ["rules"],
                    "additionalProperties": False,
                    "examples": [
                        {"rules": [{"on": "ack", "do": {"drop": True}, "when": "after"}]},
                        {"rules": [{"on": "heartbeat", "nth": 2, "do": {"status": 412}}], "seed": 7},
                    ],
                }
            },
            "application/yaml": {"schema": {"type": "string", "description": "The same as YAML, or a single rule."}},
        },
    }
}


class FaultRule(Shape):
    """A fault rule with its usage counts."""

    id: str = Field(description="Its id within the workspace.", pattern="^fault_[0-9]+$")
    rule: Annotated[dict[str, Any], WithJsonSchema(_RULE)] = Field(description=f"The rule. {_SCHEMA}")
    when: Literal["before", "after"] = Field(description="When it acts.")
    asked: int = Field(description="Number of matching calls so far.")
    hits: int = Field(description="Number of calls that it was applied to.")
    left: int | None = Field(description="Remaining uses; null: no limit.")
    ends_at: Timestamp | None = Field(
        description="When it ends, in the workspace's time; null: only when it is removed."
    )


class FaultRules(Shape):
    """Fault rules of a workspace, in order."""

    data: list[FaultRule] = Field(description="The rules.")


class FaultsDeleted(Shape):
    """Confirmation that rules were removed."""

    type: Literal["faults_deleted"] = Field(description="Always `faults_deleted`.")
    removed: int = Field(description="Number of rules removed.")


class ReadyScenario(Shape):
    """A ready scenario."""

    name: str = Field(description="Its name.")
    description: str = Field(description="Description of what it causes.")
    rules: list[Annotated[dict[str, Any], WithJsonSchema(_RULE)]] = Field(description=f"Its rules. {_SCHEMA}")


class ReadyScenarioList(Shape):
    """The ready scenarios, in the order of their names."""

    data: list[ReadyScenario] = Field(description="The scenarios.")


def render_rule(counted: Counted[Given], now: int) -> dict[str, Any]:
    """Render a rule as it is at an instant of its workspace."""
    stored, rule = counted.stored, counted.stored.rule.rule
    over = stored.ends_at is not None and stored.ends_at <= now
    return {
        "id": f"fault_{stored.number}",
        "rule": plain(rule),
        "when": rule.acts,
        "asked": counted.asked,
        "hits": counted.hits,
        "left": 0 if over else rule.left(counted.asked, counted.hits),
        "ends_at": optional_instant(stored.ends_at),
    }


def render_scenario(name: str, scenario: Scenario) -> dict[str, Any]:
    """Render a ready scenario."""
    description = scenario.description or ""
    return {"name": name, "description": description, "rules": [plain(rule) for rule in scenario.rules]}
