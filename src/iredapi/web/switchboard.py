"""From a path to its operation, without the framework's routing: the one place that goes past it.

FastAPI declares the routes, describes them in OpenAPI and answers for every path that is none. Its
own dispatch (a pattern for each route, dependencies, exit stacks) costs more than reading a user
does, and does nothing for operations, which read their parameters themselves (ADR 6 and 7).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from iredapi.errors import ApiError
from iredapi.web import responses

_NOUN = 2
"""Where the noun of a path is: after the empty word and the prefix."""
ESCAPED: Final = "iredapi.escaped"
"""In a scope: its path has names with a slash in them, which ``escaped`` wrote."""
Endpoint = Callable[[Request], Awaitable[Response]]


def escaped(part: str) -> str:
    """Return one part of a path as a client wrote it, decoded, but for slashes and percent signs.

    Those are ``%2F`` and ``%25``, so that the path can still be cut at its slashes.
    """
    return unquote(part).replace("%", "%25").replace("/", "%2F")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path; ``{name}`` stands for any text without a slash."""

    method: str
    path: str
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class _Pattern:
    fixed: tuple[tuple[int, str], ...]
    named: tuple[tuple[int, str], ...]
    endpoint: Endpoint


class Switchboard:
    """Pure ASGI: calls the operation that a path names, and ``app`` for all others."""

    def __init__(self, app: ASGIApp, *, operations: Iterable[Operation], always_200: bool) -> None:
        self.app = app
        self._always_200 = always_200
        self._patterns: dict[tuple[str, int, str], list[_Pattern]] = {}
        for operation in operations:
            parts = operation.path.split("/")
            pattern = _Pattern(
                tuple(
                    (at, text)
                    for at, text in enumerate(parts)
                    if not text.startswith("{") and at != _NOUN
                ),
                tuple((at, text[1:-1]) for at, text in enumerate(parts) if text.startswith("{")),
                operation.endpoint,
            )
            noun = parts[_NOUN]
            if noun.startswith("{"):
                raise TypeError(f"{operation.path} does not begin with a word")
            self._patterns.setdefault((operation.method, len(parts), noun), []).append(pattern)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        endpoint = self._find(scope) if scope["type"] == "http" else None
        if endpoint is None:
            await self.app(scope, receive, send)
            return
        try:
            answer = await endpoint(Request(scope, receive, send))
            # A long answer may be refused for want of a place.
            await answer(scope, receive, send)
        except ApiError as error:
            scope["iredapi.code"] = error.code
            answer = responses.failure(
                error, scope["iredapi.request_id"], always_200=self._always_200
            )
            await answer(scope, receive, send)

    def _find(self, scope: Scope) -> Endpoint | None:
        parts = scope["path"].split("/")
        if len(parts) <= _NOUN:
            return None
        method = scope["method"]
        # Whoever sends leaves the body out.
        key = ("GET" if method == "HEAD" else method, len(parts), parts[_NOUN])
        for pattern in self._patterns.get(key, ()):
            for at, text in pattern.fixed:
                if parts[at] != text:
                    break
            else:
                found = {name: parts[at] for at, name in pattern.named}
                if ESCAPED in scope:
                    found = {name: unquote(text) for name, text in found.items()}
                # A name that is empty is no name: the framework says that there is no such path.
                if all(found.values()):
                    scope["path_params"] = found
                    return pattern.endpoint
        return None
