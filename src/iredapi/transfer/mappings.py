"""Records of the CSV files of other programs. Which columns of which version: docs/import.md.

A row becomes a record, or a record that changes what an earlier row has made (a forwarding), or is
reported: nothing is left out silently.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from iredapi.errors import ApiError, problem

MEGABYTE: Final = 1024 * 1024
_NULLS: Final = frozenset({"NULL", "\\N", "(NULL)"})
_YES: Final = frozenset({"1", "t", "true", "yes", "y"})
_NO: Final = frozenset({"0", "f", "false", "no", "n", ""})
_MD5: Final = re.compile("[0-9a-f]{32}")
Row = Mapping[str, str]
Record = dict[str, Any]


class Source(StrEnum):
    """Programs whose files can be read."""

    MAILCOW = "mailcow"
    POSTFIXADMIN = "postfixadmin"
    MODOBOA = "modoboa"
    IREDMAIL = "iredmail"


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a row says."""

    number: int
    record: Record
    later: bool = False
    """It changes what another row makes: it comes after all of them, and updates."""
    why_not: ApiError | None = None
    note: str = ""
    """Why nothing has to be done."""


class _Nothing(Exception):
    """The row says nothing that has to be done."""


@dataclass(slots=True)
class FilesOfProgram:
    """Reads the files of one program, one after the other: mailboxes before aliases."""

    source: Source
    mailboxes: set[str] = field(default_factory=set)
    """Addresses of the users so far: aliases of the same name are their forwardings."""

    def rows(self, lines: Iterable[str]) -> Iterator[Mapped]:
        """Return what the rows of a file say. Raises InvalidParameters for an unknown header."""
        mark = ";" if self.source is Source.MODOBOA else ","
        reader = csv.reader(lines, delimiter=mark, skipinitialspace=True)
        convert: Callable[[Row], Record] | None = None
        header: Sequence[str] = ()
        for cells in reader:
            values = ["" if cell.strip() in _NULLS else cell.strip() for cell in cells]
            if not any(values):
                continue
            number = reader.line_num
            if self.source in (Source.MODOBOA, Source.IREDMAIL):
                of = _modoboa if self.source is Source.MODOBOA else _iredmail
                yield self._one(number, values, of)
            elif convert is None:
                header = [value.lower() for value in values]
                convert = self._table(header)
            elif len(values) != len(header):
                detail = f"{len(values)} fields, but {len(header)} in the header line."
                yield Mapped(number, {}, why_not=problem("", "INVALID_VALUE", detail))
            else:
                yield self._one(number, dict(zip(header, values, strict=True)), convert)

    def _table(self, header: Sequence[str]) -> Callable[[Row], Record]:
        columns = set(header)
        if {"address", "goto"} <= columns:
            return self._alias
        if {"username", "password"} <= columns:
            return _mailcow_mailbox if self.source is Source.MAILCOW else _postfixadmin_mailbox
        if {"domain", "mailboxes", "aliases"} <= columns:
            return _mailcow_domain if self.source is Source.MAILCOW else _postfixadmin_domain
        if {"alias_domain", "target_domain"} <= columns:
            return _alias_domain
        raise problem(
            "--from", "INVALID_VALUE", f"The header line is none of a table of {self.source}."
        )

    def _one(self, number: int, row: Any, convert: Callable[[Any], Record]) -> Mapped:
        try:
            record = convert(row)
            if record["type"] == "alias" and record["mail"] in self.mailboxes:
                record = _forwarding(record)
        except _Nothing as why:
            return Mapped(number, {}, note=str(why))
        except ApiError as error:
            return Mapped(number, {}, why_not=error)
        if record["type"] == "user" and "forwarding" not in record:
            self.mailboxes.add(record["mail"])
        later = record.pop("_later", False)
        return Mapped(number, record, later=later)

    def _alias(self, row: Row) -> Record:
        """Return the record of a row of ``alias``, which both programs have."""
        address, active = row["address"].lower(), _flag(row, "active", default=True)
        members = [item.strip().lower() for item in row["goto"].split(",") if item.strip()]
        odd = [item for item in members if item.endswith("@localhost") or "@" not in item]
        odd += [item for item in members if "#" in item or "@autoreply." in item]
        if odd:
            raise _unmapped("goto", f"{odd[0]} is a word of {self.source} and no address.")
        if members == [address]:
            raise _Nothing("the mailbox itself")
        if address.startswith("@"):
            if not active:
                raise _Nothing("a catch-all that is switched off")
            return {
                "type": "domain", "domain": address[1:], "catchall": members, "_later": True
            }  # fmt: skip
        return {"type": "alias", "mail": address, "members": members} | _status(active=active)


def _forwarding(alias: Record) -> Record:
    if alias.get("accountStatus") == "disabled":
        raise _unmapped("active", "A forwarding that is switched off has no counterpart.")
    return {
        "type": "user", "mail": alias["mail"], "forwarding": alias["members"], "_later": True
    }  # fmt: skip


def _unmapped(column: str, detail: str) -> ApiError:
    return problem(column, "INVALID_VALUE", detail)


def _flag(row: Row, column: str, *, default: bool = False) -> bool:
    text = row.get(column, "").lower()
    if column not in row:
        return default
    if text in _YES:
        return True
    if text in _NO:
        return False
    raise _unmapped(column, f"{text[:40]!r} is neither 1 nor 0.")


def _status(*, active: bool) -> Record:
    return {"accountStatus": "active" if active else "disabled"}


def _number(row: Row, column: str) -> int:
    text = row.get(column, "") or "0"
    try:
        return int(text)
    except ValueError:
        raise _unmapped(column, f"{text[:40]!r} is no number.") from None


def _megabytes(row: Row, column: str) -> int:
    """Return a quota of bytes in MB, rounded up: 0 stays unlimited."""
    size = _number(row, column)
    if size < 0:
        raise _unmapped(column, "A quota below 0 has no counterpart.")
    return -(-size // MEGABYTE)


def hash_of(text: str, column: str = "password") -> str:
    """Return a hash with its scheme. Raises InvalidParameters for one that tells none."""
    if text.startswith("{"):
        return text
    if text.startswith("$"):
        return f"{{CRYPT}}{text}"
    if _MD5.fullmatch(text):
        return f"{{PLAIN-MD5}}{text}"
    raise _unmapped(column, "The hash does not tell its scheme: write {SCHEME} in front of it.")


def _texts(row: Row, **columns: str) -> Record:
    return {key: row[column] for key, column in columns.items() if row.get(column)}


def _mailcow_mailbox(row: Row) -> Record:
    if (kind := row.get("kind", "")) not in ("", "0"):
        raise _unmapped("kind", f"A {kind[:40]} is a resource of SOGo and no mailbox.")
    found: Record = {"type": "user", "mail": row["username"].lower()}
    found["password_hash"] = hash_of(row["password"])
    if "quota" in row:
        found["quota"] = _megabytes(row, "quota")
    if row.get("active") == "2":
        # Mail is received, but the user cannot log in.
        return found | _texts(row, name="name") | {"suspended": "yes"}
    return found | _texts(row, name="name") | _status(active=_flag(row, "active", default=True))


def _mailcow_domain(row: Row) -> Record:
    found: Record = {"type": "domain", "domain": row["domain"].lower()}
    if _flag(row, "backupmx"):
        raise _unmapped("backupmx", "Relay domains are made by hand: where to is no column.")
    for key, column in (
        ("numberOfUsers", "mailboxes"), ("numberOfAliases", "aliases"),
        ("defaultQuota", "defquota"), ("maxUserQuota", "maxquota"), ("quota", "quota"),
    ):  # fmt: skip
        if (limit := _number(row, column)) > 0:
            found[key] = limit
    return (
        found | _texts(row, name="description") | _status(active=_flag(row, "active", default=True))
    )


def _postfixadmin_mailbox(row: Row) -> Record:
    found: Record = {"type": "user", "mail": row["username"].lower()}
    found["password_hash"] = hash_of(row["password"])
    if "quota" in row:
        found["quota"] = _megabytes(row, "quota")
    return (
        found
        | _texts(row, name="name", mobile="phone")
        | _status(active=_flag(row, "active", default=True))
    )


def _postfixadmin_domain(row: Row) -> Record:
    name = row["domain"].lower()
    if name == "all":
        raise _Nothing("the domain of PostfixAdmin's super admins")
    found: Record = {"type": "domain", "domain": name}
    if _flag(row, "backupmx"):
        raise _unmapped("backupmx", "Relay domains are made by hand: where to is no column.")
    for key, column in (("numberOfUsers", "mailboxes"), ("numberOfAliases", "aliases")):
        found[key] = max(_number(row, column), -1)
    for key, column in (("maxUserQuota", "maxquota"), ("quota", "quota")):
        if (limit := _number(row, column)) > 0:
            found[key] = limit
    transport = row.get("transport", "")
    if transport and transport != "virtual":
        found["transport"] = transport
    return (
        found | _texts(row, name="description") | _status(active=_flag(row, "active", default=True))
    )


def _alias_domain(row: Row) -> Record:
    if not _flag(row, "active", default=True):
        raise _Nothing("an alias domain that is switched off")
    return {
        "type": "domain", "domain": row["target_domain"].lower(),
        "addAliasDomain": row["alias_domain"].lower(), "_later": True,
    }  # fmt: skip


def _modoboa(cells: Sequence[str]) -> Record:
    """Return the record of a line of Modoboa's export; its first word says what it is about."""
    kind, *rest = cells
    of = _MODOBOA.get(kind.lower())
    if of is None:
        raise _unmapped("", f"{kind[:40]!r} has no counterpart.")
    names, convert = of
    if len(rest) < len(names):
        raise _unmapped(names[len(rest)], "The line ends early.")
    return convert(dict(zip(names, rest, strict=False)), rest[len(names) :])


def _modoboa_domain(row: Row, _rest: Sequence[str]) -> Record:
    found: Record = {"type": "domain", "domain": row["name"].lower()}
    if (quota := _number(row, "quota")) > 0:
        found["quota"] = quota
    if (usual := _number(row, "default mailbox quota")) > 0:
        found["defaultQuota"] = usual
    return found | _status(active=_flag(row, "enabled"))


def _modoboa_alias_domain(row: Row, _rest: Sequence[str]) -> Record:
    if not _flag(row, "enabled"):
        raise _Nothing("an alias domain that is switched off")
    return {
        "type": "domain", "domain": row["target"].lower(),
        "addAliasDomain": row["name"].lower(), "_later": True,
    }  # fmt: skip


def _modoboa_account(row: Row, managed: Sequence[str]) -> Record:
    if not row["address"]:
        raise _unmapped("address", "Accounts without a mailbox are made by hand.")
    found: Record = {"type": "user", "mail": row["address"].lower()}
    found["password_hash"] = hash_of(row["password"])
    names = {"gn": "first name", "sn": "last name"}
    full = f"{row['first name']} {row['last name']}".strip()
    found |= _texts(row, **names) | ({"name": full} if full else {})
    if row["quota"]:
        found["quota"] = _number(row, "quota")
    group = row["group"].lower()
    if group == "superadmins":
        found["isGlobalAdmin"] = "yes"
    elif group == "domainadmins":
        found["managedDomains"] = [name.lower() for name in managed if name]
    elif group not in ("simpleusers", ""):
        raise _unmapped("group", f"{row['group'][:40]} has no counterpart.")
    return found | _status(active=_flag(row, "enabled"))


def _modoboa_alias(row: Row, recipients: Sequence[str]) -> Record:
    members = [item.lower() for item in recipients if item]
    record = {"type": "alias", "mail": row["address"].lower(), "members": members}
    return record | _status(active=_flag(row, "enabled"))


_OF_ALIAS: Final = (("address", "enabled"), _modoboa_alias)
_MODOBOA: Final[Mapping[str, tuple[Sequence[str], Callable[[Row, Sequence[str]], Record]]]] = {
    "domain": (("name", "quota", "default mailbox quota", "enabled"), _modoboa_domain),
    "domainalias": (("name", "target", "enabled"), _modoboa_alias_domain),
    "account": (
        (
            "login", "password", "first name", "last name", "enabled", "group", "address", "quota",
        ),
        _modoboa_account,
    ),
    "alias": _OF_ALIAS, "forward": _OF_ALIAS, "dlist": _OF_ALIAS,
}  # fmt: skip


def _iredmail(cells: Sequence[str]) -> Record:
    """Return the record of a line for iRedMail's ``create_mail_user_OpenLDAP.py``."""
    names = ("domain", "username", "password", "name", "quota", "groups")
    if not 3 <= len(cells) <= len(names):
        raise _unmapped("", "A line has domain, user name, password, name, quota and groups.")
    row = dict(zip(names, cells, strict=False))
    if row.get("groups"):
        raise _unmapped("groups", "Memberships are records of aliases and lists.")
    mail = row["username"].lower()
    found: Record = {"type": "user", "mail": f"{mail}@{row['domain'].lower()}"}
    key = "password_hash" if row["password"].startswith("{") else "password"
    found[key] = row["password"]
    if row.get("quota"):
        found["quota"] = _megabytes(row, "quota")
    return found | _texts(row, name="name")
