"""Units of work whose roles are made when they are first used.

A unit has fourteen roles, and an operation uses one or two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields, make_dataclass
from typing import Any, TypeVar, cast

from iredapi.backends.unit_of_work import ReadUnit

Unit = TypeVar("Unit", bound=ReadUnit)


def with_lazy_roles(base: type[Unit], roles: Mapping[str, object]) -> Callable[..., Unit]:
    """Return a class like ``base`` that makes a role from its attribute ``store``.

    ``roles`` has a function for each; those that ``base`` lacks are left out.
    """

    def made(unit: Any, name: str) -> Any:
        """Return an attribute that is not set yet."""
        make: Any = roles.get(name)
        if make is None:
            raise AttributeError(name)
        role = make(unit.store)
        setattr(unit, name, role)
        return role

    lazy = [(item.name, Any, field(init=False)) for item in fields(base) if item.name in roles]
    return cast(
        Callable[..., Unit],
        make_dataclass(
            f"Lazy{base.__name__}",
            [*lazy, ("store", Any, field(default=None, repr=False))],
            bases=(base,),
            namespace={"__getattr__": made},
            slots=True,
        ),
    )
