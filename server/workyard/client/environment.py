"""Environment variables for clients and workers, and the headers of Workyard's own API calls."""

from __future__ import annotations

#: Headers of Workyard's own calls to the API, so that a server with `--require-headers` accepts them.
API_HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}


def client_variables(
    url: str, api_key: str, environment_id: str | None = None, environment_key: str | None = None
) -> dict[str, str]:
    """Return the environment variables of a client; with an environment, also those of a worker."""
    client = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": api_key,
        "WORKYARD_URL": url,
        "WORKYARD_API_KEY": api_key,
    }
    worker = {"ANTHROPIC_ENVIRONMENT_ID": environment_id, "ANTHROPIC_ENVIRONMENT_KEY": environment_key}
    return client | {name: value for name, value in worker.items() if value is not None}
