"""Shapes every resource shares: strict bodies, errors, pages, metadata."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from workyard_store.clock import format_instant, parse_instant
from workyard_store.metadata import LONGEST_METADATA_KEY, LONGEST_METADATA_VALUE, MOST_METADATA_KEYS

TIMESTAMP = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$"
_SUFFIX = "01[1-9A-HJ-NP-Za-km-z]{22}$"
REQUEST_ID = "^req_" + _SUFFIX
ENVIRONMENT_ID = "^env_" + _SUFFIX
WORK_ID = "^work_" + _SUFFIX
KEY_ID = "^envkey_" + _SUFFIX
SESSION_ID = "^session_[0-9A-Za-z]{1,64}$"
DEFAULT_LIMIT = 20
MOST_PER_PAGE = 1000


class Body(BaseModel):
    """A request body: JSON types are taken as they are, unknown keys are refused."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Shape(BaseModel):
    """A response: every member is always present."""

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True, defer_build=True)


_METADATA_KEY = {"type": "string", "minLength": 1, "maxLength": LONGEST_METADATA_KEY}
_METADATA_VALUE = {"type": "string", "maxLength": LONGEST_METADATA_VALUE}
#: Only a key that is set has to keep the caps; `[\s\S]`, for a dot stands for no line break.
_SETTABLE_KEY = rf"^[\s\S]{{1,{LONGEST_METADATA_KEY}}}$"


def _instant(value: str) -> int:
    instant = parse_instant(value)
    if instant is None:
        raise PydanticCustomError("rfc3339", "Not an RFC 3339 timestamp, such as 2026-09-16T04:27:29.962294Z")
    return instant


def _instant_text(value: str) -> str:
    _instant(value)
    return value


_RFC3339 = WithJsonSchema(
    {
        "type": "string",
        "format": "date-time",
        "pattern": r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$",
    }
)
#: A timestamp in a body: its text.
Rfc3339 = Annotated[str, AfterValidator(_instant_text), _RFC3339]
#: A timestamp in the query: microseconds.
QueryInstant = Annotated[int, BeforeValidator(_instant), _RFC3339]

Metadata = Annotated[
    dict[str, str],
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MOST_METADATA_KEYS,
            "propertyNames": _METADATA_KEY,
            "additionalProperties": _METADATA_VALUE,
        }
    ),
]
Timestamp = Annotated[
    str,
    Field(pattern=TIMESTAMP, examples=["2026-09-16T04:27:29.962294Z"], json_schema_extra={"format": "date-time"}),
]
NextPage = Annotated[
    Annotated[str, Field(pattern="^page_")] | None,
    Field(description="Cursor of the next page, for `page`; null exactly when no row follows."),
]

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "overloaded_error",
    "api_error",
]


class ErrorDetails(Shape):
    """Details that a program can use to tell errors apart."""

    error_code: Literal["invalid_config_type_change", "environment_archived", "invalid_metadata"] = Field(
        description="The rule that was broken."
    )


class ErrorBody(Shape):
    """The error."""

    type: ErrorType = Field(description="The error type.")
    message: str = Field(description="Human-readable message; a validation error names each field.")
    details: ErrorDetails | SkipJsonSchema[None] = Field(
        None, description="Present only where a program needs more than the type."
    )
    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=False)


class Error(Shape):
    """The envelope of every error."""

    type: Literal["error"] = Field(description="Always `error`.")
    error: ErrorBody = Field(description="The error.")
    request_id: str = Field(description="Equal to the response header `request-id`.", pattern=REQUEST_ID)


def metadata_patch_schema(*deleting: str | None) -> dict[str, Any]:
    """Describe a patch of metadata. Keys that are only deleted, by a value of *deleting*, need not keep the caps."""
    return {
        "type": "object",
        "patternProperties": {_SETTABLE_KEY: {"anyOf": [_METADATA_VALUE, {"type": "null"}]}},
        "additionalProperties": {"enum": list(deleting)},
    }


def optional_instant(us: int | None) -> str | None:
    """Render an instant that may not have come yet."""
    return None if us is None else format_instant(us)


def render_page(rows: list[dict[str, Any]], next_page: str | None) -> dict[str, Any]:
    """Render a page of a list."""
    return {"data": rows, "next_page": next_page}
