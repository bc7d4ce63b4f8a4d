"""PHP's command line, for the module for WHMCS."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from tests.servers.process import find_program

_STAND_IN = Path(__file__).parents[1] / "integration" / "data" / "whmcs.php"


@cache
def missing() -> str | None:
    """Why there can be no PHP here, or None."""
    program = find_program("php")
    if program is None:
        return "php is not installed (Debian: php-cli)"
    script = (
        'echo PHP_VERSION_ID >= 80200 ? "" : "8.2 is needed",'
        ' extension_loaded("curl") ? "" : "php-curl is needed";'
    )
    done = subprocess.run(
        [program, "-r", script], capture_output=True, text=True, timeout=60, check=False
    )
    return (done.stdout + done.stderr).strip() or None


def start(module: Path, calls: list[Any], rows: list[dict[str, Any]]) -> subprocess.Popen[str]:
    """Begin to call functions of a module of WHMCS; ``result`` waits for it.

    ``calls`` are names of functions with their parameters; ``rows`` those of ``tblhosting``.
    """
    program = find_program("php")
    assert program is not None
    process = subprocess.Popen(
        [program, "-d", "error_reporting=-1", "-d", "display_errors=stderr", _STAND_IN, module],
        env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"calls": calls, "rows": rows}))
    process.stdin.close()
    process.stdin = None
    return process


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the calls; returns ``results``, ``logged`` and ``rows``."""
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, ""), (process.returncode, output, errors)
    found: dict[str, Any] = json.loads(output)
    return found
