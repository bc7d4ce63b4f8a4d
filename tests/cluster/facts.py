"""Reads every table, or entry, of a store as facts, and says what is wrong with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.cluster.states import Bundle, Fact, Sent
from tests.servers.openldap import BASE
from tests.servers.snapshot import ENTRIES, Dump, Row, dump, names_of
from tests.servers.store import Store

MEGABYTE: Final = 1024 * 1024
LOST: Final = "lost"
HALF_MADE: Final = "half made"
_KINDS: Final = {"is_forwarding": "forwarding", "is_alias": "address", "is_list": "member"}


@dataclass
class Stored:
    """What is stored."""

    facts: set[Fact]
    odd: list[str]
    """What is no fact and was not there before, or was there and is gone."""
    rows: Dump

    def about(self, names: Collection[str]) -> list[str]:
        """Return what each table has about accounts, one line for each row."""
        wanted = set(names)
        return [
            f"{database}.{table}: {_shown(row)}"
            for (database, table), rows in self.rows.items()
            for row in rows
            if not wanted.isdisjoint(_texts(row))
        ]


def _texts(row: Row) -> Iterator[str]:
    for value in row.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, (bytes, memoryview)):
                yield bytes(item).decode(errors="replace")
            else:
                yield str(item)


def _shown(row: Row) -> str:
    """Return a row without what is empty, and without its password."""
    return str(
        {
            name: value
            for name, value in row.items()
            if value not in (None, "") and "password" not in name.lower()
        }
    )


def told(title: str, sent: Sequence[Sent], there: Sequence[str] = ()) -> str:
    """Return what is wrong, what was sent and answered, and what is there."""
    lines = [title, *(f"    sent  {each}" for each in sent), *(f"    there {row}" for row in there)]
    return "\n".join(lines)


async def read(store: Store, before: Dump) -> Stored:
    """Return all facts, what is no fact and was not there before, and the rows."""
    found = await dump(store)
    facts: set[Fact] = set()
    odd: list[str] = []
    for place, rows in found.items():
        new = [row for row in rows if row not in before[place]]
        gone = [row for row in before[place] if row not in rows]
        odd += [f"gone: {name}" for name in names_of(place, gone)]
        if place == ENTRIES:
            directory = _Directory(new)
            facts |= directory.facts
            odd += directory.odd
            continue
        for row in new:
            reader = _ROWS.get(place[1])
            fact = reader(row) if reader else None
            if fact is None or fact in facts:
                odd += [f"{name}: {_shown(row)}" for name in names_of(place, [row])]
            else:
                facts.add(fact)
    return Stored(facts, odd, found)


def _forwarding(row: Row) -> Fact | None:
    """None for a row that is of no kind or of two, or whose domains are wrong."""
    kinds = [kind for column, kind in _KINDS.items() if row[column]]
    domains = [row[name].partition("@")[2] for name in ("address", "forwarding")]
    if len(kinds) != 1 or domains != [row["domain"], row["dest_domain"]]:
        return None
    if kinds == ["address"]:
        return Fact("address", row["forwarding"], (row["address"],))
    return Fact(kinds[0], row["address"], (row["forwarding"],))


_ROWS: Final[dict[str, Callable[[Row], Fact | None]]] = {
    "domain": lambda row: Fact("domain", row["domain"], (row["description"], row["mailboxes"])),
    "alias_domain": lambda row: Fact("alias domain", row["target_domain"], (row["alias_domain"],)),
    "mailbox": lambda row: Fact(
        "user", row["username"], (row["name"], row["quota"], bool(row["active"]))
    ),
    "alias": lambda row: Fact("alias", row["address"], (row["name"],)),
    "forwardings": _forwarding,
    "throttle": lambda row: Fact("throttle", row["account"], (row["max_msgs"],)),
    "used_quota": lambda row: Fact("used quota", row["username"], (row["bytes"],)),
    "deleted_mailboxes": lambda row: Fact("removed mailbox", row["username"]),
}


class _Directory:
    """The facts of entries; ``odd`` names wrong counters and addresses at alias domains."""

    def __init__(self, entries: Sequence[Row]) -> None:
        self.facts: set[Fact] = set()
        self.odd: list[str] = []
        self._domains: dict[str, Row] = {}
        self._users: dict[str, list[int]] = defaultdict(list)
        self._aliases: dict[str, int] = defaultdict(int)
        for entry in sorted(entries, key=lambda entry: len(entry["dn"])):
            self._read(entry)
        for name, entry in self._domains.items():
            counted = (len(self._users[name]), self._aliases[name], sum(self._users[name]))
            stored = tuple(
                int(entry.get(f"domainCurrent{what}", ["0"])[0])
                for what in ("UserNumber", "AliasNumber", "QuotaSize")
            )
            if stored != counted:
                self.odd.append(f"counters of {name}: {stored}, but there are {counted}")

    def _read(self, entry: Row) -> None:
        classes = entry.get("objectClass", [])
        if "mailDomain" in classes:
            name = entry["domainName"][0]
            self._domains[name] = entry
            self.facts.add(Fact("domain", name, (_one(entry, "cn"), _limit(entry))))
            for alias in entry.get("domainAliasName", []):
                self.facts.add(Fact("alias domain", name, (alias,)))
        elif "mailUser" in classes:
            self._user(entry)
        elif "mailAlias" in classes:
            address = entry["mail"][0]
            self._aliases[address.partition("@")[2]] += 1
            self.facts.add(Fact("alias", address, (_one(entry, "cn"),)))
            self._values(entry, "member", address)
            self._further_addresses(entry)
        elif "organizationalUnit" not in classes or self._domain_of(entry) is None:
            self.odd.append(entry["dn"])

    def _user(self, entry: Row) -> None:
        mail = entry["mail"][0]
        quota = int(entry["mailQuota"][0])
        self._users[mail.partition("@")[2]].append(quota)
        values = (_one(entry, "cn"), quota // MEGABYTE, _one(entry, "accountStatus") == "active")
        self.facts.add(Fact("user", mail, values))
        self._values(entry, "forwarding", mail)
        if "mailForwardingAddress" not in entry:
            # An entry without destinations is delivered to itself.
            self.facts.add(Fact("forwarding", mail, (mail,)))
        for address in self._further_addresses(entry):
            self.facts.add(Fact("address", mail, (address,)))

    def _values(self, entry: Row, kind: str, owner: str) -> None:
        for value in entry.get("mailForwardingAddress", []):
            self.facts.add(Fact(kind, owner, (value,)))

    def _further_addresses(self, entry: Row) -> list[str]:
        """Check those at alias domains; return the others."""
        mail, domain = entry["mail"][0], self._domain_of(entry)
        if domain is None:
            self.odd.append(f"{entry['dn']} is in no domain")
            return []
        addresses = set(entry.get("shadowAddress", []))
        own = {address for address in addresses if address.endswith(f"@{domain['domainName'][0]}")}
        at_alias_domains = {
            f"{address.partition('@')[0]}@{alias}"
            for address in own | {mail}
            for alias in domain.get("domainAliasName", [])
        }
        if addresses - own != at_alias_domains:
            self.odd.append(f"{mail} has {addresses - own}, not {at_alias_domains}")
        return sorted(own)

    def _domain_of(self, entry: Row) -> Row | None:
        parent = entry["dn"].removesuffix(f",{BASE}").rpartition("domainName=")[2]
        return self._domains.get(parent)


def _one(entry: Row, name: str) -> str:
    values: list[str] = entry.get(name, [""])
    return values[0]


def _limit(entry: Row) -> int:
    for setting in entry.get("accountSetting", []):
        name, _, value = setting.partition(":")
        if name == "numberOfUsers":
            return int(value)
    return 0


def compare(
    stored: Stored, bundles: Iterable[Bundle], shared: set[str], beside: frozenset[str]
) -> list[str]:
    """Compare bundles with what is stored; return what is lost, half made, or nobody's.

    ``shared`` names domains and accounts that are compared elsewhere, ``beside`` the kinds of facts
    that are in other databases than the accounts.
    """
    wrong: list[str] = []
    owned: dict[str, set[Fact]] = defaultdict(set)
    for fact in stored.facts:
        owned[fact.owner].add(fact)
    for bundle in bundles:
        there: frozenset[Fact] = frozenset().union(
            *(owned.pop(name, set[Fact]()) for name in bundle.names)
        )
        expected = bundle.expected(beside)
        bundle.between = there in expected[2:] and there not in expected[:2]
        if there not in expected:
            wrong.append(_told(bundle, there, expected, stored))
    wrong += [
        told(f"nobody's: {_sorted(facts)}", [], stored.about([name]))
        for name, facts in owned.items()
        if name not in shared
    ]
    return wrong


def _told(
    bundle: Bundle, there: frozenset[Fact], expected: Sequence[frozenset[Fact]], stored: Stored
) -> str:
    best = min(expected, key=lambda facts: len(facts ^ there))
    verdict = LOST if bundle.other is None else f"{HALF_MADE} ({bundle.change})"
    names = {fact.owner for fact in best ^ there}
    title = (
        f"{verdict}: {', '.join(sorted(names))} (bundle {bundle.number} of {bundle.domain}): "
        f"missing {_sorted(best - there)}, not expected {_sorted(there - best)}"
    )
    return told(title, bundle.sent, stored.about(names))


def _sorted(facts: Iterable[Fact]) -> list[Any]:
    return sorted(facts, key=str)
