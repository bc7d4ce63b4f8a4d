"""What lists add to posts: headers and footers."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from email.errors import HeaderParseError
from email.header import Header, decode_header, make_header
from typing import Any, Final

from iredapi.domain.addresses import domain_of, local_part_of, unique
from iredapi.errors import problem

MAX_FOOTER: Final = 64 * 1024
"""Characters."""
MAX_HEADERS: Final = 50
_MAX_HEADER: Final = 900
_HEADER = re.compile(r"[A-Za-z0-9-]{1,76}")
_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,100})", re.ASCII)
_TAG = re.compile(r"<[^<>]*>")
_NOT_ASCII = re.compile(r"\S*[^\x00-\x7f]\S*(?: +\S*[^\x00-\x7f]\S*)*")
"""Neighbours together: blanks between encoded words are not shown."""
_ENCODED = re.compile(r"=\?utf-8\?[bq]\?[^ ?]*\?=(?: =\?utf-8\?[bq]\?[^ ?]*\?=)*")


def fixed_headers(address: str) -> tuple[str, ...]:
    """Return the headers that every list adds to its posts."""
    name, domain = local_part_of(address), domain_of(address)
    return (
        "Precedence: bulk",
        f"List-Id: <{address}>",
        f"Reply-To: {address}",
        f"List-Post: <mailto:{address}>",
        f"List-Subscribe: <mailto:{name}+subscribe@{domain}?subject=Subscribe>",
        f"List-Unsubscribe: <mailto:{name}+unsubscribe@{domain}?subject=Unsubscribe>",
    )


def _older_headers(address: str) -> tuple[str, ...]:
    """Return them as lists of earlier releases have them."""
    return tuple(re.sub(r"\?subject=\w+", "", line) for line in fixed_headers(address))


def encoded(text: str) -> str:
    """Return text of a header as RFC 2047 wants it: words that are not ASCII become encoded words.

    mlmmj copies what it finds, and mail in other letters is refused without SMTPUTF8.
    """
    return _NOT_ASCII.sub(lambda found: Header(found[0], "utf-8", 75).encode(linesep=""), text)


def decoded(text: str) -> str:
    """Return what was encoded like that; words that somebody else encoded stay as they are."""
    if len(text) > 2 * _MAX_HEADER:
        return text
    try:
        found = _ENCODED.sub(lambda words: str(make_header(decode_header(words[0]))), text)
    except (HeaderParseError, LookupError, ValueError):
        return text
    return found if encoded(found) == text else text


def as_number(text: str) -> int:
    """Return the number at the beginning of a control file's line, as mlmmj 1.3 reads it.

    Anything else is 0, and what does not fit into 32 bits is cut to them.
    """
    found = _NUMBER.match(text)
    number = min(max(int(found[1]), -(2**63)), 2**63 - 1) if found else 0
    return (number + 2**31) % 2**32 - 2**31


def size_limit(line: str) -> int:
    """Return the largest post, in bytes, that ``maxmailsize`` with this line lets pass.

    With 0 or less mlmmj refuses every post: the same as a limit of 1, where 0 stands for none.
    """
    return max(as_number(line), 1)


def headers(text: str) -> tuple[str, ...]:
    """Return the lines of ``custom_headers``: separated by line feeds or the two characters "\\n".

    Values are encoded. Raises ValueError for a line that is no header: what follows a CR would be
    one of its own.
    """
    lines = text.replace("\\r\\n", "\n").replace("\\n", "\n").replace("\r\n", "\n").split("\n")
    found = []
    for line in filter(None, map(str.strip, lines)):
        name, colon, value = line.partition(":")
        if not colon or not _HEADER.fullmatch(name) or not value.strip().isprintable():
            raise ValueError(f"{line[:80]!r} is not a header such as X-Team: sales")
        header = f"{name}:{encoded(value)}" if len(line) <= _MAX_HEADER else line
        if len(header) > _MAX_HEADER:
            raise ValueError(f"a header has at most {_MAX_HEADER} characters, encoded as for mail")
        found.append(header)
    if len(found) > MAX_HEADERS:
        raise ValueError(f"more than {MAX_HEADERS} headers")
    return unique(found)


def header_name(text: str) -> str:
    """Return a header's name with the colon that mlmmj wants. Raises ValueError."""
    name = text.removesuffix(":")
    if not _HEADER.fullmatch(name):
        raise ValueError("not the name of a header")
    return f"{name}:"


def shown_header(line: str) -> str:
    """Return a header as it was sent."""
    name, colon, value = line.partition(":")
    return f"{name}{colon}{decoded(value)}"


def footer(text: str) -> str:
    """Return a footer with plain line feeds. Raises ValueError."""
    text = text.replace("\r\n", "\n").strip()
    if len(text) > MAX_FOOTER:
        raise ValueError(f"a footer has at most {MAX_FOOTER} characters")
    if not all(character.isprintable() or character in "\n\t" for character in text):
        raise ValueError("a footer has no control characters")
    return text


def custom_headers(address: str, present: Iterable[str], sent: Iterable[str]) -> tuple[str, ...]:
    """Return own headers with the fixed ones, which may be sent back but not be changed.

    What an older release made of the fixed ones stays until the own ones change, as mlmmjadmin
    does it.
    """
    present = tuple(present)
    known = {
        (_named(line), _content(line))
        for line in (*fixed_headers(address), *_older_headers(address), *present)
    }
    own = []
    for line in sent:
        name = _named(line)
        if name not in _FIXED:
            own.append(line)
        elif (name, _content(line)) not in known:
            raise problem(
                "custom_headers", "INVALID_VALUE", f"Every list has its own {name}: header."
            )
    if sorted(own) == sorted(own_headers(present)) and len(present) > len(own):
        return present
    return tuple(sorted([*own, *fixed_headers(address)]))


def own_headers(lines: Iterable[str]) -> tuple[str, ...]:
    """Return headers without the fixed ones."""
    return tuple(line for line in lines if _named(line) not in _FIXED)


def _named(line: str) -> str:
    return line.partition(":")[0].strip().lower()


def _content(line: str) -> str:
    return line.partition(":")[2].strip()


_FIXED: Final = frozenset(_named(line) for line in fixed_headers("@"))


def footers(old_text: str, old_markup: str, changes: Mapping[str, Any]) -> tuple[str, str]:
    """Return both footers: iRedMail's wrapper applies them only when both are there.

    The one that is not sent is made from the other; clearing one clears both.
    """
    if not changes.keys() & {"footer_text", "footer_html"}:
        return old_text, old_markup
    text, markup = changes.get("footer_text", ""), changes.get("footer_html", "")
    if "footer_text" not in changes and markup:
        derived = not old_text or old_text == _as_text(old_markup)
        text = _as_text(markup) if derived else old_text
    if "footer_html" not in changes and text:
        derived = not old_markup or old_markup == _as_html(old_text)
        markup = _as_html(text) if derived else old_markup
    if text and not markup:
        markup = _as_html(text)
    if markup and not text:
        text = _as_text(markup)
    return text, markup


def _as_html(text: str) -> str:
    return f"<p>{html.escape(text)}</p>".replace("\n", "<br>\n") if text else ""


def _as_text(markup: str) -> str:
    # A footer of pictures only still needs a text: without one, the wrapper applies neither.
    return (html.unescape(_TAG.sub("", markup)).strip() or "--") if markup else ""
