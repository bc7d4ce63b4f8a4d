"""``python -m iredapi.cli``: the same as the command ``iredapi``."""

from iredapi.cli import main

main()
