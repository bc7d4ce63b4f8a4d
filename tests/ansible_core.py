"""The real Ansible that the tests of the collection run, in an environment of its own.

pip installs it once into the user's cache. To change the version: edit ``REQUIREMENTS``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path

REQUIREMENTS = ("ansible-core==2.19.14",)
"""For Python 3.11 to 3.13."""
_SECONDS = 180


class _CannotInstall(Exception):
    """pip did not install the packages; the message says why."""


@cache
def missing() -> str | None:
    """Say why Ansible cannot be used here, or return None after it was installed."""
    try:
        _install()
    except _CannotInstall as error:
        return f"pip cannot install {', '.join(REQUIREMENTS)}: {error}"
    return None


def place() -> Path:
    """Return the directory of this very version for this very Python, in the user's cache."""
    words = (*REQUIREMENTS, sys.version, sys.base_prefix)
    digest = sha256("\n".join(words).encode()).hexdigest()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "iredapi-tests" / f"ansible-{digest[:16]}"


def _install() -> None:
    home = place()
    finished = home / "finished"
    if finished.exists():
        return
    try:
        home.mkdir(parents=True, exist_ok=True)
        # Other workers of the test run wait; the lock ends with this process.
        with (home / "lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if finished.exists():
                return
            shutil.rmtree(home / "venv", ignore_errors=True)
            _run(sys.executable, "-m", "venv", "--without-pip", str(home / "venv"))
            _run(
                *(sys.executable, "-m", "pip", "--python", str(home / "venv/bin/python")),
                *("install", "--quiet", "--no-input", "--disable-pip-version-check"),
                *("--retries=1", "--timeout=20", *REQUIREMENTS),
            )
            finished.touch()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _CannotInstall(str(error)) from error


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise _CannotInstall(" ".join(lines[:3]) or f"status {done.returncode}")


def run(
    directory: Path, *command: str, expected: int = 0, timeout: float = 300, **given: str
) -> str:
    """Run a program of Ansible in a directory, with nothing of the user's; return its output.

    Collections are found in ``collections`` there. ``given``: more of the environment.
    """
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    configuration, inventory = directory / "ansible.cfg", directory / "hosts"
    configuration.touch()
    python = place() / "venv/bin/python"
    inventory.write_text(
        f"localhost ansible_connection=local ansible_python_interpreter={python}\n", "utf-8"
    )
    settings = {
        "HOME": str(directory),
        "LC_ALL": "C.UTF-8",
        "NO_PROXY": "127.0.0.1",
        "ANSIBLE_HOME": str(directory / "ansible"),
        "ANSIBLE_COLLECTIONS_PATH": str(directory / "collections"),
        "ANSIBLE_CONFIG": str(configuration),
        "ANSIBLE_INVENTORY": str(inventory),
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_PIPELINING": "true",
    }
    program, *arguments = command
    done = subprocess.run(
        [python, place() / "venv/bin" / program, *arguments],
        cwd=directory,
        env=kept | settings | given,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == expected, (done.returncode, output[-6000:])
    return output
