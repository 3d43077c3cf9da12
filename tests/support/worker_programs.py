"""The program of a worker process: the Python SDK's helpers, unpatched, as its guides use them. `workers.py` starts it.

All that a program knows is in its environment, in the variables of the SDK and of `ant worker poll --on-work`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anthropic
from anthropic import beta_async_tool
from anthropic.lib.environments import EnvironmentWorker, iter_work
from anthropic.lib.tools._beta_session_runner import BetaAnyRunnableTool
from anthropic.lib.tools.agent_toolset import AgentToolContext, beta_agent_toolset_20260401

#: How long a worker stays after an idle that ends a turn, seconds of wall time.
MAX_IDLE_S = 0.2


@beta_async_tool
async def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def tools(context: AgentToolContext) -> Sequence[BetaAnyRunnableTool]:
    """Return the SDK's own tools and one of the worker's."""
    return [*beta_agent_toolset_20260401(context), get_weather]


def _environment() -> tuple[str, str]:
    return os.environ["ANTHROPIC_ENVIRONMENT_ID"], os.environ["ANTHROPIC_ENVIRONMENT_KEY"]


async def run() -> None:
    """Serve one item after the other until SIGTERM."""
    environment, key = _environment()
    async with anthropic.AsyncAnthropic() as client:
        worker = EnvironmentWorker(
            client, environment_id=environment, environment_key=key, tools=tools, max_idle=MAX_IDLE_S
        )
        running = asyncio.create_task(worker.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        with suppress(asyncio.CancelledError):
            await running


async def handle_item() -> None:
    """Serve an item that another process has claimed, with the environment key if one is given."""
    async with anthropic.AsyncAnthropic() as client:
        await client.beta.environments.work.worker(tools=tools, max_idle=MAX_IDLE_S).handle_item()


async def async_poller() -> None:
    """Drain the queue and run the tools of each session. The poller stops the items it took, and sends no heartbeats."""
    environment, key = _environment()
    async with anthropic.AsyncAnthropic() as client:
        async for item in client.beta.environments.work.poller(
            environment_id=environment, environment_key=key, drain=True, block_ms=None
        ):
            async with AgentToolContext(workdir=".") as context:
                await client.beta.sessions.events.tool_runner(
                    item.data.id, tools=tools(context), max_idle=MAX_IDLE_S, environment_key=key
                ).until_done()


def sync_poller() -> None:
    """Drain the queue and handle each item, which ends it before the poller does."""
    environment, key = _environment()

    async def handle(secret: str | None, work: str, session: str) -> None:
        async with anthropic.AsyncAnthropic() as client:
            worker = EnvironmentWorker(client, tools=tools, max_idle=MAX_IDLE_S)
            await worker.handle_item(
                work_id=work, environment_id=environment, session_id=session, environment_key=key, work_secret=secret
            )

    with anthropic.Anthropic(auth_token=key) as client:
        for item in iter_work(client.beta.environments.work, environment_id=environment, drain=True, block_ms=None):
            asyncio.run(handle(item.secret, item.id, item.data.id))


async def dispatcher() -> None:
    """Claim the items that there are and hand them to nobody: print what a process for each would have to be told."""
    environment, key = _environment()
    async with anthropic.AsyncAnthropic() as client:
        async for item in client.beta.environments.work.poller(
            environment_id=environment, environment_key=key, drain=True, block_ms=None
        ):
            print(
                f"ANTHROPIC_WORK_ID={item.id}\nANTHROPIC_SESSION_ID={item.data.id}\nANTHROPIC_WORK_SECRET={item.secret}"
            )


PROGRAMS: dict[str, Callable[[], None] | Callable[[], Coroutine[Any, Any, None]]] = {
    program.__name__: program for program in (run, handle_item, async_poller, sync_poller, dispatcher)
}


def main(program: str, environment: dict[str, str], folder: Path, log: Path) -> None:
    """Run a program in a separate process, in *folder*; its output goes to *log*."""
    with log.open("w") as file:
        for number in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(file.fileno(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(name)s %(message)s")
    done = PROGRAMS[program]()
    if done is not None:
        asyncio.run(done)
