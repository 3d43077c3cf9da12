"""Helpers as steps, written once for blocking and for asynchronous callers.

A helper is a generator: it yields a request, receives the answer, and returns the caller's result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Generator
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

import anyio.to_thread
from pydantic import BaseModel

from .connection import Connection, Request, WorkyardRefused

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)
P = ParamSpec("P")
Steps = Generator[Request, Any, T]


class Target(Protocol):
    """Where requests go: the connection to a server, and the API key of a workspace on it."""

    @property
    def connection(self) -> Connection:
        """The connection to the server."""

    @property
    def api_key(self) -> str:
        """The API key of the workspace."""


class Helpers:
    """Helpers for the workspace of a target."""

    def __init__(self, target: Target) -> None:
        self._target = target


class Blocking(Helpers):
    """Helpers that return when they are done."""

    def _run(self, steps: Steps[T]) -> T:
        connection, key = self._target.connection, self._target.api_key
        try:
            request = next(steps)
            while True:
                try:
                    answer = connection.send(request, key)
                except WorkyardRefused as refusal:
                    request = steps.throw(refusal)
                else:
                    request = steps.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result


class Awaiting(Helpers):
    """Helpers that are awaited, on asyncio or trio. Each request occupies a thread until its answer comes."""

    async def _run(self, steps: Steps[T]) -> T:
        connection, key = self._target.connection, self._target.api_key
        try:
            request = next(steps)
            while True:
                try:
                    answer = await anyio.to_thread.run_sync(connection.send, request, key, abandon_on_cancel=True)
                except WorkyardRefused as refusal:
                    request = steps.throw(refusal)
                else:
                    request = steps.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result


class helper(Generic[P, T]):
    """Turns a method written as steps into one that is called on `Blocking` and awaited on `Awaiting`."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        @functools.wraps(steps)
        def call(self: Blocking | Awaiting, *arguments: P.args, **keywords: P.kwargs) -> Any:
            return self._run(steps(self, *arguments, **keywords))

        self._call = call
        self.steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> helper[P, T]: ...
    @overload
    def __get__(self, instance: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Awaiting, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, instance: Blocking | Awaiting | None, owner: type) -> Any:
        return self if instance is None else MethodType(self._call, instance)


def read(model: type[Model], answer: Any) -> Model:
    """Return an answer as its documented model; members that a newer server adds are ignored."""
    return model.model_validate(answer, extra="ignore")
