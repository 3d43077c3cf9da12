"""The floor of the bench: the cost of a request that does only the unavoidable.

A bare FastAPI application in the product's own uvicorn set-up, with one route that makes one `EVALSHA` round trip with
plain redis.asyncio and returns a dict the ordinary way. What a route of the product costs beyond it is the product's.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio as redis_asyncio
from fastapi import FastAPI, Request
from uvicorn.supervisors import Multiprocess

from tools.bench.processes import FLOOR_PATH
from workyard.serving import server as serving
from workyard.settings import load

KEY = "bench:floor"
_URL_VARIABLE = "BENCH_FLOOR_REDIS_URL"
_SCRIPT = "return redis.call('HMGET', KEYS[1], 'a', 'b', 'c')"


def application() -> FastAPI:
    """Return the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        client = redis_asyncio.Redis.from_url(os.environ[_URL_VARIABLE], decode_responses=True)
        await client.hset(KEY, mapping={"a": "alpha", "b": "beta", "c": "gamma"})
        app.state.client, app.state.sha = client, await client.script_load(_SCRIPT)
        # As the product does: a part of the set-up, not of the application.
        gc.freeze()
        yield
        await client.aclose()

    app = FastAPI(lifespan=lifespan)

    # With the type of the answer FastAPI has Pydantic write the JSON, the quicker of its two ordinary ways.
    @app.get(FLOOR_PATH)
    async def floor(request: Request) -> dict[str, str]:
        a, b, c = await request.app.state.client.evalsha(request.app.state.sha, 1, KEY)
        return {"a": a, "b": b, "c": c}

    return app


def main(redis_url: str, processes: int) -> None:
    """Serve until a signal ends it; say the port when a socket listens."""
    os.environ[_URL_VARIABLE] = redis_url
    settings = load(port=0, redis_url=redis_url, workers=processes)
    # The product's own parts, so that nothing differs but the application.
    listener = serving.bind(settings)
    config = serving.config_of(settings, "tools.bench.floor:application")
    print(f"The floor is ready at http://127.0.0.1:{listener.getsockname()[1]} (engine: redis)", flush=True)
    if processes == 1:
        serving._Server(config, lambda: None).run(sockets=[listener])
    else:
        Multiprocess(config, sockets=[listener]).run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
