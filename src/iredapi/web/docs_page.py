"""The OpenAPI document and the page that shows it (Swagger UI). Both need no login.

The document is made once per process. The assets come from the package fastapi_offline, so the
page needs no internet.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import fastapi_offline
import orjson
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from iredapi.web.middleware import PUBLIC

ASSETS = Path(fastapi_offline.__file__).parent / "static"
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def mount(app: FastAPI) -> None:
    """Add ``/openapi.json``, ``/docs`` and its assets; ``/`` redirects to ``/docs``."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="iredapi",
        swagger_js_url="docs-assets/swagger-ui-bundle.js",
        swagger_css_url="docs-assets/swagger-ui.css",
        swagger_favicon_url="docs-assets/favicon.png",
        swagger_ui_parameters={"docExpansion": "list", "tryItOutEnabled": True},
    )
    page.headers["Content-Security-Policy"] = _POLICY
    document = _Document(app)

    async def show_page(_: Request) -> Response:
        return page

    async def show_root(_: Request) -> Response:
        return RedirectResponse("docs")

    for path, handler in (
        ("/openapi.json", document.answer),
        ("/docs", show_page),
        ("/", show_root),
    ):
        app.add_route(path, handler, methods=["GET"], include_in_schema=False)  # and HEAD
    app.mount("/docs-assets", StaticFiles(directory=ASSETS))


class _Document:
    """The OpenAPI document as bytes, with an ETag."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._made: tuple[bytes, str] | None = None
        self._making = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        """Answer with the document, or with 304 if the client's ETag matches."""
        body, tag = await self._document()
        request.scope[PUBLIC] = True
        headers = {"ETag": tag}
        known = request.headers.get("if-none-match", "")
        if tag in (item.strip().removeprefix("W/") for item in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    async def _document(self) -> tuple[bytes, str]:
        async with self._making:
            if self._made is None:
                # It takes some tenths of a second: a thread keeps the event loop free.
                self._made = await asyncio.to_thread(self._make)
            return self._made

    def _make(self) -> tuple[bytes, str]:
        body = orjson.dumps(self._app.openapi())
        return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
