"""The command line."""

import gc

# Imports make many objects that stay: at Python's own threshold a fifth of the start goes into
# looking for garbage among them. Reference counting frees nearly all objects of a request.
gc.set_threshold(20_000, 20, 20)


def main() -> None:
    """Run the command line.

    Console scripts call it: one that was installed with an earlier version names this function, and
    must work after an upgrade of the sources.
    """
    from iredapi.cli import commands

    commands.main()
