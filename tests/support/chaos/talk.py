"""A session under the chaos suite's load: messages that are repeated until they are answered, and what must be in its
events afterwards. Nothing of the product.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.support.chaos.calls import Call, Lane, LoadFailed


class Talker(Lane):
    """Tells a session one thing after the other, then reads whether each was taken and acted on, as often as it was sent.

    In a cloud environment of its own, whose agent needs no worker, so that a turn begins and ends by itself.
    """

    def run(self) -> None:
        body: dict[str, Any] = {"name": self.name, "config": {"type": "cloud"}}
        environment = self._made("/v1/environments", body)["id"]
        path = f"/v1/sessions/{self._made('/v1/sessions', {'agent': 'agent', 'environment_id': environment})['id']}"
        said: dict[str, int] = {}
        while not self.finishing.is_set():
            text = f"echo {len(said)}"
            said[text] = self._tell(path, text)
            self.finishing.wait(self.random.uniform(0, 0.05))
        self._judge(said, self._events(path))

    def _made(self, path: str, body: dict[str, Any]) -> Any:
        call, _ = self.answered("create", "POST", path, body=body)
        return self.of(call, 200)

    def _tell(self, path: str, text: str) -> int:
        """Send a message until it is answered; return how often it may have been taken."""
        before = len(self.journal)
        event = {"type": "user.message", "content": [{"type": "text", "text": text}]}
        call, _ = self.answered("tell", "POST", f"{path}/events", body={"events": [event]})
        self.of(call, 200)
        return sum(each.in_doubt or each is call for each in self.journal[before:])

    def _events(self, path: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        page = ""
        while True:
            call: Call
            call, _ = self.answered("events", "GET", f"{path}/events?limit=1000{page}")
            answer = self.of(call, 200)
            rows += answer["data"]
            if answer["next_page"] is None:
                return rows
            page = f"&page={answer['next_page']}"

    def _judge(self, said: dict[str, int], events: list[dict[str, Any]]) -> None:
        """Check that no message is lost, or there more often than it was sent, and that the agent acted once on each.

        Raises:
            LoadFailed: it is not so.
        """
        taken = [event["content"][0]["text"] for event in events if event["type"] == "user.message"]
        acted = [event["input"]["command"] for event in events if event["type"] == "agent.tool_use"]
        counts = Counter(taken)
        broken = [f"{text}: {counts[text]} of {most}" for text, most in said.items() if not 1 <= counts[text] <= most]
        if list(dict.fromkeys(taken)) != list(said):
            broken.append(f"messages are not in their order: {taken}")
        if acted != taken:
            broken.append(f"the agent acted on {acted}, told were {taken}")
        if len({event["id"] for event in events}) != len(events):
            broken.append("two events have one id")
        if events[-1]["type"] != "session.status_idle":
            broken.append(f"the session ends in {events[-1]}")
        if broken:
            raise LoadFailed(f"{self.name}: {'; '.join(broken)}")
