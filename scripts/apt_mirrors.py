"""The archives that debootstrap gets Debian and Ubuntu from: those of this machine's apt."""

from __future__ import annotations

import os
import subprocess


def mirror(distribution: str) -> str | None:
    """Return the archive of ``debian`` or ``ubuntu``; None if it is not known.

    ``DEBIAN_MIRROR`` or ``UBUNTU_MIRROR`` of the environment; else the one that apt uses here.
    """
    given = os.environ.get(f"{distribution.upper()}_MIRROR")
    if given:
        return given.rstrip("/")
    try:
        done = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False, text=True,
        )  # fmt: skip
    except FileNotFoundError:
        return None
    found = (line.strip().rstrip("/") for line in done.stdout.splitlines())
    return next((uri for uri in found if uri.endswith(f"/{distribution}")), None)
