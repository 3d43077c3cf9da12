"""Reads scripts from YAML or JSON, with readable error messages. `script.py` defines what a script is."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from workyard_store.errors import InvalidRequest
from workyard_store.plain_text import in_words, plain_data, unstorable

from .script import Script

LONGEST_SCRIPT = 262_144
#: The ledger rule that an invalid script breaks.
_RULE = "agent.script.form"


def parse_script(text: str) -> Script:
    """Return the script in *text*, which is YAML or JSON.

    Raises:
        InvalidRequest: it is neither, or not a script; the message names each step and field.
    """
    return check_script(plain_data(text, "Script", most=LONGEST_SCRIPT, rule=_RULE))


def check_script(value: Any) -> Script:
    """Return *value*, plain data, as a script.

    Raises:
        InvalidRequest: it is not one; the message names each step and field, such as `steps.1.use_tool.name`.
    """
    if not isinstance(value, dict):
        raise InvalidRequest("Script must be a mapping with the key steps", rule=_RULE)
    try:
        problems = unstorable(value, "Script")
        if not problems:
            return Script.model_validate(value)
    except ValidationError as error:
        problems = [": ".join(part for part in (_path(p["loc"]), in_words(p["msg"])) if part) for p in error.errors()]
    except RecursionError:
        raise InvalidRequest("Script is nested too deeply", rule=_RULE) from None
    raise InvalidRequest("; ".join(problems), rule=_RULE)


def _path(location: tuple[int | str, ...]) -> str:
    """Return a problem's path as it was written: Pydantic names a step's kind twice, as its tag and as its key."""
    parts = [
        str(part)
        for place, part in enumerate(location)
        if not (place and isinstance(location[place - 1], int) and location[place : place + 2] == (part, part))
    ]
    return ".".join(parts).removesuffix(".[key]")
