"""``iredapi events``: changes as they are made, for an operator."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from iredapi.cli.shared_options import EnvFile, run_in_context
from iredapi.config import loading

if TYPE_CHECKING:
    from iredapi.runtime.context import AppContext

_SECONDS = 0.5
_PAGE = 500


def events(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for further events, until it is ended.")
    ] = False,
    env_file: EnvFile = None,
) -> None:
    """Print the events that are kept, one JSON object in each line; see docs/events.md."""
    chosen = loading.load(env_file)

    async def work(context: AppContext) -> None:
        import orjson

        from iredapi.errors import ApiError

        if not context.outbox.wanted:
            raise ApiError("EVENTS_NOT_KEPT")
        after = 0
        while True:
            found = await context.state.events.read(after, _PAGE)
            for event in found:
                sys.stdout.buffer.write(orjson.dumps(event.to_response()) + b"\n")
                after = event.position
            sys.stdout.flush()
            if len(found) < _PAGE:
                if not follow:
                    return
                await asyncio.sleep(_SECONDS)

    # The program that reads the lines may end first.
    with suppress(KeyboardInterrupt, BrokenPipeError):
        run_in_context(chosen, work, changes=False)
