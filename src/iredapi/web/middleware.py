"""Pure ASGI middleware: request id and request log, path normalisation, access."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import structlog
from starlette.requests import Request, cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iredapi.auth import ip_allowlist, login, tokens
from iredapi.domain.actors import Actor
from iredapi.errors import ApiError
from iredapi.errors import PermissionDenied as Denied
from iredapi.observability.logging import REQUEST_ID, line
from iredapi.observability.query_counter import METER, Meter
from iredapi.runtime.context import AppContext
from iredapi.web import client_address, csrf, health_routes, responses
from iredapi.web.admission import Admission, take_slot
from iredapi.web.authentication import bearer_of
from iredapi.web.route_table import API, escape

_OURS = API + "/"
_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_PUBLIC_HEADERS = ((b"cache-control", b"no-cache"), (b"x-content-type-options", b"nosniff"))
PUBLIC = "iredapi.public"
"""Scope key: the answer is the same for all clients; caches may store and revalidate it."""
_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_SLASHES = re.compile(r"/{2,}")
Handlers = Mapping[type[Exception], Callable[[Request, Any], Awaitable[Response]]]
_chance = random.Random()  # noqa: S311 (ids distinguish requests, and are no secret)
_log = structlog.get_logger("iredapi.request")


class RequestMetrics(Protocol):
    """What is told of each request (``observability.metrics``)."""

    def request(
        self, operation: str, method: str, status: int, code: str, *, seconds: float
    ) -> None: ...

    def waited(self, operation: str, backend: str, calls: int, seconds: float) -> None: ...


class RequestContext:
    """Gives every request an id, logs one line per request, and answers exceptions.

    ``handlers`` are exception handlers as Starlette has them. Starlette's ExceptionMiddleware would
    wrap each request in two more coroutines; here the handlers cost nothing until one is needed.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        handlers: Handlers,
        unlogged: frozenset[str] = health_routes.PATHS,
        metrics: RequestMetrics | None = None,
    ) -> None:
        """``unlogged`` are paths of requests that are neither logged nor counted."""
        self.app = app
        self._handlers = handlers
        self._unlogged = unlogged
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["iredapi.request_id"] = request_id
        naming = REQUEST_ID.set(request_id)
        meter = Meter()
        metering = METER.set(meter)
        started, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                    *(_HEADERS if PUBLIC not in scope else _PUBLIC_HEADERS),
                ]
                if _is_leaving(scope):
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            found = [self._handlers[cls] for cls in type(error).__mro__ if cls in self._handlers]
            if status or not found:
                _log.exception("unforeseen")
            if status:
                raise
            answer = await (found[0] if found else crashed)(Request(scope), error)
            await answer(scope, receive, watched)
        finally:
            METER.reset(metering)
            if scope["path"] not in self._unlogged:
                seconds = time.perf_counter() - started
                _log_request(scope, status, seconds, meter)
                if self._metrics is not None:
                    _count_request(self._metrics, scope, status, seconds, meter)
            REQUEST_ID.reset(naming)


async def crashed(request: Request, _: Exception) -> Response:
    """Return the answer to a request that ended with an unexpected exception."""
    request.scope["iredapi.code"] = "SERVER_ERROR"
    return responses.failure(ApiError("SERVER_ERROR"), request.scope["iredapi.request_id"])


def _log_request(scope: Scope, status: int, seconds: float, meter: Meter) -> None:
    """Log one line with these fields only: never a query, a header or a body."""
    actor: Actor | None = scope.get("iredapi.actor")
    line(
        "request",
        scope["iredapi.request_id"],
        method=scope["method"],
        path=scope["path"],
        status=status,
        code=scope.get("iredapi.code", ""),
        action=scope.get("iredapi.action", ""),
        target=scope.get("iredapi.target", ""),
        client=scope.get("iredapi.client", ""),
        actor=actor.username if actor else "",
        via=actor.token if actor else "",
        milliseconds=round(seconds * 1000, 1),
        round_trips=meter.round_trips,
        database_milliseconds=round(meter.seconds * 1000, 1),
    )


def _count_request(
    metrics: RequestMetrics, scope: Scope, status: int, seconds: float, meter: Meter
) -> None:
    operation = scope.get("iredapi.action", "")
    # Clients choose paths and methods: only those of operations become labels.
    method = scope["method"] if operation else ""
    metrics.request(operation, method, status, scope.get("iredapi.code", ""), seconds=seconds)
    for backend, wait in meter.waits().items():
        metrics.waited(operation, backend, wait.calls, wait.seconds)


def _is_leaving(scope: Scope) -> bool:
    context: AppContext | None = scope.get("iredapi.context")
    return context is not None and context.probes.leaving


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if _ID.fullmatch(text):
                return str(text)
    return f"{_chance.getrandbits(64):016x}"


class PathNormaliser:
    """Replaces each configured prefix by ``/api``, and removes double and trailing slashes."""

    def __init__(self, app: ASGIApp, *, prefixes: Sequence[str]) -> None:
        self.app = app
        self._prefixes = sorted(prefixes, key=len, reverse=True)
        self._plain = not any(prefix.startswith(_OURS) for prefix in prefixes) and API in prefixes
        """Whether a path that begins with ``/api/`` needs no search for prefixes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Rewrite the path of one request."""
        if scope["type"] == "http":
            path, raw = scope["path"], scope.get("raw_path") or b""
            if b"%" in raw:
                # The path is split before it is decoded: an address may contain a slash.
                path = "/".join(escape(part) for part in raw.decode("latin-1").split("/"))
            # In slot: the request log sees what inner layers add to the scope.
            scope["path"] = self.normal(path)
        await self.app(scope, receive, send)

    def normal(self, path: str) -> str:
        """Return the path as the routes have it."""
        if self._plain and path.startswith(_OURS) and "//" not in path and path[-1] != "/":
            return path
        if "//" in path:
            path = _SLASHES.sub("/", path)
        path = path.rstrip("/") or "/"
        for prefix in self._prefixes:
            if path == prefix or path.startswith(prefix + "/"):
                return API + path[len(prefix) :]
        # The path begins with /api, which is no configured prefix: no route may match.
        return "/-" + path if path == API or path.startswith(API + "/") else path


class AccessMiddleware:
    """Checks the allow list and the number of requests, and finds the session's or token's admin.

    Whether the admin may call the operation is decided later (``auth.permissions``).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        proxies: Sequence[Any],
        most: int,
        open_paths: frozenset[str] = health_routes.PATHS,
    ) -> None:
        """``open_paths`` are no part of the API, and not checked here."""
        self.app = app
        self._open_paths = open_paths
        self._admission = Admission(most)
        self._proxies = tuple(proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request. Raises ApiError or StateUnavailable."""
        if scope["type"] != "http" or scope["path"] in self._open_paths:
            await self.app(scope, receive, send)
            return
        client, https = client_address.resolve(scope, self._proxies)
        scope["iredapi.client"], scope["iredapi.https"] = client, https
        slot = take_slot(scope, self._admission)
        try:
            await self._admit(scope, client)
            await self.app(scope, receive, send)
        finally:
            slot.close()

    async def _admit(self, scope: Scope, client: str) -> None:
        context: AppContext = scope["iredapi.context"]
        if not await ip_allowlist.may_use_api(context, client):
            raise Denied("NOT_AUTHORIZED")
        if not scope["path"].startswith(API + "/"):
            return
        secret = bearer_of(scope)
        if secret is not None:
            # A token's rights are the only ones: a session cookie beside it is ignored.
            async with context.deadline():
                scope["iredapi.actor"] = await tokens.token_actor(context, secret, client)
            return
        if csrf.is_foreign(
            scope, self._proxies, context.settings.allowed_origins, https=scope["iredapi.https"]
        ):
            # Also for login and logout: a foreign page must not put the browser into a session
            # of another account.
            raise Denied("FOREIGN_ORIGIN")
        session_id = session_of(scope, context.settings.session_cookie)
        if session_id:
            scope["iredapi.session"] = session_id
            scope["iredapi.actor"] = await login.session_actor(context, session_id, client)


class KnownCaller:
    """Stands for AccessMiddleware where this process sends all requests itself."""

    def __init__(self, app: ASGIApp, *, caller: Actor, most: int) -> None:
        self.app = app
        self._caller = caller
        self._admission = Admission(most)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in, as the caller's."""
        scope["iredapi.client"], scope["iredapi.https"] = self._caller.client, False
        scope["iredapi.actor"] = self._caller
        slot = take_slot(scope, self._admission)
        try:
            await self.app(scope, receive, send)
        finally:
            slot.close()


def session_of(scope: Scope, name: str) -> str:
    """Return the value of the session cookie, or an empty text."""
    for key, value in scope["headers"]:
        if key == b"cookie" and (found := _cookie(value, name)):
            return found
    return ""


def _cookie(header: bytes, name: str) -> str:
    # Long headers are not kept: anybody can send them, and they would fill the memory.
    parse = _kept_cookie if len(header) <= 256 else _parsed_cookie
    return parse(header, name)


def _parsed_cookie(header: bytes, name: str) -> str:
    return cookie_parser(header.decode("latin-1")).get(name, "")


_kept_cookie = lru_cache(maxsize=1024)(_parsed_cookie)
