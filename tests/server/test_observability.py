"""What the server tells of itself: log lines, traces and metrics, and the trace that goes from an enqueue to the poll that
gets the item. Source: docs/observability.md.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.harness import Api, WorkyardServer, running_server, wait_until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
OTHER = f"00-{TRACE[::-1]}-{SPAN}-00"
KEY = "workyard_traceparent"
#: What no terminal may get as it is: colours, a cleared screen (by one character, too), a line of its own, text set from
#: right to left.
HOSTILE = "\x1b[31m\x9b2J\r\n2026-01-01 INFO forged\u202e"


class Collector:
    """An OTLP collector, as much of it as takes in what is sent."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self._bodies: list[tuple[str, bytes]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.answers.wait(20)
                collector._bodies.append((self.path, body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Answer nobody any more."""
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()

    def spans(self) -> list[Any]:
        """Return the spans that came."""
        bodies = [body for path, body in list(self._bodies) if path == "/v1/traces"]
        parts = [part for body in bodies for part in ExportTraceServiceRequest.FromString(body).resource_spans]
        return [span for part in parts for scope in part.scope_spans for span in scope.spans]

    def metrics(self) -> dict[str, Any]:
        """Return the newest reading of each metric, and the attributes of who sent it as `resource`."""
        found: dict[str, Any] = {}
        for path, body in list(self._bodies):
            if path == "/v1/metrics":
                for part in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    found["resource"] = attributes(part.resource)
                    found |= {metric.name: metric for scope in part.scope_metrics for metric in scope.metrics}
        return found


def attributes(of: Any) -> dict[str, Any]:
    """Return attributes as a dict."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@contextmanager
def telling_server(*options: str, **more: str) -> Iterator[tuple[Collector, WorkyardServer]]:
    """Run a collector and a server that exports to it."""
    collector = Collector()
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_SERVICE_NAME": "queues",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=ci",
        **more,
    }
    try:
        with running_server(*options, environment=variables) as server:
            yield collector, server
    finally:
        collector.close()


def test_the_trace_of_an_enqueue_reaches_the_poll_that_gets_the_item(api: Api) -> None:
    """And nothing else shows it; a later message brings its own, a lapse keeps what there is."""
    queue, plain = api.queue(), api.queue()
    path = f"/_emulator/environments/{queue}/work"
    [item] = api.ok(api.post(path, headers={"traceparent": TRACEPARENT}, json={"metadata": {"a": "b"}}))["data"]
    assert item["metadata"] == {"a": "b"}
    assert api.poll(queue)["metadata"] == {"a": "b", KEY: TRACEPARENT}
    assert api.work(queue, item["id"])["metadata"] == {"a": "b"}
    api.freeze()
    api.ok(api.post(api.path(queue, item["id"], "ack"), headers={"traceparent": OTHER}))
    api.advance(200)
    assert api.poll(queue)["metadata"][KEY] == TRACEPARENT

    api.ok(api.stop(queue, item["id"], force=True))
    session = {"session_id": item["data"]["id"]}
    api.ok(api.post(path, headers={"traceparent": OTHER}, json=session))
    assert api.poll(queue)["metadata"][KEY] == OTHER
    api.ok(api.stop(queue, item["id"], force=True))
    api.ok(api.post(path, json=session))
    assert KEY not in api.poll(queue)["metadata"]

    many = {str(n): "" for n in range(16)}
    for header, metadata in ((TRACEPARENT.upper(), {}), (TRACEPARENT + "-1", {}), ("", {}), (TRACEPARENT, many)):
        api.ok(
            api.post(
                f"/_emulator/environments/{plain}/work", headers={"traceparent": header}, json={"metadata": metadata}
            )
        )
        assert api.poll(plain)["metadata"] == metadata


def test_spans_and_metrics_tell_of_requests_and_none_waits_for_the_collector(
    engine_options: tuple[str, ...], new_api: Callable[..., Api]
) -> None:
    """By OTLP over HTTP, the last of them at the end of the server; a collector that hangs holds up nothing."""
    with telling_server(*engine_options, "--log-level", "debug", "--log-format", "json") as (collector, server):
        api = new_api(server.url, reset=False)
        queue = api.queue()
        [item] = api.ok(
            api.post(f"/_emulator/environments/{queue}/work", headers={"traceparent": TRACEPARENT}, json={})
        )["data"]
        handed_out = api.poll(queue, "worker-1")
        api.get(f"/v1/environments/sk-ant-oat01-{'x' * 20}")
        by_name = {}

        def came() -> bool:
            by_name.update({span.name: span for span in collector.spans()})
            return len(by_name) == 4

        wait_until(came, "four spans")
        enqueue = by_name["POST /_emulator/environments/{environment_id}/work"]
        poll = by_name["GET /v1/environments/{environment_id}/work/poll"]
        assert (enqueue.trace_id.hex(), enqueue.parent_span_id.hex()) == (TRACE, SPAN)
        assert handed_out["metadata"][KEY] == f"00-{TRACE}-{enqueue.span_id.hex()}-01"
        [link] = poll.links
        assert (link.trace_id, link.span_id) == (enqueue.trace_id, enqueue.span_id)
        told = attributes(poll)
        assert told["workyard.engine.round_trips"] >= 1
        expected = {
            "http.request.method": "GET",
            "http.route": "/v1/environments/{environment_id}/work/poll",
            "http.response.status_code": 200,
            "url.path": api.path(queue, "poll"),
            "url.scheme": "http",
            "workyard.operation": "poll",
            "workyard.environment_id": queue,
            "workyard.work_id": item["id"],
            "workyard.session_id": item["data"]["id"],
            "workyard.worker_id": "worker-1",
        }
        assert told.items() >= expected.items()
        assert "sk-ant-***" in attributes(by_name["GET /v1/environments/{environment_id}"])["url.path"]

        collector.answers.clear()
        slowest = 0.0
        for _ in range(30):
            began = time.monotonic()
            api.stats(queue)
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.01)
        assert slowest < 0.5
        collector.answers.set()
        api.work(queue, item["id"])
        assert server.stop() == 0
        wait_until(
            lambda: sum(span.name.endswith("/stats") for span in collector.spans()) == 30, "the spans that had to wait"
        )
        assert collector.spans()[-1].name == "GET /v1/environments/{environment_id}/work/{work_id}"
        metrics = collector.metrics()
        duration = metrics["http.server.request.duration"]
        counts = {attributes(point).get("http.route"): point.count for point in duration.histogram.data_points}
        assert (duration.unit, counts["/v1/environments/{environment_id}/work/stats"]) == ("s", 30)
        [active] = metrics["http.server.active_requests"].sum.data_points[:1]
        assert active.as_int == 0
        assert metrics["workyard.engine.round_trips"].sum.data_points
        named = {"service.name": "queues", "deployment.environment.name": "ci"}
        assert metrics["resource"].items() >= named.items()

        lines = [json.loads(line) for line in server.log().splitlines()]
        [line] = [line for line in lines if line.get("operation") == "poll"]
        assert line.items() >= {
            "level": "debug", "logger": "workyard.requests", "status": 200, "engine_round_trips": told["workyard.engine.round_trips"],
            "route": expected["http.route"], "environment_id": queue, "work_id": item["id"], "worker_id": "worker-1",
            "trace_id": poll.trace_id.hex(), "span_id": poll.span_id.hex(),
        }.items()  # fmt: skip
        assert re.fullmatch("req_[0-9A-Za-z]{24}", line["request_id"])
        assert line["workspace"].startswith("wrkspc_")
        assert line["duration_ms"] > 0


def test_log_lines_hold_bodies_but_no_secret_and_nothing_a_terminal_obeys(
    engine_options: tuple[str, ...], new_api: Callable[..., Api]
) -> None:
    """One line a request, whatever the client sends; and a server whose collector hangs ends all the same."""
    with telling_server(*engine_options, "--log-bodies", OTEL_METRICS_EXPORTER="none") as (collector, server):
        collector.answers.clear()
        api = new_api(server.url, "key-of-a-workspace", reset=False)
        queue = api.environment(description=HOSTILE, metadata={"My_Password": "hunter22", HOSTILE: "x"})["id"]
        key = api.ok(api.post(f"/_emulator/environments/{queue}/keys"))["key"]
        api.enqueue(queue)
        worker = Api(server.url, key)
        # Other control characters are no HTTP.
        item = worker.ok(worker.get(api.path(queue, "poll"), headers={b"anthropic-worker-id": b"a\x9b2J"}))
        worker.close()
        api.get("/v1/environments/a%1b%5b31m%c2%9b2J%0aforged", params={"x": "\x1b[31m\n"})
        api.get("/v1/environments/x", headers={"user-agent": "key-of-a-workspace"})
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 4
        text = server.log()
        lines = text.split("\n")
        assert re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", text) == []
        assert not [line for line in lines if line.startswith("2026-01-01")]
        requests = [line for line in lines if " workyard.requests: " in line]
        assert len(requests) == 6
        assert [secret for secret in (key, item["secret"], "hunter22", "key-of-a-workspace") if secret in text] == []
        for part in ('request_body="{', "***", "response_body="):
            assert part in requests[0]
        assert [line for line in requests if " INFO " not in line or "engine_round_trips=" not in line] == []


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "only otlp over http/protobuf"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "no traces are exported: only otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_variables_that_ask_for_nothing_that_is_known_start_no_exporter(
    caplog: pytest.LogCaptureFixture, variables: dict[str, str], said: str
) -> None:
    """They may be meant for other programs: it is said, and the server starts."""
    from workyard.observability.telemetry import telemetry_of

    assert telemetry_of(variables) is None
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)
