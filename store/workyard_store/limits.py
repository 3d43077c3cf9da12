"""Storage limits. The numbers are settings; the scripts enforce them, so that they hold under concurrency too."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import LimitReached
from .metadata import MOST_METADATA_KEYS


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits, with defaults that no test of a worker reaches.

    Attributes:
        workspaces: in one Redis.
        environments: in one workspace, archived ones too.
        items: in one environment, stopped ones too; and as many sessions.
        metadata_keys: of one resource.
    """

    workspaces: int = 10_000
    environments: int = 10_000
    items: int = 1_000_000
    metadata_keys: int = MOST_METADATA_KEYS

    def full_of_workspaces(self) -> LimitReached:
        """Return the error for one workspace too many."""
        return LimitReached(
            f"Workspace limit reached ({self.workspaces}); raise it with --max-workspaces (WORKYARD_MAX_WORKSPACES). "
            "Each API key is a workspace; a reset removes one.",
            rule="limits.workspaces",
        )

    def full_of_environments(self) -> LimitReached:
        """Return the error for one environment too many."""
        return LimitReached(
            f"Environment limit of the workspace reached ({self.environments}, archived ones included); raise it with "
            "--max-environments (WORKYARD_MAX_ENVIRONMENTS), delete some, or reset the workspace.",
            rule="limits.environments",
        )

    def full_of_items(self, environment_id: str) -> LimitReached:
        """Return the error for items that exceed the environment's limit."""
        return LimitReached(
            f"Item limit of environment {environment_id} reached ({self.items} work items, and as many sessions, stopped "
            "ones included); raise it with --max-items (WORKYARD_MAX_ITEMS), delete the environment, or reset the workspace.",
            rule="limits.items",
        )
