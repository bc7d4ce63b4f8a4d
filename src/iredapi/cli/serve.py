"""Run the server: open the port, wait for the databases, start uvicorn.

Exit status 3: the application did not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator

import typer
import uvicorn
from pydantic import SecretStr
from uvicorn.supervisors import Multiprocess

from iredapi import __version__
from iredapi.config.errors import ConfigurationError, NotReady
from iredapi.config.settings import Settings
from iredapi.errors import ApiError
from iredapi.observability.logging import configure
from iredapi.runtime import data_lock, graceful_shutdown
from iredapi.runtime.context import AppContext
from iredapi.web import access_log
from iredapi.web.connection_limits import LimitedProtocol, accept_backlog
from iredapi.workflows.admins import ensure_first_admin


def run(chosen: Settings) -> int:
    """Serve until a signal ends it, and return the exit status. Raises ConfigurationError."""
    access_log.check(chosen)
    if chosen.workers == 1:
        import iredapi.app  # noqa: F401 (which uvicorn would import later)
    # What was imported stays: the collection when the application starts need not look at it.
    gc.freeze()
    with _listen(chosen.host, chosen.port) as listener, data_lock.alone(chosen):
        asyncio.run(_wait_until_ready(chosen))
        address = _address(chosen.host, listener)
        typer.echo(f"iredapi {__version__}: {chosen.describe_storage()}")
        typer.echo(f"iredapi {__version__} listens on {address}")
        typer.echo(f"API documentation: {address}/docs")
        sys.stdout.flush()
        _export(chosen)
        config = uvicorn.Config(
            "iredapi.app:from_environment",
            factory=True,
            workers=chosen.workers,
            lifespan="on",
            http=LimitedProtocol,
            backlog=accept_backlog(),
            ws="none",
            log_level=chosen.log_level.lower(),
            # uvicorn's access log has query strings, which may hold a password. Its proxy_headers
            # trusts X-Forwarded-For of local clients, but IREDAPI_TRUSTED_PROXIES decides that.
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=30,
            # Our logs are JSON: see iredapi.observability.logging.
            log_config=None,
        )
        if chosen.workers > 1:
            with _shared_metrics(chosen):
                _Workers(config, [listener], chosen.drain_seconds).run()
            return 0
        graceful_shutdown.LISTENERS.append(listener)
        server = uvicorn.Server(config)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
        return 0 if server.started else 3


@contextlib.contextmanager
def _shared_metrics(chosen: Settings) -> Iterator[None]:
    """Give worker processes a directory in which each finds the metrics of all."""
    if not chosen.has_metrics:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="iredapi-metrics-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        yield


class _Workers(Multiprocess):
    """uvicorn's supervisor of worker processes, which closes the port when they have drained it.

    See ``iredapi.runtime.graceful_shutdown``.
    """

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], seconds: float
    ) -> None:
        super().__init__(config, sockets)
        self._seconds = seconds

    def terminate_all(self) -> None:
        super().terminate_all()
        time.sleep(self._seconds)
        for listener in self.sockets:
            graceful_shutdown.drop_new_connections(listener)
            # Otherwise connections would wait in a queue from which nothing is accepted any more.
            listener.close()


async def _wait_until_ready(chosen: Settings) -> None:
    """Wait for databases that cannot be reached, and print which. Raises NotReady at the end."""
    deadline = time.monotonic() + chosen.start_timeout
    printed = ""
    while True:
        try:
            await _prepare(chosen)
        except NotReady as error:
            if time.monotonic() >= deadline:
                raise
            if str(error) != printed:
                printed = str(error)
                typer.echo(f"iredapi: waiting: {printed}", err=True)
            await asyncio.sleep(min(1.0, max(deadline - time.monotonic(), 0.0)))
        else:
            return


def _listen(host: str, port: int) -> socket.socket:
    """Open the port first, so that a second server ends before it changes anything."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = found[0]
        both = host == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server(
            address[:2],
            family=family,
            backlog=2048,
            dualstack_ipv6=both,
        )
    except socket.gaierror:
        raise ConfigurationError(
            f"IREDAPI_HOST: {host} is not an address of this machine"
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"port {port} on {host} is in use by another program: stop that one, or choose "
                "another port with IREDAPI_PORT or --port (0: any free one)"
            ) from None
        if error.errno == errno.EACCES:
            raise ConfigurationError(
                f"IREDAPI_PORT: no permission to listen on port {port}; ports from 1024 upwards "
                "need none"
            ) from None
        raise ConfigurationError(
            f"IREDAPI_HOST, IREDAPI_PORT: cannot listen on {host}, port {port}: {error.strerror}"
        ) from None
    # Accepted connections inherit it. asyncio does not set it on a socket that it was given.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.set_inheritable(True)
    return listener


def _address(host: str, listener: socket.socket) -> str:
    """Return the URL of the server, with the actual port when port 0 was asked for."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


async def _prepare(chosen: Settings) -> None:
    """Open all databases once, so that errors are reported here instead of in a traceback."""
    configure("WARNING")
    async with AppContext.open(chosen) as context:
        if not chosen.embedded:
            return
        try:
            first = await ensure_first_admin(context)
        except ApiError as error:
            about_password = any(item.param == "password" for item in error.errors)
            name = "IREDAPI_ADMIN_PASSWORD" if about_password else "IREDAPI_ADMIN"
            details = "; ".join(item.detail or item.code for item in error.errors)
            raise ConfigurationError(f"{name}: {details or error.detail} ({error.code})") from None
    if first.password is None:
        typer.echo("A global admin exists already; its password is not printed again.")
    elif chosen.admin_password.get_secret_value():
        typer.echo(f"First admin: {first.mail} (with the password of IREDAPI_ADMIN_PASSWORD)")
    else:
        typer.echo(f"First admin: {first.mail}")
        typer.echo(f"Its password (it cannot be printed again): {first.password}")
    sys.stdout.flush()


def _export(chosen: Settings) -> None:
    """Export every setting to the environment, from which worker processes load them."""
    for name in type(chosen).model_fields:
        value = getattr(chosen, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        os.environ[f"IREDAPI_{name.upper()}"] = (
            json.dumps(value) if isinstance(value, list) else str(value)
        )
