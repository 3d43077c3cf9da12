"""Runs the application under uvicorn: one process or several, ready line, clean shutdown. Owns no route.

Uvicorn is adjusted in three places: the answers of its protocol (`protocol.py`); a signal that stopped the server is not
raised again, so that the exit code is 0; and with several processes the parent reports when the first of them answers.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import gc
import json
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import FrameType
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI
from uvicorn.config import LOOP_FACTORIES, STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from workyard_queue.sessions.scripts import play
from workyard_store.clock import wall_now
from workyard_store.errors import StartupRefused

from ..app import create_app
from ..observability import logs
from ..services import Services, build_services, open_engine
from ..settings import Settings, load, named
from ..state.file import load_state, read_state, save_state
from ..state.seed_file import plant, read_seed_file
from ..wire.traffic import Traffic
from .connections import Connections, WireLimits, make_room
from .protocol import Protocol

_log = logging.getLogger("workyard")

#: Seconds that running requests get after a signal; with uvicorn's own pauses the server stops within two.
_GRACE_S = 0.5
_BACKLOG = 2048
#: Number of new objects that triggers Python's garbage collector; a request creates about fifty.
_MOST_NEW_OBJECTS = 10_000
_READY_WITHIN_S = 30.0
_SETTINGS_VARIABLE = "_WORKYARD_SETTINGS"
_ENDING = (signal.SIGTERM, signal.SIGINT)


class _Server(uvicorn.Server):
    """A uvicorn server that stops cleanly after a signal."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle the signals until the process ends: do not raise them again, and do not let a second one kill the process."""
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                signal.signal(number, self.handle_exit)
        yield


class _Supervisor(Multiprocess):
    """A parent process that forwards a signal immediately, not at its next check, and replaces dead processes.

    Uvicorn's own also pings each process. It waits five seconds for a process that is just ending, and kills one that is
    slow to answer on a busy machine.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        for number in _ENDING:
            signal.signal(number, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.signal_queue.append(number)
        for process in self.processes:
            if process.process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)

    def keep_subprocess_alive(self) -> None:
        """Replace dead processes. If a process cannot start, a second try would fail too: then all processes end."""
        for place, process in enumerate(self.processes):
            if process.process.is_alive() or self.signal_queue or self.should_exit.is_set():
                continue
            process.kill()  # closes its pipes
            process.join()
            if process.exitcode == STARTUP_FAILURE:
                self.should_exit.set()
                return
            _log.warning("server process %s died (exit code %s); starting another", process.pid, process.exitcode)
            self.processes[place] = Process(self.config, self.sockets)
            self.processes[place].start()


def serve(settings: Settings, on_ready: Callable[[str, str, Mapping[str, str]], None]) -> None:
    """Serve until a signal stops it. When the server accepts requests, call *on_ready* with the URL, the engine, and variables
    for the resources of the seed file.

    Raises:
        StartupRefused: the port is taken, or the Redis cannot be used.
    """
    listener = bind(settings)
    room = make_room(settings)
    _end_quickly()
    url = url_of(listener)
    engine = "embedded" if settings.redis_url is None else "redis"
    if engine == "embedded":
        app = create_app(settings)
        config = config_of(settings, app, room=room)
        _Server(config, lambda: on_ready(url, engine, app.state.exports)).run(sockets=[listener])
        not_saved: StartupRefused | None = getattr(app.state, "not_saved", None)
        if not_saved is not None:
            raise not_saved
        return
    exports = asyncio.run(prepare(settings))
    if settings.workers == 1:
        config = config_of(settings, create_app(settings), room=room)
        _Server(config, lambda: on_ready(url, engine, exports)).run(sockets=[listener])
    else:
        _supervise(settings, listener, room, url, lambda: on_ready(url, engine, exports))
    if settings.save_state:
        asyncio.run(save(settings))


def _supervise(settings: Settings, listener: socket.socket, room: int, url: str, on_ready: Callable[[], None]) -> None:
    os.environ[_SETTINGS_VARIABLE] = settings.model_dump_json()
    config = config_of(settings, "workyard.serving.server:worker_app", room=room)
    threading.Thread(target=_say_when_ready, args=(url, on_ready), daemon=True).start()
    supervisor = _Supervisor(config, [listener])
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise StartupRefused("A server process could not start; see the log above.")


def worker_app() -> FastAPI:
    """Return the application of one of several server processes."""
    settings = load(**json.loads(os.environ[_SETTINGS_VARIABLE]))
    _end_quickly()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logs.configure(settings.log_level, settings.log_format)
    app = create_app(settings)
    spare_collections()
    return app


def spare_collections() -> None:
    """Exclude a ready server's objects from Python's garbage collection, and make collections rare.

    Start-up objects live for ever; scanning them once a second would stall all requests for 0.1 s. The objects of a request
    are freed without the collector when it ends: a few concurrent requests exceed Python's own threshold, and the
    collections that they trigger would find nothing.
    """
    gc.freeze()
    gc.set_threshold(_MOST_NEW_OBJECTS)


def _end_quickly() -> None:
    """Skip the interpreter's last garbage collection: it takes 0.25 s, and the process's memory is freed anyway."""
    atexit.register(gc.freeze)


def _end_with_parent() -> None:
    """End this server process when its parent is gone, even if the parent was killed: nothing else would end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def config_of(
    settings: Settings, app: FastAPI | str, lifespan: Literal["on", "off"] = "on", room: int | None = None
) -> uvicorn.Config:
    """Return uvicorn's configuration for the application, or for the named factory. *room*: maximum number of connections,
    None: from the settings."""
    connections = Connections(WireLimits.of(settings, room))
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=settings.workers,
        http=partial(Protocol, all_connections=connections),  # type: ignore[arg-type]  # It is only ever called.
        ws="none",
        loop="uvloop" if "uvloop" in LOOP_FACTORIES and sys.platform != "win32" else "auto",
        lifespan=lifespan,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_S,  # type: ignore[arg-type]  # It is only ever a timeout for `wait_for`.
        timeout_keep_alive=settings.idle_timeout,  # type: ignore[arg-type]  # It is only ever a timer's delay.
        backlog=_BACKLOG,
    )


def bind(settings: Settings) -> socket.socket:
    """Return a socket that listens on the address in the settings; child processes inherit it.

    Raises:
        StartupRefused: the address is not available.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        reason = f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise StartupRefused(f"{named('port')}: {reason}. Choose another port; 0 takes any free one.") from None
        raise StartupRefused(f"{named('host')}: {reason}. Choose an address of this machine.") from None
    listener.listen(_BACKLOG)
    listener.set_inheritable(True)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def prepare(settings: Settings) -> dict[str, str]:
    """Check before anything starts that the Redis can be used, and apply the state and seed files of the settings."""
    initial, seeds = read_state(settings), read_seed_file(settings)
    async with _services(settings) as services:
        await load_state(initial, services)
        return await plant(seeds, services)


async def save(settings: Settings) -> None:
    """Write the file of `--save-state` from the contents of the Redis.

    Raises:
        StartupRefused: it cannot be written.
    """
    async with _services(settings) as services:
        await save_state(settings, services)


@asynccontextmanager
async def _services(settings: Settings) -> AsyncIterator[Services]:
    engine = open_engine(settings)
    try:
        await engine.open()
        yield build_services(settings, engine, wall_now, play, Traffic())
    finally:
        await engine.close()


def _say_when_ready(url: str, on_ready: Callable[[], Any]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        try:
            with direct.open(f"{url}/_emulator/health", timeout=_READY_WITHIN_S):
                on_ready()
                return
        except OSError:
            time.sleep(0.05)
