"""Rules as users meet them: in the header of an error, at the control plane, on the command line.

Rules: `conventions.rule-header`, `conventions.rules`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

import httpx

from tests.support.command_line import workyard
from tests.support.harness import Api, refused, rule_ids

LIMITED = {"type": "cloud", "networking": {"type": "limited"}}
HOSTS = "environments.create.allowed-hosts"


def created(api: Api, config: Mapping[str, Any]) -> httpx.Response:
    """Try to create an environment of that configuration."""
    return api.post("/v1/environments", json={"name": "a", "config": config})


def explained(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command, without any server."""
    return workyard("explain", *words)


def test_the_rule_of_an_error_is_explained(api: Api) -> None:
    """By the class of the error, by the field, by the place; at the control plane too; and the journal has it."""
    queue = api.queue()
    item = api.enqueue(queue)[0]["id"]
    queued = api.enqueue(queue)[0]["id"]
    api.ok(api.ack(queue, item))
    for response, rule in (
        (api.ack(queue, item), "work.ack.state"),
        (api.get(api.path(queue, "poll"), params={"block_ms": 0}), "work.poll.block-bounds"),
        (api.post("/v1/environments", json={}), "environments.create.name"),
        (api.post("/v1/environments", content=b"{"), "conventions.body-json"),
        (api.post("/v1/environments", json={"name": "a", "more": 1}), "conventions.extra-keys"),
        (created(api, {"type": "self_hosted", "more": 1}), "conventions.extra-keys"),
        (created(api, {"type": "bridge"}), "environments.create.config-type"),
        (created(api, {"type": "cloud", "networking": {"type": "closed"}}), "conventions.validation"),
        (created(api, LIMITED | {"networking": {"type": "limited", "allowed_hosts": ["!"]}}), HOSTS),
        (created(api, LIMITED | {"packages": {"pip": ["a"]}}), "environments.create.closed-network"),
        (api.post(api.path(queue, item), json={"metadata": {"a": 1}}), "conventions.metadata-values"),
        (api.get("/v1/environments", params={"include_archived": "yes"}), "conventions.query-booleans"),
        (api.get("/_emulator/journal", params={"limit": "1.0"}), "conventions.query-integers"),
        (api.post("/_emulator/clock", json={}), "clock.change"),
        (api.heartbeat(queue, queued), "work.heartbeat.queued"),
        (api.heartbeat(queue, item, "x"), "work.heartbeat.precondition"),
        (api.get("/v1/nothing"), "conventions.unknown-path"),
        (api.http.put("/v1/environments"), "conventions.method"),
        (api.get("/_emulator/faults/scenarios/x"), api.get("/_emulator/faults/scenarios/x").headers["workyard-rule"]),
    ):
        assert response.headers["workyard-rule"] == rule
        found = api.ok(api.get(f"/_emulator/rules/{rule}"))
        assert found["id"] == rule
        assert found["avoid"]
    kept = api.ok(api.get("/_emulator/journal", params={"status": "409"}))["data"]
    assert [row["rule"] for row in kept] == ["work.ack.state"]
    assert "workyard-rule" not in api.get("/v1/environments").headers


def test_a_rule_that_is_not_there_is_404(api: Api) -> None:
    """In the words of all 404s."""
    refused(api.get("/_emulator/rules/work.nothing"), 404, "Rule work.nothing not found.")


def test_rules_are_listed_and_searched(api: Api) -> None:
    """All words have to be there; each row is the whole rule."""
    every = api.ok(api.get("/_emulator/rules"))["data"]
    assert {row["id"] for row in every} == rule_ids()
    some = api.ok(api.get("/_emulator/rules", params={"search": "CURSOR decided"}))["data"]
    assert [row for row in every if row in some] == some
    assert "conventions.cursor" in {row["id"] for row in some}
    assert api.ok(api.get("/_emulator/rules", params={"search": "no such words"}))["data"] == []


def test_the_command_explains_a_rule() -> None:
    """The rule, its evidence, how to avoid the error; a list where more than one is meant; 1 for none."""
    one = explained("conventions.cursor")
    assert one.returncode == 0, one.stderr
    for text in ("anything else gets 400", "avoid:", "evidence:  decided: docs/evidence/decisions.md#lists"):
        assert text in one.stdout
    several = explained("page", "cursor", "--json")
    assert "conventions.cursor" in {row["id"] for row in json.loads(several.stdout)}
    assert "conventions.cursor (decided): " in explained("page").stdout
    none = explained("no", "such", "words")
    assert (none.returncode, none.stderr) == (1, "no rule has all of: no such words\n")
