"""What every answer tells a browser, and no other client looks at: to take it for nothing but what it says it is, to keep no copy,
to show it in no page of anybody else. A page has a policy of its own."""

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
#: For what is no page: nothing in it is to be run or loaded.
OF_DATA = (*ALWAYS, (POLICY, b"default-src 'none'; frame-ancestors 'none'"))
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def policy_of_page(html: str) -> str:
    """Return the policy of a page that loads its files from this server and runs the scripts that are in it, no others."""
    scripts = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in _INLINE.findall(html)
    )
    return (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
