"""Wire shapes of the ledger's rules. What is in an entry: docs/ledger.md."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ..ledger import rules as ledger
from ..ledger.ids import RULE_ID
from .common import Shape


class LedgerRule(Shape):
    """A rule of Workyard's behaviour and its evidence."""

    id: str = Field(description="Its id, as in the header `workyard-rule`.", pattern=RULE_ID)
    endpoint: str = Field(
        description="Its scope: method and path; `*` for the whole API, `/_emulator/*` for the whole control plane; "
        "`cli`, `python` or `server`."
    )
    rule: str = Field(description="The rule.")
    grade: ledger.Grade = Field(
        description="Its strongest evidence: the API reference, observations of the service, the SDKs, or a decision."
    )
    source: str = Field(description="Where the evidence can be found.")
    since: str = Field(description="The first version of Workyard that follows it.")
    differs_from: str | None = Field(description="What another source says.")
    open: str | None = Field(description="Open questions about it.")
    avoid: str | None = Field(description="How to avoid the error that it describes.")


class LedgerRules(Shape):
    """Rules, in the order of docs/behaviours.md."""

    data: list[LedgerRule] = Field(description="The rules.")


def render_ledger_rule(rule: ledger.LedgerRule) -> dict[str, Any]:
    """Render a rule of the ledger."""
    return {name: getattr(rule, name) for name in LedgerRule.model_fields}
