"""What programs must be told to find a server and an environment, and tell it. Owns the names of the variables."""

from __future__ import annotations

#: What calls to the API say when they are Workyard's own, so that `--require-headers` finds nothing missing.
API_HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}


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
