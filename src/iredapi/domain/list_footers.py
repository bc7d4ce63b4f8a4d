"""Headers and footers that mailing lists add to posts."""

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
"""Maximum length in characters."""
MAX_HEADERS: Final = 50
_MAX_HEADER: Final = 900
_HEADER = re.compile(r"[A-Za-z0-9-]{1,76}")
_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,100})", re.ASCII)
_TAG = re.compile(r"<[^<>]*>")
_NOT_ASCII = re.compile(r"\S*[^\x00-\x7f]\S*(?: +\S*[^\x00-\x7f]\S*)*")
"""Adjacent words together: mail programs do not show blanks between encoded words."""
_ENCODED = re.compile(r"=\?utf-8\?[bq]\?[^ ?]*\?=(?: =\?utf-8\?[bq]\?[^ ?]*\?=)*")


def fixed_headers(address: str) -> tuple[str, ...]:
    """Return the headers that every mailing list adds to its posts."""
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
    """Return the fixed headers as lists of earlier releases have them."""
    return tuple(re.sub(r"\?subject=\w+", "", line) for line in fixed_headers(address))


def encoded(text: str) -> str:
    """Return header text with words that are not ASCII encoded (RFC 2047).

    mlmmj copies headers unchanged, and servers without SMTPUTF8 refuse headers that are not ASCII.
    """
    return _NOT_ASCII.sub(lambda found: Header(found[0], "utf-8", 75).encode(linesep=""), text)


def decoded(text: str) -> str:
    """Decode what ``encoded`` made; text that was encoded in another way stays unchanged."""
    if len(text) > 2 * _MAX_HEADER:
        return text
    try:
        found = _ENCODED.sub(lambda words: str(make_header(decode_header(words[0]))), text)
    except (HeaderParseError, LookupError, ValueError):
        return text
    return found if encoded(found) == text else text


def as_number(text: str) -> int:
    """Return the integer at the beginning of a line of a control file, as mlmmj 1.3 reads it.

    A line without one is 0; larger numbers are truncated to 32 bits.
    """
    found = _NUMBER.match(text)
    number = min(max(int(found[1]), -(2**63)), 2**63 - 1) if found else 0
    return (number + 2**31) % 2**32 - 2**31


def size_limit(line: str) -> int:
    """Return the maximum size of a post in bytes, from the line in ``maxmailsize``.

    With 0 or less mlmmj refuses every post. That is shown as 1, because 0 means no limit here.
    """
    return max(as_number(line), 1)


def headers(text: str) -> tuple[str, ...]:
    """Parse ``custom_headers``: lines separated by line feeds or the two characters "\\n".

    Values are encoded. Raises ValueError for a line that is not a header, also for one with a CR
    inside: the text after it would become a header of its own.
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
    """Parse a header name; return it with the colon that mlmmj needs. Raises ValueError."""
    name = text.removesuffix(":")
    if not _HEADER.fullmatch(name):
        raise ValueError("not the name of a header")
    return f"{name}:"


def header_to_response(line: str) -> str:
    """Return a header as the client sent it, decoded."""
    name, colon, value = line.partition(":")
    return f"{name}{colon}{decoded(value)}"


def footer(text: str) -> str:
    """Parse a footer; line ends become line feeds. Raises ValueError."""
    text = text.replace("\r\n", "\n").strip()
    if len(text) > MAX_FOOTER:
        raise ValueError(f"a footer has at most {MAX_FOOTER} characters")
    if not all(character.isprintable() or character in "\n\t" for character in text):
        raise ValueError("a footer has no control characters")
    return text


def custom_headers(address: str, present: Iterable[str], sent: Iterable[str]) -> tuple[str, ...]:
    """Return the custom headers together with the fixed ones.

    ``present`` are the stored lines. Fixed headers may be sent unchanged; a changed one raises
    InvalidParameters. Fixed headers of an older release stay until a custom one changes, as in
    mlmmjadmin.
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
                "custom_headers",
                "INVALID_VALUE",
                f"The header {name}: cannot be changed.",
            )
    if sorted(own) == sorted(own_headers(present)) and len(present) > len(own):
        return present
    return tuple(sorted([*own, *fixed_headers(address)]))


def own_headers(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the headers without the fixed ones."""
    return tuple(line for line in lines if _named(line) not in _FIXED)


def _named(line: str) -> str:
    return line.partition(":")[0].strip().lower()


def _content(line: str) -> str:
    return line.partition(":")[2].strip()


_FIXED: Final = frozenset(_named(line) for line in fixed_headers("@"))


def footers(old_text: str, old_markup: str, changes: Mapping[str, Any]) -> tuple[str, str]:
    """Return both footers: iRedMail's wrapper applies them only when both exist.

    When one is sent, the other is derived from it; clearing one clears both. A footer that was not
    derived stays.
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
    # HTML without text (pictures only) gets "--": the wrapper applies neither without a text.
    return (html.unescape(_TAG.sub("", markup)).strip() or "--") if markup else ""
