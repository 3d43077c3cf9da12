"""The application: what it is made of, and how it starts and ends. Owns no route and no rule."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from types import FrameType

from fastapi import FastAPI

from workyard_queue.clock.auto import AutoClocks
from workyard_queue.clock.timers import Clocks
from workyard_queue.sessions.scripts import Scripts, play
from workyard_queue.sessions.sessions import Sessions
from workyard_queue.sessions.streams import EventStreams
from workyard_queue.sessions.turns import Agent, Turns
from workyard_queue.state.snapshots import Snapshots
from workyard_queue.state.upgrade import upgrade
from workyard_queue.timeline.feed import Following
from workyard_queue.timeline.timeline import Timelines
from workyard_queue.timeline.watch import Watching
from workyard_queue.work.invariants import Invariants
from workyard_queue.work.polling import LongPoll
from workyard_queue.work.work_queue import LeaseDefaults, WorkQueue
from workyard_store.access import Access
from workyard_store.clock import wall_now
from workyard_store.engine.engine import Engine
from workyard_store.engine.peers import Questions
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

from .checks.route import Services
from .faults.apply import Faults
from .fixtures import HEADER as LENIENCY
from .fixtures import Fixtures
from .journal.attribution import Owners
from .journal.journal import Journal
from .ledger import ids as rule_ids
from .observability.metrics import Metrics
from .observability.request_log import BODY_BYTES, RequestLog
from .observability.telemetry import telemetry_of
from .routes import (
    agents,
    control,
    docs,
    environments,
    faults,
    memories,
    metrics,
    rules,
    scripts,
    sessions,
    skills,
    state,
    work,
)
from .routes import journal as requests
from .routes import skill_uploads as seeds
from .routes import timeline as sight
from .settings import Settings, read_script
from .state.file import load_state, read_state, save_state
from .state.seed_file import plant, read_seed_file
from .wire import errors
from .wire.envelope import Envelope
from .wire.guard import Guard, Pages, parts_of
from .wire.traffic import Traffic

_log = logging.getLogger("workyard")

#: Seconds between two looks for what a crash of another server left half done.
_TIDY_EVERY_S = 30.0


def create_app(settings: Settings, *, wall: Callable[[], int] = wall_now, agent: Agent = play) -> FastAPI:
    """Return the application.

    Args:
        settings: the settings.
        wall: the wall clock in microseconds, for tests.
        agent: acts for sessions, for tests.

    Raises:
        StartupRefused: a file that the settings name cannot be read; when it starts, if the Redis cannot be used.
    """

    # The embedded engine lives in this process; what a Redis is to start with, `serving.py` sees to.
    initial = read_state(settings) if settings.redis_url is None else []
    planted = read_seed_file(settings) if settings.redis_url is None else None
    looked_at = [
        settings.journal_body_bytes if settings.journal_requests else 0,
        BODY_BYTES if settings.log_bodies else 0,
    ]
    traffic = Traffic(max(looked_at))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = open_engine(settings)
        try:
            stored_format = await engine.open()
            services = build_services(settings, engine, wall, agent, traffic)
            await upgrade(stored_format, services.access, services.workspaces)
            app.state.services = services
            request_log = RequestLog(Owners(services.access), bodies=settings.log_bodies)
            traffic.on_end.append(request_log.add)
            telemetry = telemetry_of()
            if telemetry is not None:
                traffic.on_begin.append(telemetry.begin)
                traffic.on_end.append(telemetry.end)
            if engine.name == "embedded":
                await load_state(initial, services)
                app.state.exports = await plant(planted, services)
            await engine.subscribe(partial(_heard, services))
            tidy = asyncio.create_task(_tidy(services))

            def close() -> None:
                services.long_poll.close()
                services.streams.close()
                services.faults.close()
                services.watching.close()

            app.state.close = close
            try:
                with _on_shutdown(close):
                    yield
            finally:
                close()
                await services.auto_clocks.close()
                services.turns.close()
                await services.journal.close()
                await request_log.close()
                if telemetry is not None:
                    await asyncio.to_thread(telemetry.close)
                tidy.cancel()
                with suppress(asyncio.CancelledError):
                    await tidy
                if settings.save_state and engine.name == "embedded":
                    app.state.not_saved = await _save(settings, services)
        finally:
            traffic.on_begin.clear()
            traffic.on_end.clear()
            await engine.close()

    app = FastAPI(
        title="Workyard",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Nobody traces an emulator, and FastAPI would look for a tracer's settings at every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    for module in (
        work,
        environments,
        sessions,
        agents,
        skills,
        memories,
        control,
        sight,
        requests,
        rules,
        metrics,
        scripts,
        faults,
        seeds,
        state,
        docs,
    ):
        # The routes themselves, not a router in a router: one match a request, and one list to describe.
        app.router.routes.extend(module.router.routes)
    errors.install(app)
    if settings.check_responses:
        from .contract.check import ResponseCheck

        app.add_middleware(ResponseCheck)
    app.add_middleware(Guard, settings=settings)
    origins = parts_of(settings.cors_origins)
    if origins:
        app.add_middleware(
            Pages,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["request-id", "retry-after", "x-should-retry", rule_ids.HEADER, LENIENCY],
        )
    app.add_middleware(Envelope, traffic=traffic)
    return app


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
    access = Access(engine, engine.keys, wall, life_line_events=settings.life_line_events, limits=limits)
    workspaces = WorkspaceStore(access)
    defaults = LeaseDefaults(settings.default_ttl, settings.startup_lease, settings.reclaim_ms)
    queue = WorkQueue(access, workspaces, defaults)
    scripts = Scripts(NamedScripts(engine, workspaces), read_script(settings))
    turns = Turns(access, workspaces, agent, scripts.default)
    sessions = Sessions(access, workspaces, turns)
    clocks = Clocks(access, workspaces, turns, default_reclaim_ms=defaults.reclaim_ms)
    long_poll = LongPoll(queue, settings.max_blocked_polls)
    questions = Questions(engine)
    owners = Owners(access)

    async def busy(workspace: str) -> str:
        return str(await owners.busy(list(traffic.in_flight), workspace))

    async def idle(workspace: str) -> bool:
        answers = await questions.ask("busy", workspace)
        return answers.complete and set(answers.words.values()) == {"0"}

    questions.answer("busy", busy)
    journal = Journal(
        traffic,
        JournalStore(access, workspaces, settings.journal_requests),
        owners,
        questions,
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
        questions=questions,
        traffic=traffic,
        fixtures=Fixtures(access, workspaces, records, queue) if settings.fixtures else None,
        faults=Faults(access, workspaces, clocks, queue),
        journal=journal,
        metrics=Metrics(engine, workspaces, queue, questions, traffic, journal.backlog, long_poll, streams),
    )


async def _save(settings: Settings, services: Services) -> StartupRefused | None:
    """Write the file of `--save-state`. Return why that failed."""
    try:
        await save_state(settings, services)
    except StartupRefused as refusal:
        return refusal
    return None


def _heard(services: Services, message: str | None) -> None:
    """Pass a message of the wake channel on to whom it concerns: an environment `env_…`, a session `session_…`, or
    all server processes, `?…` and `!…`."""
    if message is None:
        services.long_poll.heard(None)
        services.streams.heard(None)
        services.watching.heard(None)
    elif message[:1] in ("?", "!"):
        services.questions.heard(message)
    elif message.startswith("session_"):
        services.streams.heard(message)
    elif message.endswith("~"):
        services.turns.look(message[:-1])
    elif message.endswith("#"):
        services.watching.heard(message[:-1])
    else:
        services.long_poll.heard(message)
        if message.endswith("!"):
            services.streams.heard_of_environment(message[:-1])
            services.watching.heard(message[:-1])


async def _tidy(services: Services) -> None:
    """Finish, now and then, what another server's crash left half done."""
    while True:
        try:
            await services.workspaces.finish_purges()
            await services.workspaces.catch_up()
            await services.turns.make_good()
        except StorageUnavailable:
            _log.warning("could not look for unfinished work: Redis is away; trying again in %.0f s", _TIDY_EVERY_S)
        await asyncio.sleep(_TIDY_EVERY_S)


@contextmanager
def _on_shutdown(close: Callable[[], None]) -> Iterator[None]:
    """Call *close* the moment the process is asked to end, ahead of the server's own handler.

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
