"""The services of a server process, and how they are built, started, tidied and stopped. Owns no route."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import assert_never

from workyard_queue.clock.auto import AutoClocks
from workyard_queue.clock.timers import Clocks
from workyard_queue.sessions.scripts import Scripts
from workyard_queue.sessions.sessions import Sessions
from workyard_queue.sessions.streams import EventStreams
from workyard_queue.sessions.turns import Agent, Turns
from workyard_queue.state.snapshots import Snapshots
from workyard_queue.timeline.feed import Following
from workyard_queue.timeline.timeline import Timelines
from workyard_queue.timeline.watch import Watching
from workyard_queue.work.invariants import Invariants
from workyard_queue.work.polling import LongPoll
from workyard_queue.work.work_queue import LeaseDefaults, WorkQueue
from workyard_store.access import Access
from workyard_store.engine.engine import Engine
from workyard_store.engine.peers import Peers
from workyard_store.engine.wake import (
    AgentDue,
    Answer,
    Changed,
    Heard,
    Missed,
    Question,
    SessionDeleted,
    SessionEvents,
    Watched,
    WorkReady,
)
from workyard_store.errors import StartupRefused, StorageUnavailable
from workyard_store.journal import JournalStore
from workyard_store.keys import Keys
from workyard_store.limits import Limits
from workyard_store.resources.agents import AgentStore
from workyard_store.resources.memories import MemoryStores
from workyard_store.resources.named_scripts import NamedScripts
from workyard_store.resources.skills import SkillStore
from workyard_store.workspaces.credentials import CredentialStore
from workyard_store.workspaces.environments import EnvironmentStore
from workyard_store.workspaces.workspaces import WorkspaceStore

from .faults.apply import Faults
from .fixtures import Fixtures
from .journal.attribution import Owners
from .journal.journal import Journal
from .observability.metrics import Metrics
from .settings import Settings, read_script
from .state.file import Loaded, load_state, save_state
from .state.seed_file import Seeds, plant
from .state.stores import Stores
from .wire.traffic import Traffic

_log = logging.getLogger("workyard")

#: Seconds between two searches for work that another server's crash left unfinished.
_TIDY_EVERY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Services(Stores):
    """The objects that routes work with; all server processes of one Redis share the underlying data."""

    settings: Settings
    engine: Engine
    invariants: Invariants
    timelines: Timelines
    watching: Watching
    following: Following
    long_poll: LongPoll
    auto_clocks: AutoClocks
    agents: AgentStore
    skills: SkillStore
    memories: MemoryStores
    sessions: Sessions
    turns: Turns
    streams: EventStreams
    peers: Peers
    traffic: Traffic
    fixtures: Fixtures | None
    journal: Journal
    metrics: Metrics


def open_engine(settings: Settings) -> Engine:
    """Return the engine that the settings name, not yet opened."""
    keys = Keys(settings.key_prefix)
    if settings.redis_url is None:
        return Engine.embedded(keys)
    return Engine.at(settings.redis_url, keys, connections=settings.redis_connections)


def build_services(
    settings: Settings, engine: Engine, wall: Callable[[], int], agent: Agent, traffic: Traffic
) -> Services:
    """Put the services together over an engine."""
    limits = Limits(settings.max_workspaces, settings.max_environments, settings.max_items, settings.max_metadata_keys)
    access = Access(engine, engine.keys, wall, timeline_events=settings.timeline_events, limits=limits)
    workspaces = WorkspaceStore(access)
    defaults = LeaseDefaults(settings.default_ttl, settings.startup_lease, settings.reclaim_ms)
    queue = WorkQueue(access, workspaces, defaults)
    scripts = Scripts(NamedScripts(engine, workspaces), read_script(settings))
    turns = Turns(access, workspaces, agent, scripts.default)
    sessions = Sessions(access, workspaces, turns)
    clocks = Clocks(access, workspaces, turns, default_reclaim_ms=defaults.reclaim_ms)
    long_poll = LongPoll(queue, settings.max_blocked_polls)
    peers = Peers(engine)
    owners = Owners(access)

    async def busy(workspace: str) -> str:
        return str(await owners.busy(list(traffic.in_flight), workspace))

    async def idle(workspace: str) -> bool:
        answers = await peers.ask("busy", workspace)
        return answers.complete and set(answers.words.values()) == {"0"}

    peers.on("busy", busy)
    journal = Journal(
        traffic,
        JournalStore(access, workspaces, settings.journal_requests),
        owners,
        peers,
        body_bytes=settings.journal_body_bytes,
        lasts=engine.name != "embedded",
    )
    auto_clocks = AutoClocks(access, workspaces, long_poll, clocks, idle, default_reclaim_ms=defaults.reclaim_ms)
    long_poll.in_auto = auto_clocks.noticed
    watching = Watching(access, workspaces)
    records = EnvironmentStore(access, workspaces)
    streams = EventStreams(sessions, settings.max_streams)
    return Services(
        settings=settings,
        engine=engine,
        access=access,
        workspaces=workspaces,
        environments=records,
        credentials=CredentialStore(access),
        queue=queue,
        invariants=Invariants(access, workspaces),
        snapshots=Snapshots(access, workspaces, queue),
        timelines=Timelines(access, workspaces),
        watching=watching,
        following=Following(access, watching, settings.max_streams),
        long_poll=long_poll,
        clocks=clocks,
        auto_clocks=auto_clocks,
        agents=AgentStore(engine, workspaces),
        scripts=scripts,
        skills=SkillStore(access, workspaces),
        memories=MemoryStores(access, workspaces),
        sessions=sessions,
        turns=turns,
        streams=streams,
        peers=peers,
        traffic=traffic,
        fixtures=Fixtures(access, workspaces, records, queue) if settings.fixtures else None,
        faults=Faults(access, workspaces, clocks, queue),
        journal=journal,
        metrics=Metrics(engine, workspaces, queue, peers, traffic, journal.backlog, long_poll, streams),
    )


@dataclass(slots=True)
class Running:
    """Services that have been started.

    Attributes:
        services: the services.
        exports: variables for the resources of the seed file: ids of environments, values of keys.
        not_saved: why the file of `--save-state` could not be written; set when they have been stopped.
    """

    services: Services
    exports: dict[str, str] = field(default_factory=dict)
    not_saved: StartupRefused | None = None

    def close(self) -> None:
        """End every wait: polls, streams, pauses of fault rules and watches are answered at once."""
        services = self.services
        services.long_poll.close()
        services.streams.close()
        services.faults.close()
        services.watching.close()


@asynccontextmanager
async def running(
    settings: Settings,
    traffic: Traffic,
    wall: Callable[[], int],
    agent: Agent,
    *,
    initial: Loaded,
    seeds: Seeds | None,
) -> AsyncIterator[Running]:
    """Start the services, and stop them in the end.

    Args:
        settings: the settings.
        traffic: the requests of this process.
        wall: the wall clock, microseconds.
        agent: acts for sessions.
        initial: the workspaces that an embedded engine starts with.
        seeds: the resources that are created in an embedded engine when it starts.

    Raises:
        StartupRefused: the Redis cannot be used, or the state or the seed file cannot be applied.
    """
    engine = open_engine(settings)
    try:
        await engine.open()
        services = build_services(settings, engine, wall, agent, traffic)
        started = Running(services)
        if engine.name == "embedded":
            await load_state(initial, services)
            started.exports = await plant(seeds, services)
        await engine.subscribe(partial(_heard, services))
        tidy = asyncio.create_task(_tidy(services))
        try:
            with _on_shutdown(started.close):
                yield started
        finally:
            started.close()
            await services.auto_clocks.close()
            services.turns.close()
            await services.journal.close()
            tidy.cancel()
            with suppress(asyncio.CancelledError):
                await tidy
            if settings.save_state and engine.name == "embedded":
                try:
                    await save_state(settings, services)
                except StartupRefused as refusal:
                    started.not_saved = refusal
    finally:
        await engine.close()


def _heard(services: Services, message: Heard) -> None:
    """Pass a message of the wake channel to the services that it concerns."""
    match message:
        case WorkReady():
            services.long_poll.heard(message)
        case Changed() | Missed():
            services.long_poll.heard(message)
            services.streams.heard(message)
            services.watching.heard(message)
        case Watched():
            services.watching.heard(message)
        case AgentDue(environment_id):
            services.turns.look(environment_id)
        case SessionEvents() | SessionDeleted():
            services.streams.heard(message)
        case Question() | Answer():
            services.peers.heard(message)
        case _:
            assert_never(message)


async def _tidy(services: Services) -> None:
    """Periodically finish what another server's crash left unfinished."""
    while True:
        try:
            await services.workspaces.finish_purges()
            await services.workspaces.catch_up()
            await services.turns.make_good()
        except StorageUnavailable:
            _log.warning(
                "could not look for unfinished work: Redis is unavailable; trying again in %.0f s", _TIDY_EVERY_S
            )
        await asyncio.sleep(_TIDY_EVERY_S)


@contextmanager
def _on_shutdown(close: Callable[[], None]) -> Iterator[None]:
    """Call *close* as soon as the process is asked to end, before the server's own handler.

    Uvicorn waits for running requests before it ends the lifespan, and a blocked poll is one of them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(close)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)
