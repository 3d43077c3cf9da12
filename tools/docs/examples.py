"""The examples of the control plane's page: a story that is told to a server, and what that said.

Clock and seed are fixed, so it is the same story each time; what is of the wall clock, or of this run, is shown as `…`.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from workyard.testing.hosting import host

_KEY = "workyard-docs"
_NOON = "2031-05-06T12:00:00Z"
#: Members whose values no seed decides.
_VARIES = {"ahead_seconds", "waited_ms", "duration_ms"}
#: Instants of the wall clock, and ids that are made of them; ids of requests.
_PASSING = re.compile(r"(\b20(?!31-05)\d\d-\d\d-\d\dT[\d:.]+Z|\b\d{13}-\d+\b|(?<=req_)\w+)")


@dataclass(frozen=True, slots=True)
class Example:
    """A request as it is written on the wire, and its answer: JSON, or a text. *language*: of the answer's block."""

    request: str
    answer: Any
    language: str


class _Story:
    """A server, and the examples so far by the operation they are of."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        self.examples: dict[str, Example] = {}

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Make a call that must succeed; return its answer, JSON or text."""
        named = {"x-api-key": _KEY} | {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            named["content-type"] = "application/json"
        self._connection.request(method, path, None if body is None else json.dumps(body), named)
        answer = self._connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise ValueError(f"{method} {path}: {answer.status}: {text}")
        return json.loads(text) if (answer.headers["content-type"] or "").startswith("application/json") else text

    def show(self, operation: str, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Make a call and keep it as the example of an operation; return its answer."""
        answer = self.ask(method, path, body, **headers)
        request = f"{method} {path} HTTP/1.1"
        if body is not None:
            request += "\n\n" + json.dumps(body, ensure_ascii=False)
        language = "text" if isinstance(answer, str) else "json"
        self.examples[operation] = Example(request, _repeatable(answer), language)
        return answer

    def close(self) -> None:
        self._connection.close()


def _repeatable(value: Any) -> Any:
    """Return an answer without what differs from run to run."""
    if isinstance(value, Mapping):
        return {name: "…" if name in _VARIES and each is not None else _repeatable(each) for name, each in value.items()}  # fmt: skip
    if isinstance(value, list):
        return [_repeatable(each) for each in value]
    return _PASSING.sub("…", value) if isinstance(value, str) else value


def examples() -> dict[str, Example]:
    """Tell the story to a new server on the embedded engine; return the examples by the operations they are of.

    Raises:
        ValueError: a call was refused.
    """
    server = host()
    story = _Story(server.url)
    try:
        _tell(story)
    finally:
        story.close()
        server.close()
    return story.examples


def _tell(story: _Story) -> None:
    show, ask = story.show, story.ask
    show("health", "GET", "/_emulator/health")
    show("list_rules", "GET", "/_emulator/rules?search=work.ack.state")
    show("get_rule", "GET", "/_emulator/rules/work.ack.state")
    show("change_settings", "POST", "/_emulator/settings", {"id_seed": 42, "startup_lease_seconds": 60})
    show("get_settings", "GET", "/_emulator/settings")
    ask("POST", "/_emulator/clock", {"mode": "frozen", "at": _NOON})
    script = {"steps": [{"say": "You said: {{message}}"}]}
    ask("PUT", "/_emulator/scripts/default", script)
    state = show("export_state", "GET", "/_emulator/state")
    kept = {name: state[name] for name in ("version", "clock", "settings")}
    show("restore_state", "PUT", "/_emulator/state", kept)
    show("put_script", "PUT", "/_emulator/scripts/default", script)
    show("get_script", "GET", "/_emulator/scripts/default")
    show("list_scripts", "GET", "/_emulator/scripts")
    _a_life(story)
    _a_session(story)
    _faults(story)
    skill = "---\nname: greeting\ndescription: How to greet people.\n---\nSay hello.\n"
    show("put_skill", "PUT", "/_emulator/skills/greeting", {"files": {"SKILL.md": skill}})
    show("delete_script", "DELETE", "/_emulator/scripts/default")
    show("recount", "GET", "/_emulator/invariants")
    show("clear_journal", "DELETE", "/_emulator/journal")
    show("reset", "POST", "/_emulator/reset")


def _a_life(story: _Story) -> None:
    """An item is enqueued, handed out, acknowledged, and lost."""
    show, ask = story.show, story.ask
    created = ask("POST", "/v1/environments", {"name": "demo", "config": {"type": "self_hosted"}})
    environment = created["id"]
    keys = f"/_emulator/environments/{environment}/keys"
    key = show("issue_key", "POST", keys, {"name": "laptop"})
    show("list_keys", "GET", keys)
    [item] = show("enqueue_work", "POST", f"/_emulator/environments/{environment}/work", {"metadata": {"suite": "smoke"}})["data"]  # fmt: skip
    work = f"/v1/environments/{environment}/work"
    ask("GET", f"{work}/poll", Anthropic_Worker_ID="worker-a")
    show("show_queues", "GET", "/_emulator/queues")
    ask("POST", f"{work}/{item['id']}/ack")
    show("get_clock", "GET", "/_emulator/clock")
    until = {"work_id": item["id"], "state": "starting"}
    show("wait", "POST", "/_emulator/wait", {"until": until, "timeout_seconds": 5})
    show("change_clock", "POST", "/_emulator/clock", {"advance_to_next": True, "timer": "startup_lease"})
    show("get_timeline", "GET", f"/_emulator/work/{item['id']}/timeline")
    show("follow_events", "GET", "/_emulator/events?since=0&seconds=0")
    show("list_journal", "GET", "/_emulator/journal?on=ack")
    show("count_journal", "GET", "/_emulator/journal/count?status=2xx")
    expect = [{"on": "ack", "exactly": 1}, {"on": "heartbeat", "at_least": 1}]
    show("verify_journal", "POST", "/_emulator/journal/verify", {"expect": expect})
    show("revoke_key", "DELETE", f"{keys}/{key['id']}")


def _a_session(story: _Story) -> None:
    """A session that gets a script of its own and a message."""
    show, ask = story.show, story.ask
    created = ask("POST", "/v1/environments", {"name": "sessions", "config": {"type": "self_hosted"}})
    session = ask("POST", "/v1/sessions", {"agent": "agent_any", "environment_id": created["id"]})["id"]
    path = f"/_emulator/sessions/{session}/script"
    show("put_session_script", "PUT", path, {"steps": [{"say": "hello"}]})
    message = {"type": "user.message", "content": [{"type": "text", "text": "go"}]}
    ask("POST", f"/v1/sessions/{session}/events", {"events": [message]})
    show("get_session_script", "GET", path)


def _faults(story: _Story) -> None:
    """Rules that come and go."""
    show = story.show
    show("list_scenarios", "GET", "/_emulator/faults/scenarios")
    show("get_scenario", "GET", "/_emulator/faults/scenarios/lost-ack")
    rule = {"on": "ack", "nth": 2, "do": {"status": 503, "retry_after": 1}}
    added = show("add_faults", "POST", "/_emulator/faults", {"rules": [rule]})
    show("list_faults", "GET", "/_emulator/faults")
    show("delete_fault", "DELETE", f"/_emulator/faults/{added['data'][0]['id']}")
    show("clear_faults", "DELETE", "/_emulator/faults")
