"""A worker of the Python SDK, unpatched: `python worker.py poll|run|handle MAX_IDLE_MS`. Its twin is worker.mjs, which says more.

Runs with every SDK since 0.103.0, so it uses nothing newer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress

import anthropic
from anthropic import beta_async_tool
from anthropic.lib.environments import EnvironmentWorker
from anthropic.lib.tools.agent_toolset import beta_agent_toolset_20260401


@beta_async_tool
async def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


async def main(mode: str, max_idle_ms: str) -> None:
    """Do one of the three."""
    environment, key = os.environ["ANTHROPIC_ENVIRONMENT_ID"], os.environ["ANTHROPIC_ENVIRONMENT_KEY"]
    async with anthropic.AsyncAnthropic() as client:
        if mode == "poll":
            async for item in client.beta.environments.work.poller(
                environment_id=environment, environment_key=key, drain=True
            ):
                print(item.id, flush=True)
            return
        worker = EnvironmentWorker(
            client,
            environment_id=environment,
            environment_key=key,
            max_idle=int(max_idle_ms) / 1000,
            tools=lambda context: [*beta_agent_toolset_20260401(context), get_weather],
        )
        if mode == "handle":
            await worker.handle_item()
            return
        running = asyncio.create_task(worker.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        with suppress(asyncio.CancelledError):
            await running


asyncio.run(main(*sys.argv[1:]))
