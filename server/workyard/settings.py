"""The settings with their defaults and bounds, read once from options and `WORKYARD_…` variables."""

from __future__ import annotations

import ipaddress
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from workyard_queue.agent import Script, parse_script
from workyard_queue.work.states import DEFAULT_TTL_S, LONGEST_TTL_S, RECLAIM_MS, SHORTEST_TTL_S, STARTUP_LEASE_S
from workyard_store.engine.urls import RedisUrl
from workyard_store.errors import InvalidRequest, StartupRefused
from workyard_store.metadata import MOST_METADATA_KEYS

#: An absolute path without empty, `.` or `..` segments, or the word `workdir`.
MOUNT = r"^(?:(?:/[^/\x00.][^/\x00]*|/\.[^/\x00.][^/\x00]*)+|workdir)$"
#: One entry of `--allowed-hosts`, without a port.
HOST_NAME = r"\*|(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?"
#: One entry of `--cors-origins`.
ORIGIN = r"\*|https?://(?:[a-z0-9_.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?"
LONGEST_LEASE_S = LONGEST_TTL_S
LONGEST_RECLAIM_MS = 3_600_000
#: Upper bound of `journal_requests`: every read of the journal scans all of its entries.
MOST_JOURNALED = 20_000
#: Upper bounds of a body's size and nesting, well below Python's own recursion limit.
MOST_BYTES = 1_048_576
MOST_LEVELS = 500
#: Upper bound of `max_count`.
MOST_ENQUEUED = 10_000


class Settings(BaseSettings):
    """All settings. A command-line option takes precedence over its variable."""

    model_config = SettingsConfigDict(env_prefix="WORKYARD_", extra="ignore", env_ignore_empty=True)

    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; a non-loopback address needs --i-know."
    )
    port: int = Field(4010, ge=0, le=65535, description="Port to listen on; 0 picks a free port.")
    redis_url: str | None = Field(
        None,
        repr=False,  # It may hold a password.
        description="URL of the Redis (7.0 or newer) that holds the state, such as redis://127.0.0.1:6379/0; TLS, Unix sockets, Sentinel and Cluster work too (docs/redis.md). Unset: the embedded engine.",
    )
    redis_connections: int = Field(
        8,
        ge=1,
        le=1000,
        description="Maximum connections per process to Redis (in a cluster: to each primary), not counting one for wake-ups. Waiting polls hold none.",
    )
    key_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = Field(
        "wy",
        description="Prefix of every Redis key; services with different prefixes can share one Redis.",
    )
    workers: int = Field(1, ge=1, le=64, description="Number of server processes; more than one needs --redis-url.")
    auth: Literal["any", "none", "strict"] = Field(
        "any",
        description="any: every call under /v1 needs a token of any value. none: no token is needed. strict: each call needs the right kind of token, issued for the environment or workspace it acts in (docs/credentials.md).",
    )
    default_ttl: int = Field(
        DEFAULT_TTL_S,
        ge=SHORTEST_TTL_S,
        le=LONGEST_TTL_S,
        description="Lease in seconds that a heartbeat gets if it does not send desired_ttl_seconds.",
    )
    startup_lease: int = Field(
        STARTUP_LEASE_S,
        ge=1,
        le=LONGEST_LEASE_S,
        description="Seconds that an acknowledged item may wait for its first heartbeat before it lapses.",
    )
    reclaim_ms: int = Field(
        RECLAIM_MS,
        ge=1,
        le=LONGEST_RECLAIM_MS,
        description="Age in milliseconds at which a poll takes over an unacknowledged item, unless the poll sends reclaim_older_than_ms.",
    )
    journal_requests: int = Field(
        1000,
        ge=0,
        le=MOST_JOURNALED,
        description="Number of requests that each workspace's journal keeps (docs/journal.md); 0 turns the journal off.",
    )
    journal_body_bytes: int = Field(
        2048,
        ge=0,
        le=65_536,
        description="Bytes of each request body and response body that the journal keeps; 0 keeps none.",
    )
    timeline_events: int = Field(
        10_000,
        ge=0,
        le=1_000_000,
        description="Number of timeline events that each environment keeps, about 250 bytes each; 0 keeps none.",
    )
    state: str | None = Field(
        None,
        min_length=1,
        description="File with the state of workspaces to load at start (docs/state.md). Unset: start with what Redis holds, or empty.",
    )
    save_state: bool = Field(
        False, description="Write the state of all workspaces back to the --state file when the server stops."
    )
    seed_file: str | None = Field(
        None,
        min_length=1,
        description="YAML or JSON file with environments, work, keys and scripts to create at start (docs/state.md).",
    )
    script: str | None = Field(
        None,
        min_length=1,
        description="YAML or JSON file with the agent script for sessions that have none of their own (docs/agent-scripts.md). Unset: the agent runs each message as a bash command.",
    )
    memory_mount: Annotated[str, StringConstraints(pattern=MOUNT)] = Field(
        "/mnt/memory",
        description="Folder on the worker's machine where sessions report their memory stores as mounted; workdir: the folder `memory` in the worker's working directory.",
    )
    fixtures: bool = Field(
        False,
        description="Serve the SDKs' generated test suites: the ids they use exist for every caller, in the state each call needs (docs/sdk-suites.md). Single process only.",
    )
    require_headers: bool = Field(
        False,
        description="Refuse calls under /v1 that lack anthropic-version or the API's beta in anthropic-beta (docs/credentials.md).",
    )
    check_responses: bool = Field(
        False,
        description="Check every response against the OpenAPI documents; a response that differs becomes a 500 that says where. Needs the extra workyard[check].",
    )
    control_token: str | None = Field(
        None,
        min_length=8,
        max_length=256,
        pattern=r"^[!-~]+$",
        repr=False,
        description="Token that calls to /_emulator and /metrics must send in the header `workyard-control-token` (docs/limits.md). Unset: no token is needed.",
    )
    allowed_hosts: str | None = Field(
        None,
        description="Comma-separated host names that clients may use to call the server, in addition to localhost, IP addresses and --host; `*.example.com` allows all subdomains, `*` any name.",
    )
    cors_origins: str | None = Field(
        None,
        description="Comma-separated origins whose pages may call the server from a browser, such as http://localhost:3000; `*` allows any. Unset: none.",
    )
    max_body_bytes: int = Field(
        MOST_BYTES,
        ge=1024,
        le=67_108_864,
        description="Largest request body in bytes; larger ones get 413. State documents may be up to 64 MiB regardless.",
    )
    max_header_bytes: int = Field(
        65_536,
        ge=1024,
        le=1_048_576,
        description="Largest total size of a request's headers in bytes, line ends included; larger ones get 431.",
    )
    max_url_bytes: int = Field(
        16_384, ge=256, le=60_000, description="Largest request target in bytes, query included; longer ones get 414."
    )
    max_json_depth: int = Field(
        MOST_LEVELS,
        ge=8,
        le=MOST_LEVELS,
        description="Deepest nesting of objects and lists in a JSON body; deeper ones get 400.",
    )
    max_metadata_keys: int = Field(
        MOST_METADATA_KEYS,
        ge=0,
        le=MOST_METADATA_KEYS,
        description="Maximum metadata keys of one environment, work item, session, agent or memory store; more get 400.",
    )
    max_count: int = Field(
        MOST_ENQUEUED,
        ge=1,
        le=MOST_ENQUEUED,
        description="Maximum items that one control-plane call may enqueue; more get 400.",
    )
    max_blocked_polls: int = Field(
        10_000, ge=1, le=1_000_000, description="Maximum blocked polls per environment and process; more get 429."
    )
    max_streams: int = Field(
        1000, ge=1, le=1_000_000, description="Maximum open event streams per process; more get 429."
    )
    max_workspaces: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Maximum workspaces in one Redis, one for each API key that was used; more get 409.",
    )
    max_environments: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Maximum environments of a workspace, archived ones included; more get 409.",
    )
    max_items: int = Field(
        1_000_000,
        ge=1,
        le=100_000_000,
        description="Maximum work items, and maximum sessions, of an environment, stopped ones included; more get 409.",
    )
    max_connections: int = Field(
        15_000,
        ge=1,
        le=1_000_000,
        description="Maximum open connections per process, further bounded by its limit of open files; more get 503.",
    )
    head_timeout: float = Field(
        10.0,
        ge=0.1,
        le=3600,
        description="Seconds from the first byte of a request to the end of its headers; longer gets 408.",
    )
    body_timeout: float = Field(
        60.0,
        ge=0.1,
        le=3600,
        description="Seconds from the end of a request's headers to the end of its body; longer gets 408.",
    )
    idle_timeout: float = Field(
        75.0,
        ge=0.1,
        le=3600,
        description="Seconds an idle keep-alive connection stays open. Longer than clients keep theirs, so that none sends on a connection that is being closed.",
    )
    write_timeout: float = Field(
        60.0,
        ge=0.1,
        le=3600,
        description="Seconds a client may leave a response entirely unread before its connection is closed.",
    )
    log_bodies: bool = Field(
        False,
        description="Log each request at level info with the first 2048 bytes of its bodies, secrets masked (docs/observability.md).",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Log level; debug adds a line for every request."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Format of the log lines, which go to standard error."
    )
    i_know: bool = Field(
        False,
        description="Allow a --host that is not loopback. Anyone who can reach the port can do everything, because there are no real credentials.",
    )

    @field_validator("allowed_hosts", "cors_origins")
    @classmethod
    def _is_a_list(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Refuse what can be no list of host names, or of origins."""
        one, what = (HOST_NAME, "host names") if info.field_name == "allowed_hosts" else (ORIGIN, "origins")
        if value is not None and not all(re.fullmatch(one, part.strip(), re.IGNORECASE) for part in value.split(",")):
            raise ValueError(f"Not {what}, separated by commas")
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_a_redis_url(cls, value: str | None) -> str | None:
        """Refuse anything that is not a Redis URL. The message quotes none of it, because it may hold a password."""
        if value is not None:
            RedisUrl.parse(value)
        return value


#: Settings that may hold a secret; error messages never quote their values.
_SECRET = ("redis_url", "control_token")


def load(**options: object) -> Settings:
    """Return the settings from the given options (None: not given) and the environment.

    Raises:
        StartupRefused: a bad value; the message names the option and its variable.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = [
            f"{named(name)}: {problem['msg'].removeprefix('Value error, ')}"
            + ("" if name in _SECRET else f" (got {problem['input']!r})")
            for problem in error.errors()
            for name in [str(problem["loc"][0])]
        ]
        raise StartupRefused("; ".join(problems)) from None
    if settings.workers > 1 and settings.fixtures:
        raise StartupRefused(
            f"{named('workers')}: --fixtures needs a single process: it puts the reserved ids into the state that a call needs "
            "and runs the call under a lock that other processes would not share"
        )
    if settings.workers > 1 and settings.redis_url is None:
        raise StartupRefused(
            f"{named('workers')}: More than one process needs --redis-url, because the embedded engine lives inside a single process"
        )
    if settings.check_responses and settings.fixtures:
        raise StartupRefused(
            f"{named('check_responses')}: Cannot be combined with --fixtures: its reserved ids do not have the form that the OpenAPI documents require"
        )
    if settings.check_responses and find_spec("jsonschema_rs") is None:
        raise StartupRefused(
            f"{named('check_responses')}: Needs the extra `check`, which is not installed: pip install 'workyard[check]'"
        )
    if settings.save_state and settings.state is None:
        raise StartupRefused(f"{named('save_state')}: Needs --state, which names the file")
    # Their contents are checked when the server starts.
    if not settings.save_state:
        _check_is_file("state", settings.state)
    _check_is_file("seed_file", settings.seed_file)
    read_script(settings)
    if not settings.i_know and not _is_loopback(settings.host):
        raise StartupRefused(
            f"{named('host')}: {settings.host} is not a loopback address, so anyone who can reach the port can do everything; "
            "pass --i-know if you want that"
        )
    return settings


def read_script(settings: Settings) -> Script | None:
    """Return the script that the settings name, or None.

    Raises:
        StartupRefused: the file cannot be read or is not a valid script; the message names each bad step and field.
    """
    if settings.script is None:
        return None
    try:
        return parse_script(Path(settings.script).read_text(encoding="utf-8-sig"))
    except OSError as error:
        problem = f"Cannot read {settings.script}: {error.strerror}"
    except UnicodeDecodeError:
        problem = f"{settings.script} is not UTF-8"
    except InvalidRequest as refusal:
        problem = f"{settings.script}: {refusal.message}"
    raise StartupRefused(f"{named('script')}: {problem}")


def _check_is_file(name: str, path: str | None) -> None:
    if path is not None and not Path(path).is_file():
        raise StartupRefused(f"{named(name)}: {path} is not a file")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def named(setting: str) -> str:
    """Return a setting's option and variable, as users write them."""
    return f"--{setting.replace('_', '-')} / WORKYARD_{setting.upper()}"
