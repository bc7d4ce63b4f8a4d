"""The command line."""

import gc
import sys

from iredapi import __version__

VERSION = f"iredapi {__version__}"
"""What ``--version`` prints."""

# Imports make many objects that stay: at Python's own threshold a fifth of the start goes into
# looking for garbage among them. Reference counting frees nearly all objects of a request.
gc.set_threshold(20_000, 20, 20)


def main() -> None:
    """Run the command line.

    Console scripts call it: one that was installed with an earlier version names this function, and
    must work after an upgrade of the sources.
    """
    if sys.argv[1:] == ["--version"]:
        # Programs ask often. The imports of the other commands would take twenty times as long.
        sys.stdout.write(f"{VERSION}\n")
        return
    from iredapi.cli import commands

    commands.main()
