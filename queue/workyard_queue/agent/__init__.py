"""The scripted agent, which takes the place of the real service's model. No Redis, no HTTP."""

from .advance import Step, advance
from .events import Event
from .play import Setting
from .script import DEFAULT_SCRIPT, SCHEMA_FILE, Script, calls_of, script_schema
from .script_text import check_script, parse_script
from .state import Report, State, report

__all__ = [
    "DEFAULT_SCRIPT",
    "SCHEMA_FILE",
    "Event",
    "Report",
    "Script",
    "Setting",
    "State",
    "Step",
    "advance",
    "calls_of",
    "check_script",
    "parse_script",
    "report",
    "script_schema",
]
