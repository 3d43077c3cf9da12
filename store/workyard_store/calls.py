"""The API call that is being answered: what scripts, life lines, faults and the journal are told of it. Owns no rule.

A route's handler sets `CURRENT`; whatever runs for the call, however deep, finds it there. Steps that the server takes by
itself, with no call, find None.
"""

from __future__ import annotations

import json
import re
from contextvars import ContextVar
from dataclasses import dataclass, field

#: Characters of a client's headers that are kept.
_MOST_AGENT = 120
_MOST_HELPER = 80

#: What stands for a secret.
MASK = "***"
_TOKENS = re.compile(r"sk-ant-[0-9A-Za-z_-]*")

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
        helper: header `x-stainless-helper`, by which the SDKs' own workers and pollers name themselves.
        environment_id, work_id, session_id: as the path names them, or empty strings.
        asks: whether no script has yet looked for faults on behalf of this call.
        faults: names of the fault rules that were applied to it.
        waits: whether it is a poll that is blocked, and looks at nothing meanwhile.
        after: what fault rules do to its answer, or None; the server's `faults.py` knows what it is.
    """

    on: str
    request_id: str
    credential: str = "none"
    worker_id: str = field(default="", repr=False)
    user_agent: str = field(default="", repr=False)
    helper: str = field(default="", repr=False)
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
        """Return who calls, as a life line keeps it: JSON with r (request id), w (worker id), a (user agent), h (helper),
        c (credential), and o (operation). No token of the known forms is in it."""
        if self._by is None:
            self._by = _encode(
                {
                    "r": self.request_id,
                    "w": without_tokens(self.worker_id),
                    "a": without_tokens(self.user_agent)[:_MOST_AGENT],
                    "h": without_tokens(self.helper)[:_MOST_HELPER],
                    "c": self.credential,
                    "o": self.on,
                }
            )
        return self._by


CURRENT: ContextVar[ApiCall | None] = ContextVar("workyard_call", default=None)


def without_tokens(text: str) -> str:
    """Return a text with the tokens of the known forms masked."""
    return _TOKENS.sub(f"sk-ant-{MASK}", text) if "sk-ant-" in text else text
