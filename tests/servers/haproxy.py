"""HAProxy with a configuration of deploy/."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.servers.process import (
    Daemon,
    find_program,
    free_port,
    remove_directory,
    temporary_directory,
)

DEPLOY: Final = Path(__file__).parents[2] / "deploy"


class Haproxy:
    """Listens at ``port`` of 127.0.0.1.

    ``bind`` is the address in the file, ``servers`` the lines of servers and what they are here.
    """

    def __init__(self, file: str, bind: str, servers: Mapping[str, str]) -> None:
        program = find_program("haproxy")
        assert program is not None
        self.port = free_port()
        self._directory = temporary_directory("haproxy")
        text = (DEPLOY / file).read_text(encoding="utf-8")
        for place, here in {f"bind {bind}": f"bind 127.0.0.1:{self.port}", **servers}.items():
            assert place in text
            text = text.replace(place, here)
        configuration = self._directory / "haproxy.cfg"
        configuration.write_text(text, encoding="utf-8")

        def ready() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        self._daemon = Daemon.start(
            [program, "-db", "-f", configuration], log=self._directory / "log", ready=ready
        )

    def stop(self) -> None:
        self._daemon.stop()
        remove_directory(self._directory)
