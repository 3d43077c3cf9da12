"""The application: its routes, middleware and error handlers. Owns no rule and no service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from workyard_queue.sessions.scripts import play
from workyard_queue.sessions.turns import Agent
from workyard_store.clock import wall_now

from .fixtures import HEADER as LENIENCY
from .journal.attribution import Owners
from .ledger import ids as rule_ids
from .observability.request_log import BODY_BYTES, RequestLog
from .observability.telemetry import telemetry_of
from .routes import (
    agents,
    clock,
    docs,
    environments,
    faults,
    health,
    memories,
    metrics,
    queues,
    rules,
    scripts,
    sessions,
    skills,
    state,
    timeline,
    work,
    workspaces,
)
from .routes import journal as requests
from .routes import skill_uploads as seeds
from .services import running
from .settings import Settings
from .state.file import read_state
from .state.seed_file import read_seed_file
from .wire import errors
from .wire.envelope import Envelope
from .wire.guard import Guard, Pages, parts_of
from .wire.traffic import Traffic


def create_app(settings: Settings, *, wall: Callable[[], int] = wall_now, agent: Agent = play) -> FastAPI:
    """Return the application.

    Args:
        settings: the settings.
        wall: the wall clock in microseconds, for tests.
        agent: acts for sessions, for tests.

    Raises:
        StartupRefused: a file that the settings name cannot be read; when it starts, if the Redis cannot be used.
    """

    # The embedded engine lives in this process; `serving/server.py` puts the same into a Redis.
    initial = read_state(settings) if settings.redis_url is None else []
    planted = read_seed_file(settings) if settings.redis_url is None else None
    looked_at = [
        settings.journal_body_bytes if settings.journal_requests else 0,
        BODY_BYTES if settings.log_bodies else 0,
    ]
    traffic = Traffic(max(looked_at))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, traffic, wall, agent, initial=initial, seeds=planted) as started:
            app.state.services = started.services
            app.state.exports, app.state.close = started.exports, started.close
            request_log = RequestLog(Owners(started.services.access), bodies=settings.log_bodies)
            traffic.on_end.append(request_log.add)
            telemetry = telemetry_of()
            if telemetry is not None:
                traffic.on_begin.append(telemetry.begin)
                traffic.on_end.append(telemetry.end)
            try:
                yield
            finally:
                await request_log.close()
                if telemetry is not None:
                    await asyncio.to_thread(telemetry.close)
        app.state.not_saved = started.not_saved
        # Another start of the same application has subscribers of its own.
        traffic.on_begin.clear()
        traffic.on_end.clear()

    app = FastAPI(
        title="Workyard",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI would look for a tracer's settings at every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    for module in (
        work,
        environments,
        sessions,
        agents,
        skills,
        memories,
        health,
        queues,
        clock,
        workspaces,
        timeline,
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
