"""Texts that mlmmj mails, with variables: names that mlmmj no longer knows, and today's names.

mlmmj calls many names deprecated (``README.listtexts``). mlmmj 1.5.2 was seen to leave only those
of ``_NAMES`` as they are, so that people get ``$confaddr$`` for an address; the others work. Each
replacement works in 1.3.0, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

SINCE: Final = (1, 5)
"""The version of mlmmj that no longer knows the names."""
_NAMES: Final[Mapping[bytes, bytes]] = {
    b"confaddr": b"$confirmaddr$",
    b"newsub": b"$subaddr$",
    b"oldsub": b"$subaddr$",
    b"bouncenumbers": b"%bouncenumbers%",
    b"digestthreads": b"%digestthreads%",
    b"originalmail": b" %originalmail 100%",
}
_OF_POSTS: Final[Mapping[bytes, bytes]] = {
    b"moderateaddr": b"$releaseaddr$",
    b"moderators": b"%moderators%",
}
_OF_SUBSCRIPTIONS: Final[Mapping[bytes, bytes]] = {
    b"moderateaddr": b"$permitaddr$",
    b"moderators": b"%gatekeepers%",
}
_SUBSCRIPTIONS: Final = ("gatekeep", "wait-sub", "submod")
"""Beginnings of the names of texts about moderated subscriptions."""
_VARIABLE: Final = re.compile(rb"\$(" + b"|".join([*_NAMES, *_OF_POSTS]) + rb")\$")


def outdated(text: bytes) -> list[str]:
    """Return the variables in a text that mlmmj 1.5 does not know."""
    return sorted({f"${name.decode()}$" for name in _VARIABLE.findall(text)})


def renewed(name: str, text: bytes) -> bytes:
    """Return a text with today's names; ``name`` is its file name."""
    about = _OF_SUBSCRIPTIONS if name.startswith(_SUBSCRIPTIONS) else _OF_POSTS
    names = {**_NAMES, **about}
    return _VARIABLE.sub(lambda found: names[found[1]], text)
