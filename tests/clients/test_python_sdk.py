"""The unmodified `anthropic` SDK against Workyard, sync and async, responses validated strictly.

Source: docs/evidence/sdk-clients.md.
"""

from __future__ import annotations

from collections.abc import Callable

import anthropic
import pytest
from anthropic.lib.environments import iter_work
from anthropic.types.beta import (
    BetaEnvironmentArchivedError,
    BetaInvalidConfigTypeChangeError,
    BetaInvalidMetadataError,
)
from anthropic.types.beta.environments import BetaHeartbeatPreconditionFailedError

from tests.support.harness import Api, WorkyardServer

PAGES_OF = 250


def _key(api: Api, environment: str) -> str:
    return str(api.ok(api.post(f"/_emulator/environments/{environment}/keys"))["key"])


def test_an_environment_is_created_read_changed_archived_and_deleted(client: anthropic.Anthropic) -> None:
    """All six calls, with the types the SDK gives them."""
    environments = client.beta.environments
    made = environments.create(
        name="cloudy",
        config={
            "type": "cloud",
            "networking": {"type": "limited", "allowed_hosts": ["api.example.com"], "allow_package_managers": True},
            "packages": {"type": "packages", "pip": ["numpy==2.0"]},
        },
        metadata={"team": "a"},
    )
    assert made.config.type == "cloud"
    assert made.config.networking.type == "limited"
    assert made.config.packages.pip == ["numpy==2.0"]
    assert environments.retrieve(made.id) == made
    changed = environments.update(made.id, description="new", metadata={"team": None, "owner": "b"})
    assert (changed.description, changed.metadata) == ("new", {"owner": "b"})
    assert environments.archive(made.id).archived_at is not None
    gone = environments.delete(made.id)
    assert (gone.id, gone.type) == (made.id, "environment_deleted")


def test_the_sync_client_pages_through_250_environments(client: anthropic.Anthropic) -> None:
    """Newest first, each once."""
    made = [client.beta.environments.create(name=f"e{n}").id for n in range(PAGES_OF)]
    assert [row.id for row in client.beta.environments.list()] == made[::-1]
    assert [row.id for row in client.beta.environments.list(limit=100)] == made[::-1]


async def test_the_async_client_pages_through_250_environments(aclient: anthropic.AsyncAnthropic) -> None:
    """The same, asynchronously."""
    made = [(await aclient.beta.environments.create(name=f"e{n}")).id for n in range(PAGES_OF)]
    assert [row.id async for row in aclient.beta.environments.list(limit=33)] == made[::-1]


def test_a_lost_lease_is_the_sdks_precondition_error(client: anthropic.Anthropic, api: Api) -> None:
    """By class, with the state the worker needs."""
    queue = api.queue()
    api.enqueue(queue)
    work, beat = api.active(queue)
    with pytest.raises(BetaHeartbeatPreconditionFailedError) as refused:
        client.beta.environments.work.heartbeat(work, environment_id=queue, expected_last_heartbeat="NO_HEARTBEAT")
    assert refused.value.status_code == 412
    assert refused.value.body["error"]["details"]["current_state"] == {  # type: ignore[index]
        "state": "active",
        "last_heartbeat": beat,
        "lease_extended": False,
        "ttl_seconds": 300,
    }


Refusal = Callable[[anthropic.Anthropic, Api], object]


def _update_archived(client: anthropic.Anthropic, api: Api) -> object:
    environment = client.beta.environments.create(name="a")
    client.beta.environments.archive(environment.id)
    return client.beta.environments.update(environment.id, name="b")


def _change_type(client: anthropic.Anthropic, api: Api) -> object:
    return client.beta.environments.update(api.queue(), config={"type": "cloud"})


def _break_metadata(client: anthropic.Anthropic, api: Api) -> object:
    queue = api.queue()
    [item] = api.enqueue(queue)
    return client.beta.environments.work.update(
        item["id"], environment_id=queue, metadata={f"k{n}": "v" for n in range(17)}
    )


def _ack_twice(client: anthropic.Anthropic, api: Api) -> object:
    queue = api.queue()
    [item] = api.enqueue(queue)
    client.beta.environments.work.ack(item["id"], environment_id=queue)
    return client.beta.environments.work.ack(item["id"], environment_id=queue)


def _read_absent(client: anthropic.Anthropic, api: Api) -> object:
    return client.beta.environments.retrieve("env_011CZkZ9X2dpNyB7HsEFoRfW")


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (_update_archived, BetaEnvironmentArchivedError),
        (_change_type, BetaInvalidConfigTypeChangeError),
        (_break_metadata, BetaInvalidMetadataError),
        (_ack_twice, anthropic.ConflictError),
        (_read_absent, anthropic.NotFoundError),
    ],
)
def test_a_refusal_is_the_sdks_error_for_it(
    client: anthropic.Anthropic, api: Api, refusal: Refusal, error: type[anthropic.APIStatusError]
) -> None:
    """The class follows from the status and `error.details.error_code`."""
    with pytest.raises(error) as refused:
        refusal(client, api)
    assert refused.value.request_id is not None


def test_the_sync_poller_drains_twenty_items_and_stops_each(client: anthropic.Anthropic, api: Api) -> None:
    """`iter_work`, first come first served."""
    queue = api.queue()
    items = api.enqueue(queue, 20)
    seen = [
        work.id for work in iter_work(client.beta.environments.work, environment_id=queue, drain=True, block_ms=None)
    ]
    assert seen == [item["id"] for item in items]
    assert {row["state"] for row in api.ok(api.get(api.path(queue)))["data"]} == {"stopping"}


async def test_the_async_poller_drains_twenty_items_and_then_an_empty_queue(
    aclient: anthropic.AsyncAnthropic, api: Api
) -> None:
    """With an issued environment key, as a worker has it."""
    queue = api.queue()
    items = api.enqueue(queue, 20)
    key = _key(api, queue)
    for expected in (20, 0):
        seen = [
            work
            async for work in aclient.beta.environments.work.poller(
                environment_id=queue, environment_key=key, drain=True, auto_stop=False, block_ms=1
            )
        ]
        assert len(seen) == expected
        assert all(work.state == "queued" and work.secret for work in seen)
    assert {row["state"] for row in api.ok(api.get(api.path(queue)))["data"]} == {"starting"}
    assert items


async def test_a_worker_whose_lease_lapsed_meets_412_after_another_took_over(
    aclient: anthropic.AsyncAnthropic, api: Api
) -> None:
    """Two pollers, virtual time, no sleep."""
    api.freeze()
    queue = api.queue()
    api.enqueue(queue)
    key = _key(api, queue)
    work_api = aclient.beta.environments.work
    first_poller = work_api.poller(
        environment_id=queue, environment_key=key, drain=True, auto_stop=False, block_ms=None
    )
    first = await anext(first_poller)
    beat = await work_api.heartbeat(
        first.id, environment_id=queue, expected_last_heartbeat="NO_HEARTBEAT", desired_ttl_seconds=10
    )
    assert (beat.lease_extended, beat.ttl_seconds) == (True, 10)
    api.advance(10)
    second_poller = work_api.poller(
        environment_id=queue, environment_key=key, drain=True, auto_stop=False, block_ms=None
    )
    second = await anext(second_poller)
    assert second.id == first.id
    taken = await work_api.heartbeat(second.id, environment_id=queue, expected_last_heartbeat="NO_HEARTBEAT")
    with pytest.raises(BetaHeartbeatPreconditionFailedError):
        await work_api.heartbeat(first.id, environment_id=queue, expected_last_heartbeat=beat.last_heartbeat)
    stats = await work_api.stats(queue)
    assert (stats.depth, stats.pending, stats.workers_polling) == (0, 0, 2)
    stopped = await work_api.stop(second.id, environment_id=queue, force=True)
    assert stopped.state == "stopped"
    ended = await work_api.heartbeat(second.id, environment_id=queue, expected_last_heartbeat=taken.last_heartbeat)
    assert (ended.lease_extended, ended.state, ended.ttl_seconds) == (False, "stopped", 120)


def test_every_work_call_answers_with_the_sdks_types(
    client: anthropic.Anthropic, api: Api, server: WorkyardServer
) -> None:
    """The eight calls in the order of a life, each validated strictly."""
    queue = api.queue()
    assert client.beta.environments.work.poll(queue) is None
    [item] = api.enqueue(queue)
    work = client.beta.environments.work
    polled = work.poll(queue, block_ms=999, anthropic_worker_id="w")
    assert polled is not None
    assert polled.id == item["id"]
    assert work.ack(polled.id, environment_id=queue).state == "starting"
    assert work.heartbeat(polled.id, environment_id=queue).state == "active"
    assert work.update(polled.id, environment_id=queue, metadata={"a": "1"}).metadata == {"a": "1"}
    assert work.stop(polled.id, environment_id=queue).state == "stopping"
    assert work.retrieve(polled.id, environment_id=queue).stop_requested_at is not None
    assert [row.id for row in work.list(queue)] == [polled.id]
    assert work.stats(queue).workers_polling == 1
