"""Security headers for browsers: no MIME sniffing, no caching, no framing. Other clients ignore them. A page has its own
content security policy."""

from __future__ import annotations

import base64
import hashlib
import re

POLICY = b"content-security-policy"
#: For every answer.
ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
#: For answers that are not pages: a browser may run or load nothing from them.
OF_DATA = (*ALWAYS, (POLICY, b"default-src 'none'; frame-ancestors 'none'"))
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def policy_of_page(html: str) -> str:
    """Return the policy of a page that loads files only from this server and runs only the scripts it contains."""
    scripts = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in _INLINE.findall(html)
    )
    return (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
