"""The log line of each request: which it was, whose, what came of it, how long it took. Owns no form (`logs.py`)."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from workyard_store.errors import StorageUnavailable

from ..journal.attribution import Owners, names_of
from ..journal.entry import shown
from ..wire.exchange import TRACEPARENT, Exchange

_log = logging.getLogger("workyard.requests")

#: Bytes of each body that are logged.
BODY_BYTES = 2048


class RequestLog:
    """Logs requests at level debug; with bodies, at level info."""

    def __init__(self, owners: Owners, *, bodies: bool) -> None:
        """Look workspaces up with *owners*; log the first bytes of the *bodies*, too."""
        self._owners = owners
        self._bodies = bodies
        self._level = logging.INFO if bodies else logging.DEBUG

    @property
    def is_on(self) -> bool:
        """Tell whether anybody reads the lines."""
        return _log.isEnabledFor(self._level)

    async def tell(self, exchange: Exchange) -> None:
        """Log a request that was answered. Secrets are masked as in the journal."""
        call = exchange.call
        round_trips = 0 if call is None else call.round_trips
        workspace = ""
        if call is not None:
            with suppress(StorageUnavailable):
                [workspace] = await self._owners.of([names_of(exchange)])
        entry = shown(exchange, BODY_BYTES if self._bodies else 0)
        trace = exchange.scope.get(TRACEPARENT, "")
        fields: dict[str, Any] = {
            "request_id": entry.request_id,
            "workspace": workspace,
            "route": getattr(exchange.scope.get("route"), "path_format", ""),
            "operation": exchange.on,
            "status": entry.status,
            "duration_ms": round(exchange.took * 1e3, 3),
            "engine_round_trips": round_trips,
            "environment_id": entry.environment_id,
            "work_id": entry.work_id,
            "session_id": entry.session_id,
            "worker_id": entry.worker_id,
            "credential": entry.credential,
            "cut": exchange.cut,
            "faults": entry.faults,
            "error": entry.error_message,
            "rule": entry.rule,
            "trace_id": trace[3:35],
            "span_id": trace[36:52],
            "request_body": entry.request_body,
            "response_body": entry.response_body,
        }
        told = {name: value for name, value in fields.items() if value != "" and value != [] and value is not False}
        line = f"{entry.method} {entry.path} {entry.status} {exchange.took * 1e3:.1f} ms"
        _log.log(self._level, "%s", line, extra={"fields": told})
