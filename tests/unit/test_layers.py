"""What is said once in the storage machinery: roles are small, and codes of errors in one place."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

from iredapi.backends import protocols

SOURCES = Path(protocols.__file__).parents[2]
MOST = 9
"""Methods that a role may have of its own."""


def _roles() -> list[type[Any]]:
    modules = [
        importlib.import_module(f"{protocols.__name__}.{found.name}")
        for found in pkgutil.iter_modules(protocols.__path__)
    ]
    return [
        found
        for module in modules
        for found in vars(module).values()
        if inspect.isclass(found)
        and getattr(found, "_is_protocol", False)
        and found.__module__ == module.__name__
    ]


@pytest.mark.parametrize("role", _roles(), ids=lambda role: role.__name__)
def test_a_role_is_small_enough_to_read(role: type[Any]) -> None:
    own = [name for name in vars(role) if not name.startswith("_")]
    assert 1 <= len(own) <= MOST, own


@pytest.mark.parametrize("code", ["40P01", "40001", "1213", "1205"])
def test_codes_of_errors_that_are_tried_again_stand_in_one_place(code: str) -> None:
    """A deadlock, a serialization failure, MariaDB's deadlock and lock wait timeout."""
    found = {
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if re.search(rf"\b{code}\b", path.read_text())
    }
    assert found == {"database/errors.py"}
