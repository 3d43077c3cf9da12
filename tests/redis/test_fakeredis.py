"""Where fakeredis differs from Redis, as docs/engines.md lists it. A difference that is gone fails here: take it off the
list, and simplify what avoided it. That nothing a client sees differs is shown by the suite, which runs on all engines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

from tests.support.harness import RedisServer

DOCUMENT = Path(__file__).parents[2] / "docs" / "engines.md"
Client = Any


def script(text: str) -> Callable[[Client], Any]:
    """Return a probe that runs a script."""
    return lambda client: client.eval(text, 1, "probe")


def in_turn(*texts: str) -> Callable[[Client], Any]:
    """Return a probe that runs scripts one after the other and answers what the last one does."""

    def probe(client: Client) -> Any:
        for text in texts[:-1]:
            said(client, script(text))
        return client.eval(texts[-1], 1, "probe")

    return probe


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
    "A global variable": (
        in_turn("leaked = 1 return 1", "return 'as if nothing had happened'"),
        "as if nothing had happened",
        "Script attempted to set global variables: leaked",
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


def test_the_difference_is_still_there(clients: tuple[Client, Client], difference: str) -> None:
    """Redis says this, fakeredis that."""
    probe, real, fake = DIFFERENCES[difference]
    assert re.fullmatch(real, str(said(clients[0], probe)))
    assert re.fullmatch(fake, str(said(clients[1], probe)))


def test_every_difference_is_in_the_document() -> None:
    """By its name, in the first column; those that no probe can show are said there to be so."""
    rows = re.findall(r"^\| ([^|]+?) +\|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(DIFFERENCES) <= set(rows)
