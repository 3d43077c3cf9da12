"""`/_emulator/rules`: the behaviour ledger. Rule: `conventions.rules`."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from workyard_store.errors import RuleNotFound

from ..checks.call import Call
from ..checks.route import ControlRoute
from ..contract.describe import link, refusals, success
from ..ledger.rules import matching, rules
from ..schemas.rules import LedgerRule, LedgerRules, render_ledger_rule
from ..wire.responses import JsonResponse

_TAGS: list[str | Enum] = ["Rules"]
router = APIRouter(prefix="/_emulator", tags=_TAGS, route_class=ControlRoute)


@router.get(
    "/rules",
    responses=success(LedgerRules, "The rules.", read=link("Read the first of them.", "get_rule", rule_id="data/0/id"))
    | refusals(400, because={400: "The search words are too long."}),
)
async def list_rules(
    call: Call,
    search: Annotated[
        Annotated[str, Field(max_length=256)] | None,
        Query(description="Words that must all occur in id, endpoint, rule, grade or source; default: all rules."),
    ] = None,
) -> Response:
    """List the server's behaviour rules with their evidence."""
    # In a thread: the first time it takes some tenths of a second.
    found = await asyncio.to_thread(matching, search or "")
    return JsonResponse({"data": [render_ledger_rule(rule) for rule in found]})


@router.get(
    "/rules/{rule_id}",
    responses=success(LedgerRule, "The rule.") | refusals(404, because={404: "There is no such rule."}),
)
async def get_rule(
    rule_id: Annotated[str, Path(description="Id of the rule.", examples=["conventions.validation"])], call: Call
) -> Response:
    """Read a rule. The header `workyard-rule` of an error names its rule."""
    found = (await asyncio.to_thread(rules)).get(rule_id)
    if found is None:
        raise RuleNotFound(rule_id)
    return JsonResponse(render_ledger_rule(found))
