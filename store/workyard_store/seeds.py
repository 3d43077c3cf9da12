"""The source of the random part of new ids and secrets: the system's randomness, or the seed of a workspace.

A script that creates a resource gets random ids first. If its workspace has a seed, the script writes nothing and answers
{'SEED', seed, place}; the place is the kind of resource and its next number in the workspace or environment. The script
then runs again with ids derived from seed and place, and a flag that says so. Without a seed there is no second run.
Rules: `state.id-seed`, `state.id-taken`.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from .engine.lua import Refused
from .ids import derived_suffix, new_id

_SECRET_BYTES = 32

Event = Mapping[str, Any]
T = TypeVar("T")
#: The answer of a script that refuses random ids.
SEED = "SEED"


class Fresh:
    """Makes the ids and secrets of one step.

    Attributes:
        seeded: whether they are derived from a seed.
    """

    def __init__(self, *parts: str) -> None:
        """Derive them from *parts* (the seed and the place in it); without parts they are random."""
        self.seeded = bool(parts)
        self._parts = parts
        self._made = 0

    @classmethod
    def of(cls, owner: str, refused: Refused) -> Fresh:
        """Return the maker of ids and secrets for the seed that a script answered; *owner*: a workspace or an environment.

        Raises:
            Refused: the script has refused something else.
        """
        if refused.word != SEED:
            raise refused
        return cls(owner, *refused.details)

    def id(self, kind: str) -> str:
        """Return a new id of *kind*."""
        return f"{kind}_{derived_suffix(*self._next(kind))}" if self._parts else new_id(kind)

    def secret(self) -> str:
        """Return 256 bits, in base64 for URLs."""
        if self._parts:
            data = hashlib.sha256("\0".join(self._next("secret")).encode()).digest()
        else:
            data = os.urandom(_SECRET_BYTES)
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    def event(self, event: Event) -> dict[str, Any]:
        """Return an event with its random ids replaced by new ones."""
        if not self._parts:
            return dict(event)
        outcome = {"outcome_id": self.id("outc")} if "outcome_id" in event else {}
        return {**event, "id": self.id("sevt"), **outcome}

    def _next(self, kind: str) -> tuple[str, ...]:
        self._made += 1
        return ("seeded", *self._parts, kind, str(self._made))


async def fresh(owner: str, step: Callable[[Fresh], Awaitable[T]]) -> T:
    """Run a step that creates a resource in *owner*, a workspace or an environment, and return its reply."""
    try:
        return await step(Fresh())
    except Refused as refused:
        new = Fresh.of(owner, refused)
    return await step(new)
