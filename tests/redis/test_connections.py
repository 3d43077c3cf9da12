"""A connection to Redis may fail with any exception: nobody waits for ever, and wake-ups come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from workyard_store.engine.engine import Engine
from workyard_store.engine.wake import Heard, WorkReady
from workyard_store.errors import StorageUnavailable
from workyard_store.keys import Keys

#: What uvloop raises when a connection is closed between two writes. redis-py lets it through.
CLOSED = RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """An engine of this process."""
    running = Engine.embedded(Keys())
    yield running
    await running.close()


def client_of(engine: Engine) -> Any:
    """Return redis-py's client below an engine."""
    [lane] = engine._servers.lanes()
    return lane.client


@pytest.mark.parametrize("commands", [1, 3], ids=["a command", "a batch"])
async def test_a_call_whose_connection_fails_in_any_way_is_unavailable_and_does_not_hang(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, commands: int
) -> None:
    """The next call is served."""

    async def fail(*_: Any, **__: Any) -> None:
        raise CLOSED

    with monkeypatch.context() as patched:
        patched.setattr(client_of(engine), "execute_command", fail)
        patched.setattr("redis.asyncio.client.Pipeline.execute", fail)
        with pytest.raises(StorageUnavailable):
            await asyncio.wait_for(engine.commands([("PING",)] * commands), 5)
    await engine.ping()


async def test_a_subscription_whose_connection_fails_in_any_way_is_renewed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocked polls look again, and messages are heard."""
    genuine, failures = client_of(engine).pubsub, [CLOSED]

    def pubsub() -> Any:
        made = genuine()
        if failures:
            monkeypatch.setattr(made, "subscribe", fail)
        return made

    async def fail(*_: Any) -> None:
        raise failures.pop()

    monkeypatch.setattr(client_of(engine), "pubsub", pubsub)
    heard: asyncio.Queue[Heard] = asyncio.Queue()
    await engine.subscribe(heard.put_nowait)
    assert not failures
    await engine.publish(WorkReady("env_1"))
    while await asyncio.wait_for(heard.get(), 5) != WorkReady("env_1"):
        pass
