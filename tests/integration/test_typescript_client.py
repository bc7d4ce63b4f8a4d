"""The OpenAPI document for TypeScript: linters find nothing, generated types compile and work."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest

from iredapi.app import create_app
from iredapi.config.settings import Settings
from iredapi.web.openapi_document import View, variant
from tests import node_packages
from tests.clients import PASSWORD, ROOT
from tests.servers.api import ApiProcess
from tests.servers.store import Store

# In one group: only one worker of the test run waits for npm.
pytestmark = [pytest.mark.needs("node"), pytest.mark.xdist_group("node")]

VIEWS = {"all": View.ALL, "canonical": View.CANONICAL}
DOCUMENTS = tuple(f"{name}.json" for name in VIEWS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the documents of every view, and with the programs."""
    directory = node_packages.work_directory(tmp_path_factory.mktemp("node"))
    whole = create_app(Settings(_env_file=None)).openapi()
    for name, view in VIEWS.items():
        made = variant(whole, view=view)
        (directory / f"{name}.json").write_text(json.dumps(made), encoding="utf-8")
    return directory


def test_linters_find_nothing(place: Path) -> None:
    """Neither errors nor warnings, by the recommended rules of Redocly and those of Spectral."""
    assert node_packages.run(place, "node", "lint.mjs", *DOCUMENTS) == ""
    node_packages.run(
        place, "spectral", "lint", "--ruleset", ".spectral.json", "--fail-severity=hint", *DOCUMENTS
    )


def test_no_request_fits_two_operations(place: Path) -> None:
    """Of paths that can both match, and none of which is the more special, each has own methods."""

    def more_special(one: list[str], other: list[str]) -> bool:
        return any(a[:1] != "{" and b[:1] == "{" for a, b in zip(one, other, strict=True))

    for name in DOCUMENTS:
        paths = json.loads((place / name).read_text(encoding="utf-8"))["paths"]
        split = {path: path.split("/") for path in paths}
        for (first, one), (second, other) in combinations(split.items(), 2):
            if (
                len(one) == len(other)
                and all(a == b or "{" in (a[:1], b[:1]) for a, b in zip(one, other, strict=True))
                and more_special(one, other)
                and more_special(other, one)
            ):
                assert not paths[first].keys() & paths[second].keys(), (first, second)


def test_linters_find_a_fault(place: Path) -> None:
    """They read the documents: two operations with one id are found by both."""
    faulty = json.loads((place / "canonical.json").read_text(encoding="utf-8"))
    faulty["paths"]["/api/whoami"]["get"]["operationId"] = "login"
    (place / "faulty.json").write_text(json.dumps(faulty), encoding="utf-8")
    assert "error operation-operationId-unique" in node_packages.run(
        place, "node", "lint.mjs", "faulty.json"
    )
    with pytest.raises(AssertionError, match="operation-operationId-unique"):
        node_packages.run(place, "spectral", "lint", "--ruleset", ".spectral.json", "faulty.json")


@pytest.mark.stores("sqlite")
async def test_a_typescript_client_works(store: Store, api: ApiProcess, place: Path) -> None:
    """The types of each document compile; a program with them makes more than 20 calls."""
    for name in VIEWS:
        node_packages.run(place, "openapi-typescript", f"{name}.json", "-o", f"{name}.d.ts")
    # Checks every file, and writes the program only if all are right.
    node_packages.run(place, "tsc", "--project", ".")
    done = node_packages.run(place, "node", "compiled/scenario.js", api.address, ROOT, PASSWORD)
    assert int(done) >= 20
