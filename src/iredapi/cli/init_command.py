"""``iredapi init``: write the env file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from iredapi import __version__
from iredapi.config import env_file, import_iredadmin, loading
from iredapi.config.errors import ConfigurationError
from iredapi.config.host_programs import Host


def _url_option(name: str) -> Any:
    return typer.Option(f"--{name}-url", help=f"IREDAPI_{name.upper()}_URL", show_default=False)


def init(
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
    ] = loading.ENV_FILE,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    vmail_url: Annotated[str | None, _url_option("vmail")] = None,
    amavisd_url: Annotated[str | None, _url_option("amavisd")] = None,
    iredapd_url: Annotated[str | None, _url_option("iredapd")] = None,
    iredadmin_url: Annotated[str | None, _url_option("iredadmin")] = None,
    state_url: Annotated[str | None, _url_option("state")] = None,
) -> None:
    """Write the env file: from iRedAdmin's settings, from options, or from your answers."""
    loading.check_names(replaced=output)
    options = {
        "IREDAPI_VMAIL_URL": vmail_url,
        "IREDAPI_AMAVISD_URL": amavisd_url,
        "IREDAPI_IREDAPD_URL": iredapd_url,
        "IREDAPI_IREDADMIN_URL": iredadmin_url,
        "IREDAPI_STATE_URL": state_url,
    }
    given = {name: url for name, url in options.items() if url is not None}
    if not force:
        env_file.check_replaceable(output)
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
    host = Host()
    if choice := import_iredadmin.password_check(values, host.dovecot()):
        values["IREDAPI_LDAP_PASSWORD_CHECK"] = choice
    heading += "\nEvery setting: iredapi docs configuration"
    env_file.write(output, values, heading=heading, force=force)
    for warning in warnings:
        typer.echo(f"Note: {warning}", err=True)
    readers = "its owner and its group" if output.stat().st_mode & 0o040 else "its owner"
    typer.echo(f"Wrote {output} (readable by {readers} only).")
    for line in import_iredadmin.found_on(host):
        typer.echo(line)
    if values.get("IREDAPI_BACKEND") == "ldap" or "IREDAPI_VMAIL_URL" in values:
        typer.echo("These are answered 501 with this configuration:")
        for line in import_iredadmin.not_served(values):
            typer.echo(f"  - {line}")
        typer.echo("Next steps:")
        for number, step in enumerate(import_iredadmin.next_steps(output, values), 1):
            typer.echo(f"  {number}. {step}")


def _ask(given: dict[str, str]) -> dict[str, str]:
    """Ask for the values that were not given as options."""
    found = next((str(path) for path in import_iredadmin.USUAL_PLACES if path.is_file()), None)
    if found is not None:
        typer.echo(
            f"iRedAdmin is installed: --from-iredadmin {found} takes all of this from there."
        )
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
            break  # the embedded default includes all five databases
    return values
