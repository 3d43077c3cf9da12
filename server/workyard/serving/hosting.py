"""A server inside this process: a thread with its own event loop, and a real socket. Knows no test helper.

It is the same server that `workyard serve` runs, except that it handles no signals, leaves the process's logging alone, and
stops within milliseconds.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from concurrent.futures import Future
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from workyard_store.engine.engine import Engine
from workyard_store.errors import StartupRefused

from ..app import create_app
from ..settings import Settings, load
from .server import bind, config_of, prepare, save, url_of

#: Import the modules of the embedded engine now: then a server is ready within milliseconds.
Engine.preload()

#: Seconds to wait for the start; an unreachable Redis is reported earlier.
_READY_WITHIN_S = 30.0
#: Seconds that running requests get after polls and streams were ended.
_GRACE_S = 0.5
#: Seconds between two checks whether the last bytes were sent.
_LOOKS = 500
_ENDED_WITHIN_S = 10.0
#: Settings that apply only to a server in its own process.
_OF_A_PROCESS = frozenset({"host", "workers", "log_level", "log_format", "i_know"})
_running: weakref.WeakSet[HostedServer] = weakref.WeakSet()


class HostedServer:
    """A running server.

    Attributes:
        url: its address.
        seeded: variables for the resources of `seed_file`: the ids of environments and the values of keys.
        control_token: the token that its control plane requires, or None.

    Raises:
        StartupRefused: a bad setting, or the Redis cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._listener = bind(settings)
        self._listener.set_inheritable(False)
        self.url = url_of(self._listener)
        self.control_token = settings.control_token
        self.seeded: dict[str, str] = {}
        self._pid = os.getpid()
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._end = asyncio.Event()
        self._not_saved: StartupRefused | None = None
        self._thread = threading.Thread(target=self._run, name=f"workyard {self.url}", daemon=True)
        _running.add(self)
        self._thread.start()
        try:
            self._loop = self._ready.result(_READY_WITHIN_S)
        except BaseException:
            self._listener.close()
            raise
        atexit.register(self.close)

    def close(self) -> None:
        """Stop it: blocked polls and streams are answered, all its resources are closed. A repeated call, or a call in a forked
        process, does nothing.

        Raises:
            StartupRefused: the file of `save_state` cannot be written.
        """
        atexit.unregister(self.close)
        if os.getpid() != self._pid or not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_ENDED_WITHIN_S)
        if self._thread.is_alive():
            raise RuntimeError(f"the server at {self.url} did not end within {_ENDED_WITHIN_S:.0f} s")
        if self._not_saved is not None:
            raise self._not_saved

    def forget(self) -> None:
        """Release the port in a forked process: otherwise the port stays taken as long as that process lives."""
        number = self._listener.fileno()
        if number >= 0:
            # Not closed: the event loop holds it too, so closing it has no effect, and the loop may later close its number.
            with open(os.devnull) as nothing:
                os.dup2(nothing.fileno(), number, inheritable=False)

    def _run(self) -> None:
        try:
            app = create_app(self._settings)
            config = config_of(self._settings, app, lifespan="off")
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                self._run_in(runner, app, config)
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    def _run_in(self, runner: asyncio.Runner, app: FastAPI, config: uvicorn.Config) -> None:
        settings = self._settings
        # For the embedded engine, the application applies the initial state and saves the final one.
        shared = settings.redis_url is not None
        if shared and (settings.state is not None or settings.seed_file is not None):
            self.seeded = runner.run(prepare(settings))
        runner.run(self._serve(app, config))
        self._not_saved = getattr(app.state, "not_saved", None)
        if shared and settings.save_state:
            try:
                runner.run(save(settings))
            except StartupRefused as refusal:
                self._not_saved = refusal

    async def _serve(self, app: FastAPI, config: uvicorn.Config) -> None:
        # Not through uvicorn, which would log a refused start and end the process.
        async with app.router.lifespan_context(app):
            server = _Server(config)
            await server.begin(self._listener)
            if self._settings.redis_url is None:
                self.seeded = app.state.exports
            self._ready.set_result(asyncio.get_running_loop())
            while not self._end.is_set():
                await server.on_tick(0)  # the date of its answers
                await _set_within(self._end, 1.0)
            app.state.close()
            await server.end()
            self._listener.close()


class _Server(uvicorn.Server):
    """A uvicorn server that the owning thread starts and stops."""

    async def begin(self, listener: object) -> None:
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[listener])  # type: ignore[list-item]

    async def end(self) -> None:
        """Accept nothing more, let requests end, close the connections. Uvicorn's own shutdown checks only ten times a second."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        tasks = self.server_state.tasks
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.config.timeout_graceful_shutdown)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_GRACE_S)
        for _ in range(_LOOKS):
            if not self.server_state.connections:
                return
            await asyncio.sleep(_GRACE_S / _LOOKS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def host(**settings: object) -> HostedServer:
    """Start a server on a free port of 127.0.0.1, with the given settings by name, the others from their variables.

    Raises:
        StartupRefused: a bad setting, or the Redis cannot be used.
        TypeError: there is no such setting, or it applies only to a server in its own process.
    """
    taken = [name for name in Settings.model_fields if name not in _OF_A_PROCESS]
    for name in settings:
        if name not in taken:
            raise TypeError(f"no setting {name!r} for a server in this process; the settings are {', '.join(taken)}")
    return HostedServer(load(**{"host": "127.0.0.1", "port": 0, "workers": 1, **settings}))


def _forget_all() -> None:
    for server in list(_running):
        server.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
