"""The command ``iredapi``: ``serve``, ``init``, ``doctor``, ``openapi``, ``docs`` and so on.

The modules of this package only parse options, and print. A wrong configuration ends with one
sentence and exit status 2; an ApiError ends with its code and exit status 1. There is no traceback.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from iredapi import errors
from iredapi.cli import VERSION, admin_commands, token_commands
from iredapi.cli.apply_command import apply
from iredapi.cli.dns_command import dns
from iredapi.cli.doctor_command import doctor
from iredapi.cli.events_command import events
from iredapi.cli.export_command import export
from iredapi.cli.import_command import import_
from iredapi.cli.init_command import init
from iredapi.cli.shared_options import EnvFile
from iredapi.config import loading
from iredapi.config.errors import ConfigurationError
from iredapi.config.ldap_settings import Backend
from iredapi.config.settings import Settings


class _Commands(TyperGroup):
    """A command group that prints our errors to stderr and sets the exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            typer.echo(f"iredapi: {error}", err=True)
            raise typer.Exit(error.status) from None
        except errors.ApiError as error:
            # The same code and text as in an answer of the API.
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
app.add_typer(admin_commands.app, name="admin")
app.add_typer(token_commands.app, name="token")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    """The open, async HTTP API for iRedMail servers."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="IREDAPI_HOST", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option(help="IREDAPI_PORT; 0: any free port.", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="IREDAPI_WORKERS", show_default=False)] = None,
    env_file: EnvFile = None,
) -> None:
    """Run the API server. Without configuration it uses SQLite databases of its own."""
    given = {"host": host, "port": port, "workers": workers}
    chosen = loading.load(env_file, **{k: v for k, v in given.items() if v is not None})
    from iredapi.cli.serve import run

    status = run(chosen)
    if status:
        raise typer.Exit(status)


app.command()(init)


@app.command()
def openapi(
    view: Annotated[
        str, typer.Option(help="canonical or native: answers of one shape, for generated clients.")
    ] = "",
) -> None:
    """Print the OpenAPI document as JSON; no server or database is needed."""
    from iredapi.app import create_app
    from iredapi.web.openapi_document import View, variant

    if view not in set(View):
        raise ConfigurationError(f"--view: {View.CANONICAL} or {View.NATIVE}, not {view}")

    try:
        # An env file without read permission is ignored: the document needs no secrets.
        chosen = Settings(_env_file=loading.check_names(optional=True))
    except ValidationError as error:
        raise ConfigurationError(loading.explain(error)) from None
    document = create_app(chosen).openapi()
    if view:
        document = variant(document, view=View(view), on_ldap=chosen.backend is Backend.LDAP)
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


class Document(StrEnum):
    """Pages that ``docs`` can print."""

    CONFIGURATION = "configuration"
    DOCTOR = "doctor"
    ERRORS = "errors"


@app.command()
def docs(document: Annotated[Document, typer.Argument(help="Name of the page.")]) -> None:
    """Print a generated page of the documentation, in Markdown."""
    loading.check_names(optional=True)
    from iredapi.doctor import findings
    from iredapi.web import errors_page

    pages = {
        Document.CONFIGURATION: loading.document,
        Document.DOCTOR: findings.document,
        Document.ERRORS: errors_page.document,
    }
    typer.echo(pages[document](), nl=False)


class LdapSchema(StrEnum):
    """Schema files that ``ldap-schema`` can print."""

    AMAVIS = "amavis"
    IREDMAIL = "iredmail"


@app.command()
def ldap_schema(schema: Annotated[LdapSchema, typer.Argument(help="Name of the schema.")]) -> None:
    """Print an OpenLDAP schema file. A new server needs both files, `amavis` first."""
    loading.check_names(optional=True)
    from iredapi.backends.ldap.schema_definitions import openldap

    typer.echo(openldap(schema), nl=False)


app.command()(dns)
app.command()(events)
app.command()(doctor)
app.command()(export)
app.command()(apply)
app.command("import")(import_)


def main() -> None:
    """Run the command line."""
    app()
