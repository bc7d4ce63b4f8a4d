"""Control files of a list: one file per setting, named as in mlmmj's TUNABLES."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from iredapi.domain import list_footers
from iredapi.domain.list_footers import fixed_headers, own_headers
from iredapi.domain.lists import FLAGS, Control

_FILES: Final = dict(
    zip(
        FLAGS,
        "closedlist modonlypost subonlypost closedlistsub nosubconfirm nodigestsub nodigesttext"
        " nonomailsub moderated modnonsubposts noget subonlyget nolistsubsemail notmetoo notifysub"
        " notifymod noarchive".split(),
        strict=True,
    )
)
"""The control file of each flag; the flag is set if the file exists."""
_NEWSLETTER: Final = "enable_newsletter_subscription"
ALWAYS: Final = ("tocc", "ifmodsendonlymodmoderate")
"""Flags without a parameter that mlmmjadmin sets for new lists."""


def read(address: str, control: Path) -> Control:
    """Return the settings in the ``control`` directory of a list."""

    def text(name: str) -> str:
        try:
            # Not in text mode: mlmmj treats a carriage return as part of the line.
            return (control / name).read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def first(name: str) -> str:
        return text(name).partition("\n")[0].rstrip("\r")

    def lines(name: str) -> tuple[str, ...]:
        return tuple(filter(None, map(str.strip, text(name).split("\n"))))

    def mails(name: str) -> tuple[str, ...]:
        return tuple(sorted({mail.lower() for mail in lines(name)}))

    def removed() -> tuple[str, ...]:
        # A line that begins with a blank never matches a header.
        found = {line.rstrip() for line in text("delheaders").split("\n") if not line[:1].isspace()}
        return tuple(sorted(found - {""}))

    return Control(
        name=first("name"),
        flags=frozenset(flag for flag, name in _FILES.items() if (control / name).exists()),
        owners=mails("owner"),
        moderators=mails("moderators"),
        moderate_subscription=(control / "submod").exists(),
        subscription_moderators=mails("submod"),
        extra_addresses=tuple(item for item in mails("listaddress") if item != address),
        max_message_size=list_footers.size_limit(first("maxmailsize"))
        if text("maxmailsize")
        else 0,
        subject_prefix=first("prefix"),
        custom_headers=tuple(sorted(lines("customheaders"))),
        remove_headers=removed(),
        footer_text=text("footer_text").replace("\r\n", "\n").strip(),
        footer_html=text("footer_html").replace("\r\n", "\n").strip(),
        newsletter=(control / _NEWSLETTER).exists(),
    )


def ends_headers_of_posts(control: Path) -> bool:
    """Tell whether ``customheaders`` has a blank line.

    mlmmj 1.3 copies it into each post, where it ends the header: Content-Type becomes text.
    """
    try:
        lines = (control / "customheaders").read_bytes().removesuffix(b"\n").split(b"\n")
    except FileNotFoundError:
        return False
    return lines != [b""] and not all(map(bytes.strip, lines))


def contents(address: str, control: Control) -> dict[str, str | None]:
    """Return the contents of the control files of a list; None: the file must not exist."""

    def lines(items: Iterable[str]) -> str | None:
        return "".join(f"{item}\n" for item in items) or None

    def line(text: str) -> str | None:
        return f"{text}\n" if text else None

    size = control.max_message_size
    found: dict[str, str | None] = {
        name: "" if flag in control.flags else None for flag, name in _FILES.items()
    }
    return found | {
        _NEWSLETTER: "" if control.newsletter else None,
        "name": line(control.name),
        "owner": lines(control.owners),
        "moderators": lines(control.moderators),
        "submod": (
            (lines(control.subscription_moderators) or "")
            if control.moderate_subscription
            else None
        ),
        "listaddress": lines((address, *control.extra_addresses)),
        "maxmailsize": line(str(size)) if size else None,
        "prefix": line(control.subject_prefix),
        "customheaders": lines(
            (*sorted(own_headers(control.custom_headers)), *_fixed(address, control))
        ),
        "delheaders": lines(control.remove_headers),
        "footer_text": line(control.footer_text),
        "footer_html": line(control.footer_html),
    }


def _fixed(address: str, control: Control) -> tuple[str, ...]:
    own = set(own_headers(control.custom_headers))
    return tuple(item for item in control.custom_headers if item not in own) or fixed_headers(
        address
    )
