"""Prometheus metrics: figures of the queues from Redis, and counts of requests from every server process.

Each process keeps its own counts. A scrape may go to any process, which asks all the others. The counts of a process have
its name as label `process`, so that Prometheus can distinguish a restart from a decreasing counter. The text is written
here and not by a client library, because such a library keeps the counts of one process, and these come from several.
"""

from __future__ import annotations

import asyncio
import json
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import accumulate, chain, zip_longest
from typing import Any

from workyard_queue.sessions.streams import EventStreams
from workyard_queue.work.polling import LongPoll
from workyard_queue.work.work_queue import QueueFigures, WorkQueue
from workyard_store.engine.engine import Engine
from workyard_store.engine.peers import Answers, Peers
from workyard_store.errors import EnvironmentNotFound, StorageUnavailable
from workyard_store.workspaces.workspaces import WorkspaceStore

from .. import __version__
from ..journal.backlog import Backlog
from ..wire.traffic import Traffic
from .counters import BUCKETS_S, Counters

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Environments with their own label; the next ones are summed as `other`, and the rest are not read.
MOST_LABELLED = 100
MOST_READ = 500
OTHER = "other"
_AT_ONCE = 50
#: Seconds within which every process must answer.
_PATIENCE_S = 2.0

#: Name, without the prefix `workyard_` → kind and help. `_total` ends the name of each counter.
SERIES = {
    "build_info": ("gauge", "1; which build answers."),
    "redis_up": ("gauge", "Whether Redis answered this scrape. If not, there are no figures of queues."),
    "environments": ("gauge", "Environments, archived ones too."),
    "environments_unread": ("gauge", f"Environments beyond the first {MOST_READ}, of which nothing is counted."),
    "queue_depth": ("gauge", "Queued items that no poll was given."),
    "queue_pending": ("gauge", "Queued items that a poll was given and nobody acknowledged."),
    "queue_oldest_seconds": ("gauge", "How long the oldest queued item waits, by its workspace's clock."),
    "workers_polling": ("gauge", "Workers that have polled in the last 30 s of the workspace's clock."),
    "leases": ("gauge", "Items under lease by state; unread: those beyond the first 500 of an environment."),
    "requests_total": ("counter", "Answers by operation and status; status 0: cut before there was one."),
    "request_duration_seconds": ("histogram", "From a request's head to the end of its answer, by operation."),
    "faults_applied_total": ("counter", "How often a fault rule was applied, by operation."),
    "requests_in_flight": ("gauge", "Requests being answered."),
    "polls_waiting": ("gauge", "Polls that are blocked."),
    "stream_listeners": ("gauge", "Clients that listen to a session's events."),
    "redis_errors_total": ("counter", "Commands and scripts that Redis did not carry out."),
    "journal_lost_total": ("counter", "Requests that could not be written into the journal."),
}

_Labels = Mapping[str, object]
_Samples = list[tuple[str, _Labels, float]]


class Metrics:
    """Gathers and writes the metrics."""

    def __init__(
        self,
        engine: Engine,
        workspaces: WorkspaceStore,
        queue: WorkQueue,
        peers: Peers,
        traffic: Traffic,
        backlog: Backlog,
        long_poll: LongPoll,
        streams: EventStreams,
    ) -> None:
        self._engine = engine
        self._workspaces = workspaces
        self._queue = queue
        self._peers = peers
        self._traffic = traffic
        self._backlog = backlog
        self._counters = Counters()
        traffic.on_end.append(self._counters.add)
        self._long_poll = long_poll
        self._streams = streams
        peers.on("metrics", self._own)

    async def text(self) -> str:
        """Return all metrics in Prometheus' text format.

        Raises:
            StorageUnavailable: a process did not answer in time: a scrape without its counts would look as if they had gone
                back.
        """
        samples: dict[str, _Samples] = {name: [] for name in SERIES}
        build = {"version": __version__, "engine": self._engine.name, "python": platform.python_version()}
        samples["build_info"].append(("", build, 1))
        try:
            answers = await self._peers.ask("metrics", within_s=_PATIENCE_S)
            await self._of_queues(samples)
        except StorageUnavailable:
            answers = Answers({self._peers.process: await self._own("")}, complete=True)
            samples["redis_up"].append(("", {}, 0))
        else:
            samples["redis_up"].append(("", {}, 1))
        if not answers.complete:
            raise StorageUnavailable("A server process did not answer in time", rule="journal.metrics")
        words = answers.words
        for process, word in sorted(words.items()):
            _of_process(samples, process, json.loads(word))
        return "".join(chain.from_iterable(_lines(name, found) for name, found in samples.items()))

    async def _own(self, argument: str) -> str:
        """Return this process's counts as JSON."""
        counters = self._counters
        return json.dumps(
            {
                "requests": [[on, status, count] for (on, status), count in counters.answers.items()],
                "durations": counters.durations,
                "seconds": counters.seconds,
                "faults": counters.faults,
                "requests_in_flight": len(self._traffic.in_flight),
                "polls_waiting": self._long_poll.blocked,
                "stream_listeners": self._streams.listening,
                "redis_errors_total": self._engine.errors,
                "journal_lost_total": self._backlog.lost,
            },
            separators=(",", ":"),
        )

    async def _of_queues(self, samples: dict[str, _Samples]) -> None:
        workspaces = await self._workspaces.all()
        lists = await asyncio.gather(*[self._workspaces.environments(workspace) for workspace in workspaces])
        # The newest of each workspace first: they are most likely in use.
        turns = zip_longest(*(reversed(ids) for ids in lists))
        ids = [id_ for id_ in chain.from_iterable(turns) if id_ is not None]
        samples["environments"].append(("", {}, len(ids)))
        samples["environments_unread"].append(("", {}, max(len(ids) - MOST_READ, 0)))
        rest = QueueFigures(0, 0, 0, 0, {})
        for start in range(0, min(len(ids), MOST_READ), _AT_ONCE):
            some = ids[start : min(start + _AT_ONCE, MOST_READ)]
            for n, figures in enumerate(await asyncio.gather(*map(self._figures, some)), start):
                if figures is None:
                    continue
                if n < MOST_LABELLED:
                    _of_queue(samples, ids[n], figures)
                else:
                    rest = _sum(rest, figures)
        if len(ids) > MOST_LABELLED:
            _of_queue(samples, OTHER, rest)

    async def _figures(self, environment_id: str) -> QueueFigures | None:
        with suppress(EnvironmentNotFound):
            return await self._queue.figures(environment_id)
        return None


def _sum(one: QueueFigures, other: QueueFigures) -> QueueFigures:
    return QueueFigures(
        one.depth + other.depth,
        one.pending + other.pending,
        max(one.oldest_us, other.oldest_us),
        one.workers_polling + other.workers_polling,
        {state: one.leases.get(state, 0) + count for state, count in other.leases.items()},
    )


def _of_queue(samples: dict[str, _Samples], name: str, figures: QueueFigures) -> None:
    label = {"environment_id": name}
    samples["queue_depth"].append(("", label, figures.depth))
    samples["queue_pending"].append(("", label, figures.pending))
    samples["queue_oldest_seconds"].append(("", label, figures.oldest_us / 1e6))
    samples["workers_polling"].append(("", label, figures.workers_polling))
    for state, count in figures.leases.items():
        samples["leases"].append(("", {**label, "state": state}, count))


def _of_process(samples: dict[str, _Samples], process: str, found: Mapping[str, Any]) -> None:
    label = {"process": process}
    for on, status, count in found["requests"]:
        samples["requests_total"].append(("", {**label, "on": on, "status": status}, count))
    for on, counts in found["durations"].items():
        of = {**label, "on": on}
        bounds = [*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"]
        for bound, count in zip(bounds, accumulate(counts), strict=True):
            samples["request_duration_seconds"].append(("_bucket", {**of, "le": bound}, count))
        samples["request_duration_seconds"].append(("_sum", of, found["seconds"][on]))
        samples["request_duration_seconds"].append(("_count", of, sum(counts)))
    for on, count in found["faults"].items():
        samples["faults_applied_total"].append(("", {**label, "on": on}, count))
    for name in SERIES:
        if name in found:
            samples[name].append(("", label, found[name]))


def _lines(name: str, samples: _Samples) -> Iterable[str]:
    kind, text = SERIES[name]
    yield f"# HELP workyard_{name} {text}\n# TYPE workyard_{name} {kind}\n"
    for suffix, labels, value in samples:
        labelled = ",".join(f'{label}="{_escaped(str(of))}"' for label, of in labels.items())
        yield f"workyard_{name}{suffix}{{{labelled}}} {value}\n" if labelled else f"workyard_{name}{suffix} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
