"""How much may be stored. The numbers are settings; the scripts judge them, so that they hold under concurrency too."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import LimitReached
from .workspaces.configs import MOST_METADATA_KEYS


@dataclass(frozen=True, slots=True)
class Limits:
    """The most of each thing, at defaults that nobody meets who tests a worker.

    Attributes:
        workspaces: in one Redis.
        environments: in one workspace, archived ones too.
        items: in one environment, stopped ones too; and as many sessions.
        metadata_keys: of one thing.
    """

    workspaces: int = 10_000
    environments: int = 10_000
    items: int = 1_000_000
    metadata_keys: int = MOST_METADATA_KEYS

    def full_of_workspaces(self) -> LimitReached:
        """Return the refusal of one workspace more."""
        return LimitReached(
            f"This server keeps at most {self.workspaces} workspaces, and has them (--max-workspaces / "
            "WORKYARD_MAX_WORKSPACES). Each API key is one; a reset makes room.",
            rule="limits.workspaces",
        )

    def full_of_environments(self) -> LimitReached:
        """Return the refusal of one environment more."""
        return LimitReached(
            f"A workspace holds at most {self.environments} environments, archived ones too, and this one has them "
            "(--max-environments / WORKYARD_MAX_ENVIRONMENTS). Delete some, or reset the workspace.",
            rule="limits.environments",
        )

    def full_of_items(self, environment_id: str) -> LimitReached:
        """Return the refusal of items for which an environment has no room."""
        return LimitReached(
            f"Environment {environment_id} holds at most {self.items} work items and as many sessions, stopped ones too, "
            "and has no room for this (--max-items / WORKYARD_MAX_ITEMS). Delete the environment, or reset the workspace.",
            rule="limits.items",
        )
