"""Applies fault rules to API calls. `rules.py` decides which calls a rule matches, `kinds.py` implements the kinds of
faults, and the store's `faults.py` counts the calls.

A script that finds fault rules in its workspace stops before it changes anything. `gate` then decides for the call. Rules
that act before the call's effect are raised as `Faulted`, which unwinds the route, so that no lock is held during a pause.
Rules that act after it wait in `ApiCall.after` for the answer. `answer` carries out both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Scope

from workyard_queue.clock.timers import Clocks
from workyard_queue.work.work_queue import WorkQueue
from workyard_store.access import Access
from workyard_store.calls import ApiCall
from workyard_store.errors import WorkyardError
from workyard_store.faults import FaultStore
from workyard_store.ids import is_id
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..wire import errors
from ..wire.bodies import CheckedRequest
from .answers import Cut, json_of
from .kinds import Empty, Hit
from .rules import FaultRule, Given, read_stored, work_of

Route = Callable[[], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Applied:
    """A rule that is applied to a call, by its name in timelines and in the journal."""

    name: str
    rule: FaultRule


@dataclass(frozen=True, slots=True)
class Plan:
    """The *rules* to apply to a call's answer; and whether rules for the item that a poll hands out must be checked then."""

    workspace: str
    rules: tuple[Applied, ...]
    asks_item: bool


class Faulted(Exception):
    """A call was stopped before its first step: *rules* act before it."""

    def __init__(self, workspace: str, rules: Sequence[Applied]) -> None:
        super().__init__()
        self.workspace = workspace
        self.rules = rules


class Faults:
    """The faults of all workspaces.

    Attributes:
        store: the storage of their rules.
    """

    def __init__(self, access: Access, workspaces: WorkspaceStore, clocks: Clocks, queue: WorkQueue) -> None:
        self.store = FaultStore[Given](access.engine, workspaces, read_stored, access.wall)
        self._access = access
        self._workspaces = workspaces
        self._clocks = clocks
        self._queue = queue
        self._closing = asyncio.Event()
        access.gate = self._gate

    def close(self) -> None:
        """End every pause: the server is going down."""
        self._closing.set()

    async def ask_workspace(self, workspace: str) -> None:
        """Decide for the current call, which names no environment.

        Raises:
            Faulted: rules act before its effect.
        """
        if await self.store.are_in(workspace):
            await self._access.ask(workspace)

    async def met_by_polls(self, environment_id: str) -> list[tuple[str, int]]:
        """Return the rules that were applied to polls of an environment, or to calls of every kind, and how often."""
        if not is_id("env", environment_id):
            return []
        workspace = await self._access.engine.command("HGET", self._access.keys.environment(environment_id), "ws")
        if workspace is None:
            return []
        poll = ApiCall(on="poll", request_id="", environment_id=environment_id)
        return [
            (each.stored.rule.rule.name or f"fault_{each.stored.number}", each.hits)
            for each in await self.store.all(workspace)
            if each.hits and each.stored.rule.rule.fits(poll)
        ]

    async def _gate(self, call: ApiCall, workspace: str) -> None:
        items = False

        def fits(given: Given) -> bool:
            nonlocal items
            # Checked over all rules: whether any of them needs the item that the poll hands out.
            items = items or (call.on == "poll" and given.rule.is_for_items)
            return given.rule.fits(call)

        applied = await self._ask(call, workspace, fits)
        after = tuple(each for each in applied if _acts_after(each.rule, call))
        if after or items:
            call.after = Plan(workspace, after, items)
        before = [each for each in applied if each not in after]
        if before:
            raise Faulted(workspace, before)

    async def _ask(
        self, call: ApiCall, workspace: str, fits: Callable[[Given], bool], *, settled: bool = False
    ) -> list[Applied]:
        stored = await self.store.ask(workspace, fits, lambda given: given.dice, settled=settled)
        applied = [Applied(each.rule.rule.name or f"fault_{each.number}", each.rule.rule) for each in stored]
        call.faults += [each.name for each in applied]
        return applied

    # -- the course of a call ---------------------------------------------------------------------------------

    async def answer(
        self, call: CheckedRequest, api_call: ApiCall, route: Route, outcome: Response | Exception
    ) -> Response:
        """Return the answer to a call that rules are applied to.

        Args:
            call: the request.
            api_call: its operation, ids and client.
            route: runs the call.
            outcome: the result so far: `Faulted`, a domain error, or the answer.
        """
        if isinstance(outcome, Faulted):
            response = await self._before(call, api_call, outcome) or await _run(call.scope, route)
        else:
            response = _as_response(call.scope, outcome)
        if isinstance(api_call.after, Plan) and not isinstance(response, Cut):
            response = await self._after(call, api_call, api_call.after, response)
        return response

    async def _before(self, call: CheckedRequest, api_call: ApiCall, faulted: Faulted) -> Response | None:
        """Carry out the faults that act before a call; return the answer if they determine it."""
        item = api_call.work_id or work_of(api_call)
        for applied in _settling_last(faulted.rules):
            await self._note(api_call, item, applied)
            response = await applied.rule.do.act(self._hit(call, api_call, faulted.workspace), None)
            if response is not None:
                return response
        return None

    async def _after(self, call: CheckedRequest, api_call: ApiCall, plan: Plan, response: Response) -> Response:
        """Carry out the faults that act after a call; return the answer that the client gets instead."""
        item, session = api_call.work_id or work_of(api_call), ""
        rules = list(plan.rules)
        if api_call.on == "poll":
            polled = json_of(response)
            item, session = (polled["id"], polled["data"]["id"]) if polled and "data" in polled else ("", "")
            if item and plan.asks_item:
                # The store has decided which fault determines the answer: the first.
                settled = any(each.rule.do.settles for each in rules)
                rules += await self._ask(
                    api_call, plan.workspace, lambda given: given.rule.fits(api_call, (item, session)), settled=settled
                )
        for applied in _settling_last(rules):
            await self._note(api_call, item, applied)
            response = await applied.rule.do.act(self._hit(call, api_call, plan.workspace), response) or response
            if isinstance(response, Cut):
                break
        return response

    async def _note(self, api_call: ApiCall, item: str, applied: Applied) -> None:
        """Record a fault on the timeline of the call's item, and do what its kind does to the item."""
        if item:
            await self._queue.fault(
                api_call.environment_id, item, rule=applied.name, kind=applied.rule.kind, worker_id=api_call.worker_id
            )

    def _hit(self, call: CheckedRequest, api_call: ApiCall, workspace: str) -> Hit:
        return Hit(call, api_call, workspace, self._workspaces, self._clocks, self._closing)


async def _run(scope: Scope, route: Route) -> Response:
    try:
        return await route()
    except WorkyardError as error:
        return _as_response(scope, error)


def _as_response(scope: Scope, outcome: Response | Exception) -> Response:
    if isinstance(outcome, Response):
        return outcome
    assert isinstance(outcome, WorkyardError)
    return errors.answer_to(scope, outcome)


def _acts_after(rule: FaultRule, call: ApiCall) -> bool:
    # An empty list is the list without its rows.
    return rule.acts == "after" or (isinstance(rule.do, Empty) and call.on != "poll")


def _settling_last(rules: Sequence[Applied]) -> list[Applied]:
    return sorted(rules, key=lambda each: each.rule.do.settles)
