"""Connects the model with HTTP: a call on the wire, the names that its answer binds, and a whole example as a script.

Owns no rule of the API (that is `model.py`) and chooses no calls. The script is self-contained: `httpx`, and the class
`Names` below, copied as it stands.
"""

from __future__ import annotations

import base64
import http.client
import inspect
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tests.support.model.contract import EVENTS, Answer, Model
from tests.support.model.records import AGENT

_TIMEOUT_S = 60


class Names:
    """The values of the names in expected answers, such as `<env 1>`. Learned from the first answer that shows one."""

    PATTERN = re.compile(r"<(env|work|session|secret|page|request|number|event|script) \d+>")

    def __init__(self, known: dict[str, Any] | None = None) -> None:
        self.known: dict[str, Any] = dict(known or {})

    def resolved(self, value: Any) -> Any:
        """Return *value* with every known name replaced by its value."""
        if isinstance(value, str):
            return self.PATTERN.sub(lambda name: str(self.known.get(name[0], name[0])), value)
        if isinstance(value, dict):
            return {key: self.resolved(member) for key, member in value.items()}
        return [self.resolved(member) for member in value] if isinstance(value, list) else value

    def difference(self, wanted: Any, found: Any, place: str = "answer") -> str:
        """Return where *found* differs from *wanted*, or an empty string."""
        if isinstance(wanted, dict) and isinstance(found, dict) and wanted.keys() == found.keys():
            pairs = [(f"{place}.{key}", wanted[key], found[key]) for key in wanted]
        elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
            pairs = [(f"{place}[{n}]", one, other) for n, (one, other) in enumerate(zip(wanted, found, strict=True))]
        else:
            name = self.PATTERN.fullmatch(wanted) if isinstance(wanted, str) else None
            if name is not None and wanted not in self.known:
                return self._learn(name[0], name[1], found, place)
            expected = self.resolved(wanted)
            if type(expected) is type(found) and expected == found:
                return ""
            return f"{place}: wanted {expected!r}, found {found!r}"
        return next((text for at, one, other in pairs if (text := self.difference(one, other, at))), "")

    def _learn(self, name: str, kind: str, found: Any, place: str) -> str:
        if kind == "number":
            return "" if isinstance(found, float) else f"{place}: wanted a number, found {found!r}"
        if kind == "script":
            return ""
        identifier = {"request": "req", "event": "sevt"}.get(kind, kind) + "_01[1-9A-HJ-NP-Za-km-z]{22}"
        form = {"secret": r"[\w-]+", "page": r"page_[\w=-]+"}.get(kind, identifier)
        if not isinstance(found, str) or re.fullmatch(form, found) is None:
            return f"{place}: wanted a new {kind}, found {found!r}"
        # Two places of one list may well have one cursor; nothing else is ever given out twice.
        if kind != "page" and found in self.known.values():
            return f"{place}: wanted a new {kind}, found one seen before: {found!r}"
        if kind == "secret":
            token = json.loads(base64.urlsafe_b64decode(found + "=" * (-len(found) % 4)))
            if list(token) != ["sessions_token"]:
                return f"{place}: wanted a sessions token, found {token!r}"
        self.known[name] = found
        return ""


@dataclass(frozen=True)
class Request:
    """A request. Its names are replaced when it is sent."""

    method: str
    path: str
    query: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


def _given(**query: Any) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _env(env: str, tail: str = "") -> str:
    return f"/v1/environments/{env}{tail}"


def _list_environments(limit: int | None = None, page: str | None = None, include_archived: bool = False) -> Request:
    archived = "true" if include_archived else None
    return Request("GET", "/v1/environments", _given(limit=limit, page=page, include_archived=archived))


def _list_sessions(limit: int | None = None, page: str | None = None, include_archived: bool = False) -> Request:
    archived = "true" if include_archived else None
    return Request("GET", "/v1/sessions", _given(limit=limit, page=page, include_archived=archived))


def _create_session(env: str, messages: int = 0) -> Request:
    body = {"agent": AGENT, "environment_id": env, "initial_events": messages * [EVENTS["user.message"]]}
    return Request("POST", "/v1/sessions", body=body)


def _poll(env: str, worker: str | None = None, reclaim_older_than_ms: int | None = None) -> Request:
    headers = _given(**{"Anthropic-Worker-ID": worker})
    return Request("GET", _env(env, "/work/poll"), _given(reclaim_older_than_ms=reclaim_older_than_ms), headers)


def _heartbeat(env: str, work: str, expected: str | None = None, ttl: int | None = None) -> Request:
    query = _given(expected_last_heartbeat=expected, desired_ttl_seconds=ttl)
    return Request("POST", _env(env, f"/work/{work}/heartbeat"), query)


def _stop(env: str, work: str, force: bool | None = None) -> Request:
    return Request("POST", _env(env, f"/work/{work}/stop"), body=None if force is None else {"force": force})


#: A method of the model → the request that makes the same call.
REQUESTS: dict[str, Callable[..., Request]] = {
    "create_environment": lambda body: Request("POST", "/v1/environments", body=body),
    "get_environment": lambda env: Request("GET", _env(env)),
    "list_environments": _list_environments,
    "update_environment": lambda env, body: Request("POST", _env(env), body=body),
    "archive_environment": lambda env: Request("POST", _env(env, "/archive")),
    "delete_environment": lambda env, force=False: Request("DELETE", _env(env), {"force": "true"} if force else {}),
    "enqueue": lambda env, body: Request("POST", f"/_emulator/environments/{env}/work", body=body),
    "poll": _poll,
    "ack": lambda env, work: Request("POST", _env(env, f"/work/{work}/ack")),
    "heartbeat": _heartbeat,
    "stop": _stop,
    "update_work": lambda env, work, metadata: Request("POST", _env(env, f"/work/{work}"), body={"metadata": metadata}),
    "get_work": lambda env, work: Request("GET", _env(env, f"/work/{work}")),
    "list_work": lambda env, limit=None, page=None: Request("GET", _env(env, "/work"), _given(limit=limit, page=page)),
    "use_script": lambda body: Request("PUT", "/_emulator/scripts/default", body=body),
    "create_session": _create_session,
    "get_session": lambda session: Request("GET", f"/v1/sessions/{session}"),
    "list_sessions": _list_sessions,
    "send": lambda session, kinds: Request(
        "POST", f"/v1/sessions/{session}/events", body={"events": [EVENTS[kind] for kind in kinds]}
    ),
    "archive_session": lambda session: Request("POST", f"/v1/sessions/{session}/archive"),
    "delete_session": lambda session: Request("DELETE", f"/v1/sessions/{session}"),
    "stats": lambda env: Request("GET", _env(env, "/work/stats")),
    "change_clock": lambda body: Request("POST", "/_emulator/clock", body=body),
    "malformed": lambda message, request: Request(**request),
    "change_settings": lambda body: Request("POST", "/_emulator/settings", body=body),
}


class Line:
    """A connection. Sending and receiving are two steps, so that calls on several lines overlap."""

    def __init__(self, url: str, api_key: str) -> None:
        parts = urlsplit(url)
        self._http = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=_TIMEOUT_S)
        self._key = api_key

    def send(self, request: Request) -> None:
        """Send a request, all names resolved."""
        path = quote(request.path) + ("?" + urlencode(request.query) if request.query else "")
        body = None if request.body is None else json.dumps(request.body)
        self._http.request(request.method, path, body, {"x-api-key": self._key, **request.headers})

    def receive(self) -> Answer:
        """Return the answer to the request sent before."""
        response = self._http.getresponse()
        return Answer(response.status, json.loads(response.read()))

    def close(self) -> None:
        """Hang up."""
        self._http.close()


class Session:
    """A model and a server that get the same calls, one after the other, and must answer the same."""

    def __init__(self, model: Model, line: Line) -> None:
        self.model = model
        self.names = Names()
        self._line = line
        self._said: list[tuple[Request, Answer]] = []

    def call(self, call: str, **arguments: Any) -> Any:
        """Make a call of the model on both; return the body that the model expects.

        Raises:
            AssertionError: the server answers something else; the message ends with a script that shows it.
        """
        body = self.exchange(REQUESTS[call](**arguments), self.model.answer(call, arguments))
        if call == "create_session":
            # Its work has a name from now on.
            self.call("list_work", env=arguments["env"], limit=1000)
        return body

    def exchange(self, request: Request, wanted: Answer) -> Any:
        """Send a request and compare the answer. Raises: as `call`."""
        self._said.append((request, wanted))
        self._line.send(resolved(self.names, request))
        found = self._line.receive()
        different = difference(self.names, wanted, found)
        assert not different, f"{request.method} {request.path}: {different}\n{kept(self.script())}"
        return wanted.body

    def observe(self, first: int = 0) -> None:
        """Compare every observable; *first* says which one to begin with."""
        calls = observables(list(self.model.environments))
        for n in range(len(calls)):
            call, arguments = calls[(first + n) % len(calls)]
            self.call(call, **arguments)

    def script(self) -> str:
        """Return all calls so far as a Python program that repeats them and fails if an answer differs."""
        return script(self._said)


def observables(environments: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls that show all there is: each object, the order of each list, the figures."""
    calls: list[tuple[str, dict[str, Any]]] = [
        ("list_environments", {"limit": 1000}),
        ("list_environments", {"limit": 1000, "include_archived": True}),
        ("list_sessions", {"limit": 1000}),
        ("list_sessions", {"limit": 1000, "include_archived": True}),
    ]
    for env in environments:
        calls += [
            ("list_work", {"env": env, "limit": 1000}),
            ("stats", {"env": env}),
            ("get_environment", {"env": env}),
        ]
    return calls


def resolved(names: Names, request: Request) -> Request:
    """Return the request as it is sent."""
    return Request(
        request.method,
        names.resolved(request.path),
        names.resolved(request.query),
        request.headers,
        names.resolved(request.body),
    )


def difference(names: Names, wanted: Answer, found: Answer) -> str:
    """Return where two answers differ, or an empty string."""
    if wanted.status != found.status:
        return f"wanted {wanted.status} {names.resolved(wanted.body)!r}, found {found.status} {found.body!r}"
    return names.difference(wanted.body, found.body)


_HEAD = '''\
"""Calls of which one is answered otherwise than the model of the contract says. Run: python SCRIPT http://127.0.0.1:4010"""

import base64, json, re, sys, uuid
from typing import Any

import httpx

'''
_CALL = '''

names = Names()
client = httpx.Client(base_url=sys.argv[1], headers={"x-api-key": f"script-{uuid.uuid4()}"}, timeout=60)


def call(method: str, path: str, status: int, answer: Any, query: Any = None, headers: Any = None, body: Any = None) -> None:
    """Make a call and compare its answer; names in it are what earlier answers taught."""
    given = {} if body is None else {"json": names.resolved(body)}
    response = client.request(method, names.resolved(path), params=names.resolved(query), headers=headers, **given)
    found = names.difference({"status": status, "body": answer}, {"status": response.status_code, "body": response.json()})
    if found:
        sys.exit(f"{method} {path}: {found}")


'''


def kept(text: str) -> str:
    """Return a script, and where it lies as a file; the next one replaces it, so that the shrunk one remains."""
    file = Path(tempfile.gettempdir()) / f"workyard-model-{os.getpid()}.py"
    file.write_text(text)
    return f"To see it without Hypothesis: python {file} http://127.0.0.1:4010\n\n{text}"


def script(said: list[tuple[Request, Answer]]) -> str:
    """Return a self-contained program that sends these requests and wants these answers."""
    lines = []
    for request, answer in said:
        given = _given(query=request.query or None, headers=request.headers or None, body=request.body)
        arguments = "".join(f", {name}={value!r}" for name, value in given.items())
        lines.append(f"call({request.method!r}, {request.path!r}, {answer.status}, {answer.body!r}{arguments})\n")
    return _HEAD + "\n" + inspect.getsource(Names) + _CALL + "".join(lines) + 'print("every answer was as expected")\n'
