"""Mode `strict`: each route with each credential on each kind of target, against a table of what must come. Rules:
`credentials.strict.*`. The table imports nothing from the product.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.credentials import NEVER_ISSUED, issue, sessions_token
from tests.support.harness import ERROR_TYPES, SILENT, Api, WorkyardServer
from tests.support.sessions import MESSAGE, session

#: One server an engine does for all of them.
pytestmark = pytest.mark.xdist_group("strict")

YES = ""
AUTH = "401 Authentication failed"
SCOPE = "403 OAuth token does not meet scope requirement any_of(workspace:developer)"
OTHER = "403 Token not authorized for this environment"
REVOKED = "401 OAuth access token has been revoked."
UNKNOWN = "401 Invalid bearer token"
NONE = "401 x-api-key header is required"
E, W, S = "/v1/environments/{environment_id}", "/v1/environments/{environment_id}/work", "/v1/sessions/{session_id}"
K, M = "/v1/skills/{skill_id}", "/v1/memory_stores/{memory_store_id}"
USERS = (YES, AUTH, AUTH)
BY_SCOPE = (YES, SCOPE, SCOPE)
ALL = (YES, YES, YES)
ITEMS = (YES, AUTH, YES)
#: Route → the lanes of an API key, an environment key and a sessions token; what comes of the call once it may be made; its
#: body. Those that change what others need come last.
ROUTES: dict[str, tuple[tuple[str, str, str], int, Any]] = {
    "POST /v1/environments": (USERS, 400, {}),
    "GET /v1/environments": (USERS, 200, None),
    f"GET {E}": (USERS, 200, None),
    f"POST {E}": (USERS, 200, {}),
    f"GET {W}/poll": ((AUTH, YES, AUTH), 200, None),
    f"GET {W}": ((AUTH, YES, AUTH), 200, None),
    f"GET {W}/stats": ((YES, YES, AUTH), 200, None),
    f"GET {W}/{{work_id}}": (BY_SCOPE, 200, None),
    f"POST {W}/{{work_id}}": (BY_SCOPE, 200, {}),
    f"POST {W}/{{work_id}}/ack": ((AUTH, YES, YES), 409, None),
    f"POST {W}/{{work_id}}/heartbeat": ((AUTH, YES, YES), 200, None),
    "POST /v1/sessions": (USERS, 400, {}),
    "GET /v1/sessions": (USERS, 200, None),
    f"GET {S}": (ALL, 200, None),
    f"POST {S}": (USERS, 200, {}),
    f"POST {S}/events": (ALL, 200, {"events": [{"type": "user.interrupt"}]}),
    f"GET {S}/events": (ALL, 200, None),
    f"GET {S}/events/stream": (ALL, 200, None),
    "POST /v1/agents": (USERS, 400, {}),
    "GET /v1/agents/{agent_id}": (USERS, 404, None),
    "GET /v1/skills": (USERS, 200, None),
    f"GET {K}": (USERS, 404, None),
    f"DELETE {K}": (USERS, 404, None),
    f"GET {K}/versions": (ALL, 404, None),
    f"GET {K}/versions/{{version}}": (ALL, 404, None),
    f"GET {K}/versions/{{version}}/content": (ALL, 404, None),
    "POST /v1/memory_stores": (USERS, 400, {}),
    "GET /v1/memory_stores": (USERS, 200, None),
    f"GET {M}": (USERS, 404, None),
    f"POST {M}": (USERS, 404, {}),
    f"DELETE {M}": (USERS, 404, None),
    f"POST {M}/archive": (USERS, 404, None),
    f"POST {M}/memories": (ITEMS, 400, {}),
    f"GET {M}/memories": (ITEMS, 404, None),
    f"GET {M}/memories/{{memory_id}}": (ITEMS, 404, None),
    f"POST {M}/memories/{{memory_id}}": (ITEMS, 404, {}),
    f"DELETE {M}/memories/{{memory_id}}": (ITEMS, 404, None),
    f"DELETE {E}": (USERS, 409, None),
    f"POST {E}/archive": (USERS, 200, None),
    f"POST {W}/{{work_id}}/stop": (ALL, 200, {}),
    f"POST {S}/archive": (USERS, 200, None),
    f"DELETE {S}": (USERS, 200, None),
}
#: An id of each kind that nothing has.
ABSENT = "011CZkZ9X2dpNyB7HsEFoRfW"


@dataclass(frozen=True)
class Credential:
    """A token, and what makes it good: `form` 0 an API key, 1 an environment key, 2 a sessions token.

    `ends`: what it is told whatever it calls. `environment`, `work`, `session`: what it is for. `workspace`: whose it is.
    """

    token: str
    form: int = 0
    ends: str = ""
    environment: str = ""
    work: str = ""
    session: str = ""
    workspace: str = "mine"


@dataclass(frozen=True)
class Target:
    """What a path names, and whose that is."""

    environment: str
    work: str
    session: str
    workspace: str


def expected(route: str, credential: Credential | None, target: Target) -> str:
    """Return status and message that must come, or the status alone where the call may be made."""
    lanes, status, _ = ROUTES[route]
    if credential is None:
        return NONE
    own_item = credential.work == target.work and credential.environment == target.environment
    if credential.ends:
        return "412" if credential.work and own_item and route.endswith("/heartbeat") else credential.ends
    if lanes[credential.form]:
        return lanes[credential.form]
    by_environment, by_work, by_session = (f"{{{name}_id}}" in route for name in ("environment", "work", "session"))
    if credential.form:
        if by_environment and credential.environment != target.environment:
            return OTHER
        if credential.form == 2 and (
            (by_work and credential.work != target.work) or (by_session and credential.session != target.session)
        ):
            return OTHER
        if by_session and credential.environment != target.environment:
            return f"404 Session {target.session} not found."
    elif credential.workspace != target.workspace:
        if by_environment:
            return f"404 Environment {target.environment} not found."
        if by_session:
            return f"404 Session {target.session} not found."
    return str(status)


class Line:
    """A connection for many calls: a whole client library takes longer to make one than the server to answer."""

    def __init__(self, url: str) -> None:
        self._link = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def call(self, route: str, target: Target, headers: dict[str, str]) -> str:
        """Make a call; return status and, of an error, message. Of a stream only the head is read."""
        method, path = route.split(" ")
        path = path.format(
            environment_id=target.environment,
            work_id=target.work,
            session_id=target.session,
            agent_id="no-agent",
            version="latest",
            **{f"{name}_id": f"{name}_{ABSENT}" for name in ("skill", "memory_store", "memory")},
        )
        query = "?reclaim_older_than_ms=3600000" if path.endswith("/poll") else ""
        body = ROUTES[route][2]
        self._link.request(method, path + query, None if body is None else json.dumps(body), headers)
        answer = self._link.getresponse()
        if answer.status < 400 and path.endswith("/stream"):
            self.close()
            return str(answer.status)
        text = answer.read()
        if answer.status < 400:
            return str(answer.status)
        error = json.loads(text)
        message = error["error"]["message"]
        whole = {"type": "error", "error": {"type": ERROR_TYPES[answer.status], "message": message}}
        assert {**whole, "request_id": answer.headers["request-id"]} == error or answer.status == 412, error
        assert answer.headers["x-should-retry"] == "false"
        return f"{answer.status} {message}"

    def close(self) -> None:
        """Close it; the next call opens another."""
        self._link.close()


@pytest.fixture
def api(strict_server: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client of a strict server, in a workspace of its own, whose agents do nothing."""
    made = new_api(strict_server.url)
    made.script(SILENT)
    return made


@pytest.fixture
def other(strict_server: WorkyardServer, new_api: Callable[..., Api]) -> Api:
    """A client in another workspace."""
    return new_api(strict_server.url)


def taken(api: Api, poller: Api, queue: str) -> tuple[Target, str]:
    """Hand out the work of a new session; return it and its token."""
    made = session(api, queue)["id"]
    item = poller.poll(queue)
    return Target(queue, item["id"], made, "mine"), sessions_token(item)


def test_each_route_takes_the_credentials_of_its_lane_on_what_is_theirs(
    api: Api, other: Api, new_worker: Callable[[Api, str], Api]
) -> None:
    """Each route × credential × own, other, foreign, unknown and malformed target; revoked, dead and made-up ones; and of
    two headers `x-api-key` counts."""
    queue, second, foreign = api.queue(), api.queue(), other.queue()
    # One that is `active`, one that stays pending, and one that was queued again after it was handed out.
    holder = new_worker(api, queue)
    own, good = taken(api, holder, queue)
    sibling, siblings = taken(api, holder, queue)
    again, dead = taken(api, holder, queue)
    visitor = new_worker(api, second)
    elsewhere, _ = taken(api, visitor, second)
    visitor.ok(visitor.ack(second, elsewhere.work))
    theirs, _ = taken(other, new_worker(other, foreign), foreign)
    for each in (own, again):
        holder.ok(holder.ack(queue, each.work))
    holder.ok(holder.heartbeat(queue, own.work, "NO_HEARTBEAT"))
    holder.ok(holder.stop(queue, again.work, force=True))
    holder.ok(api.post(f"/v1/sessions/{again.session}/events", json={"events": [MESSAGE]}))
    # An acknowledged one is another life of it, which the first token is not of.
    assert holder.poll(queue)["id"] == again.work
    holder.ok(holder.ack(queue, again.work))
    key_id, revoked = issue(api, queue)
    api.ok(api.delete(f"/_emulator/environments/{queue}/keys/{key_id}"))
    unissued = f"sk-ant-oat01-{queue.removeprefix('env_')}-{'A' * 43}"

    credentials: dict[str, Credential | None] = {
        "none": None,
        "another's API key": Credential(other.api_key, workspace="theirs"),
        "key": Credential(holder.api_key, 1, environment=queue),
        "key of another environment": Credential(issue(api, second)[1], 1, environment=second),
        "revoked key": Credential(revoked, 1, REVOKED),
        "key never issued": Credential(unissued, 1, UNKNOWN),
        "key of no environment": Credential(NEVER_ISSUED, 1, UNKNOWN),
        "malformed key": Credential("sk-ant-oat01-", 1, UNKNOWN),
        "malformed token": Credential("sk-ant-req01-made", 2, UNKNOWN),
        "token": Credential(good, 2, "", queue, own.work, own.session),
        "token of another item": Credential(siblings, 2, "", queue, sibling.work, sibling.session),
        "token never issued": Credential(
            f"{good[: -len(good.rpartition('-')[2])]}{'A' * 43}", 2, REVOKED, queue, own.work, own.session
        ),
        "dead token": Credential(dead, 2, REVOKED, queue, again.work, again.session),
        "API key": Credential(api.api_key),
    }
    unknown = Target(f"env_{ABSENT}", f"work_{ABSENT}", f"session_{ABSENT}", "nobody's")
    targets = {
        "own": own,
        "other": elsewhere,
        "foreign": Target(theirs.environment, theirs.work, theirs.session, "theirs"),
        "unknown": unknown,
        "malformed": Target("env_", "work_", "session_", "nobody's"),
        "queued again": again,
    }
    pairs = [("API key", "key"), ("key", "API key"), ("revoked key", "token"), ("token", "key never issued")]
    wrong: list[str] = []
    cells = 0
    with closing(Line(api.url)) as line:

        def check(route: str, name: str, target: str, headers: dict[str, str]) -> None:
            nonlocal cells
            wanted = expected(route, credentials[name], targets[target])
            got = line.call(route, targets[target], headers)
            cells += 1
            if got != wanted and got.partition(" ")[0] != wanted:
                wrong.append(f"{route} | {name} | {target}: wanted {wanted}, got {got}")

        for place, route in enumerate(ROUTES):
            bearer, values = place % 2 == 0, {name: each.token for name, each in credentials.items() if each}
            for target in targets if "environment_id" in route or "session_id" in route else ["own"]:
                for name, one in credentials.items():
                    if one and one.ends and not one.work and target not in ("own", "unknown"):
                        continue  # What is told to these no target changes.
                    token = values.get(name, "")
                    written = {"authorization": f"Bearer {token}"} if bearer else {"x-api-key": token}
                    check(route, name, target, written if token else {})
            for first, behind in pairs:
                if route != f"DELETE {S}":
                    both = {"x-api-key": values[first], "authorization": f"Bearer {values[behind]}"}
                    check(route, first, "own", both)
    assert not wrong, "\n".join(wrong)
    assert cells > 900


def test_the_rule_of_a_refusal_is_that_of_the_credential(
    api: Api, new_api: Callable[..., Api], new_worker: Callable[[Api, str], Api]
) -> None:
    """A key is told of environments, a token of items."""
    queue, second = api.queue(), api.queue()
    holder = new_worker(api, queue)
    _, token = taken(api, holder, queue)
    sibling, _ = taken(api, holder, queue)
    worker = new_api(api.url, token, reset=False)
    for answer, rule in (
        (holder.get(holder.path(second, "poll")), "credentials.strict.other-environment"),
        (worker.ack(queue, sibling.work), "credentials.strict.other-item"),
        (worker.ack(second, sibling.work), "credentials.strict.other-item"),
    ):
        assert (answer.status_code, answer.headers["workyard-rule"]) == (403, rule)


def test_the_table_above_has_every_route_of_the_document(api: Api) -> None:
    """A new one has to be put into a lane, here and there."""
    paths = api.ok(api.get("/openapi.json"))["paths"]
    assert {f"{method.upper()} {path}" for path, item in paths.items() for method in item} == set(ROUTES)
