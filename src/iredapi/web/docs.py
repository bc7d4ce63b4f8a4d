"""The documentation page: Swagger UI with assets from a package, so that it needs no internet."""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

ASSETS = Path(fastapi_offline.__file__).parent / "static"
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def mount(app: FastAPI) -> None:
    """Serve ``/docs`` and its assets; ``/`` leads there."""

    @app.get("/docs", include_in_schema=False)
    async def _docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title="iredapi",
            swagger_js_url="docs-assets/swagger-ui-bundle.js",
            swagger_css_url="docs-assets/swagger-ui.css",
            swagger_favicon_url="docs-assets/favicon.png",
            swagger_ui_parameters={"docExpansion": "list", "tryItOutEnabled": True},
        )
        page.headers["Content-Security-Policy"] = _POLICY
        return page

    @app.get("/", include_in_schema=False)
    async def _root() -> RedirectResponse:
        return RedirectResponse("docs")

    app.mount("/docs-assets", StaticFiles(directory=ASSETS))
