"""One request as the journal keeps it: how it becomes a text, without secrets, and is read again. Owns no storage.

A text is a line of values in the order of `Entry`'s fields, with the lengths of what follows as the last two: the body of
the request and that of the answer, as many bytes of each as the setting says. One text may directly follow another.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from starlette.datastructures import Headers

from workyard_store.access import SHORTEST_SECRET
from workyard_store.calls import MASK, ApiCall, without_tokens
from workyard_store.ids import canonical_session_id

from .headers import request_id
from .owners import caller_of, names_of
from .traffic import API_CALL, REQUEST_BODY, RULE, UNKNOWN, Exchange, Kept

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode

#: Characters that are kept of what clients choose.
_MOST_PATH = 512
_MOST_QUERY = 1024
_MOST_HEADER = 256
_MOST_MESSAGE = 500
#: Between two values, of which none holds it.
_SEPARATOR = "\x1f"
_DIVIDING = re.compile("[\n\x1f]")
_REQUEST_LENGTH, _RESPONSE_LENGTH = -2, -1
_RETRIES = b"x-stainless-retry-count"
_MOST_RETRIES = 9

#: Members whose value is a secret. A text may end within the value.
_MEMBERS = re.compile(
    r'("[^"\\]*(?:secret|token|api[_-]?key|authorization|password)[^"\\]*"\s*:\s*")(?:[^"\\]|\\.)*', re.IGNORECASE
)
#: Printable ASCII characters that are written as escapes, behind any escaped backslashes; not the quote or the backslash.
_ESCAPES = re.compile(r"\\(\\|u00(?!22|5[cC])([2-7][0-9a-fA-F]))")
#: One of these stands in every text in which there is something to mask.
_SUSPECT = (b"sk-ant-", b"secret", b"token", b"api_key", b"api-key", b"apikey", b"authoriz", b"passw", b"\\u00")
#: The same for our own answers, which are written without spaces and with no escapes of letters.
_SUSPECT_ANSWER = (b"sk-ant-", b'secret":"', b'token":"', b'key":"', b'authorization":"', b'password":"')
#: A token that is written as it is in URLs and JSON.
_PLAIN = re.compile(r"[0-9A-Za-z._~-]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One request to the API.

    Attributes:
        number: its number in the journal.
        at: when it came, wall time in microseconds; `took`: how long the answer took, microseconds.
        on: the operation, `unknown` without a route.
        method, path, query: as they came.
        status: of the answer, 0 if there was none.
        cut: whether the answer did not come to its end, or the client was gone before.
        request_id: `req_…`.
        environment_id, work_id, session_id: as the path names them or the answer says; else empty.
        worker_id, user_agent, helper, credential: as `workyard_store.calls.ApiCall` has them.
        retries: what the client says how often it has tried before, or None.
        faults: names of the fault rules that were applied.
        error_type, error_message: of an answer that is an error, else empty.
        rule: id of the ledger's rule that such an answer is about.
        received, sent: bytes of the request's body, as far as it was read, and of the answer's.
        request_body, response_body: the first bytes of them, as text.
    """

    number: int
    at: int
    took: int
    on: str
    method: str
    path: str
    query: str
    status: int
    cut: bool
    request_id: str
    environment_id: str
    work_id: str
    session_id: str
    worker_id: str
    user_agent: str
    helper: str
    credential: str
    retries: int | None
    faults: list[str]
    error_type: str
    error_message: str
    rule: str
    received: int
    sent: int
    request_body: str
    response_body: str


def kept(body_bytes: int, exchange: Exchange) -> Kept:
    """Return what is kept of a request that was answered, with *body_bytes* of each body."""
    return Kept(exchange.began, names_of(exchange), _written(exchange, body_bytes))


def _written(exchange: Exchange, body_bytes: int) -> str:
    scope = exchange.scope
    call: ApiCall | None = scope.get(API_CALL)
    caller, identifier = caller_of(exchange), request_id(scope)
    masked = _mask(caller.token)
    retries = kind = message = rule = ""
    for name, value in scope["headers"]:
        if name == _RETRIES:
            retries = value.decode("latin-1")
    if call is None:
        call = ApiCall(UNKNOWN, identifier, caller.label, user_agent=Headers(scope=scope).get("user-agent", ""))
    if exchange.status >= 400:
        kind, message = _error(exchange.sent)
        rule = scope.get(RULE, "")
    request = response = ""
    if body_bytes:
        body: bytes = scope.get(REQUEST_BODY, b"")
        request = masked.body(body, _SUSPECT, body_bytes) if body else ""
        response = masked.body(exchange.sent, _SUSPECT_ANSWER, body_bytes) if exchange.textual else ""
    query: bytes = scope["query_string"]
    session = call.session_id
    values = [
        str(int(exchange.at * 1e6)),
        str(int(exchange.took * 1e6)),
        call.on,
        scope["method"],
        masked.line(scope["path"], _MOST_PATH),
        masked.query(query.decode("latin-1")) if query else "",
        str(exchange.status),
        "1" if exchange.cut else "",
        identifier,
        masked.tokens(call.environment_id),
        masked.tokens(call.work_id),
        masked.tokens(canonical_session_id(session) or session) if session else "",
        masked.tokens(call.worker_id),
        masked.line(call.user_agent, _MOST_HEADER),
        masked.line(call.helper, _MOST_HEADER),
        call.credential,
        retries if retries.isdecimal() and len(retries) <= _MOST_RETRIES else "",
        _encode(call.faults) if call.faults else "",
        kind[:_MOST_HEADER],
        masked.line(message, _MOST_MESSAGE),
        str(exchange.received),
        str(exchange.sent_bytes),
        rule,
        str(len(request)),
        str(len(response)),
    ]
    line = _SEPARATOR.join(values)
    if line.count(_SEPARATOR) >= len(values) or "\n" in line:
        line = _SEPARATOR.join(_DIVIDING.sub(" ", value) for value in values)
    if not line.isascii():
        line = line.encode("utf-8", "replace").decode()
    return f"{line}\n{request}{response}"


def read(first: int, count: int, text: str, *, bodies: bool) -> list[Entry]:
    """Return the entries of some texts, *count* of them, numbered from *first* on; without *bodies* they are empty."""
    found: list[Entry] = []
    start = 0
    for number in range(first, first + count):
        end = text.index("\n", start)
        line = text[start:end].split(_SEPARATOR)
        middle = end + 1 + int(line[_REQUEST_LENGTH])
        start = middle + int(line[_RESPONSE_LENGTH])
        both = (text[end + 1 : middle], text[middle:start]) if bodies else ("", "")
        found.append(_entry(number, line, *both))
    return found


def _entry(number: int, line: list[str], request_body: str, response_body: str) -> Entry:
    at, took, on, method, path, query, status, cut, request_id, environment_id, work_id, session_id, *more = line
    worker_id, user_agent, helper, credential, retries, faults, kind, message, received, sent, *rule, _, _ = more
    return Entry(
        number=number,
        at=int(at),
        took=int(took),
        on=on,
        method=method,
        path=path,
        query=query,
        status=int(status),
        cut=cut == "1",
        request_id=request_id,
        environment_id=environment_id,
        work_id=work_id,
        session_id=session_id,
        worker_id=worker_id,
        user_agent=user_agent,
        helper=helper,
        credential=credential,
        retries=int(retries) if retries else None,
        faults=json.loads(faults) if faults else [],
        error_type=kind,
        error_message=message,
        rule="".join(rule),
        received=int(received),
        sent=int(sent),
        request_body=request_body,
        response_body=response_body,
    )


class _Mask:
    """Takes the secrets out of the texts of one request; *token* is the one that it came with."""

    __slots__ = ("_forms",)

    def __init__(self, token: str | None) -> None:
        self._forms: tuple[str, ...] = ()
        if token is not None and len(token) >= SHORTEST_SECRET and not token.startswith("sk-ant-"):
            plain = _PLAIN.fullmatch(token) is not None
            forms = (token,) if plain else (token, quote(token, safe=""), _encode(token)[1:-1])
            self._forms = forms

    def tokens(self, text: str) -> str:
        """Return the first characters of a name, as `line` does."""
        return self.line(text, _MOST_HEADER) if text else text

    def line(self, text: str, most: int) -> str:
        """Return the first characters of a text, without tokens of the known forms and the request's own."""
        text = without_tokens(text)
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text[:most]

    def query(self, text: str) -> str:
        """Return the first characters of a query, without secrets however they are written."""
        if "%" in text:
            # The colons of an instant are most often all that is escaped: this is what unquoting it would give.
            plain = text.replace("%3A", ":")
            plain = unquote(plain) if "%" in plain else plain
            if self.line(plain, len(plain)) != plain:
                text = plain
        return self.line(text, _MOST_QUERY)

    def body(self, body: bytes, suspect: tuple[bytes, ...], most: int) -> str:
        """Return the first bytes of a body as text, without secrets; *suspect*: one of these stands in it if there may be
        any but the request's token."""
        text = body.decode("utf-8", "replace")
        of_client = suspect is _SUSPECT
        lowered = body.lower() if of_client else body
        for each in suspect:
            if each in lowered:
                if of_client and "\\u" in text:
                    text = _ESCAPES.sub(_written_out, text)
                text = _MEMBERS.sub(rf"\g<1>{MASK}", text)
                break
        text = self.line(text, len(text))
        return text if len(body) <= most else text.encode()[:most].decode("utf-8", "ignore")


@lru_cache(maxsize=1024)
def _mask(token: str | None) -> _Mask:
    return _Mask(token)


def _written_out(escape: re.Match[str]) -> str:
    return escape[0] if escape[2] is None else chr(int(escape[2], 16))


def _error(body: bytes) -> tuple[str, str]:
    """Return type and message of an error's body, if it is one of the API's."""
    try:
        error: Any = json.loads(body)["error"]
        return str(error["type"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "", ""
