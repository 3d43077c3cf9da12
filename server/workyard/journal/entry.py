"""One request as the journal keeps it: how it becomes a text, without secrets, and is read again. Owns no storage.

A text is a line of values in the order of `Entry`'s fields, with the lengths of what follows as the last two: the body of
the request and that of the answer, as many bytes of each as the setting says. One text may directly follow another.
"""

from __future__ import annotations

import json
import marshal
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from starlette.datastructures import Headers

from workyard_store.access import LONGEST_REMEMBERED, SHORTEST_SECRET, Caller
from workyard_store.calls import MASK, ApiCall, has_token, without_tokens
from workyard_store.ids import canonical_session_id

from ..wire.envelope import request_id
from ..wire.exchange import API_CALL, CALLER, REQUEST_BODY, RULE, TEXTS, UNKNOWN, Exchange, Names
from .attribution import caller_of

#: What is packed never leaves the process. It is packed often and unpacked seldom; of the formats of marshal this one looks for
#: no repetitions, and pickle makes room for more than there is.
_pack, _FORMAT = marshal.dumps, 2
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode

#: Characters that are kept of what clients choose.
_MOST_PATH = 512
_MOST_QUERY = 1024
_MOST_HEADER = 256
_MOST_ID = 256
_MOST_MESSAGE = 500
#: Between two values, of which none holds it.
_SEPARATOR = "\x1f"
_DIVIDING = re.compile("[\n\x1f]")
_REQUEST_LENGTH, _RESPONSE_LENGTH = -2, -1
#: Places of values in a line.
_PATH, _QUERY, _IDS, _WORKER, _AGENT, _HELPER, _KIND, _MESSAGE = 4, 5, (9, 10, 11), 12, 13, 14, 18, 19
_MOST_RETRIES = 9

#: Members whose value is a secret. A text may end within the value.
_MEMBERS = re.compile(
    r'("[^"\\]*(?:secret|token|api[_-]?key|authorization|password)[^"\\]*"\s*:\s*")(?:[^"\\]|\\.)*', re.IGNORECASE
)
#: One of these stands in lower case in every text with such a member.
_SUSPECT = ("secret", "token", "key", "authoriz", "passw")
#: A member of every work item that is shown.
_NO_SECRET = '"secret":null'
#: Printable ASCII characters that are written as escapes, behind any escaped backslashes; not the quote or the backslash.
_ESCAPES = re.compile(r"\\(\\|u00(?!22|5[cC])([2-7][0-9a-fA-F]))")
#: A token that is written as it is in URLs and JSON.
_PLAIN = re.compile(r"[0-9A-Za-z._~-]+")
#: What the tokens of the known forms begin with.
_PREFIX = "sk-ant-"
#: The colons of an instant are most often all that is escaped in a query.
_COLON = "%3A"


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


class Answered(NamedTuple):
    """A request that was answered, with the secrets that it came with. The attributes are those of `Exchange` and `ApiCall`;
    `body` and `answer`: the first bytes of the bodies, of an answer that is text; `rule`: the rule of the ledger that an
    error is about.
    """

    began: float
    at: float
    took: float
    status: int
    cut: bool
    method: str
    path: str
    query: bytes
    token: str | None
    on: str
    request_id: str
    environment_id: str
    work_id: str
    session_id: str
    worker_id: str
    user_agent: str
    helper: str
    credential: str
    retries: str
    faults: list[str]
    received: int
    sent_bytes: int
    body: bytes
    answer: bytes
    rule: str

    def __repr__(self) -> str:
        """Show nothing that may hold a secret."""
        return f"Answered({self.request_id}, {self.status})"


def kept(exchange: Exchange) -> tuple[Names, bytes]:
    """Return what the workspace of a request that was answered is found by, and the request packed.

    Its text is made later, and only if it is still wanted then: that takes several times as long.
    """
    scope = exchange.scope
    call: ApiCall | None = scope.get(API_CALL)
    caller: Caller | None = scope.get(CALLER)
    if call is None or caller is None:
        caller = caller_of(exchange)
        agent = Headers(scope=scope).get("user-agent", "")
        call = ApiCall(UNKNOWN, request_id(scope), caller.label, user_agent=agent)
    environment_id, token = call.environment_id, caller.token
    # In the order of `Answered`; to make one of them would only take time.
    values = (
        exchange.began,
        exchange.at,
        exchange.took,
        exchange.status,
        exchange.cut,
        scope["method"],
        scope["path"],
        scope["query_string"],
        token,
        call.on,
        call.request_id,
        environment_id,
        call.work_id,
        call.session_id,
        call.worker_id,
        call.user_agent,
        call.helper,
        call.credential,
        call.retries,
        call.faults,
        exchange.received,
        exchange.sent_bytes,
        scope.get(REQUEST_BODY, b""),
        exchange.sent if exchange.content_type.startswith(TEXTS) else b"",
        scope.get(RULE, "") if exchange.status >= 400 else "",
    )
    return (environment_id, token), _pack(values, _FORMAT)


def unpacked(packed: bytes) -> Answered:
    """Return a request that `kept` packed."""
    return Answered._make(marshal.loads(packed))


def shown(exchange: Exchange, body_bytes: int) -> Entry:
    """Return a request as a reader of the journal would see it, secrets masked, with *body_bytes* of each body."""
    [entry] = read(0, 1, written(unpacked(kept(exchange)[1]), body_bytes), bodies=True)
    return entry


def written(request: Answered, body_bytes: int) -> str:
    """Return a request as its text, with *body_bytes* of each body."""
    token = request.token
    masked = _mask(token) if token is None or len(token) <= LONGEST_REMEMBERED else _Mask(token)
    values = _values(request)
    line = _SEPARATOR.join(values)
    # Most requests have nothing to mask or to cut: that is found out over all values at once.
    if not line.isascii() or masked.suspects(line) or _is_odd(line, values):
        for place, change in _CHANGES.items():
            values[place] = change(masked, values[place])
        line = _SEPARATOR.join(_DIVIDING.sub(" ", value) for value in values).encode("utf-8", "replace").decode()
    body = masked.body(request.body, body_bytes) if request.body and body_bytes else ""
    answer = masked.body(request.answer, body_bytes) if request.answer and body_bytes else ""
    return f"{line}{_SEPARATOR}{len(body)}{_SEPARATOR}{len(answer)}\n{body}{answer}"


def _values(request: Answered) -> list[str]:
    """Return all values but the lengths of the bodies, as they came."""
    session, retries, kind, message = request.session_id, request.retries, "", ""
    if request.status >= 400:
        kind, message = _error(request.answer)
    return [
        str(int(request.at * 1e6)),
        str(int(request.took * 1e6)),
        request.on,
        request.method,
        request.path,
        request.query.decode("latin-1"),
        str(request.status),
        "1" if request.cut else "",
        request.request_id,
        request.environment_id,
        request.work_id,
        (canonical_session_id(session) or session) if session else "",
        request.worker_id,
        request.user_agent,
        request.helper,
        request.credential,
        retries if retries.isdecimal() and len(retries) <= _MOST_RETRIES else "",
        _encode(request.faults) if request.faults else "",
        kind,
        message,
        str(request.received),
        str(request.sent_bytes),
        request.rule,
    ]


def _is_odd(line: str, values: list[str]) -> bool:
    """Tell whether a line has to be cut or divided elsewhere, or has a query in which a secret may be escaped."""
    path, query = values[_PATH], values[_QUERY]
    return (
        len(path) > _MOST_ID
        or len(query) > _MOST_QUERY
        or len(values[_WORKER]) + len(values[_AGENT]) + len(values[_HELPER]) > _MOST_HEADER
        or len(values[_KIND]) + len(values[_MESSAGE]) > _MOST_HEADER
        or line.count(_SEPARATOR) >= len(values)
        or "\n" in line
        or ("%" in query and "%" in query.replace(_COLON, ""))
    )


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
        if token is not None and len(token) >= SHORTEST_SECRET and not token.startswith(_PREFIX):
            plain = _PLAIN.fullmatch(token) is not None
            forms = (token,) if plain else (token, quote(token, safe=""), _encode(token)[1:-1])
            self._forms = forms

    def suspects(self, text: str) -> bool:
        """Tell whether a token of the known forms or the request's own stands in a text as it is."""
        return has_token(text) or (self._forms != () and any(form in text for form in self._forms))

    def tokens(self, text: str) -> str:
        """Return the first characters of a name, without tokens."""
        return self._line(text)[:_MOST_ID] if text else text

    def path(self, text: str) -> str:
        """Return the first characters of a path, without tokens."""
        return self._line(text)[:_MOST_PATH]

    def header(self, text: str) -> str:
        """Return the first characters of a header, without tokens."""
        return self._line(text)[:_MOST_HEADER]

    def message(self, text: str) -> str:
        """Return the first characters of an error's message, without tokens."""
        return self._line(text)[:_MOST_MESSAGE]

    def query(self, text: str) -> str:
        """Return the first characters of a query, without secrets however they are written."""
        if "%" in text:
            # This is what unquoting it would give, where nothing else is escaped.
            plain = text.replace(_COLON, ":")
            plain = unquote(plain) if "%" in plain else plain
            if self._line(plain) != plain:
                text = plain
        return self._line(text)[:_MOST_QUERY]

    def body(self, body: bytes, most: int) -> str:
        """Return the first bytes of a body as text, without secrets."""
        text = body.decode("utf-8", "replace")
        if "\\u00" in text:
            # Our own answers have no escapes but of control characters.
            text = _ESCAPES.sub(_written_out, text)
        lowered = text.lower()
        for each in _SUSPECT:
            if each in lowered and (each != "secret" or lowered.count(each) > lowered.count(_NO_SECRET)):
                text = _MEMBERS.sub(rf"\g<1>{MASK}", text)
                break
        text = self._line(text)
        return text if len(body) <= most else text.encode()[:most].decode("utf-8", "ignore")

    def _line(self, text: str) -> str:
        """Return a text without tokens of the known forms and the request's own."""
        text = without_tokens(text)
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text


#: How the values of a request are masked and cut that hold what a client or an answer says, by their places.
_CHANGES: dict[int, Callable[[_Mask, str], str]] = {
    _PATH: _Mask.path,
    _QUERY: _Mask.query,
    **dict.fromkeys((*_IDS, _WORKER), _Mask.tokens),
    _AGENT: _Mask.header,
    _HELPER: _Mask.header,
    _KIND: _Mask.header,
    _MESSAGE: _Mask.message,
}


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
