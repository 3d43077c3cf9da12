"""Parses the forms of `--redis-url`. Owns their syntax; connects to nothing, imports no client.

No text that leaves this module contains a credential: errors quote nothing of the URL, `where` has addresses only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

Address = tuple[str, int]
Form = Literal["single", "unix", "cluster", "sentinel"]

_FORMS: dict[str, tuple[Form, bool]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("unix", False),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
}
_PORT, _SENTINEL_PORT = 6379, 26379
#: Options of a TLS URL, under redis-py's names, with the values they may have (None: any).
_TLS_OPTIONS: dict[str, tuple[str, ...] | None] = {
    "ssl_ca_certs": None,
    "ssl_ca_path": None,
    "ssl_certfile": None,
    "ssl_keyfile": None,
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": ("true", "false"),
}
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s\[\]:@/]+))(?::(\d{1,5}))?")
_EXPECTED = (
    "Write it as redis://[user:password@]host:port/database, rediss://… for TLS, unix:///path, "
    "redis+cluster://host:port,host:port or redis+sentinel://host:port,host:port/service/database; special "
    "characters in a password are percent-encoded"
)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL.

    Attributes:
        form: one server (by TCP or by a Unix socket), a Redis Cluster, or Sentinels that know the primary.
        tls: whether to encrypt, with the Sentinels too.
        hosts: the server; some nodes of the cluster; or the Sentinels. Empty for a Unix socket.
        path: the Unix socket.
        service: what the Sentinels call the primary.
        options: TLS options, under redis-py's names.
        sentinel_username: for the Sentinels themselves, as is `sentinel_password`.
    """

    form: Form
    tls: bool = False
    hosts: tuple[Address, ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    options: tuple[tuple[str, str | bool], ...] = ()
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Read a URL.

        Raises:
            ValueError: it has none of the forms; the message lists them, and quotes nothing of the URL except the name
                of an option.
        """
        try:
            parts = urlsplit(text)
            form, tls = _FORMS[parts.scheme]
            credentials, _, servers = parts.netloc.rpartition("@")
            # The rest of a password with a character that should have been encoded: do not read it as an option or a service.
            stray = "@" in parts.query or parts.fragment or ("@" in parts.path and form != "unix")
            if stray or (form == "unix" and servers):
                raise ValueError(_EXPECTED)
            hosts = () if form == "unix" else _hosts(servers, _SENTINEL_PORT if form == "sentinel" else _PORT)
            if form == "single" and len(hosts) != 1:
                raise ValueError(_EXPECTED)
            service, db = _place(form, parts)
        except (KeyError, ValueError):
            raise ValueError(_EXPECTED) from None
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        if form == "unix":
            db = _database(given.pop("db", "0"))
        of_sentinel = [given.pop(name, None) if form == "sentinel" else None for name in _SENTINEL_OPTIONS]
        username, colon, password = credentials.partition(":")
        return cls(
            form=form,
            tls=tls,
            hosts=hosts,
            path=unquote(parts.path) if form == "unix" else "",
            service=service,
            db=db,
            username=unquote(username) or None,
            password=unquote(password) if colon else None,
            options=tuple(_option(name, value, tls) for name, value in given.items()),
            sentinel_username=of_sentinel[0],
            sentinel_password=of_sentinel[1],
        )

    @property
    def where(self) -> str:
        """Return the address for people to read, without any credential."""
        if self.form == "unix":
            return f"unix://{self.path}"
        hosts = ",".join(address_text(host) for host in self.hosts)
        return f"{hosts} (Sentinel, service '{self.service}')" if self.form == "sentinel" else hosts


_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


def address_text(address: Address) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _hosts(text: str, port: int) -> tuple[Address, ...]:
    hosts = []
    for each in text.split(","):
        found = _HOST.fullmatch(each)
        if found is None or int(found[3] or port) > 65535:
            raise ValueError(_EXPECTED)
        hosts.append((found[1] or found[2], int(found[3] or port)))
    return tuple(hosts)


def _place(form: Form, parts: SplitResult) -> tuple[str, int]:
    """Return the service and the database that a path names."""
    if form == "unix":
        if len(parts.path) < 2:
            raise ValueError(_EXPECTED)
        return "", 0
    names = parts.path.strip("/").split("/")
    service = unquote(names.pop(0)) if form == "sentinel" else ""
    if (form == "sentinel" and not service) or len(names) > 1:
        raise ValueError(_EXPECTED)
    db = _database(names[0] or "0") if names else 0
    if form == "cluster" and db:
        raise ValueError(_EXPECTED)
    return service, db


def _database(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text):
        raise ValueError(_EXPECTED)
    return int(text)


def _option(name: str, value: str, tls: bool) -> tuple[str, str | bool]:
    if name not in _TLS_OPTIONS or not tls:
        known = ", ".join(_TLS_OPTIONS)
        shown = f" '{name}'" if re.fullmatch(r"[a-z_]{1,40}", name) else ""
        raise ValueError(
            f"The option{shown} is not valid for this form of URL. With TLS the options are {known}; unix:// has db; "
            "redis+sentinel:// has sentinel_username and sentinel_password"
        )
    allowed = _TLS_OPTIONS[name]
    if allowed is not None and value.lower() not in allowed:
        raise ValueError(f"The option '{name}' is one of {', '.join(allowed)}")
    return name, value.lower() == "true" if name == "ssl_check_hostname" else value
