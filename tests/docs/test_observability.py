"""The guide on what the server tells of itself keeps its word: its blocks run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.harness import Api, WorkyardServer
from tests.support.pages import ROOT, block, run, section

TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


@pytest.fixture(scope="module")
def guide() -> str:
    """The text of the guide."""
    return (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")


def test_the_lines_are_as_shown(guide: str, tmp_path: Path) -> None:
    """A line has the members of the table and no others; there is one for each that can be here."""
    part = section(guide, "Log lines")
    printed = run("bash", "-euo", "pipefail", "-c", f"cd '{tmp_path}'\n{block(part, 'bash')}").splitlines()
    line = json.loads(printed[-1])
    named = {
        name
        for row in part.splitlines()
        if row.startswith("| `")
        for name in row.split("|")[1].replace("`", "").split(",")
    }
    assert set(line) <= {name.strip() for name in named}
    assert set(line) >= {
        "time",
        "level",
        "request_id",
        "workspace",
        "route",
        "status",
        "duration_ms",
        "engine_round_trips",
    }
    assert json.loads(line["response_body"])["data"][0]["name"] == "workyard-run"


def test_a_worker_goes_on_with_the_trace(
    guide: str, embedded: WorkyardServer, new_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its span is below that of the request that enqueued; without one, it begins a trace."""
    api = new_api(embedded.url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", api.api_key)
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    names: dict[str, Any] = {}
    exec(block(section(guide, "From the enqueue to the worker"), "python"), names)
    queue = api.queue()
    try:
        assert names["next_item"](queue) is None
        header = {"traceparent": f"00-{TRACE:032x}-{SPAN:016x}-01"}
        api.ok(api.post(f"/_emulator/environments/{queue}/work", headers=header))
        api.enqueue(queue)
        assert [names["next_item"](queue).state for _ in range(2)] == ["queued"] * 2
    finally:
        names["client"].close()
        provider.shutdown()
    first, second = spans.get_finished_spans()
    assert first.parent is not None
    assert (first.parent.trace_id, first.parent.span_id) == (TRACE, SPAN)
    assert second.parent is None
