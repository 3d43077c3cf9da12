"""Checks that a request passes before its route."""

from ..foreign import require_names
from .private_names import NAMES

require_names("fastapi", NAMES)  # before any module here imports them
