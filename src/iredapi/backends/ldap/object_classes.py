"""Which attributes an entry may have: what its object classes allow (RFC 4512 section 2.4).

Read from the server's own schema. Entries that other programs have made may lack classes that
iRedMail's accounts have; its auxiliary ones can be added to any entry, a structural one cannot.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_NAMES: Final = re.compile(r"\bNAME\s+(?:'([^']+)'|\(([^)]*)\))")
_LISTS: Final = {
    kind: re.compile(rf"\b{kind}\s+(?:\(([^)]*)\)|([^\s()]+))") for kind in ("SUP", "MUST", "MAY")
}
_DESCRIPTION: Final = re.compile(r"\bDESC\s+'[^']*'")
_PREFERRED: Final = ("mailUser", "shadowAccount", "amavisAccount")
"""What iRedMail gives to its accounts: asked first for an attribute that has no place."""


@dataclass(frozen=True, slots=True)
class ObjectClass:
    """What a class demands and allows, by itself; names in lower case."""

    name: str
    parents: tuple[str, ...]
    must: frozenset[str]
    may: frozenset[str]


@dataclass(frozen=True)
class Schema:
    """The names that a server knows, and its object classes by all their names (lower case)."""

    names: frozenset[str]
    classes: dict[str, ObjectClass]
    aliases: dict[str, str]
    """The first name of each attribute by all of its names: ``surname`` is ``sn``."""

    @classmethod
    def read(cls, attributes: Iterable[str], classes: Iterable[str]) -> Schema:
        """Read definitions of RFC 4512."""
        aliases: dict[str, str] = {}
        for text in attributes:
            known = names_in(text)
            aliases |= dict.fromkeys(known, known[0]) if known else {}
        found: dict[str, ObjectClass] = {}
        for described in classes:
            text = _DESCRIPTION.sub("", described)
            known = names_in(text)
            if not known:
                continue
            item = ObjectClass(
                known[0],
                tuple(_listed(text, "SUP")),
                frozenset(aliases.get(name, name) for name in _listed(text, "MUST")),
                frozenset(aliases.get(name, name) for name in _listed(text, "MAY")),
            )
            found |= dict.fromkeys(known, item)
        return cls(frozenset({*aliases, *found}), found, aliases)

    def _with_parents(self, classes: Iterable[str]) -> Iterator[ObjectClass]:
        left, seen = [name.lower() for name in classes], set[str]()
        while left:
            name = left.pop()
            item = self.classes.get(name)
            if item is not None and name not in seen:
                seen.add(name)
                left += item.parents
                yield item

    def allows(self, classes: Collection[str], attribute: str) -> bool:
        """Tell whether an entry of these classes may have an attribute."""
        name = attribute.lower().partition(";")[0]
        name = self.aliases.get(name, name)
        if name == "objectclass" or "extensibleobject" in {item.lower() for item in classes}:
            return True
        items = list(self._with_parents(classes))
        # Classes that are not shown allow what nobody knows: the server is to decide.
        return not items or any(name in item.must | item.may for item in items)

    def class_for(self, attribute: str, present: Collection[str]) -> str:
        """Return an auxiliary class that brings an attribute, or "".

        ``present`` are the attributes of the entry: what the class demands must be among them.
        """
        name = self.aliases.get(attribute.lower(), attribute.lower())
        there = {self.aliases.get(item.lower(), item.lower()) for item in present} | {name}
        for candidate in _PREFERRED:
            own = list(self._with_parents([candidate]))
            allowed = any(name in one.must | one.may for one in own)
            demanded = frozenset[str]().union(*(one.must for one in own)) - {"objectclass"}
            if allowed and demanded <= there:
                return candidate
        return ""


def names_in(definition: str) -> list[str]:
    """Return the names that an RFC 4512 definition gives to what it defines, lower case."""
    found = _NAMES.search(definition)
    if found is None:
        return []
    one, several = found.groups()
    return [one.lower()] if one else [name.strip("'").lower() for name in several.split()]


def _listed(definition: str, kind: str) -> list[str]:
    found = _LISTS[kind].search(definition)
    if found is None:
        return []
    several, one = found.groups()
    return [name.strip().lower() for name in (several or one).split("$")]
