"""Checks that a library still has the private names that Workyard uses, and reports a release without one immediately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import requires, version
from types import FunctionType

from workyard_store.errors import StartupRefused


def require_names(package: str, names: Mapping[str, Sequence[str]]) -> None:
    """Check that *package* has *names*: `module:Class` → attributes of the class or its instances, `module:` → of the module.

    Takes microseconds where the modules are imported anyway: nothing is looked up about the release unless a name is missing.

    Raises:
        StartupRefused: a name is missing; says which release is installed and which are needed.
    """
    for place, attributes in names.items():
        module, _, owner = place.partition(":")
        try:
            found: object = import_module(module)
            if owner:
                found = getattr(found, owner)
        except (ImportError, AttributeError):
            raise _refusal(package, f"{module}.{owner}".rstrip(".")) from None
        for name in attributes:
            if not _has(found, name):
                raise _refusal(package, f"{module}.{owner}.{name}" if owner else f"{module}.{name}")


def _has(owner: object, name: str) -> bool:
    """Return whether a module or class has an attribute, or a method of the class (such as `__init__`) mentions it."""
    if hasattr(owner, name):
        return True
    for each in owner.__mro__ if isinstance(owner, type) else ():
        if name in vars(each).get("__annotations__", ()):
            return True
        if any(isinstance(method, FunctionType) and name in method.__code__.co_names for method in vars(each).values()):
            return True
    return False


def _refusal(package: str, name: str) -> StartupRefused:
    needed = package
    for line in requires("workyard") or ():
        requirement = line.partition(";")[0].replace(" ", "")
        if (
            requirement.startswith(package)
            and not requirement[len(package)].isalnum()
            and requirement[len(package)] != "-"
        ):
            needed = requirement
            break
    return StartupRefused(
        f"{package} {version(package)} is installed, and has no {name}, which Workyard uses. Install {needed}"
    )
