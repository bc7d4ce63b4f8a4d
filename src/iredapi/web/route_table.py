"""Starlette's routes of the operations, in front of FastAPI's own dispatch.

FastAPI describes them in OpenAPI. Its dispatch (effective routes, dependencies, exit stacks) costs
more CPU than reading a user, and operations need none of it: they read their parameters themselves
(ADR 6).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol
from urllib.parse import quote, unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

API = "/api"
"""Where the operations are, whatever the configured prefixes are."""


def escape(part: str) -> str:
    """Decode one part of a request's path, except for ``%25``, ``%2F`` and ``%0A``.

    The escaped path can be split at its slashes, and no pattern ends before a newline (as ``$`` of
    a regular expression does). ``NameConvertor`` decodes the rest.
    """
    return unquote(part).replace("%", "%25").replace("/", "%2F").replace("\n", "%0A")


def _unescape(part: str) -> str:
    """Decode what ``escape`` has left encoded."""
    return unquote(part) if "%" in part else part


class NameConvertor(Convertor[str]):
    """A path parameter: any text. What ``escape`` has left encoded is decoded here."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """Return the decoded value."""
        return _unescape(value)

    def to_string(self, value: str) -> str:
        """Return the value as it stands in a URL."""
        return quote(value, safe="@")


register_url_convertor("name", NameConvertor())


Endpoint = Callable[[Request], Awaitable[Response]]


class Declared(Protocol):
    """A route below ``/api``."""

    @property
    def method(self) -> str:
        """The HTTP method."""

    @property
    def path(self) -> str:
        """The path, with names in braces."""

    @property
    def endpoint(self) -> Endpoint:
        """What answers a request."""


class Declares(Protocol):
    """What has routes."""

    @property
    def routes(self) -> Sequence[Declared]:
        """The routes, in the order in which they are compared with a path."""


class _Operation:
    """An endpoint as an ASGI application. Exceptions are left to the middleware in front."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


class RouteTable:
    """ASGI application: the routes of each method and first word below ``/api``.

    Both are looked up in a dictionary, so that a request is compared with the few routes of its
    resource and method only. Starlette's router of the word finds the answer 405. All other
    requests go to ``app``.
    """

    def __init__(self, app: ASGIApp, *, routers: Iterable[Declares]) -> None:
        by_word: dict[str, list[Route]] = {}
        self._routes: dict[tuple[str, str], list[tuple[Route, Endpoint]]] = {}
        for route in (route for router in routers for route in router.routes):
            path = API + route.path.replace("}", ":name}")
            word = _first_word(path)
            found = Route(path, _Operation(route.endpoint), methods=[route.method])
            by_word.setdefault(word, []).append(found)
            for method in found.methods or ():
                self._routes.setdefault((method, word), []).append((found, route.endpoint))
        self.app = app
        self._routers = {
            word: Router(found, redirect_slashes=False, default=app)
            for word, found in by_word.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises what the operation raises, and HTTPException (405)."""
        word = _first_word(scope["path"])
        for route, endpoint in self._routes.get((scope["method"], word), ()):
            if found := route.path_regex.match(scope["path"]):
                scope["iredapi.route"] = route.path
                scope["path_params"] = {
                    name: _unescape(value) for name, value in found.groupdict().items()
                }
                response = await endpoint(Request(scope, receive, send))
                await response(scope, receive, send)
                return
        await self._routers.get(word, self.app)(scope, receive, send)


def _first_word(path: str) -> str:
    return path.removeprefix(API + "/").partition("/")[0]
