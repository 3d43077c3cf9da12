"""Questions and answers between the server processes of one Redis, over the wake channel: how many requests run at your
process, write what your journal holds back.

Redis returns how many processes received a question, so the asking process knows how many answers to wait for. It gives
up after a time; then the answers are marked incomplete. The asking process answers its own question, too, even while
its subscription is being renewed. On the embedded engine there is only one process, and nothing is published.

A question has a kind (one word) and an argument (any text in one line); an answer is any text in one line. Whoever adds
a kind decides what they mean. An answerer must not ask a question itself.
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
from typing import assert_never

from ..errors import StorageUnavailable
from .engine import Engine
from .wake import Answer, Question

_log = logging.getLogger("workyard")

#: Seconds within which healthy processes answer.
WITHIN_S = 0.2
#: The answer of a process that failed, or does not know the kind of question.
UNABLE = "-"
#: How many recent question ids to keep for de-duplication: in a cluster each question arrives once per primary.
_KNOWN = 1024

#: Answers one kind of question: gets the argument, returns the answer.
Answerer = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of the server processes to one question.

    Attributes:
        words: the answers, by the name of the process; processes that failed are left out.
        complete: whether every process has answered, and none failed.
    """

    words: dict[str, str]
    complete: bool


@dataclass(slots=True)
class _Pending:
    """A question that waits for answers. `receivers`: how many processes received it, None until Redis has said so."""

    words: dict[str, str] = field(default_factory=dict)
    receivers: int | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Peers:
    """All server processes on one Redis: asks them, and answers them.

    Attributes:
        process: the name of this process in answers.
    """

    def __init__(self, engine: Engine) -> None:
        self.process = os.urandom(6).hex()
        self._engine = engine
        self._answerers: dict[str, Answerer] = {}
        self._pending: dict[str, _Pending] = {}
        self._numbers = count(1)
        self._seen: deque[str] = deque(maxlen=_KNOWN)
        self._replies: set[asyncio.Task[None]] = set()

    def on(self, kind: str, answerer: Answerer) -> None:
        """Answer questions of *kind* with *answerer*, which raises StorageUnavailable if it cannot answer."""
        self._answerers[kind] = answerer

    async def ask(self, kind: str, argument: str = "", *, within_s: float = WITHIN_S) -> Answers:
        """Ask all server processes, this one included, and wait at most *within_s* seconds for the others.

        Raises:
            StorageUnavailable: Redis did not take the question.
        """
        if self._engine.name == "embedded":
            return _answers({self.process: await self._word(kind, argument)}, in_time=True)
        question = Question(f"{self.process}.{next(self._numbers)}", kind, argument)
        pending = self._pending[question.id] = _Pending()
        try:
            pending.receivers = await self._engine.publish_counted(question)
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    while len(pending.words) < pending.receivers:
                        pending.news.clear()
                        await pending.news.wait()
        finally:
            del self._pending[question.id]
        words = dict(pending.words)
        in_time = len(words) >= pending.receivers
        if self.process not in words:
            words[self.process] = await self._word(kind, argument)
        return _answers(words, in_time=in_time)

    def heard(self, message: Question | Answer) -> None:
        """Answer a question, or record an answer, that came over the wake channel."""
        match message:
            case Question():
                if message.id not in self._seen:
                    self._seen.append(message.id)
                    reply = asyncio.create_task(self._reply(message))
                    self._replies.add(reply)
                    reply.add_done_callback(self._replies.discard)
            case Answer():
                self._record(message)
            case _:
                assert_never(message)

    def _record(self, answer: Answer) -> None:
        pending = self._pending.get(answer.question)
        if pending is not None:
            pending.words[answer.process] = answer.word
            pending.news.set()

    async def _reply(self, question: Question) -> None:
        answer = Answer(question.id, self.process, await self._word(question.kind, question.argument))
        if question.id.startswith(f"{self.process}."):
            self._record(answer)
            return
        with suppress(StorageUnavailable):
            await self._engine.publish(answer)

    async def _word(self, kind: str, argument: str) -> str:
        answerer = self._answerers.get(kind)
        if answerer is None:
            return UNABLE
        try:
            return await answerer(argument)
        except StorageUnavailable:
            return UNABLE
        except Exception:
            _log.exception("the peer request %s %s could not be answered", kind, argument)
            return UNABLE


def _answers(words: dict[str, str], *, in_time: bool) -> Answers:
    answered = {process: word for process, word in words.items() if word != UNABLE}
    return Answers(answered, complete=in_time and len(answered) == len(words))
