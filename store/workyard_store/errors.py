"""The domain errors as one tree, with their messages. The server maps them to HTTP statuses in one table.

WorkyardError
├── StartupRefused
├── StorageUnavailable
├── AuthenticationFailed
│   ├── LaneClosed
│   ├── TokenRevoked
│   │   └── KeyRevoked
│   └── TokenUnknown
├── PermissionDenied
│   ├── EnvironmentNotTheTokens
│   ├── ScopeMissing
│   └── WorkerCredentialNeeded
├── TooManyAtOnce
├── InvalidRequest
│   ├── InvalidCursor
│   ├── BodyTooLarge
│   ├── TooLarge
│   ├── EnvironmentIsArchived
│   ├── HeaderMissing
│   ├── ConfigTypeChange
│   ├── InvalidMetadata
│   ├── MemoryStoreIsArchived
│   ├── SessionOutOfState
│   └── WorkPollingUnsupported
├── NotFound
│   ├── AgentNotFound
│   ├── EnvironmentNotFound
│   ├── FaultNotFound
│   ├── KeyNotFound
│   ├── MemoryNotFound
│   ├── MemoryStoreNotFound
│   ├── RuleNotFound
│   ├── ScenarioNotFound
│   ├── ScriptNotFound
│   ├── SessionNotFound
│   ├── SkillNotFound
│   ├── SkillVersionNotFound
│   ├── WorkListingUnsupported
│   └── WorkNotFound
└── Conflict
    ├── AckOutOfState
    ├── DeleteRefused
    │   └── SessionsActive
    ├── EnvironmentElsewhere
    ├── EnvironmentInMotion
    ├── HeartbeatPreconditionFailed
    ├── LimitReached
    ├── MemoryPathTaken
    ├── MemoryPreconditionFailed
    ├── ResetMeanwhile
    ├── RestoreUnderWay
    ├── SessionIsBusy
    └── WaitedInVain
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class WorkyardError(Exception):
    """Any error that is reported to a caller. `message` is the text on the wire. `rule` is the id of the broken ledger rule;
    it is needed only if neither the class nor the field in the message determines it."""

    error_code: str | None = None

    def __init__(self, message: str, *, rule: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.rule = rule

    @property
    def details(self) -> dict[str, Any] | None:
        """Return the `details` member of the error object, or None. Rule: `conventions.envelope`."""
        return None if self.error_code is None else {"error_code": self.error_code}


class StartupRefused(WorkyardError):
    """The server must not start; the message says why and what to do."""


class StorageUnavailable(WorkyardError):
    """Redis did not answer. The step happened completely or not at all; the caller cannot know which."""

    def __init__(self, message: str = "Storage is unavailable", *, rule: str | None = None) -> None:
        super().__init__(message, rule=rule)


class AuthenticationFailed(WorkyardError):
    """No usable credential."""


class TokenRevoked(AuthenticationFailed):
    """The credential was valid once and has been revoked."""

    def __init__(self) -> None:
        super().__init__("OAuth access token has been revoked.")


class KeyRevoked(TokenRevoked):
    """The environment key was valid once and has been revoked."""


class TokenUnknown(AuthenticationFailed):
    """The token has the form of one of ours, but was never issued, or its environment or session was deleted."""

    def __init__(self) -> None:
        super().__init__("Invalid bearer token")


class LaneClosed(AuthenticationFailed):
    """The route does not accept this kind of credential. Rule: `credentials.strict.lane`."""

    def __init__(self) -> None:
        super().__init__("Authentication failed")


class PermissionDenied(WorkyardError):
    """The credential is valid but does not permit this call."""


class EnvironmentNotTheTokens(PermissionDenied):
    """A key was used on another environment, or a sessions token on another item or session, existing or not."""

    def __init__(self, *, rule: str | None = None) -> None:
        super().__init__("Token not authorized for this environment", rule=rule)


class ScopeMissing(PermissionDenied):
    """The route accepts API keys only; the message speaks of OAuth scopes. Rule: `credentials.strict.scope`."""

    def __init__(self) -> None:
        super().__init__("OAuth token does not meet scope requirement any_of(workspace:developer)")


class WorkerCredentialNeeded(PermissionDenied):
    """An API key sent the result of a tool that only a worker may run. Rule: `credentials.strict.tool-result`."""

    def __init__(self, place: int) -> None:
        super().__init__(
            f"events[{place}]: `user.tool_result` may only be sent with environment credentials (the self-hosted runner's "
            "Session-Instance JWT); an API key or Console session cannot post this event type"
        )


class TooManyAtOnce(WorkyardError):
    """Too many polls or streams are open; one must end first. The message names the limit."""


class InvalidRequest(WorkyardError):
    """The request is invalid; the message names the field."""


class InvalidCursor(InvalidRequest):
    """The page cursor was not issued by this kind of list."""

    def __init__(self) -> None:
        super().__init__("page: Invalid cursor")


class BodyTooLarge(InvalidRequest):
    """The body exceeds the limit."""


class TooLarge(InvalidRequest):
    """A part of the request exceeds a limit of its own; the message names the field."""


class MemoryStoreIsArchived(InvalidRequest):
    """An archived memory store allows no changes except deletions."""

    def __init__(self, store_id: str) -> None:
        super().__init__(f"Memory store {store_id} is archived and cannot be updated.")


class EnvironmentIsArchived(InvalidRequest):
    """An archived environment accepts no updates and no new work."""

    error_code = "environment_archived"


class HeaderMissing(InvalidRequest):
    """A header required by the setting `require_headers` is missing."""


class ConfigTypeChange(InvalidRequest):
    """An update tried to turn a cloud environment into a self-hosted one, or back."""

    error_code = "invalid_config_type_change"

    def __init__(self, stored: str, wanted: str) -> None:
        names = {"cloud": "Cloud", "self_hosted": "BYOC"}
        super().__init__(f"Cannot change environment type from {names[stored]} to {names[wanted]}")


class InvalidMetadata(InvalidRequest):
    """The resulting metadata exceeds a limit. The message lists every problem."""

    error_code = "invalid_metadata"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("metadata: " + "; ".join(problems))


class WorkPollingUnsupported(InvalidRequest):
    """A cloud environment was polled."""

    def __init__(self, environment_id: str) -> None:
        super().__init__(
            f"Only BYOC and bridge environments support work polling. Environment {environment_id} is anthropic_cloud."
        )


class SessionOutOfState(InvalidRequest):
    """The session's status does not allow the step. Rules: `sessions.archive.running`, `sessions.delete.running`."""


class NotFound(WorkyardError):
    """The caller has no such resource."""


class AgentNotFound(NotFound):
    """The agent does not exist, or the text cannot be an agent id."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"Agent {agent_id} not found.")


class FaultNotFound(NotFound):
    """No such fault rule in the workspace."""

    def __init__(self, fault_id: str) -> None:
        super().__init__(f"Fault {fault_id} not found.")


class ScenarioNotFound(NotFound):
    """No ready scenario of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Scenario {name} not found.")


class RuleNotFound(NotFound):
    """The behaviour ledger has no such rule."""

    def __init__(self, rule_id: str) -> None:
        super().__init__(f"Rule {rule_id} not found.")


class ScriptNotFound(NotFound):
    """No script of this name in the workspace."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Script {name} not found.")


class SkillNotFound(NotFound):
    """No such skill in the caller's workspace."""

    def __init__(self, skill_id: str) -> None:
        super().__init__(f"Skill {skill_id} not found.")


class SkillVersionNotFound(NotFound):
    """The skill has no such version, or it was deleted."""

    def __init__(self, skill_id: str, version: str) -> None:
        super().__init__(f"Version {version} of skill {skill_id} not found.")


class MemoryStoreNotFound(NotFound):
    """No such memory store in the caller's workspace."""

    def __init__(self, store_id: str) -> None:
        super().__init__(f"Memory store {store_id} not found.")


class MemoryNotFound(NotFound):
    """The memory store has no such memory."""

    def __init__(self, memory_id: str) -> None:
        super().__init__(f"Memory {memory_id} not found.")


class SessionNotFound(NotFound):
    """Unknown, deleted, malformed, or another workspace's."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session {session_id} not found.")


class EnvironmentNotFound(NotFound):
    """Unknown, deleted, malformed, or another workspace's."""

    def __init__(self, environment_id: str) -> None:
        super().__init__(f"Environment {environment_id} not found.")


class KeyNotFound(NotFound):
    """No such environment key."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"Environment key {key_id} not found.")


class WorkListingUnsupported(NotFound):
    """The work of a cloud environment was requested."""

    def __init__(self, environment_id: str) -> None:
        super().__init__(
            f"Environment `{environment_id}` not found, or does not support work listing. "
            "The work API is only available for self-hosted environments."
        )


class WorkNotFound(NotFound):
    """Unknown work id, or one of another environment."""

    def __init__(self, work_id: str) -> None:
        super().__init__(f"Work item {work_id} not found.")


class Conflict(WorkyardError):
    """The state does not allow the step."""


class AckOutOfState(Conflict):
    """Only a queued item can be acknowledged."""

    def __init__(self, work_id: str, state: str) -> None:
        super().__init__(f"Work item {work_id} must be in QUEUED state to acknowledge. Current state: {state}.")


class DeleteRefused(Conflict):
    """The environment is still in use: by queued work, unless the message says otherwise."""

    def __init__(
        self,
        message: str = "Cannot delete self-hosted environment with work in the queue. Either archive the environment "
        "first to allow the queue to drain, or use force=true to delete immediately.",
    ) -> None:
        super().__init__(message)


class SessionsActive(DeleteRefused):
    """Sessions in the environment are neither archived nor terminated."""

    def __init__(self, count: int) -> None:
        super().__init__(f"Environment has {count} active sessions. Use force=true to delete anyway.")


class HeartbeatPreconditionFailed(Conflict):
    """The expected heartbeat is not the stored one: the caller does not hold the lease."""

    error_code = "heartbeat_precondition_failed"

    def __init__(
        self, *, expected: str, stored: str | None, state: str, ttl_seconds: int, rule: str | None = None
    ) -> None:
        message = f"Heartbeat precondition failed: expected {expected}, actual was {stored or 'NULL'}"
        super().__init__(message, rule=rule)
        self.current_state = {
            "state": state,
            "last_heartbeat": stored,
            "lease_extended": False,
            "ttl_seconds": ttl_seconds,
        }

    @property
    def details(self) -> dict[str, Any]:
        """Return the members in the order the service was seen to send them. Rule: `work.heartbeat.precondition`."""
        return {
            "current_state": self.current_state,
            "error_visibility": "user_facing",
            "error_code": self.error_code,
        }


class LimitReached(Conflict):
    """A storage limit is reached. The message names it; retrying helps only after something was removed."""


class MemoryPathTaken(Conflict):
    """Another memory is at this path, above it or below it, so no folder could hold both."""

    def __init__(self, path: str, memory_id: str, other: str) -> None:
        super().__init__(f"path: {path} conflicts with memory {memory_id} at {other}")


class MemoryPreconditionFailed(Conflict):
    """The content is not what the caller expects."""

    def __init__(self, memory_id: str, expected: str, stored: str) -> None:
        super().__init__(f"Memory {memory_id} has content_sha256 {stored}, not the expected {expected}.")


class SessionIsBusy(Conflict):
    """The session's script cannot be changed during a turn."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"Session {session_id} is in the middle of a turn; change its script after the turn has ended, "
            "or after a user.interrupt."
        )


class WaitedInVain(Conflict):
    """The awaited condition did not occur in time. The message includes the last observation."""

    def __init__(self, seconds: float, wanted: str, seen: str) -> None:
        super().__init__(f"Timed out after {seconds:g} s waiting for {wanted}; last seen: {seen}")


class EnvironmentElsewhere(Conflict):
    """An environment in the document belongs to another workspace."""

    def __init__(self, place: int, environment_id: str) -> None:
        super().__init__(f"environments.{place}.id: {environment_id} belongs to another workspace")


class EnvironmentInMotion(Conflict):
    """A large environment kept changing while it was read in parts."""

    def __init__(self, environment_id: str) -> None:
        super().__init__(
            f"Environment {environment_id} is too large to read in one step and changes faster than it can be read in "
            "parts; pause its workers and retry"
        )


class RestoreUnderWay(Conflict):
    """Another restore of the workspace is in progress."""

    def __init__(self) -> None:
        super().__init__("Another restore of this workspace is in progress")


class ResetMeanwhile(Conflict):
    """The workspace was reset during a restore."""

    def __init__(self) -> None:
        super().__init__("The workspace was reset while its state was being restored")
