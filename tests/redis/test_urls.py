"""The forms of `--redis-url`, what is checked at the start, the permissions that are enough, and credentials that never
show. Source: docs/redis.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.harness import Api, RedisServer, WorkyardServer, free_port, running_server, wait_until
from tests.support.redis_topologies import TlsServer, raw, refusal, refused, require_redis, tls_server
from workyard.settings import Settings, load
from workyard_store.engine.requirements import acl_rule, command_names
from workyard_store.engine.urls import RedisUrl
from workyard_store.errors import StartupRefused
from workyard_store.keys import Keys

ROOT = Path(__file__).parents[2]
SECRET = "s3cret@/:?#%"
#: The same in a URL.
ENCODED = "s3cret%40%2F%3A%3F%23%25"


def passes_a_cycle(server: WorkyardServer) -> None:
    """Take work through its life, and everything else that sends commands of its own; leave nothing."""
    with closing(Api(server.url)) as api:
        api.freeze()
        queue = api.queue()
        first, second, third = [item["id"] for item in api.enqueue(queue, 3, idempotency_key="once")]
        api.enqueue(queue, 3, idempotency_key="once")
        work, beat = api.active(queue)
        assert work == first
        api.ok(api.heartbeat(queue, work, beat))
        assert api.poll(queue, "worker", reclaim_older_than_ms=1)["id"] == second
        api.advance(10)
        assert api.poll(queue, "worker", reclaim_older_than_ms=1)["id"] == second
        api.ok(api.stop(queue, third))
        api.ok(api.post(api.path(queue, second), json={"metadata": {"a": "b"}}))
        api.advance(400)
        assert api.work(queue, first)["state"] == "queued"
        assert len(api.ok(api.get(api.path(queue)))["data"]) == 3
        assert api.stats(queue)["depth"] == 1
        key = api.ok(api.post(f"/_emulator/environments/{queue}/keys", json={"name": "k"}))
        with closing(api.as_key(key["key"])) as worker:
            assert worker.stats(queue)["pending"] == 1
        api.ok(api.get(f"/_emulator/environments/{queue}/keys"))
        api.ok(api.delete(f"/_emulator/environments/{queue}/keys/{key['id']}"))
        api.ok(api.post("/_emulator/settings", json={"reclaim_ms": 1000}))
        api.ok(api.post(f"/v1/environments/{queue}", json={"name": "other"}))
        assert len(api.ok(api.get("/v1/environments"))["data"]) == 1
        assert api.ok(api.get("/_emulator/invariants"))["violations"] == []
        api.ok(api.post(f"/v1/environments/{queue}/archive"))
        api.ok(api.delete(f"/v1/environments/{api.queue()}"))
        api.ok(api.post("/_emulator/clock", json={"mode": "real"}))
        assert api.reset()["leftover_keys"] == 0


# -- what a URL says ------------------------------------------------------------------------------------------

#: URL → form, TLS, hosts or path, service, database, user, password.
URLS = {
    "redis://h:1/3": ("single", False, (("h", 1),), "", 3, None, None),
    "redis://h": ("single", False, (("h", 6379),), "", 0, None, None),
    "redis://[::1]:7/0": ("single", False, (("::1", 7),), "", 0, None, None),
    f"redis://:{ENCODED}@h/": ("single", False, (("h", 6379),), "", 0, None, SECRET),
    f"rediss://us%40er:{ENCODED}@h:6380/1": ("single", True, (("h", 6380),), "", 1, "us@er", SECRET),
    "unix:///run/r%20s.sock": ("unix", False, "/run/r s.sock", "", 0, None, None),
    f"unix://u:{ENCODED}@/run/a@b.sock?db=4": ("unix", False, "/run/a@b.sock", "", 4, "u", SECRET),
    "redis+cluster://a:1,b,[::2]:3": ("cluster", False, (("a", 1), ("b", 6379), ("::2", 3)), "", 0, None, None),
    f"rediss+cluster://u:{ENCODED}@a:1/0": ("cluster", True, (("a", 1),), "", 0, "u", SECRET),
    "redis+sentinel://a:1,b/my/2": ("sentinel", False, (("a", 1), ("b", 26379)), "my", 2, None, None),
    f"rediss+sentinel://:{ENCODED}@a/m%2Fy": ("sentinel", True, (("a", 26379),), "m/y", 0, None, SECRET),
}


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_read_into_its_parts(url: str) -> None:
    """Every form, with defaults, brackets and percent-encoding; and none of its texts has the password."""
    found = RedisUrl.parse(url)
    place = found.path if found.form == "unix" else found.hosts
    assert (found.form, found.tls, place, found.service, found.db, found.username, found.password) == URLS[url]
    for text in (found.where, repr(found), repr(Settings(redis_url=url)), str(Settings(redis_url=url))):
        assert "s3cret" not in text


def test_the_sentinels_have_credentials_of_their_own() -> None:
    """As options, for the place before the @ is taken."""
    found = RedisUrl.parse(f"redis+sentinel://a:b@h/my?sentinel_username=su&sentinel_password={ENCODED}")
    assert (found.username, found.password) == ("a", "b")
    assert (found.sentinel_username, found.sentinel_password) == ("su", SECRET)
    assert "s3cret" not in found.where + repr(found)


def test_tls_has_options() -> None:
    """Under redis-py's names."""
    found = RedisUrl.parse("rediss://h/0?ssl_ca_certs=%2Fca.pem&ssl_check_hostname=false&ssl_cert_reqs=none")
    assert dict(found.options) == {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False, "ssl_cert_reqs": "none"}


@pytest.mark.parametrize(
    "url",
    [
        "http://s3cret@h", "s3cret@h:1", "redis://", "redis://u:s3cret@", "redis://u:s3/cret@h:1/0",
        "redis://u:1/s3cret@h", "redis://u:1?s3cret@h", "redis://u:1?s3cret&x@h", "redis://u:1#s3cret@h",
        "redis://u:s3cret@h:99999", "redis://u:s3cret@h:1x", "redis://u:s3cret@a,b/0", "redis://u:s3cret@h/x",
        "redis://u:s3cret@h/1/2", "redis://u:s3cret@[::1", "unix://u:s3cret@", "unix://u:s3/cret@/run/x",
        "unix://u:s3cret@h/run/x", "redis+cluster://u:s3cret@h/1", "redis+cluster://u:s3cret@a,,b",
        "redis+sentinel://u:s3cret@h", "redis+sentinel://u:s3cret@h/my/x", "redis+cluster+x://u:s3cret@h",
        "redis://u:s3cret@h/0?colour=s3cret", "redis://u:s3cret@h/0?ssl_ca_certs=s3cret",
        "rediss://u:s3cret@h/0?ssl_cert_reqs=s3cret", "rediss://u:s3cret@h/0?retry_on_timeout=yes&s3cret",
        "unix://u:s3cret@/run/x?db=s3cret",
    ],
)  # fmt: skip
def test_what_is_no_redis_url_is_refused_in_words_that_show_no_credential(url: str) -> None:
    """The refusal names the setting. Options that would change how commands are sent are not taken from a URL."""
    with pytest.raises(StartupRefused) as caught:
        load(redis_url=url)
    assert caught.value.message.startswith("--redis-url / WORKYARD_REDIS_URL: ")
    assert "s3cret" not in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_documented_urls_are_urls() -> None:
    """Each form of the table in docs/redis.md, and all forms there are."""
    text = (ROOT / "docs" / "redis.md").read_text()
    urls = re.findall(r"`((?:rediss?(?:\+\w+)?|unix)://[^`…]+)`", text.partition("## What is checked")[0])
    assert {RedisUrl.parse(url).form for url in urls} == {"single", "unix", "cluster", "sentinel"}


# -- ways to a server -----------------------------------------------------------------------------------------


def test_work_passes_by_a_unix_socket(
    tmp_path_factory: pytest.TempPathFactory, new_redis: Callable[..., RedisServer]
) -> None:
    """With a user and a password; no TCP port is named."""
    path = tmp_path_factory.mktemp("s") / "r.sock"
    server = new_redis("--unixsocket", str(path), "--requirepass", SECRET)
    with running_server("--redis-url", f"unix://default:{ENCODED}@{path}?db=1") as running:
        passes_a_cycle(running)
        with closing(raw(server.port, password=SECRET, db=1)) as client:
            assert client.exists("wy:format")
    message = refusal(f"unix://default:wr0ng@{path}")
    assert f"unix://{path} cannot be used" in message
    assert "wr0ng" not in message


@pytest.fixture(scope="module")
def tls() -> Iterator[TlsServer]:
    """A Redis that is reached by TLS only."""
    require_redis()
    for server in tls_server():
        if server is None:
            pytest.skip("this redis-server is built without TLS")
        yield server


def test_work_passes_by_tls(tls: TlsServer) -> None:
    """The server's certificate is checked, and ours is shown."""
    with running_server("--redis-url", f"rediss://localhost:{tls.port}/0?{tls.options}") as running:
        passes_a_cycle(running)


@pytest.mark.parametrize("lacking", ["a trusted certificate", "our certificate", "TLS"])
def test_tls_that_is_not_trusted_refuses_to_start(tls: TlsServer, lacking: str) -> None:
    """An unknown certificate, no certificate of ours, and no TLS at all."""
    options = {"a trusted certificate": "", "our certificate": f"?ssl_ca_certs={tls.certificate}", "TLS": ""}[lacking]
    scheme = "redis" if lacking == "TLS" else "rediss"
    message = refused(f"{scheme}://u:s3cret@localhost:{tls.port}/0{options}")
    assert f"Redis at localhost:{tls.port} cannot be used" in message
    assert "s3cret" not in message


# -- what is checked ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis(redis_engine: str) -> Iterator[RedisServer]:
    """A server whose settings and users a test may change."""
    server = RedisServer(engine=redis_engine)
    yield server
    server.close()


def configure(redis: RedisServer, *command: str) -> None:
    """Run a command there that must be answered OK."""
    with closing(raw(redis.port)) as client:
        assert client.execute_command(*command) in ("OK", True)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_may_evict_refuses_to_start(redis: RedisServer, policy: str) -> None:
    """Even without a limit now: a limit can be set at any time."""
    configure(redis, "CONFIG", "SET", "maxmemory-policy", policy)
    try:
        message = refused(redis.url)
    finally:
        configure(redis, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert f"Redis at 127.0.0.1:{redis.port} has maxmemory-policy {policy}" in message
    assert "CONFIG SET maxmemory-policy noeviction" in message


def test_an_evicting_redis_is_found_without_the_right_to_read_its_configuration(redis: RedisServer) -> None:
    """As with a provider that forbids CONFIG."""
    configure(redis, "ACL", "SETUSER", "modest", "reset", "on", ">pw", *acl_rule(Keys()).split())
    configure(redis, "CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    try:
        message = refused(f"redis://modest:pw@127.0.0.1:{redis.port}/0")
    finally:
        configure(redis, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert "has maxmemory-policy allkeys-random" in message


# -- permissions ----------------------------------------------------------------------------------------------


def test_the_list_of_commands_is_what_the_code_sends(redis: RedisServer) -> None:
    """The scripts' calls and the modules' words that are commands by Redis' own account; the rest is redis-py's."""
    lua = [*ROOT.glob("store/**/*.lua"), *ROOT.glob("queue/**/*.lua")]
    sent = set()
    for command, word in re.findall(r"call\('([A-Z]+)'(?:, '([A-Z]+)')?", "".join(path.read_text() for path in lua)):
        sent.add(f"{command}|{word}".lower() if command in ("XGROUP", "XINFO") else command.lower())
    with closing(raw(redis.port)) as client:
        commands = set(client.command_list())
    python = [*ROOT.glob("store/**/*.py"), *ROOT.glob("queue/**/*.py")]
    words = "".join(path.read_text() for path in python if path.name != "requirements.py")
    sent |= {word.lower() for word in re.findall(r"redis\.call\('([A-Z]+)'", words)}
    sent |= {word.lower() for word in re.findall(r'\("([A-Z]+)"', words)} & commands
    sent |= {"cluster|slots"} if "cluster" in sent else set()
    of_the_library = {"info", "select", "subscribe", "unsubscribe"}
    assert set(command_names()) == (sent - {"cluster"}) | of_the_library


def test_the_documented_rule_is_the_checked_one() -> None:
    """To copy from docs/redis.md."""
    documented = re.search(r"^ACL SETUSER workyard on >password (.+)$", (ROOT / "docs" / "redis.md").read_text(), re.M)
    assert documented is not None
    assert documented[1] == acl_rule(Keys())


def test_the_rule_is_enough_for_everything(redis: RedisServer) -> None:
    """A user with exactly that, under another prefix."""
    configure(redis, "ACL", "SETUSER", "exact", "reset", "on", f">{SECRET}", *acl_rule(Keys("mine")).split())
    url = f"redis://exact:{ENCODED}@127.0.0.1:{redis.port}/0"
    with running_server("--redis-url", url, "--key-prefix", "mine") as running:
        passes_a_cycle(running)
        assert running.stop() == 0
        assert "ERROR" not in running.log()
        assert "s3cret" not in running.log()
    assert "user at Redis" in refused(url), "not under another prefix"


@pytest.mark.parametrize("missing", command_names())
def test_a_missing_command_refuses_to_start_and_is_named(redis: RedisServer, missing: str) -> None:
    """Before anything else is done; with the rule that is needed."""
    configure(redis, "ACL", "SETUSER", "lacking", "reset", "on", ">pw", *acl_rule(Keys()).split(), f"-{missing}")
    message = refused(f"redis://lacking:pw@127.0.0.1:{redis.port}/0")
    assert f"'{missing}'" in message
    assert f"ACL SETUSER <user> {acl_rule(Keys())}" in message


@pytest.mark.parametrize("missing", ["resetchannels", "resetkeys"])
def test_missing_keys_or_channels_refuse_to_start(redis: RedisServer, missing: str) -> None:
    """All commands are not enough."""
    configure(redis, "ACL", "SETUSER", "lacking", "reset", "on", ">pw", *acl_rule(Keys()).split(), missing)
    message = refused(f"redis://lacking:pw@127.0.0.1:{redis.port}/0")
    assert ("channel" if missing == "resetchannels" else "key") in message.partition("Give it this rule")[0]


def test_a_user_who_may_not_ask_is_warned_and_meets_the_refusal_at_the_first_call(redis: RedisServer) -> None:
    """A 503 for the caller, and the rule in the log; a refusal to start if the start itself meets it."""
    rule = [*acl_rule(Keys()).split(), "-acl"]
    configure(redis, "ACL", "SETUSER", "asking", "reset", "on", ">pw", *rule, "-xadd")
    with (
        running_server("--redis-url", f"redis://asking:pw@127.0.0.1:{redis.port}/0") as running,
        closing(Api(running.url)) as api,
    ):
        assert "permissions are not checked" in running.log()
        answer = api.post(f"/_emulator/environments/{api.queue()}/work", json={})
        assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1")
        assert f"The ACL rule that Workyard needs: {acl_rule(Keys())}" in running.log()
        assert api.reset()["leftover_keys"] == 0
    configure(redis, "ACL", "SETUSER", "asking", "-set")
    message = refused(f"redis://asking:pw@127.0.0.1:{redis.port}/0")
    assert "'set'" in message
    assert acl_rule(Keys()) in message


# -- credentials ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["redis", "rediss", "redis+cluster", "redis+sentinel"])
def test_an_unreachable_redis_is_named_without_its_credentials(form: str) -> None:
    """By a process, whose whole output is looked at. Sockets and wrong passwords: see above and test_redis_sentinel."""
    port = free_port()
    rest = f"/my?sentinel_password={ENCODED}" if form == "redis+sentinel" else "/0"
    message = refusal(f"{form}://us3cret:{ENCODED}@127.0.0.1:{port}{rest}", "--log-level", "debug")
    assert f"Redis at 127.0.0.1:{port}" in message
    assert "cannot be used" in message
    assert "s3cret" not in message


def test_a_redis_that_no_longer_accepts_the_password_is_a_503_and_a_log_without_it(
    new_redis: Callable[..., RedisServer],
) -> None:
    """A password that was right is wrong from one moment to the next: 503, and log lines without it."""
    locked = new_redis("--requirepass", SECRET)
    url = f"redis://:{ENCODED}@127.0.0.1:{locked.port}/0"
    with (
        running_server("--redis-url", url, "--log-level", "debug") as running,
        closing(Api(running.url)) as api,
    ):
        queue = api.queue()
        with closing(raw(locked.port, password=SECRET)) as client:
            client.execute_command("CONFIG", "SET", "requirepass", "another")  # type: ignore[no-untyped-call]
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")  # type: ignore[no-untyped-call]
        wait_until(lambda: api.get(api.path(queue, "stats")).status_code == 503, "the password is wrong now")
        assert running.process.stdout is not None
        assert running.stop() == 0, running.log()
        output = running.ready_line + running.process.stdout.read() + running.log()
        assert "AuthenticationError" in output
        assert "s3cret" not in output
