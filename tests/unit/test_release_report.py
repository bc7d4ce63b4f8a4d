"""The report of `make test-release`: counts, versions, and one column of `docs/versions.md`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "release_report.py"


@pytest.fixture(scope="module")
def release_report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release_report", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks for the names of its annotations there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite>
<testcase classname="tests.a" name="test_1[x]"/>
<testcase classname="tests.a" name="test_2"><failure message="no">text</failure></testcase>
<testcase classname="tests.a" name="test_2"><error message="teardown">text</error></testcase>
<testcase classname="tests.a" name="test_3"><skipped message="not here">place</skipped></testcase>
<testcase classname="tests.b" name="test_4"><skipped message="not here">place</skipped></testcase>
</testsuite></testsuites>
"""


def test_counts(release_report: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(JUNIT, encoding="utf-8")
    counts = release_report.read_junit(path)
    assert (counts.passed, counts.failures) == (1, ["tests.a::test_2"])
    assert counts.skips == {"not here": 2}
    text = release_report.report("Debian", {"passed": "1"}, counts)
    assert "* tests.a::test_2\n" in text
    assert "* 2: not here\n" in text


def test_a_run_that_stopped_says_so(release_report: ModuleType) -> None:
    assert "No test was run to its end" in release_report.report("Debian", {}, None)


def test_versions(release_report: ModuleType) -> None:
    packages = """python3 3.13.5
python3.13-minimal 3.13.5
postgresql 17+278
postgresql-17 17.12
mariadb-server-core 11.8.9
slapd 2.6.10+dfsg
dovecot-core 2.4.1+dfsg1
nginx 1.26.3
nginx-common 1.26.3"""
    assert release_report.component_versions(packages) == {
        "Python": "3.13.5",
        "PostgreSQL": "17.12",
        "MariaDB": "11.8.9",
        "OpenLDAP": "2.6.10",
        "Dovecot": "2.4.1",
        "nginx": "1.26.3",
    }


def test_one_column_is_replaced(release_report: ModuleType) -> None:
    def update(page: str, name: str, **cells: str) -> str:
        return str(release_report.update_table(page, ["old", "new"], name, cells))

    page = f"Text.\n\n{release_report.BEGIN}\n{release_report.END}\n\nMore.\n"
    page = update(page, "old", Python="3.11", date="2026-01-01")
    assert "| Python | 3.11 | – |\n" in page
    assert "| date | 2026-01-01 | not run yet |\n" in page
    page = update(page, "new", Python="3.13", date="2026-01-02")
    page = update(page, "old", Python="3.12")
    assert "| Python | 3.12 | 3.13 |\n" in page
    assert "| date | – | 2026-01-02 |\n" in page
    assert page.startswith("Text.\n\n<!--")
    assert page.endswith("-->\n\nMore.\n")
    with pytest.raises(ValueError, match="no table"):
        update("Text.\n", "old")


def test_the_page_has_the_table(release_report: ModuleType) -> None:
    """Every component and result has a row in ``docs/versions.md``."""
    page = (SCRIPT.parents[1] / "docs" / "versions.md").read_text(encoding="utf-8")
    table = page.partition(release_report.BEGIN)[2].partition(release_report.END)[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert rows[2:] == [*release_report.COMPONENTS, *release_report.RESULTS]
