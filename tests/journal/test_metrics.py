"""`/metrics`: what Prometheus reads is what there is, and no more than a bound. Source: docs/journal.md."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx

from tests.support.harness import Api, WorkyardServer

_SAMPLE = re.compile(r'(\w+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')


def scraped(api: Api) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return each sample by its name and its labels, added up over the processes; every line has to have the form."""
    answer = api.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[tuple[str, tuple[str, ...]], float] = {}
    for line in answer.text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP workyard_\w+ \S.*|TYPE workyard_\w+ (gauge|counter|histogram))", line)
            continue
        sample = _SAMPLE.fullmatch(line)
        assert sample is not None, line
        labels = re.findall(r'(\w+)="([^"]*)"', sample[2] or "")
        key = sample[1].removeprefix("workyard_"), tuple(value for name, value in labels if name != "process")
        # Each server process on this Redis counts for itself.
        assert key not in found or "process=" in line, line
        assert not key[0].startswith("request") or dict(labels)["process"], line
        found[key] = found.get(key, 0) + float(sample[3])
    return found


def test_a_scrape_shows_queues_leases_and_requests(api: Api) -> None:
    """Of each environment by name; requests by operation and status, and how long they took. Whoever asks."""
    assert httpx.get(f"{api.url}/metrics").status_code == 200
    api.freeze()
    queue = api.queue()
    api.enqueue(queue, 4)
    before = scraped(api)
    work, _ = api.active(queue)
    started = api.poll(queue, "w")["id"]
    api.ok(api.ack(queue, started))
    api.poll(queue, "w")
    api.heartbeat(queue, work, "wrong")
    api.advance(2)

    now = scraped(api)
    assert now["queue_depth", (queue,)] == 1
    assert now["queue_pending", (queue,)] == 1
    assert now["queue_oldest_seconds", (queue,)] == 2
    assert now["workers_polling", (queue,)] == 1
    leases = {state: now["leases", (queue, state)] for state in ("starting", "active", "stopping", "unread")}
    assert leases == {"starting": 1, "active": 1, "stopping": 0, "unread": 0}
    grown = {key: value - before.get(key, 0) for key, value in now.items() if key[0].startswith("request")}
    assert grown["requests_total", ("poll", "200")] == 3
    assert grown["requests_total", ("heartbeat", "412")] == 1
    assert grown["request_duration_seconds_count", ("heartbeat",)] == 2
    assert grown["request_duration_seconds_bucket", ("heartbeat", "+Inf")] == 2
    assert 0 <= grown["request_duration_seconds_bucket", ("heartbeat", "0.001")] <= 2
    assert 0 < grown["request_duration_seconds_sum", ("heartbeat",)] < 5
    assert now["requests_in_flight", ()] >= 1
    assert now["redis_up", ()] == now["build_info", tuple(_build(now))] == 1


def _build(found: dict[tuple[str, tuple[str, ...]], float]) -> tuple[str, ...]:
    [labels] = [labels for name, labels in found if name == "build_info"]
    return labels


def test_labels_are_bounded(embedded: WorkyardServer, new_api: Callable[..., Api]) -> None:
    """A hundred environments have a label; the others are summed up."""
    api = new_api(embedded.url)
    oldest = api.queue()
    api.enqueue(oldest, 7)
    for _ in range(101):
        newest = api.queue()
    found = scraped(api)
    depths = {labels[0]: value for (name, labels), value in found.items() if name == "queue_depth"}
    assert len(depths) == 101
    assert newest in depths
    assert oldest not in depths
    assert depths["other"] >= 7
    assert found["environments", ()] >= 102
    assert found["environments_unread", ()] == 0
