"""Page cursors: a position in one list, opaque and stateless. Rule: `conventions.cursor`."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from .errors import InvalidCursor

T = TypeVar("T")

_PREFIX = "page_"
_SEAL_BYTES = 10


def _seal(list_name: str, position: bytes) -> bytes:
    return hashlib.sha256(b"workyard page\0" + list_name.encode() + b"\0" + position).digest()[:_SEAL_BYTES]


def encode_cursor(list_name: str, sequence: int) -> str:
    """Return the cursor that continues *list_name* below creation sequence *sequence*.

    It contains the name of the list, so every other list refuses it. It is valid on every replica and after a restart:
    nothing is stored.
    """
    return _encode(list_name, sequence.to_bytes(8))


def decode_cursor(list_name: str, cursor: str) -> int:
    """Return the sequence a cursor continues below.

    Raises:
        InvalidCursor: it is not a cursor of this list.
    """
    position = _decode(list_name, cursor)
    if len(position) != 8:
        raise InvalidCursor
    return int.from_bytes(position)


def page_of(
    list_name: str, rows: Sequence[T], sequence: Callable[[T], int], *, limit: int, page: str | None
) -> tuple[list[T], str | None]:
    """Return a page of *rows*, which are all there are, newest first, and the cursor of the next, if there is one."""
    below = None if page is None else decode_cursor(list_name, page)
    left = [row for row in rows if below is None or sequence(row) < below]
    return left[:limit], encode_cursor(list_name, sequence(left[limit - 1])) if len(left) > limit else None


def encode_text_cursor(list_name: str, text: str) -> str:
    """Return the cursor that continues after *text* in a list that is sorted by text."""
    return _encode(list_name, text.encode())


def decode_text_cursor(list_name: str, cursor: str) -> str:
    """Return the text after which a cursor continues.

    Raises:
        InvalidCursor: it is not a cursor of this list.
    """
    return _decode(list_name, cursor).decode()


def _encode(list_name: str, position: bytes) -> str:
    return _PREFIX + base64.urlsafe_b64encode(position + _seal(list_name, position)).decode()


def _decode(list_name: str, cursor: str) -> bytes:
    try:
        raw = base64.b64decode(cursor.removeprefix(_PREFIX), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    position = raw[:-_SEAL_BYTES]
    # Compared as text: base64 has more than one spelling of the same bytes.
    if cursor != _encode(list_name, position):
        raise InvalidCursor
    return position
