"""The base class of all forms: conflicting and required parameters, and older names.

A form declares them. A wrong name in a declaration fails at import. The descriptions of parameters
in OpenAPI mention them, and one validator checks them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, ClassVar, Self, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from iredapi.domain.wblists import AddressList
from iredapi.errors import CODES, InvalidParameters, Problem

Raw = Mapping[str, str | list[str]]
_ITEM = re.compile(r"([^\[\]]+)\[[0-9]*\]")
"""Names of list items as PHP, Go and JavaScript send them: ``members[0]``, ``members[]``."""


class Unreadable(str):
    """A JSON value that no parameter accepts: an object, or a list of lists."""

    __slots__ = ()


class Repeated(list[str]):
    """The values of a repeated name: a list parameter takes all of them, others the last one."""

    __slots__ = ()


def base_name(name: str) -> str:
    """Return ``members`` for ``members[0]``; other names unchanged."""
    if "[" not in name:
        return name
    found = _ITEM.fullmatch(name)
    return found[1] if found else name


@dataclass(frozen=True, slots=True)
class LongList:
    """Marks a type of parameter that accepts the maximum number of items.

    Only operations with such a parameter accept large bodies.
    """


def param(
    description: str, example: str | None = None, *, alias: str = "", required: bool = False
) -> Any:
    """Declare a parameter: absent unless sent, or required.

    ``example`` is a value as a client sends it; ``alias`` the wire name when it is not the field's
    name in camel case.
    """
    more: dict[str, Any] = {"description": description}
    if example is not None:
        more["examples"] = [example]
    if alias:
        more["alias"] = alias
    return Field(..., **more) if required else Field(None, **more)


class Params(BaseModel):
    """Parameters of one operation; fields carry wire names as aliases (``senderBcc``)."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, extra="ignore", frozen=True
    )

    conflicts: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of wire names that exclude each other."""
    needs: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of wire names: the first must be sent together with the second."""
    legacy: ClassVar[Mapping[str, str]] = {}
    """Older wire name → current name, which has precedence when both are sent."""

    only_empty: ClassVar[Mapping[str, str]] = {}
    """Older name that must be empty → error text for other values."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        names = cls.wire_names().values()
        used = [name for pair in (*cls.conflicts, *cls.needs) for name in pair]
        for name in (*used, *cls.legacy.values()):
            if name not in names:
                raise TypeError(f"{cls.__name__} has no parameter {name}")

    @classmethod
    @cache
    def wire_names(cls) -> Mapping[str, str]:
        """Return the wire name of each field."""
        return {name: field.alias or name for name, field in cls.model_fields.items()}

    @classmethod
    @cache
    def takes_long_lists(cls) -> bool:
        """Return whether one of the parameters is a ``LongList``."""
        every = (item for field in cls.model_fields.values() for item in field.metadata)
        return any(isinstance(item, LongList) for item in every)

    @classmethod
    @cache
    def _known(cls) -> frozenset[str]:
        return frozenset(cls.wire_names().values())

    @classmethod
    @cache
    def _accepted(cls) -> frozenset[str]:
        return cls._known() | frozenset(cls.legacy) | frozenset(cls.only_empty)

    @classmethod
    def ignored(cls, raw: Raw) -> tuple[str, ...]:
        """Return the names, as sent, that are no parameters of this form."""
        unknown = raw.keys() - cls._accepted()
        if not unknown:
            return ()
        return tuple(sorted(name for name in unknown if base_name(name) not in cls._lists()))

    @classmethod
    def resembling(cls, name: str) -> str:
        """Return the parameter with the most similar name; "" when there is none."""
        found = get_close_matches(base_name(name), sorted(cls._accepted()), n=1)
        return found[0] if found else ""

    @classmethod
    @cache
    def _lists(cls) -> frozenset[str]:
        """Return the wire names, old ones too, of parameters that take several values."""
        own = {
            field.alias or name
            for name, field in cls.model_fields.items()
            if takes_several(field.annotation)
        }
        return frozenset(own | {old for old, new in cls.legacy.items() if new in own})

    @classmethod
    def _gathered(cls, raw: Raw) -> dict[str, str | list[str]]:
        """Merge list items under the name of their list; take the last value of other names."""
        lists, found = cls._lists(), dict[str, str | list[str]]()
        for name, value in raw.items():
            base = base_name(name)
            if base not in lists:
                found[name] = value[-1] if isinstance(value, Repeated) else value
            elif base == name and base not in found and not isinstance(value, Repeated):
                found[base] = value
            else:
                found[base] = Repeated([*_several(found.get(base, [])), *_several(value)])
        return found

    @classmethod
    def describe_relations(cls, wire: str) -> str:
        """Return sentences about conflicts, requirements and older names of a parameter."""
        conflicting = [b if a == wire else a for a, b in cls.conflicts if wire in (a, b)]
        required = [b for a, b in cls.needs if a == wire]
        older = [old for old, new in cls.legacy.items() if new == wire]
        sentences = []
        if conflicting:
            sentences.append(f"Conflicts with {_quoted(conflicting)}.")
        if required:
            sentences.append(f"Must be sent together with {_quoted(required)}.")
        if older:
            sentences.append(f"Older name: {_quoted(older)}.")
        return " ".join(sentences)

    @classmethod
    @cache
    def blank(cls) -> Self:
        """Return the form of a request without parameters. Raises InvalidParameters."""
        return cls._validated({})

    @classmethod
    def read(cls, raw: Raw) -> Self:
        """Parse a request's parameters. Raises InvalidParameters with every wrong parameter."""
        if not raw:
            return cls.blank()
        simple = cls._simple()
        for name, value in raw.items():
            conflicting = simple.get(name)
            if (
                conflicting is None
                or type(value) is not str
                or "[" in name
                or not conflicting.isdisjoint(raw)
            ):
                return cls._read_with_care(raw)
        return cls._validated(raw)

    @classmethod
    @cache
    def _simple(cls) -> Mapping[str, frozenset[str]]:
        """Return the names that need no other one, each with those that it conflicts with."""
        names = cls._known() - {*(a for a, _ in cls.needs), *cls.legacy, *cls.only_empty}
        pairs = {*cls.conflicts, *((b, a) for a, b in cls.conflicts)}
        return {name: frozenset(b for a, b in pairs if a == name) for name in names}

    @classmethod
    def _read_with_care(cls, raw: Raw) -> Self:
        if any("[" in name or type(value) is Repeated for name, value in raw.items()):
            raw = cls._gathered(raw)
        sent = dict(raw)
        for old, new in cls.legacy.items():
            if old in sent and new not in sent:
                sent[new] = sent[old]
        known = cls._known()
        sent = {name: value for name, value in sent.items() if name in known}
        problems = [
            Problem(name, "CONFLICTING_PARAMETERS", f"{a} and {b} exclude each other.")
            for a, b in cls.conflicts
            if a in sent and b in sent
            for name in (a, b)
        ]
        problems += [
            Problem(name, "INVALID_VALUE", "An object or a list of lists is no value.")
            for name, value in sent.items()
            if isinstance(value, Unreadable)
        ]
        problems += [
            Problem(name, "INVALID_VALUE", advice)
            for name, advice in cls.only_empty.items()
            if raw.get(name)
        ]
        problems += [
            Problem(a, "MISSING_COMPANION", f"{a} must be sent together with {b}.")
            for a, b in cls.needs
            if a in sent and b not in sent
        ]
        if problems:
            raise InvalidParameters(*dict.fromkeys(problems))
        return cls._validated(sent)

    @classmethod
    def _validated(cls, sent: Raw) -> Self:
        try:
            return cls.model_validate(sent)
        except ValidationError as error:
            raise InvalidParameters(*(_problem(item) for item in error.errors())) from None

    def changes(self) -> dict[str, Any]:
        """Return the parsed values of the parameters that were sent, by field name."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def takes_several(annotation: Any) -> bool:
    """Return whether a parameter of this type takes several values."""
    return get_origin(annotation) is tuple or annotation is AddressList


class NoParams(Params):
    """An operation without parameters."""


def _quoted(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


def _problem(item: Any) -> Problem:
    name = str(item["loc"][0]) if item["loc"] else ""
    if item["type"] in CODES:
        return Problem(name, item["type"], item["msg"])
    code = "REQUIRED" if item["type"] == "missing" else "INVALID_VALUE"
    return Problem(name, code, CODES[code].meaning)
