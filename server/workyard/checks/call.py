"""A request as a route sees it: the services, the caller, the body, and the record of the call."""

from __future__ import annotations

from contextlib import suppress

from workyard_store.access import Caller
from workyard_store.calls import CURRENT, ApiCall
from workyard_store.errors import NotFound
from workyard_store.metadata import checked_metadata

from ..services import Services
from ..wire.bodies import CheckedRequest


class Call(CheckedRequest):
    """A request, and the objects that a route works with."""

    services: Services
    caller: Caller
    api_call: ApiCall

    async def judge(self) -> None:
        """Validate the caller's token with a separate look-up.

        Raises:
            AuthenticationFailed: the token is not valid.
        """
        current = CURRENT.set(None)
        try:
            await self.workspace_of_worker()
        finally:
            CURRENT.reset(current)

    def checked_metadata(self, metadata: dict[str, str]) -> dict[str, str]:
        """Return *metadata* if it keeps the caps.

        Raises:
            InvalidMetadata: the message lists every problem.
        """
        return checked_metadata(metadata, self.services.settings.max_metadata_keys)

    async def workspace_of_worker(self) -> str:
        """Return the workspace whose skills and memory stores the caller reaches: a worker that of its environment.

        Raises:
            AuthenticationFailed: the caller's sessions token is of an earlier life of its item; or mode `strict` applies,
                and the token is not valid.
        """
        caller = self.caller
        if caller.work_id is not None and caller.environment_id is not None:
            # Checked in a step on the item, because the clock may have ended that life just now.
            with suppress(NotFound):
                await self.services.queue.get(caller.environment_id, caller.work_id, caller)
        return await self.services.access.workspace(caller)
