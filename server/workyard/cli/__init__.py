"""The command `workyard`."""

from .main import main

__all__ = ["main"]
