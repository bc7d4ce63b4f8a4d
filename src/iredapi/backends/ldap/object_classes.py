"""Attributes that the object classes of an entry allow (RFC 4512 section 2.4).

The schema is read from the server. Entries made by other programs may lack object classes of
iRedMail's accounts. Auxiliary classes can be added to an entry, structural ones cannot.
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
"""Auxiliary classes of iRedMail's accounts, added to an entry for an attribute that needs one."""


@dataclass(frozen=True, slots=True)
class ObjectClass:
    """One object class without its parents: required and allowed attributes, lower case."""

    name: str
    parents: tuple[str, ...]
    must: frozenset[str]
    may: frozenset[str]


@dataclass(frozen=True)
class Schema:
    """A server's schema: all names, and the object classes by each of their names, lower case."""

    names: frozenset[str]
    classes: dict[str, ObjectClass]
    aliases: dict[str, str]
    """The first name of each attribute by all of its names: ``surname`` is ``sn``."""

    @classmethod
    def read(cls, attributes: Iterable[str], classes: Iterable[str]) -> Schema:
        """Parse definitions in the format of RFC 4512."""
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
        # If the schema is not published, the server decides.
        return not items or any(name in item.must | item.may for item in items)

    def class_for(self, attribute: str, present: Collection[str]) -> str:
        """Return an auxiliary class that allows an attribute, or "".

        ``present`` are the attributes of the entry; it must have those that the class requires.
        """
        name = self.aliases.get(attribute.lower(), attribute.lower())
        there = {self.aliases.get(item.lower(), item.lower()) for item in present} | {name}
        for candidate in _PREFERRED:
            own = list(self._with_parents([candidate]))
            allowed = any(name in one.must | one.may for one in own)
            required = frozenset[str]().union(*(one.must for one in own)) - {"objectclass"}
            if allowed and required <= there:
                return candidate
        return ""


def names_in(definition: str) -> list[str]:
    """Return the names in a definition of RFC 4512, lower case."""
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
