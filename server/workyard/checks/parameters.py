"""Parameters of a route, read from a request: declared to FastAPI, which describes and validates them, and looked up here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, get_origin

from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from .call import Call


class Parameters:
    """The parameters that a route declares, read from a request.

    FastAPI takes the declarations, describes them and validates each value. It would determine for every request again
    where a parameter comes from, under which name, and whether it is a list; that took half of the time of a request. So
    this class determines it once.
    """

    def __init__(self, declared: Dependant) -> None:
        unread = (declared.dependencies, declared.cookie_params, declared.body_params[1:])
        if any(unread) or declared.response_param_name or declared.background_tasks_param_name:
            raise TypeError(f"{declared.path}: a route takes the call, path, query, headers and one body, nothing else")
        self._call = declared.request_param_name
        self._path = [_source("path", field) for field in declared.path_params]
        self._query = [_source("query", field) for field in declared.query_params if not _is_list(field)]
        self._lists = [_source("query", field) for field in declared.query_params if _is_list(field)]
        self._headers = [_source("header", field) for field in declared.header_params]
        self._body = declared.body_params[0] if declared.body_params else None

    @property
    def body_required(self) -> bool:
        """Return whether an empty body is an error."""
        return self._body is not None and self._body.field_info.is_required()

    @property
    def takes_body(self) -> bool:
        """Return whether the body is read at all."""
        return self._body is not None

    async def read(self, call: Call) -> dict[str, Any]:
        """Return the arguments of the route.

        Raises:
            RequestValidationError: with a problem for each parameter and field that breaks its rule.
        """
        arguments: dict[str, Any] = {} if self._call is None else {self._call: call}
        problems: list[Any] = []
        for sources, given in (
            (self._path, call.scope["path_params"]),
            (self._query, call.query_params if self._query else {}),
            (self._headers, call.headers),
        ):
            for name, alias, place, default, validate in sources:
                value = given.get(alias)
                if value is None:
                    arguments[name] = default
                    continue
                arguments[name], found = validate(value, loc=place)
                problems += found
        for name, alias, place, default, validate in self._lists:
            # As the SDKs send it, and as it is documented.
            many = call.query_params.getlist(alias + "[]") + call.query_params.getlist(alias)
            arguments[name], found = validate(many, loc=place) if many else (default, None)
            problems += found or []
        body = None
        if self._body is not None:
            body = await call.json()
            if body is None:
                arguments[self._body.name] = self._body.default
            else:
                arguments[self._body.name], found = self._body.validate(body, loc=("body",))
                problems += found
        if problems:
            raise RequestValidationError(problems, body=body)
        return arguments


def _is_list(field: ModelField) -> bool:
    return get_origin(field.field_info.annotation) is list


def _source(place: str, field: ModelField) -> tuple[str, str, tuple[str, str], Any, Callable[..., Any]]:
    """Return a parameter's name in Python and on the wire, its place in a problem's path, its default, its validation."""
    if place != "path" and field.field_info.is_required():
        raise TypeError(f"{field.alias}: a query parameter or header is optional")
    return field.name, field.alias, (place, field.alias), field.default, field.validate


_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
#: More digits than any of our bounds: a longer number is out of range anyway.
_MOST_DIGITS = 18


def _query_integer(value: object) -> int | object:
    if isinstance(value, str):
        if _INTEGER.fullmatch(value) is None:
            raise PydanticCustomError(
                "int_parsing", "Input should be a valid integer, unable to parse string as an integer"
            )
        digits = value.lstrip("-").lstrip("0") or "0"
        magnitude = int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS
        return -magnitude if value.startswith("-") else magnitude
    return value


def _query_boolean(value: object) -> bool | object:
    if isinstance(value, str):
        if value not in ("true", "false", "1", "0"):
            raise PydanticCustomError("bool_parsing", "Input should be a valid boolean, unable to interpret input")
        return value in ("true", "1")
    return value


#: Comes after the bounds of an integer, so that Pydantic checks those itself and can describe them.
AS_QUERY_INTEGER = BeforeValidator(_query_integer)
QueryInteger = Annotated[int, AS_QUERY_INTEGER]
QueryBoolean = Annotated[bool, BeforeValidator(_query_boolean)]
