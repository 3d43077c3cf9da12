"""Fixtures of the client tests: the Python SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anthropic
import pytest

from tests.support.harness import Api


@pytest.fixture
def client(api: Api) -> Iterator[anthropic.Anthropic]:
    """The sync client in the workspace of `api`."""
    with anthropic.Anthropic(base_url=api.url, api_key=api.api_key, _strict_response_validation=True) as sdk:
        yield sdk


@pytest.fixture
async def aclient(api: Api) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The async client in the workspace of `api`."""
    async with anthropic.AsyncAnthropic(base_url=api.url, api_key=api.api_key, _strict_response_validation=True) as sdk:
        yield sdk
