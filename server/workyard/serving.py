"""Runs the application under uvicorn: one process or several, ready line, clean end. Owns no route.

Uvicorn is adjusted in three places: a request that is not HTTP is refused in the API's envelope; a signal that ended
the server is not raised once more, so that the exit code is 0; and with several processes the parent says when the
first of them answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.config import LOOP_FACTORIES
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from workyard_store.errors import StartupRefused
from workyard_store.ids import random_suffix

from . import logs
from .app import create_app, open_engine
from .settings import Settings, load

#: Seconds that running requests get after a signal; with uvicorn's own pauses the end comes within two.
_GRACE_S = 1
_BACKLOG = 2048
_READY_WITHIN_S = 30.0
_SETTINGS_VARIABLE = "_WORKYARD_SETTINGS"


class _Protocol(HttpToolsProtocol):
    """HTTP as uvicorn speaks it; what is not HTTP gets an answer in the envelope."""

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not an HTTP request, and close."""
        identifier = "req_" + random_suffix()
        body = json.dumps(
            {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": msg},
                "request_id": identifier,
            }
        ).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nx-should-retry: false\r\n"
            f"request-id: {identifier}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """A server whose end is no failure."""

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
        """Handle the signals without raising them again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(settings: Settings, on_ready: Callable[[str, str], None]) -> None:
    """Serve until a signal ends it. Call *on_ready* with the URL and the engine when a request would be answered.

    Raises:
        StartupRefused: the port is taken, or the Redis cannot be used.
    """
    listener = _bind(settings)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    engine = "embedded" if settings.redis_url is None else "redis"
    if settings.workers == 1:
        config = _config(settings, create_app(settings))
        if engine == "redis":
            asyncio.run(_checked(settings))
        _Server(config, lambda: on_ready(url, engine)).run(sockets=[listener])
        return
    asyncio.run(_checked(settings))
    os.environ[_SETTINGS_VARIABLE] = settings.model_dump_json()
    config = _config(settings, "workyard.serving:worker_app")
    threading.Thread(target=_say_when_ready, args=(url, lambda: on_ready(url, engine)), daemon=True).start()
    Multiprocess(config, sockets=[listener]).run()


def worker_app() -> FastAPI:
    """Return the application of one of several server processes."""
    settings = load(**json.loads(os.environ[_SETTINGS_VARIABLE]))
    logs.configure(settings.log_level, settings.log_format)
    return create_app(settings)


def _config(settings: Settings, app: FastAPI | str) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=settings.workers,
        http=_Protocol,
        ws="none",
        loop="uvloop" if "uvloop" in LOOP_FACTORIES and sys.platform != "win32" else "auto",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        backlog=_BACKLOG,
    )


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise StartupRefused(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}. Choose another --port; 0 takes any "
            "free one."
        ) from None
    listener.listen(_BACKLOG)
    listener.set_inheritable(True)
    return listener


async def _checked(settings: Settings) -> None:
    """Find out before anything starts whether the Redis can be used."""
    engine = open_engine(settings)
    try:
        await engine.open()
    finally:
        await engine.close()


def _say_when_ready(url: str, on_ready: Callable[[], Any]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/_emulator/health", timeout=_READY_WITHIN_S):
                on_ready()
                return
        except OSError:
            time.sleep(0.05)
