"""Who may call at all: by which name, from which page, and with which token the control plane. Owns no credential of the API.

`Guard` stands in front of the router. A browser lets any page send requests to this machine, and a name that its owner points here
makes that page's origin this server's (DNS rebinding); so what a page of another origin sends is refused, and so are
names that nobody has allowed. A client that is no browser sends neither `origin` nor `sec-fetch-site`. Source: docs/limits.md.
"""

from __future__ import annotations

import hmac
import ipaddress
from fnmatch import fnmatchcase

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..settings import Settings
from .errors import envelope

CONTROL_HEADER = "workyard-control-token"
#: What can be read without the control token: whether the server lives, and what its calls are.
_OPEN = ("/_emulator/health", "/_emulator/openapi.json", "/_emulator/docs", "/_emulator/assets/")
_LOOPBACK_NAMES = ("localhost", "*.localhost")
_CONTROL_HEADER = CONTROL_HEADER.encode()
#: Names that were judged before.
_MOST_KNOWN = 1000
#: In bytes, more than a name and a port have.
_LONGEST_KNOWN = 300
#: How much of a name or an origin a refusal quotes, in characters.
_QUOTED = 200


def parts_of(setting: str | None) -> list[str]:
    """Return the parts of a setting that is a list, in small letters."""
    return [part.strip().lower() for part in (setting or "").split(",") if part.strip()]


class Guard:
    """ASGI layer between the envelope and the router."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._names = [*_LOOPBACK_NAMES, settings.host.lower(), *parts_of(settings.allowed_hosts)]
        self._origins = set(parts_of(settings.cors_origins))
        self._token = None if settings.control_token is None else settings.control_token.encode()
        self._good_hosts: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        host = origin = site = mode = control = None
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None:
                    return _refused(scope, 400, "Host is given twice", "limits.host")
                host = value
            elif name == b"origin":
                origin = value or None
            elif name == b"sec-fetch-site":
                site = value or None
            elif name == b"sec-fetch-mode":
                mode = value
            elif name == _CONTROL_HEADER:
                control = value
        if host and host not in self._good_hosts and not self._knows(host):
            return _refused(
                scope,
                403,
                f"Host {_quoted(host)} is none by which this server may be called (--allowed-hosts / "
                "WORKYARD_ALLOWED_HOSTS)",
                "limits.host",
            )
        if (origin is not None or site is not None) and self._is_foreign(scope, host, origin, site, mode):
            return _refused(
                scope,
                403,
                f"A page of {_quoted(origin or b'another origin')} may not call this server (--cors-origins / "
                "WORKYARD_CORS_ORIGINS)",
                "limits.origin",
            )
        if self._token is not None:
            return self._without_control(scope, control)
        return None

    def _knows(self, host: bytes) -> bool:
        name = _name_of(host.decode("latin-1").lower())
        known = _is_address(name) or any(fnmatchcase(name, each) for each in self._names)
        if known and len(self._good_hosts) < _MOST_KNOWN and len(host) <= _LONGEST_KNOWN:
            self._good_hosts.add(host)
        return known

    def _is_foreign(
        self, scope: Scope, host: bytes | None, origin: bytes | None, site: bytes | None, mode: bytes | None
    ) -> bool:
        """Tell whether a browser sends a request for a page of another origin that is not allowed."""
        if origin is None:
            # Without `origin`: what a page includes, or where a link leads. That somebody goes to, and no page reads it.
            goes_there = mode == b"navigate" and scope["method"] in ("GET", "HEAD")
            return site not in (b"same-origin", b"none") and not goes_there and "*" not in self._origins
        given = origin.decode("latin-1").lower()
        own = (host or b"").decode("latin-1").lower()
        return not ({given, "*"} & self._origins or given in (f"http://{own}", f"https://{own}"))

    def _without_control(self, scope: Scope, given: bytes | None) -> Response | None:
        path: str = scope["path"]
        if not path.startswith("/_emulator") and path != "/metrics":
            return None
        if path.startswith(_OPEN) or (scope["method"] == "OPTIONS" and self._origins):
            return None
        assert self._token is not None
        if given is not None and hmac.compare_digest(given, self._token):
            return None
        fault = "is required" if given is None else "is wrong"
        message = f"{CONTROL_HEADER} header {fault}: this server's control plane is protected (--control-token)"
        return _refused(scope, 401, message, "limits.control-token")


class Pages(CORSMiddleware):
    """ASGI layer around the guard: tells browsers which pages may read the answers, refusals too. What a browser asks leave for
    and does not get is answered like any request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or give leave for one."""
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = Headers(scope=scope)
            asks = "origin" in headers and "access-control-request-method" in headers
            if asks and self.preflight_response(headers).status_code >= 400:
                await self.app(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def _refused(scope: Scope, status: int, message: str, rule: str) -> Response:
    kind = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"}[status]
    return envelope(scope, status, kind, message, rule=rule)


def _name_of(host: str) -> str:
    """Return the name or address in a host header, without its port and a dot at its end."""
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _quoted(value: bytes) -> str:
    return repr(value.decode("latin-1")[:_QUOTED])
