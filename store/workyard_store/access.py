"""Callers and their access: token forms, workspaces, and the access check of the environment scripts.

Rule: `credentials.value-decides`.
A token's kind follows from its value alone. A token that this server issued names its environment, so the common call
needs no look-up. Mode `strict` also checks that the token was really issued; the script that serves the call does that.
Only SHA-256 digests are stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import NamedTuple, TypeVar

from .calls import CURRENT, MASK, ApiCall, without_tokens
from .clock import wall_now
from .engine.engine import Engine
from .engine.lua import LuaArguments
from .errors import AuthenticationFailed, EnvironmentNotFound, KeyRevoked, TokenRevoked, TokenUnknown
from .ids import derived_suffix, is_id
from .keys import Keys
from .limits import Limits
from .lua.heads import EnvironmentCall, EnvironmentHead

#: Stands for the workspace of the resource that the path names.
ANYWHERE = ""
#: The workspace of callers without a token (mode `none`).
DEFAULT_WORKSPACE = "default"
_ENVIRONMENT_KEY = "sk-ant-oat01-"
_SESSIONS_TOKEN = "sk-ant-req01-"
#: Digits of a digest that are shown: enough to distinguish the credentials of one test, and useless otherwise.
SHOWN_DIGITS = 8
#: A shorter token is not treated as a secret: it may occur in a text by accident.
SHORTEST_SECRET = 8
#: Longer tokens are not cached with their parsed form: thousands of them would fill the memory.
LONGEST_REMEMBERED = 512

T = TypeVar("T")


class Scope(NamedTuple):
    """Where a caller may act in an environment, as its scripts take it.

    Attributes:
        workspace: the caller's, or `ANYWHERE`.
        work_id: the work item of the caller's sessions token for this environment, or an empty string.
        digest: of that token, or of an environment key that has to be good, or an empty string.
    """

    workspace: str = ANYWHERE
    work_id: str = ""
    digest: str = ""


def workspace_of_api_key(api_key: str) -> str:
    """Return the workspace that an API key is: a public id that does not reveal the key."""
    return (_workspace_of if len(api_key) <= LONGEST_REMEMBERED else _workspace_of.__wrapped__)(api_key)


@lru_cache(maxsize=4096)
def _workspace_of(api_key: str) -> str:
    return "wrkspc_" + derived_suffix("workspace", api_key)


def digest(token: str) -> str:
    """Return what is stored of a key, or of the random part of a sessions token."""
    return hashlib.sha256(token.encode()).hexdigest()


def environment_key(environment_id: str, secret: str) -> str:
    """Return an environment key: the environment's id followed by a secret."""
    return f"{_ENVIRONMENT_KEY}{environment_id.removeprefix('env_')}-{secret}"


def sessions_token(environment_id: str, work_id: str, secret: str) -> str:
    """Return the sessions token of one hand-out of an item."""
    return f"{_SESSIONS_TOKEN}{environment_id.removeprefix('env_')}-{work_id.removeprefix('work_')}-{secret}"


class Caller:
    """The credential of one request.

    Attributes:
        token: the token's value, or None when there was none (mode `none`).
        environment_id: the environment that an issued-looking token names, else None.
        work_id: the work item that a sessions token names, else None.
        secret: the part of an issued-looking token whose digest is on record.
        strict: whether the token must be valid (mode `strict`); otherwise any value is accepted.
        unjudged: whether the token has not been checked yet.
    """

    __slots__ = ("environment_id", "secret", "strict", "token", "unjudged", "work_id")

    def __init__(self, token: str | None, *, strict: bool = False) -> None:
        self.token = token
        self.strict = strict
        self.unjudged = False
        self.environment_id: str | None = None
        self.work_id: str | None = None
        self.secret = token or ""
        if token is not None and token.startswith("sk-ant-"):
            if token.startswith(_ENVIRONMENT_KEY):
                self.environment_id = _named("env", token.removeprefix(_ENVIRONMENT_KEY).partition("-")[0])
            elif token.startswith(_SESSIONS_TOKEN):
                environment, _, rest = token.removeprefix(_SESSIONS_TOKEN).partition("-")
                self.environment_id = _named("env", environment)
                work, _, self.secret = rest.partition("-")
                self.work_id = _named("work", work)
            self.unjudged = strict and self.is_issued

    @property
    def is_issued(self) -> bool:
        """Return whether the token has a form in which this server issues tokens."""
        return self.token is not None and self.token.startswith((_ENVIRONMENT_KEY, _SESSIONS_TOKEN))

    @property
    def is_malformed(self) -> bool:
        """Return whether the token has an issued form but cannot have been issued, because it names no resource."""
        if not self.is_issued:
            return False
        is_key = str(self.token).startswith(_ENVIRONMENT_KEY)
        return self.environment_id is None or not (is_key or self.work_id)

    def masked(self, text: str) -> str:
        """Return a text without this token, unless it is too short to be a secret, and those of the known forms."""
        if self.token is not None and len(self.token) >= SHORTEST_SECRET and self.token in text:
            text = text.replace(self.token, MASK)
        return without_tokens(text)

    def named(self, worker_id: str) -> str:
        """Return a worker's name as it is stored: without tokens, but still distinct from other workers' names."""
        shown = self.masked(worker_id)
        return shown if shown == worker_id else f"{shown} {digest(worker_id)[:SHOWN_DIGITS]}"

    @property
    def label(self) -> str:
        """Return what may be shown of the credential: its kind and the first digits of its SHA-256.

        For a sessions token they are the digits under which the timeline of its item has the hand-out.
        """
        if self.token is None:
            return "none"
        if self.work_id is not None:
            return f"sessions token {digest(self.secret)[:SHOWN_DIGITS]}"
        kind = "api key" if self.environment_id is None else "environment key"
        return (_label if len(self.secret) <= LONGEST_REMEMBERED else _label.__wrapped__)(kind, self.secret)


@lru_cache(maxsize=4096)
def _label(kind: str, token: str) -> str:
    return f"{kind} {digest(token)[:SHOWN_DIGITS]}"


def _named(kind: str, suffix: str) -> str | None:
    value = f"{kind}_{suffix}"
    return value if is_id(kind, value) else None


#: A caller of the control plane below an environment: it acts in that environment's workspace.
TRUSTED = Caller(None)


class Access:
    """Runs environment scripts for callers, and answers which workspace a caller is in.

    Attributes:
        gate: applies fault rules. In a workspace that has some, it is called once per API call, before the call's first
            step. It may wait, and may raise the error that answers the call.
        limits: how much may be stored.
    """

    def __init__(
        self,
        engine: Engine,
        keys: Keys,
        wall: Callable[[], int] = wall_now,
        *,
        timeline_events: int = 0,
        limits: Limits | None = None,
    ) -> None:
        """Run scripts on *engine*; an environment's timeline keeps its last *timeline_events* events, 0: none."""
        self.engine = engine
        self.keys = keys
        self.wall = wall
        self.limits = limits or Limits()
        self.gate: Callable[[ApiCall, str], Awaitable[None]] | None = None
        self._timeline_events = timeline_events or None

    async def workspace(self, caller: Caller) -> str:
        """Return the caller's own workspace, for calls that name no resource.

        Raises:
            AuthenticationFailed: the caller's token has to be good, and is not.
        """
        if caller.token is None:
            return DEFAULT_WORKSPACE
        if caller.environment_id is not None:
            issued = await self._issued_for(caller, caller.environment_id)
            if isinstance(issued, str):
                caller.unjudged = False
                return issued
            if caller.strict:
                raise issued
        return workspace_of_api_key(caller.token)

    async def is_known(self, workspace: str) -> bool:
        """Tell whether a workspace's API key has created an environment (rule `credentials.any.known-key`)."""
        return bool(await self.engine.command("HEXISTS", self.keys.workspace(workspace), "number"))

    async def reach(self, caller: Caller) -> str:
        """Return the workspace whose environments a caller reaches by a path that names none, or `ANYWHERE`."""
        if caller.token is None:
            return ANYWHERE
        workspace = await self.workspace(caller)
        return workspace if caller.strict or await self.is_known(workspace) else ANYWHERE

    async def may_enter(self, caller: Caller, environment_id: str, owner: str) -> bool:
        """Tell whether *caller* reaches an environment of workspace *owner*. Costs a round trip only if it looks foreign."""
        if caller.environment_id == environment_id:
            return True
        workspace = (await self._scope(caller, environment_id)).workspace
        return workspace in (ANYWHERE, owner) or not (caller.strict or await self.is_known(workspace))

    async def run(
        self,
        call: EnvironmentCall[T],
        environment_id: str,
        caller: Caller,
        *heads: LuaArguments,
        seeded: bool = False,
    ) -> T:
        """Run an environment script for *caller* until it has a reply of its own, and return that.

        Args:
            call: the script and its arguments.
            environment_id: whose script it is.
            caller: on whose behalf.
            heads: arguments of heads other than `_environment.lua`.
            seeded: whether ids and secrets among the arguments follow from the workspace's seed (see `seeds`).

        Raises:
            EnvironmentNotFound: unknown, malformed, deleted, or another workspace's.
            TokenRevoked: the caller's sessions token is of an earlier life of its item.
            KeyRevoked: the caller's key has to be good, and was revoked.
            TokenUnknown: the caller's key has to be good, and was never issued.
            StorageUnavailable: Redis did not answer.
        """
        if not is_id("env", environment_id):
            raise EnvironmentNotFound(environment_id)
        key = self.keys.environment(environment_id)
        scope = await self._scope(caller, environment_id)
        api_call = CURRENT.get()
        while True:
            head = EnvironmentHead(
                wall=self.wall(),
                caller_workspace=scope.workspace,
                token_work=scope.work_id,
                token_digest=scope.digest,
                asks_faults=api_call is not None and api_call.asks,
                seeded=seeded,
                timeline_events=self._timeline_events,
                trace="" if api_call is None else api_call.traceparent,
                called_by="" if api_call is None else api_call.by,
            )
            reply = await self.engine.reply(call, key, head, *heads)
            match reply[0]:
                case "AGAIN":
                    continue  # Every turn settles a bounded part of what the clock has ended.
                case "FAULTS":
                    if api_call is not None and not api_call.environment_id:
                        api_call.environment_id = environment_id
                    await self.ask(await self.engine.command("HGET", key, "ws"))
                    continue
                case "GONE":
                    raise EnvironmentNotFound(environment_id)
                case "DEAD":
                    raise TokenRevoked
                case "REVOKED":
                    raise KeyRevoked
                case "UNISSUED":
                    raise TokenUnknown
                case "FOREIGN":
                    if caller.strict or await self.is_known(scope.workspace):
                        raise EnvironmentNotFound(environment_id)
                    scope = Scope()
                case _:
                    caller.unjudged = False
                    if api_call is not None:
                        api_call.asks = False
                        if api_call.session_id and not api_call.environment_id:
                            api_call.environment_id = environment_id
                    return call.read(reply)

    async def ask(self, workspace: str | None) -> None:
        """Apply the fault rules of a workspace to the current API call, once.

        Raises: any error of the gate.
        """
        call = CURRENT.get()
        if call is not None and call.asks:
            call.asks = False
            if workspace is not None and self.gate is not None:
                await self.gate(call, workspace)

    async def _scope(self, caller: Caller, environment_id: str) -> Scope:
        if caller.token is None:
            return Scope()
        if caller.environment_id == environment_id:
            if caller.work_id is not None:
                return Scope(work_id=caller.work_id, digest=digest(caller.secret))
            return Scope(digest=digest(caller.secret)) if caller.strict else Scope()
        if caller.environment_id is None:
            return Scope(workspace_of_api_key(caller.token))
        return Scope(await self.workspace(caller))

    async def _issued_for(self, caller: Caller, environment_id: str) -> str | AuthenticationFailed:
        """Return the workspace of the environment that issued this token, or what is wrong with the token."""
        environment, stored = self.keys.environment, digest(caller.secret)
        if caller.work_id is None:
            look = ("HGET", environment(environment_id, "keys"), stored)
        else:
            look = ("SISMEMBER", environment(environment_id, f"tokens:{caller.work_id}"), stored)
        workspace, found = await self.engine.commands([("HGET", environment(environment_id), "ws"), look])
        if workspace is None or not found:
            return _never_issued(caller)
        if caller.work_id is None and json.loads(found)["revoked_at"] is not None:
            return KeyRevoked()
        return str(workspace)


def _never_issued(caller: Caller) -> AuthenticationFailed:
    """Return what is wrong with a token that is not on record: a sessions token may have been issued once."""
    return TokenUnknown() if caller.work_id is None else TokenRevoked()
