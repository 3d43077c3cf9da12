"""A server inside this process: a thread with an event loop of its own, and a real socket. Knows no helper.

It is the server that `workyard serve` runs, but that it takes no signals, keeps the process's logging as it is, and ends
in milliseconds.
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

#: What the embedded engine is made of, at import: a server is ready in milliseconds then.
Engine.preload()

#: Seconds: a Redis that does not answer is given up before.
_READY_WITHIN_S = 30.0
#: Seconds that requests under way get, once polls and streams have been told to end.
_GRACE_S = 0.5
#: How often to see whether the last bytes have left.
_LOOKS = 500
_ENDED_WITHIN_S = 10.0
#: Settings of a server that is a process of its own.
_OF_A_PROCESS = frozenset({"host", "workers", "log_level", "log_format", "i_know"})
_running: weakref.WeakSet[HostedServer] = weakref.WeakSet()


class HostedServer:
    """A running server.

    Attributes:
        url: where it is.
        seeded: variables for what the file of `seed_file` made: the ids of environments and the values of keys.
        control_token: what its control plane asks for, None: nothing.

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
        """End it: blocked polls and streams are answered, everything it held is closed. Repeated, or in a process that was
        forked off, nothing happens.

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
        """Let go of the port in a process that was forked off: else nobody could take it while that lives."""
        number = self._listener.fileno()
        if number >= 0:
            # Not closed: the event loop holds it too, so that would come to nothing, and may close it by its number yet.
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
        # What the embedded engine starts with, and leaves behind, the application sees to.
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
        # Not by uvicorn, which would log what refuses the start, and end the process.
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
    """A server that somebody else starts and ends."""

    async def begin(self, listener: object) -> None:
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[listener])  # type: ignore[list-item]

    async def end(self) -> None:
        """Take nothing more, let requests end, close the connections. Uvicorn's own looks ten times a second."""
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
    """Start a server on a free port of 127.0.0.1, with settings by their names, else as their variables say.

    Raises:
        StartupRefused: a bad setting, or the Redis cannot be used.
        TypeError: there is no such setting, or it is one for a process of its own.
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
