"""The table of Starlette routes finds what FastAPI's own dispatch would find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from iredapi.app import create_app, exception_handlers
from iredapi.config.settings import Settings
from iredapi.errors import NotFound
from iredapi.web.middleware import PathNormaliser, RequestContext
from iredapi.web.route_table import Endpoint, RouteTable


async def _elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("elsewhere")(scope, receive, send)


async def _named(request: Request) -> Response:
    return PlainTextResponse(f"named {sorted(request.path_params.items())}")


async def _fixed(_: Request) -> Response:
    return PlainTextResponse("fixed")


async def _missing(_: Request) -> Response:
    raise NotFound("NO_SUCH_ACCOUNT")


@dataclass
class _Route:
    method: str
    path: str
    endpoint: Endpoint


@dataclass
class _Router:
    routes: Sequence[_Route]


_ROUTER = _Router([
    _Route("GET", "/a/fixed", _fixed),
    _Route("GET", "/a/{name}", _named),
    _Route("PUT", "/a/{name}/b/{other}", _named),
    _Route("GET", "/missing", _missing),
])  # fmt: skip
TABLE = RouteTable(_elsewhere, routers=[_ROUTER])
HANDLED = RequestContext(TABLE, handlers=exception_handlers(always_200=False))


@pytest.mark.parametrize(
    "method, path, answer",
    [
        ("GET", "/api/a/fixed", "fixed"),
        ("GET", "/api/a/x@y.z", "named [('name', 'x@y.z')]"),
        ("PUT", "/api/a/x/b/y", "named [('name', 'x'), ('other', 'y')]"),
        ("PUT", "/api/a/x", "Method Not Allowed"),
        ("HEAD", "/api/a/fixed", ""),
        ("GET", "/a/fixed", "elsewhere"),
        ("GET", "/api/a/", "elsewhere"),
        ("PUT", "/api/a//b/y", "elsewhere"),
        ("GET", "/api/a/x/y", "elsewhere"),
        ("GET", "/api", "elsewhere"),
    ],
)
async def test_a_path_finds_its_operation(method: str, path: str, answer: str) -> None:
    transport = httpx.ASGITransport(HANDLED)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        assert (await client.request(method, path)).text == answer


async def test_an_error_of_ours_becomes_its_envelope() -> None:
    transport = httpx.ASGITransport(HANDLED)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        found = await client.get("/api/missing")
    assert (found.status_code, found.json()["_msg"]) == (404, "NO_SUCH_ACCOUNT")


def test_every_declared_route_is_in_the_table() -> None:
    """What FastAPI would answer for a method and path is what the table answers."""
    app = create_app(Settings(_env_file=None))
    table: Any = app._stack  # type: ignore[attr-defined]
    while not isinstance(table, RouteTable):
        table = table.app
    declared = {
        (method.upper(), path) for path, methods in app.openapi()["paths"].items()
        for method in methods if path.startswith("/api/")
    }  # fmt: skip
    for method, path in declared:
        scope = {"type": "http", "method": method, "path": path.replace("{", "<").replace("}", ">")}
        found = [route.matches(scope) for route, _ in table._routes[method, path.split("/")[2]]]
        full = [child for match, child in found if match is Match.FULL]
        assert full, (method, path)
        assert set(full[0]["path_params"]) == {
            part[1:-1] for part in path.split("/") if part.startswith("{")
        }
    assert len(declared) > 70


@pytest.mark.parametrize(
    "path,status,answer",
    [
        ("/api/a/x%2Fy", 200, "named [('name', 'x/y')]"),
        ("/api//a/%2f%2F/", 200, "named [('name', '//')]"),
        ("/iredadmin/api/a/x%2F%252F", 200, "named [('name', 'x/%2F')]"),
        ("/api/a/x%2F%25", 200, "named [('name', 'x/%')]"),
        ("/api/a/%C3%A9%2F", 200, "named [('name', 'é/')]"),
        ("/api/a/x%2Fb%2Fy", 200, "named [('name', 'x/b/y')]"),
        ("/api%2Fa/x", 200, "elsewhere"),
        ("/api/a/%25", 200, "named [('name', '%')]"),
        ("/api/a/%252F", 200, "named [('name', '%2F')]"),
        ("/api/a/fixed%0A", 200, "named [('name', 'fixed\\n')]"),
        ("/api/missing%0A", 200, "elsewhere"),
    ],
)
async def test_a_slash_in_a_name_divides_nothing(path: str, status: int, answer: str) -> None:
    app = PathNormaliser(TABLE, prefixes=["/api", "/iredadmin/api"])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        response = await client.get(path)
    assert (response.status_code, response.text) == (status, answer)
