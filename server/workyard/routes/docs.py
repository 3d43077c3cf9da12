"""The OpenAPI documents and pages to read them, all from this package: they work offline."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, HTTPException
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response

from ..contract import documents
from ..contract.describe import CONTROL_TITLE, V1_TITLE
from ..wire.responses import JsonResponse
from ..wire.security_headers import POLICY, policy_of_page

_ASSETS = "/_emulator/assets"
_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def v1_document() -> Response:
    """Return the contract of the emulated API."""
    return _document(documents.V1)


@router.get("/_emulator/openapi.json")
async def control_document() -> Response:
    """Return the contract of the control plane."""
    return _document(documents.CONTROL)


@router.get("/docs")
async def v1_page() -> HTMLResponse:
    """Return the page of the emulated API."""
    return _page("/openapi.json", V1_TITLE)


@router.get("/_emulator/docs")
async def control_page() -> HTMLResponse:
    """Return the page of the control plane."""
    return _page("/_emulator/openapi.json", CONTROL_TITLE)


@router.get(_ASSETS + "/{name}")
async def asset(name: str) -> Response:
    """Return one of Swagger UI's files, from the package that ships them."""
    if name not in _TYPES:
        raise HTTPException(404)
    return Response((files("fastapi_offline") / "static" / name).read_bytes(), media_type=_TYPES[name])


@cache
def _written(name: str) -> bytes:
    """Return a document's text: to write it for each request would hold up all others."""
    return bytes(JsonResponse(documents.read(name)).body)


def _document(name: str) -> Response:
    return Response(_written(name), media_type=JsonResponse.media_type)


def _page(url: str, title: str) -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url=url,
        title=title,
        swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{_ASSETS}/favicon.png",
    )
    page.headers[POLICY.decode()] = policy_of_page(bytes(page.body).decode())
    page.headers["referrer-policy"] = "no-referrer"
    return page
