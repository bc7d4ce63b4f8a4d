"""The FastAPI application: routers, middleware, error handlers, documentation."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
from iredapi.domain.actors import Actor
from iredapi.errors import ApiError
from iredapi.observability.logging import configure
from iredapi.routers import (
    account_exports,
    admins,
    aliases,
    all_accounts,
    deleted_mailboxes,
    domains,
    events,
    exports,
    greylists,
    imports,
    lists,
    log,
    logins,
    maillists,
    onboarding,
    spam,
    throttles,
    tokens,
    usage,
    users,
    wblists,
    webhooks,
)
from iredapi.runtime import graceful_shutdown
from iredapi.runtime.context import AppContext
from iredapi.state.connections import StateUnavailable
from iredapi.web import (
    access_log,
    authentication,
    client_address,
    connection_limits,
    docs_page,
    health_routes,
    metrics_route,
    openapi_document,
    responses,
    tracing,
)
from iredapi.web.middleware import (
    AccessMiddleware,
    KnownCaller,
    PathNormaliser,
    RequestContext,
    crashed,
)
from iredapi.web.operation_route import Router
from iredapi.web.route_table import RouteTable
from iredapi.workflows.webhook_sender import WebhookSender


class _Api(FastAPI):
    """FastAPI with middleware in front of FastAPI's own stack.

    Operations are answered by ``RouteTable``, the innermost middleware, and do not reach that
    stack. It serves the documentation and the health checks, and answers unknown paths.
    """

    _stack: ASGIApp
    cookie = ""
    """Name of the session cookie, for the document."""
    operations: Sequence[Router] = ()
    """The routers of the operations, for the document."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document; it is made once."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi_document.make(
                self, cookie=self.cookie, routers=self.operations
            )
        return self.openapi_schema

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


def create_app(
    settings: Settings, context: AppContext | None = None, *, caller: Actor | None = None
) -> FastAPI:
    """Build the application. Its lifespan opens an AppContext, unless ``context`` is given.

    ``caller`` makes all requests, whatever they send: only for those of this process.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        if context is not None:
            app.state.context = context
            yield {}
            return
        configure(settings.log_level)
        async with AsyncExitStack() as end, AppContext.open(settings) as own:
            end.push_async_callback(tracing.close, tracer)
            app.state.context = own
            own.servers_written.start()
            own.outbox.start()
            # Objects that exist now stay: the garbage collector need not examine them again.
            gc.collect()
            gc.freeze()
            # Reference counting frees nearly all objects of a request: collect less often.
            gc.set_threshold(20_000, 20, 20)
            if metrics is not None:
                own.watch_pools(metrics.pool)
            sender = WebhookSender(own)
            sender.start()
            try:
                with graceful_shutdown.on_sigterm(own.probes, settings.drain_seconds):
                    yield {connection_limits.STATE_KEY: connection_limits.max_connections(settings)}
            finally:
                await sender.close()

    policies = (spam, throttles, wblists, greylists)
    accounts = (domains, onboarding, admins, users, aliases, lists, maillists, all_accounts)
    more = (deleted_mailboxes, usage, log, events, account_exports, imports, webhooks)
    routers = [module.router for module in (logins, tokens, *accounts, *more, *policies, exports)]
    handlers = exception_handlers(always_200=settings.always_200)
    metrics = metrics_route.metrics_of(settings)
    tracer = tracing.tracer_of(settings) if caller is None else None
    # Neither logged nor counted, and no part of what the allow list protects.
    beside = health_routes.PATHS | (metrics_route.PATHS if metrics else frozenset())
    app = _Api(
        title="iredapi",
        version=__version__,
        description=openapi_document.DESCRIPTION,
        license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/", "description": "The host of this document."}],
        openapi_tags=[
            {"name": name, "description": text} for name, text in openapi_document.TAGS.items()
        ],
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's own spans and logs, when the environment asks for them, have paths and messages
        # of exceptions, and so names of accounts. Ours: web/tracing.py.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
        swagger_ui_oauth2_redirect_url=None,
    )
    for kind, handler in {**handlers, Exception: crashed}.items():
        app.add_exception_handler(kind, handler)
    app.put_in_front(
        *([Middleware(tracing.Tracing, tracer=tracer, untraced=beside)] if tracer else []),
        *(
            [Middleware(access_log.AccessLog, settings=settings, unlogged=beside)]
            if settings.access_log and caller is None
            else []
        ),
        Middleware(RequestContext, handlers=handlers, unlogged=beside, metrics=metrics),
        Middleware(PathNormaliser, prefixes=settings.prefixes),
        Middleware(
            AccessMiddleware,
            proxies=client_address.networks(settings.trusted_proxies),
            most=settings.max_requests,
            open_paths=beside,
        )
        if caller is None
        else Middleware(KnownCaller, caller=caller, most=settings.max_requests),
        Middleware(RouteTable, routers=routers),
    )
    if context is not None:
        app.state.context = context
    app.cookie, app.operations = settings.session_cookie, routers
    docs_page.mount(app, settings)
    health_routes.mount(app)
    if metrics is not None:
        metrics_route.mount(app, settings, metrics)
    return app


_Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]


def exception_handlers(*, always_200: bool) -> dict[type[Exception], _Handler]:
    """Return the exception handlers by exception type, as Starlette expects them."""

    async def refused(request: Request, error: ApiError) -> Response:
        request.scope["iredapi.code"] = error.code
        challenge = authentication.explain(request.scope, error) if error.status == 401 else ""
        request_id = request.scope["iredapi.request_id"]
        return responses.failure(error, request_id, always_200=always_200, challenge=challenge)

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
    if not gc.get_freeze_count():  # in one of several worker processes; see ``cli/serve``
        gc.freeze()
    return create_app(settings_of_worker())


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document."""
    return app.openapi()
