"""A strict reader of plain data in YAML or JSON, with readable error messages. It does not know what the data means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import yaml

from .errors import InvalidRequest

_INTEGER = r"-?(?:0|[1-9][0-9]*)"
#: What a plain scalar is: what JSON has, and no more. In YAML 1.1, `no`, `12:30` and `2026-01-01` are not strings.
_SCALARS = {
    "null": ("~|null|", ["~", "n", ""]),
    "bool": ("true|false", ["t", "f"]),
    "int": (_INTEGER, list("-0123456789")),
    "float": (rf"{_INTEGER}(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", list("-0123456789")),
}


class _Loader(yaml.SafeLoader):
    """Refuses aliases, because a few lines of them can expand to more than fits into memory; tags, because PyYAML does not
    check them; and duplicate keys, because the second would silently replace the first.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self._refuse("aliases are not allowed")
        if getattr(self.current_event, "tag", None) is not None:
            self._refuse("tags are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse("a key cannot be a mapping or a list; put {{message}} in quotes", key.start_mark)
            if key.value in keys:
                self._refuse(f"duplicate key {key.value}", key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)

    def _refuse(self, problem: str, mark: yaml.Mark | None = None) -> NoReturn:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark or self.current_event.start_mark)


_Loader.yaml_implicit_resolvers = {}
for _tag, (_form, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_form})\Z"), _first)


def plain_data(text: str, noun: str, *, most: int, rule: str | None = None) -> Any:
    """Return the data in *text*, which is YAML or JSON.

    Args:
        text: the text.
        noun: the expected kind of document, as messages name it, such as `Script`.
        most: maximum number of characters.
        rule: the ledger rule that a refused text breaks.

    Raises:
        InvalidRequest: it is neither, is too long, or nested too deeply.
    """
    if len(text) > most:
        raise InvalidRequest(f"{noun} exceeds {most} characters", rule=rule)
    try:
        return _parse(text)
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{noun} is not valid YAML or JSON: {_yaml_problem(error, text)}", rule=rule) from None
    except RecursionError:
        raise InvalidRequest(f"{noun} is nested too deeply", rule=rule) from None
    except ValueError as error:
        # A number with more digits than Python takes.
        raise InvalidRequest(f"{noun} is not valid YAML or JSON: {error}", rule=rule) from None


def _parse(text: str) -> Any:
    try:
        # First: JSON that is indented by tabs is not YAML.
        return json.loads(text)
    except ValueError:
        return yaml.load(text, _Loader)


def unstorable(value: Any, noun: str) -> list[str]:
    """Return a problem for each string of *value* with U+0000 or a lone surrogate, keys included.

    Raises:
        RecursionError: it is nested too deeply.
    """
    return [f"{path or noun}: String contains a character that cannot be stored" for path in _unstorable(value, "")]


def _unstorable(value: Any, path: str) -> Iterator[str]:
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            yield path
    elif isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        yield from _unstorable(key, path)
        yield from _unstorable(child, f"{path}.{key}" if path else str(key))


def in_words(problem: str) -> str:
    """Return a problem as Pydantic puts it, without the name of a class of ours."""
    return re.sub(r" or instance of \w+\Z", "", problem)


def _yaml_problem(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return (
            f"line {line}, column {column}: the character U+{ord(text[error.position]):04X} cannot be written as it is"
        )
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}"
    return str(error).partition("\n")[0]
