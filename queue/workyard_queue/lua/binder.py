"""The shared heads of the queue's Lua files: a call of one has the environment's head, then the rules of the queue."""

from __future__ import annotations

from importlib.resources import files

from workyard_store.engine.lua import Head, ReplyT_co
from workyard_store.lua.heads import EnvironmentCall

LUA = files("workyard_queue") / "lua"
#: The word for a work item or a session that the environment does not have.
MISSING = "MISSING"
#: The head of scripts about timers.
TIMERS = Head(None, (LUA / "_timers.lua",))


class QueueCall(EnvironmentCall[ReplyT_co], heads=(Head(None, (LUA / "_queue.lua",)),), folder=LUA):
    """A call of a script about the queue of an environment."""


class ItemCall(QueueCall[ReplyT_co], refusals=(MISSING,)):
    """A call of a script about one work item."""

    work_id: str


class SessionCall(QueueCall[ReplyT_co], heads=(Head(None, (LUA / "_session.lua",)),)):
    """A call of a script about the sessions of an environment."""
