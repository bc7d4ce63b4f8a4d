"""``iredapi token``: API tokens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from iredapi import errors
from iredapi.cli.shared_options import EnvFile, run_in_context
from iredapi.config import loading

if TYPE_CHECKING:
    from iredapi.runtime.context import AppContext

app = typer.Typer(help="API tokens.", no_args_is_help=True)

TokenId = Annotated[str, typer.Argument(help="Id of the token, as in `iredapi token list`.")]


@app.command("create")
def token_create(
    owner: Annotated[str, typer.Argument(help="The admin whose rights the token has.")],
    label: Annotated[str, typer.Option(help="Purpose of the token.")],
    days: Annotated[
        int | None, typer.Option(help="Days until it expires.", show_default=False)
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="The token may only read.")
    ] = False,
    domains: Annotated[
        str, typer.Option(help="Only for these domains, separated by commas.", show_default=False)
    ] = "",
    networks: Annotated[
        str, typer.Option(help="Only from these addresses and networks.", show_default=False)
    ] = "",
    env_file: EnvFile = None,
) -> None:
    """Create an API token and print it. It cannot be printed again."""
    from iredapi.auth import tokens as api_tokens
    from iredapi.schemas.tokens import NewToken

    chosen = loading.load(env_file)
    sent: dict[str, str | list[str]] = {"label": label, "readOnly": "yes" if read_only else "no"}
    sent |= {"days": str(days)} if days is not None else {}
    sent |= {"domains": domains} if domains else {}
    sent |= {"networks": networks} if networks else {}
    wish = NewToken.read(sent).wish()

    async def work(context: AppContext) -> None:
        token, secret = await api_tokens.create_for(context, owner, wish)
        typer.echo(f"Token {token.id} of {token.owner} (it cannot be printed again):")
        typer.echo(secret)

    run_in_context(chosen, work)


@app.command("list")
def token_list(
    owner: Annotated[
        str, typer.Argument(help="Only the tokens of this admin.", show_default=False)
    ] = "",
    env_file: EnvFile = None,
) -> None:
    """List API tokens."""
    chosen = loading.load(env_file)

    async def work(context: AppContext) -> None:
        for token in await context.state.tokens.list(owner.strip().lower()):
            grant = token.grant
            limits = ["read-only"] if grant.read_only else []
            limits += [] if grant.domains is None else ["for", *sorted(grant.domains)]
            limits += ["from", *sorted(grant.networks)] if grant.networks else []
            expires = "never" if grant.expires is None else _moment(grant.expires)
            used = "never" if token.used is None else _moment(token.used)
            typer.echo(
                f"{token.id}  {token.hint}…  {token.owner}  {token.label!r}  expires {expires}, "
                f"last used {used}  {' '.join(limits)}".rstrip()
            )

    run_in_context(chosen, work, changes=False)


@app.command("rotate")
def token_rotate(
    token_id: TokenId,
    overlap: Annotated[
        int, typer.Option(help="Seconds for which the old secret stays valid.", min=0, max=604800)
    ] = 0,
    env_file: EnvFile = None,
) -> None:
    """Replace the secret of an API token and print it. It cannot be printed again."""
    from iredapi.auth import tokens as api_tokens
    from iredapi.domain.actors import SYSTEM

    chosen = loading.load(env_file)

    async def work(context: AppContext) -> None:
        token = await context.state.tokens.get(token_id)
        if token is None:
            raise errors.NotFound("NO_SUCH_TOKEN")
        token, secret = await api_tokens.rotate(context, SYSTEM, token, overlap)
        typer.echo(f"Token {token.id} of {token.owner} (it cannot be printed again):")
        typer.echo(secret)

    run_in_context(chosen, work)


@app.command("revoke")
def token_revoke(token_id: TokenId, env_file: EnvFile = None) -> None:
    """Revoke an API token."""
    from iredapi.auth import tokens as api_tokens
    from iredapi.domain.actors import SYSTEM

    chosen = loading.load(env_file)

    async def work(context: AppContext) -> None:
        token = await context.state.tokens.get(token_id)
        if token is None:
            raise errors.NotFound("NO_SUCH_TOKEN")
        await api_tokens.revoke(context, SYSTEM, token)

    run_in_context(chosen, work)
    typer.echo(f"Revoked {token_id}.")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
