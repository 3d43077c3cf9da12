"""What fault rules do to API calls. Which rules there are and which calls they fit is `fault_rules.py`; counting is the
store's `faults.py`.

A script that finds fault rules in its workspace has done nothing yet. `gate` then decides for the call: what acts before
its effect is raised as `Faulted`, which unwinds the route, so that no pause is made while anything is held; what acts
after it waits in `ApiCall.after` for the answer. `answer` carries out both.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from workyard_queue.clock.timers import Clocks
from workyard_queue.work.states import DEFAULT_TTL_S, NO_HEARTBEAT
from workyard_queue.work.work_queue import WorkQueue
from workyard_store.access import Access
from workyard_store.calls import ApiCall
from workyard_store.clock import format_instant
from workyard_store.errors import (
    AckOutOfState,
    EnvironmentNotFound,
    HeartbeatPreconditionFailed,
    InvalidRequest,
    SessionNotFound,
    StorageUnavailable,
    TokenRevoked,
    WorkNotFound,
    WorkyardError,
)
from workyard_store.faults import FaultStore
from workyard_store.ids import is_id
from workyard_store.workspaces.workspaces import WorkspaceStore

from ..wire import errors
from ..wire.bodies import CheckedRequest
from ..wire.exchange import CONNECTION
from ..wire.responses import JsonResponse
from .rules import KINDS, Given, Rule, read_stored, work_of

#: What takes the place of an item's secret: a blank and a sign that no alphabet of base64 has.
MALFORMED_SECRET = "malformed secret!"
#: `error.message` where no domain error has one.
_MESSAGES = {
    403: "Token not authorized for this environment",
    404: "Not found",
    429: "Rate limit exceeded",
    500: "Internal server error",
    529: "Overloaded",
}

Route = Callable[[], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Applied:
    """A rule that is applied to a call, by the name that timelines and the journal have of it."""

    name: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to a call's answer: *rules*; and whether rules for what a poll hands out are to be asked then."""

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
        store: where their rules are.
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
        """Decide for the call being answered, which names no environment.

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
            # Asked for every rule: whether any waits for what the poll hands out.
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
        self, call: CheckedRequest, told: ApiCall, route: Route, outcome: Response | Exception
    ) -> Response:
        """Return the answer to a call that rules are applied to.

        Args:
            call: the request.
            told: what is known of it.
            route: does what was asked for.
            outcome: what became of it so far: `Faulted`, a domain error, or the answer.
        """
        if isinstance(outcome, Faulted):
            response = await self._before(call, told, outcome) or await _run(call.scope, route)
        else:
            response = _as_response(call.scope, outcome)
        if isinstance(told.after, Plan) and not isinstance(response, Cut):
            response = await self._after(call, told, told.after, response)
        return response

    async def _before(self, call: CheckedRequest, told: ApiCall, faulted: Faulted) -> Response | None:
        """Carry out what acts before a call; return the answer if that settles it."""
        item = told.work_id or work_of(told)
        for applied in _settling_last(faulted.rules):
            await self._note(told, item, applied)
            response = await self._act(call, told, faulted.workspace, applied.rule, None)
            if response is not None:
                return response
        return None

    async def _after(self, call: CheckedRequest, told: ApiCall, plan: Plan, response: Response) -> Response:
        """Carry out what acts after a call; return what the client gets in place of the answer."""
        item, session = told.work_id or work_of(told), ""
        rules = list(plan.rules)
        if told.on == "poll":
            polled = _json(response)
            item, session = (polled["id"], polled["data"]["id"]) if polled and "data" in polled else ("", "")
            if item and plan.asks_item:
                # What settles the answer was decided before; the first is the one.
                settled = any(KINDS[each.rule.kind].settles for each in rules)
                rules += await self._ask(
                    told, plan.workspace, lambda given: given.rule.fits(told, (item, session)), settled=settled
                )
        for applied in _settling_last(rules):
            await self._note(told, item, applied)
            response = await self._act(call, told, plan.workspace, applied.rule, response) or response
            if isinstance(response, Cut):
                break
        return response

    async def _note(self, told: ApiCall, item: str, applied: Applied) -> None:
        """Enter a fault into the timeline of the item that a call is about, and do what its kind does to the item."""
        if item:
            await self._queue.fault(
                told.environment_id, item, rule=applied.name, kind=applied.rule.kind, worker_id=told.worker_id
            )

    async def _act(
        self, call: CheckedRequest, told: ApiCall, workspace: str, rule: Rule, response: Response | None
    ) -> Response | None:
        """Carry out a rule; return what the client gets if that changes it. *response*: the answer, if there is one yet."""
        do = rule.do
        match rule.kind:
            case "status":
                return await self._refusal(call, told, workspace, rule)
            case "delay_ms":
                return None if await self._pause(call, do.delay_ms or 0) else Cut()
            case "drop":
                return Cut()
            case "hang_ms":
                await self._pause(call, do.hang_ms or 0)
                return Cut()
            case "truncate":
                return Cut(response)
            case "clock" if do.clock is not None:
                # A clock that is at its end stays there.
                with suppress(InvalidRequest):
                    step = round(do.clock.advance_seconds * 1_000_000)
                    await self._clocks.change(workspace, "advance", step)
                return None
            case "empty":
                return await self._empty(call, told, response)
            case "heartbeat" if do.heartbeat is not None:
                return _with_members(response, do.heartbeat.model_dump(exclude_none=True))
            case "malformed_secret":
                return _with_members(response, {"secret": MALFORMED_SECRET})
        return None

    async def _empty(self, call: CheckedRequest, told: ApiCall, response: Response | None) -> Response | None:
        if told.on != "poll":
            return _with_members(response, {"data": [], "next_page": None, "has_more": False})
        if response is None and not await self._pause(call, int(call.query_params.get("block_ms", 0))):
            return Cut()
        return JsonResponse(None)

    async def _pause(self, call: CheckedRequest, ms: int) -> bool:
        """Let milliseconds pass, fewer if the server is going down; return False if the client goes away meanwhile."""
        gone = asyncio.create_task(_until_disconnected(call.receive))
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait((gone, closing), timeout=ms / 1000, return_when=asyncio.FIRST_COMPLETED)
            return not gone.done()
        finally:
            for each in (gone, closing):
                each.cancel()
            await asyncio.gather(gone, closing, return_exceptions=True)

    async def _refusal(self, call: CheckedRequest, told: ApiCall, workspace: str, rule: Rule) -> Response:
        """Return an error in the API's own words for the operation, where it has any for the status."""
        status = rule.do.status or 500
        error = await self._error(call, told, workspace, status)
        message = rule.do.message or (_message(status) if error is None else error.message)
        headers = {} if rule.do.retry_after is None else {"retry-after": str(rule.do.retry_after)}
        details = None if error is None else error.details
        return errors.envelope(
            call.scope, status, errors.kind_of(status), message, details, headers, rule="faults.injected"
        )

    async def _error(self, call: CheckedRequest, told: ApiCall, workspace: str, status: int) -> WorkyardError | None:
        if status == 401:
            return TokenRevoked()
        if status == 503:
            return StorageUnavailable()
        if status == 409 and told.on == "ack":
            return AckOutOfState(told.work_id, "starting")
        if status == 412 and told.on == "heartbeat":
            # As if another worker had beaten just now.
            return HeartbeatPreconditionFailed(
                expected=call.query_params.get("expected_last_heartbeat") or NO_HEARTBEAT,
                stored=format_instant((await self._workspaces.clock(workspace)).now),
                state="active",
                ttl_seconds=DEFAULT_TTL_S,
            )
        if status == 404:
            if told.work_id:
                return WorkNotFound(told.work_id)
            if told.session_id:
                return SessionNotFound(told.session_id)
            if told.environment_id:
                return EnvironmentNotFound(told.environment_id)
        return None


class Cut(Response):
    """No answer, or half of one, and the connection is cut."""

    def __init__(self, answer: Response | None = None) -> None:
        super().__init__()
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """End the connection; return when it is closed."""
        if isinstance(self._answer, StreamingResponse):
            await self._answer(scope, receive, _until_first_frame(send, scope[CONNECTION].close))
            return
        if self._answer is not None:
            body = bytes(self._answer.body)
            headers = self._answer.raw_headers
            await send({"type": "http.response.start", "status": self._answer.status_code, "headers": headers})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        scope[CONNECTION].close()
        await _until_disconnected(receive)


def _until_first_frame(send: Send, cut: Callable[[], None]) -> Send:
    ended = False

    async def send_first(message: Message) -> None:
        nonlocal ended
        if not ended:
            await send(message)
        if message["type"] == "http.response.body" and not ended:
            ended = True
            cut()

    return send_first


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


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


def _message(status: int) -> str:
    with suppress(ValueError):
        return _MESSAGES.get(status) or HTTPStatus(status).phrase
    return f"Error {status}"


def _acts_after(rule: Rule, call: ApiCall) -> bool:
    # An empty list is the list without its rows.
    return rule.acts == "after" or (rule.kind == "empty" and call.on != "poll")


def _settling_last(rules: Sequence[Applied]) -> list[Applied]:
    return sorted(rules, key=lambda each: KINDS[each.rule.kind].settles)


def _json(response: Response | None) -> dict[str, Any] | None:
    """Return the object that an answer holds, None for an error or anything else."""
    if not isinstance(response, JsonResponse) or response.status_code != 200:
        return None
    value = json.loads(bytes(response.body))
    return value if isinstance(value, dict) else None


def _with_members(response: Response | None, members: dict[str, Any]) -> Response | None:
    """Return an answer with other values of those members that it has; None if it is no object."""
    value = _json(response)
    return (
        None if value is None else JsonResponse(value | {name: each for name, each in members.items() if name in value})
    )
