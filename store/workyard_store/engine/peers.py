"""Questions to all server processes on one Redis, over the wake channel: write what you keep, what runs at your place.

A question is the message `?<kind> <token> <argument>`, an answer `!<token> <process> <word>`; the token names the process
that asks. Redis tells how many processes heard the question, so the one that asks knows how many answers to wait for,
and gives up on them after a time: the answer then says that it is not complete. The process that asks answers too, also
when its own subscription is being renewed. On the embedded engine there is nobody else, and nothing is sent.

A kind is a word, its argument any text, an answer one word or short text, as whoever adds the kind decides. Who answers
must not ask.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

from workyard_store.engine.engine import Engine
from workyard_store.errors import StorageUnavailable

_log = logging.getLogger("workyard")

#: Seconds in which processes that run well have answered.
WITHIN_S = 0.2
#: The word of a process that could not do what it was asked, or does not know the kind of question.
UNABLE = "-"
#: Questions of which a message that comes twice is known: in a cluster each comes once for every primary.
_KNOWN = 1024

#: Answers one kind of question.
Answerer = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the server processes said.

    Attributes:
        words: their answers, by the name of the process; without those that could not tell.
        complete: whether all that are there have answered.
    """

    words: dict[str, str]
    complete: bool


@dataclass(slots=True)
class _Asked:
    """A question on its way. `hearers`: how many processes heard it, None until Redis has said so."""

    words: dict[str, str] = field(default_factory=dict)
    hearers: int | None = None
    came: asyncio.Event = field(default_factory=asyncio.Event)


class Questions:
    """The questions that this process asks and answers.

    Attributes:
        process: the name of this process in answers.
    """

    def __init__(self, engine: Engine) -> None:
        self.process = os.urandom(6).hex()
        self._engine = engine
        self._answerers: dict[str, Answerer] = {}
        self._asked: dict[str, _Asked] = {}
        self._numbers = count(1)
        self._seen: deque[str] = deque(maxlen=_KNOWN)
        self._under_way: set[asyncio.Task[None]] = set()

    def answer(self, kind: str, answerer: Answerer) -> None:
        """Answer questions of *kind* with what *answerer* makes of the argument; StorageUnavailable: it cannot tell."""
        self._answerers[kind] = answerer

    async def ask(self, kind: str, argument: str = "", *, within_s: float = WITHIN_S) -> Answers:
        """Ask all server processes, this one too.

        Raises:
            StorageUnavailable: Redis did not take the question.
        """
        if self._engine.name == "embedded":
            return _answers({self.process: await self._word(kind, argument)}, came=True)
        token = f"{self.process}.{next(self._numbers)}"
        asked = self._asked[token] = _Asked()
        try:
            asked.hearers = await self._engine.publish(f"?{kind} {token} {argument}")
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    while len(asked.words) < asked.hearers:
                        asked.came.clear()
                        await asked.came.wait()
        finally:
            del self._asked[token]
        words = dict(asked.words)
        came = len(words) >= asked.hearers
        if self.process not in words:
            words[self.process] = await self._word(kind, argument)
        return _answers(words, came=came)

    def heard(self, message: str) -> None:
        """Take a question or an answer from the wake channel."""
        sign, rest = message[0], message[1:]
        if sign == "!":
            token, _, answer = rest.partition(" ")
            process, _, word = answer.partition(" ")
            self._take(token, process, word)
            return
        kind, _, rest = rest.partition(" ")
        token, _, argument = rest.partition(" ")
        if token in self._seen:
            return
        self._seen.append(token)
        task = asyncio.create_task(self._reply(kind, token, argument))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _take(self, token: str, process: str, word: str) -> None:
        asked = self._asked.get(token)
        if asked is not None:
            asked.words[process] = word
            asked.came.set()

    async def _reply(self, kind: str, token: str, argument: str) -> None:
        word = await self._word(kind, argument)
        if token.startswith(f"{self.process}."):
            self._take(token, self.process, word)
            return
        with suppress(StorageUnavailable):
            await self._engine.command("PUBLISH", self._engine.keys.wake, f"!{token} {self.process} {word}")

    async def _word(self, kind: str, argument: str) -> str:
        answerer = self._answerers.get(kind)
        if answerer is None:
            return UNABLE
        try:
            return await answerer(argument)
        except StorageUnavailable:
            return UNABLE
        except Exception:
            _log.exception("the question %s %s could not be answered", kind, argument)
            return UNABLE


def _answers(words: dict[str, str], *, came: bool) -> Answers:
    told = {process: word for process, word in words.items() if word != UNABLE}
    return Answers(told, complete=came and len(told) == len(words))
