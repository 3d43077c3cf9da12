"""The SDK's own example of a worker runs to its end, as it was published.

Evidence: docs/evidence/sdk-clients.md#sessions.
"""

from __future__ import annotations

import os

import pytest

from tests.support.sdk_example import Outcome


@pytest.mark.timeout(300)
def test_the_sdks_own_example_runs_to_its_end(sdk_example: Outcome) -> None:
    """It makes an agent and a session, sends a message, serves it, shows what happened, and deletes the session."""
    if sdk_example.absent:
        if os.environ.get("CI") == "true":
            pytest.fail(sdk_example.absent)
        pytest.skip(sdk_example.absent)
    assert sdk_example.code == 0, sdk_example.errors
    said = sdk_example.printed.split("--- transcript ---")[1]
    for line in (
        "user.message: What is the current time?",
        "agent.custom_tool_use",
        "user.custom_tool_result: 20",
        "agent.tool_use: name=bash input={'command': 'pwd'}",
        f"user.tool_result: {sdk_example.folder}",
        f"agent.message: The working directory is {sdk_example.folder}",
        "session.status_idle",
        "deleted session session_01",
    ):
        assert line[:100] in said
    assert sdk_example.sessions_left == 0
    assert sdk_example.violations == []
