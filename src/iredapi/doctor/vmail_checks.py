"""All checks of ``vmail``, in the order in which they run.

Each condition is one that a database answers along an index.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table

from iredapi.backends.sql import tables as t
from iredapi.config.settings import Settings
from iredapi.database.live_schema import Schema
from iredapi.doctor.probes import Probe
from iredapi.doctor.vmail_account_checks import account_probes
from iredapi.doctor.vmail_domain_checks import domain_probes
from iredapi.doctor.vmail_probes import VmailProbes, date_probes
from iredapi.doctor.vmail_related_checks import admin_probes, leftover_probes, sender_probes
from iredapi.doctor.vmail_route_checks import (
    dead_route_probes,
    group_route_probes,
    user_route_probes,
)


def vmail_probes(
    schema: Schema, quota_table: Table, dialect: str, settings: Settings
) -> Iterator[Probe]:
    """Return all probes; the repair of an earlier one may also repair what a later one looks for.

    ``quota_table`` is ``used_quota``, under the name that the settings give it.
    """
    make = VmailProbes(schema, dialect)
    yield from domain_probes(make, settings)
    yield from account_probes(make, settings)
    yield from dead_route_probes(make)
    yield from user_route_probes(make)
    yield from group_route_probes(make)
    yield from sender_probes(make, settings)
    yield from leftover_probes(make, quota_table)
    yield from admin_probes(make)
    for table in t.metadata.sorted_tables:
        if schema.has(table):
            yield from date_probes(schema, table, "vmail")
