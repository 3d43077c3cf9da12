"""Identifiers: their forms, how they are made, how some derive from others. Owns no state.

Rule: `conventions.ids`: `env_`, `work_`, `session_`, `req_` + `01` + 22 base58 characters.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_FORM = re.compile(r"(?:env|work|session|envkey|agent|skill|memstore|mem)_[0-9A-Za-z]{1,64}")
_SESSION = re.compile(r"(?:session|sesn)_([0-9A-Za-z]{1,64})")

#: 22 base58 characters hold 128 bits.
SUFFIX_LENGTH = 22


def random_suffix() -> str:
    """Return `01` + 22 random base58 characters (about 128 bits)."""
    return "01" + "".join([_PAIRS[n % 3364] for n in struct.unpack("11H", os.urandom(22))])


def derived_suffix(*parts: str) -> str:
    """Return `01` + 22 base58 characters that depend on nothing but *parts*."""
    number = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:16])
    pairs = []
    for _ in range(SUFFIX_LENGTH // 2):
        number, pair = divmod(number, 3364)
        pairs.append(_PAIRS[pair])
    return "01" + "".join(pairs)


def new_id(kind: str) -> str:
    """Return a fresh id of *kind* (`env`, `session`, `req`, `envkey`, `agent`, `sevt`, `outc`, `memstore`, `mem`, `memver`)."""
    return f"{kind}_{random_suffix()}"


def work_id(environment_id: str, session_id: str) -> str:
    """Return the id of the work item that serves *session_id* in this environment.

    A session has one item for life (`work.object.one-item`), so the id is a function of the two: no index is needed to find it.
    """
    return "work_" + derived_suffix("work", environment_id, session_id)


def is_id(kind: str, value: str) -> bool:
    """Return whether *value* could be the id of a stored resource of *kind*: other values never reach Redis."""
    return value.startswith(kind + "_") and _FORM.fullmatch(value) is not None


def canonical_session_id(value: str) -> str | None:
    """Return the `session_…` form of a session id (`sesn_…` is accepted in), or None if it is neither."""
    match = _SESSION.fullmatch(value)
    return None if match is None else "session_" + match[1]
