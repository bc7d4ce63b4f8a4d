"""The generated pages under docs/ are what the code says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from iredapi import errors
from iredapi.config import loading
from iredapi.doctor import findings

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    "name, document",
    [
        ("configuration", loading.document),
        ("errors", errors.document),
        ("doctor", findings.document),
    ],
)
def test_generated_page(name: str, document: Callable[[], str]) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert page == document(), f"iredapi docs {name} > docs/{name}.md"
