"""``iredapi doctor``: examine the databases."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from iredapi.cli.shared_options import EnvFile
from iredapi.config import loading
from iredapi.config.host_programs import Host


def doctor(
    fix: Annotated[
        bool,
        typer.Option(
            "--fix/--dry-run",
            help="Repair findings that have exactly one right repair, or only report them.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Check this code only; may be repeated.")
    ] = None,
    most: Annotated[
        int, typer.Option("--most", help="Print at most this many findings of each code.")
    ] = 20,
    remove_strays: Annotated[
        int,
        typer.Option(
            "--remove-strays",
            help="With --fix: remove up to this many rows of each table, even when the account "
            "storage holds no domain or a large part of a table would be removed.",
            min=0,
        ),
    ] = 0,
    removed_to: Annotated[
        Path | None,
        typer.Option(
            "--removed-to",
            help="Save the rows that --fix removes to files in this directory, not "
            "IREDAPI_DATA_DIR.",
            show_default=False,
        ),
    ] = None,
    named: Annotated[
        list[str] | None,
        typer.Option(
            "--named",
            help="With --fix: also remove rows with this subject, where the check allows it; may "
            "be repeated.",
            show_default=False,
        ),
    ] = None,
    env_file: EnvFile = None,
) -> None:
    """Check all databases for inconsistent data. See docs/doctor.md for the exit status."""
    chosen = loading.load(env_file)
    host = Host()
    from iredapi.doctor import versions
    from iredapi.doctor.removals import Removals
    from iredapi.doctor.report import Json, Text
    from iredapi.doctor.runner import Examination
    from iredapi.observability.logging import configure

    configure("WARNING")
    removals = Removals((removed_to or chosen.data_dir).absolute(), most=remove_strays)
    examination = Examination(
        chosen, fix=fix, only=only or [], removals=removals, named=named or [],
        dovecot=host.dovecot(),
    )  # fmt: skip
    typer.echo(f"iredapi: {chosen.describe_storage()}", err=True)
    found = versions.of_host(chosen, host)

    def announce(servers: dict[str, str]) -> None:
        found.update(servers)
        for name, version in found.items():
            typer.echo(f"iredapi: {name}: {version}", err=True)

    report: Json | Text
    if as_json:
        report = Json(lambda piece: typer.echo(piece, nl=False), found)
    else:
        report = Text(typer.echo, most=most, fix=fix)
    result = asyncio.run(examination.run(report.add, announce))
    report.end(result, removals.files)
    if result.status:
        raise typer.Exit(result.status)
