"""What every route keeps: routes, headers, forms, strict types, bodies, order of checks, pages, metadata.

Rules: `conventions.*`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from tests.support.harness import NOON, REQUEST_ID, Api, RedisServer, WorkyardServer, refused, running_server

JSON = {"content-type": "application/json"}
MIB = 1_048_576
ANY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SUFFIX = "01[1-9A-HJ-NP-Za-km-z]{22}"

#: Every route of the API. `{queue}` is a self-hosted environment, `{work}` a queued item of it.
ROUTES = [
    ("POST", "/v1/environments"),
    ("GET", "/v1/environments"),
    ("GET", "/v1/environments/{queue}"),
    ("POST", "/v1/environments/{queue}"),
    ("DELETE", "/v1/environments/{queue}"),
    ("POST", "/v1/environments/{queue}/archive"),
    ("GET", "/v1/environments/{queue}/work/poll"),
    ("GET", "/v1/environments/{queue}/work/stats"),
    ("GET", "/v1/environments/{queue}/work"),
    ("GET", "/v1/environments/{queue}/work/{work}"),
    ("POST", "/v1/environments/{queue}/work/{work}"),
    ("POST", "/v1/environments/{queue}/work/{work}/ack"),
    ("POST", "/v1/environments/{queue}/work/{work}/heartbeat"),
    ("POST", "/v1/environments/{queue}/work/{work}/stop"),
]
PATHS = list(dict.fromkeys(path for _, path in ROUTES))
TOO_DEEP = "Request body is nested deeper than 500 levels (--max-json-depth / WORKYARD_MAX_JSON_DEPTH)"
BODY_ROUTES = [
    "/v1/environments",
    "/v1/environments/{queue}",
    "/v1/environments/{queue}/work/{work}",
    "/v1/environments/{queue}/work/{work}/stop",
]
#: Ids of their form that name nothing.
NOBODY = {"queue": "env_011CZkZ9X2dpNyB7HsEFoRfW", "work": "work_011CZkZ9X2dpNyB7HsEFoRfW"}


@pytest.fixture
def ids(api: Api) -> dict[str, str]:
    """A queue with one queued item, as the paths of the tables name them."""
    queue = api.queue()
    return {"queue": queue, "work": api.enqueue(queue)[0]["id"]}


class World(NamedTuple):
    """Environments of each kind and items, for calls that are refused and so change nothing."""

    api: Api
    queue: str
    other: str
    cloud: str
    archived: str
    archived_cloud: str
    work: str
    acked: str

    def fill(self, template: str) -> str:
        """Put the ids into a path or a message."""
        return template.format(**self._asdict())


@pytest.fixture(scope="module")
def nobody(server: WorkyardServer) -> Iterator[Api]:
    """A client without a credential."""
    api = Api(server.url, "")
    yield api
    api.close()


@pytest.fixture(scope="module")
def world(asker: Api) -> World:
    """Two queues, one with a queued and an acknowledged item; a cloud environment; an archived one of each kind."""
    api = asker
    queue = api.queue()
    acked, queued = api.enqueue(queue, 2)
    api.ok(api.ack(queue, acked["id"]))
    cloud, archived_cloud = (api.environment(config={"type": "cloud"})["id"] for _ in range(2))
    archived = api.queue()
    for environment in (archived, archived_cloud):
        api.ok(api.post(f"/v1/environments/{environment}/archive"))
    return World(api, queue, api.queue(), cloud, archived, archived_cloud, queued["id"], acked["id"])


def name_of(route: tuple[str, str]) -> str:
    """Return a readable id for a route."""
    return " ".join(route)


def body_for(path: str, **members: Any) -> dict[str, Any]:
    """Return a body that is good for a body route but for *members*."""
    return {"name": "n", **members} if path == "/v1/environments" else members


# -- routes


@pytest.mark.parametrize("path", PATHS)
def test_a_trailing_slash_is_unknown_and_nothing_redirects(asker: Api, path: str) -> None:
    """`no redirects: a trailing slash … is 404`."""
    for method in ("GET", "POST", "DELETE"):
        refused(asker.request(method, path.format(**NOBODY) + "/"), 404, "Not found")


@pytest.mark.parametrize("path", PATHS)
def test_a_doubled_slash_is_unknown_wherever_it_stands(asker: Api, path: str) -> None:
    """`… or doubled slash is 404`."""
    filled = path.format(**NOBODY)
    for found in re.finditer("/", filled):
        doubled = filled[: found.start()] + "/" + filled[found.start() :]
        refused(asker.get(asker.url + doubled), 404, "Not found")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/nonsense",
        "/v2/environments",
        "/environments",
        "/V1/environments",
        "/v1/Environments",
        "/v1/environments/{queue}/nonsense",
        "/v1/environments/{queue}/archive/more",
        "/v1/environments/{queue}/Work",
        "/v1/environments/{queue}/work/{work}/nonsense",
        "/v1/environments/{queue}/work/{work}/ACK",
        "/v1/environments/{queue}/work/{work}/ack/more",
    ],
)
def test_an_unknown_path_is_404_whatever_the_method(asker: Api, path: str) -> None:
    """`404 | not_found_error | unknown path (Not found)`."""
    for method in ("GET", "POST", "DELETE", "PUT"):
        refused(asker.request(method, path.format(**NOBODY)), 404, "Not found")


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/environments", {"GET", "POST"}),
        ("/v1/environments/{queue}", {"GET", "POST", "DELETE"}),
        ("/v1/environments/{queue}/archive", {"POST"}),
        ("/v1/environments/{queue}/work", {"GET"}),
        ("/v1/environments/{queue}/work/{work}", {"GET", "POST"}),
        ("/v1/environments/{queue}/work/poll", {"GET"}),
        ("/v1/environments/{queue}/work/stats", {"GET"}),
        ("/v1/environments/{queue}/work/{work}/ack", {"POST"}),
        ("/v1/environments/{queue}/work/{work}/heartbeat", {"POST"}),
        ("/v1/environments/{queue}/work/{work}/stop", {"POST"}),
    ],
)
def test_another_method_is_405_and_allow_names_every_one_that_works(asker: Api, path: str, allow: set[str]) -> None:
    """``allow` on 405`; `405 | invalid_request_error | Method Not Allowed`."""
    for method in set(ANY_METHOD) - allow:
        response = asker.request(method, path.format(**NOBODY))
        assert {name.strip() for name in response.headers["allow"].split(",")} == allow
        if method == "HEAD":
            assert (response.status_code, response.content) == (405, b"")
            assert response.headers["x-should-retry"] == "false"
        else:
            refused(response, 405, "Method Not Allowed")


# -- headers out


def test_null_is_json_too(api: Api) -> None:
    """`content-type: application/json` (also for `null`)."""
    response = api.get(api.path(api.queue(), "poll"))
    assert (response.status_code, response.content) == (200, b"null")
    assert response.headers["content-type"] == "application/json"
    assert REQUEST_ID.fullmatch(response.headers["request-id"])


def test_every_response_has_an_id_of_its_own(asker: Api) -> None:
    """`request-id: req_` + 24 characters starting `01` on every response."""
    paths = ["/v1/environments", "/v1/nonsense", "/v1/environments/env_nonsense"] * 10
    ids = [asker.get(path).headers["request-id"] for path in paths]
    assert len(set(ids)) == 30
    assert all(REQUEST_ID.fullmatch(identifier) for identifier in ids)


class Call(NamedTuple):
    """One request; `{…}` in the path, and in the expected message, stand for the world's ids."""

    method: str
    path: str
    content: bytes | None = None
    params: dict[str, str] = {}  # noqa: RUF012
    headers: dict[str, str] = {}  # noqa: RUF012

    def send(self, world: World) -> httpx.Response:
        """Send it."""
        return world.api.request(
            self.method, world.fill(self.path), content=self.content, params=self.params, headers=self.headers
        )


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        pytest.param(Call("GET", "/v1/environments", params={"limit": "0"}), 400,
                     "limit: Input should be greater than or equal to 1", id="400"),
        pytest.param(Call("GET", "/v1/environments", headers={"x-api-key": ""}), 401,
                     "x-api-key header is required", id="401"),
        pytest.param(Call("GET", "/v1/nonsense"), 404, "Not found", id="404-path"),
        pytest.param(Call("GET", "/v1/environments/env_x"), 404, "Environment env_x not found.", id="404-environment"),
        pytest.param(Call("GET", "/v1/environments/{queue}/work/work_x"), 404, "Work item work_x not found.",
                     id="404-work"),
        pytest.param(Call("PUT", "/v1/environments"), 405, "Method Not Allowed", id="405"),
        pytest.param(Call("POST", "/v1/environments/{queue}/work/{acked}/ack"), 409,
                     "Work item {acked} must be in QUEUED state to acknowledge. Current state: starting.", id="409"),
        pytest.param(Call("DELETE", "/v1/environments/{queue}"), 409,
                     "Cannot delete self-hosted environment with work in the queue. Either archive the environment "
                     "first to allow the queue to drain, or use force=true to delete immediately.", id="409-delete"),
        pytest.param(Call("POST", "/v1/environments", b" " * (MIB + 1)), 413,
                     "Request body exceeds 1048576 bytes", id="413"),
    ],
)  # fmt: skip
def test_every_4xx_tells_the_sdks_not_to_repeat_it(world: World, call: Call, status: int, message: str) -> None:
    """`x-should-retry: false` on every 4xx that repeating cannot mend, 409 included; the body's id is the header's."""
    response = call.send(world)
    refused(response, status, world.fill(message))
    assert response.headers["x-should-retry"] == "false"


def test_412_tells_the_sdks_not_to_repeat_it_either(world: World) -> None:
    """The one refusal with details of its own; its text and details are in test_contract_work.py."""
    response = world.api.heartbeat(world.queue, world.work)
    assert response.status_code == 412
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["content-type"] == "application/json"
    assert response.json()["request_id"] == response.headers["request-id"]


# -- headers in


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_every_route_takes_anthropic_headers_beta_and_unknown_parameters_and_answers_in_form(
    api: Api, ids: dict[str, str], route: tuple[str, str]
) -> None:
    """Accepted and ignored (no other test sends them). The answer has its id, its type, and nothing of our own."""
    method, path = route
    if path.endswith("/heartbeat"):
        api.ok(api.ack(ids["queue"], ids["work"]))
    force = {"force": "1"} if method == "DELETE" else {}
    response = api.request(
        method,
        path.format(**ids),
        params={"beta": "true", "nonsense": "1", "limit[]": "x", **force},
        headers={
            "anthropic-version": "2023-06-01",
            "anthropic-beta": "managed-agents-2026-04-01, nonsense",
            "anthropic-workspace-id": "default",
        },
        content=json.dumps(body_for(path)) if method == "POST" else None,
    )
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert REQUEST_ID.fullmatch(response.headers["request-id"])
    ours = {name for name in response.headers if not name.startswith("workyard")}
    # What only browsers look at (docs/limits.md).
    for_browsers = {
        "x-content-type-options",
        "cache-control",
        "cross-origin-resource-policy",
        "content-security-policy",
    }
    assert ours == {"date", "content-length", "content-type", "request-id"} | for_browsers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("anthropic-version", ""),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-version", "nonsense"),
        ("anthropic-beta", ""),
        ("anthropic-beta", "managed-agents-2026-04-01"),
        ("anthropic-beta", "environments-2025-11-01,managed-agents-2026-04-01,,nonsense"),
        ("anthropic-workspace-id", ""),
        ("anthropic-workspace-id", "default"),
        ("anthropic-workspace-id", "wrkspc_01nonsense"),
        ("anthropic-workspace-id", "not even an id"),
    ],
)
def test_an_anthropic_header_may_hold_anything(world: World, name: str, value: str) -> None:
    """`never required, never refused`; the workspace stays the key's."""
    listed = world.api.ok(world.api.get("/v1/environments", headers={name: value}))
    assert [row["id"] for row in listed["data"]] == [world.other, world.cloud, world.queue]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("x-api-key", "{key}")], id="x-api-key"),
        pytest.param([("authorization", "Bearer {key}")], id="bearer"),
        pytest.param([("authorization", "bearer {key}")], id="bearer-in-lower-case"),
        pytest.param([("x-api-key", ""), ("authorization", "Bearer {key}")], id="empty-x-api-key"),
        pytest.param([("x-api-key", "{key}"), ("authorization", "")], id="empty-authorization"),
        pytest.param([("x-api-key", "{key}"), ("authorization", "Bearer")], id="empty-bearer"),
    ],
)
def test_the_credential_comes_in_either_header_and_an_empty_one_counts_as_absent(
    api: Api, new_api: Callable[..., Api], headers: list[tuple[str, str]]
) -> None:
    """``x-api-key` or `Authorization: Bearer``: the same value is the same caller."""
    queue = api.queue()
    anybody = new_api(api.url, "")
    found = anybody.get("/v1/environments", headers=[(name, value.format(key=api.api_key)) for name, value in headers])
    assert [row["id"] for row in api.ok(found)["data"]] == [queue]


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_without_a_credential_every_route_is_401(nobody: Api, route: tuple[str, str]) -> None:
    """`401 | authentication_error | no or unusable credential`."""
    method, path = route
    refused(nobody.request(method, path.format(**NOBODY)), 401, "x-api-key header is required")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"x-api-key": ""}, id="empty-x-api-key"),
        pytest.param({"authorization": ""}, id="empty-authorization"),
        pytest.param({"authorization": "Bearer"}, id="bearer-without-a-token"),
        pytest.param({"authorization": "Basic dXNlcjpwYXNz"}, id="another-scheme"),
        pytest.param({"x-api-key": "", "authorization": "Bearer"}, id="both-empty"),
        pytest.param({"anthropic-workspace-id": "default"}, id="a-workspace-only"),
    ],
)
def test_an_empty_or_unusable_credential_is_none(nobody: Api, headers: dict[str, str]) -> None:
    """`An empty header counts as absent`."""
    refused(nobody.get("/v1/environments", headers=headers), 401, "x-api-key header is required")


# -- forms


@pytest.mark.parametrize(
    ("instant", "rendered"),
    [
        ("2031-05-06T12:00:00Z", "2031-05-06T12:00:00.000000Z"),
        ("2031-05-06T12:00:00.5Z", "2031-05-06T12:00:00.500000Z"),
        ("2031-05-06T12:00:00.000001Z", "2031-05-06T12:00:00.000001Z"),
        ("2031-05-06T12:00:00.962294Z", "2031-05-06T12:00:00.962294Z"),
        ("2031-05-06T14:30:00.120000+02:30", "2031-05-06T12:00:00.120000Z"),
        ("2032-02-29T23:59:59.999999Z", "2032-02-29T23:59:59.999999Z"),
    ],
)
def test_a_timestamp_has_six_fractional_digits_and_a_z(api: Api, instant: str, rendered: str) -> None:
    """RFC 3339, UTC, six fractional digits, `Z`, always six; the same instant is the same text in every member."""
    api.freeze(instant)
    queue = api.queue()
    [item] = api.enqueue(queue)
    api.ok(api.ack(queue, item["id"]))
    api.ok(api.heartbeat(queue, item["id"]))
    work = api.ok(api.stop(queue, item["id"], force=True))
    environment = api.ok(api.post(f"/v1/environments/{queue}/archive"))
    found = {name: value for name, value in (work | environment).items() if name.endswith("_at")}
    assert found == dict.fromkeys(
        (
            "created_at", "acknowledged_at", "started_at", "latest_heartbeat_at", "stop_requested_at", "stopped_at",
            "updated_at", "archived_at",
        ),
        rendered,
    )  # fmt: skip


def test_ids_have_their_form_and_are_unique(api: Api) -> None:
    """`env_`, `work_`, `session_`, `req_` + `01` + 22 base58 characters."""
    environments = [api.queue() for _ in range(20)]
    items = api.enqueue(environments[0], 100)
    assert all(re.fullmatch(f"env_{SUFFIX}", id_) for id_ in environments)
    assert all(re.fullmatch(f"work_{SUFFIX}", item["id"]) for item in items)
    assert all(re.fullmatch(f"session_{SUFFIX}", item["data"]["id"]) for item in items)
    ids = {*environments, *(item["id"] for item in items), *(item["data"]["id"] for item in items)}
    assert len(ids) == 20 + 100 + 100


# -- types


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": 1}, "name: Input should be a valid string"),
        ({"name": True}, "name: Input should be a valid string"),
        ({"name": None}, "name: Input should be a valid string"),
        ({"name": ["n"]}, "name: Input should be a valid string"),
        ({"name": {}}, "name: Input should be a valid string"),
        ({"name": "n", "description": 1}, "description: Input should be a valid string"),
        ({"name": "n", "scope": 1}, "scope: Input should be 'organization' or 'account'"),
        ({"name": "n", "metadata": []}, "metadata: Input should be a valid dictionary"),
        ({"name": "n", "metadata": "a"}, "metadata: Input should be a valid dictionary"),
        ({"name": "n", "metadata": {"a": 1}}, "metadata.a: Input should be a valid string"),
        ({"name": "n", "metadata": {"a": True}}, "metadata.a: Input should be a valid string"),
        ({"name": "n", "metadata": {"a": None}}, "metadata.a: Input should be a valid string"),
        ({"name": "n", "metadata": {"a": {}}}, "metadata.a: Input should be a valid string"),
        ({"name": "n", "config": "cloud"}, "config: Input should be a valid dictionary or object to extract fields from"),
        ({"name": "n", "config": {"type": "cloud", "packages": []}},
         "config.packages: Input should be a valid dictionary or object to extract fields from"),
        ({"name": "n", "config": {"type": "cloud", "packages": {"apt": "curl"}}},
         "config.packages.apt: Input should be a valid list"),
        ({"name": "n", "config": {"type": "cloud", "packages": {"apt": {"0": "curl"}}}},
         "config.packages.apt: Input should be a valid list"),
        ({"name": "n", "config": {"type": "cloud", "packages": {"pip": ["a", 1]}}},
         "config.packages.pip.1: Input should be a valid string"),
        ({"name": "n", "config": {"type": "cloud", "networking": {"type": "limited", "allow_mcp_servers": 1}}},
         "config.networking.allow_mcp_servers: Input should be a valid boolean"),
        ({"name": "n", "config": {"type": "cloud", "networking": {"type": "limited", "allow_mcp_servers": "true"}}},
         "config.networking.allow_mcp_servers: Input should be a valid boolean"),
        ({"name": "n", "config": {"type": "cloud", "networking": {"type": "limited", "allow_package_managers": 0}}},
         "config.networking.allow_package_managers: Input should be a valid boolean"),
        ({"name": "n", "config": {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": "a.b"}}},
         "config.networking.allowed_hosts: Input should be a valid list"),
        ({"name": "n", "config": {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": [1]}}},
         "config.networking.allowed_hosts.0: Input should be a valid string"),
    ],
    ids=str,
)  # fmt: skip
def test_json_types_are_strict_on_create(asker: Api, body: dict[str, Any], message: str) -> None:
    """A string is not a number, 1 is not true."""
    refused(asker.post("/v1/environments", json=body), 400, message)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/stop", {"force": 1}, "force: Input should be a valid boolean"),
        ("/stop", {"force": 0}, "force: Input should be a valid boolean"),
        ("/stop", {"force": "true"}, "force: Input should be a valid boolean"),
        ("/stop", {"force": None}, "force: Input should be a valid boolean"),
        ("", {"metadata": []}, "metadata: Input should be a valid dictionary"),
        ("", {"metadata": {"a": 1}}, "metadata.a: Input should be a valid string"),
        ("", {"metadata": {"a": False, "b": []}},
         "metadata.a: Input should be a valid string; metadata.b: Input should be a valid string"),
    ],
    ids=str,
)  # fmt: skip
def test_json_types_are_strict_on_work(world: World, path: str, body: dict[str, Any], message: str) -> None:
    """The two work calls with a body."""
    api = world.api
    refused(api.post(api.path(world.queue, world.work) + path, json=body), 400, message)
    assert api.work(world.queue, world.work)["state"] == "queued"


NOT_AN_INTEGER = "Input should be a valid integer, unable to parse string as an integer"


@pytest.mark.parametrize("text", ["1", "01", "0001", "000000000000000000000000000000000000001"])
def test_a_query_integer_is_a_row_of_digits(api: Api, text: str) -> None:
    """Query integers match `-?[0-9]+`."""
    api.queue(), api.queue()
    assert len(api.ok(api.get("/v1/environments", params={"limit": text}))["data"]) == 1


@pytest.mark.parametrize("text", ["-1", "-0", "-007", "-" + "9" * 40])
def test_a_query_integer_may_be_negative(api: Api, ids: dict[str, str], text: str) -> None:
    """Where any integer is good, a negative one is."""
    path = "/v1/environments/{queue}/work/{work}".format(**ids)
    api.ok(api.post(f"{path}/ack"))
    response = api.post(f"{path}/heartbeat", params={"desired_ttl_seconds": text})
    assert api.ok(response)["ttl_seconds"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " 5",
        "5 ",
        "+5",
        "5.0",
        "5.",
        "1e2",
        "0x10",
        "1_0",
        "-",
        "--5",
        "5-",
        "true",
        "null",
        "five",
        "٥",
        "５",
        "²",
    ],
)
def test_a_query_integer_is_nothing_else(asker: Api, text: str) -> None:
    """No sign but minus, no point, no blank, no other digits than 0 to 9, not empty."""
    for method, path, name in (
        ("GET", "/v1/environments", "limit"),
        ("GET", "/v1/environments/{queue}/work", "limit"),
        ("GET", "/v1/environments/{queue}/work/poll", "block_ms"),
        ("GET", "/v1/environments/{queue}/work/poll", "reclaim_older_than_ms"),
        ("POST", "/v1/environments/{queue}/work/{work}/heartbeat", "desired_ttl_seconds"),
    ):
        response = asker.request(method, path.format(**NOBODY), params={name: text})
        refused(response, 400, f"{name}: {NOT_AN_INTEGER}")


@pytest.mark.parametrize(("text", "shown"), [("true", 2), ("1", 2), ("false", 1), ("0", 1)])
def test_a_query_boolean_is_one_of_four_texts(api: Api, text: str, shown: int) -> None:
    """Query booleans `true` `false` `1` `0`."""
    live, archived = api.queue(), api.queue()
    api.ok(api.post(f"/v1/environments/{archived}/archive"))
    listed = api.ok(api.get("/v1/environments", params={"include_archived": text}))["data"]
    assert [row["id"] for row in listed] == [archived, live][2 - shown :]


@pytest.mark.parametrize(
    "text", ["", "True", "TRUE", "False", "yes", "no", "on", "off", "t", "2", "01", "-1", " true", "null"]
)
def test_a_query_boolean_is_nothing_else(asker: Api, text: str) -> None:
    """Pydantic would take `yes`, `on`, `t`."""
    reason = "Input should be a valid boolean, unable to interpret input"
    refused(asker.get("/v1/environments", params={"include_archived": text}), 400, f"include_archived: {reason}")
    refused(asker.delete("/v1/environments/env_x", params={"force": text}), 400, f"force: {reason}")


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("limit=3&limit=1", 1),
        ("limit=1&limit=3", 3),
        ("limit=nonsense&limit=1", 1),
        ("limit=0&beta=true&limit=2", 2),
        ("include_archived=true&include_archived=0", 3),
        ("include_archived=nonsense&include_archived=1", 4),
        ("page=nonsense&limit=1&limit=4&include_archived=1", None),
        ("limit=1&limit=nonsense", None),
        ("include_archived=true&include_archived=", None),
    ],
)
def test_of_a_repeated_parameter_the_last_counts(api: Api, query: str, shown: int | None) -> None:
    """None: refused, for what the last one holds."""
    queues = [api.queue() for _ in range(4)]
    api.ok(api.post(f"/v1/environments/{queues[0]}/archive"))
    response = api.get(f"/v1/environments?{query}")
    if shown is None:
        assert response.status_code == 400
    else:
        assert len(api.ok(response)["data"]) == shown


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"name":"a","name":"b"}', {"name": "b"}),
        (b'{"name":1,"name":"b"}', {"name": "b"}),
        (b'{"name":"","metadata":{"k":"x"},"name":"b"}', {"name": "b", "metadata": {"k": "x"}}),
        (b'{"name":"n","metadata":{"k":"x","k":"y","l":"z"}}', {"metadata": {"k": "y", "l": "z"}}),
        (b'{"name":"n","metadata":{"k":"x"},"metadata":{"l":"y"}}', {"metadata": {"l": "y"}}),
        (b'{"name":"n","config":{"type":"cloud","type":"self_hosted"}}', {"config": {"type": "self_hosted"}}),
    ],
)
def test_of_a_repeated_json_key_the_last_counts(asker: Api, content: bytes, expected: dict[str, Any]) -> None:
    """At every depth, and the earlier one is not even looked at."""
    created = asker.ok(asker.post("/v1/environments", content=content, headers=JSON))
    assert {name: created[name] for name in expected} == expected


def test_a_repeated_json_key_whose_last_value_is_bad_is_refused(asker: Api) -> None:
    """The other way round."""
    refused(
        asker.post("/v1/environments", content=b'{"name":"a","name":1}', headers=JSON),
        400,
        "name: Input should be a valid string",
    )


# -- bodies


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON",
    ],
)
def test_a_missing_content_type_counts_as_json(api: Api, ids: dict[str, str], content_type: str | None) -> None:
    """`Missing content type counts as JSON`."""
    headers = {} if content_type is None else {"content-type": content_type}
    for path in BODY_ROUTES:
        api.ok(api.post(path.format(**ids), content=json.dumps(body_for(path)), headers=headers))


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b",
     "application/merge-patch+json", "application/jsonl", "application/xml", "json", "*/*"],
)  # fmt: skip
def test_another_content_type_is_refused(asker: Api, content_type: str) -> None:
    """Whatever the body is: here it would be a good one."""
    for path in BODY_ROUTES:
        content = json.dumps(body_for(path))
        response = asker.post(path.format(**NOBODY), content=content, headers={"content-type": content_type})
        refused(response, 400, "Content-Type must be application/json")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity"])
def test_any_content_encoding_is_refused(asker: Api, encoding: str) -> None:
    """Rule: `conventions.content-encoding`, which gives no text."""
    for path in BODY_ROUTES:
        content, headers = json.dumps(body_for(path)), JSON | {"content-encoding": encoding}
        response = asker.post(path.format(**NOBODY), content=content, headers=headers)
        assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"{", id="unfinished"),
        pytest.param(b"nonsense", id="a-word"),
        pytest.param(b"{'name':'n'}", id="single-quotes"),
        pytest.param(b'{"name":"n",}', id="trailing-comma"),
        pytest.param(b'{"name":"n"}{}', id="two-values"),
        pytest.param(b'{"name":"n"} // done', id="comment"),
        pytest.param(b'{"name":}', id="no-value"),
        pytest.param(b'{name:"n"}', id="bare-key"),
        pytest.param(b'{"name":"a\nb"}', id="raw-newline-in-a-string"),
        pytest.param(b'{"name":"a\x00b"}', id="raw-nul"),
        pytest.param(b'{"name":"\\x41"}', id="unknown-escape"),
        pytest.param(b'{"name":"\\ud8"}', id="short-escape"),
        pytest.param(b'{"name":NaN}', id="NaN"),
        pytest.param(b'{"name":"n","x":[Infinity]}', id="Infinity"),
        pytest.param(b'{"name":"n","x":{"y":-Infinity}}', id="minus-Infinity"),
        pytest.param(b'{"name":1e999}', id="number-beyond-every-float"),
        pytest.param(b'{"name":"n","x":[-1e999]}', id="number-below-every-float"),
        pytest.param(b'{"name":01}', id="leading-zero"),
        pytest.param(b'{"name":"\xff"}', id="not-utf-8"),
        pytest.param(b'{"name":"\xc3"}', id="half-a-character"),
        pytest.param(b'{"name":"\xed\xa0\x80"}', id="a-surrogate-as-utf-8"),
        pytest.param(b'{"name":"\xc0\x80"}', id="overlong-nul"),
        pytest.param('{"name":"n"}'.encode("utf-16"), id="utf-16"),
    ],
)
def test_a_malformed_body_is_refused(asker: Api, content: bytes) -> None:
    """`malformed → 400 Request body is not valid JSON`."""
    for path in (BODY_ROUTES[0], BODY_ROUTES[3]):
        response = asker.post(path.format(**NOBODY), content=content, headers=JSON)
        refused(response, 400, "Request body is not valid JSON")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"[" * 501 + b"]" * 501, id="501-arrays-deep"),
        pytest.param(b"[" * 100_000, id="100000-brackets-open"),
        pytest.param(b'{"x":' * 100_000 + b"1" + b"}" * 100_000, id="100000-objects-deep"),
        pytest.param(b"[" * 500_000 + b"]" * 500_000, id="500000-arrays-deep"),
    ],
)
def test_a_body_nested_beyond_reason_is_refused(asker: Api, content: bytes) -> None:
    """Whether it would be JSON or not: nobody reads on."""
    for path in (BODY_ROUTES[0], BODY_ROUTES[3]):
        response = asker.post(path.format(**NOBODY), content=content, headers=JSON)
        refused(response, 400, TOO_DEEP)


def test_the_server_goes_on_after_deep_nesting_of_any_depth(asker: Api) -> None:
    """Each depth has an answer of its own, and none is a 500."""
    for depth in (10, 100, 500, 900, 1_000, 2_000, 5_000, 20_000):
        content = b'{"name":"n","x":' + b"[" * depth + b'"\\u0041"' + b"]" * depth + b"}"
        response = asker.post("/v1/environments", content=content, headers=JSON)
        assert response.status_code == 400
        assert response.json()["error"]["message"] in (
            TOO_DEEP,
            "x: Extra inputs are not permitted",
        )


@pytest.mark.parametrize("content", [b"null", b"[]", b"[{}]", b'"name"', b"1", b"true", b" null "])
def test_a_body_that_is_not_an_object_is_refused(asker: Api, content: bytes) -> None:
    """`not an object → 400 Request body must be a JSON object`; null is none either."""
    for path in BODY_ROUTES:
        response = asker.post(path.format(**NOBODY), content=content, headers=JSON)
        refused(response, 400, "Request body must be a JSON object")


def chunks(content: bytes) -> Iterator[bytes]:
    """Cut a body into chunks; sent without a content length."""
    for start in range(0, len(content), 65_536):
        yield content[start : start + 65_536]


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_a_body_over_one_mebibyte_is_413(api: Api, ids: dict[str, str], chunked: bool) -> None:
    """`over 1 MiB → 413`, with or without a content length; 1 MiB itself is good."""
    for path in BODY_ROUTES:
        good = json.dumps(body_for(path)).encode()
        for size in (MIB, MIB + 1, 2 * MIB):
            body = good + b" " * (size - len(good))
            response = api.post(path.format(**ids), content=chunks(body) if chunked else body, headers=JSON)
            if size == MIB:
                api.ok(response)
            else:
                refused(response, 413, "Request body exceeds 1048576 bytes")


CANNOT = "String contains a character that cannot be stored"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(rb'{"name":"a\u0000"}', f"name: {CANNOT}", id="nul"),
        pytest.param(rb'{"name":"\ud800"}', f"name: {CANNOT}", id="lone-high-surrogate"),
        pytest.param(rb'{"name":"\uDFFF"}', f"name: {CANNOT}", id="lone-low-surrogate"),
        pytest.param(rb'{"name":"\ude00\ud83d"}', f"name: {CANNOT}", id="surrogates-the-wrong-way-round"),
        pytest.param(rb'{"name":"\ud83dx\ude00"}', f"name: {CANNOT}", id="surrogates-apart"),
        pytest.param(rb'{"name":"n","description":"\u0000"}', f"description: {CANNOT}", id="another-member"),
        pytest.param(rb'{"name":"n","metadata":{"a":"\u0000"}}', f"metadata.a: {CANNOT}", id="map-value"),
        pytest.param(rb'{"name":"n","metadata":{"a\u0000b":"c"}}', f"metadata.a\0b: {CANNOT}", id="map-key"),
        pytest.param(rb'{"name":"n","a\u0000":1}', f"a\0: {CANNOT}", id="unknown-key"),
        pytest.param(rb'{"name":"n","config":{"type":"cloud","packages":{"apt":["curl","\ud800"]}}}',
                     f"config.packages.apt.1: {CANNOT}", id="nested-list"),
        pytest.param(rb'{"name":"n","config":{"type":"cloud","networking":{"type":"limited","allowed_hosts":["\u0000"]}}}',
                     f"config.networking.allowed_hosts.0: {CANNOT}", id="host"),
        pytest.param(rb'{"name":"n","x":[[],[{"y":["\u0000"]}]]}', f"x.1.0.y.0: {CANNOT}", id="deep-in-an-unknown-key"),
        pytest.param(rb'{"name":"\u0000","description":"\ud800"}', f"name: {CANNOT}; description: {CANNOT}", id="two"),
    ],
)  # fmt: skip
def test_a_character_that_cannot_be_stored_is_refused_with_its_path(asker: Api, content: bytes, message: str) -> None:
    """U+0000 or a lone surrogate in any string: value, key, nested list."""
    refused(asker.post("/v1/environments", content=content, headers=JSON), 400, message)


def test_a_lone_surrogate_in_a_key_is_refused_although_its_path_cannot_be_written(asker: Api) -> None:
    """UTF-8 has no form for it; something stands in its place."""
    content = rb'{"name":"n","metadata":{"a\ud800b":"c"}}'
    response = asker.post("/v1/environments", content=content, headers=JSON)
    assert response.status_code == 400
    assert re.fullmatch(rf"metadata\.a.+b: {CANNOT}", response.json()["error"]["message"])


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("/v1/environments", rb'{"name":"\u0000"}', f"name: {CANNOT}"),
        ("/v1/environments/{queue}", rb'{"name":"\u0000"}', f"name: {CANNOT}"),
        ("/v1/environments/{queue}/work/{work}", rb'{"metadata":{"k":"\udc00"}}', f"metadata.k: {CANNOT}"),
        ("/v1/environments/{queue}/work/{work}", rb'{"metadata":{"\u0000":null}}', f"metadata.\0: {CANNOT}"),
        ("/v1/environments/{queue}/work/{work}/stop", rb'{"force":"\u0000"}', f"force: {CANNOT}"),
    ],
)
def test_every_body_route_refuses_such_a_character(asker: Api, path: str, content: bytes, message: str) -> None:
    """`in any string`."""
    refused(asker.post(path.format(**NOBODY), content=content, headers=JSON), 400, message)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\u0001\u001f\u007f\u0085", id="control-characters"),
        pytest.param("Grüße, 世界 … ‮", id="letters"),
        pytest.param("😀\U0010ffff", id="beyond-the-first-plane"),
        pytest.param("\ufffe\uffff\ufdd0", id="noncharacters"),
        pytest.param("\u2028\u2029\ufeff", id="separators"),
        pytest.param("e\u0301 \u00e9", id="not-normalised"),
        pytest.param(' "\\/{}[]', id="json"),
        pytest.param("  blank  ", id="blanks"),
    ],
)
@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "utf-8"])
def test_every_other_character_comes_back_as_it_was(asker: Api, text: str, escaped: bool) -> None:
    """Stored as given, in values and keys."""
    body = {"name": text, "description": text, "metadata": {text: text}}
    content = json.dumps(body, ensure_ascii=escaped).encode()
    created = asker.ok(asker.post("/v1/environments", content=content, headers=JSON))
    read = asker.ok(asker.get(f"/v1/environments/{created['id']}"))
    assert {name: read[name] for name in body} == {name: created[name] for name in body} == body


@pytest.mark.parametrize("key", ["extra", "id", "type", "Name", "force ", "workyard", "a.b", "ключ"])
def test_an_unknown_key_is_refused_by_name(asker: Api, key: str) -> None:
    """`400 <key>: Extra inputs are not permitted`, one problem each."""
    for path in BODY_ROUTES:
        response = asker.post(path.format(**NOBODY), json=body_for(path, **{key: None, "another": {}}))
        refused(response, 400, f"{key}: Extra inputs are not permitted; another: Extra inputs are not permitted")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "cloud", "x": 1}, "config.x: Extra inputs are not permitted"),
        ({"type": "cloud", "cloud": 1}, "config.cloud: Extra inputs are not permitted"),
        ({"type": "self_hosted", "self_hosted": 1}, "config.self_hosted: Extra inputs are not permitted"),
        ({"type": "cloud", "packages": {"x": []}}, "config.packages.x: Extra inputs are not permitted"),
        ({"type": "cloud", "networking": {"type": "unrestricted", "x": 1}},
         "config.networking.x: Extra inputs are not permitted"),
        ({"type": "cloud", "networking": {"type": "unrestricted", "allowed_hosts": []}},
         "config.networking.allowed_hosts: Extra inputs are not permitted"),
        ({"type": "cloud", "networking": {"type": "limited", "limited": 1}},
         "config.networking.limited: Extra inputs are not permitted"),
        ({"type": "self_hosted", "networking": None}, "config.networking: Extra inputs are not permitted"),
    ],
    ids=str,
)  # fmt: skip
def test_an_unknown_key_inside_is_named_by_its_path_as_written(
    asker: Api, config: dict[str, Any], message: str
) -> None:
    """Paths name keys as the client wrote them: no `body.` prefix, no union tag."""
    refused(asker.post("/v1/environments", json={"name": "n", "config": config}), 400, message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "name: Field required"),
        ({"name": ""}, "name: String should have at least 1 character"),
        ({"name": "n", "config": {"type": "bogus"}},
         "config: Input tag 'bogus' found using 'type' does not match any of the expected tags: 'cloud', 'self_hosted'"),
        ({"config": {"type": "cloud", "x": 1}, "y": 2},
         "name: Field required; config.x: Extra inputs are not permitted; y: Extra inputs are not permitted"),
    ],
    ids=str,
)  # fmt: skip
def test_validation_messages_are_pydantics_one_per_problem(asker: Api, body: dict[str, Any], message: str) -> None:
    """`<dotted path>: <reason>` joined by `; `."""
    refused(asker.post("/v1/environments", json=body), 400, message)


EMPTY_BODIES = [
    pytest.param(None, {}, id="none"),
    pytest.param(b"", {"content-type": "application/json", "content-length": "0"}, id="length-0-as-python-sends"),
    pytest.param(b"{}", JSON, id="object"),
    pytest.param(b" {\n} ", {}, id="object-with-blanks"),
]


@pytest.mark.parametrize(("content", "headers"), EMPTY_BODIES)
def test_an_empty_body_is_an_empty_object_where_all_is_optional(
    api: Api, content: bytes | None, headers: dict[str, str]
) -> None:
    """Stop, both updates."""
    api.freeze()
    environment = api.environment(name="n", description="d", metadata={"a": "b"})
    [item] = api.enqueue(environment["id"], metadata={"k": "v"})
    path = api.path(environment["id"], item["id"])
    assert api.ok(api.post(f"/v1/environments/{environment['id']}", content=content, headers=headers)) == environment
    assert api.ok(api.post(path, content=content, headers=headers)) == item
    stopped = api.ok(api.post(f"{path}/stop", content=content, headers=headers))
    assert stopped == item | {"state": "stopped", "stop_requested_at": NOON, "stopped_at": NOON}


def test_an_empty_body_is_malformed_where_a_field_is_required(asker: Api) -> None:
    """Create needs a name."""
    refused(asker.post("/v1/environments"), 400, "Request body is not valid JSON")
    refused(asker.post("/v1/environments", headers=JSON), 400, "Request body is not valid JSON")


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        *EMPTY_BODIES,
        pytest.param(b'{"force":true,"x":1}', JSON, id="unknown-keys"),
        pytest.param(b"{", JSON, id="malformed"),
        pytest.param(b"[]", JSON, id="not-an-object"),
        pytest.param(b"\xff\x00", JSON, id="not-text"),
        pytest.param(rb'{"a":"\u0000"}', JSON, id="nul"),
        pytest.param(b"hello", {"content-type": "text/plain"}, id="another-type"),
        pytest.param(b"hello", {"content-encoding": "gzip"}, id="encoded"),
        pytest.param(b"x" * (MIB + 1), JSON, id="too-large"),
    ],
)
def test_ack_heartbeat_and_archive_ignore_a_body(api: Api, content: bytes | None, headers: dict[str, str]) -> None:
    """`take no body and ignore one`: each does its work, and what it left unread does not disturb the next request."""
    queue = api.queue()
    [item] = api.enqueue(queue)
    path = api.path(queue, item["id"])
    assert api.ok(api.post(f"{path}/ack", content=content, headers=headers))["state"] == "starting"
    assert api.ok(api.post(f"{path}/heartbeat", content=content, headers=headers))["lease_extended"] is True
    archived = api.ok(api.post(f"/v1/environments/{queue}/archive", content=content, headers=headers))
    assert archived["archived_at"] is not None


# -- order of checks

TOO_LARGE = b"[" + b" " * MIB
NO_KEY = {"x-api-key": ""}
TEXT = {"content-type": "text/plain"}
UNKNOWN = "/v1/environments/env_x"


def content(**members: Any) -> bytes:
    """Return a JSON body."""
    return json.dumps(members).encode()


MANY = {f"k{n}": "v" for n in range(17)}
CLOSED = {"type": "cloud", "networking": {"type": "limited"}, "packages": {"apt": ["curl"]}}


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        # Path and method, then the credential.
        pytest.param(Call("GET", "/v1/nonsense", headers=NO_KEY), 404, "Not found", id="path-credential"),
        pytest.param(Call("PUT", "/v1/environments", headers=NO_KEY), 405, "Method Not Allowed", id="method-credential"),
        pytest.param(Call("PUT", UNKNOWN), 405, "Method Not Allowed", id="method-environment"),
        pytest.param(Call("PUT", "/v1/environments", TOO_LARGE), 405, "Method Not Allowed", id="method-size"),
        # The credential, then everything that is in the request.
        pytest.param(Call("POST", "/v1/environments", TOO_LARGE, headers=NO_KEY), 401,
                     "x-api-key header is required", id="credential-size"),
        pytest.param(Call("POST", "/v1/environments", b"{}", headers=NO_KEY | TEXT), 401,
                     "x-api-key header is required", id="credential-type"),
        pytest.param(Call("POST", "/v1/environments", b"{", headers=NO_KEY), 401,
                     "x-api-key header is required", id="credential-json"),
        pytest.param(Call("GET", "/v1/environments", params={"limit": "0"}, headers=NO_KEY), 401,
                     "x-api-key header is required", id="credential-query"),
        pytest.param(Call("GET", UNKNOWN, headers=NO_KEY), 401,
                     "x-api-key header is required", id="credential-environment"),
        # The body's size, its type, its JSON, then what it says.
        pytest.param(Call("POST", "/v1/environments", TOO_LARGE, headers=TEXT), 413,
                     "Request body exceeds 1048576 bytes", id="size-type"),
        pytest.param(Call("POST", "/v1/environments", TOO_LARGE), 413,
                     "Request body exceeds 1048576 bytes", id="size-json"),
        pytest.param(Call("POST", "/v1/environments", b"{", headers=TEXT), 400,
                     "Content-Type must be application/json", id="type-json"),
        pytest.param(Call("POST", "/v1/environments", b"[]", headers=TEXT), 400,
                     "Content-Type must be application/json", id="type-object"),
        pytest.param(Call("POST", "/v1/environments", rb'{"name":"\u0000","x":1}'), 400,
                     f"name: {CANNOT}", id="characters-validation"),
        pytest.param(Call("POST", UNKNOWN, TOO_LARGE), 413,
                     "Request body exceeds 1048576 bytes", id="size-environment"),
        pytest.param(Call("POST", UNKNOWN, b"{}", headers=TEXT), 400,
                     "Content-Type must be application/json", id="type-environment"),
        pytest.param(Call("POST", f"{UNKNOWN}/work/work_x/stop", b"{"), 400,
                     "Request body is not valid JSON", id="json-environment"),
        # Body and query validation, then the environment.
        pytest.param(Call("POST", UNKNOWN, content(name="")), 400,
                     "name: String should have at least 1 character", id="body-environment"),
        pytest.param(Call("POST", UNKNOWN, content(config={"type": "cloud", "networking": {"type": "limited",
                     "allowed_hosts": ["a b"]}})), 400,
                     "config.networking.allowed_hosts.0: Not a host name", id="host-environment"),
        pytest.param(Call("POST", f"{UNKNOWN}/work/work_x", content(metadata=1)), 400,
                     "metadata: Input should be a valid dictionary", id="body-environment-work"),
        pytest.param(Call("DELETE", UNKNOWN, params={"force": "x"}), 400,
                     "force: Input should be a valid boolean, unable to interpret input", id="query-environment-delete"),
        pytest.param(Call("GET", f"{UNKNOWN}/work", params={"limit": "0"}), 400,
                     "limit: Input should be greater than or equal to 1", id="query-environment-list"),
        pytest.param(Call("GET", f"{UNKNOWN}/work", params={"page": "x"}), 400,
                     "page: Invalid cursor", id="cursor-environment"),
        pytest.param(Call("GET", f"{UNKNOWN}/work/poll", params={"block_ms": "0"}), 400,
                     "block_ms: Input should be greater than or equal to 1", id="query-environment-poll"),
        pytest.param(Call("POST", f"{UNKNOWN}/work/work_x/heartbeat", params={"desired_ttl_seconds": "x"}), 400,
                     f"desired_ttl_seconds: {NOT_AN_INTEGER}", id="query-environment-heartbeat"),
        # … and then its kind, whether it is archived, the item.
        pytest.param(Call("GET", "/v1/environments/{cloud}/work/poll", params={"block_ms": "1000"}), 400,
                     "block_ms: Input should be less than or equal to 999", id="query-kind-poll"),
        pytest.param(Call("GET", "/v1/environments/{cloud}/work", params={"page": "x"}), 400,
                     "page: Invalid cursor", id="cursor-kind"),
        pytest.param(Call("GET", "/v1/environments/{archived_cloud}/work", params={"limit": "1001"}), 400,
                     "limit: Input should be less than or equal to 1000", id="query-archived-list"),
        pytest.param(Call("POST", "/v1/environments/{archived}", content(name="")), 400,
                     "name: String should have at least 1 character", id="body-archived"),
        pytest.param(Call("POST", "/v1/environments/{queue}/work/work_x", content(x=1)), 400,
                     "x: Extra inputs are not permitted", id="body-work"),
        pytest.param(Call("POST", "/v1/environments/{queue}/work/work_x/heartbeat",
                     params={"desired_ttl_seconds": ""}), 400,
                     f"desired_ttl_seconds: {NOT_AN_INTEGER}", id="query-work"),
        pytest.param(Call("POST", "/v1/environments/{queue}/work/{work}/heartbeat",
                     params={"desired_ttl_seconds": "x"}), 400,
                     f"desired_ttl_seconds: {NOT_AN_INTEGER}", id="query-state"),
        # The environment, its kind, whether it is archived, the item, its state.
        pytest.param(Call("POST", f"{UNKNOWN}/work/work_x/ack"), 404,
                     "Environment env_x not found.", id="environment-work"),
        pytest.param(Call("POST", UNKNOWN, content(metadata=MANY)), 404,
                     "Environment env_x not found.", id="environment-metadata"),
        pytest.param(Call("POST", UNKNOWN, content(config=CLOSED)), 404,
                     "Environment env_x not found.", id="environment-result"),
        pytest.param(Call("GET", "/v1/environments/{archived_cloud}/work/poll"), 400,
                     "Only BYOC and bridge environments support work polling. "
                     "Environment {archived_cloud} is anthropic_cloud.", id="kind-archived"),
        pytest.param(Call("POST", "/v1/environments/{other}/work/{acked}/ack"), 404,
                     "Work item {acked} not found.", id="work-state"),
        pytest.param(Call("POST", "/v1/environments/{queue}/work/work_x", content(metadata=MANY)), 404,
                     "Work item work_x not found.", id="work-metadata"),
    ],
)  # fmt: skip
def test_of_two_faults_the_first_check_answers(world: World, call: Call, status: int, message: str) -> None:
    """The ids name the two faults. Rule: `conventions.order`."""
    refused(call.send(world), status, world.fill(message))


@pytest.mark.parametrize(
    ("path", "body", "message", "code"),
    [
        pytest.param("/v1/environments/{archived}", {"config": {"type": "cloud"}},
                     "Environment {archived} is archived and cannot be updated.", "environment_archived",
                     id="archived-type-change"),
        pytest.param("/v1/environments/{archived_cloud}", {"config": CLOSED},
                     "Environment {archived_cloud} is archived and cannot be updated.", "environment_archived",
                     id="archived-result"),
        pytest.param("/v1/environments/{archived}", {"metadata": MANY},
                     "Environment {archived} is archived and cannot be updated.", "environment_archived",
                     id="archived-metadata"),
        pytest.param("/v1/environments/{queue}", {"config": CLOSED},
                     "Cannot change environment type from BYOC to Cloud", "invalid_config_type_change",
                     id="type-change-result"),
        pytest.param("/v1/environments/{cloud}", {"config": {"type": "self_hosted"}, "scope": "account"},
                     "Cannot change environment type from Cloud to BYOC", "invalid_config_type_change",
                     id="type-change-scope"),
        pytest.param("/v1/environments/{queue}", {"config": {"type": "cloud"}, "metadata": MANY},
                     "Cannot change environment type from BYOC to Cloud", "invalid_config_type_change",
                     id="type-change-metadata"),
    ],
)  # fmt: skip
def test_of_two_faults_of_an_update_the_first_check_answers(
    world: World, path: str, body: dict[str, Any], message: str, code: str
) -> None:
    """Archived (400) → type change → rules on the result (400); each with its code."""
    refused(world.api.post(world.fill(path), json=body), 400, world.fill(message), {"error_code": code})


# -- pages


class Listing:
    """One of the two lists under test, and how a row gets into it."""

    def __init__(self, api: Api, kind: str) -> None:
        self.api = api
        self._queue = api.queue() if kind == "work" else ""
        self.path = api.path(self._queue) if self._queue else "/v1/environments"

    def add(self, count: int = 1) -> list[str]:
        """Make rows; return their ids, oldest first."""
        if self._queue:
            return [item["id"] for item in self.api.enqueue(self._queue, count)] if count else []
        return [self.api.environment()["id"] for _ in range(count)]

    def page(self, **query: Any) -> tuple[list[str], str | None]:
        """Return the ids of a page and the cursor of the next one."""
        answer = self.api.ok(self.api.get(self.path, params=query))
        assert set(answer) == {"data", "next_page"}
        return [row["id"] for row in answer["data"]], answer["next_page"]

    def rest(self, cursor: str | None, **query: Any) -> list[str]:
        """Return every row from a cursor on."""
        rows: list[str] = []
        while cursor is not None:
            assert len(rows) < 1000
            found, cursor = self.page(page=cursor, **query)
            rows += found
        return rows


@pytest.fixture(scope="module", params=["environments", "work"])
def still(request: pytest.FixtureRequest, server: WorkyardServer) -> Iterator[Listing]:
    """Each list, with two rows, for calls that are refused."""
    listing = Listing(Api(server.url), request.param)
    listing.add(2)
    yield listing
    listing.api.reset()
    listing.api.close()


@pytest.fixture(params=["environments", "work"])
def listing(request: pytest.FixtureRequest, api: Api) -> Listing:
    """Each list."""
    return Listing(api, request.param)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("0", "limit: Input should be greater than or equal to 1"),
        ("-1", "limit: Input should be greater than or equal to 1"),
        ("-0", "limit: Input should be greater than or equal to 1"),
        ("-" + "9" * 40, "limit: Input should be greater than or equal to 1"),
        ("1001", "limit: Input should be less than or equal to 1000"),
        ("9" * 40, "limit: Input should be less than or equal to 1000"),
        ("", f"limit: {NOT_AN_INTEGER}"),
        ("ten", f"limit: {NOT_AN_INTEGER}"),
    ],
)
def test_limit_is_1_to_1000(still: Listing, limit: str, message: str) -> None:
    """`limit` 1–1000, else 400 `limit: …`."""
    refused(still.api.get(still.path, params={"limit": limit}), 400, message)


def test_limit_defaults_to_20_and_1000_is_good(listing: Listing) -> None:
    """`default 20`."""
    ids = listing.add(21)[::-1]
    rows, cursor = listing.page()
    assert rows == ids[:20]
    assert listing.page(page=cursor) == (ids[20:], None)
    assert listing.page(limit=1000) == (ids, None)


@pytest.mark.parametrize("limit", [1, 3, 7, 8])
def test_next_page_is_null_exactly_when_no_row_follows(listing: Listing, limit: int) -> None:
    """Seven rows, newest first, each once, whatever the size of a page."""
    ids = listing.add(7)[::-1]
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(8):
        rows, cursor = listing.page(limit=limit, **({} if cursor is None else {"page": cursor}))
        assert 1 <= len(rows) <= limit
        seen += rows
        assert (cursor is None) is (len(seen) == 7)
        if cursor is None:
            break
        assert len(rows) == limit
        assert cursor.startswith("page_")
    assert seen == ids


def test_an_empty_list_is_one_empty_page(listing: Listing) -> None:
    """No row, no cursor."""
    assert listing.page() == ([], None)
    assert listing.page(limit=1) == ([], None)


def test_rows_of_one_instant_are_in_creation_order(listing: Listing) -> None:
    """Newest first by creation sequence: under a frozen clock all have one date."""
    listing.api.freeze()
    ids = [id_ for _ in range(4) for id_ in listing.add()][::-1]
    rows, cursor = listing.page(limit=2)
    assert rows + listing.rest(cursor, limit=1) == ids


def test_rows_created_meanwhile_neither_repeat_nor_skip_others(listing: Listing) -> None:
    """A cursor is a position in its own list."""
    ids = listing.add(6)[::-1]
    rows, cursor = listing.page(limit=2)
    seen = list(rows)
    for _ in range(10):
        listing.add(3)
        if cursor is None:
            break
        rows, cursor = listing.page(limit=2, page=cursor)
        seen += rows
    assert seen == ids


def test_limit_may_change_between_pages(listing: Listing) -> None:
    """Every split of the list is the same list."""
    ids = listing.add(10)[::-1]
    seen, cursor = listing.page(limit=1)
    for limit in (4, 2, 1000):
        assert cursor is not None
        rows, cursor = listing.page(limit=limit, page=cursor)
        seen = seen + rows
    assert (seen, cursor) == (ids, None)


def test_a_cursor_may_be_used_again(listing: Listing) -> None:
    """It holds no state."""
    listing.add(5)
    _, cursor = listing.page(limit=2)
    assert listing.page(limit=2, page=cursor) == listing.page(limit=2, page=cursor)


def test_environments_deleted_meanwhile_neither_repeat_nor_skip_others(api: Api) -> None:
    """The row before the cursor, the row behind it, one further on."""
    listing = Listing(api, "environments")
    ids = listing.add(8)[::-1]
    rows, cursor = listing.page(limit=3)
    assert rows == ids[:3]
    for gone in (ids[0], ids[2], ids[3], ids[6]):
        api.ok(api.delete(f"/v1/environments/{gone}"))
    rows, cursor = listing.page(limit=2, page=cursor)
    assert rows == [ids[4], ids[5]]
    assert listing.page(page=cursor) == ([ids[7]], None)


def test_next_page_is_null_when_only_deleted_or_archived_rows_follow(api: Api) -> None:
    """`null exactly when no row follows`: a row that is not shown is none."""
    listing = Listing(api, "environments")
    ids = listing.add(6)[::-1]
    _, cursor = listing.page(limit=1)
    api.ok(api.delete(f"/v1/environments/{ids[4]}"))
    for hidden in (ids[3], ids[5]):
        api.ok(api.post(f"/v1/environments/{hidden}/archive"))
    assert listing.page(limit=2, page=cursor) == ([ids[1], ids[2]], None)
    for gone in (*ids[1:4], ids[5]):
        api.ok(api.delete(f"/v1/environments/{gone}"))
    assert listing.page(limit=2, page=cursor) == ([], None)
    assert listing.page(limit=1) == ([ids[0]], None)


def test_include_archived_may_change_between_pages(api: Api) -> None:
    """The position is the same in both views."""
    listing = Listing(api, "environments")
    ids = listing.add(8)[::-1]
    for hidden in (ids[1], ids[4], ids[5]):
        api.ok(api.post(f"/v1/environments/{hidden}/archive"))
    rows, cursor = listing.page(limit=2)
    assert rows == [ids[0], ids[2]]
    assert listing.rest(cursor, include_archived="true", limit=2) == ids[3:]
    rows, cursor = listing.page(limit=2, include_archived="true")
    assert rows == ids[:2]
    assert listing.rest(cursor, limit=2) == [ids[2], ids[3], ids[6], ids[7]]
    rows, cursor = listing.page(limit=5, include_archived="true")
    assert listing.rest(cursor) == ids[6:]


def test_an_environment_archived_meanwhile_is_left_out_and_no_other(api: Api) -> None:
    """Archiving takes a row away from the default view."""
    listing = Listing(api, "environments")
    ids = listing.add(6)[::-1]
    _, cursor = listing.page(limit=2)
    for hidden in (ids[1], ids[3]):
        api.ok(api.post(f"/v1/environments/{hidden}/archive"))
    assert listing.rest(cursor, limit=1) == [ids[2], ids[4], ids[5]]


def test_a_change_of_a_row_does_not_move_it(listing: Listing) -> None:
    """The order is that of creation, whatever happens to a row."""
    ids = listing.add(4)[::-1]
    _, cursor = listing.page(limit=1)
    for id_ in ids[1:3]:
        prefix = listing.path + "/" + id_
        listing.api.ok(listing.api.post(prefix, json={"metadata": {"k": "v"}}))
    assert listing.rest(cursor, limit=1) == ids[1:]


BAD_CURSORS = [
    pytest.param(lambda _: "", id="empty"),
    pytest.param(lambda _: "page_", id="prefix-only"),
    pytest.param(lambda _: "nonsense", id="a-word"),
    pytest.param(lambda _: "1", id="a-number"),
    pytest.param(lambda _: "page_MjAyNS0wNS0xNFQwMDowMDowMFo=", id="the-reference-example"),
    pytest.param(lambda _: "page_ÄÖÜ", id="not-ascii"),
    pytest.param(lambda _: "page_" + "A" * 24, id="zeros"),
    pytest.param(lambda _: "page_" + "A" * 10_000, id="long"),
    pytest.param(lambda cursor: cursor.removeprefix("page_"), id="without-prefix"),
    pytest.param(lambda cursor: "Page_" + cursor.removeprefix("page_"), id="another-prefix"),
    pytest.param(lambda cursor: "page_" + cursor, id="prefix-twice"),
    pytest.param(lambda cursor: cursor[:-1], id="cut"),
    pytest.param(lambda cursor: cursor + "A", id="longer"),
    pytest.param(lambda cursor: cursor + "=", id="padded"),
    pytest.param(lambda cursor: cursor + "\n", id="newline"),
    pytest.param(lambda cursor: " " + cursor, id="blank"),
    pytest.param(lambda cursor: cursor.swapcase(), id="case"),
    pytest.param(lambda cursor: cursor[:5] + cursor[:4:-1], id="backwards"),
]


@pytest.mark.parametrize("spoil", BAD_CURSORS)
def test_anything_that_is_no_cursor_is_refused(still: Listing, spoil: Callable[[str], str]) -> None:
    """`Anything else → 400 page: Invalid cursor`."""
    _, cursor = still.page(limit=1)
    assert cursor is not None
    refused(still.api.get(still.path, params={"page": spoil(cursor)}), 400, "page: Invalid cursor")


def test_a_cursor_with_any_character_changed_is_refused(listing: Listing) -> None:
    """Every second place in turn; and no second spelling of the same cursor is good."""
    listing.add(12)
    _, cursor = listing.page(limit=1)
    assert cursor is not None
    for place in range(0, len(cursor), 2):
        other = "A" if cursor[place] != "A" else "B"
        changed = cursor[:place] + other + cursor[place + 1 :]
        refused(listing.api.get(listing.path, params={"page": changed}), 400, "page: Invalid cursor")
    for _ in range(11):
        respelled = "page_" + cursor.removeprefix("page_").replace("-", "+").replace("_", "/")
        if respelled != cursor:
            refused(listing.api.get(listing.path, params={"page": respelled}), 400, "page: Invalid cursor")
        _, following = listing.page(limit=1, page=cursor)
        if following is None:
            break
        cursor = following


def test_a_cursor_of_another_list_is_refused(api: Api, new_api: Callable[..., Api]) -> None:
    """Of the other kind of list, of another environment, of another workspace."""
    environments, work, other = Listing(api, "environments"), Listing(api, "work"), Listing(api, "work")
    work.add(3), other.add(3)
    stranger = Listing(new_api(api.url), "environments")
    stranger.add(3)
    lists = (environments, work, other, stranger)
    cursors = [listing.page(limit=1)[1] for listing in lists]
    for here, listing in enumerate(lists):
        for there, cursor in enumerate(cursors):
            response = listing.api.get(listing.path, params={"page": cursor})
            if here == there:
                assert response.status_code == 200
            else:
                refused(response, 400, "page: Invalid cursor")


def test_a_cursor_of_a_deleted_list_does_not_fit_its_successor(api: Api) -> None:
    """Same name, another environment."""
    listing = Listing(api, "work")
    listing.add(2)
    _, cursor = listing.page(limit=1)
    api.ok(api.delete(listing.path.removesuffix("/work"), params={"force": "true"}))
    successor = Listing(api, "work")
    successor.add(2)
    refused(api.get(successor.path, params={"page": cursor}), 400, "page: Invalid cursor")


def test_a_cursor_holds_on_every_replica_and_after_a_restart(
    redis_backed: WorkyardServer, redis_server: RedisServer, new_api: Callable[..., Api]
) -> None:
    """The first page from one process, the rest from one that was started later."""
    here = new_api(redis_backed.url)
    environments, work = Listing(here, "environments"), Listing(here, "work")
    ids = environments.add(4)[::-1]
    items = work.add(5)[::-1]
    cursors = [listing.page(limit=2)[1] for listing in (environments, work)]
    with running_server("--redis-url", redis_server.url) as later:
        there = Api(later.url, here.api_key)
        environments.api = work.api = there
        assert environments.rest(cursors[0], limit=1)[:2] == ids[2:]
        assert work.rest(cursors[1], limit=1) == items[2:]
        there.close()


# -- metadata


class Holder:
    """Something with metadata, and the call that writes it."""

    def __init__(self, api: Api, path: str) -> None:
        self._api = api
        self._path = path

    def write(self, metadata: Any) -> httpx.Response:
        """Create with, or patch by, *metadata*."""
        return self._api.post(self._path, json=body_for(self._path, metadata=metadata))

    def stored(self) -> dict[str, str]:
        """Return what is on record."""
        found: dict[str, str] = self._api.ok(self._api.get(self._path))["metadata"]
        return found


@pytest.fixture
def patched(api: Api, ids: dict[str, str]) -> list[Holder]:
    """An environment and an item, without metadata yet: both calls patch."""
    return [Holder(api, path.format(**ids)) for path in BODY_ROUTES[1:3]]


@pytest.fixture
def created(api: Api) -> Holder:
    """The call that creates an environment."""
    return Holder(api, "/v1/environments")


def pairs(count: int, prefix: str = "k") -> dict[str, str]:
    """Return that many pairs."""
    return {f"{prefix}{n}": "v" for n in range(count)}


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({}, id="none"),
        pytest.param(pairs(16), id="16-keys"),
        pytest.param({"k": "v"}, id="a-key-of-1"),
        pytest.param({"k" * 64: "v"}, id="a-key-of-64"),
        pytest.param({"😀" * 64: "v"}, id="a-key-of-64-code-points"),
        pytest.param({"k": "v" * 512}, id="a-value-of-512"),
        pytest.param({"k": "😀" * 512}, id="a-value-of-512-code-points"),
        pytest.param({"a.b": "1", " ": "2", "%s": "3", "m:k": "4", "state": "5", "__proto__": "6"}, id="odd-keys"),
        pytest.param({f"{n:064}": "😀" * 512 for n in range(16)}, id="all-caps-at-once"),
    ],
)
def test_metadata_within_the_caps_is_stored_as_given(
    created: Holder, patched: list[Holder], metadata: dict[str, str]
) -> None:
    """≤ 16 keys, key 1–64, value ≤ 512 code points."""
    for holder in (created, *patched):
        response = holder.write(metadata)
        assert (response.status_code, response.json()["metadata"]) == (200, metadata)
    for holder in patched:
        assert holder.stored() == metadata


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        pytest.param(pairs(17), "metadata: too many keys (17 > 16)", id="17-keys"),
        pytest.param(pairs(1000), "metadata: too many keys (1000 > 16)", id="1000-keys"),
        pytest.param({"k" * 65: "v"}, f"metadata: key '{'k' * 65}' is longer than 64 characters", id="a-key-of-65"),
        pytest.param({"😀" * 65: "v"}, f"metadata: key '{'😀' * 65}' is longer than 64 characters",
                     id="a-key-of-65-code-points"),
        pytest.param({"k": "v" * 513}, "metadata: value of 'k' is longer than 512 characters", id="a-value-of-513"),
        pytest.param({"k": "😀" * 513}, "metadata: value of 'k' is longer than 512 characters",
                     id="a-value-of-513-code-points"),
        pytest.param({"": "v"}, "metadata: key must not be empty", id="an-empty-key"),
        pytest.param({"": "v" * 513},
                     "metadata: key must not be empty; value of '' is longer than 512 characters", id="both-in-one"),
        pytest.param({"k" * 65: "v", "b": "v" * 513, "": "v"},
                     f"metadata: key '{'k' * 65}' is longer than 64 characters; "
                     "value of 'b' is longer than 512 characters; key must not be empty", id="three"),
        pytest.param(pairs(15) | {"k" * 65: "v", "b": "v" * 513, "": "v"},
                     f"metadata: too many keys (18 > 16); key '{'k' * 65}' is longer than 64 characters; "
                     "value of 'b' is longer than 512 characters; key must not be empty", id="all"),
    ],
)  # fmt: skip
def test_metadata_beyond_the_caps_is_refused_with_every_problem(
    created: Holder, patched: list[Holder], metadata: dict[str, str], message: str
) -> None:
    """`metadata: ` + every problem joined by `; `, code `invalid_metadata`; nothing is stored."""
    for holder in (created, *patched):
        refused(holder.write(metadata), 400, message, {"error_code": "invalid_metadata"})
    assert [holder.stored() for holder in patched] == [{}, {}]


@pytest.mark.parametrize("which", [0, 1], ids=["environment", "work"])
def test_the_caps_judge_the_result_of_a_patch(patched: list[Holder], which: int) -> None:
    """Sixteen are kept: one more is one too many, one for another is not, and a deletion needs no room."""
    holder = patched[which]
    assert holder.write(pairs(16)).status_code == 200
    for patch, count in (
        ({"x": "v"}, 17),
        (pairs(16, "x"), 32),
        ({"k0": None, "x": "v", "y": "v"}, 17),
    ):
        message = f"metadata: too many keys ({count} > 16)"
        refused(holder.write(patch), 400, message, {"error_code": "invalid_metadata"})
    assert holder.stored() == pairs(16)
    assert holder.write({"k0": "w"}).status_code == 200
    assert holder.write({"x": "v", "k1": None}).status_code == 200
    assert holder.write(dict.fromkeys(pairs(100, "absent"))).status_code == 200
    expected = pairs(16) | {"k0": "w", "x": "v"}
    del expected["k1"]
    assert holder.stored() == expected


def test_a_key_that_is_only_deleted_is_not_judged(patched: list[Holder]) -> None:
    """It is not in the result."""
    for holder in patched:
        response = holder.write({"k" * 65: None, "": None})
        assert (response.status_code, response.json()["metadata"]) == (200, {})


@pytest.mark.parametrize("value", [1, 1.5, True, [], {}])
def test_a_value_that_is_no_string_is_an_ordinary_validation_error(asker: Api, value: Any) -> None:
    """`metadata.a: Input should be a valid string`, without a code, even if caps are broken too."""
    for path in BODY_ROUTES[:3]:
        holder = Holder(asker, path.format(**NOBODY))
        refused(holder.write({"a": value}), 400, "metadata.a: Input should be a valid string")
        refused(holder.write(pairs(17) | {"a": value}), 400, "metadata.a: Input should be a valid string")


def test_a_null_map_equals_an_omitted_one(created: Holder, patched: list[Holder]) -> None:
    """At creation: none. In a patch: no change."""
    assert created.write(None).json()["metadata"] == {}
    for holder in patched:
        assert holder.write({"a": "b"}).status_code == 200
        response = holder.write(None)
        assert (response.status_code, response.json()["metadata"]) == (200, {"a": "b"})


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (pairs(17), "metadata: too many keys (17 > 16)"),
        ({"": "v"}, "metadata: key must not be empty"),
        ({"k": "v" * 513}, "metadata: value of 'k' is longer than 512 characters"),
    ],
    ids=["17-keys", "an-empty-key", "a-value-of-513"],
)
def test_enqueue_keeps_the_same_caps(api: Api, metadata: dict[str, str], message: str) -> None:
    """`environments and work`: however the work was made."""
    queue = api.queue()
    response = api.post(f"/_emulator/environments/{queue}/work", json={"metadata": metadata})
    refused(response, 400, message, {"error_code": "invalid_metadata"})
    assert api.stats(queue)["depth"] == 0
