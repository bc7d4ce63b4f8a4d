"""``iredapi admin``: standalone admins."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from iredapi.cli.shared_options import EnvFile, run_in_context
from iredapi.config import loading
from iredapi.config.errors import ConfigurationError

if TYPE_CHECKING:
    from iredapi.runtime.context import AppContext

app = typer.Typer(help="Standalone admins.", no_args_is_help=True)

Password = Annotated[
    str | None,
    typer.Option(
        "--password",
        help="Other users of this machine can see it while the command runs. Without this option "
        "the command asks for it, or reads it from standard input.",
        show_default=False,
    ),
]


@app.command("create")
def admin_create(
    mail: Annotated[str, typer.Argument(help="The admin's address; not in a hosted domain.")],
    password: Password = None,
    is_global: Annotated[
        bool, typer.Option("--global/--no-global", help="The admin manages all domains.")
    ] = False,
    name: Annotated[str, typer.Option(help="Display name.", show_default=False)] = "",
    env_file: EnvFile = None,
) -> None:
    """Create a standalone admin."""
    chosen = loading.load(env_file)
    secret = _password(password)

    async def work(context: AppContext) -> None:
        from iredapi.workflows.admins import create_admin

        await create_admin(context, mail, secret, name=name, is_global=is_global)

    run_in_context(chosen, work)
    typer.echo(f"Created {mail}.")


@app.command("password")
def admin_password(
    mail: Annotated[str, typer.Argument(help="The admin's address.")],
    password: Password = None,
    env_file: EnvFile = None,
) -> None:
    """Set a new password. It ends the sessions and API tokens of the admin."""
    chosen = loading.load(env_file)
    secret = _password(password)

    async def work(context: AppContext) -> None:
        from iredapi.workflows.admins import set_admin_password

        await set_admin_password(context, mail, secret)

    run_in_context(chosen, work)
    typer.echo(f"Changed the password of {mail}.")


def _password(given: str | None) -> str:
    """Return the password: as given, asked for twice, or read from standard input."""
    if given is not None:
        return given
    if sys.stdin.isatty():
        answer: str = typer.prompt(
            "Password", hide_input=True, confirmation_prompt="Repeat the password"
        )
        return answer
    line = sys.stdin.readline()
    if not line:
        raise ConfigurationError("no password: standard input is empty and is no terminal")
    return line.rstrip("\r\n")
