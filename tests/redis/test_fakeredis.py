"""Where the locked fakeredis differs from Redis, as docs/engines.md lists it. When the lock gets a release without one of the
differences, its test fails: take it off the list, and simplify what avoided it. On another release, such as a newer one in
`scripts/test --newest`, the test is skipped and says so. The suite, which runs on all engines, shows that nothing differs
for a client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

from tests.support.harness import RedisServer
from tools.packaging import lock, newest

DOCUMENT = Path(__file__).parents[2] / "docs" / "engines.md"
LOCKED = newest.locked(lock.LOCK.read_text())["fakeredis"]
Client = Any


def script(text: str) -> Callable[[Client], Any]:
    """Return a probe that runs a script."""
    return lambda client: client.eval(text, 1, "probe")


def said(client: Client, probe: Callable[[Client], Any]) -> Any:
    """Return a probe's answer, or the text of its error."""
    try:
        return probe(client)
    except redis.ResponseError as error:
        return str(error)


#: The name in the document → probe, what Redis says, what fakeredis says (regular expressions on the text of it).
DIFFERENCES: dict[str, tuple[Callable[[Client], Any], str, str]] = {
    "RESP 3 inside scripts": (
        script(
            "redis.call('XGROUP', 'CREATE', KEYS[1], 'g', '0', 'MKSTREAM') "
            "return type(redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', KEYS[1], '>'))"
        ),
        "boolean",
        "table",
    ),
    "Administration": (
        lambda client: client.config_get("maxmemory-policy"),
        r"\{'maxmemory-policy'.*",
        "unknown command.*",
    ),
    "Texts of errors": (
        script("return redis.call('INCRBY', KEYS[1], 'x')"),
        r"value is not an integer or out of range script: \w+, on @user_script:1\.",
        "value is not an integer or out of range",
    ),
    "`redis.sha1hex`": (
        script("return redis.sha1hex('a')"),
        "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8",
        "(?s)Error running .*sha1hex.*",
    ),
}


@pytest.fixture(params=sorted(DIFFERENCES))
def difference(request: pytest.FixtureRequest) -> str:
    """Each difference."""
    return str(request.param)


@pytest.fixture
def clients(redis_server: RedisServer, difference: str) -> Iterator[tuple[Client, Client]]:
    """A client of the real one, and one of a fakeredis of its own."""
    # Of the first difference only: the others are there with the protocol that the product uses.
    protocol = 3 if difference == "RESP 3 inside scripts" else 2
    real = redis.Redis.from_url(redis_server.url, protocol=protocol, decode_responses=True)
    fake = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7, 0)), protocol=protocol, decode_responses=True)
    yield real, fake
    real.delete("probe")
    real.close()
    fake.close()


def test_the_locked_release_still_differs(clients: tuple[Client, Client], difference: str) -> None:
    """Redis says this, fakeredis that."""
    probe, real, fake = DIFFERENCES[difference]
    assert re.fullmatch(real, str(said(clients[0], probe)))
    answer = str(said(clients[1], probe))
    if re.fullmatch(fake, answer) is None and version("fakeredis") != LOCKED:
        pytest.skip(
            f"fakeredis {version('fakeredis')} no longer differs like {LOCKED}, the locked one: it says {answer!r}"
        )
    assert re.fullmatch(fake, answer)


def test_every_difference_is_in_the_document() -> None:
    """By its name, in the first column; those that no probe can show are said there to be so."""
    rows = re.findall(r"^\| ([^|]+?) +\|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(DIFFERENCES) <= set(rows)
