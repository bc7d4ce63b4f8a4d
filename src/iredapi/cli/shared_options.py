"""Options that several commands have, and the context in which a command works."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iredapi.config import loading
from iredapi.config.settings import Settings

if TYPE_CHECKING:
    from iredapi.runtime.context import AppContext

EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        help=f"Read the settings from this file instead of {loading.ENV_FILE}.",
        readable=False,  # checked when it is loaded, with a better error message
        show_default=False,
    ),
]


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
