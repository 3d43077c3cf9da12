"""Fixtures of the contract tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.harness import Api, WorkyardServer


@pytest.fixture(scope="module")
def asker(server: WorkyardServer) -> Iterator[Api]:
    """A client for calls that are refused or only read: the tests that make nothing else share it."""
    api = Api(server.url)
    yield api
    api.reset()
    api.close()
