"""An environment's configuration: defaults, the merge of an update, and the rules on the result. Pure functions on
plain dictionaries; the wire shapes and their validation are the server's. Rules: `environments.*`.
"""

from __future__ import annotations

from typing import Any

from ..errors import ConfigTypeChange, InvalidMetadata, InvalidRequest

Config = dict[str, Any]
PACKAGE_MANAGERS = ("apt", "cargo", "gem", "go", "npm", "pip")
MOST_METADATA_KEYS = 16
LONGEST_METADATA_KEY = 64
LONGEST_METADATA_VALUE = 512
_LIMITED_DEFAULTS: Config = {"allow_mcp_servers": False, "allow_package_managers": False, "allowed_hosts": []}


def merged(stored: Config | None, patch: Config | None) -> Config:
    """Return the configuration after *patch*: at creation (*stored* None) or an update. None and absence mean "keep".

    Raises:
        ConfigTypeChange: the patch names another type than the stored one.
    """
    if patch is None:
        return stored if stored is not None else merged(None, {"type": "cloud"})
    kind = patch["type"]
    if stored is not None and stored["type"] != kind:
        raise ConfigTypeChange(stored["type"], kind)
    if kind == "self_hosted":
        return {"type": "self_hosted"}
    before = stored or {"networking": {"type": "unrestricted"}, "packages": {}}
    packages = patch.get("packages") or {}
    return {
        "type": "cloud",
        "networking": _merged_networking(before["networking"], patch.get("networking")),
        "packages": {
            "type": "packages",
            **{
                name: packages[name] if packages.get(name) is not None else before["packages"].get(name, [])
                for name in PACKAGE_MANAGERS
            },
        },
    }


def _merged_networking(stored: Config, patch: Config | None) -> Config:
    if patch is None:
        return stored
    if patch["type"] == "unrestricted":
        return {"type": "unrestricted"}
    before = stored if stored["type"] == "limited" else _LIMITED_DEFAULTS
    return {
        "type": "limited",
        **{name: patch[name] if patch.get(name) is not None else before[name] for name in _LIMITED_DEFAULTS},
    }


def check(config: Config, scope: str) -> None:
    """Judge the resulting configuration and scope together.

    Raises:
        InvalidRequest: the message lists every broken rule.
    """
    problems: dict[str, str] = {}
    if config["type"] == "cloud":
        networking = config["networking"]
        closed = networking["type"] == "limited" and not networking["allow_package_managers"]
        if closed and any(config["packages"][name] for name in PACKAGE_MANAGERS):
            problems["environments.create.closed-network"] = (
                "config.packages: Packages under limited networking require networking.allow_package_managers to be true"
            )
        if scope == "account":
            problems["environments.create.scope-account"] = (
                "scope: 'account' is only available for self-hosted environments"
            )
    if problems:
        raise InvalidRequest("; ".join(problems.values()), rule=next(iter(problems)))


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
