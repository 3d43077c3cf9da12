"""The log line of each request. Owns no form (`logs.py`)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from contextvars import Context
from typing import Any

from workyard_store.errors import StorageUnavailable

from ..journal.attribution import Owners, names_of
from ..journal.masking import describe
from ..wire.exchange import Exchange

_log = logging.getLogger("workyard.requests")

#: Bytes of each body that are logged.
BODY_BYTES = 2048
#: Seconds that the last lines may take; they look up workspaces in Redis.
_CLOSE_WITHIN_S = 1.0


class RequestLog:
    """Logs requests at level debug; with bodies, at level info."""

    def __init__(self, owners: Owners, *, bodies: bool) -> None:
        """Look up workspaces with *owners*; log the first bytes of the *bodies*, too."""
        self._owners = owners
        self._bodies = bodies
        self._level = logging.INFO if bodies else logging.DEBUG
        self._writing: set[asyncio.Task[None]] = set()

    def add(self, exchange: Exchange) -> None:
        """Log a request that has ended, soon: its answer does not wait for the line."""
        if _log.isEnabledFor(self._level):
            # In an empty context: the round trips of the workspace look-up do not count for the request.
            task = asyncio.create_task(self._write(exchange), context=Context())
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def close(self) -> None:
        """Write the lines that are left."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=_CLOSE_WITHIN_S)

    async def _write(self, exchange: Exchange) -> None:
        """Write the line of a request. Secrets are masked as in the journal."""
        api_call = exchange.api_call
        workspace = ""
        if api_call is not None:
            with suppress(StorageUnavailable):
                [workspace] = await self._owners.of([names_of(exchange)])
        entry = describe(exchange, BODY_BYTES if self._bodies else 0)
        fields: dict[str, Any] = {
            "request_id": entry.request_id,
            "workspace": workspace,
            "route": getattr(exchange.scope.get("route"), "path_format", ""),
            "operation": exchange.operation,
            "status": entry.status,
            "duration_ms": round(exchange.took * 1e3, 3),
            "engine_round_trips": 0 if api_call is None else api_call.round_trips,
            "environment_id": entry.environment_id,
            "work_id": entry.work_id,
            "session_id": entry.session_id,
            "worker_id": entry.worker_id,
            "credential": entry.credential,
            "cut": exchange.cut,
            "faults": entry.faults,
            "error": entry.error_message,
            "rule": entry.rule,
            "trace_id": exchange.traceparent[3:35],
            "span_id": exchange.traceparent[36:52],
            "request_body": entry.request_body,
            "response_body": entry.response_body,
        }
        known = {name: value for name, value in fields.items() if value != "" and value != [] and value is not False}
        line = f"{entry.method} {entry.path} {entry.status} {exchange.took * 1e3:.1f} ms"
        _log.log(self._level, "%s", line, extra={"fields": known})
