"""``iredapi dns``: the DNS records of a domain, for an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from iredapi.cli.shared_options import EnvFile, run_in_context
from iredapi.config import loading

if TYPE_CHECKING:
    from iredapi.runtime.context import AppContext


def dns(
    domain: Annotated[str, typer.Argument(help="A hosted domain, not an alias domain.")],
    env_file: EnvFile = None,
) -> None:
    """Show the DNS records that a domain and its alias domains need, and what the DNS has.

    The exit status is 1 if a record is not as it should be.
    """
    shown: dict[str, Any] = {}

    async def work(context: AppContext) -> None:
        from iredapi.domain.actors import SYSTEM
        from iredapi.workflows import onboarding

        shown.update(await onboarding.records(context, SYSTEM, domain.strip().lower()))

    run_in_context(loading.load(env_file), work, changes=False)
    records = [record for name in shown["names"] for record in name["records"]]
    rows = [("STATUS", "TYPE", "NAME", "TO PUBLISH")]
    for record in records:
        reason = f" ({record['reason']})" if record["reason"] else ""
        value = record["value"] or "-"
        rows.append((f"{record['status']}{reason}", record["type"], record["name"], value))
        if record["status"] == "wrong":
            rows += [("", "", "  found:", text) for text in record["found"]]
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    for row in rows:
        start = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False))
        typer.echo(f"{start}  {row[3]}")
    if any(record["status"] != "ok" for record in records):
        raise typer.Exit(1)
