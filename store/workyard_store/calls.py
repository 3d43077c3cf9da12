"""The current API call, as scripts, timelines, faults and the journal see it. Contains no rule.

A route's handler sets `CURRENT`; any code that runs for the call can read it there. It is None in steps that the server
takes without a call.
"""

from __future__ import annotations

import json
import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache

#: Characters of a client's headers that are kept.
_MOST_AGENT = 120
_MOST_HELPER = 80
_MOST_REMEMBERED = 512

#: What stands for a secret.
MASK = "***"
_TOKEN = "sk-ant-"
#: What the `secret` of a hand-out begins with: `{"sessions_token":` in base64.
_WRAPPED = "eyJzZXNzaW9uc190b2tlbiI6"
_TOKENS = re.compile(f"(?:{_TOKEN}|{_WRAPPED})[0-9A-Za-z_-]+")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


@dataclass(slots=True)
class ApiCall:
    """One request to the API or the control plane, after its credential was read. What its client chose may hold a token,
    and is not in its `repr`.

    Attributes:
        on: the operation, a word of `workyard.operations`, such as `poll` or `environments.create`.
        request_id: `req_…`.
        credential: what kind of credential it came with, and the first digits of its digest (`Caller.label`).
        worker_id: header `Anthropic-Worker-ID`, or an empty string.
        user_agent: header `User-Agent`, or an empty string.
        helper: header `x-stainless-helper`, which the SDKs' own workers and pollers send.
        traceparent: what the call's own trace is called (W3C Trace Context), or an empty string; `handed_out`: the same of the
            call that enqueued the item which a poll was given.
        round_trips: number of round trips to the engine on its behalf.
        environment_id, work_id, session_id: as the path names them, or empty strings.
        asks: whether no script has yet looked for faults on behalf of this call.
        faults: names of the fault rules that were applied to it.
        waits: whether it is a blocked poll, which reads nothing meanwhile.
        after: what fault rules do to its answer, or None; only the server's `faults/` package interprets it.
    """

    on: str
    request_id: str
    credential: str = "none"
    worker_id: str = field(default="", repr=False)
    user_agent: str = field(default="", repr=False)
    helper: str = field(default="", repr=False)
    traceparent: str = ""
    handed_out: str = ""
    round_trips: int = 0
    environment_id: str = field(default="", repr=False)
    work_id: str = field(default="", repr=False)
    session_id: str = field(default="", repr=False)
    asks: bool = False
    faults: list[str] = field(default_factory=list)
    waits: bool = False
    after: object = None
    _by: str | None = field(default=None, repr=False)

    @property
    def by(self) -> str:
        """Return who calls, as a timeline keeps it: JSON with r (request id), w (worker id), a (user agent), h (helper),
        c (credential), and o (operation). No token of the known forms is in it."""
        if self._by is None:
            named = self.worker_id, self.user_agent, self.helper, self.credential
            # What is remembered is short.
            client = _client(*named) if sum(map(len, named)) < _MOST_REMEMBERED else _client.__wrapped__(*named)
            self._by = f'{{"r":"{self.request_id}",{client},"o":"{self.on}"}}'
        return self._by


@lru_cache(maxsize=1024)
def _client(worker_id: str, user_agent: str, helper: str, credential: str) -> str:
    """Return the members of `ApiCall.by` that are the same for all calls of a client."""
    return _encode(
        {
            "w": without_tokens(worker_id),
            "a": without_tokens(user_agent)[:_MOST_AGENT],
            "h": without_tokens(helper)[:_MOST_HELPER],
            "c": credential,
        }
    )[1:-1]


CURRENT: ContextVar[ApiCall | None] = ContextVar("workyard_call", default=None)


def without_tokens(text: str) -> str:
    """Return a text with the tokens of the known forms masked."""
    return _TOKENS.sub(f"{_TOKEN}{MASK}", text) if has_token(text) else text


def has_token(text: str) -> bool:
    """Return whether a text seems to contain a token of the known forms."""
    return _TOKEN in text or _WRAPPED in text
