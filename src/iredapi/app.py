"""The FastAPI application: routers, middleware, error handlers, documentation."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from iredapi import __version__
from iredapi.config.loading import from_environment as settings_of_worker
from iredapi.config.settings import Settings
from iredapi.errors import ApiError
from iredapi.observability.logging import configure
from iredapi.routers import (
    admins,
    aliases,
    domains,
    exports,
    greylists,
    lists,
    logins,
    maillists,
    spam,
    throttles,
    tokens,
    users,
    wblists,
)
from iredapi.runtime import graceful_shutdown
from iredapi.runtime.context import AppContext
from iredapi.state.connections import StateUnavailable
from iredapi.web import client_address, connection_limits, docs_page, health_routes, responses
from iredapi.web.middleware import AccessMiddleware, PathNormaliser, RequestContext, crashed
from iredapi.web.route_table import API, RouteTable

_DESCRIPTION = """\
Provision mail domains, admins, users, aliases and mailing lists on an iRedMail server, and decide
what Amavisd and iRedAPD do with their mail.

Log in first: the session cookie of `POST /api/login` goes with all other requests. Programs send
an API token instead: `Authorization: Bearer iredapi_…` (`POST /api/tokens` makes one).

Parameters may be sent as a form, as multipart, as a JSON object or in the query. A parameter
that is not sent changes nothing; an empty one removes the value where that is possible. Failures
have a stable code in `_msg`.
"""
_TAGS = ["Login", "API Token", "Domain", "Domain Admin", "Mail User", "Mail Alias"]
_TAGS += ["Subscribable Mailing List", "Mailing List (Unsubscribable)"]
_TAGS += ["Spam Policy", "Throttling", "Whitelisting and Blacklisting", "Greylisting", "Export"]


class _Api(FastAPI):
    """FastAPI with middleware in front of FastAPI's own stack.

    Operations are answered by ``RouteTable``, the innermost middleware, and do not reach that
    stack. It serves the documentation and the health checks, and answers unknown paths.
    """

    _stack: ASGIApp

    def put_in_front(self, *middleware: Middleware) -> None:
        """Wrap FastAPI's stack in middleware, the first one outermost."""
        self._stack = super().__call__
        for cls, args, kwargs in reversed(middleware):
            self._stack = cls(self._stack, *args, **kwargs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            scope["app"] = self
            scope["iredapi.context"] = getattr(self.state, "context", None)
            await self._stack(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings, context: AppContext | None = None) -> FastAPI:
    """Build the application. Its lifespan opens an AppContext, unless ``context`` is given."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        if context is not None:
            app.state.context = context
            yield {}
            return
        configure(settings.log_level)
        async with AppContext.open(settings) as own:
            app.state.context = own
            own.servers_written.start()
            # Objects that exist now stay: the garbage collector need not examine them again.
            gc.collect()
            gc.freeze()
            # Reference counting frees nearly all objects of a request: collect less often.
            gc.set_threshold(20_000, 20, 20)
            with graceful_shutdown.on_sigterm(own.probes, settings.drain_seconds):
                yield {connection_limits.STATE_KEY: connection_limits.max_connections(settings)}

    policies = (spam, throttles, wblists, greylists)
    accounts = (domains, admins, users, aliases, lists, maillists)
    routers = [module.router for module in (logins, tokens, *accounts, *policies, exports)]
    handlers = exception_handlers(always_200=settings.always_200)
    app = _Api(
        title="iredapi",
        version=__version__,
        description=_DESCRIPTION,
        openapi_tags=[{"name": name} for name in _TAGS],
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        swagger_ui_oauth2_redirect_url=None,
    )
    for kind, handler in {**handlers, Exception: crashed}.items():
        app.add_exception_handler(kind, handler)
    app.put_in_front(
        Middleware(RequestContext, handlers=handlers),
        Middleware(PathNormaliser, prefixes=settings.prefixes),
        Middleware(
            AccessMiddleware,
            proxies=client_address.networks(settings.trusted_proxies),
            most=settings.max_requests,
        ),
        Middleware(RouteTable, routers=routers),
    )
    if context is not None:
        app.state.context = context
    for router in routers:
        app.include_router(router, prefix=API)
    docs_page.mount(app)
    health_routes.mount(app)
    return app


_Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]


def exception_handlers(*, always_200: bool) -> dict[type[Exception], _Handler]:
    """Return the exception handlers by exception type, as Starlette expects them."""

    async def refused(request: Request, error: ApiError) -> Response:
        request.scope["iredapi.code"] = error.code
        return responses.failure(error, request.scope["iredapi.request_id"], always_200=always_200)

    async def state_unavailable(request: Request, error: StateUnavailable) -> Response:
        return await refused(request, error.to_api_error())

    async def not_routed(request: Request, error: HTTPException) -> Response:
        codes = {404: "NO_SUCH_OPERATION", 405: "METHOD_NOT_ALLOWED"}
        code = codes.get(error.status_code, "INVALID_REQUEST")
        answer = await refused(request, ApiError(code))
        if error.headers and "Allow" in error.headers:
            answer.headers["Allow"] = ", ".join(sorted(error.headers["Allow"].split(", ")))
        return answer

    return {ApiError: refused, StateUnavailable: state_unavailable, HTTPException: not_routed}


def from_environment() -> FastAPI:
    """Build the application from the environment; the factory that uvicorn's workers call."""
    return create_app(settings_of_worker())


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document."""
    return app.openapi()
