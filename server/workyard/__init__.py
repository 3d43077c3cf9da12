"""Workyard: a local emulator of the Environments and Work API of Claude Managed Agents. HTTP, CLI; no Redis command."""

from importlib.metadata import version

__version__ = version("workyard")
