"""What programs must be told to find a server and an environment. Owns the names of the variables."""

from __future__ import annotations


def exports(
    url: str, api_key: str, environment_id: str | None = None, environment_key: str | None = None
) -> dict[str, str]:
    """Return the variables of a client, and those of a worker if there is an environment."""
    client = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": api_key,
        "WORKYARD_URL": url,
        "WORKYARD_API_KEY": api_key,
    }
    worker = {"ANTHROPIC_ENVIRONMENT_ID": environment_id, "ANTHROPIC_ENVIRONMENT_KEY": environment_key}
    return client | {name: value for name, value in worker.items() if value is not None}
