"""The next names in their order, found by searches for beginnings."""

from __future__ import annotations

import random

import pytest

from iredapi.backends.ldap import ordered_names
from iredapi.backends.ldap.ordered_names import GaveUp, Part, next_names

WORDS = ("ann", "a.b", "a-b", "bob", "zed", "user00", "user0", "x_y", "0", "o'neil", "j doe", "{}")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered_names, "SECONDS", 60.0)


def _names(count: int) -> list[str]:
    chosen = random.Random(count)
    return sorted({f"{chosen.choice(WORDS)}{chosen.randrange(count)}@ex.com" for _ in range(count)})


class _Server:
    """Answers as slapd does: in no order, and no more than is asked for."""

    def __init__(self, names: list[str]) -> None:
        self.names = random.Random(1).sample(names, len(names))
        self.searches = 0

    def search(self, part: Part | None, size: int) -> list[str]:
        self.searches += 1
        fits = (name for name in self.names if part is None or any(one.is_of(name) for one in part))
        return [name for name, _ in zip(fits, range(size), strict=False)]


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 400])
@pytest.mark.parametrize("descending", [False, True])
def test_it_is_the_sorted_list(count: int, descending: bool) -> None:
    names = _names(count)
    server, wanted = _Server(names), sorted(names, reverse=descending)
    assert next_names(server.search, None, 1000, descending=descending) == wanted
    for place in range(0, len(names), 37):
        for after in (wanted[place], f"{wanted[place][:-4]}e"):  # one that is not there any more
            behind = [n for n in names if (n < after if descending else n > after)]
            found = next_names(server.search, after, 20, descending=descending)
            assert found == sorted(behind, reverse=descending)[:20], after


def test_names_that_others_begin_with_come_before_them() -> None:
    names = [f"{name}{more}" for name in ("ex.co", "ex.com") for more in ("", ".au", *"mnopqrst")]
    names = sorted({*names, *(f"d{n}.org" for n in range(100))})
    server = _Server(names)
    assert next_names(server.search, None, 200, descending=False) == names
    assert next_names(server.search, "ex.co", 200, descending=False) == names[101:]
    assert next_names(server.search, "ex.com", 3, descending=True) == names[:102][-3:][::-1]


def test_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all names are read: an odd name would not be found, or it takes too long."""
    names = [*_names(400), "a  b@ex.com"]
    with pytest.raises(GaveUp):
        next_names(lambda _part, _size: names[-1:], None, 5, descending=False)
    with pytest.raises(GaveUp):
        next_names(lambda _part, size: ["é@ex.com"] * size, None, 5, descending=False)
    monkeypatch.setattr(ordered_names, "SECONDS", -1.0)
    with pytest.raises(GaveUp):
        next_names(_Server(names[:-1]).search, None, 5, descending=False)
