"""Units of work whose roles are made when they are first used.

A unit has fourteen roles, and an operation uses one or two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields, make_dataclass
from typing import Any, TypeVar, cast

from iredapi.backends.unit_of_work import ReadUnit

Unit = TypeVar("Unit", bound=ReadUnit)


class _Role:
    """An attribute that makes its value at the first access, and is hidden by it afterwards."""

    def __init__(self, name: str, make: Any) -> None:
        self._name = name
        self._make = make

    def __get__(self, unit: Any, _: Any) -> Any:
        role = unit.__dict__[self._name] = self._make(unit.store)
        return role


def with_lazy_roles(base: type[Unit], roles: Mapping[str, object]) -> Callable[..., Unit]:
    """Return a class like ``base`` that makes a role from its attribute ``store``.

    ``roles`` has a function for each; those that ``base`` lacks are left out.
    """
    names = [item.name for item in fields(base) if item.name in roles]
    made = make_dataclass(
        f"Lazy{base.__name__}",
        [
            *((name, Any, field(init=False)) for name in names),
            ("store", Any, field(default=None, repr=False)),
        ],
        bases=(base,),
    )
    for name in names:
        setattr(made, name, _Role(name, roles[name]))
    return cast(Callable[..., Unit], made)
