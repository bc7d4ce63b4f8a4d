"""Wheel and sdist are complete, equal to each other, and work outside of the sources."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import httpx
import pytest

from iredapi import __version__
from tests.servers.api import COMMAND, environment, running

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "src" / "iredapi"
SOURCES = (
    "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "Makefile",
    "openapi.json", "src", "deploy", "docs", "integrations", "packaging", "scripts",
)  # fmt: skip


def _build(source: Path, out: Path, *options: str) -> None:
    """Make distributions as `python -m build` does, with this environment's setuptools."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, *options, source],
        check=True,
        capture_output=True,
    )


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources: building leaves files beside them."""
    target = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (PROJECT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(PROJECT / name, target / name, ignore=ignored)
        else:
            shutil.copy(PROJECT / name, target)
    return target


@pytest.fixture(scope="module")
def dist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the sdist, and the wheel that was made from it."""
    out = tmp_path_factory.mktemp("dist")
    _build(source, out)
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of commands that have the installed package, and not these sources."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", target, wheel], check=True, capture_output=True)
    return {"PYTHONPATH": str(target)}


def test_the_wheel_has_every_file(wheel: Path) -> None:
    files = {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    packed = {name for name in _contents(wheel) if ".dist-info/" not in name}
    assert packed == files
    assert "iredapi/py.typed" in packed
    assert any("/migrations/versions/v" in name for name in packed)


def test_the_metadata_is_that_of_the_project(wheel: Path) -> None:
    contents = _contents(wheel)
    (info,) = {name.split("/")[0] for name in contents if ".dist-info/" in name}
    metadata = email.message_from_bytes(contents[f"{info}/METADATA"])
    assert (metadata["Name"], metadata["Version"]) == ("iredapi", __version__)
    assert metadata["Requires-Python"] == ">=3.11"
    versions = re.findall(r":: Python :: (\S+)", "\n".join(metadata.get_all("Classifier", [])))
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert f"{info}/licenses/LICENSE" in contents
    assert b"iredapi = iredapi.cli:main" in contents[f"{info}/entry_points.txt"]


def test_the_sdist_makes_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    _build(source, tmp_path, "--wheel")
    (direct,) = tmp_path.glob("*.whl")
    assert _contents(direct) == _contents(wheel)


def test_the_sdist_has_what_operators_need(dist: Path, source: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("deploy", "docs", "integrations", "packaging", "scripts"):
        files = {
            str(path.relative_to(source)) for path in (source / name).rglob("*") if path.is_file()
        }
        assert files, name
        assert files <= packed
    assert {"CHANGELOG.md", "LICENSE", "Makefile", "openapi.json"} <= packed


def test_the_installed_package_works(installed: dict[str, str], tmp_path: Path) -> None:
    def run(*command: str) -> str:
        return subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(**installed),
        ).stdout

    where = run(sys.executable, "-c", "import iredapi; print(iredapi.__file__)").strip()
    assert where.startswith(installed["PYTHONPATH"])
    assert run(*COMMAND, "--version") == f"iredapi {__version__}\n"
    assert run(*COMMAND, "openapi") == (PROJECT / "openapi.json").read_text(encoding="utf-8")
    with running(installed | {"IREDAPI_DATA_DIR": str(tmp_path / "data")}) as service:
        page = httpx.get(f"{service.address}/docs", trust_env=False)
        assets = set(re.findall(r'"(docs-assets/[^"]+)"', page.text))
        assert len(assets) == 3
        for path in assets:
            answer = httpx.get(f"{service.address}/{path}", trust_env=False)
            assert (answer.status_code, len(answer.content) > 1000) == (200, True)
