"""The HTTP server: uvicorn, connections, protocol limits. The only package that imports uvicorn."""

from ..foreign import require_names
from .private_names import NAMES

require_names("uvicorn", NAMES)  # before any module here imports them
