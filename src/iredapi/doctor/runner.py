"""Runs the doctor: examines every server, then runs every probe, and repairs when asked to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from sqlalchemy import MetaData, Table, func, select
from sqlalchemy.exc import DBAPIError

from iredapi.backends.factory import make_databases
from iredapi.backends.sql import tables
from iredapi.backends.sql.admins import SqlAdmins
from iredapi.config.errors import ConfigurationError
from iredapi.config.host_programs import Program
from iredapi.config.ldap_settings import Backend
from iredapi.config.settings import Settings
from iredapi.database.errors import is_retryable, translated
from iredapi.database.session import ORDER, Databases
from iredapi.doctor import server_checks, versions
from iredapi.doctor.catalog import Severity
from iredapi.doctor.findings import CHECKS, LISTS, ON_DEMAND, Finding
from iredapi.doctor.list_checks import examine_lists
from iredapi.doctor.mailbox_queue import Owners
from iredapi.doctor.orphaned_rows import Directory
from iredapi.doctor.policy_checks import policy_probes, user_data_probes
from iredapi.doctor.probes import Probe, Row
from iredapi.doctor.quota_trigger import examine_trigger
from iredapi.doctor.removals import ROWS, Removals
from iredapi.doctor.repair_log import log_repairs
from iredapi.doctor.sql_directory import SqlDirectory
from iredapi.doctor.state_checks import examine_state, topology_of
from iredapi.doctor.vmail_checks import vmail_probes
from iredapi.domain.addresses import fold
from iredapi.errors import ReadOnlyServer, ServerDown

_TRIES = 5
_ALWAYS = frozenset({"SERVER_AWAY", "REMOVAL_HELD_BACK"})
"""Codes that are reported also when ``--only`` names others."""

Report = Callable[[Finding], None]
Announce = Callable[[dict[str, str]], None]


@dataclass(slots=True)
class Result:
    """Number of findings by code, and how many of them were repaired."""

    found: dict[str, int] = field(default_factory=dict)
    fixed: dict[str, int] = field(default_factory=dict)

    def count(self, finding: Finding) -> None:
        """Count a finding."""
        self.found[finding.code] = self.found.get(finding.code, 0) + 1
        if finding.fixed:
            self.fixed[finding.code] = self.fixed.get(finding.code, 0) + 1

    @property
    def status(self) -> int:
        """Exit status: 0 nothing is wrong, 1 something is, 3 something could not be examined."""
        if "SERVER_AWAY" in self.found:
            return 3
        left = {code for code, number in self.found.items() if number > self.fixed.get(code, 0)}
        return int(any(CHECKS[code].severity is not Severity.NOTE for code in left))


class Examination:
    """Examines all servers of a configuration.

    ``only`` are the codes to report (empty: all but ``ON_DEMAND``), ``named`` the subjects that
    probes with ``by_name`` repair, ``dovecot`` is that of this host. Raises
    ConfigurationError for unknown codes.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        fix: bool = False,
        only: Collection[str] = (),
        removals: Removals | None = None,
        named: Collection[str] = (),
        dovecot: Program | None = None,
    ) -> None:
        if unknown := sorted(set(only) - CHECKS.keys()):
            raise ConfigurationError(f"--only: there is no check {', '.join(unknown)}")
        self._settings = settings
        self._fix = fix
        self._only = frozenset(only) or frozenset(CHECKS) - ON_DEMAND
        self._named = frozenset(map(fold, named))
        self._dovecot = dovecot
        self._quota_table = _quota_table(settings)
        self.removals = removals or Removals(settings.data_dir.absolute())

    async def run(self, report: Report, announce: Announce | None = None) -> Result:
        """Examine, report each finding as soon as it is found, and return the numbers.

        ``announce`` is first called with the versions of the database servers, by database.
        """
        result = Result()
        databases = make_databases(self._settings)
        try:
            if announce is not None:
                announce(await versions.of_servers(databases) | await self._state_server())
            async for finding in self._findings(databases):
                if finding.code in self._only | _ALWAYS:
                    result.count(finding)
                    report(finding)
        finally:
            await databases.close()
        return result

    async def _state_server(self) -> dict[str, str]:
        told = await topology_of(self._settings)
        return {} if told is None else {"state": str(told)}

    async def _findings(self, databases: Databases) -> AsyncIterator[Finding]:
        for finding in versions.examine_settings(self._settings, self._dovecot):
            yield finding
        usable = []
        for name in ORDER:
            if not databases.has(name):
                continue
            renamed = self._quota_table is not tables.used_quota and name == "vmail"
            ignore = tables.used_quota.name if renamed else ""
            lacking = False
            try:
                async for finding in server_checks.examine(
                    databases[name], ignore=ignore, rights="RIGHT_MISSING" in self._only
                ):
                    lacking = lacking or finding.code == "SCHEMA_LACKS"
                    yield finding
            except ServerDown as error:
                yield Finding("SERVER_AWAY", name, error.detail)
            else:
                if not lacking:
                    usable.append(name)
        async for finding in self._other_findings():
            yield finding
        if self._settings.backend is Backend.LDAP:
            # bonsai is an optional dependency.
            from iredapi.doctor.ldap_runner import TreeExamination

            async with TreeExamination(
                self._settings, databases, self._only, fix=self._fix
            ) as tree:
                async for finding in tree.findings():
                    yield finding
                for name in usable if tree.usable else ():
                    async for finding in self._probed(
                        databases, name, tree.accounts, tree.accounts.owners
                    ):
                        yield finding
            return
        accounts = SqlDirectory(databases) if "vmail" in usable else None
        for name in usable:
            async for finding in self._probed(databases, name, accounts):
                yield finding

    async def _other_findings(self) -> AsyncIterator[Finding]:
        """Report what is wrong outside of iRedMail's databases and directory."""
        async for finding in examine_state(self._settings):
            yield finding
        if self._only & LISTS.keys():
            async for finding in examine_lists(self._settings, fix=self._fix):
                yield finding

    async def _probed(
        self,
        databases: Databases,
        name: str,
        accounts: Directory | None,
        owners: Owners | None = None,
    ) -> AsyncIterator[Finding]:
        schema = await databases[name].schema()
        probes: Iterator[Probe]
        if name == "vmail":
            quota = self._quota_table
            dialect = databases[name].dialect
            probes = vmail_probes(schema, quota, dialect, self._settings)
        elif accounts is not None:
            probes = policy_probes(name, schema, accounts)
            if owners is not None and name == "iredadmin":
                user_data = user_data_probes(schema, self._quota_table, accounts, owners)
                probes = chain(probes, user_data)
        else:
            return
        for probe in probes:
            if probe.code not in self._only:
                continue
            try:
                async for finding in self._pages(databases, probe, accounts):
                    yield finding
            except (ServerDown, ReadOnlyServer) as error:
                yield Finding("SERVER_AWAY", name, error.detail)
                return
        if name == "vmail" and not await server_checks.reads_only(databases[name]):
            if "NO_GLOBAL_ADMIN" in self._only:
                async for finding in no_global_admin(databases, quota):  # locks rows
                    yield finding
            async for finding in self._trigger(databases):
                yield finding

    async def _trigger(self, databases: Databases) -> AsyncIterator[Finding]:
        code = "QUOTA_TRIGGER_OUTDATED"
        if not self._only & {code, "QUOTA_TRIGGER_MISSING"}:
            return
        fix, table = self._fix and code in self._only, self._quota_table.name
        release = self._settings.dovecot_release
        async for finding in examine_trigger(databases["vmail"], table, release, fix=fix):
            yield finding
            if finding.fixed:
                await log_repairs(databases, code, [finding.subject])

    async def _pages(
        self, databases: Databases, probe: Probe, accounts: Directory | None
    ) -> AsyncIterator[Finding]:
        repairs, left = self._fix and probe.fixable, 0
        if repairs and probe.removes is not None:
            held, left = await self._held_back(databases, probe, accounts)
            if held:
                yield Finding("REMOVAL_HELD_BACK", _table_of(probe), held)
                repairs = False
        after: Any = None
        while True:
            found, after = await self._page(databases, probe, after)
            repaired: set[str] = set()
            wanted = self._wanted(probe, found)
            if repairs and wanted and probe.removes is not None:
                # Since the count, rows may have been added or the domains removed.
                left -= len(wanted)
                if left < 0 or not (self.removals.most or await _hosts_any(accounts)):
                    repairs = False
                    yield Finding(
                        "REMOVAL_HELD_BACK", _table_of(probe), "more rows than were counted"
                    )
            if repairs and wanted:
                rows = await self._repair(databases, probe, wanted)
                repaired = {_identity(row) for row in rows}
                await log_repairs(databases, probe.code, [str(row["subject"]) for row in rows])
            for row, detail in found:
                yield Finding(probe.code, str(row["subject"]), detail, _identity(row) in repaired)
            if after is None:
                return

    def _wanted(self, probe: Probe, found: Sequence[tuple[Row, str]]) -> list[Row]:
        """Return the rows to repair; of probes with ``by_name`` those that the operator names."""
        return [
            row for row, _ in found if not probe.by_name or fold(str(row["subject"])) in self._named
        ]

    async def _held_back(
        self, databases: Databases, probe: Probe, accounts: Directory | None
    ) -> tuple[str, int]:
        """Count the rows that a probe would remove, before any is removed.

        Returns why they may not be removed ("" when they may), and how many findings may be
        repaired. They are counted as removed at once: two checks of a table share its limit.
        """
        table = probe.removes
        assert table is not None  # noqa: S101 (for the type checker)
        number, findings, after = 0, 0, None
        while True:
            found, after = await self._page(databases, probe, after)
            if found:
                rows = self._wanted(probe, found)
                findings += len(rows)
                async with databases[probe.database].using() as pooled:
                    number += await probe.number(pooled.connection, rows) if rows else 0
            if after is None:
                break
        if not number:
            return "", ROWS
        async with databases[probe.database].using() as pooled:
            statement = select(func.count()).select_from(table)
            total = int((await pooled.connection.execute(statement)).scalar_one())
        hosts_any = await _hosts_any(accounts)
        held = self.removals.held_back(_table_of(probe), number, total, hosts_any=hosts_any)
        if not held:
            self.removals.count(_table_of(probe), number)
        return held, findings + ROWS

    @staticmethod
    async def _page(
        databases: Databases, probe: Probe, after: Any
    ) -> tuple[list[tuple[Row, str]], Any]:
        try:
            async with databases[probe.database].using() as pooled:
                return await probe.page(pooled.connection, after)
        except DBAPIError as error:
            raise translated(error) from error

    async def _repair(self, databases: Databases, probe: Probe, rows: Sequence[Row]) -> list[Row]:
        """Repair a page in one transaction; retry after a deadlock."""
        for attempt in range(_TRIES):
            try:
                async with databases[probe.database].using(writing=True) as pooled:
                    with self.removals.recording(probe.database):
                        repaired = await probe.repair(pooled.connection, rows)
                    await pooled.commit()
                    return repaired
            except DBAPIError as error:
                if not is_retryable(error) or attempt == _TRIES - 1:
                    raise translated(error) from error
        raise AssertionError("unreachable")


async def _hosts_any(accounts: Directory | None) -> bool:
    return accounts is not None and await accounts.hosts_any()


def _table_of(probe: Probe) -> str:
    table = "" if probe.removes is None else probe.removes.name
    return f"{probe.database}.{table}"


def _identity(row: Row) -> str:
    """Return the key of a probe's row as text."""
    keys = {name: value for name, value in row.items() if name.startswith("key_")}
    return str(sorted(keys.items()) or row["subject"])


async def no_global_admin(databases: Databases, quota_table: Table) -> AsyncIterator[Finding]:
    """Report when there is no active global admin."""
    connections = await databases.open(writing=True)
    try:
        schema = await databases["vmail"].schema()
        if not await SqlAdmins(connections, schema, quota_table).globals_without(()):
            yield Finding("NO_GLOBAL_ADMIN", "vmail")
    finally:
        await connections.close()


def _quota_table(settings: Settings) -> Table:
    quota = tables.used_quota
    if settings.used_quota_table != quota.name:
        quota = quota.to_metadata(MetaData(), name=settings.used_quota_table)
    return quota
