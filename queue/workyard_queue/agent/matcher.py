"""A script's conditions on the result of a call: on its text, on JSON in it, on its outcome. Knows no event."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError, SchemaError

#: How much of a result an error quotes, in characters.
QUOTED = 200
_PATH = r"\$(?:\.[A-Za-z_][A-Za-z0-9_-]*|\[[0-9]{1,6}\])*"
_PART = re.compile(r"\.([^.\[]+)|\[([0-9]+)\]")

_CONDITIONS = ("equals", "contains", "matches", "is_error", "denied", "json")


@lru_cache(maxsize=256)
def _searcher(pattern: str) -> TypeAdapter[str]:
    """Compile a pattern with the regex engine that Pydantic uses: unlike `re`, no pattern can make it hang."""
    return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])


def _checked_pattern(pattern: str) -> str:
    try:
        _searcher(pattern)
    except SchemaError as error:
        reason = str(error).strip().rpartition("\n")[2].removeprefix("error: ")
        raise PydanticCustomError("pattern", "Not a regular expression: {reason}", {"reason": reason}) from None
    return pattern


def _checked_path(path: str) -> str:
    if re.fullmatch(_PATH, path) is None:
        raise PydanticCustomError("path", "Not a path such as $.items[0].name")
    return path


Pattern = Annotated[
    str, Field(max_length=1024, json_schema_extra={"format": "regex"}), AfterValidator(_checked_pattern)
]
Path = Annotated[str, Field(json_schema_extra={"pattern": f"^{_PATH}$"}), AfterValidator(_checked_path)]

Values = Annotated[dict[Path, JsonValue], Field(min_length=1, json_schema_extra={"additionalProperties": False})]


class Matcher(BaseModel):
    """Conditions on the result of one call; all that are given must hold."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra={"anyOf": [{"required": [name]} for name in _CONDITIONS]},
    )

    call: int = Field(0, ge=0, description="Which of the calls just made, in the script's order from 0.")
    equals: str | None = Field(None, description="The text is this.")
    contains: str | None = Field(None, description="This is in the text.")
    matches: Pattern | None = Field(
        None, description="This regular expression matches somewhere in the text; no look-around, no back-references."
    )
    is_error: bool | None = Field(None, description="The tool failed, or did not. A denied call counts as failed.")
    denied: bool | None = Field(None, description="The call was denied, or was not.")
    json_values: Values | None = Field(
        None, alias="json", description="The text is JSON with this value at each path, such as $.items[0].name."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Matcher:
        given = (self.equals, self.contains, self.matches, self.is_error, self.denied, self.json_values)
        if all(condition is None for condition in given):
            raise PydanticCustomError("matcher", "Give at least one of " + ", ".join(_CONDITIONS))
        return self

    def problem(self, text: str, *, is_error: bool, denied: bool) -> str | None:
        """Return the first condition that does not hold, in words, or None."""
        got = f", got {_quoted(text)}"
        if self.denied is not None and denied != self.denied:
            return f"denied: expected {_word(self.denied)}, got {_word(denied)}"
        if self.is_error is not None and is_error != self.is_error:
            return f"is_error: expected {_word(self.is_error)}{got}"
        if self.equals is not None and text != self.equals:
            return f"equals: expected {_quoted(self.equals)}{got}"
        if self.contains is not None and self.contains not in text:
            return f"contains: expected {_quoted(self.contains)}{got}"
        if self.matches is not None and not _found(self.matches, text):
            return f"matches: expected {_quoted(self.matches)}{got}"
        return None if self.json_values is None else _json_problem(self.json_values, text)


def _found(pattern: str, text: str) -> bool:
    try:
        _searcher(pattern).validate_python(text)
    except ValidationError:
        return False
    return True


def _json_problem(wanted: dict[str, JsonValue], text: str) -> str | None:
    try:
        document = json.loads(text)
        for path, value in wanted.items():
            # Compared as text: to Python, 1 is true.
            expected = _written(value)
            try:
                found = _written(_at(document, path))
            except LookupError:
                return f"json: nothing at {path} in {_quoted(text)}"
            if found != expected:
                return f"json: expected {_quoted(expected)} at {path}, got {_quoted(found)}"
    except (ValueError, RecursionError):
        # Nested too deeply for either reading or writing it.
        return f"json: expected JSON, got {_quoted(text)}"
    return None


def _at(document: JsonValue, path: str) -> JsonValue:
    """Return the value at *path*.

    Raises:
        LookupError: there is no value.
    """
    for name, index in _PART.findall(path):
        if name and isinstance(document, dict):
            document = document[name]
        elif index and isinstance(document, list):
            document = document[int(index)]
        else:
            raise LookupError(path)
    return document


def _written(value: JsonValue) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _word(value: bool) -> str:
    return "true" if value else "false"


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) <= QUOTED else text[:QUOTED] + "…", ensure_ascii=False)
