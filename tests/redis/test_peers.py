"""Server processes ask each other over the wake channel, and know when not all have answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis

from tests.support.harness import RedisServer
from workyard_store.engine.engine import Engine
from workyard_store.engine.peers import Peers
from workyard_store.engine.wake import Answer, Heard, Question
from workyard_store.errors import StorageUnavailable
from workyard_store.keys import Keys


@asynccontextmanager
async def process(server: RedisServer, prefix: str, count: int) -> AsyncIterator[Peers]:
    """A process that answers the question `count` with its number, and cannot answer `storage`."""
    engine = Engine.at(server.url, Keys(prefix), connections=2)
    await engine.open()
    peers = Peers(engine)

    async def number(argument: str) -> str:
        return f"{argument} {count}"

    async def storage(argument: str) -> str:
        raise StorageUnavailable

    peers.on("count", number)
    peers.on("storage", storage)

    def heard(message: Heard) -> None:
        if isinstance(message, Question | Answer):
            peers.heard(message)

    await engine.subscribe(heard)
    try:
        yield peers
    finally:
        await engine.close()


@pytest.mark.anyio
async def test_each_process_answers_once_and_a_silent_one_is_missed(redis_server: RedisServer) -> None:
    """Two that answer, then a third that hears and says nothing: the answer comes in time, and is not complete."""
    prefix = "peers"
    async with process(redis_server, prefix, 1) as first, process(redis_server, prefix, 2) as second:
        for asker in (first, second):
            many = await asyncio.gather(*[asker.ask("count", f"of {n}") for n in range(20)])
            for n, answers in enumerate(many):
                assert answers.words == {first.process: f"of {n} 1", second.process: f"of {n} 2"}
                assert answers.complete
        for kind in ("storage", "unknown"):
            answers = await first.ask(kind)
            assert (answers.words, answers.complete) == ({}, False)
        with redis.Redis(port=redis_server.port) as raw, raw.pubsub() as silent:
            silent.subscribe(f"{prefix}:wake")
            assert silent.get_message(timeout=5) is not None
            started = time.monotonic()
            answers = await second.ask("count", "of all")
            assert 0.19 < time.monotonic() - started < 0.7
        assert len(answers.words) == 2
        assert not answers.complete
