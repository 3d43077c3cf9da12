"""Emulators: one workspace on a server, for blocking and for asynchronous callers. Owns their beginning and end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.to_thread

from ..client.clock import AsyncClock, Clock
from ..client.faults import AsyncFaults, Faults
from ..client.journal import AsyncJournal, Journal
from ..client.queues import QueueHelpers
from ..client.steps import Awaiting, Blocking
from ..client.timeline import TimelineHelpers
from .target import Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import anthropic


class _Emulator(QueueHelpers, TimelineHelpers):
    """What both kinds have."""

    def __init__(self, *, url: str | None = None, api_key: str | None = None, **settings: object) -> None:
        super().__init__(Place(url, api_key, settings))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place})"

    @property
    def url(self) -> str:
        """Where the server is; what a client's `base_url` is to be."""
        return self._place.link.url

    @property
    def api_key(self) -> str:
        """The API key whose workspace this is."""
        return self._place.api_key

    @property
    def seeded(self) -> dict[str, str]:
        """Variables for what the file of the setting `seed_file` made: the id of each environment, the value of each key."""
        return self._place.seeded

    def _new_client(self, options: dict[str, Any]) -> anthropic.Anthropic:
        sdk = _sdk()
        client: anthropic.Anthropic = sdk.Anthropic(**self._told(options, sdk.DefaultHttpxClient))
        return client

    def _new_async_client(self, options: dict[str, Any]) -> anthropic.AsyncAnthropic:
        sdk = _sdk()
        client: anthropic.AsyncAnthropic = sdk.AsyncAnthropic(**self._told(options, sdk.DefaultAsyncHttpxClient))
        return client

    def _told(self, options: dict[str, Any], connections: Callable[..., Any]) -> dict[str, Any]:
        # A worker's key comes as `auth_token`; an API key beside it would win.
        told = {"base_url": self.url, **({} if "auth_token" in options else {"api_key": self.api_key}), **options}
        if "http_client" not in told:
            # No proxy, for the server is on this machine or next to it; no TLS, whose set-up takes longer than most tests.
            told["http_client"] = connections(mounts={"http://": None}, verify=False)
        return told


class Emulator(Blocking, _Emulator):
    """A server with a workspace of its own on it, for the length of a `with` block.

    Args:
        url: of a server that is running, of whose settings only the `control_token` is told it; without it, one is started
            in this process, on a free port of 127.0.0.1.
        api_key: whose workspace to use; without it, a new one.
        settings: those of `workyard serve` by their names, such as `redis_url` or `default_ttl`, else as their variables
            say (`WORKYARD_REDIS_URL`, …).

    Raises (on entering): StartupRefused, WorkyardUnreachable.
    """

    def __init__(self, *, url: str | None = None, api_key: str | None = None, **settings: object) -> None:
        super().__init__(url=url, api_key=api_key, **settings)
        self.clock = Clock(self._place)
        self.faults = Faults(self._place)
        self.journal = Journal(self._place)
        self._clients: list[anthropic.Anthropic] = []

    def __enter__(self) -> Self:
        self._place.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the clients that were made, and end the server if it was started here. Repeated, nothing happens."""
        while self._clients:
            self._clients.pop().close()
        self._place.close()

    def workspace(self, api_key: str | None = None) -> Emulator:
        """Return another workspace on the same server, to be entered; a new one unless a key is given."""
        return Emulator(url=self.url, api_key=api_key, **self._place.known)

    def client(self, **options: Any) -> anthropic.Anthropic:
        """Return a client of the SDK for this workspace, closed when this ends; *options* are the client's own.

        Raises:
            ModuleNotFoundError: `anthropic` is not installed.
        """
        self._clients.append(self._new_client(options))
        return self._clients[-1]

    def async_client(self, **options: Any) -> anthropic.AsyncAnthropic:
        """Return an asynchronous client of the SDK for this workspace; close it where it is used, by `async with`.

        Raises:
            ModuleNotFoundError: `anthropic` is not installed.
        """
        return self._new_async_client(options)

    def asynchronous(self) -> AsyncEmulator:
        """Return the same workspace for asynchronous callers, to be entered."""
        return AsyncEmulator(url=self.url, api_key=self.api_key, **self._place.known)


class AsyncEmulator(Awaiting, _Emulator):
    """The same for asynchronous callers, on asyncio or trio: for the length of an `async with` block."""

    def __init__(self, *, url: str | None = None, api_key: str | None = None, **settings: object) -> None:
        super().__init__(url=url, api_key=api_key, **settings)
        self.clock = AsyncClock(self._place)
        self.faults = AsyncFaults(self._place)
        self.journal = AsyncJournal(self._place)
        self._clients: list[anthropic.AsyncAnthropic] = []

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self._place.open)
        return self

    async def __aexit__(self, *error: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()

    async def close(self) -> None:
        """Close the clients that were made, and end the server if it was started here. Repeated, nothing happens."""
        while self._clients:
            await self._clients.pop().close()
        await anyio.to_thread.run_sync(self._place.close)

    def workspace(self, api_key: str | None = None) -> AsyncEmulator:
        """Return another workspace on the same server, to be entered; a new one unless a key is given."""
        return AsyncEmulator(url=self.url, api_key=api_key, **self._place.known)

    def client(self, **options: Any) -> anthropic.AsyncAnthropic:
        """Return an asynchronous client of the SDK for this workspace, closed when this ends.

        Raises:
            ModuleNotFoundError: `anthropic` is not installed.
        """
        self._clients.append(self._new_async_client(options))
        return self._clients[-1]


def _sdk() -> ModuleType:
    try:
        import anthropic
    except ModuleNotFoundError as error:
        if error.name != "anthropic":
            raise
        raise ModuleNotFoundError(
            "a client of the SDK needs the SDK: pip install anthropic", name="anthropic"
        ) from None
    return anthropic
