"""Which mlmmj is installed on this host."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

_SECONDS: Final = 5.0
_VERSION: Final = re.compile(rb"version (\d+)\.(\d+)")


async def mlmmj_version(programs: Path) -> tuple[int, int] | None:
    """Return major and minor version of mlmmj; None: not known."""
    try:
        # mlmmj's programs need their full path.
        process = await asyncio.create_subprocess_exec(
            str(programs / "mlmmj-sub"),
            "-V",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_SECONDS):
            printed, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    found = _VERSION.search(printed)
    return (int(found[1]), int(found[2])) if found else None
