"""Maps a request to its workspace, for the journal and for the idle check of automatic clocks.

The workspace is that of the environment which the request's path names, or where the session is that it names; else the one
that its token stands for. Many requests are looked up in one round trip.
"""

from __future__ import annotations

from collections.abc import Sequence

from workyard_store.access import DEFAULT_WORKSPACE, Access, Caller, workspace_of_api_key
from workyard_store.ids import is_id

from ..wire.exchange import Exchange

#: The data that determines the workspace of a request: its environment, or an empty string, and its token.
Names = tuple[str, str | None]

#: How many deleted environments to remember, so that late requests can still be attributed to a workspace.
_MOST_KNOWN = 4096
#: Operations that last as long as the client likes, and are idle meanwhile.
_LASTING = ("sessions.events.stream",)


def names_of(exchange: Exchange) -> Names:
    """Return the data that determines a request's workspace."""
    api_call = exchange.api_call
    return "" if api_call is None else api_call.environment_id, exchange.caller.token


class Owners:
    """Looks up the workspaces of requests. Raises StorageUnavailable when Redis does not answer."""

    def __init__(self, access: Access) -> None:
        self._engine = access.engine
        self._keys = access.keys
        self._known: dict[str, str] = {}

    async def of(self, requests: Sequence[Names]) -> list[str]:
        """Return the workspace of each request; an empty string if it has none, because its token was issued by a deleted
        environment that is not remembered."""
        # There are many requests of one caller about one environment; they share a workspace.
        callers = {names: Caller(names[1]) for names in dict.fromkeys(requests)}
        named = {names: _environments(names[0], caller) for names, caller in callers.items()}
        await self._learn({each for environments in named.values() for each in environments})
        owners, strangers = dict[Names, str](), list[Names]()
        for names, environments in named.items():
            known = next((self._known[each] for each in environments if each in self._known), None)
            owners[names] = known or _by_token(callers[names])
            if known is None and callers[names].environment_id is not None:
                strangers.append(names)
        looks = [("SISMEMBER", self._keys.workspaces, owners[names]) for names in strangers]
        for names, registered in zip(strangers, await self._engine.commands(looks), strict=True):
            owners[names] = owners[names] if registered else ""
        return [owners[names] for names in requests]

    async def _learn(self, environments: set[str]) -> None:
        ids = list(environments)
        found = await self._engine.commands(("HGET", self._keys.environment(id_), "ws") for id_ in ids)
        for id_, workspace in zip(ids, found, strict=True):
            if workspace is not None:
                self._known.pop(id_, None)
                self._known[id_] = workspace
        while len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]

    def forget(self, workspace: str | None) -> None:
        """Forget a workspace's environments, None: all environments."""
        self._known = {} if workspace is None else {id_: ws for id_, ws in self._known.items() if ws != workspace}

    async def busy(self, exchanges: Sequence[Exchange], workspace: str) -> int:
        """Return how many requests of a workspace are being answered, not counting blocked polls and open streams."""
        moving = [
            each
            for each in exchanges
            if each.is_of_the_api
            and each.operation not in _LASTING
            and not (each.api_call is not None and each.api_call.waits)
        ]
        return (await self.of([names_of(each) for each in moving])).count(workspace) if moving else 0


def _environments(in_path: str, caller: Caller) -> list[str]:
    """Return the environments that a request names, the one of its path first."""
    return [each for each in dict.fromkeys((in_path, caller.environment_id or "")) if is_id("env", each)]


def _by_token(caller: Caller) -> str:
    return DEFAULT_WORKSPACE if caller.token is None else workspace_of_api_key(caller.token)
