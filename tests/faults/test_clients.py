"""Each kind of fault once, and what the Python SDK's client does about it: the table of docs/faults.md."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import anthropic
import pytest
from anthropic.types.beta.environments import BetaHeartbeatPreconditionFailedError

from tests.support.harness import Api, WorkyardServer

#: How often the SDK tries at most, unless told otherwise.
TRIES = 3
TIMEOUT_S = 0.3


@dataclass
class Stage:
    """A workspace with an environment, two items in its queue, and a client of the SDK."""

    api: Api
    sdk: anthropic.Anthropic
    queue: str

    def poll(self, worker: str = "a") -> Any:
        return self.sdk.beta.environments.work.poll(self.queue, anthropic_worker_id=worker)

    def ack(self) -> Any:
        work = self.api.poll(self.queue)["id"]
        return self.sdk.beta.environments.work.ack(work, environment_id=self.queue)

    def heartbeat(self) -> Any:
        work = self.api.poll(self.queue)["id"]
        self.api.ok(self.api.ack(self.queue, work))
        return self.sdk.beta.environments.work.heartbeat(
            work, environment_id=self.queue, expected_last_heartbeat="NO_HEARTBEAT"
        )

    def stats(self) -> Any:
        return self.sdk.beta.environments.work.stats(self.queue)

    def stats_in_haste(self) -> Any:
        return self.sdk.with_options(timeout=TIMEOUT_S).beta.environments.work.stats(self.queue)

    def list(self) -> Any:
        return [item.id for item in self.sdk.beta.environments.work.list(self.queue)]

    def create(self) -> Any:
        made = self.sdk.beta.environments.create(name="twice", config={"type": "cloud"})
        return made, [row.name for row in self.sdk.beta.environments.list()]

    def two_polls(self) -> Any:
        first, second = self.poll("a"), self.poll("b")
        self.sdk.beta.environments.work.ack(first.id, environment_id=self.queue)
        return first.id == second.id and first.secret != second.secret, self.error_of_ack(second.id)

    def error_of_ack(self, work: str) -> type[Exception] | None:
        try:
            self.sdk.beta.environments.work.ack(work, environment_id=self.queue)
        except anthropic.APIError as error:
            return type(error)
        return None

    def poll_twice(self) -> Any:
        return [self.poll().id for _ in range(2)]


@dataclass
class Outcome:
    """What came of a call: its answer or its error, the seconds it took, and how often the client tried."""

    value: Any
    took_s: float
    tries: int
    stage: Stage


def _is(error: type[Exception]) -> Callable[[Outcome], bool]:
    return lambda outcome: type(outcome.value) is error


def _answered(outcome: Outcome) -> bool:
    return bool(outcome.value.type == "work_queue_stats" and outcome.value.depth == 2)


#: Kind → the rule, the call, how often the client tries, and what comes of it.
ROWS: dict[str, tuple[dict[str, Any], Callable[[Stage], Any], int, Callable[[Outcome], bool]]] = {
    "503": ({"on": "stats", "do": {"status": 503}}, Stage.stats, 2, lambda o: _answered(o) and o.took_s > 0.9),
    "429": (
        {"on": "stats", "do": {"status": 429, "retry_after": 1}},
        Stage.stats,
        2,
        lambda o: _answered(o) and o.took_s > 0.9,
    ),
    "529 for ever": (
        {"on": "stats", "nth": "every", "do": {"status": 529}},
        Stage.stats,
        TRIES,
        lambda o: type(o.value).__name__ == "OverloadedError" and o.value.status_code == 529,
    ),
    "500": ({"on": "stats", "do": {"status": 500}}, Stage.stats, 2, _answered),
    "401": (
        {"on": "poll", "do": {"status": 401}},
        Stage.poll,
        1,
        lambda o: _is(anthropic.AuthenticationError)(o) and "OAuth access token has been revoked." in str(o.value),
    ),
    "404": ({"on": "ack", "do": {"status": 404}}, Stage.ack, 1, _is(anthropic.NotFoundError)),
    "409": (
        {"on": "ack", "do": {"status": 409}},
        Stage.ack,
        1,
        lambda o: _is(anthropic.ConflictError)(o) and "Current state: starting" in str(o.value),
    ),
    "412": (
        {"on": "heartbeat", "do": {"status": 412}},
        Stage.heartbeat,
        1,
        _is(BetaHeartbeatPreconditionFailedError),
    ),
    "delay": (
        {"on": "stats", "do": {"delay_ms": 300}},
        Stage.stats,
        1,
        lambda o: _answered(o) and o.took_s > 0.3,
    ),
    "delay beyond the client's patience": (
        {"on": "stats", "nth": "every", "do": {"delay_ms": 60_000}},
        Stage.stats_in_haste,
        TRIES,
        _is(anthropic.APITimeoutError),
    ),
    "drop": ({"on": "stats", "do": {"drop": True}}, Stage.stats, 2, _answered),
    "drop after": (
        {"on": "ack", "do": {"drop": True}, "when": "after"},
        Stage.ack,
        2,
        _is(anthropic.ConflictError),
    ),
    "drop after a creation": (
        {"on": "environments.create", "do": {"drop": True}, "when": "after"},
        Stage.create,
        2,
        lambda o: o.value[1] == ["twice", "twice", "test"],
    ),
    "hang": (
        {"on": "stats", "do": {"hang_ms": 300}},
        Stage.stats,
        2,
        lambda o: _answered(o) and o.took_s > 0.3,
    ),
    "truncate": ({"on": "stats", "do": {"truncate": True}}, Stage.stats, 2, _answered),
    "heartbeat": (
        {"on": "heartbeat", "do": {"heartbeat": {"lease_extended": False, "state": "stopping"}}},
        Stage.heartbeat,
        1,
        lambda o: (o.value.lease_extended, o.value.state, o.value.ttl_seconds) == (False, "stopping", 300),
    ),
    "lose_lease": (
        {"on": "heartbeat", "do": {"lose_lease": True}},
        Stage.heartbeat,
        1,
        _is(BetaHeartbeatPreconditionFailedError),
    ),
    "duplicate_delivery": (
        {"on": "poll", "do": {"duplicate_delivery": True}},
        Stage.two_polls,
        2,
        lambda o: o.value == (True, anthropic.ConflictError),
    ),
    "empty poll": (
        {"on": "poll", "do": {"empty": True}},
        Stage.poll,
        1,
        lambda o: o.value is None and o.stage.stats().depth == 2,
    ),
    "empty list": ({"on": "list", "do": {"empty": True}}, Stage.list, 1, lambda o: o.value == []),
    "malformed_secret": (
        {"on": "poll", "do": {"malformed_secret": True}},
        Stage.poll,
        1,
        lambda o: o.value.secret == "malformed secret!",
    ),
    "clock": (
        {"on": "poll", "nth": 2, "do": {"clock": {"advance_seconds": 600}}},
        Stage.poll_twice,
        2,
        lambda o: o.value[0] == o.value[1],
    ),
}


def _outcome(stage: Stage, rule: dict[str, Any], call: Callable[[Stage], Any]) -> Outcome:
    stage.api.ok(stage.api.post("/_emulator/faults", json=rule))
    started = time.monotonic()
    try:
        value = call(stage)
    except anthropic.APIError as error:
        value = error
    took = time.monotonic() - started
    [row] = stage.api.ok(stage.api.get("/_emulator/faults"))["data"]
    assert row["hits"] >= 1
    return Outcome(value, took, row["asked"], stage)


@pytest.fixture(scope="module")
def outcomes(embedded: WorkyardServer) -> Any:
    """What comes of each row; all at once, for the SDK waits between its tries."""
    stages = {}
    client = anthropic.Anthropic(base_url=embedded.url, api_key="any", _strict_response_validation=True)
    for name in ROWS:
        api = Api(embedded.url)
        stages[name] = Stage(api, client.with_options(api_key=api.api_key), api.queue())
        api.enqueue(stages[name].queue, 2)
    with ThreadPoolExecutor(len(ROWS)) as pool:
        running: dict[str, Future[Outcome]] = {
            name: pool.submit(_outcome, stages[name], rule, call) for name, (rule, call, _, _) in ROWS.items()
        }
        yield running
    for stage in stages.values():
        assert stage.api.ok(stage.api.get("/_emulator/invariants"))["violations"] == []
        assert stage.api.reset()["leftover_keys"] == 0
        stage.api.close()
    client.close()


@pytest.mark.parametrize("name", ROWS)
def test_what_the_sdks_client_does(name: str, outcomes: dict[str, Future[Outcome]]) -> None:
    """It tries so often, and this comes of it."""
    _, _, tries, holds = ROWS[name]
    outcome = outcomes[name].result()
    assert outcome.tries == tries
    assert holds(outcome), outcome
