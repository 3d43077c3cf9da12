"""Removes the secrets from an entry before it leaves its process, and truncates its texts. Owns no form of storage.

The annotations of the fields of `Entry` (`FromClient`) say which fields are masked and where they are cut. In bodies,
the values of secret JSON members are masked too.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from operator import attrgetter
from typing import get_args, get_type_hints
from urllib.parse import quote, unquote

import msgspec

from workyard_store.access import LONGEST_REMEMBERED, SHORTEST_SECRET
from workyard_store.calls import MASK, has_token, without_tokens
from workyard_store.ids import canonical_session_id

from ..wire.exchange import Exchange
from .entry import Entry, FromClient, entry_of

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode

#: Field → its masking and its length limit.
_FROM_CLIENT = {
    name: mark
    for name, hint in get_type_hints(Entry, include_extras=True).items()
    for mark in get_args(hint)
    if isinstance(mark, FromClient)
}
_values = attrgetter(*_FROM_CLIENT)
_FEWEST = min(mark.most for mark in _FROM_CLIENT.values())
#: Separator while all values are checked together; no value of an entry has line breaks.
_SEPARATOR = "\n"
_DIVIDING = re.compile("[\n\x1f]")

#: Members whose value is a secret. The text may be cut within the value.
_MEMBERS = re.compile(
    r'("[^"\\]*(?:secret|token|api[_-]?key|authorization|password)[^"\\]*"\s*:\s*")(?:[^"\\]|\\.)*', re.IGNORECASE
)
#: Every text with such a member contains one of these, in lower case.
_SUSPECT = ("secret", "token", "key", "authoriz", "passw")
#: A member of every work item whose value is shown.
_NO_SECRET = '"secret":null'
#: Printable ASCII characters that are written as escapes, after any escaped backslashes; not the quote or the backslash.
_ESCAPES = re.compile(r"\\(\\|u00(?!22|5[cC])([2-7][0-9a-fA-F]))")
#: A token that is written as it is in URLs and JSON.
_PLAIN = re.compile(r"[0-9A-Za-z._~-]+")
#: How the tokens of the known forms begin.
_PREFIX = "sk-ant-"
#: The colons of an instant are usually the only escapes in a query.
_COLON = "%3A"


class _Error(msgspec.Struct):
    type: str
    message: str


class _ErrorBody(msgspec.Struct):
    error: _Error


_error_body = msgspec.json.Decoder(_ErrorBody)


def describe(exchange: Exchange, body_bytes: int) -> Entry:
    """Return a request that has ended as a reader of the journal would see it, with *body_bytes* of each body."""
    entry = entry_of(exchange)
    mask(entry, exchange.caller.token, body_bytes)
    return entry


def mask(entry: Entry, token: str | None, body_bytes: int) -> None:
    """Return the form of an entry that may be stored and shown: without secrets, texts cut, *body_bytes* of each body.

    *token*: the one that the request came with.
    """
    masker = _masker(token) if token is None or len(token) <= LONGEST_REMEMBERED else _Masker(token)
    if entry.status >= 400:
        entry.error_type, entry.error_message = _error(entry.response_body)
    if entry.session_id:
        entry.session_id = canonical_session_id(entry.session_id) or entry.session_id
    values = _values(entry)
    line = _SEPARATOR.join(values)
    # Most requests have nothing to mask or to cut: one check over all values together finds that.
    if not line.isascii() or masker.suspects(line) or _is_odd(line, values, entry.query):
        for name, mark in _FROM_CLIENT.items():
            setattr(entry, name, masker.text(getattr(entry, name), mark))
    entry.request_body = masker.body(entry.request_body, entry.received, body_bytes)
    entry.response_body = masker.body(entry.response_body, entry.sent, body_bytes)
    entry.began = 0.0


def _is_odd(line: str, values: tuple[str, ...], query: str) -> bool:
    """Return whether a value may be too long, has a line break, or is a query that may contain an escaped secret."""
    return (
        max(map(len, values)) > _FEWEST
        or line.count(_SEPARATOR) >= len(values)
        or "\x1f" in line
        or ("%" in query and "%" in query.replace(_COLON, ""))
    )


class _Masker:
    """Removes the secrets from the texts of one request; *token* is the request's own."""

    __slots__ = ("_forms",)

    def __init__(self, token: str | None) -> None:
        self._forms: tuple[str, ...] = ()
        if token is not None and len(token) >= SHORTEST_SECRET and not token.startswith(_PREFIX):
            plain = _PLAIN.fullmatch(token) is not None
            forms = (token,) if plain else (token, quote(token, safe=""), _encode(token)[1:-1])
            self._forms = forms

    def suspects(self, text: str) -> bool:
        """Return whether a text contains the request's token, or a token of the known forms, unescaped."""
        for form in self._forms:
            if form in text:
                return True
        return has_token(text)

    def text(self, text: str, mark: FromClient) -> str:
        """Return the first characters of a text, in one line and without secrets, escaped ones in a query included."""
        if mark.is_query and "%" in text:
            # The same as unquoting it, if nothing else is escaped.
            plain = text.replace(_COLON, ":")
            plain = unquote(plain) if "%" in plain else plain
            if self._without_tokens(plain) != plain:
                text = plain
        return _DIVIDING.sub(" ", self._without_tokens(text)[: mark.most])

    def body(self, text: str, length: int, most: int) -> str:
        """Return the first *most* bytes, without secrets, of a body of *length* bytes that begins with *text*."""
        if not text or not most:
            return ""
        if "\\u00" in text:
            # Our own answers have no escapes except of control characters.
            text = _ESCAPES.sub(_unescape, text)
        lowered = text.lower()
        for each in _SUSPECT:
            if each in lowered and (each != "secret" or lowered.count(each) > lowered.count(_NO_SECRET)):
                text = _MEMBERS.sub(rf"\g<1>{MASK}", text)
                break
        text = self._without_tokens(text)
        return text if length <= most else text.encode()[:most].decode("utf-8", "ignore")

    def _without_tokens(self, text: str) -> str:
        """Return a text without tokens of the known forms and the request's own."""
        text = without_tokens(text)
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text


@lru_cache(maxsize=1024)
def _masker(token: str | None) -> _Masker:
    return _Masker(token)


def _unescape(escape: re.Match[str]) -> str:
    return escape[0] if escape[2] is None else chr(int(escape[2], 16))


def _error(body: str) -> tuple[str, str]:
    """Return type and message of an error's body, if it is one of the API's."""
    try:
        error = _error_body.decode(body).error
    except msgspec.MsgspecError:
        return "", ""
    return error.type, error.message
