"""Lua files and the classes that call them: every name that a script uses is one that it has, and what its header documents is
what its class declares."""

from __future__ import annotations

import pkgutil
import re
import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from lupa import lua51

import workyard_queue.lua
import workyard_store.lua
from workyard_store.engine.lua import LuaArguments, LuaCall
from workyard_store.lua.heads import EnvironmentHead, MemoryHead, ProfileHead, WorkspaceHead

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("store/workyard_store/lua/*.lua"), *ROOT.glob("queue/workyard_queue/lua/*.lua")])
HEADS: dict[str, type[LuaArguments]] = {
    "_environment": EnvironmentHead,
    "_workspace": WorkspaceHead,
    "_profile": ProfileHead,
    "_memory": MemoryHead,
}
#: Words that `Access.run` handles for every script about an environment.
OF_ANY_ENVIRONMENT = {"GONE", "FOREIGN", "AGAIN", "FAULTS", "DEAD", "UNISSUED", "REVOKED"}
#: Globals that Redis gives to scripts.
GLOBALS = {
    *("ARGV", "KEYS", "redis", "string", "table", "math", "tonumber", "type", "select"),
    *("ipairs", "pairs", "unpack"),
}
_KEYWORDS = (
    """and break do else elseif end false for function if in local nil not or repeat return then true until while"""
)
KEYWORDS = set(_KEYWORDS.split())


def _calls() -> dict[str, type[LuaCall[Any]]]:
    """Return the classes that are bound to a file, by the file's name."""
    for package in (workyard_store.lua, workyard_queue.lua):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    found: dict[str, type[LuaCall[Any]]] = {}
    classes: list[type[LuaCall[Any]]] = [LuaCall]
    for each in classes:
        classes += each.__subclasses__()
        if "bound" in each.__dict__ and each.__module__.startswith("workyard_"):
            assert each.bound.name not in found, f"{each.bound.name}.lua has two classes"
            found[each.bound.name] = each
    return found


CALLS = _calls()


def _header(file: Path) -> str:
    head = re.match(r"(?:--.*\n)+", file.read_text())
    assert head is not None, f"{file.name} has no header"
    return head.group().replace("\n-- ", " ")


def _documented(text: str) -> set[str]:
    """Return the names between backticks, without those of files."""
    return {
        name
        for name in re.findall(r"`([^`]+)`", text)
        if not name.endswith((".lua", ".py")) and name != "EnvironmentHead"
    }


def _names(arguments: type[LuaArguments]) -> set[str]:
    """Return the names of arguments, and those of the columns of lists."""
    names = set(arguments.fields)
    for hint in arguments.fields.values():
        if get_origin(hint) is list and hasattr(get_args(hint)[0], "_fields"):
            names |= set(get_type_hints(get_args(hint)[0]))
    return names


def test_every_file_has_a_class_and_every_class_a_file() -> None:
    """A script that nothing calls, or is called past its class, is neither."""
    assert set(CALLS) == {file.stem for file in FILES if not file.stem.startswith("_")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_file_counts_its_arguments(file: Path) -> None:
    """Their names come from the class."""
    assert "ARGV" not in file.read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_script_opens_with_its_contract(file: Path) -> None:
    """Purpose, key, every argument by its name, answers, and why it must be atomic."""
    text = _header(file)
    if file.stem.startswith("_"):
        if file.stem in HEADS:
            listed = re.search(r"Arguments?\b[^:]*?(?: \([^)]*\))?: (.*?)(?:\. |\.?\n|$)", text)
            assert listed is not None
            assert set(HEADS[file.stem].fields) <= _documented(text)
        return
    assert "KEYS[1]: " in text
    assert file.stem in ("workspace_list", "key_list") or "Atomic: " in text
    arguments, _, answers = text.partition("Arguments: ")[2].partition("Answer: ")
    assert answers
    names = _names(CALLS[file.stem])
    assert _documented(arguments.partition("-- Of rules")[0]) == names
    assert bool(names) != arguments.startswith("none.")


@pytest.mark.parametrize("name", CALLS)
def test_the_words_of_a_reply_are_declared_and_documented(name: str) -> None:
    """In the header and in the class: the same ones, and all that the script returns."""
    call = CALLS[name]
    file = next(file for file in FILES if file.stem == name)
    header = _header(file).partition("Answer: ")[2]
    documented = set(re.findall(r"'([A-Z]{2,})'", header))
    declared = {*call.replies, *call.refusals}
    assert documented - OF_ANY_ENVIRONMENT == declared - OF_ANY_ENVIRONMENT
    returned = set(re.findall(r"return \{'([A-Z]+)'", file.read_text()))
    assert returned <= documented


@pytest.mark.parametrize("name", CALLS)
def test_an_argument_hides_no_name_of_the_parts_before_it(name: str) -> None:
    """A script that calls a shared function must not have an argument of that name."""
    call = CALLS[name]
    taken = set(KEYWORDS)
    for head in call.heads:
        fields = set(head.arguments.fields) if head.arguments else set()
        assert not fields & taken
        taken |= fields
        for file in head.files:
            for names in re.findall(r"^local (?:function )?([\w, ]+)", file.read_text(), re.MULTILINE):
                taken |= {each.strip() for each in names.split(",")}
    assert not set(call.fields) & taken


@pytest.mark.parametrize("name", CALLS)
def test_a_script_compiles_and_uses_no_name_that_nothing_defines(name: str) -> None:
    """The embedded engine would take such a name for nil; Redis would stop the script there. Lua allows 200 locals and 60 names
    from outside a function."""
    for text, _ in (CALLS[name].bound.plain, CALLS[name].bound.in_cluster):
        assert set(_globals(text)) <= GLOBALS


def _globals(text: str) -> Iterator[str]:
    """Yield the names of global variables that a Lua text reads or writes, from its bytecode."""
    lua = lua51.LuaRuntime(encoding=None)
    dump = lua.eval(b"function(text) return string.dump(assert(loadstring(text))) end")
    return _Bytecode(dump(text.encode())).globals()


class _Bytecode:
    """Reads what `string.dump` of Lua 5.1 writes on a 64-bit machine of little-endian order."""

    _GETGLOBAL, _SETGLOBAL = 5, 7

    def __init__(self, data: bytes) -> None:
        assert data[:12] == b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00", "another format of bytecode"
        self._data = data
        self._at = 12

    def _take(self, form: str) -> Any:
        values = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values[0]

    def _text(self) -> str:
        length = self._take("Q")
        return self._take(f"{length}s")[:-1].decode(errors="replace") if length else ""

    def globals(self) -> Iterator[str]:
        """Yield the names that the function here, and those within it, have from outside the text."""
        self._text()
        self._at += 12  # Its lines; numbers of outer names and parameters; flags; size of its stack.
        code = [self._take("I") for _ in range(self._take("i"))]
        constants = [self._constant() for _ in range(self._take("i"))]
        for instruction in code:
            if instruction & 0x3F in (self._GETGLOBAL, self._SETGLOBAL):
                yield str(constants[instruction >> 14])
        for _ in range(self._take("i")):
            yield from self.globals()
        lines = self._take("i")
        self._at += 4 * lines
        for _ in range(self._take("i")):
            self._text()
            self._at += 8
        for _ in range(self._take("i")):
            self._text()

    def _constant(self) -> object:
        match self._take("b"):
            case 0:
                return None
            case 1:
                return bool(self._take("b"))
            case 3:
                return self._take("d")
            case _:
                return self._text()
