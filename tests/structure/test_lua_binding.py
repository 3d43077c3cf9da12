"""What the binder makes of declared arguments and replies: Lua, run here, sees the values that Python was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from lupa import lua51

from workyard_store.engine.lua import (
    Digits,
    Flat,
    Head,
    LuaArguments,
    LuaCall,
    Refused,
    ReplyT_co,
    Rest,
    Word,
)

HERE = Path(__file__).parent / "lua"


class Clock(LuaArguments):
    """Arguments of a head, one with a default."""

    wall: int
    trace: str = ""


class Pair(NamedTuple):
    """A row of a list."""

    key: str
    sets: bool
    weight: float | None


class Row(NamedTuple):
    """A row of a reply."""

    id: str
    fields: dict[str, str]


class Found(NamedTuple):
    """A reply with all kinds of values."""

    word: Literal["OK"]
    count: int  # type: ignore[assignment]
    at: int | None
    is_due: bool
    names: list[str]
    rows: Flat[Row]


class Numbers(NamedTuple):
    """A reply that ends in numbers."""

    word: Literal["NUMBERS"]
    numbers: Rest[int]


class Base(LuaCall[ReplyT_co], heads=(Head(Clock, ()),), folder=HERE):
    """A base of calls, without a file."""


class Example(Base[Found | Numbers | Word[Literal["STALE", "FULL"]]], lua="example", refusals=("GONE",)):
    """A call with all kinds of arguments."""

    name: str
    version: Digits
    ttl_s: int | None
    due_at: Digits | None
    force: bool
    pairs: list[Pair]
    ages: list[int]
    words: list[str]


def _example(**changes: Any) -> Example:
    values: dict[str, Any] = {"name": "a", "version": 7, "ttl_s": None, "due_at": None, "force": False}
    return Example(**{**values, "pairs": [], "ages": [], "words": [], **changes})


def _seen(call: Example, head: Clock) -> Any:
    """Run the script with the arguments as Lua gets them, and return what it returns: a table of all its arguments."""
    lua = lua51.LuaRuntime(unpack_returned_tuples=True)
    lua.globals().KEYS = lua.table_from(["wy:{env_1}:env"])
    lua.globals().ARGV = lua.table_from([str(value) for value in head.encoded + call.encoded])
    return lua.execute(call.bound.plain[0])


def test_lua_sees_the_values_under_the_names_of_the_arguments() -> None:
    """Numbers as numbers, absent ones as nil, yes and no as booleans, lists as tables."""
    pairs = [Pair("x", True, 0.25), Pair("y", False, None)]
    call = _example(ttl_s=30, due_at=5_000_000_000_000_001, force=True, pairs=pairs, ages=[1, 2], words=["", "b"])
    seen = _seen(call, Clock(wall=1_700_000_000_000_001, trace="00-1"))
    assert (seen.wall, seen.trace, seen.name, seen.version) == (1_700_000_000_000_001, "00-1", "a", "7")
    assert (seen.ttl_s, seen.due_at, seen.force) == (30, "5000000000000001", True)
    rows = [dict(row.items()) for row in seen.pairs.values()]
    assert rows == [{"key": "x", "sets": True, "weight": 0.25}, {"key": "y", "sets": False}]
    assert (list(seen.ages.values()), list(seen.words.values())) == ([1, 2], ["", "b"])


def test_nothing_is_seen_as_nothing() -> None:
    """Empty lists and absent values, and the default of a head."""
    seen = _seen(_example(), Clock(wall=1))
    assert (seen.ttl_s, seen.due_at, seen.force, seen.trace) == (None, "", False, "")
    assert [len(seen[name]) for name in ("pairs", "ages", "words")] == [0, 0, 0]


def test_a_wrong_argument_is_refused() -> None:
    """By Python too, where no type checker looks."""
    with pytest.raises(TypeError):
        _example(colour="red")
    with pytest.raises(TypeError):
        Clock()  # type: ignore[call-arg]


def test_lists_come_last() -> None:
    """After them nothing has a place of its own."""
    with pytest.raises(TypeError, match="lists come last"):

        class Backwards(LuaArguments):
            words: list[str]
            name: str


def test_replies_are_read_by_their_word() -> None:
    """Each in its own type, with the values in theirs."""
    call = _example()
    found = call.read(["OK", "3", "", "1", ["x"], "i", ["a", "b"], "j", []])
    assert found == Found("OK", 3, None, True, ["x"], [Row("i", {"a": "b"}), Row("j", {})])
    assert call.read(["NUMBERS", "1", "2"]) == Numbers("NUMBERS", [1, 2])
    assert call.read(["STALE"]) == Word("STALE")
    with pytest.raises(Refused, match="GONE"):
        call.read(["GONE", "since when"])
    with pytest.raises(KeyError):
        call.read(["OTHER"])


def test_the_text_of_a_script_is_the_same_each_time() -> None:
    """Redis knows it by its hash; in a cluster it is another one."""

    class Again(Base[Word[Literal["OK"]]], lua="example"):
        name: str

    class Twice(Base[Word[Literal["OK"]]], lua="example"):
        name: str

    assert Again.bound.plain == Twice.bound.plain
    assert Again.bound.plain[1] != Again.bound.in_cluster[1]
    assert "TRYAGAIN" in Again.bound.in_cluster[0]
