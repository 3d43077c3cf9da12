"""Access by host name, browser origin and control token. API credentials are checked elsewhere (`checks/`).

`Guard` runs before the router. A browser lets any page send requests to this machine, and an attacker's host name that
resolves to this machine gives the attacker's page our origin (DNS rebinding). So requests from pages of other origins are
refused, and so are host names that were not allowed. Non-browser clients send neither `origin` nor `sec-fetch-site`.
Described in docs/limits.md.
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
#: Paths that need no control token: health and the documentation.
_OPEN = ("/_emulator/health", "/_emulator/openapi.json", "/_emulator/docs", "/_emulator/assets/")
_LOOPBACK_NAMES = ("localhost", "*.localhost")
_CONTROL_HEADER = CONTROL_HEADER.encode()
#: How many allowed host headers to remember.
_MOST_KNOWN = 1000
#: Longest host header to remember, in bytes.
_LONGEST_KNOWN = 300
#: How many characters of a host or origin an error message quotes.
_QUOTED = 200


def parts_of(setting: str | None) -> list[str]:
    """Split a comma-separated setting into lower-case parts."""
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
        """Forward the request or refuse it."""
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
                    return _refused(scope, 400, "Duplicate Host header", "limits.host")
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
                f"Host {_quoted(host)} is not allowed; add it with --allowed-hosts (WORKYARD_ALLOWED_HOSTS)",
                "limits.host",
            )
        if (origin is not None or site is not None) and self._is_foreign(scope, host, origin, site, mode):
            page = "The origin of the calling page" if origin is None else f"Origin {_quoted(origin)}"
            return _refused(
                scope,
                403,
                f"{page} is not allowed; add it with --cors-origins (WORKYARD_CORS_ORIGINS)",
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
        """Return whether a browser sent the request for a page of another, not allowed, origin."""
        if origin is None:
            # No Origin header: either a subresource or a followed link. A followed link is allowed, because the
            # linking page cannot read the response.
            goes_there = mode == b"navigate" and scope["method"] in ("GET", "HEAD")
            return site not in (b"same-origin", b"none") and not goes_there and "*" not in self._origins
        name = origin.decode("latin-1").lower()
        own = (host or b"").decode("latin-1").lower()
        return not ({name, "*"} & self._origins or name in (f"http://{own}", f"https://{own}"))

    def _without_control(self, scope: Scope, token: bytes | None) -> Response | None:
        path: str = scope["path"]
        if not path.startswith("/_emulator") and path != "/metrics":
            return None
        if path.startswith(_OPEN) or (scope["method"] == "OPTIONS" and self._origins):
            return None
        assert self._token is not None
        if token is not None and hmac.compare_digest(token, self._token):
            return None
        fault = "is required" if token is None else "is wrong"
        message = f"{CONTROL_HEADER} header {fault}: this server's control plane is protected (--control-token)"
        return _refused(scope, 401, message, "limits.control-token")


class Pages(CORSMiddleware):
    """CORS layer around the guard, so that allowed pages can read errors too. A refused preflight is answered like any
    other request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request or answer a preflight."""
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
    """Return the name or address in a host header, without port and trailing dot."""
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
