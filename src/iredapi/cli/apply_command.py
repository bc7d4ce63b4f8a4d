"""``iredapi apply``: make accounts and policies as a file wants them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iredapi.cli.shared_options import EnvFile, TokenFile, Url, remote_of
from iredapi.config import loading
from iredapi.config.errors import ConfigurationError

if TYPE_CHECKING:
    from iredapi.client.plan import Item, Plan

_CHANGES = 2
"""Exit status of --plan when there is something to do."""
_SIGNS = {"create": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}


def apply(
    file: Annotated[Path, typer.Argument(help="The file, in YAML; see docs/apply.md.")],
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Only show what would be done. Exit status 0: nothing, 2: something."
        ),
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="In the domains of the file, also remove accounts and policies that it does not "
            "name, after a question.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without a question.")] = False,
    url: Url = "",
    token_file: TokenFile = None,
    env_file: EnvFile = None,
) -> None:
    """Make domains, users, aliases, lists and policies as a file wants them.

    Exit status 0: there was nothing to do, or it was done; 1: an error.
    """
    from iredapi.client import desired_state
    from iredapi.client.api import opened
    from iredapi.client.plan import carry_out
    from iredapi.client.policy_plan import PolicyPlanner
    from iredapi.observability.logging import configure

    async def work() -> int:
        remote = remote_of(url, token_file)
        chosen = None if remote else loading.load(env_file)
        desired = desired_state.read(file, os.environ)
        if chosen is not None:
            configure("WARNING")
            typer.echo(f"iredapi: {chosen.describe_storage()}", err=True)
        async with opened(remote, chosen) as api:
            planner = PolicyPlanner(api, desired)
            await planner.accounts()
            await planner.policies()
            if prune:
                await planner.unnamed()
            found = planner.plan
            _show(found)
            if found.errors:
                return _failed(found.errors)
            if plan or not found.items:
                typer.echo(_summary(found, "would be " if plan and found.items else ""))
                return _CHANGES if found.items else 0
            if found.count("remove") and not (yes or _may_remove(found)):
                return 1
            done, failed = await carry_out(api, found.items)
            if failed:
                typer.echo(f"{done} of {len(found.items)} changes")
                return _failed(failed)
            typer.echo(_summary(found, ""))
            return 0

    try:
        status = asyncio.run(work())
    except ConfigurationError as error:
        # Not 2 as for other commands: that would look like changes.
        typer.echo(f"iredapi: {error}", err=True)
        status = 1
    if status:
        raise typer.Exit(status)


def _summary(plan: Plan, would: str) -> str:
    number = len(plan.items)
    text = f"{number} {'change' if number == 1 else 'changes'}"
    if number:
        each = (f"{plan.count(action)} {would}{action}d" for action in _SIGNS)
        text += f": {', '.join(each)}"
    return text


def _failed(errors: Iterable[str]) -> int:
    for error in errors:
        typer.echo(f"iredapi: {error}", err=True)
    return 1


def _may_remove(plan: Plan) -> bool:
    if not sys.stdin.isatty():
        typer.echo("iredapi: nothing was done: --prune removes something; add --yes", err=True)
        return False
    return typer.confirm(f"Remove these {plan.count('remove')}?")


def _show(plan: Plan) -> None:
    from iredapi.client.policy_plan import changes_of

    for item in plan.items:
        sign, color = _SIGNS[item.action]
        typer.echo(_styled(f"{sign} {item.title}", color))
        for change in changes_of(item):
            typer.echo(_styled(f"    {_line(item, change.field, change.old, change.new)}", color))
    for note in plan.notes:
        typer.echo(f"iredapi: {note}", err=True)


def _line(item: Item, field: str, old: Any, new: Any) -> str:
    if item.action == "create" or old is None:
        return f"{field}: {_text(new)}"
    return f"{field}: {_text(old)} → {_text(new)}"


def _text(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return str(value) if value != "" else "nothing"


def _styled(text: str, color: str) -> str:
    """Return a text in colour; as it is where nobody sees colours, or wants them (NO_COLOR)."""
    # Values may have control characters, which a terminal would obey.
    safe = "".join(c if c.isprintable() else "\ufffd" for c in text)
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return safe
    return typer.style(safe, fg=color)
