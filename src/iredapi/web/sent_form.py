"""The form that a request sends: parsed in the event loop, or in a thread when it is large."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from starlette.requests import Request

from iredapi.backends.unit_of_work import STRICT
from iredapi.errors import InvalidParameters, Problem
from iredapi.schemas.params import Params
from iredapi.schemas.strictness import Strictness, StrictReading
from iredapi.web import request_body
from iredapi.web.request_body import Raw

Form = TypeVar("Form", bound=Params)
Result = TypeVar("Result")
_MAX_IGNORED: Final = 100
"""Maximum number of unknown parameters that an answer lists."""
_MAX_NAME_LENGTH: Final = 80
"""Maximum length of their names, in characters."""
_MAX_BYTES_IN_EVENT_LOOP: Final = 16 * 1024
"""Maximum body size in bytes that is parsed in the event loop (a few milliseconds)."""
_DRY_RUN: Final = "dry_run"
_PARSER_THREADS: Final = ThreadPoolExecutor(2, thread_name_prefix="bodies")


async def read(
    form: type[Form], request: Request, body: bytes, *, with_query: bool, strict: bool
) -> tuple[Form, tuple[str, ...], Raw, bool]:
    """Return the form, unknown names, what was sent, whether it is a dry run; set STRICT.

    Raises ApiError.
    ``strict`` is what holds when the request does not say it.
    """
    parse = partial(_parsed, form, request, body, with_query=with_query)
    # Large bodies are parsed in a thread, so that the event loop is not blocked.
    found = await (_in_thread(parse) if len(body) > _MAX_BYTES_IN_EVENT_LOOP else parse())
    filled, ignored, exact, dry, raw = found
    STRICT.set(strict if exact is None else exact)
    if ignored and STRICT.get():
        raise InvalidParameters(*(_unknown(form, name) for name in ignored))
    return filled, ignored, raw, dry


def of_query(form: type[Form], request: Request) -> Form:
    """Return the form of a request that reads; with ``strict=yes`` it has no unknown parameters.

    ``IREDAPI_STRICT`` is about changes only: programs add parameters of their own to addresses of
    pages. Raises InvalidParameters.
    """
    raw = request_body.query(request)
    if STRICT.name not in raw:
        return form.read(raw)
    rest = {name: value for name, value in raw.items() if name != STRICT.name}
    exact = StrictReading.read({STRICT.name: raw[STRICT.name]}).strict
    filled = form.read(rest)
    if exact and (unknown := form.ignored(rest)):
        named = (name[:_MAX_NAME_LENGTH] for name in unknown[:_MAX_IGNORED])
        raise InvalidParameters(*(_unknown(form, name) for name in named))
    return filled


def of_query_of_write(form: type[Form], request: Request, *, strict: bool) -> Form:
    """Return the form of a write whose body is a file, as ``of_query``; set STRICT."""
    filled = of_query(form, request)
    sent = request_body.query(request).get(STRICT.name)
    STRICT.set(strict if sent is None else StrictReading.read({STRICT.name: sent}).strict)
    return filled


async def _parsed(
    form: type[Form], request: Request, body: bytes, *, with_query: bool
) -> tuple[Form, tuple[str, ...], bool | None, bool, Raw]:
    """Parse a body; return form, unknown names, options of all writes, and all else as sent.

    The options are ``strict`` (None: not sent) and ``dry_run``.
    """
    raw = await request_body.read(request, body, with_query=with_query)
    exact: bool | None = None
    dry = False
    if not with_query:
        sent = request_body.query(request)
        raw = {name: sent[name] for name in (STRICT.name, _DRY_RUN) if name in sent} | raw
    if STRICT.name in raw or _DRY_RUN in raw:
        both = {name: raw.pop(name) for name in (STRICT.name, _DRY_RUN) if name in raw}
        options = Strictness.read(both).changes()
        exact, dry = options.get(STRICT.name), options.get(_DRY_RUN, False)
    filled = form.read(raw)
    ignored = form.ignored(raw) if raw else ()
    return (
        filled,
        tuple(name[:_MAX_NAME_LENGTH] for name in ignored[:_MAX_IGNORED]),
        exact,
        dry,
        raw,
    )


def _unknown(form: type[Params], name: str) -> Problem:
    meant = form.resembling(name)
    hint = f" Was {meant} meant?" if meant else ""
    return Problem(name, "IGNORED_PARAMETER", f"The operation does not know it.{hint}")


async def _in_thread(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_PARSER_THREADS, lambda: asyncio.run(work()))
