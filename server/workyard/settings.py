"""The settings, each with its default and reason. Read once, from options and `WORKYARD_…` variables."""

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
from workyard_store.workspaces.configs import MOST_METADATA_KEYS

#: An absolute path, no segment of which is empty, `.` or `..`; or the word.
MOUNT = r"^(?:(?:/[^/\x00.][^/\x00]*|/\.[^/\x00.][^/\x00]*)+|workdir)$"
#: One of `--allowed-hosts`, without a port.
HOST_NAME = r"\*|(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?"
#: One of `--cors-origins`.
ORIGIN = r"\*|https?://(?:[a-z0-9_.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?"
LONGEST_LEASE_S = LONGEST_TTL_S
LONGEST_RECLAIM_MS = 3_600_000
#: A reader looks through all of them.
MOST_JOURNALED = 20_000
#: Of a body, and of its levels of objects and lists: far from where writing or reading them would meet Python's own limit.
MOST_BYTES = 1_048_576
MOST_LEVELS = 500
#: Items that one call enqueues.
MOST_ENQUEUED = 10_000


class Settings(BaseSettings):
    """Everything that can be set. An option on the command line wins over its variable."""

    model_config = SettingsConfigDict(env_prefix="WORKYARD_", extra="ignore", env_ignore_empty=True)

    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; one that is not loopback needs --i-know."
    )
    port: int = Field(4010, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    redis_url: str | None = Field(
        None,
        repr=False,  # It may hold a password.
        description="Redis 7.0 or newer to keep the state in: redis://127.0.0.1:6379/0, or by TLS, Unix socket, Sentinel or Cluster (docs/redis.md). Unset: the embedded engine.",
    )
    redis_connections: int = Field(
        8,
        ge=1,
        le=1000,
        description="Most connections per process to Redis (to each primary of a cluster), one for wake-ups not counted. Polls that wait hold none.",
    )
    key_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = Field(
        "wy",
        description="What every Redis key starts with: services with different prefixes share a Redis without meeting.",
    )
    workers: int = Field(1, ge=1, le=64, description="Server processes; more than one needs --redis-url.")
    auth: Literal["any", "none", "strict"] = Field(
        "any",
        description="any: every call under /v1 needs a token, whatever its value. none: no token is needed. strict: a token of the kind that the call takes, issued where it acts (docs/credentials.md).",
    )
    default_ttl: int = Field(
        DEFAULT_TTL_S,
        ge=SHORTEST_TTL_S,
        le=LONGEST_TTL_S,
        description="Lease in seconds that a heartbeat without desired_ttl_seconds gets.",
    )
    startup_lease: int = Field(
        STARTUP_LEASE_S,
        ge=1,
        le=LONGEST_LEASE_S,
        description="Seconds from an acknowledgement to the first heartbeat before the item lapses.",
    )
    reclaim_ms: int = Field(
        RECLAIM_MS,
        ge=1,
        le=LONGEST_RECLAIM_MS,
        description="Age in milliseconds at which a poll takes over an unacknowledged item, unless it says otherwise.",
    )
    journal_requests: int = Field(
        1000,
        ge=0,
        le=MOST_JOURNALED,
        description="Requests that each workspace's journal keeps (docs/journal.md); 0: none.",
    )
    journal_body_bytes: int = Field(
        2048, ge=0, le=65_536, description="Bytes of each request's and answer's body that the journal keeps; 0: none."
    )
    timeline_events: int = Field(
        10_000,
        ge=0,
        le=1_000_000,
        description="Events in the lives of its work items that each environment keeps, about 250 bytes each; 0: none.",
    )
    state: str | None = Field(
        None,
        min_length=1,
        description="File with the state of workspaces, to start with (docs/state.md). Unset: what Redis has, or nothing.",
    )
    save_state: bool = Field(
        False, description="Write the state of all workspaces to the file of --state when the server ends."
    )
    seed_file: str | None = Field(
        None,
        min_length=1,
        description="File in YAML or JSON with environments, work, keys and scripts to start with (docs/state.md).",
    )
    script: str | None = Field(
        None,
        min_length=1,
        description="File with the script, in YAML or JSON, of sessions that say nothing else (docs/agent-scripts.md). Unset: each message is run as a bash command.",
    )
    memory_mount: Annotated[str, StringConstraints(pattern=MOUNT)] = Field(
        "/mnt/memory",
        description="Folder on a worker's machine in which sessions say their memory stores are mounted; workdir: the folder `memory` where the worker works.",
    )
    fixtures: bool = Field(
        False,
        description="For the SDKs' generated test suites: the ids they use exist, whoever calls, in the state each call needs (docs/sdk-suites.md). One process only.",
    )
    require_headers: bool = Field(
        False,
        description="Refuse calls under /v1 without anthropic-version or without the beta of the API in anthropic-beta (docs/credentials.md).",
    )
    check_responses: bool = Field(
        False,
        description="Hold every answer against the OpenAPI documents; one that differs becomes a 500 that says where. Needs the extra workyard[check].",
    )
    control_token: str | None = Field(
        None,
        min_length=8,
        max_length=256,
        pattern=r"^[!-~]+$",
        repr=False,
        description="What calls to /_emulator and /metrics must carry in the header `workyard-control-token` (docs/limits.md). Unset: nothing.",
    )
    allowed_hosts: str | None = Field(
        None,
        description="Names, separated by commas, by which clients may call the server, beside localhost, addresses and --host; `*.example.com` for those below one, `*` for any.",
    )
    cors_origins: str | None = Field(
        None,
        description="Origins, separated by commas, whose pages may call the server from a browser, such as http://localhost:3000; `*` for any. Unset: none.",
    )
    max_body_bytes: int = Field(
        MOST_BYTES,
        ge=1024,
        le=67_108_864,
        description="Bytes of a request's body, but of a state, which may have 64 MiB; more: 413.",
    )
    max_header_bytes: int = Field(
        65_536, ge=1024, le=1_048_576, description="Bytes of a request's headers, each line with its end; more: 431."
    )
    max_url_bytes: int = Field(
        16_384, ge=256, le=60_000, description="Bytes of a request's target, its query included; more: 414."
    )
    max_json_depth: int = Field(
        MOST_LEVELS, ge=8, le=MOST_LEVELS, description="Levels of objects and lists in a JSON body; more: 400."
    )
    max_metadata_keys: int = Field(
        MOST_METADATA_KEYS,
        ge=0,
        le=MOST_METADATA_KEYS,
        description="Metadata keys of one environment, work item, session, agent or memory store; more: 400.",
    )
    max_count: int = Field(
        MOST_ENQUEUED,
        ge=1,
        le=MOST_ENQUEUED,
        description="Items that one call of the control plane enqueues; more: 400.",
    )
    max_blocked_polls: int = Field(
        10_000, ge=1, le=1_000_000, description="Polls that block in one environment, in each process; more: 429."
    )
    max_streams: int = Field(
        1000, ge=1, le=1_000_000, description="Streams of events that are open in each process; more: 429."
    )
    max_workspaces: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Workspaces in one Redis, one for each API key that was used; more: 409.",
    )
    max_environments: int = Field(
        10_000, ge=1, le=10_000_000, description="Environments of a workspace, archived ones too; more: 409."
    )
    max_items: int = Field(
        1_000_000,
        ge=1,
        le=100_000_000,
        description="Work items of an environment, stopped ones too, and its sessions; more: 409.",
    )
    max_connections: int = Field(
        15_000,
        ge=1,
        le=1_000_000,
        description="Connections that are open in each process, at most what its limit of open files leaves; more: 503.",
    )
    head_timeout: float = Field(
        10.0,
        ge=0.1,
        le=3600,
        description="Seconds from the first byte of a request to the end of its head; longer: 408.",
    )
    body_timeout: float = Field(
        60.0, ge=0.1, le=3600, description="Seconds from the head of a request to the end of its body; longer: 408."
    )
    idle_timeout: float = Field(
        75.0,
        ge=0.1,
        le=3600,
        description="Seconds that a connection may be open with no request on it: longer than clients keep one, so that none sends into one that is just closing.",
    )
    write_timeout: float = Field(
        60.0,
        ge=0.1,
        le=3600,
        description="Seconds that a client may leave all of an answer unread; then it is cut off.",
    )
    log_bodies: bool = Field(
        False,
        description="Log each request at level info, with the first 2048 bytes of its bodies, secrets masked (docs/observability.md).",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug adds a line for every request."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Form of the log lines, which go to standard error."
    )
    i_know: bool = Field(
        False,
        description="Allow a --host that is not loopback: whoever reaches the port can do everything, there are no real credentials.",
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
        """Refuse what is no Redis URL, in words that show none of it: it may hold a password."""
        if value is not None:
            RedisUrl.parse(value)
        return value


#: Settings that may hold a secret: what is wrong with them is said in words that show none of it.
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
            f"{named('workers')}: --fixtures needs one process: it puts the reserved ids into the state that a call needs "
            "and runs the call under one lock, which others would not share"
        )
    if settings.workers > 1 and settings.redis_url is None:
        raise StartupRefused(
            f"{named('workers')}: More than one process needs --redis-url: the embedded engine lives inside one process"
        )
    if settings.check_responses and settings.fixtures:
        raise StartupRefused(
            f"{named('check_responses')}: Not with --fixtures, whose reserved ids have not the form that the documents describe"
        )
    if settings.check_responses and find_spec("jsonschema_rs") is None:
        raise StartupRefused(
            f"{named('check_responses')}: Needs a package that is not installed: pip install 'workyard[check]'"
        )
    if settings.save_state and settings.state is None:
        raise StartupRefused(f"{named('save_state')}: Goes with --state, which names the file")
    # What is in them, a start of the server finds out.
    if not settings.save_state:
        _check_is_file("state", settings.state)
    _check_is_file("seed_file", settings.seed_file)
    read_script(settings)
    if not settings.i_know and not _is_loopback(settings.host):
        raise StartupRefused(
            f"{named('host')}: {settings.host} is not loopback, and whoever reaches the port can do everything: "
            "say --i-know if that is meant"
        )
    return settings


def read_script(settings: Settings) -> Script | None:
    """Return the script that the settings name, or None.

    Raises:
        StartupRefused: the file cannot be read, or is no script; the message names each step and field.
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
    """Return how people write a setting: its option and its variable."""
    return f"--{setting.replace('_', '-')} / WORKYARD_{setting.upper()}"
