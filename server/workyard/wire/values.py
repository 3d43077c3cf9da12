"""Values that requests, fault rules and documents have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError


def _true_itself(value: object) -> object:
    if value is not True and value is not None:  # 1 equals it.
        raise PydanticCustomError("true", "Input should be True")
    return value


#: `true`, or the member is absent.
OnlyTrue = Annotated[Literal[True], BeforeValidator(_true_itself)]
