"""``iredapi export``: domains with all their accounts and policies, to be imported anywhere."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from iredapi.cli.shared_options import EnvFile, TokenFile, Url, remote_of, run_in_context
from iredapi.config import loading
from iredapi.config.errors import ConfigurationError

if TYPE_CHECKING:
    from iredapi.runtime.context import AppContext


def export(
    domains: Annotated[
        list[str] | None,
        typer.Argument(help="Only these domains; without any, everything.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write to this file, not to standard output.", show_default=False),
    ] = None,
    url: Url = "",
    token_file: TokenFile = None,
    env_file: EnvFile = None,
) -> None:
    """Export domains, accounts and policies as NDJSON: one JSON object in each line."""
    remote = remote_of(url, token_file)
    names = [*dict.fromkeys(domains or [""])]
    target = _Target(output)
    try:
        if remote is not None:
            import asyncio

            from iredapi.client.exporting import lines_of

            asyncio.run(_write(target, lines_of(remote, names)))
        else:
            chosen = loading.load(env_file)

            async def work(context: AppContext) -> None:
                await _write(target, _local(context, names))

            run_in_context(chosen, work, changes=False)
        target.end()
    finally:
        target.discard()


async def _local(context: AppContext, names: list[str]) -> AsyncIterator[bytes]:
    import orjson

    from iredapi.domain.actors import SYSTEM
    from iredapi.domain.addresses import fold
    from iredapi.errors import NotFound
    from iredapi.workflows import exports

    for name in names:
        try:
            async for page in exports.pages(context, SYSTEM, fold(name)):
                for record in page:
                    yield orjson.dumps(record)
        except NotFound as error:
            raise NotFound(error.code, f"There is no mail domain {name}.") from None


async def _write(target: _Target, lines: AsyncIterator[bytes]) -> None:
    async for line in lines:
        target.write(line)


class _Target:
    """Where the lines go: a file that is there only when it is whole, or standard output."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._unfinished = path and path.with_name(f".{path.name}.{os.getpid()}.part")
        self._shows = sys.stderr.isatty()
        self._records = self._users = self._hashes = 0
        self._stream: BinaryIO = sys.stdout.buffer
        if self._unfinished:
            try:
                # Hashes of passwords may be in it.
                number = os.open(self._unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except OSError as error:
                raise ConfigurationError(f"--output: {path}: {error.strerror}") from None
            self._stream = os.fdopen(number, "wb")

    def write(self, line: bytes) -> None:
        """Write a line, and from time to time how many there are."""
        self._stream.write(line + b"\n")
        self._records += 1
        if line.startswith((b'{"type":"user"', b'{"type":"admin"')):
            self._users += 1
            self._hashes += b'"password_hash":' in line
        if self._shows and self._records % 500 == 0:
            typer.echo(f"\r{self._records:,} records", nl=False, err=True)

    def end(self) -> None:
        """Put the file in its place, and say what is in it."""
        self._stream.flush()
        if self._unfinished and self._path:
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._unfinished.replace(self._path)
        typer.echo(f"{chr(13) if self._shows else ''}{self._records:,} records", err=True)
        if self._users and not self._hashes:
            typer.echo(
                "iredapi: without hashes of passwords, because the server hides them "
                "(IREDAPI_HIDDEN_USER_FIELDS, IREDAPI_HIDDEN_ADMIN_FIELDS) or the token is limited",
                err=True,
            )

    def discard(self) -> None:
        """Remove a file that is not whole."""
        if self._unfinished:
            with suppress(OSError):
                self._stream.close()
            self._unfinished.unlink(missing_ok=True)
