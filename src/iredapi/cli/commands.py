"""The command line: ``serve``, ``init``, ``openapi``, ``admin``, ``docs``, ``doctor`` and so on.

Never work of its own: accounts are the business of ``iredapi.runtime.context``, the env file
that of ``iredapi.config.import_iredadmin``. A wrong configuration ends with one sentence and exit
status 2, a refusal of the office with its code and exit status 1; neither shows a traceback.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from iredapi import __version__, errors
from iredapi.config import env_file as writing
from iredapi.config import import_iredadmin, loading
from iredapi.config.errors import ConfigurationError
from iredapi.config.settings import Settings

if TYPE_CHECKING:
    from iredapi.runtime.context import AppContext

DEFAULT_OUTPUT = loading.ENV_FILE


class _Commands(TyperGroup):
    """Turns our errors into a sentence on stderr and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            typer.echo(f"iredapi: {error}", err=True)
            raise typer.Exit(error.status) from None
        except errors.ApiError as error:
            # The same code and sentence that the API gives.
            details = [error.detail] if error.detail else []
            details += [f"{item.param}: {item.detail or item.code}" for item in error.errors]
            typer.echo(f"{error.code}: {'; '.join(details)}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Commands,
    name="iredapi",
    help="The open, async HTTP API for iRedMail servers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
admins = typer.Typer(help="Standalone admins.", no_args_is_help=True)
app.add_typer(admins, name="admin")
tokens = typer.Typer(help="API tokens.", no_args_is_help=True)
app.add_typer(tokens, name="token")

EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        help=f"Read the settings from this file instead of {loading.ENV_FILE}.",
        readable=False,  # whether it is, is said by us
        show_default=False,
    ),
]
Password = Annotated[
    str | None,
    typer.Option(
        "--password",
        help="Other users of this machine can see it while the command runs: leave it out to be "
        "asked for it, or write it to standard input.",
        show_default=False,
    ),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"iredapi {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=_show_version,
        ),
    ] = False,
) -> None:
    """The open, async HTTP API for iRedMail servers."""


# serve -----------------------------------------------------------------------------------------


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="IREDAPI_HOST", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option(help="IREDAPI_PORT; 0: any free one.", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="IREDAPI_WORKERS", show_default=False)] = None,
    env_file: EnvFile = None,
) -> None:
    """Run the API server. Without any configuration: with SQLite databases of its own."""
    given = {"host": host, "port": port, "workers": workers}
    chosen = loading.load(env_file, **{k: v for k, v in given.items() if v is not None})
    from iredapi.cli.serve import run

    status = run(chosen)
    if status:
        raise typer.Exit(status)


# init ------------------------------------------------------------------------------------------


def _url_option(name: str) -> Any:
    return typer.Option(f"--{name}-url", help=f"IREDAPI_{name.upper()}_URL", show_default=False)


@app.command("init")
def init_command(
    from_iredadmin: Annotated[
        Path | None,
        typer.Option(
            "--from-iredadmin",
            help="iRedAdmin's settings.py, for example /opt/www/iredadmin/settings.py.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", help="The env file to write.")
    ] = DEFAULT_OUTPUT,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
    vmail_url: Annotated[str | None, _url_option("vmail")] = None,
    amavisd_url: Annotated[str | None, _url_option("amavisd")] = None,
    iredapd_url: Annotated[str | None, _url_option("iredapd")] = None,
    iredadmin_url: Annotated[str | None, _url_option("iredadmin")] = None,
    state_url: Annotated[str | None, _url_option("state")] = None,
) -> None:
    """Write the configuration: from an existing iRedAdmin, from options, or by asking."""
    loading.check_names(replaced=output)
    options = {
        "IREDAPI_VMAIL_URL": vmail_url,
        "IREDAPI_AMAVISD_URL": amavisd_url,
        "IREDAPI_IREDAPD_URL": iredapd_url,
        "IREDAPI_IREDADMIN_URL": iredadmin_url,
        "IREDAPI_STATE_URL": state_url,
    }
    given = {name: url for name, url in options.items() if url is not None}
    if os.path.lexists(output) and not force:
        raise ConfigurationError(f"{output}: exists already; --force writes over it")
    values: dict[str, str] = {}
    warnings: list[str] = []
    heading = f"Written by iredapi {__version__} init"
    if from_iredadmin is not None:
        values, warnings = import_iredadmin.configuration(
            import_iredadmin.read_iredadmin(from_iredadmin)
        )
        heading += f" from {from_iredadmin}"
    elif "IREDAPI_VMAIL_URL" in given:
        values = {"IREDAPI_DATA_DIR": import_iredadmin.DATA_DIR}
    elif sys.stdin.isatty():
        values = _ask(given)
        given = {}
    else:
        raise ConfigurationError(
            "nothing to write: give --from-iredadmin or --vmail-url, or run this in a terminal"
        )
    values |= given
    heading += "\nEvery setting: iredapi docs configuration"
    writing.write(output, values, heading=heading, force=force)
    for warning in warnings:
        typer.echo(f"Note: {warning}", err=True)
    typer.echo(f"Wrote {output} (readable by its owner only).")
    if values.get("IREDAPI_BACKEND") == "ldap" or "IREDAPI_VMAIL_URL" in values:
        typer.echo("Answered 501 with this configuration:")
        for line in import_iredadmin.not_served(values):
            typer.echo(f"  - {line}")
        typer.echo("Next steps:")
        for number, step in enumerate(import_iredadmin.next_steps(output, values), 1):
            typer.echo(f"  {number}. {step}")


def _ask(given: dict[str, str]) -> dict[str, str]:
    """Ask for what the options did not say."""
    found = next((str(path) for path in import_iredadmin.USUAL_PLACES if path.is_file()), None)
    if found is not None:
        typer.echo(f"There is an iRedAdmin: --from-iredadmin {found} would answer all of this.")
    typer.echo("A database URL looks like postgresql://user:password@127.0.0.1/vmail or mysql://…")
    typer.echo("(special characters of a password as %XX). Empty: not used.")
    questions = {
        "IREDAPI_VMAIL_URL": "Accounts, database vmail (empty: SQLite databases of our own)",
        "IREDAPI_AMAVISD_URL": "Database amavisd",
        "IREDAPI_IREDAPD_URL": "Database iredapd",
        "IREDAPI_IREDADMIN_URL": "Database iredadmin",
        "IREDAPI_STATE_URL": "Our own database (empty: a SQLite file in the data directory)",
    }
    values = {
        "IREDAPI_DATA_DIR": typer.prompt(
            "Directory for our own files", default=import_iredadmin.DATA_DIR
        )
    }
    for name, question in questions.items():
        answer = given.get(name)
        if answer is None:
            answer = typer.prompt(question, default="", show_default=False)
        if answer.strip():
            values[name] = answer.strip()
        elif name == "IREDAPI_VMAIL_URL":
            break  # the embedded default brings all five
    return values


# openapi, docs ---------------------------------------------------------------------------------


@app.command()
def openapi() -> None:
    """Print the OpenAPI document as JSON; needs neither a server nor a database."""
    from iredapi.app import create_app

    try:
        # The env file is not everybody's to read.
        chosen = Settings(_env_file=loading.check_names(optional=True))
    except ValidationError as error:
        raise ConfigurationError(loading.explain(error)) from None
    document = create_app(chosen).openapi()
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


class Document(StrEnum):
    """What ``docs`` can print."""

    CONFIGURATION = "configuration"
    DOCTOR = "doctor"
    ERRORS = "errors"


@app.command()
def docs(document: Annotated[Document, typer.Argument(help="Which one.")]) -> None:
    """Print a generated page of the documentation, in Markdown."""
    loading.check_names(optional=True)
    from iredapi.doctor import findings

    pages = {
        Document.CONFIGURATION: loading.document,
        Document.DOCTOR: findings.document,
        Document.ERRORS: errors.document,
    }
    typer.echo(pages[document](), nl=False)


class LdapSchema(StrEnum):
    """What ``ldap-schema`` can print."""

    AMAVIS = "amavis"
    IREDMAIL = "iredmail"


@app.command()
def ldap_schema(schema: Annotated[LdapSchema, typer.Argument(help="Which one.")]) -> None:
    """Print a schema file for a new OpenLDAP server; both are needed, `amavis` first."""
    loading.check_names(optional=True)
    from iredapi.backends.ldap.schema_definitions import openldap

    typer.echo(openldap(schema), nl=False)


# doctor ----------------------------------------------------------------------------------------


@app.command()
def doctor(
    fix: Annotated[
        bool,
        typer.Option("--fix/--dry-run", help="Repair what has one right answer, or only look."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="This code only; may be repeated.")
    ] = None,
    most: Annotated[int, typer.Option("--most", help="Name so many findings of each code.")] = 20,
    remove_strays: Annotated[
        int,
        typer.Option(
            "--remove-strays",
            help="With --fix: remove up to so many rows of each table, even when the account "
            "storage holds no domain or much of a table would go.",
            min=0,
        ),
    ] = 0,
    removed_to: Annotated[
        Path | None,
        typer.Option(
            "--removed-to",
            help="Write what --fix removes to files in this directory, not IREDAPI_DATA_DIR.",
            show_default=False,
        ),
    ] = None,
    named: Annotated[
        list[str] | None,
        typer.Option(
            "--named",
            help="With --fix: also remove what has this subject, of checks that say so; may be "
            "repeated.",
            show_default=False,
        ),
    ] = None,
    env_file: EnvFile = None,
) -> None:
    """Examine all databases for what is wrong; exit status 0: nothing, 1: something."""
    chosen = loading.load(env_file)
    from iredapi.doctor.removals import Removals
    from iredapi.doctor.report import Json, Text
    from iredapi.doctor.runner import Examination
    from iredapi.observability.logging import configure

    configure("WARNING")
    removals = Removals((removed_to or chosen.data_dir).absolute(), most=remove_strays)
    examination = Examination(
        chosen, fix=fix, only=only or [], removals=removals, named=named or []
    )
    typer.echo(f"iredapi: {chosen.describe_storage()}", err=True)
    report: Json | Text
    if as_json:
        report = Json(lambda piece: typer.echo(piece, nl=False))
    else:
        report = Text(typer.echo, most=most, fix=fix)
    result = asyncio.run(examination.run(report.add))
    report.end(result, removals.files)
    if result.status:
        raise typer.Exit(result.status)


# admin -----------------------------------------------------------------------------------------


@admins.command("create")
def admin_create(
    mail: Annotated[str, typer.Argument(help="The admin's address; not in a hosted domain.")],
    password: Password = None,
    is_global: Annotated[
        bool, typer.Option("--global/--no-global", help="Manages every domain.")
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

    _in_context(chosen, work)
    typer.echo(f"Created {mail}.")


@admins.command("password")
def admin_password(
    mail: Annotated[str, typer.Argument(help="The admin's address.")],
    password: Password = None,
    env_file: EnvFile = None,
) -> None:
    """Set a new password; the admin's sessions and API tokens end."""
    chosen = loading.load(env_file)
    secret = _password(password)

    async def work(context: AppContext) -> None:
        from iredapi.workflows.admins import set_admin_password

        await set_admin_password(context, mail, secret)

    _in_context(chosen, work)
    typer.echo(f"Changed the password of {mail}.")


# token -----------------------------------------------------------------------------------------

TokenId = Annotated[str, typer.Argument(help="The token's id, as `iredapi token list` shows it.")]


@tokens.command("create")
def token_create(
    owner: Annotated[str, typer.Argument(help="The admin whose rights it has.")],
    label: Annotated[str, typer.Option(help="What it is for.")],
    days: Annotated[
        int | None, typer.Option(help="Days until it expires.", show_default=False)
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="It may change nothing.")] = False,
    domains: Annotated[
        str, typer.Option(help="Only for these domains, separated by commas.", show_default=False)
    ] = "",
    networks: Annotated[
        str, typer.Option(help="Only from these addresses and networks.", show_default=False)
    ] = "",
    env_file: EnvFile = None,
) -> None:
    """Make an API token and print it: it is shown only this once."""
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
        typer.echo(f"Token {token.id} of {token.owner}, shown only this once:")
        typer.echo(secret)

    _in_context(chosen, work)


@tokens.command("list")
def token_list(
    owner: Annotated[str, typer.Argument(help="Only this admin's.", show_default=False)] = "",
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

    _in_context(chosen, work, changes=False)


@tokens.command("rotate")
def token_rotate(
    token_id: TokenId,
    overlap: Annotated[
        int, typer.Option(help="Seconds for which the old secret works on.", min=0, max=604800)
    ] = 0,
    env_file: EnvFile = None,
) -> None:
    """Give an API token a new secret and print it: it is shown only this once."""
    from iredapi.auth import tokens as api_tokens
    from iredapi.domain.actors import SYSTEM

    chosen = loading.load(env_file)

    async def work(context: AppContext) -> None:
        token = await context.state.tokens.get(token_id)
        if token is None:
            raise errors.NotFound("NO_SUCH_TOKEN")
        token, secret = await api_tokens.rotate(context, SYSTEM, token, overlap)
        typer.echo(f"Token {token.id} of {token.owner}, shown only this once:")
        typer.echo(secret)

    _in_context(chosen, work)


@tokens.command("revoke")
def token_revoke(token_id: TokenId, env_file: EnvFile = None) -> None:
    """End an API token."""
    from iredapi.auth import tokens as api_tokens
    from iredapi.domain.actors import SYSTEM

    chosen = loading.load(env_file)

    async def work(context: AppContext) -> None:
        token = await context.state.tokens.get(token_id)
        if token is None:
            raise errors.NotFound("NO_SUCH_TOKEN")
        await api_tokens.revoke(context, SYSTEM, token)

    _in_context(chosen, work)
    typer.echo(f"Revoked {token_id}.")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _in_context(
    chosen: Settings, work: Callable[[AppContext], Awaitable[None]], *, changes: bool = True
) -> None:
    from iredapi.observability.logging import configure
    from iredapi.runtime.context import AppContext

    configure("WARNING")
    if changes:  # a change that was meant for another server is noticed
        typer.echo(f"iredapi: {chosen.describe_storage()}", err=True)

    async def run() -> None:
        async with AppContext.open(chosen) as context:
            await work(context)

    asyncio.run(run())


def _password(given: str | None) -> str:
    """Return the password: as given, asked for twice, or a line of standard input."""
    if given is not None:
        return given
    if sys.stdin.isatty():
        answer: str = typer.prompt(
            "Password", hide_input=True, confirmation_prompt="The same again"
        )
        return answer
    line = sys.stdin.readline()
    if not line:
        raise ConfigurationError("no password: standard input is empty and no terminal")
    return line.rstrip("\r\n")


def main() -> None:
    """Run the command line."""
    app()
