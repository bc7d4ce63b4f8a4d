"""Logging: one JSON line per event on standard output, with secrets masked.

No code passes a secret to a logger. As further protection, values of keys such as ``password`` are
masked, and so is text that looks like a secret (in exceptions, and in events of libraries).
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson
import structlog

from iredapi.observability import spans

_SECRET = ("password", "token", "secret", "cookie", "authorization", "hash")
_SECRETS = re.compile(
    r"(?P<token>iredapi_)[A-Za-z0-9_-]{8,}"
    r"|(?P<scheme>\{[A-Za-z0-9.-]{2,20}\})[^\s'\",]{4,}"  # a password hash
    r"|(?P<crypt>\$(?:1|2[abxy]|5|6|argon2\w+)\$)[^\s'\",]{4,}"
    r"|(?P<user>://[^\s:/@]*:)[^\s@]+(?=@)"  # the password of a URL
    r"|(?P<name>(?i:password|passwd|pwd|secret|token)[\"']?\s*[=:]\s*[\"']?)[^\s&'\",;)]+"
)
REQUEST_ID: Final[ContextVar[str]] = ContextVar("iredapi_request_id", default="")
"""Id of the current request, which is added to each line."""
# Their messages may have bound values, such as password hashes.
_SILENT = ("sqlalchemy", "aiosqlite", "aiomysql", "asyncpg")
# At INFO they log the URL of each request with its query.
_QUIET = ("httpx", "httpcore")


_FOREIGN = re.compile(r"[^\x00-\x7f]")


def _is_suspect(text: str) -> bool:
    """Return whether the slow pattern ``_SECRETS`` may match; most texts have no secret."""
    low = text.casefold()
    return (
        "{" in low
        or "$" in low
        or "://" in low
        or "iredapi_" in low
        or "passw" in low
        or "pwd" in low
        or "secret" in low
        or "token" in low
    )


def masked(text: str) -> str:
    """Return a text with everything masked that looks like a secret."""
    if not _is_suspect(text):
        return text
    return _SECRETS.sub(lambda found: "".join(filter(None, found.groups())) + "***", text)


def _mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    for key, value in event.items():
        if _is_secret(key):
            event[key] = "***"
        elif isinstance(value, str):
            if len(value) > 8:
                event[key] = masked(value)
        elif isinstance(value, list | tuple | dict | BaseException):
            event[key] = masked(str(value))
    return event


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in _SECRET)


_PRIORITIES: Final = {"critical": "<2>", "error": "<3>", "warning": "<4>", "debug": "<7>"}
"""What systemd reads at the beginning of a line (sd-daemon(3)); a line without is of level info."""
_to_journal = False


def _render(event: Any, **options: Any) -> str:
    text = orjson.dumps(event, option=orjson.OPT_NON_STR_KEYS, **options).decode()
    return _PRIORITIES.get(event.get("level"), "") + text if _to_journal else text


def _is_journal() -> bool:
    """Return whether standard output goes to systemd's journal: see systemd.exec(5)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def _add_request(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    if request_id := REQUEST_ID.get():
        event["request_id"] = request_id
    if spans.tracer is not None:
        event.update(spans.tracer.log_fields())
    return event


_SHARED: list[Any] = [
    _add_request,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    _mask,
]


class _Output:
    """The current ``sys.stdout``. Errors are ignored, so that a closed one fails no request."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            try:
                sys.stdout.write(text)
            except UnicodeEncodeError:
                # Not UTF-8: escape the characters, so that no line is lost.
                sys.stdout.write(_FOREIGN.sub(lambda found: json.dumps(found[0])[1:-1], text))

    def write_bytes(self, text: bytes) -> None:
        """Write UTF-8 bytes, and flush."""
        stream = sys.stdout
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() == "utf-8":
            try:  # ``suppress`` costs as much as the rest
                stream.flush()
                stream.buffer.write(text)
                stream.buffer.flush()
            except (OSError, ValueError):
                pass
            return
        self.write(text.decode())
        self.flush()

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()


_OUTPUT: Final = _Output()
_logs_info = True
"""Whether the level INFO is logged."""


Values = dict[str, str | float]


def line(event: str, request_id: str, /, **values: str | float) -> None:
    """Log one line of the level INFO; for the lines that each request writes.

    The line is as from structlog, in a fifth of the time.
    """
    if _logs_info:
        if spans.tracer is not None:
            values.update(spans.tracer.log_fields())
        _PENDING.add([(event, request_id, values)])


def lines(event: str, every: Iterable[tuple[str, Values]]) -> None:
    """Log several lines: pairs of request id and values."""
    if _logs_info:
        _PENDING.add([(event, request_id, values) for request_id, values in every])


def _made(event: str, request_id: str, values: Values, moment: str) -> bytes:
    for key in _secret_keys(tuple(values)):
        values[key] = "***"
    # Once for all of them.
    if _is_suspect("\n".join([value for value in values.values() if type(value) is str])):
        for key, value in values.items():
            if type(value) is str and len(value) > 8:
                values[key] = masked(value)
    values |= {"event": event, "request_id": request_id, "level": "info", "timestamp": moment}
    try:
        return orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # such as half a surrogate pair; the other lines must not be lost
        return json.dumps(values, default=str).encode() + b"\n"


@lru_cache(maxsize=256)
def _secret_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(filter(_is_secret, keys))


class _Pending:
    """Buffers the lines of one iteration of the event loop, and writes them at its end."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, str, Values]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, some: Sequence[tuple[str, str, Values]]) -> None:
        """Buffer lines; write them at once without a loop, or when another loop left lines."""
        self._lines += some
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.write()
            return
        if self._loop is None:
            self._loop = loop
            loop.call_soon(self.write)
        elif self._loop is not loop:
            self.write()

    def write(self) -> None:
        """Write the buffered lines."""
        some, self._lines, self._loop = self._lines, [], None
        if not some:
            return
        # Always with a fraction: log readers compare timestamps as text.
        moment = datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
        _OUTPUT.write_bytes(b"".join([_made(*each, moment) for each in some]))


_PENDING: Final = _Pending()


class _Lines(logging.StreamHandler[Any]):
    """The handler for the standard library's loggers."""


def configure(level: str) -> None:
    """Set up structlog and the standard library's loggers for one process."""
    global _logs_info, _to_journal
    number = logging.getLevelNamesMapping()[level]
    _logs_info, _to_journal = number <= logging.INFO, _is_journal()
    output: Any = _OUTPUT
    structlog.configure(
        processors=[*_SHARED, structlog.processors.JSONRenderer(serializer=_render)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(output),
    )
    lines = _Lines(output)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_SHARED],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_render),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _Lines)]
    root.addHandler(lines)
    root.setLevel(max(number, logging.INFO))
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
