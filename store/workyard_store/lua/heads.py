"""The shared heads of the store's Lua files: their arguments, and the base classes of the calls that use them."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

from ..engine.lua import Head, LuaArguments, LuaCall, ReplyT_co

LUA = files("workyard_store") / "lua"

Ok = Literal["OK"]
Missing = Literal["MISSING"]
Full = Literal["FULL"]
Archived = Literal["ARCHIVED"]
Stale = Literal["STALE"]


class EnvironmentHead(LuaArguments):
    """Arguments of `_environment.lua`. The defaults are for steps that the server takes by itself.

    Attributes:
        wall: wall clock, microseconds.
        caller_workspace: the caller's workspace; empty where the caller may act in any.
        token_work: the work item of the caller's sessions token, which is good while its digest is on record.
        token_digest: digest of that token, or, without `token_work`, of an environment key that must be valid.
        asks_faults: whether the call has not been asked about faults yet.
        seeded: whether the ids and secrets among the script's arguments follow from the workspace's seed.
        timeline_events: how many events the environment's timeline keeps; None: it has none.
        trace: traceparent of the call, or an empty string.
        called_by: who calls (`ApiCall.by`), or an empty string.
    """

    wall: int
    caller_workspace: str = ""
    token_work: str = ""
    token_digest: str = ""
    asks_faults: bool = False
    seeded: bool = False
    timeline_events: int | None = None
    trace: str = ""
    called_by: str = ""


class WorkspaceHead(LuaArguments):
    """Arguments of `_workspace.lua`. `wall`: wall clock, microseconds."""

    wall: int


class ProfileHead(LuaArguments):
    """Arguments of `_profile.lua`: what an environment copies from its workspace, each as the workspace stores it.

    Attributes:
        generation: of the clock and the settings.
        shift: of the clock, microseconds.
        frozen: the instant of a standing clock, microseconds, or an empty string.
        ttl, startup: default ttl and startup lease, seconds, or empty: the server's.
        reclaim: reclaim age, milliseconds, or empty: the server's.
        faults: `1` if the workspace has fault rules.
        id_seed: seed of the ids that are made in it, or an empty string.
        auto: `1` in the clock's mode auto.
        ticked: generation of the last change of the clock.
    """

    generation: str
    shift: str
    frozen: str
    ttl: str
    startup: str
    reclaim: str
    faults: str
    id_seed: str
    auto: str
    ticked: str


class MemoryHead(LuaArguments):
    """Arguments of `_memory.lua`. `store_id`: the memory store that the script is about."""

    store_id: str


class EnvironmentCall(LuaCall[ReplyT_co], heads=(Head(EnvironmentHead, (LUA / "_environment.lua",)),), folder=LUA):
    """A call of a script about one environment. `Access.run` handles the answers of the head."""


#: The head of scripts that copy a profile to an environment.
FOLLOWING = Head(ProfileHead, (LUA / "_profile.lua",))


class WorkspaceCall(LuaCall[ReplyT_co], heads=(Head(WorkspaceHead, (LUA / "_workspace.lua",)),), folder=LUA):
    """A call of a script about one workspace."""


#: The word for a memory store that is not there.
NO_STORE = "STORE"


class MemoryCall(WorkspaceCall[ReplyT_co], heads=(Head(MemoryHead, (LUA / "_memory.lua",)),), refusals=(NO_STORE,)):
    """A call of a script about one memory store."""
