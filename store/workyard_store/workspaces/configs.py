"""An environment's configuration: defaults, the merge of an update, and the rules for the result. Pure functions on
plain dictionaries; the server owns the wire shapes and their validation. Rules: `environments.*`.
"""

from __future__ import annotations

from typing import Any

from ..errors import ConfigTypeChange, InvalidRequest

Config = dict[str, Any]
PACKAGE_MANAGERS = ("apt", "cargo", "gem", "go", "npm", "pip")
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
