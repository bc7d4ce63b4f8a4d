"""Facts about a directory tree that the checks of single entries need.

They are collected before the entries are checked. Addresses and mailbox paths are kept in memory
(about 200 bytes each), entries are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from iredapi.backends.ldap.alias_domain_addresses import alias_addresses
from iredapi.backends.ldap.client import Directory, Entry, Scope
from iredapi.backends.ldap.dn_layout import (
    ACCOUNTS,
    ALL_ACCOUNTS,
    Tree,
    both,
    either,
    equal,
    everything,
)
from iredapi.backends.ldap.domain_mapping import COUNTERS
from iredapi.backends.ldap.escaping import key_of
from iredapi.backends.ldap.session import chunks, flag, number, words
from iredapi.backends.ldap.user_mapping import mailbox_path
from iredapi.domain.addresses import domain_of, local_part_of

DOMAIN = "(objectClass=mailDomain)"
PAGE = 200
NAMING = (
    "mailForwardingAddress", "shadowAddress", "memberOfGroup", "domainAdmin", "listOwner",
    "listModerator", "listAllowedUser", "userSenderBccAddress", "userRecipientBccAddress",
    "domainSenderBccAddress", "domainRecipientBccAddress", "mail",
)  # fmt: skip
"""Attributes whose values are addresses."""
_NAMES = (
    "objectClass", "domainName", "domainAliasName", "domainPendingAliasName", "accountStatus",
    "domainBackupMX", "domainAdmin", "mail", "shadowAddress", "memberOfGroup", "mailQuota",
    "homeDirectory", "storageBaseDirectory", "mailMessageStore", "enabledService",
    "domainGlobalAdmin",
)  # fmt: skip


def mail_in(dn: str) -> str:
    """Return the value of the first RDN of a DN: the address of ``mail=…``, folded."""
    return key_of(dn).partition(",")[0].partition("=")[2]


@dataclass
class Hosted:
    """A mail domain."""

    name: str
    aliases: frozenset[str]
    pending: frozenset[str]
    admins: frozenset[str]
    active: bool
    backupmx: bool
    catchall: bool = False
    containers: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)


class Facts:
    """What the check of an entry may depend on: of the whole tree, or of one entry only."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.domains: dict[str, Hosted] = {}
        self.targets: dict[str, list[str]] = {}
        """Alias domain → the domains that have it."""
        self.users: dict[str, bool] = {}
        """Mail user → whether it is marked as admin."""
        self.misplaced_users: set[str] = set()
        """DNs (folded) of mail users that are not at the DN of their address."""
        self.groups: set[str] = set()
        """Addresses of mailing lists."""
        self.admins: set[str] = set()
        self.globals = 0
        self.members: Counter[str] = Counter()
        self._owners: dict[str, str] = {}
        self._seen: set[str] = set()
        self.shared: dict[str, list[str]] = {}
        """Address that several entries have → the accounts that have it."""
        self._homes: dict[str, str] = {}
        self.sharing: dict[str, str] = {}
        """User → another user with the same mailbox directory."""

    @classmethod
    async def of_tree(cls, directory: Directory, tree: Tree) -> Facts:
        """Read a whole tree."""
        facts = cls(tree)
        await facts.read_domains(directory)
        await facts._read(directory, tree.base, Scope.SUB, ALL_ACCOUNTS)
        await facts._read(directory, tree.admin_base, Scope.ONE, "(objectClass=mailAdmin)")
        for name in facts.domains:
            await facts._read_containers(directory, name)
        return facts

    @classmethod
    async def of_entry(cls, directory: Directory, tree: Tree, entry: Entry) -> Facts:
        """Read what the check of one entry depends on, as it is now."""
        facts = cls(tree)
        await facts.read_domains(directory)
        name = entry.value("domainName").lower()
        if name in facts.domains:
            await facts._read(directory, tree.base, Scope.SUB, everything(name), once=True)
            await facts._read_containers(directory, name)
        named = set[str]().union(*(words(entry, attribute) for attribute in NAMING))
        named |= {mail_in(dn) for dn in entry.values("member")}
        for domain in facts.domains.values():
            named |= alias_addresses(named, domain.name, domain.aliases)
        named |= {alias_address for mail in named for alias_address in facts.primaries(mail)}
        named |= {f"@{domain_of(mail)}" for mail in named if "@" in mail}
        for some in chunks(named):
            terms = [
                equal(attribute, mail)
                for mail in some
                for attribute in ("mail", "shadowAddress", "memberOfGroup")
            ]
            for found in await directory.search(
                tree.base, Scope.SUB, both(ALL_ACCOUNTS, either(terms)), _NAMES
            ):
                facts._absorb_once(found)
            terms = [equal("mail", mail) for mail in some]
            for found in await directory.search(
                tree.admin_base, Scope.ONE, both("(objectClass=mailAdmin)", either(terms)), _NAMES
            ):
                facts._absorb(found)
        for dn in entry.values("member"):
            if key_of(tree.user(mail_in(dn))) != key_of(dn):
                for found in await directory.search(dn, Scope.BASE, ACCOUNTS, _NAMES):
                    facts._absorb_once(found)
        return facts

    async def read_domains(self, directory: Directory) -> None:
        """Read all mail domains."""
        await self._read(directory, self.tree.base, Scope.ONE, DOMAIN)

    async def _read(
        self, directory: Directory, base: str, scope: Scope, kind: str, *, once: bool = False
    ) -> None:
        async for page in directory.pages(base, scope, kind, _NAMES, size=PAGE):
            for entry in page:
                (self._absorb_once if once else self._absorb)(entry)

    async def _read_containers(self, directory: Directory, name: str) -> None:
        for entry in await directory.search(
            self.tree.domain(name), Scope.ONE, "(objectClass=organizationalUnit)", ("ou",)
        ):
            self.domains[name].containers |= words(entry, "ou")

    def _absorb_once(self, entry: Entry) -> None:
        if entry.dn not in self._seen:
            self._seen.add(entry.dn)
            self._absorb(entry)

    def _absorb(self, entry: Entry) -> None:
        kinds = words(entry, "objectClass")
        mail = entry.value("mail").lower()
        if "maildomain" in kinds:
            self._absorb_domain(entry)
        elif "mailadmin" in kinds:
            self.admins.add(mail)
            self._count_global(entry)
        elif "mailexternaluser" in kinds:
            self.members.update(words(entry, "memberOfGroup"))
        else:
            self._absorb_account(entry, mail, kinds)

    def _absorb_domain(self, entry: Entry) -> None:
        name = entry.value("domainName").lower()
        aliases = words(entry, "domainAliasName")
        self.domains[name] = Hosted(
            name,
            aliases,
            words(entry, "domainPendingAliasName"),
            words(entry, "domainAdmin"),
            active=flag(entry, "accountStatus", "active"),
            backupmx=flag(entry, "domainBackupMX", "yes"),
        )
        for alias in aliases:
            self.targets.setdefault(alias, []).append(name)

    def _count_global(self, entry: Entry) -> None:
        self.globals += flag(entry, "domainGlobalAdmin", "yes") and flag(
            entry, "accountStatus", "active"
        )

    def _absorb_account(self, entry: Entry, mail: str, kinds: frozenset[str]) -> None:
        self.members.update(words(entry, "memberOfGroup"))
        for address in words(entry, "mail") | words(entry, "shadowAddress"):
            if address in self._owners:
                self.shared.setdefault(address, [self._owners[address]]).append(mail)
            else:
                self._owners[address] = mail
        domain = self.domains.get(domain_of(mail))
        counts = Counter[str]() if domain is None else domain.counts
        if mail.startswith("@"):
            if domain is not None:
                domain.catchall = True
        elif "mailuser" in kinds:
            counts["users"] += 1
            if key_of(self.tree.user(mail)) != key_of(entry.dn):
                self.misplaced_users.add(key_of(entry.dn))
            counts["quota"] += number(entry.value("mailQuota"))
            self.users[mail] = "domainadmin" in words(entry, "enabledService") or flag(
                entry, "domainGlobalAdmin", "yes"
            )
            self._count_global(entry)
            home = mailbox_path(entry).rstrip("/")
            if home and (other := self._homes.setdefault(home, mail)) != mail:
                self.sharing[mail] = other
        elif "maillist" in kinds:
            counts["lists"] += 1
            self.groups.add(mail)
        else:
            counts["aliases"] += 1

    # -- queries -----------------------------------------------------------------------------------

    def is_hosted(self, name: str) -> bool:
        """Tell whether a name is a mail domain or an alias domain of one."""
        return name in self.domains or name in self.targets

    def primaries(self, address: str) -> list[str]:
        """Return the addresses in mail domains that an address in an alias domain stands for."""
        local = local_part_of(address)
        return [f"{local}@{name}" for name in self.targets.get(domain_of(address), ())]

    def owner(self, address: str) -> str:
        """Return the account that has an address; "" for none."""
        return self._owners.get(address, "")

    def is_admin(self, mail: str) -> bool:
        """Tell whether there is a user or standalone admin with this address."""
        return mail in self.users or mail in self.admins

    def manages(self, mail: str) -> bool:
        """Tell whether an admin manages at least one domain."""
        return any(mail in domain.admins for domain in self.domains.values())

    def is_gone(self, address: str, source: str = "") -> bool:
        """Tell whether an address is in a hosted domain and does not exist there.

        False for addresses that may exist: with an extension (``user+tag@``), in a domain with a
        catch-all, in a backup MX domain. The catch-all does not count when it is the ``source``,
        the entry that forwards to this address.
        """
        name = domain_of(address)
        hosts = [name] if name in self.domains else self.targets.get(name, [])
        if "@" not in address or "+" in address or not hosts or self.owner(address):
            return False
        return not any(
            self.domains[host].backupmx or (self.domains[host].catchall and source != f"@{host}")
            for host in hosts
        )

    def counted(self, name: str) -> Iterable[tuple[str, int]]:
        """Return the right values of a domain's counters, by attribute."""
        counts = self.domains[name].counts
        return [(attribute, counts[what]) for what, attribute in COUNTERS.items()]


class TreeDirectory:
    """See ``orphaned_rows.Directory``."""

    def __init__(self, directory: Directory, tree: Tree) -> None:
        self._directory = directory
        self._tree = tree

    async def unknown(self, accounts: Iterable[str]) -> frozenset[str]:
        """See ``orphaned_rows.Directory``."""
        facts = Facts(self._tree)
        await facts.read_domains(self._directory)
        names = {account: account.lstrip("@") for account in accounts}
        spellings = {
            account: {
                f"{local}@{domain}"
                for local in (local_part_of(name), local_part_of(name).partition("+")[0])
                for domain in (domain_of(name), *facts.targets.get(domain_of(name), ()))
            }
            for account, name in names.items()
            if "@" in name
        }
        present = await self._present({mail for mails in spellings.values() for mail in mails})
        return frozenset(
            account
            for account, name in names.items()
            if not (
                spellings[account] & present
                if account in spellings
                else facts.is_hosted(domain_of(name))
            )
        )

    async def hosts_any(self) -> bool:
        """See ``orphaned_rows.Directory``."""
        facts = Facts(self._tree)
        await facts.read_domains(self._directory)
        return bool(facts.domains)

    async def _present(self, mails: Iterable[str]) -> frozenset[str]:
        wanted, found = frozenset(mails), set[str]()
        for some in chunks(wanted):
            terms = [equal(name, mail) for mail in some for name in ("mail", "shadowAddress")]
            for base, kind in (
                (self._tree.base, ACCOUNTS), (self._tree.admin_base, "(objectClass=mailAdmin)"),
            ):  # fmt: skip
                for entry in await self._directory.search(
                    base, Scope.SUB, both(kind, either(terms)), ("mail", "shadowAddress")
                ):
                    found |= words(entry, "mail") | words(entry, "shadowAddress")
        return frozenset(found) & wanted

    async def owners(self, _connection: object, paths: Iterable[str]) -> dict[str, str]:
        """See ``mailbox_queue.Owners``."""
        spelt = {text: path for path in paths for text in (path, f"{path}/")}
        found: dict[str, str] = {}
        for some in chunks(spelt):
            for entry in await self._directory.search(
                self._tree.base,
                Scope.SUB,
                both("(objectClass=mailUser)", either(equal("homeDirectory", p) for p in some)),
                ("mail", "homeDirectory"),
            ):
                home = entry.value("homeDirectory").lower().rstrip("/")
                found[home] = entry.value("mail").lower()
        return found
