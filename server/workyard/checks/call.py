"""A request as a route sees it: the services, the caller, the body, and what is known of the call."""

from __future__ import annotations

from contextlib import suppress

from workyard_store.access import Caller
from workyard_store.calls import CURRENT, ApiCall
from workyard_store.errors import NotFound
from workyard_store.workspaces.configs import checked_metadata

from ..observability.traces import is_traceparent
from ..services import Services
from ..wire.bodies import CheckedRequest
from ..wire.envelope import request_id
from ..wire.exchange import TRACEPARENT


class Call(CheckedRequest):
    """A request with what a route works with."""

    services: Services
    caller: Caller
    told: ApiCall

    async def judge(self) -> None:
        """Validate the caller's token with a separate look-up.

        Raises:
            AuthenticationFailed: it is not.
        """
        told = CURRENT.set(None)
        try:
            await self.workspace_of_worker()
        finally:
            CURRENT.reset(told)

    def checked_metadata(self, metadata: dict[str, str]) -> dict[str, str]:
        """Return *metadata* if it keeps the caps.

        Raises:
            InvalidMetadata: the message lists every problem.
        """
        return checked_metadata(metadata, self.services.settings.max_metadata_keys)

    async def workspace_of_worker(self) -> str:
        """Return the workspace whose skills and memory stores the caller reaches: a worker that of its environment.

        Raises:
            AuthenticationFailed: the caller's sessions token is of an earlier life of its item; or its token has to be
                good, and is not.
        """
        caller = self.caller
        if caller.work_id is not None and caller.environment_id is not None:
            # Looked at in a step on the item, for the clock may have ended that life just now.
            with suppress(NotFound):
                await self.services.queue.get(caller.environment_id, caller.work_id, caller)
        return await self.services.access.workspace(caller)


#: Request headers that the journal and timelines record.
_RECORDED = (b"anthropic-worker-id", b"user-agent", b"x-stainless-helper", b"x-stainless-retry-count", b"traceparent")


def api_call_of(operation: str, call: Call, asks: bool) -> ApiCall:
    """Return what the store, the journal and timelines need to know of a call. *asks*: whether fault rules apply to it."""
    told = dict.fromkeys(_RECORDED, "")
    for name, value in call.scope["headers"]:
        if name in told:
            told[name] = told[name] or value.decode("latin-1")
    worker_id, user_agent, helper, retries, traceparent = told.values()
    masked = call.caller.masked
    named = call.scope["path_params"].get
    return ApiCall(
        on=operation,
        request_id=request_id(call.scope),
        credential=call.caller.label,
        worker_id=masked(worker_id),
        user_agent=masked(user_agent),
        helper=masked(helper),
        retries=retries,
        traceparent=call.scope.get(TRACEPARENT) or (traceparent if is_traceparent(traceparent) else ""),
        environment_id=named("environment_id", ""),
        work_id=named("work_id", ""),
        session_id=named("session_id", ""),
        asks=asks,
    )
