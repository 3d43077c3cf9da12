"""`/_emulator/faults…`: what goes wrong on purpose. Source: docs/faults.md."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from workyard_store.errors import FaultNotFound, InvalidRequest, ScenarioNotFound

from ..checks.call import Call
from ..checks.parameters import QueryBoolean
from ..checks.route import ControlRoute
from ..checks.workspace import WorkspaceName, one_workspace
from ..contract.describe import FULL, link, refusals, success
from ..faults.rules import MOST_RULES, Given
from ..faults.scenarios import read_scenario, ready_scenario, ready_scenarios
from ..schemas.faults import (
    RULES_BODY,
    FaultRules,
    FaultsDeleted,
    ReadyScenario,
    ReadyScenarioList,
    render_rule,
    render_scenario,
)
from ..wire.responses import JsonResponse
from .scripts import TEXT_TYPES

router = APIRouter(prefix="/_emulator", route_class=ControlRoute)

_TAGS: list[str | Enum] = ["Faults"]
_NO_WORKSPACE = {400: "The request names no workspace."}


@router.post(
    "/faults",
    tags=_TAGS,
    openapi_extra=RULES_BODY,
    responses=success(
        FaultRules,
        "The rules that were added.",
        remove=link("Remove the first of them.", "delete_fault", fault_id="data/0/id"),
    )
    | refusals(
        400,
        409,
        413,
        because=FULL | {400: "A fault rule is invalid; the message names the path. Or no workspace is named."},
    ),
)
async def add_faults(
    call: Call,
    workspace: WorkspaceName = None,
    replace: Annotated[QueryBoolean, Query(description="Whether to replace the existing rules.")] = False,
) -> Response:
    """Add faults: one rule, several rules, or a ready scenario; either all are added or none.

    The rules apply to every API call that starts after the response, in every server process.
    """
    meant = await one_workspace(call, workspace)
    # In a thread: long YAML takes seconds.
    scenario = await asyncio.to_thread(read_scenario, await call.text(*TEXT_TYPES))
    given = [Given(rule, scenario.seed, place) for place, rule in enumerate(scenario.rules)]
    lives = [None if each.rule.for_seconds is None else round(each.rule.for_seconds * 1_000_000) for each in given]
    first = await call.services.faults.store.put(
        meant, [(each.text, us) for each, us in zip(given, lives, strict=True)], replace=replace, most=MOST_RULES
    )
    if first is None:
        raise InvalidRequest(
            f"rules: A workspace has at most {MOST_RULES} fault rules: remove some first", rule="faults.rules"
        )
    return await _answer(call, meant, first, len(given))


@router.get("/faults", tags=_TAGS, responses=success(FaultRules, "The rules.") | refusals(400, because=_NO_WORKSPACE))
async def list_faults(call: Call, workspace: WorkspaceName = None) -> Response:
    """List the fault rules of a workspace, with the number of calls that each matched and was applied to."""
    return await _answer(call, await one_workspace(call, workspace), 1, None)


@router.delete(
    "/faults", tags=_TAGS, responses=success(FaultsDeleted, "They were removed.") | refusals(400, because=_NO_WORKSPACE)
)
async def clear_faults(call: Call, workspace: WorkspaceName = None) -> Response:
    """Remove all fault rules of a workspace. Faults that are being applied to a call continue."""
    removed = await call.services.faults.store.delete(await one_workspace(call, workspace), None)
    return JsonResponse({"type": "faults_deleted", "removed": removed})


@router.delete(
    "/faults/{fault_id}",
    tags=_TAGS,
    responses=success(FaultsDeleted, "It was removed.")
    | refusals(400, 404, because=_NO_WORKSPACE | {404: "The workspace has no such rule."}),
)
async def delete_fault(
    fault_id: Annotated[str, Path(description="The rule's id, `fault_…`.", examples=["fault_1"])],
    call: Call,
    workspace: WorkspaceName = None,
) -> Response:
    """Remove a fault rule."""
    meant = await one_workspace(call, workspace)
    number = fault_id.removeprefix("fault_")
    known = fault_id != number and number.isascii() and number.isdecimal() and len(number) < 16
    if not known or str(int(number)) != number or not await call.services.faults.store.delete(meant, int(number)):
        raise FaultNotFound(fault_id)
    return JsonResponse({"type": "faults_deleted", "removed": 1})


@router.get("/faults/scenarios", tags=_TAGS, responses=success(ReadyScenarioList, "The scenarios.") | refusals())
async def list_scenarios(call: Call) -> Response:
    """List the ready scenarios, which `POST /_emulator/faults` accepts by name."""
    return JsonResponse({"data": [_ready(name) for name in ready_scenarios()]})


@router.get(
    "/faults/scenarios/{name}",
    tags=_TAGS,
    responses=success(ReadyScenario, "The scenario.")
    | refusals(404, because={404: "There is no ready scenario with this name."}),
)
async def get_scenario(
    name: Annotated[str, Path(description="The scenario's name.", examples=["lost-ack"])], call: Call
) -> Response:
    """Read a ready scenario."""
    if name not in ready_scenarios():
        raise ScenarioNotFound(name)
    return JsonResponse(_ready(name))


def _ready(name: str) -> dict[str, object]:
    return render_scenario(name, ready_scenario(name))


async def _answer(call: Call, workspace: str, first: int, count: int | None) -> Response:
    now = (await call.services.workspaces.clock(workspace)).now
    rules = [each for each in await call.services.faults.store.all(workspace) if each.stored.number >= first]
    return JsonResponse({"data": [render_rule(each, now) for each in rules[:count]]})
