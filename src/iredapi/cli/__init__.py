"""The command line."""


def main() -> None:
    """Run the command line.

    Console scripts call it: one that was installed with an earlier version names this function, and
    must work after an upgrade of the sources.
    """
    from iredapi.cli import commands

    commands.main()
