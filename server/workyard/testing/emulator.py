"""Emulators: one workspace on a server, for blocking and for asynchronous callers. Starts and ends them."""

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
from .target import ServerTarget

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import anthropic


class _Emulator(QueueHelpers, TimelineHelpers):
    """The members of both kinds."""

    def __init__(self, *, url: str | None = None, api_key: str | None = None, **settings: object) -> None:
        self._target: ServerTarget
        super().__init__(ServerTarget(url, api_key, settings))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._target})"

    @property
    def url(self) -> str:
        """The URL of the server, for the `base_url` of a client."""
        return self._target.connection.url

    @property
    def api_key(self) -> str:
        """The API key of the workspace."""
        return self._target.api_key

    @property
    def seeded(self) -> dict[str, str]:
        """Environment variables for the contents of `seed_file`: the id of each environment, the value of each key."""
        return self._target.seeded

    def _new_client(self, options: dict[str, Any]) -> anthropic.Anthropic:
        sdk = _sdk()
        client: anthropic.Anthropic = sdk.Anthropic(**self._client_options(options, sdk.DefaultHttpxClient))
        return client

    def _new_async_client(self, options: dict[str, Any]) -> anthropic.AsyncAnthropic:
        sdk = _sdk()
        client: anthropic.AsyncAnthropic = sdk.AsyncAnthropic(
            **self._client_options(options, sdk.DefaultAsyncHttpxClient)
        )
        return client

    def _client_options(self, options: dict[str, Any], connections: Callable[..., Any]) -> dict[str, Any]:
        # A worker's key comes as `auth_token`; an API key beside it would win.
        complete = {"base_url": self.url, **({} if "auth_token" in options else {"api_key": self.api_key}), **options}
        if "http_client" not in complete:
            # No proxy: the server is on this machine or next to it. No TLS: setting it up takes longer than most tests.
            complete["http_client"] = connections(mounts={"http://": None}, verify=False)
        return complete


class Emulator(Blocking, _Emulator):
    """A server with a workspace of its own on it, for the length of a `with` block.

    Args:
        url: the URL of a running server, for which `control_token` is the only setting allowed. Without it, a server is
            started in this process, on a free port of 127.0.0.1.
        api_key: the API key of the workspace; without it, a new workspace is used.
        settings: those of `workyard serve` by their names, such as `redis_url` or `default_ttl`. Settings left out are read
            from their variables (`WORKYARD_REDIS_URL`, …).

    Raises (on entering): StartupRefused, WorkyardUnreachable.
    """

    def __init__(self, *, url: str | None = None, api_key: str | None = None, **settings: object) -> None:
        super().__init__(url=url, api_key=api_key, **settings)
        self.clock = Clock(self._target)
        self.faults = Faults(self._target)
        self.journal = Journal(self._target)
        self._clients: list[anthropic.Anthropic] = []

    def __enter__(self) -> Self:
        self._target.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the clients, and end the server if it was started here. A second call does nothing."""
        while self._clients:
            self._clients.pop().close()
        self._target.close()

    def workspace(self, api_key: str | None = None) -> Emulator:
        """Return an emulator for another workspace on the same server, to be used in a `with` block; without a key, for a new
        workspace."""
        return Emulator(url=self.url, api_key=api_key, **self._target.shared_settings)

    def client(self, **options: Any) -> anthropic.Anthropic:
        """Return a client of the SDK for this workspace; it is closed with the emulator. *options* are those of the client.

        Raises:
            ModuleNotFoundError: `anthropic` is not installed.
        """
        self._clients.append(self._new_client(options))
        return self._clients[-1]

    def async_client(self, **options: Any) -> anthropic.AsyncAnthropic:
        """Return an asynchronous client of the SDK for this workspace; close it yourself, by `async with`.

        Raises:
            ModuleNotFoundError: `anthropic` is not installed.
        """
        return self._new_async_client(options)

    def asynchronous(self) -> AsyncEmulator:
        """Return an asynchronous emulator for the same workspace, to be used in an `async with` block."""
        return AsyncEmulator(url=self.url, api_key=self.api_key, **self._target.shared_settings)


class AsyncEmulator(Awaiting, _Emulator):
    """The same for asynchronous callers, on asyncio or trio: for the length of an `async with` block."""

    def __init__(self, *, url: str | None = None, api_key: str | None = None, **settings: object) -> None:
        super().__init__(url=url, api_key=api_key, **settings)
        self.clock = AsyncClock(self._target)
        self.faults = AsyncFaults(self._target)
        self.journal = AsyncJournal(self._target)
        self._clients: list[anthropic.AsyncAnthropic] = []

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self._target.open)
        return self

    async def __aexit__(self, *error: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()

    async def close(self) -> None:
        """Close the clients, and end the server if it was started here. A second call does nothing."""
        while self._clients:
            await self._clients.pop().close()
        await anyio.to_thread.run_sync(self._target.close)

    def workspace(self, api_key: str | None = None) -> AsyncEmulator:
        """Return an emulator for another workspace on the same server, to be used in a `with` block; without a key, for a new
        workspace."""
        return AsyncEmulator(url=self.url, api_key=api_key, **self._target.shared_settings)

    def client(self, **options: Any) -> anthropic.AsyncAnthropic:
        """Return an asynchronous client of the SDK for this workspace; it is closed with the emulator.

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
        raise ModuleNotFoundError("a client needs the SDK: pip install anthropic", name="anthropic") from None
    return anthropic
