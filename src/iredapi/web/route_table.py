"""Starlette's routes of the operations, in front of FastAPI's own dispatch.

FastAPI declares the routes and describes them in OpenAPI. Its dispatch (effective routes,
dependencies, exit stacks) costs more CPU than reading a user, and operations need none of it: they
read their parameters themselves (ADR 6).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import quote, unquote

from fastapi.routing import APIRoute, APIRouter
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
"""Methods that operations have; for others the first one's routers find the answer 405."""
API = "/api"
"""Where the operations are, whatever the configured prefixes are."""


def escape(part: str) -> str:
    """Decode one part of a request's path, except for ``%25``, ``%2F`` and ``%0A``.

    The escaped path can be split at its slashes, and no pattern ends before a newline (as ``$`` of
    a regular expression does). ``NameConvertor`` decodes the rest.
    """
    return unquote(part).replace("%", "%25").replace("/", "%2F").replace("\n", "%0A")


class NameConvertor(Convertor[str]):
    """A path parameter: any text. What ``escape`` has left encoded is decoded here."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """Return the decoded value."""
        return unquote(value) if "%" in value else value

    def to_string(self, value: str) -> str:
        """Return the value as it stands in a URL."""
        return quote(value, safe="@")


register_url_convertor("name", NameConvertor())


Endpoint = Callable[[Request], Awaitable[Response]]


class _Operation:
    """An endpoint as an ASGI application. Exceptions are left to the middleware in front."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


class RouteTable:
    """ASGI application: a Starlette router per method and first word below ``/api``.

    Both are looked up in a dictionary, so that a request is compared with the few routes of its
    resource only, and with those of its method first. All other requests go to ``app``.
    """

    def __init__(self, app: ASGIApp, *, routers: Iterable[APIRouter]) -> None:
        by_word: dict[str, list[Route]] = {}
        for route in (route for router in routers for route in router.routes):
            if not isinstance(route, APIRoute):
                raise TypeError(f"{route} is no operation")
            path = API + route.path.replace("}", ":name}")
            by_word.setdefault(_first_word(path), []).append(
                Route(path, _Operation(route.endpoint), methods=route.methods)
            )
        self.app = app
        self._routers: dict[tuple[str, str], Router] = {}
        for word, found in by_word.items():
            for method in _METHODS:
                first = sorted(found, key=lambda route: method not in (route.methods or ()))
                self._routers[method, word] = Router(first, redirect_slashes=False, default=app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises what the operation raises, and HTTPException (405)."""
        method = scope["method"] if scope["method"] in _METHODS else "GET"
        router = self._routers.get((method, _first_word(scope["path"])), self.app)
        await router(scope, receive, send)


def _first_word(path: str) -> str:
    return path.removeprefix(API + "/").partition("/")[0]
