"""Values of the bottom layer: instants, ids, cursors. Pure functions, tried with many inputs."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workyard_store.access import Caller, environment_key, sessions_token, workspace_of_api_key
from workyard_store.clock import LAST_INSTANT, Clock, format_instant, parse_instant, rendered_instant
from workyard_store.errors import InvalidRequest
from workyard_store.ids import canonical_session_id, is_id, new_id, work_id
from workyard_store.pages import decode_cursor, encode_cursor

instants = st.integers(0, LAST_INSTANT)


@given(instants)
def test_an_instant_survives_its_rendering(us: int) -> None:
    """Six digits and a Z, always."""
    text = format_instant(us)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert parse_instant(text) == rendered_instant(text) == us


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T00:00:00.5Z", 500_000),
        ("1970-01-01T00:00:00.1234567Z", 123_456),
        ("1970-01-01t01:00:00+01:00", 0),
        ("1969-12-31T23:00:00-01:30", 1_800_000_000),
        ("1970-01-01T00:00:00", None),
        ("1970-01-01 00:00:00Z", None),
        ("1970-13-01T00:00:00Z", None),
        ("1970-01-01T00:00:00+24:00", None),
        ("", None),
        ("hb-1", None),
        ("٢٠٢٦-01-01T00:00:00Z", None),
    ],
)
def test_rfc_3339_is_read_and_nothing_else(text: str, us: int | None) -> None:
    """Offsets and up to nine digits are fine; other forms are not."""
    assert parse_instant(text) == us


@given(instants)
def test_only_the_exact_rendering_is_a_heartbeat(us: int) -> None:
    """The same instant written otherwise does not match. Rule: `work.heartbeat.extend`."""
    text = format_instant(us)
    for other in (text.lower(), text.replace("Z", "+00:00"), text[:-1] + "0Z", " " + text):
        assert rendered_instant(other) is None


def test_a_clock_ticks_ahead_or_stands() -> None:
    """`now` of both modes."""
    assert Clock(shift_us=5).now(100) == 105
    assert Clock(shift_us=5, frozen_at=7).now(100) == 7


@given(st.integers(0, 2**53), st.text(max_size=40))
def test_a_cursor_leads_back_to_its_place_in_its_own_list(sequence: int, other: str) -> None:
    """And is refused by any other."""
    cursor = encode_cursor("work env_1", sequence)
    assert cursor.startswith("page_")
    assert decode_cursor("work env_1", cursor) == sequence
    with pytest.raises(InvalidRequest, match="page: Invalid cursor"):
        decode_cursor("work env_2" + other, cursor)


@given(st.text(max_size=60))
def test_any_other_text_is_no_cursor(text: str) -> None:
    """No crash, no position."""
    with pytest.raises(InvalidRequest, match="page: Invalid cursor"):
        decode_cursor("work env_1", text)


@given(st.sampled_from(["env", "session", "req"]))
def test_ids_have_the_services_form(kind: str) -> None:
    """`01` and 22 base58 characters."""
    assert re.fullmatch(kind + r"_01[1-9A-HJ-NP-Za-km-z]{22}", new_id(kind))


def test_a_session_has_one_work_id_in_an_environment() -> None:
    """A function of both, and of nothing else."""
    assert work_id("env_1", "session_1") == work_id("env_1", "session_1")
    assert len({work_id("env_1", "session_1"), work_id("env_2", "session_1"), work_id("env_1", "session_2")}) == 3
    assert is_id("work", work_id("env_1", "session_1"))


@pytest.mark.parametrize(
    ("given_id", "canonical"),
    [("session_1a", "session_1a"), ("sesn_1a", "session_1a"), ("session_", None), ("session_a-b", None), ("x", None)],
)
def test_both_forms_of_a_session_id_are_read(given_id: str, canonical: str | None) -> None:
    """Rule: `sessions.id`."""
    assert canonical_session_id(given_id) == canonical


@pytest.mark.parametrize("value", ["env_", "env_a b", "env_a}b", "env_\u0661", "ENV_a", "work_a", "env_" + "a" * 65])
def test_what_is_no_id_never_becomes_a_key(value: str) -> None:
    """Braces, blanks and foreign digits stay out of Redis."""
    assert not is_id("env", value)


def test_a_token_tells_what_it_is() -> None:
    """By its value alone. Rule: `credentials.value-decides`."""
    key = Caller(environment_key("env_01abc", "secret"))
    assert (key.environment_id, key.work_id) == ("env_01abc", None)
    token = Caller(sessions_token("env_01abc", "work_01xyz", "secret"))
    assert (token.environment_id, token.work_id) == ("env_01abc", "work_01xyz")
    for other in ("k", "sk-ant-api03-x", "sk-ant-oat01-", "sk-ant-oat01-a b-c", "sk-ant-req01-x"):
        assert Caller(other).environment_id is None or Caller(other).work_id is None
    assert workspace_of_api_key("k") != workspace_of_api_key("l")
    assert "k-secret" not in workspace_of_api_key("k-secret")


def test_long_tokens_are_not_kept_in_memory() -> None:
    """As many as there may be: each is 50 kB, and made up by a client."""
    tracemalloc.start()
    try:
        for number in range(200):
            token = f"{number}-".ljust(50_000, "k")
            assert workspace_of_api_key(token) == workspace_of_api_key(token)
            assert Caller(token).label == Caller(token).label
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000
