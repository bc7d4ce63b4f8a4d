"""Debian's nginx in front of replicas, with the configuration of deploy/."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.servers.process import (
    Daemon,
    find_program,
    free_port,
    is_root,
    remove_directory,
    temporary_directory,
)

_CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{replicas}
    server {{
        listen 127.0.0.1:{port};
{locations}
    }}
}}
"""
_DEPLOY = Path(__file__).parents[2] / "deploy"


def _replicas(ports: Sequence[int]) -> str:
    """deploy/nginx-replicas.conf, with the replicas of the test in place of its examples."""
    text = (_DEPLOY / "nginx-replicas.conf").read_text(encoding="utf-8")
    found = re.search(r"( *server )\S+( .*;\n)( *server .*;\n)+", text)
    assert found is not None
    servers = "".join(f"{found[1]}127.0.0.1:{port}{found[2]}" for port in ports)
    return text.replace(found[0], servers)


def _locations() -> str:
    text = (_DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    return text.replace("proxy_pass http://127.0.0.1:8000;", "proxy_pass http://iredapi;")


def missing() -> str | None:
    """Why there can be no nginx here, or None."""
    return None if find_program("nginx") else "nginx is not installed"


class Nginx:
    """Listens on ``address`` and distributes requests to the ports given."""

    def __init__(self, ports: Sequence[int]) -> None:
        program = find_program("nginx")
        assert program is not None
        self._directory = temporary_directory("nginx", "www-data" if is_root() else None)
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        configuration = self._directory / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                user="user www-data;" if is_root() else "",
                directory=self._directory,
                replicas=_replicas(ports),
                locations=_locations(),
                port=port,
            ),
            encoding="utf-8",
        )

        def ready() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self._daemon = Daemon.start(
            [program, "-p", self._directory, "-c", configuration],
            log=self._directory / "output",
            ready=ready,
        )

    @property
    def errors(self) -> str:
        """What it complains about."""
        path = Path(self._directory) / "error.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """Stop it."""
        self._daemon.stop()
        remove_directory(self._directory)
