"""Page cursors: a position in one list, opaque and stateless. Source: contract §1, Pagination."""

from __future__ import annotations

import base64
import binascii
import hashlib

from .errors import InvalidRequest

_PREFIX = "page_"


def _seal(list_name: str, position: bytes) -> bytes:
    return hashlib.sha256(b"workyard page\0" + list_name.encode() + b"\0" + position).digest()[:10]


def encode_cursor(list_name: str, sequence: int) -> str:
    """Return the cursor that continues *list_name* below creation sequence *sequence*.

    The name of the list is sealed into it, so a cursor of one list is refused by every other. It holds on every
    replica and after a restart: nothing is stored.
    """
    position = sequence.to_bytes(8)
    return _PREFIX + base64.urlsafe_b64encode(position + _seal(list_name, position)).decode()


def decode_cursor(list_name: str, cursor: str) -> int:
    """Return the sequence a cursor continues below.

    Raises:
        InvalidRequest: it is not a cursor of this list.
    """
    try:
        raw = base64.b64decode(cursor.removeprefix(_PREFIX), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    sequence = int.from_bytes(raw[:8])
    # Compared as text: base64 has more than one spelling of the same bytes.
    if len(raw) != 18 or cursor != encode_cursor(list_name, sequence):
        raise InvalidRequest("page: Invalid cursor")
    return sequence
