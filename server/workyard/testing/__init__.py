"""Workyard in tests: a server in this process or elsewhere, and typed helpers for all that only an emulator can do.

    from workyard.testing import Emulator

    with Emulator() as emu:
        client = emu.client()                # an anthropic.Anthropic
        queue = emu.environment()            # self-hosted, with a key for its worker
        [item] = emu.enqueue(queue)
        emu.clock.freeze()
        …

Under pytest the fixture `workyard` is such an emulator, with a workspace of its own for each test (docs/testing.md).
"""

from workyard_store.errors import StartupRefused

from ..client.connection import WorkyardRefused, WorkyardUnreachable
from ..client.queues import Environment
from ..client.timeline import Timeline
from .emulator import AsyncEmulator, Emulator

__all__ = [
    "AsyncEmulator",
    "Emulator",
    "Environment",
    "StartupRefused",
    "Timeline",
    "WorkyardRefused",
    "WorkyardUnreachable",
]
