"""The caps of metadata. Lengths count code points."""

from __future__ import annotations

from .errors import InvalidMetadata

MOST_METADATA_KEYS = 16
LONGEST_METADATA_KEY = 64
LONGEST_METADATA_VALUE = 512


def metadata_problems(pairs: dict[str, str]) -> list[str]:
    """Return what is wrong with single keys and values; lengths count code points."""
    problems = []
    for key, value in pairs.items():
        if not key:
            problems.append("key must not be empty")
        if len(key) > LONGEST_METADATA_KEY:
            problems.append(f"key '{key}' is longer than {LONGEST_METADATA_KEY} characters")
        if len(value) > LONGEST_METADATA_VALUE:
            problems.append(f"value of '{key}' is longer than {LONGEST_METADATA_VALUE} characters")
    return problems


def too_many_keys(count: int, most: int = MOST_METADATA_KEYS) -> list[str]:
    """Return the problem with *count* keys, if there is one."""
    return [f"too many keys ({count} > {most})"] if count > most else []


def checked_metadata(metadata: dict[str, str], most_keys: int = MOST_METADATA_KEYS) -> dict[str, str]:
    """Return *metadata* if it keeps the caps.

    Raises:
        InvalidMetadata: the message lists every problem.
    """
    problems = too_many_keys(len(metadata), most_keys) + metadata_problems(metadata)
    if problems:
        raise InvalidMetadata(problems)
    return metadata
