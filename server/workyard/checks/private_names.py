"""The names inside FastAPI that this package uses. `pyproject.toml` pins FastAPI to the minor version that has them."""

from __future__ import annotations

NAMES = {
    "fastapi._compat:ModelField": ("alias", "default", "field_info", "name", "validate"),
    "fastapi.dependencies.models:Dependant": (
        "background_tasks_param_name",
        "body_params",
        "cookie_params",
        "dependencies",
        "header_params",
        "path",
        "path_params",
        "query_params",
        "request_param_name",
        "response_param_name",
    ),
    "fastapi.routing:APIRoute": ("dependant", "endpoint", "get_route_handler", "param_convertors", "path_regex"),
}
