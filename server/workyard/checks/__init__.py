"""The checks that a request passes before its route, in order. The only folder that imports FastAPI internals."""

from ..foreign import require_names
from .private_names import NAMES

require_names("fastapi", NAMES)  # before any module here imports them
