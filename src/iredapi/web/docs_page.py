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

from iredapi.config.ldap_settings import Backend
from iredapi.config.settings import Settings
from iredapi.errors import problem
from iredapi.web.middleware import PUBLIC
from iredapi.web.openapi_document import View, variant
from iredapi.web.route_table import API

ASSETS = Path(fastapi_offline.__file__).parent / "static"
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def mount(app: FastAPI, settings: Settings) -> None:
    """Add ``/openapi.json``, ``/docs`` and its assets; ``/`` redirects to ``/docs``.

    They are below ``/api`` too: a proxy in front may pass on nothing else.
    """
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="iredapi",
        swagger_js_url="docs-assets/swagger-ui-bundle.js",
        swagger_css_url="docs-assets/swagger-ui.css",
        swagger_favicon_url="docs-assets/favicon.png",
        swagger_ui_parameters={
            "docExpansion": "list",
            "filter": True,
            "tryItOutEnabled": True,
            "displayRequestDuration": True,
        },
    )
    page.headers["Content-Security-Policy"] = _POLICY
    document = _Document(app, settings)

    async def show_page(_: Request) -> Response:
        return page

    async def show_root(request: Request) -> Response:
        # Relative to the address as it was sent: it may be below another prefix.
        last = (request.scope.get("raw_path") or b"/").decode("latin-1").rpartition("/")[2]
        return RedirectResponse(f"{last}/docs" if last else "docs")

    for path, handler in (
        ("/openapi.json", document.answer),
        ("/docs", show_page),
        ("/", show_root),
    ):
        for prefix in ("", API):
            where = (prefix + path).rstrip("/") or "/"
            app.add_route(where, handler, methods=["GET"], include_in_schema=False)  # and HEAD
    for prefix in ("", API):
        app.mount(f"{prefix}/docs-assets", StaticFiles(directory=ASSETS))


class _Document:
    """The OpenAPI document of this server's storage as bytes, with an ETag; one for each view."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._app = app
        self._on_ldap = settings.backend is Backend.LDAP
        prefixes = settings.prefixes
        self._prefix = API if API in prefixes or not prefixes else prefixes[0]
        self._made: dict[View, tuple[bytes, str]] = {}
        self._making = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        """Answer with the document, or with 304 if the client's ETag matches."""
        asked = request.query_params.get("view", "")
        if asked not in set(View):
            raise problem("view", "INVALID_VALUE", f"Allowed: {View.NATIVE}, {View.CANONICAL}.")
        body, tag = await self._document(View(asked))
        request.scope[PUBLIC] = True
        headers = {"ETag": tag}
        known = request.headers.get("if-none-match", "")
        if tag in (item.strip().removeprefix("W/") for item in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    async def _document(self, view: View) -> tuple[bytes, str]:
        async with self._making:
            if view not in self._made:
                # It takes some tenths of a second: a thread keeps the event loop free.
                self._made[view] = await asyncio.to_thread(self._make, view)
            return self._made[view]

    def _make(self, view: View) -> tuple[bytes, str]:
        made = self._app.openapi()
        body = orjson.dumps(variant(made, view=view, on_ldap=self._on_ldap, prefix=self._prefix))
        return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
