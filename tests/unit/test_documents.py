"""Pages that are generated or that list something are true."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from iredapi.config import loading
from iredapi.doctor import findings
from iredapi.web import errors_page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.parametrize(
    "name, document",
    [
        ("configuration", loading.document),
        ("errors", errors_page.document),
        ("doctor", findings.document),
    ],
)
def test_generated_page(name: str, document: Callable[[], str]) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert page == document(), f"iredapi docs {name} > docs/{name}.md"


def test_every_test_file_is_described() -> None:
    """``tests/README.md`` names every file with tests, and no file that is gone."""
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    described = set()
    for part in text.split("\n### `")[1:]:
        directory = part.partition("/`")[0]
        described |= {
            f"{directory}/{name}" for name in re.findall(r"^\| `(\w+\.py)` ", part, re.MULTILINE)
        }
    tests = ROOT / "tests"
    assert described == {path.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")}


def test_named_files_exist() -> None:
    """A file or a link that a page names is there: pages follow when code moves."""
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "tests" / "README.md"]
    lacking = set()
    for page in pages:
        if page.name == "CHANGELOG.md":
            continue
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|txt|md|conf|service))", text):
            roots = (ROOT, ROOT / "src/iredapi", ROOT / "src/iredapi/backends", ROOT / "tests")
            # A file of another machine, and one that ``make test-release`` writes.
            if not name.startswith(("etc/", ".releases/")) and not any(
                (root / name).exists() for root in roots
            ):
                lacking.add(f"{page.name}: {name}")
        for name in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
            if not (page.parent / name).exists():
                lacking.add(f"{page.name}: {name}")
    assert sorted(lacking) == []


def test_settings_have_no_comment_behind_them() -> None:
    """systemd takes what follows an unquoted value in an env file as a part of it."""
    pages = [
        ROOT / "README.md",
        *DOCS.rglob("*.md"),
        *ROOT.glob("deploy/*"),
        *ROOT.glob("packaging/*"),
    ]
    wrong = [
        f"{page.name}: {line}"
        for page in pages
        if page.is_file()
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.match(r"""#?(IREDAPI|OTEL)_\w+=("[^"]*"|\S+)\s+#""", line)
    ]
    assert wrong == []
