"""Parameters of a request, from a form, multipart, JSON or the query.

FastAPI's form parameters treat an empty field as not sent, but here an empty value means "clear".
So bodies are parsed here for all routes. A name that is sent several times has several values; the
form decides whether it is a list.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_qp
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from iredapi.errors import InvalidRequest
from iredapi.schemas.field_validators import MAX_ITEMS
from iredapi.schemas.params import Repeated, Unreadable, base_name

MAX_FIELDS: Final = 1000
"""Maximum different names of one request."""
MAX_PAIRS: Final = MAX_FIELDS + MAX_ITEMS
"""Maximum values: each item of a list may be sent under the list's name."""
MAX_JSON_VALUES: Final = 6 * MAX_ITEMS
"""Maximum commas of a JSON body: no operation takes more than six lists."""
MAX_ESCAPES: Final = 700_000
"""Maximum percent-encoded bytes of a form: two footers of 64 Ki letters with up to four bytes each,
and two for each address of its lists."""
_MAX_SLOW_ESCAPES: Final = 120_000
"""The same for a form with broken escapes, which needs the slow decoder."""
_BROKEN: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_INDEX: Final = re.compile("0|[1-9][0-9]{0,17}")
_LINE_END: Final = re.compile(rb"(?:--)?[ \t]*\r?\n|--\Z")
_END: Final = re.compile(rb"--[ \t]*(?:\r?\n|\Z)")
Raw = dict[str, str | list[str]]


async def read(request: Request, body: bytes, *, with_query: bool = True) -> Raw:
    """Return all parameters; those of the body replace those of the query. Raises InvalidRequest.

    A large body takes long: read it in a thread.
    """
    raw = query(request) if with_query else {}
    # Some editors and languages write a byte order mark.
    body = body.removeprefix(BOM_UTF8)
    if not body.strip():
        return raw
    kind = _content_type(request).partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        sent = _json(body)
    elif kind == "multipart/form-data":
        sent = await _multipart(request, body)
    elif kind in {"", "application/x-www-form-urlencoded", "text/plain"}:
        # Without a type the body may be either; only JSON begins with a brace.
        sent = _json(body) if body.lstrip().startswith(b"{") else _form(body)
    else:
        raise InvalidRequest(detail=f"Bodies are forms or JSON, not {kind[:80]}.")
    if not raw:
        return sent
    in_body = {base_name(name) for name in sent}
    return {name: raw[name] for name in raw if base_name(name) not in in_body} | sent


def _content_type(request: Request) -> str:
    # Making Starlette's Headers costs more than the rest of a small form.
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            return str(value.decode("latin-1"))
    return ""


def query(request: Request) -> Raw:
    """Return the parameters of the query string."""
    sent = request.scope.get("query_string", b"")
    return _form(sent) if sent else {}


def _form(body: bytes) -> Raw:
    # Counted first: parsing holds Python's global lock, and so blocks the other threads.
    if body.count(b"&") >= MAX_PAIRS:
        raise InvalidRequest(detail=f"More than {MAX_PAIRS} values.")
    escapes = body.count(b"%")
    if escapes > MAX_ESCAPES or (escapes > _MAX_SLOW_ESCAPES and _BROKEN.search(body)):
        raise InvalidRequest(detail=f"More than {MAX_ESCAPES} encoded characters.")
    try:
        text = body.decode("utf-8")
        if escapes or "+" in text:
            halves = (pair.partition(b"=") for pair in body.strip(b"\r\n").split(b"&") if pair)
            pairs = [(_unquoted(name), _unquoted(value)) for name, _, value in halves]
        else:
            plain = [pair.partition("=") for pair in text.strip("\r\n").split("&") if pair]
            pairs = [(name, value) for name, _, value in plain]
    except UnicodeDecodeError:
        raise InvalidRequest(detail="The parameters are not UTF-8.") from None
    return _grouped(pairs)


def _unquoted(text: bytes) -> str:
    text = text.replace(b"+", b" ")
    if b"%" not in text:
        return text.decode("utf-8")
    if _BROKEN.search(text):
        return unquote_to_bytes(text).decode("utf-8")
    # Quoted-printable has "=" for "%", and is decoded in C: ten times as fast.
    return a2b_qp(text.replace(b"=", b"%3D").replace(b"%", b"=")).decode("utf-8")


def _grouped(pairs: Sequence[tuple[str, str]]) -> Raw:
    """Return the values of each name."""
    found: Raw = dict(pairs)
    if len(pairs) > MAX_FIELDS and len({base_name(name) for name in found}) > MAX_FIELDS:
        raise InvalidRequest(detail=f"More than {MAX_FIELDS} parameters.")
    if len(found) < len(pairs):
        every: dict[str, Repeated] = {}
        for name, value in pairs:
            every.setdefault(name, Repeated()).append(value)
        found |= {name: values for name, values in every.items() if len(values) > 1}
    return found


async def _multipart(request: Request, body: bytes) -> Raw:
    body = _between_boundaries(body, request.headers["content-type"])

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        async with aclosing(stream()) as chunks:
            form = await MultiPartParser(
                request.headers,
                chunks,
                max_files=0,
                max_fields=MAX_PAIRS,
                max_part_size=len(body),
            ).parse()
    except (MultiPartException, UnicodeError, AssertionError, KeyError, ValueError):
        raise InvalidRequest(detail="The multipart body cannot be read.") from None
    return _grouped([(name, str(value)) for name, value in form.multi_items()])


def _between_boundaries(body: bytes, kind: str) -> bytes:
    """Return the body from its first boundary to its last (RFC 2046, section 5.1.1).

    A body without its end is a part of one.
    """
    boundary = parse_options_header(kind)[1].get(b"boundary", b"").rstrip()
    if not 0 < len(boundary) <= 70:
        raise InvalidRequest(detail="A multipart body needs a boundary of 1 to 70 characters.")
    marks = list(_boundaries(body, b"--" + boundary))
    first = next((at for at, end in marks if _LINE_END.match(body, end)), None)
    last = next((end for _, end in marks if _END.match(body, end)), None)
    if first is None or last is None:
        raise InvalidRequest(detail="The multipart body ends early.")
    return body[first : last + 2]


def _boundaries(body: bytes, mark: bytes) -> Iterator[tuple[int, int]]:
    """Find the boundary at beginnings of lines.

    One regular expression for all of it would hold Python's global lock for too long.
    """
    at = body.find(mark)
    while at >= 0:
        if at == 0 or body[at - 2 : at] == b"\r\n":
            yield at, at + len(mark)
        at = body.find(mark, at + 1)


def _json(body: bytes) -> Raw:
    # Python's parser holds the global lock, for longer the more values there are.
    if body.count(b",") > MAX_JSON_VALUES:
        raise InvalidRequest(detail=f"More than {MAX_JSON_VALUES} values.")
    try:
        document = json.loads(body, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        raise InvalidRequest(detail="The body is not JSON.") from None
    if not isinstance(document, dict):
        raise InvalidRequest(detail="The JSON body is not an object.")
    if len(document) > MAX_FIELDS:
        raise InvalidRequest(detail=f"More than {MAX_FIELDS} parameters.")
    found: Raw = {name: _value(value) for name, value in document.items()}
    _refuse_surrogates(found)
    return found


def _value(value: Any) -> str | list[str]:
    if isinstance(value, dict) and value and all(map(_INDEX.fullmatch, value)):
        # PHP's json_encode writes a list in this form after an item was removed.
        value = [value[key] for key in sorted(value, key=int)]
    if not isinstance(value, list):
        return _scalar(value)
    found = [_scalar(item) for item in value]
    return Unreadable() if any(isinstance(item, Unreadable) for item in found) else found


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    # The form decides whether this is an error: unknown parameters are ignored.
    return value if isinstance(value, str) else Unreadable()


def _refuse_surrogates(found: Raw) -> None:
    texts: Iterable[str] = (
        text
        for name, value in found.items()
        for text in (name, *([value] if isinstance(value, str) else value))
    )
    try:
        for text in texts:
            text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidRequest(detail="The JSON body has half a surrogate pair.") from None
