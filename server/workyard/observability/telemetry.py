"""OpenTelemetry: a span and metrics for each request, configured by the standard `OTEL_*` variables (docs/observability.md).

The SDK is imported only if a variable asks for it. Separate threads export the data, from bounded queues that drop what
does not fit, so no request waits for a collector. Names follow the semantic conventions for HTTP servers; our own begin
with `workyard.`.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from .. import __version__
from ..journal.masking import describe
from ..wire.exchange import Exchange

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

_log = logging.getLogger("workyard")

#: Seconds that the last export may take.
_CLOSE_WITHIN_S = 1.0
#: Seconds; the bounds that the semantic conventions advise.
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))
_PROTOCOL = "http/protobuf"


def telemetry_of(variables: Mapping[str, str] = os.environ) -> Telemetry | None:
    """Return telemetry configured from the `OTEL_*` variables; None if they request none, or if set-up fails (which is logged).

    The variables may be meant for other programs too, so no value of them prevents the server from starting.
    """
    wanted = [signal for signal in ("TRACES", "METRICS") if _is_wanted(signal, variables)]
    if not wanted:
        return None
    try:
        return Telemetry(traces="TRACES" in wanted, metrics="METRICS" in wanted)
    except ImportError:
        _log.warning("OTEL_… variables request telemetry, but workyard[otel] is not installed: nothing is exported")
    except Exception as error:
        _log.warning("OTEL_… variables request telemetry that cannot be set up (%s): nothing is exported", error)
    return None


def _is_wanted(signal: str, variables: Mapping[str, str]) -> bool:
    def read(*names: str) -> str:
        return next((value for name in names if (value := variables.get(name, "").strip())), "")

    exporter = read(f"OTEL_{signal}_EXPORTER").lower()
    endpoint = read(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if read("OTEL_SDK_DISABLED").lower() == "true" or exporter == "none" or not (exporter or endpoint):
        return False
    protocol = read(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL") or _PROTOCOL
    if exporter not in ("", "otlp") or protocol != _PROTOCOL:
        _log.warning("no %s are exported: only otlp over %s is supported", signal.lower(), _PROTOCOL)
        return False
    return True


class Telemetry:
    """Exports spans and measurements of this process's requests. Close it in the end."""

    def __init__(self, *, traces: bool, metrics: bool) -> None:
        """Export *traces* and *metrics*.

        Raises:
            ImportError: the SDK or its exporter is not installed.
        """
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource

        own = {"service.name": "workyard", "service.version": __version__, "service.instance.id": str(uuid.uuid4())}
        resource = Resource.create(own).merge(OTELResourceDetector().detect())
        self._tracers = _tracers(resource) if traces else None
        self._meters = _meters(resource) if metrics else None
        self._tracer = self._tracers.get_tracer("workyard", __version__) if self._tracers is not None else None
        self._duration = self._active = self._round_trips = None
        if self._meters is not None:
            meter = self._meters.get_meter("workyard", __version__)
            self._duration = meter.create_histogram(
                "http.server.request.duration",
                "s",
                "Duration of HTTP server requests.",
                explicit_bucket_boundaries_advisory=_BUCKETS_S,
            )
            self._active = meter.create_up_down_counter(
                "http.server.active_requests", "{request}", "Number of active HTTP server requests."
            )
            self._round_trips = meter.create_counter(
                "workyard.engine.round_trips", "{round_trip}", "How often requests have asked the engine."
            )

    def begin(self, exchange: Exchange) -> None:
        """Begin a request's span, below the one that its header names."""
        scope = exchange.scope
        if self._active is not None:
            self._active.add(1, _common(scope))
        if self._tracer is None:
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {
            name.decode(): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        parent = TraceContextTextMapPropagator().extract(carrier)
        span = self._tracer.start_span(_common(scope)["http.request.method"], parent, SpanKind.SERVER, _common(scope))
        exchange.span = span
        exchange.traceparent = _named(span.get_span_context())

    def end(self, exchange: Exchange) -> None:
        """Report a request that was answered, or will never be."""
        scope, api_call = exchange.scope, exchange.api_call
        common = _common(scope)
        route = getattr(scope.get("route"), "path_format", None)
        measured: dict[str, str | int] = dict(common)
        if self._active is not None:
            self._active.add(-1, common)
        if route is not None:
            measured["http.route"] = route
        if exchange.status:
            measured["http.response.status_code"] = exchange.status
        if exchange.status >= 500 or not exchange.status:
            measured["error.type"] = str(exchange.status or "cut")
        if self._duration is not None and self._round_trips is not None:
            self._duration.record(exchange.took, measured)
            if api_call is not None and api_call.round_trips:
                self._round_trips.add(api_call.round_trips, {"workyard.operation": exchange.operation})
        span, exchange.span = exchange.span, None
        if span is not None and span.is_recording():
            self._finish(span, exchange, measured)

    def _finish(self, span: Any, exchange: Exchange, measured: Mapping[str, str | int]) -> None:
        from opentelemetry.trace import Status, StatusCode

        entry, api_call = describe(exchange, 0), exchange.api_call
        if "http.route" in measured:
            span.update_name(f"{measured['http.request.method']} {measured['http.route']}")
        attributes: dict[str, str | int | bool | list[str]] = {
            **measured,
            "url.path": entry.path,
            "user_agent.original": entry.user_agent,
            "workyard.operation": exchange.operation,
            "workyard.request_id": entry.request_id,
            "workyard.engine.round_trips": 0 if api_call is None else api_call.round_trips,
            "workyard.environment_id": entry.environment_id,
            "workyard.work_id": entry.work_id,
            "workyard.session_id": entry.session_id,
            "workyard.worker_id": entry.worker_id,
            "workyard.faults": entry.faults,
        }
        server = exchange.scope.get("server")
        if exchange.cut:
            attributes["workyard.cut"] = True
        if server:
            attributes |= {"server.address": server[0], "server.port": server[1] or 0}
        span.set_attributes({name: value for name, value in attributes.items() if value not in ("", [])})
        if api_call is not None and api_call.handed_out:
            span.add_link(_context(api_call.handed_out), {"workyard.link": "enqueued"})
        if "error.type" in measured:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def close(self) -> None:
        """Export the rest, within a short time: the collector may be away."""
        threads = [
            threading.Thread(target=provider.shutdown, daemon=True)
            for provider in (self._tracers, self._meters)
            if provider is not None
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_CLOSE_WITHIN_S / len(threads))


def _tracers(resource: Any) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _meters(resource: Any) -> MeterProvider:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    return MeterProvider(metric_readers=[reader], resource=resource, shutdown_on_exit=False)


def _common(scope: Scope) -> dict[str, str]:
    method = scope["method"]
    return {"http.request.method": method if method in _METHODS else "_OTHER", "url.scheme": scope["scheme"]}


def _named(context: Any) -> str:
    """Return the name of a span as a header carries it."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _context(traceparent: str) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    _, trace, span, flags = traceparent.split("-")
    return SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
