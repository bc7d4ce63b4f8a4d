"""Programs of Node.js that the tests run: linters of OpenAPI, and a generator of TypeScript.

Their versions are those of ``node/package.json``; ``node/package-lock.json`` has the checksums of
everything that they need. npm installs them once into the user's cache, and runs no scripts of
packages. To change a version: edit ``package.json``, then run in ``node/``
``npm install --ignore-scripts --package-lock-only --omit-lockfile-registry-resolved``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

FILES = Path(__file__).parent / "node"
_LISTS = ("package.json", "package-lock.json")
_SECONDS = 180


class _CannotInstall(Exception):
    """npm did not install the packages; the message says why."""


@cache
def missing() -> str | None:
    """Say why the packages cannot be used here, or return None after they were installed."""
    absent = [name for name in ("node", "npm") if shutil.which(name) is None]
    if absent:
        return f"{' and '.join(absent)} not installed"
    try:
        _install()
    except _CannotInstall as error:
        return f"npm cannot install its packages: {error}"
    return None


def _place() -> Path:
    """Return the directory of these very versions, in the user's cache."""
    digest = hashlib.sha256(b"".join((FILES / name).read_bytes() for name in _LISTS)).hexdigest()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "iredapi-tests" / f"node-{digest[:16]}"


def _install() -> None:
    place = _place()
    finished = place / "finished"
    if finished.exists():
        return
    try:
        place.mkdir(parents=True, exist_ok=True)
        # Other workers of the test run wait; the lock ends with this process.
        with (place / "lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if finished.exists():
                return
            for name in _LISTS:
                shutil.copy(FILES / name, place)
            done = subprocess.run(
                [
                    *("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"),
                    *("--fetch-retries=1", "--fetch-timeout=20000"),
                ],
                cwd=place,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if "complete log" not in line]
                raise _CannotInstall(" ".join(lines[:3]) or f"status {done.returncode}")
            finished.touch()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _CannotInstall(str(error)) from error


def work_directory(directory: Path) -> Path:
    """Make a directory in which node finds the packages, with the files of ``node/``."""
    shutil.copytree(FILES, directory, dirs_exist_ok=True)
    (directory / "node_modules").symlink_to(_place() / "node_modules")
    return directory


def run(directory: Path, *command: str, timeout: float = 120) -> str:
    """Run a program in such a directory, without a proxy; it must succeed. Return its output.

    The first word is ``node``, or the name of a program of the packages.
    """
    program = shutil.which("node") if command[0] == "node" else None
    first = [program] if program else ["node", f"node_modules/.bin/{command[0]}"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [*first, *command[1:]],
        cwd=directory,
        env=kept,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout
