"""One JSON line per event on standard output; what could be a secret never gets that far."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any

import orjson
import structlog

_SECRET = ("password", "token", "secret", "cookie", "authorization", "hash")


def _mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    for key in event:
        if _is_secret(key):
            event[key] = "***"
    return event


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in _SECRET)


def _render(event: Any, **options: Any) -> str:
    return orjson.dumps(event, option=orjson.OPT_NON_STR_KEYS, **options).decode()


def configure(level: str) -> None:
    """Set up structlog and the standard library's loggers for one process."""
    number = logging.getLevelNamesMapping()[level]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _mask,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_render),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )
    # What these print may hold bound values: hashes among them.
    for name in ("sqlalchemy", "aiosqlite", "aiomysql", "asyncpg"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
