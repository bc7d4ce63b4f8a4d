"""Options that several commands have, and the context in which a command works."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iredapi.config import loading
from iredapi.config.env_names import PREFIX
from iredapi.config.errors import ConfigurationError
from iredapi.config.settings import Settings

if TYPE_CHECKING:
    from iredapi.client.api import Remote
    from iredapi.runtime.context import AppContext

TOKEN = f"{PREFIX}TOKEN"
"""The variable of the environment with the API token for a remote service."""
EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        help=f"Read the settings from this file instead of {loading.ENV_FILE}.",
        readable=False,  # checked when it is loaded, with a better error message
        show_default=False,
    ),
]

Url = Annotated[
    str,
    typer.Option(
        "--url",
        help="The API of a remote service, such as https://HOST/api, instead of the storage that "
        "is configured here. It needs an API token.",
        show_default=False,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help=f"A file with the API token for --url; without it the token is that of {TOKEN}.",
        show_default=False,
    ),
]


def remote_of(url: str, token_file: Path | None) -> Remote | None:
    """Return the remote service of the options; None: there is no --url.

    Raises ConfigurationError.
    """
    if not url:
        if token_file is not None:
            raise ConfigurationError("--token-file: it is for --url")
        return None
    from iredapi.client.api import Remote

    token = os.environ.get(TOKEN, "")
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="ascii")
        except OSError as error:
            raise ConfigurationError(f"{token_file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{token_file}: there is no API token in it") from None
    if not token.strip():
        raise ConfigurationError(f"--url needs an API token: set {TOKEN}, or use --token-file")
    return Remote(url, token.strip())


def run_in_context(
    chosen: Settings, work: Callable[[AppContext], Awaitable[None]], *, changes: bool = True
) -> None:
    """Run ``work`` in an open AppContext. ``changes``: print first which storage is used."""
    from iredapi.observability.logging import configure
    from iredapi.runtime.context import AppContext

    configure("WARNING")
    if changes:  # so that operators notice when it is the wrong server
        typer.echo(f"iredapi: {chosen.describe_storage()}", err=True)

    async def run() -> None:
        async with AppContext.open(chosen) as context:
            await work(context)

    asyncio.run(run())
