"""The target of an emulator's requests: a server, started here or running elsewhere, and the API key of a workspace on it."""

from __future__ import annotations

import secrets

from workyard_store.access import Caller

from ..client import calls
from ..client.connection import Connection, WorkyardUnreachable
from ..serving.hosting import HostedServer, host

_HEALTH_WITHIN_S = 5.0


class ServerTarget:
    """A workspace on a server. Open it before sending anything to it.

    Attributes:
        api_key: the API key of the workspace; a random one unless given.
    """

    def __init__(self, url: str | None, api_key: str | None, settings: dict[str, object]) -> None:
        others = [name for name in settings if name != "control_token"]
        if url is not None and others:
            raise TypeError(f"url together with {', '.join(others)}: a running server has its own settings")
        self.api_key = f"workyard-test-{secrets.token_hex(12)}" if api_key is None else api_key
        self._url, self._settings = url, settings
        self._server: HostedServer | None = None
        self._connection: Connection | None = None

    def __str__(self) -> str:
        where = self._url if self._connection is None else self._connection.url
        return f"url={where!r}, {Caller(self.api_key).label}"

    @property
    def connection(self) -> Connection:
        """The connection to the server."""
        if self._connection is None:
            raise RuntimeError("the emulator is not running: use it inside `with Emulator() as emu:`")
        return self._connection

    @property
    def control_token(self) -> str | None:
        """The token for the server's control plane: that of the server started here, else the one given; None: neither."""
        if self._server is not None:
            return self._server.control_token
        given = self._settings.get("control_token")
        return None if given is None else str(given)

    @property
    def shared_settings(self) -> dict[str, str]:
        """The settings that another emulator needs to use the same server."""
        return {} if self.control_token is None else {"control_token": self.control_token}

    @property
    def seeded(self) -> dict[str, str]:
        """Environment variables for the contents of the seed file, if the server was started here."""
        return {} if self._server is None else self._server.seeded

    def open(self) -> None:
        """Start the server; with a URL, check that a Workyard server answers there.

        Raises:
            StartupRefused: a setting is invalid, or the Redis cannot be used.
            ValueError: the URL is invalid.
            WorkyardUnreachable: no Workyard server answers at the URL.
        """
        if self._connection is not None:
            raise RuntimeError("the emulator is already running")
        if self._url is None:
            self._server = host(**self._settings)
            self._connection = Connection(self._server.url, self.control_token)
            return
        connection = Connection(self._url, self.control_token)
        try:
            health = connection.send(calls.health(_HEALTH_WITHIN_S), self.api_key)
            if not (isinstance(health, dict) and "engine" in health):
                raise WorkyardUnreachable(f"the server at {self._url} is not a Workyard server")
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def close(self) -> None:
        """End the server that was started here, and close the connections. A second call does nothing."""
        connection, self._connection = self._connection, None
        server, self._server = self._server, None
        if connection is not None:
            connection.close()
        if server is not None:
            server.close()
