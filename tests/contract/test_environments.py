"""Environments, call by call: what is given, what is stored, what is refused. Rules: `environments.*`."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.harness import NOON, Api, RedisServer, WorkyardServer, after, refused

PACKAGES: dict[str, Any] = {
    "type": "packages", "apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": [],
}  # fmt: skip
OPEN = {"type": "unrestricted"}
LIMITED: dict[str, Any] = {
    "type": "limited", "allow_mcp_servers": False, "allow_package_managers": False, "allowed_hosts": [],
}  # fmt: skip
SELF_HOSTED = {"type": "self_hosted"}
MANAGERS = ("apt", "cargo", "gem", "go", "npm", "pip")
CLOSED_NETWORK = (
    "config.packages: Packages under limited networking require networking.allow_package_managers to be true"
)
ACCOUNT = "scope: 'account' is only available for self-hosted environments"
UNKNOWN = "env_011CZkZ9X2dpNyB7HsEFoRfW"
#: Every route below an environment.
ROUTES = [
    ("GET", ""),
    ("POST", ""),
    ("DELETE", ""),
    ("POST", "/archive"),
    ("GET", "/work/poll"),
    ("GET", "/work/stats"),
    ("GET", "/work"),
    ("GET", "/work/{work}"),
    ("POST", "/work/{work}"),
    ("POST", "/work/{work}/ack"),
    ("POST", "/work/{work}/heartbeat"),
    ("POST", "/work/{work}/stop"),
]


def cloud(networking: Any = OPEN, **packages: Any) -> dict[str, Any]:
    """Return a cloud configuration as it is stored."""
    return {"type": "cloud", "networking": networking, "packages": PACKAGES | packages}


def limited(**fields: Any) -> dict[str, Any]:
    """Return a limited network as it is stored."""
    return LIMITED | fields


def given(networking: Any = None, **packages: Any) -> dict[str, Any]:
    """Return a cloud configuration as a client may give it, with only these parts."""
    parts = {"networking": networking, "packages": packages}
    return {"type": "cloud"} | {name: part for name, part in parts.items() if part}


def path(environment: str) -> str:
    """Return an environment's path."""
    return f"/v1/environments/{environment}"


def read(api: Api, environment: str) -> dict[str, Any]:
    """Read an environment."""
    found: dict[str, Any] = api.ok(api.get(path(environment)))
    return found


def listed(api: Api, **query: Any) -> list[str]:
    """Return the ids of the list's first page."""
    return [row["id"] for row in api.ok(api.get("/v1/environments", params=query))["data"]]


@pytest.fixture(scope="module")
def frozen(server: WorkyardServer) -> Iterator[Api]:
    """A client under a frozen clock, for tests that look at one new environment each."""
    api = Api(server.url)
    api.freeze()
    yield api
    api.reset()
    api.close()


# -- create


@pytest.mark.parametrize(
    ("config", "stored"), [(None, cloud()), (SELF_HOSTED, SELF_HOSTED)], ids=["cloud", "self_hosted"]
)
def test_an_environment_has_all_members_from_the_start(
    api: Api, config: dict[str, Any] | None, stored: dict[str, Any]
) -> None:
    """`Object (all members always present)`, and no other; create, get and list show the same."""
    api.freeze()
    created = api.ok(api.post("/v1/environments", json={"name": "n", "config": config}))
    assert created == {
        "id": created["id"],
        "type": "environment",
        "name": "n",
        "description": "",
        "config": stored,
        "metadata": {},
        "scope": "organization",
        "created_at": NOON,
        "updated_at": NOON,
        "archived_at": None,
    }
    assert re.fullmatch("env_01[1-9A-HJ-NP-Za-km-z]{22}", created["id"])
    assert read(api, created["id"]) == created
    assert api.ok(api.get("/v1/environments")) == {"data": [created], "next_page": None}


CREATED = [
    pytest.param({}, {"config": cloud()}, id="config-omitted"),
    pytest.param({"config": None}, {"config": cloud()}, id="config-null"),
    pytest.param({"config": {"type": "cloud"}}, {"config": cloud()}, id="cloud-bare"),
    pytest.param({"config": {"type": "cloud", "networking": None, "packages": None}}, {"config": cloud()},
                 id="cloud-null-parts"),
    pytest.param({"config": given(OPEN)}, {"config": cloud()}, id="unrestricted"),
    pytest.param({"config": {"type": "cloud", "packages": {}}}, {"config": cloud()}, id="packages-empty"),
    pytest.param({"config": given(type="packages")}, {"config": cloud()}, id="packages-typed"),
    pytest.param({"config": given(type=None)}, {"config": cloud()}, id="packages-type-null"),
    pytest.param({"config": given(**dict.fromkeys(MANAGERS))}, {"config": cloud()}, id="package-lists-null"),
    pytest.param({"config": given(apt=["b", "a", "b"], pip=["x==1.0", ""])},
                 {"config": cloud(apt=["b", "a", "b"], pip=["x==1.0", ""])}, id="packages-as-given"),
    pytest.param({"config": given(**{name: [name] for name in MANAGERS})},
                 {"config": cloud(**{name: [name] for name in MANAGERS})}, id="all-six-managers"),
    pytest.param({"config": given({"type": "limited"})}, {"config": cloud(LIMITED)}, id="limited-bare"),
    pytest.param({"config": given({"type": "limited", "allow_mcp_servers": None, "allow_package_managers": None,
                                   "allowed_hosts": None})},
                 {"config": cloud(LIMITED)}, id="limited-null-parts"),
    pytest.param({"config": given({"type": "limited", "allow_mcp_servers": True})},
                 {"config": cloud(limited(allow_mcp_servers=True))}, id="limited-mcp"),
    pytest.param({"config": given({"type": "limited", "allow_package_managers": True}, npm=["x"])},
                 {"config": cloud(limited(allow_package_managers=True), npm=["x"])}, id="limited-with-packages"),
    pytest.param({"config": given({"type": "limited"}, npm=[])}, {"config": cloud(LIMITED)},
                 id="limited-with-an-empty-list"),
    pytest.param({"config": given({"type": "limited", "allowed_hosts": ["b.example", "*.A.example", "b.example"]})},
                 {"config": cloud(limited(allowed_hosts=["b.example", "*.A.example", "b.example"]))},
                 id="hosts-as-given"),
    pytest.param({"config": SELF_HOSTED}, {"config": SELF_HOSTED}, id="self-hosted"),
    pytest.param({"name": "x"}, {"name": "x"}, id="name-of-1"),
    pytest.param({"name": "x" * 256}, {"name": "x" * 256}, id="name-of-256"),
    pytest.param({"name": "😀" * 256}, {"name": "😀" * 256}, id="name-of-256-code-points"),
    pytest.param({"name": " "}, {"name": " "}, id="name-blank"),
    pytest.param({"description": None}, {"description": ""}, id="description-null"),
    pytest.param({"description": ""}, {"description": ""}, id="description-empty"),
    pytest.param({"description": "d" * 1024}, {"description": "d" * 1024}, id="description-of-1024"),
    pytest.param({"scope": None}, {"scope": "organization"}, id="scope-null"),
    pytest.param({"scope": "organization"}, {"scope": "organization"}, id="scope-organization"),
    pytest.param({"scope": "account", "config": SELF_HOSTED}, {"scope": "account"}, id="scope-account"),
    pytest.param({"metadata": None}, {"metadata": {}}, id="metadata-null"),
    pytest.param({"metadata": {"b": "1", "a": ""}}, {"metadata": {"b": "1", "a": ""}}, id="metadata-as-given"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "shown"), CREATED)
def test_create_stores_what_is_given_and_defaults_for_the_rest(
    api: Api, body: dict[str, Any], shown: dict[str, Any]
) -> None:
    """Left: members of the body beside a name. Right: members of the environment."""
    created = api.ok(api.post("/v1/environments", json={"name": "n", **body}))
    assert {name: created[name] for name in shown} == shown
    assert read(api, created["id"]) == created


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"name": ...}, "name: Field required", id="no-name"),
        pytest.param({"name": ""}, "name: String should have at least 1 character", id="name-empty"),
        pytest.param({"name": "x" * 257}, "name: String should have at most 256 characters", id="name-of-257"),
        pytest.param({"description": "d" * 1025}, "description: String should have at most 1024 characters",
                     id="description-of-1025"),
        pytest.param({"scope": "workspace"}, "scope: Input should be 'organization' or 'account'", id="scope-unknown"),
        pytest.param({"scope": ""}, "scope: Input should be 'organization' or 'account'", id="scope-empty"),
        pytest.param({"scope": "account"}, ACCOUNT, id="account-config-omitted"),
        pytest.param({"scope": "account", "config": None}, ACCOUNT, id="account-config-null"),
        pytest.param({"scope": "account", "config": {"type": "cloud"}}, ACCOUNT, id="account-cloud"),
        pytest.param({"config": {}}, "config: Unable to extract tag using discriminator 'type'", id="config-no-type"),
        pytest.param({"config": {"type": "bogus"}},
                     "config: Input tag 'bogus' found using 'type' does not match any of the expected tags: "
                     "'cloud', 'self_hosted'", id="config-bogus"),
        pytest.param({"config": {"type": "bridge"}},
                     "config: Input tag 'bridge' found using 'type' does not match any of the expected tags: "
                     "'cloud', 'self_hosted'", id="config-bridge"),
        pytest.param({"config": SELF_HOSTED | {"networking": OPEN, "packages": {}}},
                     "config.networking: Extra inputs are not permitted; config.packages: Extra inputs are not permitted",
                     id="self-hosted-with-parts"),
        pytest.param({"config": given({"x": 1})},
                     "config.networking: Unable to extract tag using discriminator 'type'", id="networking-no-type"),
        pytest.param({"config": given({"type": "none"})},
                     "config.networking: Input tag 'none' found using 'type' does not match any of the expected tags: "
                     "'unrestricted', 'limited'", id="networking-unknown"),
        pytest.param({"config": given(type="list")}, "config.packages.type: Input should be 'packages'",
                     id="packages-type"),
        *(pytest.param({"config": given({"type": "limited"}, **{name: ["x"]})}, CLOSED_NETWORK, id=f"closed-{name}")
          for name in MANAGERS),
        pytest.param({"config": given({"type": "limited", "allow_package_managers": False}, pip=["x"])},
                     CLOSED_NETWORK, id="closed-false"),
        pytest.param({"config": given({"type": "limited", "allow_package_managers": None}, pip=["x"])},
                     CLOSED_NETWORK, id="closed-null"),
        pytest.param({"config": given({"type": "limited", "allowed_hosts": ["example.org"], "allow_mcp_servers": True},
                                      pip=["x"])}, CLOSED_NETWORK, id="closed-but-for-hosts"),
    ],
)  # fmt: skip
def test_create_refuses(asker: Api, body: dict[str, Any], message: str) -> None:
    """Each with its text; nothing is created. `...` stands for a member left out."""
    members = {name: value for name, value in {"name": "n", **body}.items() if value is not ...}
    refused(asker.post("/v1/environments", json=members), 400, message)
    assert listed(asker) == []


def test_create_names_both_broken_rules_of_the_result(api: Api) -> None:
    """One problem each, joined by `; `."""
    body = {"name": "n", "scope": "account", "config": given({"type": "limited"}, pip=["x"])}
    response = api.post("/v1/environments", json=body)
    assert response.status_code == 400
    assert set(response.json()["error"]["message"].split("; ")) == {CLOSED_NETWORK, ACCOUNT}


def test_a_host_name_is_stored_as_given(api: Api) -> None:
    """Optional `*.` + dot-separated labels of letters, digits, inner hyphens, ≤ 253, or an IPv4 address."""
    hosts = [
        "example.com", "*.example.com", "localhost", "a", "0", "a.b.c.d.e", "EXAMPLE.Com", "a-b.c-d", "a--b.example",
        "xn--bcher-kva.example", "127.0.0.1", "8.8.8.8", "3com.example", "*.localhost", "a." * 126 + "a", "example.com",
    ]  # fmt: skip
    config = given({"type": "limited", "allowed_hosts": hosts})
    created = api.ok(api.post("/v1/environments", json={"name": "n", "config": config}))
    assert created["config"]["networking"]["allowed_hosts"] == hosts


@pytest.mark.parametrize(
    "host",
    [
        "", " ", "*", "*.", "*.*.com", "a.*.com", "*a.com", "**.com", ".example.com", "example.com.", "a..b", "-a.com",
        "a-.com", "a.-b", "a_b.com", "a b.com", " a.com", "a.com ", "a.com\n", "https://a.com", "a.com/", "a.com/path",
        "a.com:443", "user@a.com", "[::1]", "::1", "bücher.example", "１.example", "a.com,b.com", "a." * 126 + "ab",
    ],
)  # fmt: skip
def test_what_is_no_host_name_is_refused_with_its_place(asker: Api, host: str) -> None:
    """400 `config.networking.allowed_hosts.<i>: Not a host name`, one per problem."""
    config = given({"type": "limited", "allowed_hosts": ["a.example", host, "b.example", host]})
    message = "; ".join(f"config.networking.allowed_hosts.{i}: Not a host name" for i in (1, 3))
    refused(asker.post("/v1/environments", json={"name": "n", "config": config}), 400, message)


def test_names_need_not_be_unique(api: Api) -> None:
    """Two of one name are two environments."""
    ids = [api.environment(name="same")["id"] for _ in range(2)]
    assert listed(api) == ids[::-1]
    assert ids[0] != ids[1]


def test_scope_does_not_change_who_sees_an_environment(api: Api, new_api: Callable[..., Api]) -> None:
    """One for the account is listed for its API key, and for a worker below it, like any other."""
    made = api.environment(scope="account", config=SELF_HOSTED)
    assert listed(api) == [made["id"]]
    worker = new_api(api.url, "any worker", reset=False)
    assert read(worker, made["id"]) == read(api, made["id"]) == made


# -- get, and what is not there


@pytest.mark.parametrize("config", [{"type": "cloud"}, SELF_HOSTED], ids=["cloud", "self_hosted"])
def test_get_shows_archived_ones_too(api: Api, config: dict[str, Any]) -> None:
    """`archived ones too`."""
    created = api.environment(config=config)
    archived = api.ok(api.post(path(created["id"]) + "/archive"))
    assert read(api, created["id"]) == archived


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param(UNKNOWN, id="unknown"),
        pytest.param("env_x", id="short"),
        pytest.param("env_", id="prefix-only"),
        pytest.param("env_01" + "x" * 300, id="long"),
        pytest.param("env_011CZkZ9X2dpNyB7HsEFoRf!", id="not-base58"),
        pytest.param("env_{x}", id="braces"),
        pytest.param("env_é", id="not-ascii"),
        pytest.param("env_a b", id="a-blank"),
        pytest.param("work_011CZkZ9X2dpNyB7HsEFoRfW", id="a-work-id"),
        pytest.param("nonsense", id="a-word"),
        pytest.param("default", id="default"),
        pytest.param("*", id="star"),
    ],
)
def test_an_unknown_or_malformed_id_is_404(asker: Api, environment: str) -> None:
    """404 `Environment {id} not found.`, without details."""
    for method, suffix in ROUTES if environment == UNKNOWN else ROUTES[:5]:
        filled = path(environment) + suffix.format(work="work_x")
        refused(asker.request(method, filled), 404, f"Environment {environment} not found.")


def test_an_id_is_compared_letter_by_letter(api: Api) -> None:
    """Case and blanks count."""
    environment = api.queue()
    for other in (environment.swapcase(), environment.upper(), environment + "x", environment[:-1], environment + " "):
        refused(api.get(path(other)), 404, f"Environment {other} not found.")


# -- list


def test_list_is_newest_first_and_leaves_archived_ones_out_unless_asked(api: Api) -> None:
    """`include_archived` default false; a row is what get shows."""
    ids = [api.environment(config=config)["id"] for config in (SELF_HOSTED, {"type": "cloud"}) * 2][::-1]
    for archived in (ids[0], ids[2]):
        api.ok(api.post(path(archived) + "/archive"))
    assert listed(api) == listed(api, include_archived="false") == [ids[1], ids[3]]
    everything = api.ok(api.get("/v1/environments", params={"include_archived": "true"}))
    assert everything == {"data": [read(api, id_) for id_ in ids], "next_page": None}


# -- update

FULL = {
    "name": "n",
    "description": "d",
    "metadata": {"a": "1", "b": "2"},
    "config": cloud(
        limited(allow_mcp_servers=True, allow_package_managers=True, allowed_hosts=["a.example"]), apt=["x"], pip=["y"]
    ),
}
QUEUE = {"name": "n", "description": "d", "metadata": {"a": "1"}, "config": SELF_HOSTED}
NET = FULL["config"]["networking"]  # type: ignore[index]

UPDATED = [
    pytest.param(FULL, {}, {}, id="nothing"),
    pytest.param(FULL, {"name": "m"}, {"name": "m"}, id="name"),
    pytest.param(FULL, {"name": None}, {}, id="name-null-keeps"),
    pytest.param(FULL, {"name": "x" * 256}, {"name": "x" * 256}, id="name-of-256"),
    pytest.param(FULL, {"description": "e"}, {"description": "e"}, id="description"),
    pytest.param(FULL, {"description": None}, {"description": ""}, id="description-null-clears"),
    pytest.param(FULL, {"description": ""}, {"description": ""}, id="description-empty-clears"),
    pytest.param(FULL, {"scope": None}, {}, id="scope-null-keeps"),
    pytest.param(FULL, {"scope": "organization"}, {}, id="scope-organization"),
    pytest.param(QUEUE, {"scope": "account"}, {"scope": "account"}, id="scope-account"),
    pytest.param(QUEUE | {"scope": "account"}, {"scope": "organization"}, {"scope": "organization"}, id="scope-back"),
    pytest.param(QUEUE | {"scope": "account"}, {"scope": None, "name": "m"}, {"name": "m"}, id="scope-account-kept"),
    pytest.param(FULL, {"metadata": {"c": "3"}}, {"metadata": {"a": "1", "b": "2", "c": "3"}}, id="metadata-sets"),
    pytest.param(FULL, {"metadata": {"a": "9"}}, {"metadata": {"a": "9", "b": "2"}}, id="metadata-overwrites"),
    pytest.param(FULL, {"metadata": {"a": None}}, {"metadata": {"b": "2"}}, id="metadata-null-deletes"),
    pytest.param(FULL, {"metadata": {"a": ""}}, {"metadata": {"b": "2"}}, id="metadata-empty-deletes"),
    pytest.param(FULL, {"metadata": {"x": None, "y": ""}}, {}, id="metadata-deletes-what-is-not-there"),
    pytest.param(FULL, {"metadata": {"a": None, "b": "", "c": "3"}}, {"metadata": {"c": "3"}}, id="metadata-at-once"),
    pytest.param(FULL, {"metadata": {}}, {}, id="metadata-empty-map-keeps"),
    pytest.param(FULL, {"metadata": None}, {}, id="metadata-null-keeps"),
    pytest.param(FULL, {"config": None}, {}, id="config-null-keeps"),
    pytest.param(QUEUE, {"config": SELF_HOSTED}, {}, id="self-hosted-again"),
    pytest.param(FULL, {"config": {"type": "cloud"}}, {}, id="cloud-bare-keeps"),
    pytest.param(FULL, {"config": {"type": "cloud", "networking": None, "packages": None}}, {}, id="cloud-null-keeps"),
    pytest.param(FULL, {"config": given(OPEN)}, {"config": cloud(OPEN, apt=["x"], pip=["y"])}, id="unrestricted"),
    pytest.param(FULL, {"config": given({"type": "limited"})}, {}, id="limited-bare-keeps"),
    pytest.param(FULL, {"config": given({"type": "limited", "allow_mcp_servers": None,
                                         "allow_package_managers": None, "allowed_hosts": None})}, {},
                 id="limited-null-keeps"),
    pytest.param(FULL, {"config": given({"type": "limited", "allow_mcp_servers": False})},
                 {"config": cloud(NET | {"allow_mcp_servers": False}, apt=["x"], pip=["y"])}, id="limited-mcp"),
    pytest.param(FULL, {"config": given({"type": "limited", "allowed_hosts": ["b.example"]})},
                 {"config": cloud(NET | {"allowed_hosts": ["b.example"]}, apt=["x"], pip=["y"])}, id="limited-hosts"),
    pytest.param(FULL, {"config": given({"type": "limited", "allowed_hosts": []})},
                 {"config": cloud(NET | {"allowed_hosts": []}, apt=["x"], pip=["y"])}, id="limited-hosts-cleared"),
    pytest.param(FULL, {"config": {"type": "cloud", "packages": {}}}, {}, id="packages-empty-keeps"),
    pytest.param(FULL, {"config": given(**dict.fromkeys(MANAGERS))}, {}, id="package-lists-null-keep"),
    pytest.param(FULL, {"config": given(apt=["z"])}, {"config": cloud(NET, apt=["z"], pip=["y"])}, id="one-list"),
    pytest.param(FULL, {"config": given(apt=[])}, {"config": cloud(NET, pip=["y"])}, id="one-list-cleared"),
    pytest.param(FULL, {"config": given(apt=None, go=["z"], pip=[])}, {"config": cloud(NET, apt=["x"], go=["z"])},
                 id="lists-kept-set-and-cleared"),
    pytest.param(FULL, {"config": given({"type": "limited", "allow_package_managers": False}, apt=[], pip=[])},
                 {"config": cloud(NET | {"allow_package_managers": False})}, id="closing-and-clearing-at-once"),
    pytest.param({"name": "n"}, {"config": given({"type": "limited"})}, {"config": cloud(LIMITED)},
                 id="limited-from-unrestricted-has-defaults"),
    pytest.param({"name": "n"}, {"config": given({"type": "limited", "allowed_hosts": ["a.example"]})},
                 {"config": cloud(limited(allowed_hosts=["a.example"]))}, id="limited-from-unrestricted-in-part"),
    pytest.param(FULL, {"name": "m", "description": "e", "metadata": {"c": "3"}, "config": given(OPEN, gem=["z"])},
                 {"name": "m", "description": "e", "metadata": {"a": "1", "b": "2", "c": "3"},
                  "config": cloud(OPEN, apt=["x"], gem=["z"], pip=["y"])}, id="everything-at-once"),
]  # fmt: skip


@pytest.mark.parametrize(("stored", "patch", "changed"), UPDATED)
def test_update_merges(frozen: Api, stored: dict[str, Any], patch: dict[str, Any], changed: dict[str, Any]) -> None:
    """What was stored, what is sent, what is different then: nothing else but `updated_at`, which always moves."""
    created = frozen.ok(frozen.post("/v1/environments", json=stored))
    now = frozen.advance(1.5)
    updated = frozen.ok(frozen.post(path(created["id"]), json=patch))
    assert updated == created | changed | {"updated_at": now}
    assert read(frozen, created["id"]) == updated


def test_limited_sub_fields_do_not_survive_an_unrestricted_time(api: Api) -> None:
    """They are kept `when the stored networking is limited too, else defaults`."""
    environment = api.ok(api.post("/v1/environments", json={"name": "n", "config": given(NET)}))["id"]
    api.ok(api.post(path(environment), json={"config": given(OPEN)}))
    updated = api.ok(api.post(path(environment), json={"config": given({"type": "limited"})}))
    assert updated["config"] == cloud(LIMITED)


@pytest.mark.parametrize(
    ("stored", "patch", "message", "code"),
    [
        pytest.param(FULL, {"config": SELF_HOSTED}, "Cannot change environment type from Cloud to BYOC",
                     "invalid_config_type_change", id="cloud-to-self-hosted"),
        pytest.param(QUEUE, {"config": {"type": "cloud"}}, "Cannot change environment type from BYOC to Cloud",
                     "invalid_config_type_change", id="self-hosted-to-cloud"),
        pytest.param(FULL, {"config": {"networking": OPEN}}, "config: Unable to extract tag using discriminator 'type'",
                     None, id="config-without-type"),
        pytest.param(QUEUE, {"config": {"type": "bogus"}},
                     "config: Input tag 'bogus' found using 'type' does not match any of the expected tags: "
                     "'cloud', 'self_hosted'", None, id="config-bogus"),
        pytest.param(QUEUE, {"config": SELF_HOSTED | {"packages": None}},
                     "config.packages: Extra inputs are not permitted", None, id="self-hosted-with-parts"),
        pytest.param(FULL, {"config": given({"type": "limited", "allow_package_managers": False})}, CLOSED_NETWORK,
                     None, id="closing-over-stored-packages"),
        pytest.param({"name": "n", "config": given(apt=["x"])}, {"config": given({"type": "limited"})}, CLOSED_NETWORK,
                     None, id="limiting-over-stored-packages"),
        pytest.param({"name": "n", "config": given({"type": "limited"})}, {"config": given(go=["x"])}, CLOSED_NETWORK,
                     None, id="packages-into-a-closed-network"),
        pytest.param(FULL, {"config": given({"type": "limited", "allow_package_managers": False}, apt=[])},
                     CLOSED_NETWORK, None, id="closing-over-one-list-left"),
        pytest.param(FULL, {"scope": "account"}, ACCOUNT, None, id="account-on-cloud"),
        pytest.param(FULL, {"scope": "everyone"}, "scope: Input should be 'organization' or 'account'", None,
                     id="scope-unknown"),
        pytest.param(FULL, {"name": ""}, "name: String should have at least 1 character", None, id="name-empty"),
        pytest.param(FULL, {"name": "x" * 257}, "name: String should have at most 256 characters", None,
                     id="name-of-257"),
        pytest.param(FULL, {"description": "d" * 1025}, "description: String should have at most 1024 characters",
                     None, id="description-of-1025"),
        pytest.param(FULL, {"config": given({"type": "limited", "allowed_hosts": ["a.example", "a/b"]})},
                     "config.networking.allowed_hosts.1: Not a host name", None, id="no-host-name"),
        pytest.param(FULL, {"id": "env_x"}, "id: Extra inputs are not permitted", None, id="unknown-key"),
        pytest.param(FULL, {"archived_at": None}, "archived_at: Extra inputs are not permitted", None,
                     id="a-member-that-cannot-be-set"),
        pytest.param(FULL, {"metadata": {"a": 1}}, "metadata.a: Input should be a valid string", None,
                     id="metadata-number"),
        pytest.param(FULL, {"metadata": {"": "x"}}, "metadata: key must not be empty", "invalid_metadata",
                     id="metadata-empty-key"),
        pytest.param(FULL, {"metadata": {f"k{n}": "x" for n in range(15)}}, "metadata: too many keys (17 > 16)",
                     "invalid_metadata", id="metadata-17-keys-in-the-result"),
    ],
)  # fmt: skip
def test_update_refuses_and_changes_nothing(
    frozen: Api, stored: dict[str, Any], patch: dict[str, Any], message: str, code: str | None
) -> None:
    """Create's rules hold on the result; a refused update does not even move `updated_at`."""
    created = frozen.ok(frozen.post("/v1/environments", json=stored))
    frozen.advance(1)
    response = frozen.post(path(created["id"]), json={"description": "new", **patch})
    refused(response, 400, message, None if code is None else {"error_code": code})
    assert read(frozen, created["id"]) == created


def test_an_update_that_breaks_several_rules_is_told_of_config_and_scope_before_metadata(frozen: Api) -> None:
    """The rules of the result, in their order."""
    created = frozen.ok(frozen.post("/v1/environments", json=FULL))
    patch = {"scope": "account", "metadata": {"": "x"}}
    refused(frozen.post(path(created["id"]), json=patch), 400, ACCOUNT)
    assert read(frozen, created["id"]) == created


@pytest.mark.parametrize("patch", [{}, {"name": "m"}, {"description": None}, {"metadata": {"a": None}}], ids=str)
@pytest.mark.parametrize("stored", [FULL, QUEUE], ids=["cloud", "self_hosted"])
def test_an_archived_environment_takes_no_update(api: Api, stored: dict[str, Any], patch: dict[str, Any]) -> None:
    """400 `environment_archived`, the empty update included."""
    environment = api.ok(api.post("/v1/environments", json=stored))["id"]
    archived = api.ok(api.post(path(environment) + "/archive"))
    refused(
        api.post(path(environment), json=patch),
        400,
        f"Environment {environment} is archived and cannot be updated.",
        {"error_code": "environment_archived"},
    )
    assert read(api, environment) == archived


def in_parallel(*steps: Callable[[], None]) -> None:
    """Run all steps at once; a failure of any is a failure here."""
    gate = threading.Barrier(len(steps))
    failures: list[BaseException] = []

    def run(step: Callable[[], None]) -> None:
        try:
            gate.wait(20)
            step()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures, failures


def test_concurrent_updates_never_lose_each_others_fields(api: Api) -> None:
    """Each writer changes a field, a list or a key of its own; all are there in the end."""
    environment = api.ok(api.post("/v1/environments", json={"name": "n"}))["id"]
    patches: list[dict[str, Any]] = [
        {"name": "m"},
        {"description": "e"},
        {"config": given({"type": "limited", "allow_package_managers": True})},
        *({"config": given(**{name: [name]})} for name in MANAGERS if name != "apt"),
        *({"metadata": {f"k{n}": str(n)}} for n in range(12)),
    ]

    def writer(patch: dict[str, Any]) -> Callable[[], None]:
        client = api.as_key(api.api_key)

        def write() -> None:
            try:
                client.ok(client.post(path(environment), json=patch))
            finally:
                client.close()

        return write

    in_parallel(*(writer(patch) for patch in patches))
    found = read(api, environment)
    assert {name: found[name] for name in ("name", "description", "config", "metadata")} == {
        "name": "m",
        "description": "e",
        "config": cloud(limited(allow_package_managers=True), **{name: [name] for name in MANAGERS if name != "apt"}),
        "metadata": {f"k{n}": str(n) for n in range(12)},
    }


def test_an_update_and_an_archive_at_once_leave_no_update_behind_the_archive(api: Api) -> None:
    """Whatever comes first, no accepted update is lost and none follows the archive."""
    environment = api.ok(api.post("/v1/environments", json={"name": "n"}))["id"]
    accepted: list[str] = []

    def writer(key: str) -> Callable[[], None]:
        client = api.as_key(api.api_key)

        def write() -> None:
            response = client.post(path(environment), json={"metadata": {key: "v"}})
            client.close()
            if response.status_code == 200:
                accepted.append(key)
            else:
                message = f"Environment {environment} is archived and cannot be updated."
                refused(response, 400, message, {"error_code": "environment_archived"})

        return write

    writers = [writer(f"k{n}") for n in range(8)]
    in_parallel(*writers[:4], lambda: api.ok(api.post(path(environment) + "/archive")), *writers[4:])
    found = read(api, environment)
    assert found["metadata"] == dict.fromkeys(accepted, "v")
    assert found["updated_at"] == found["archived_at"]


# -- archive


@pytest.mark.parametrize("stored", [FULL, QUEUE], ids=["cloud", "self_hosted"])
def test_archive_sets_its_date_moves_updated_at_and_a_repeat_changes_nothing(api: Api, stored: dict[str, Any]) -> None:
    """POST; 200 both times."""
    api.freeze()
    created = api.ok(api.post("/v1/environments", json=stored))
    now = api.advance(2)
    archived = api.ok(api.post(path(created["id"]) + "/archive"))
    assert archived == created | {"updated_at": now, "archived_at": now}
    api.advance(3)
    assert api.ok(api.post(path(created["id"]) + "/archive")) == archived
    assert read(api, created["id"]) == archived


def test_an_archived_environment_takes_no_new_work(api: Api) -> None:
    """`no control-plane enqueue`: a new session's neither."""
    queue = api.queue()
    api.ok(api.post(path(queue) + "/archive"))
    for body in ({}, {"count": 3}, {"session_id": "session_new"}):
        response = api.post(f"/_emulator/environments/{queue}/work", json=body)
        refused(response, 400, f"Environment {queue} is archived.")
    assert api.ok(api.get(api.path(queue))) == {"data": [], "next_page": None}


def test_queued_and_running_work_of_an_archived_environment_goes_on(api: Api) -> None:
    """It is polled, acknowledged, beaten, lapses back, is stopped, and re-enqueued by a message."""
    api.freeze()
    queue = api.queue()
    running, waiting = api.enqueue(queue, 2)
    assert api.poll(queue)["id"] == running["id"]
    api.ok(api.ack(queue, running["id"]))
    beat = api.ok(api.heartbeat(queue, running["id"], "NO_HEARTBEAT", 60))["last_heartbeat"]
    api.ok(api.post(path(queue) + "/archive"))
    assert api.ok(api.heartbeat(queue, running["id"], beat, 60))["lease_extended"] is True
    assert api.active(queue, ttl=120)[0] == waiting["id"]
    api.advance(60)
    assert [api.work(queue, item["id"])["state"] for item in (running, waiting)] == ["queued", "active"]
    assert api.active(queue)[0] == running["id"]
    assert api.ok(api.stop(queue, running["id"], force=True))["state"] == "stopped"
    [again] = api.enqueue(queue, session_id=running["data"]["id"])
    assert (again["id"], again["state"]) == (running["id"], "queued")
    assert api.poll(queue)["id"] == running["id"]


# -- delete


@pytest.mark.parametrize(
    ("config", "archived", "query"),
    [
        pytest.param({"type": "cloud"}, False, {}, id="cloud"),
        pytest.param({"type": "cloud"}, True, {}, id="cloud-archived"),
        pytest.param({"type": "cloud"}, False, {"force": "true"}, id="cloud-forced"),
        pytest.param(SELF_HOSTED, False, {}, id="self-hosted"),
        pytest.param(SELF_HOSTED, True, {"force": "false"}, id="self-hosted-archived"),
        pytest.param(SELF_HOSTED, False, {"force": "true"}, id="self-hosted-forced"),
    ],
)
def test_delete_answers_what_is_gone_and_a_repeat_is_404(
    api: Api, config: dict[str, Any], archived: bool, query: dict[str, str]
) -> None:
    """200 `{"id":…,"type":"environment_deleted"}`; without work nothing blocks it."""
    environment, other = (api.environment(config=config)["id"] for _ in range(2))
    if archived:
        api.ok(api.post(path(environment) + "/archive"))
    deleted = api.ok(api.delete(path(environment), params=query))
    assert deleted == {"id": environment, "type": "environment_deleted"}
    for _ in range(2):
        refused(api.delete(path(environment), params=query), 404, f"Environment {environment} not found.")
    assert listed(api, include_archived="true") == [other]


def test_a_deleted_environment_is_404_everywhere(api: Api) -> None:
    """Every route below it, of the API and of the control plane; its work went with it."""
    queue = api.queue()
    items = api.enqueue(queue, 3)
    api.active(queue)
    key = api.ok(api.post(f"/_emulator/environments/{queue}/keys"))
    api.ok(api.delete(path(queue), params={"force": "true"}))
    for item in items:
        for method, suffix in ROUTES:
            response = api.request(method, path(queue) + suffix.format(work=item["id"]))
            refused(response, 404, f"Environment {queue} not found.")
    for method, suffix in (("POST", "work"), ("POST", "keys"), ("GET", "keys"), ("DELETE", f"keys/{key['id']}")):
        response = api.request(method, f"/_emulator/environments/{queue}/{suffix}")
        refused(response, 404, f"Environment {queue} not found.")
    assert listed(api, include_archived="true") == []


def to_queued(api: Api, queue: str) -> None:
    """Leave one item waiting."""
    api.enqueue(queue)


def to_polled(api: Api, queue: str) -> None:
    """Leave one item polled and not acknowledged."""
    api.enqueue(queue)
    api.poll(queue)


def to_starting(api: Api, queue: str) -> None:
    """Leave one item acknowledged."""
    [item] = api.enqueue(queue)
    api.ok(api.ack(queue, item["id"]))


def to_active(api: Api, queue: str) -> None:
    """Leave one item under lease."""
    api.enqueue(queue)
    api.active(queue, ttl=60)


def to_stopping(api: Api, queue: str) -> None:
    """Leave one item under lease, asked to stop."""
    api.enqueue(queue)
    api.ok(api.stop(queue, api.active(queue, ttl=60)[0]))


def to_stopped(api: Api, queue: str) -> None:
    """Leave one item that has ended."""
    [item] = api.enqueue(queue)
    api.ok(api.stop(queue, item["id"]))


def to_lapsed(api: Api, queue: str) -> None:
    """Leave one item whose lease has ended: queued again."""
    to_active(api, queue)
    api.advance(60)


def to_re_enqueued(api: Api, queue: str) -> None:
    """Leave one item that a message has put back."""
    [item] = api.enqueue(queue)
    api.ok(api.stop(queue, item["id"]))
    api.enqueue(queue, session_id=item["data"]["id"])


QUEUED_WORK = (
    "Cannot delete self-hosted environment with work in the queue. Either archive the environment first to allow the "
    "queue to drain, or use force=true to delete immediately."
)


@pytest.mark.parametrize(
    ("arrange", "archived"),
    [(to_queued, False), (to_queued, True), (to_polled, False), (to_lapsed, True), (to_re_enqueued, False)],
)
def test_queued_work_blocks_delete_unless_forced(api: Api, arrange: Callable[[Api, str], None], archived: bool) -> None:
    """409, nothing changes; `?force=true` deletes all the same."""
    api.freeze()
    queue = api.queue()
    arrange(api, queue)
    if archived:
        api.ok(api.post(path(queue) + "/archive"))
    before = (read(api, queue), api.ok(api.get(api.path(queue))), api.stats(queue))
    for query in ({}, {"force": "false"}, {"force": "0"}):
        refused(api.delete(path(queue), params=query), 409, QUEUED_WORK)
    assert (read(api, queue), api.ok(api.get(api.path(queue))), api.stats(queue)) == before
    deleted = api.ok(api.delete(path(queue), params={"force": "1" if archived else "true"}))
    assert deleted == {"id": queue, "type": "environment_deleted"}
    refused(api.get(path(queue)), 404, f"Environment {queue} not found.")


@pytest.mark.parametrize("arrange", [to_starting, to_active, to_stopping, to_stopped])
def test_work_under_lease_or_ended_does_not_block_delete(api: Api, arrange: Callable[[Api, str], None]) -> None:
    """`work under lease does not block`."""
    api.freeze()
    queue = api.queue()
    arrange(api, queue)
    assert api.ok(api.delete(path(queue))) == {"id": queue, "type": "environment_deleted"}


def test_a_lease_that_the_clock_has_ended_blocks_delete_before_anybody_has_read_it(api: Api) -> None:
    """Lapse is judged at each write: delete is one."""
    api.freeze()
    queue = api.queue()
    to_active(api, queue)
    api.advance(59.999999)
    other = api.queue()
    to_active(api, other)
    api.advance(0.000001)
    refused(api.delete(path(queue)), 409, QUEUED_WORK)
    api.ok(api.delete(path(other)))


def test_a_drained_environment_can_be_deleted(api: Api) -> None:
    """What the refusal recommends."""
    queue = api.queue()
    items = api.enqueue(queue, 2)
    api.ok(api.post(path(queue) + "/archive"))
    refused(api.delete(path(queue)), 409, QUEUED_WORK)
    for item in items:
        assert api.poll(queue)["id"] == item["id"]
        api.ok(api.ack(queue, item["id"]))
    api.ok(api.delete(path(queue)))


def test_when_delete_answers_nothing_of_it_is_left_in_redis(
    redis_backed: WorkyardServer, redis_server: RedisServer, new_api: Callable[..., Api]
) -> None:
    """`the answer comes when nothing of it is left`: looked for by the id in any key or index, past the API."""
    import redis

    api = new_api(redis_backed.url)
    queue = api.queue()
    for arrange in (to_active, to_stopping, to_stopped, to_polled, to_queued):
        arrange(api, queue)
    api.poll(queue, worker="w")
    api.ok(api.post(f"/_emulator/environments/{queue}/keys"))
    api.enqueue(queue, idempotency_key="k")
    look = redis.Redis.from_url(redis_server.url, decode_responses=True)
    try:
        assert [key for key in look.scan_iter(count=1000) if queue in key]
        api.ok(api.delete(path(queue), params={"force": "true"}))
        keys = list(look.scan_iter(count=1000))
        assert [key for key in keys if queue in key] == []
        members = [
            member
            for key in keys
            for member in (look.zrange(key, 0, -1) if look.type(key) == "zset" else [])
            if queue in str(member)
        ]
        assert members == []
    finally:
        look.close()


def test_timestamps_of_an_environment_follow_its_workspaces_clock(api: Api) -> None:
    """Created, changed, archived: three instants of one frozen clock."""
    api.freeze()
    environment = api.queue()
    api.advance(1)
    api.ok(api.post(path(environment)))
    api.advance(1)
    archived = api.ok(api.post(path(environment) + "/archive"))
    assert archived["created_at"] == NOON
    assert archived["updated_at"] == archived["archived_at"] == after(NOON, 2)
