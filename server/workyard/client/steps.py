"""What a helper is made of: requests and what comes of them, written once for blocking and for asynchronous callers.

A helper is a generator: it yields a request, is given the answer, and returns what the caller gets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Generator
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import anyio.to_thread
from pydantic import BaseModel

from ..testing.target import Place
from .connection import Request, WorkyardRefused

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)
P = ParamSpec("P")
Steps = Generator[Request, Any, T]


class Helpers:
    """A place with helpers."""

    def __init__(self, place: Place) -> None:
        self._place = place


class Blocking(Helpers):
    """Helpers that return when it is done."""

    def _run(self, steps: Steps[T]) -> T:
        link, key = self._place.link, self._place.api_key
        try:
            request = next(steps)
            while True:
                try:
                    answer = link.send(request, key)
                except WorkyardRefused as refusal:
                    request = steps.throw(refusal)
                else:
                    request = steps.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result


class Awaiting(Helpers):
    """Helpers that are awaited, on asyncio or trio. Each request holds a thread while it is under way."""

    async def _run(self, steps: Steps[T]) -> T:
        link, key = self._place.link, self._place.api_key
        try:
            request = next(steps)
            while True:
                try:
                    answer = await anyio.to_thread.run_sync(link.send, request, key, abandon_on_cancel=True)
                except WorkyardRefused as refusal:
                    request = steps.throw(refusal)
                else:
                    request = steps.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result


class helper(Generic[P, T]):
    """A method written as steps; it is called like a function, and awaited on what is asynchronous."""

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
    """Return an answer as the shape that it is documented to have; what a newer server adds is passed over."""
    return model.model_validate(answer, extra="ignore")
