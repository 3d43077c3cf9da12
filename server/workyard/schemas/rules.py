"""Wire shapes of the ledger's rules. What is in an entry: docs/ledger.md."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ..ledger import rules as ledger
from ..ledger.ids import RULE_ID
from .common import Shape


class LedgerRule(Shape):
    """A rule that Workyard keeps, and its evidence."""

    id: str = Field(description="Its id, as `workyard-rule` has it.", pattern=RULE_ID)
    endpoint: str = Field(
        description="What it is about: method and path; `*` for all of the API, `/_emulator/*` for all of the control plane; "
        "`cli`, `python` or `server`."
    )
    rule: str = Field(description="The rule.")
    grade: ledger.Grade = Field(
        description="Its best evidence: the API reference, what the service was seen to do, the SDKs, or a decision."
    )
    source: str = Field(description="Where that can be looked up.")
    since: str = Field(description="The first version of Workyard that keeps it.")
    differs_from: str | None = Field(description="What another source says.")
    open: str | None = Field(description="What is not settled about it.")
    avoid: str | None = Field(description="How not to meet the error that is about it.")


class LedgerRules(Shape):
    """Rules, in the order of docs/behaviours.md."""

    data: list[LedgerRule] = Field(description="The rules.")


def render_ledger_rule(rule: ledger.LedgerRule) -> dict[str, Any]:
    """Render a rule of the ledger."""
    return {name: getattr(rule, name) for name in LedgerRule.model_fields}
