"""Where requests go and who sends them: a server, started here or elsewhere, and the API key of a workspace on it."""

from __future__ import annotations

import secrets

from workyard_store.access import Caller

from ..client.connection import Link, Request, WorkyardUnreachable
from .hosting import HostedServer, host

_ANSWERS_WITHIN_S = 5.0


class Place:
    """A workspace on a server. Open it before anything is sent there.

    Attributes:
        api_key: whose workspace it is; made up unless given.
    """

    def __init__(self, url: str | None, api_key: str | None, settings: dict[str, object]) -> None:
        others = [name for name in settings if name != "control_token"]
        if url is not None and others:
            raise TypeError(f"url together with {', '.join(others)}: a server that is running has its settings")
        self.api_key = f"workyard-test-{secrets.token_hex(12)}" if api_key is None else api_key
        self._url, self._settings = url, settings
        self._server: HostedServer | None = None
        self._link: Link | None = None

    def __str__(self) -> str:
        where = self._url if self._link is None else self._link.url
        return f"url={where!r}, {Caller(self.api_key).label}"

    @property
    def link(self) -> Link:
        """The connections to the server."""
        if self._link is None:
            raise RuntimeError("the emulator is not running: use it inside `with Emulator() as emu:`")
        return self._link

    @property
    def control_token(self) -> str | None:
        """What is sent to the server's control plane, unless a variable says it: its setting, or what was given."""
        if self._server is not None:
            return self._server.control_token
        given = self._settings.get("control_token")
        return None if given is None else str(given)

    @property
    def known(self) -> dict[str, str]:
        """What others must be given to use the same server, by the names of an emulator's settings."""
        return {} if self.control_token is None else {"control_token": self.control_token}

    @property
    def seeded(self) -> dict[str, str]:
        """Variables for what the seed file of a server that was started here has made."""
        return {} if self._server is None else self._server.seeded

    def open(self) -> None:
        """Start the server; one that runs elsewhere is asked whether it is a Workyard.

        Raises:
            StartupRefused: a setting is bad, or the Redis cannot be used.
            WorkyardUnreachable: no Workyard answers at the URL.
        """
        if self._link is not None:
            raise RuntimeError("the emulator is running already")
        if self._url is None:
            self._server = host(**self._settings)
            self._link = Link(self._server.url, self.control_token)
            return
        link = Link(self._url, self.control_token)
        health = link.send(Request("GET", "/_emulator/health", within_s=_ANSWERS_WITHIN_S), self.api_key)
        if not (isinstance(health, dict) and "engine" in health):
            link.close()
            raise WorkyardUnreachable(f"what answers at {self._url} is no Workyard")
        self._link = link

    def close(self) -> None:
        """End the server that was started here, and the connections. Repeated, nothing happens."""
        link, self._link = self._link, None
        server, self._server = self._server, None
        if link is not None:
            link.close()
        if server is not None:
            server.close()
