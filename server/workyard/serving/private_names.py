"""The private names of uvicorn that this package uses. `pyproject.toml` pins uvicorn to the minor version that has them."""

from __future__ import annotations

_IMPLEMENTATION = "uvicorn.protocols.http.httptools_impl"

NAMES = {
    "uvicorn.config:": ("LOOP_FACTORIES", "STARTUP_FAILURE"),
    "uvicorn.server:Server": (
        "startup",
        "capture_signals",
        "handle_exit",
        "on_tick",
        "server_state",
        "servers",
        "started",
    ),
    "uvicorn.server:ServerState": ("connections", "tasks"),
    "uvicorn.config:Config": ("load", "get_loop_factory", "lifespan_class"),
    "uvicorn.supervisors.multiprocess:Multiprocess": (
        "keep_subprocess_alive",
        "processes",
        "signal_queue",
        "should_exit",
    ),
    "uvicorn.supervisors.multiprocess:Process": ("start", "kill", "join", "pid", "exitcode", "process"),
    f"{_IMPLEMENTATION}:HttpToolsProtocol": (
        "_start_asgi_task",
        "_should_upgrade",
        "_unset_keepalive_if_required",
        "on_message_begin",
        "on_headers_complete",
        "on_message_complete",
        "on_response_complete",
        "send_400_response",
        "connections",
        "cycle",
        "flow",
        "headers",
        "parser",
        "pipeline",
        "scope",
        "transport",
        "url",
    ),
    f"{_IMPLEMENTATION}:RequestResponseCycle": (
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
        "transport",
    ),
    "uvicorn.protocols.http.flow_control:FlowControl": ("read_paused", "resume_reading"),
}
