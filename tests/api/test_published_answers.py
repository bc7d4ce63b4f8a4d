"""Published calls are answered with the same bytes as before lists had parameters."""

from __future__ import annotations

import itertools
import json
import lzma
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.published.calls import calls
from tests.published.record import answers_of, recorded
from tests.servers.store import ALL_STORES, Store

DOCUMENT = Path(__file__).parent / "data" / "openapi_4809920.json.xz"
NOT_PUBLISHED = re.compile(
    "[A-Z]+ (tokens?|sessions?|whoami)(/.*)?|POST logout|PUT .+/change_email/.+"
    "|DELETE throttle/.+|GET greylisting/whitelist_spf_domains"
)
"""Method and path of what was an addition in that document already."""


@pytest.mark.stores(*ALL_STORES)
async def test_published_calls_are_answered_as_before(store: Store) -> None:
    """Status and body, but for ``record.VOLATILE``; ``docs/compatibility.md`` says what is frozen.

    Recorded from commit 0cfd7ce, the last one before lists had pages.
    """
    found, known = await answers_of(store), recorded(store.name)
    assert [(new, old) for new, old in zip(found, known, strict=True) if new != old] == []


KINDS = {
    "{account}": ("global", r"[^/@]+\.com", "[^/]+@[^/]+"),
    "{direction}": ("inbound", "outbound"),
    "{kind}": ("whitelist", "blacklist"),
    "{mail}": ("[^/]+@[^/]+",), "{new_mail}": ("[^/]+@[^/]+",), "{domain}": ("[^/@]+",),
    "{number}": ("[0-9]+",),
}  # fmt: skip
"""What a part of a path stands for; each is an operation of its own in the published API."""


def _operations() -> Iterator[tuple[str, str]]:
    """Method and pattern of the path of every published operation."""
    for name, item in json.loads(lzma.decompress(DOCUMENT.read_bytes()))["paths"].items():
        path = name.removeprefix("/api/")
        parts = [KINDS.get(part, (part,)) for part in path.split("/")]
        for method, chosen in itertools.product(map(str.upper, item), itertools.product(*parts)):
            if not NOT_PUBLISHED.fullmatch(f"{method} {path}"):
                yield method, "/".join(chosen)


def test_the_corpus_is_whole() -> None:
    """Every published operation has succeeded in it, on SQL or OpenLDAP."""
    made = calls()
    assert [line[1] for line in recorded("sqlite")] == [call.name for call in made]
    done = {
        (made[number].method, made[number].path)
        for store in ("sqlite", "openldap")
        for number, _, status, _ in recorded(store)
        if status == 200
    }
    published = set(_operations())
    missing = [
        (method, pattern)
        for method, pattern in sorted(published)
        if not any(verb == method and re.fullmatch(pattern, sent) for verb, sent in done)
    ]
    assert (len(published), missing) == (129, [])
    statuses = Counter(line[2] // 100 for line in recorded("sqlite"))
    assert (len(made) > 600, statuses[2] > 400, statuses[4] > 100) == (True, True, True), statuses
