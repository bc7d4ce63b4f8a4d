"""All checks of the doctor by code, the findings they make, and the page that documents them.

The checks are the same for SQL and LDAP; the modules beside this one look for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from iredapi.doctor.catalog import Check, Severity
from iredapi.doctor.catalog_accounts import ACCOUNTS, DOMAINS
from iredapi.doctor.catalog_policies import POLICIES, RIGHTS
from iredapi.doctor.catalog_routes import RELATED_ROWS, ROUTES

_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

LISTS: Final[Mapping[str, Check]] = {
    "LIST_TEXT_OUTDATED": Check(
        _W,
        "Texts of a mailing list have variables that mlmmj 1.5 and later do not know.",
        "People get `$confaddr$` instead of an address, and cannot confirm a subscription. Not "
        "reported with mlmmj 1.3, which knows them. With mlmmjadmin, `/var/vmail/mlmmj` is "
        "examined, if it can be read.",
        "The variables get the names that mlmmj 1.3 and 1.5 know; a link to another file is kept.",
    ),
    "LIST_FILE_EMPTY_LINES": Check(
        _W,
        "A file with subscribers of a mailing list has empty lines.",
        "mlmmj 1.3 ignores them. `mlmmj-unsub` of 1.5 removes wrong bytes then, and damages the "
        "addresses of others. Earlier versions of this service left such lines.",
        "The lines are filled with blanks, under mlmmj's lock.",
    ),
    "LIST_HEADERS_EMPTY_LINES": Check(
        _E,
        "The custom headers of a mailing list have an empty line.",
        "mlmmj copies it into each post, where it ends the header: attachments, HTML and letters "
        "outside ASCII arrive as source text.",
        "The empty lines are removed; a link to another file is kept.",
    ),
}

_SERVERS: Final[Mapping[str, Check]] = {
    "SERVER_AWAY": Check(_E, "A server cannot be reached.", "Its data were not examined."),
    "REMOVAL_HELD_BACK": Check(
        _E,
        "Too many rows of a table would be removed: none was removed.",
        "Perhaps the account storage is empty, not restored yet, or the wrong server. If it is "
        "right, `--remove-strays NUMBER` removes at most that many rows of each table.",
    ),
    "SCHEMA_LACKS": Check(
        _E,
        "A table or column that every supported release has is missing.",
        "The API cannot work on this database.",
    ),
    "SCHEMA_OLDER": Check(
        _N,
        "A table or column of newer releases is missing.",
        "The API works without it, and does not store what belongs there.",
    ),
    "RIGHT_MISSING": Check(
        _E,
        "The login lacks a right that the API needs.",
        "Calls that need it fail with 500 or 503 and change nothing.",
    ),
    "DOVECOT_VERSION_DIFFERS": Check(
        _E,
        "IREDAPI_DOVECOT_VERSION is not the version of the Dovecot on this host.",
        "Passwords are judged by the setting. Correct or remove it; if the mail server is another "
        "host, remove Dovecot from this one.",
    ),
    "PASSWORD_CHECK_WRONG": Check(
        _E,
        "IREDAPI_LDAP_PASSWORD_CHECK does not fit the version of Dovecot.",
        "With iRedMail's configuration Dovecot 2.3 binds as the user, and slapd checks the "
        "password; 2.4 reads `userPassword` and checks it itself. Hashes are refused or stored by "
        "the wrong rules. Set it to `auto`.",
    ),
    "QUOTA_TRIGGER_OUTDATED": Check(
        _E,
        "The table of mailbox sizes has the trigger for Dovecot 2.3, and Dovecot is 2.4.",
        "PostgreSQL adds the whole size of a mailbox to the stored one with every message: the "
        "sizes are wrong, and users are warned of full mailboxes. After the repair they are right "
        "when the next message of a user arrives, or after `doveadm quota recalc -A`.",
        "The trigger is dropped; one that fills only the column domain takes its place. If the "
        "login may not do that, the statements for the owner of the table are printed.",
    ),
    "QUOTA_TRIGGER_MISSING": Check(
        _W,
        "The table of mailbox sizes lacks iRedMail's trigger.",
        "Dovecot fills only the address, and nothing the column domain: the sizes count for no "
        "domain. iRedMail's `used_quota_triggers_dovecot_2.3.pgsql` or `…_2.4.pgsql` makes it.",
    ),
    "DATABASE_READS_ONLY": Check(
        _E,
        "A database server takes no writes.",
        "It is a standby, or was set read-only. Reading works; changes are answered with 503. Name "
        "the server that takes writes in the URL, or all of them: docs/clusters.md.",
    ),
    "SEVERAL_WRITERS": Check(
        _W,
        "Processes of the service write to different servers of a database at once.",
        "Only nodes of Galera may all be written to. Elsewhere locks do not hold, and changes are "
        "lost or the servers differ: two PostgreSQL servers take writes, or replication of MariaDB "
        "goes both ways. Let one server take writes, and name the same servers in the same order "
        "in the URLs of all replicas: docs/clusters.md. Each process looks once a minute; the last "
        "three minutes count.",
    ),
    "DIRECTORY_READS_ONLY": Check(
        _E,
        "No LDAP server that can be reached accepts writes.",
        "Reading works; changes are answered with 503. Name the provider in IREDAPI_LDAP_URI.",
    ),
    "STATE_OUTDATED": Check(
        _N,
        "The state database does not have the schema of this version.",
        "The next start of the service updates it.",
    ),
    "WRITE_UNFINISHED": Check(
        _W,
        "A write to the directory was interrupted and has not been undone yet.",
        "An account may be incomplete until the service or the next write undoes it.",
        "The write is undone.",
    ),
}

CHECKS: Final[Mapping[str, Check]] = MappingProxyType(
    {**_SERVERS, **DOMAINS, **ACCOUNTS, **ROUTES, **RELATED_ROWS, **RIGHTS, **POLICIES, **LISTS}
)

ON_DEMAND: Final = frozenset({"FOLDER_SHARED"})
"""Codes that are examined only when ``--only`` names them: nothing is wrong there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a check failed. ``subject`` is an address, a domain or another key."""

    code: str
    subject: str
    detail: str = ""
    fixed: bool = False

    @property
    def check(self) -> Check:
        """The check that made the finding."""
        return CHECKS[self.code]


def _fix_of(check: Check) -> str:
    return f"With `--named SUBJECT`: {check.named}" if check.named else check.fix or "-"


def document() -> str:
    """Return the page ``docs/doctor.md``: every code, its meaning, and what ``--fix`` does."""
    lines = [
        "# iredapi doctor",
        "",
        "Generated by `iredapi docs doctor`; a test keeps it up to date. `iredapi doctor` examines",
        "every database and server of the configuration and reports what is wrong. It changes",
        "nothing. `iredapi doctor --fix` repairs what can be repaired in only one way, and writes",
        "each repair to iRedAdmin's log. `--only CODE` limits both to one code; `--json` prints",
        "one JSON object. The service may run meanwhile: each repair checks again under a lock.",
        "Where the table says `--named SUBJECT`, `--fix` repairs only the subjects that are named.",
        "",
        "A *route* is a row of `forwardings`: a destination of mail to an address. A *mark*",
        "is a column such as `isadmin`.",
        "",
        "Removal of rows is limited. Nothing is removed when the account storage has no domain, or",
        "when more than 10 percent and more than 20 rows of a table would be removed. Then",
        "`REMOVAL_HELD_BACK` is reported with the number, and the exit status is 1.",
        "`--remove-strays NUMBER` allows that many rows of each table. Rows are written to a file",
        "before they are removed, as SQL that restores them: `doctor-TIME-DATABASE.sql` in",
        "`IREDAPI_DATA_DIR` (or in the directory of `--removed-to DIRECTORY`), readable by its",
        "owner only. The report names the file. When it cannot be written, nothing is removed and",
        "the exit status is 2.",
        "",
        "Exit status: 0 nothing is wrong, or all was repaired (notes do not count); 1 something is",
        "wrong, or a removal was held back; 2 the configuration is wrong; 3 something could not be",
        "examined.",
        "",
        "| code | severity | what is wrong | what it means | `--fix` |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{code}` | {check.severity} | {check.sentence} | {check.meaning} | {_fix_of(check)} |"
        for code, check in CHECKS.items()
    ]
    return "\n".join(lines) + "\n"
