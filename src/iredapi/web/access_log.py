"""The access log in the combined format of Apache and nginx, for programs that read that.

Without the setting ``access_log`` this middleware is not there. Queries are left out, of the path
and of ``Referer``: they may have passwords.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iredapi.config.errors import ConfigurationError
from iredapi.config.settings import Settings
from iredapi.domain.actors import Actor
from iredapi.observability.logging import masked
from iredapi.web import client_address

STDOUT: Final = "-"
_LONGEST: Final = 1024
"""Characters of a field."""
_UNSAFE: Final = re.compile(r'[^\x20-\x7e]|["\\]')
_log = logging.getLogger("iredapi.access")


def check(settings: Settings) -> None:
    """Raise ConfigurationError when the file cannot be written."""
    if settings.access_log in {"", STDOUT}:
        return
    try:
        with Path(settings.access_log).open("ab"):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"IREDAPI_ACCESS_LOG: {settings.access_log}: {error.strerror}"
        ) from None


class _Quiet(logging.Handler):
    """A full disk, or an output that is closed, fails no request."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the library's name)
        """Ignore it."""


class _File(_Quiet, WatchedFileHandler):
    """Opens the file again after logrotate has moved it."""


class _Stdout(_Quiet, logging.StreamHandler[Any]):
    """Writes between the lines of the log."""


def _open(target: str) -> None:
    _log.handlers = [_Stdout(sys.stdout) if target == STDOUT else _File(target, encoding="ascii")]
    _log.setLevel(logging.INFO)
    _log.propagate = False


class AccessLog:
    """Writes a line for each request, but health checks and metrics."""

    def __init__(self, app: ASGIApp, *, settings: Settings, unlogged: frozenset[str]) -> None:
        self.app = app
        self._unlogged = unlogged
        self._proxies = tuple(client_address.networks(settings.trusted_proxies))
        _open(settings.access_log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in self._unlogged:
            await self.app(scope, receive, send)
            return
        status = size = 0

        async def watched(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        # As it was sent: other middleware changes the path, which is decoded as well.
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        began = time.localtime()
        try:
            await self.app(scope, receive, watched)
        finally:
            client = scope.get("iredapi.client")
            if client is None:
                client, _ = client_address.resolve(scope, self._proxies)
            actor: Actor | None = scope.get("iredapi.actor")
            _log.info(
                '%s - %s [%s] "%s %s HTTP/%s" %s %s "%s" "%s"',
                client or "-",
                _blank_free(actor.username) if actor else "-",
                time.strftime("%d/%b/%Y:%H:%M:%S %z", began),
                _escaped(scope["method"]),
                _escaped(path),
                scope["http_version"],
                status or 499,  # the client has gone; as nginx says it
                size or "-",
                _escaped(_header(scope, b"referer").partition("?")[0].partition("#")[0]) or "-",
                _escaped(_header(scope, b"user-agent")) or "-",
            )


def _header(scope: Any, name: bytes) -> str:
    values = client_address.header_values(scope, name)
    return values[0] if values else ""


def _escaped(text: str) -> str:
    """Return a field in which nothing ends the field or the line, and no secret is."""
    return _UNSAFE.sub(_code, masked(text[:_LONGEST]))


def _blank_free(name: str) -> str:
    return _escaped(name).replace(" ", r"\x20")


def _code(found: re.Match[str]) -> str:
    # Bytes of a header are characters up to 255 here.
    encoding = "latin-1" if ord(found[0]) < 256 else "utf-8"
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode(encoding, "replace"))
