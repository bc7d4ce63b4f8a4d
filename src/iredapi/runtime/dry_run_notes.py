"""What the methods that write would change of accounts, told by the records that they get.

The roles of a unit are wrapped, so SQL and LDAP tell the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

from iredapi.backends.unit_of_work import UnitOfWork
from iredapi.domain import canonical
from iredapi.domain import changed_parameters as differences
from iredapi.domain.addresses import domain_of, fold, local_part_of
from iredapi.domain.user_parameters import DIRECT_FIELDS
from iredapi.runtime.dry_policy_notes import PolicyNotes
from iredapi.runtime.dry_run import Change, DryRun, View

MASK: Final = "***"
"""What is shown instead of a password or its hash."""
_PAGE: Final = 200
_SHOWN_ELSEWHERE: Final = frozenset({"suspend", "primarymx"})
_LEFT_OUT: Final = frozenset({"guard"})
"""Methods that write to the state database at once (``DeletedMailboxes.guard``)."""
_ROLES: Final = (
    "domains", "users", "admins", "aliases", "lists", "maillists", "spam_policies", "throttles",
    "wblists", "greylists", "deleted_mailboxes",
)  # fmt: skip
Noting = Callable[..., Awaitable[Callable[[Any], None] | None]]
"""Notes a call before it is made; what it returns, if anything, is called with the result."""


class _Watched:
    """A role of which each call of a noted method is noted before it is made."""

    def __init__(self, role: Any, notes: Mapping[str, Noting]) -> None:
        self._role = role
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._role, name)
        noting = self._notes.get(name)
        if name in _LEFT_OUT:
            return _nothing
        if noting is None:
            return method

        async def noted(*args: Any, **kwargs: Any) -> Any:
            then = await noting(*args, **kwargs)
            result = await method(*args, **kwargs)
            if then is not None:
                then(result)
            return result

        return noted


async def _nothing(*_: Any) -> None:
    """Stand for a method that writes what no rollback would undo."""


def watched(unit: UnitOfWork, dry: DryRun) -> UnitOfWork:
    """Return a unit whose writes are noted, and that writes nothing but in transactions."""
    dry.begin()
    unit.related_data.rehearse()
    roles = {name: getattr(unit, name) for name in _ROLES}
    notes = _Notes(SimpleNamespace(**roles), dry, unit)
    for name, role in roles.items():
        if role is not None:
            setattr(unit, name, _Watched(role, notes.of(name)))
    return unit


class _Notes(PolicyNotes):
    """What each method that writes would change."""

    def __init__(self, roles: Any, dry: DryRun, unit: UnitOfWork) -> None:
        """``roles``: those of the unit, as they are without notes."""
        super().__init__(roles, dry)
        self._hidden_of_users = unit.rules.hidden_user_fields
        self._hidden_of_admins = unit.rules.hidden_admin_fields
        self._in_ldap = unit.ldif is not None

    def of(self, role: str) -> Mapping[str, Noting]:
        """Return the notes of a role by method: ``_users_add`` is of ``users.add``."""
        prefix = f"_{role}_"
        return {
            name.removeprefix(prefix): getattr(self, name)
            for name in dir(self)
            if name.startswith(prefix)
        }

    # Users

    def _user(self, user: Any, names: Collection[str]) -> dict[str, Any]:
        return canonical.without(canonical.user(user, names), self._hidden_of_users)

    async def _users_add(self, user: Any, *, groups: Iterable[str], **_: Any) -> None:
        names = await self._names(domain_of(user.mail))
        self._dry.note("user", user.mail, None, self._user(user, names) | {"password": MASK})
        for group in sorted(groups):
            alias = await self._unit.aliases.get(group)
            if alias is not None:
                joined = replace(alias, members=alias.members | {user.mail})
                await self._aliases_save(alias, joined)

    async def _users_save(self, before: Any, after: Any) -> None:
        self._note_user(before, after, await self._names(domain_of(before.mail)))

    def _note_user(self, before: Any, after: Any, names: Collection[str]) -> None:
        old, new = self._user(before, names), self._user(after, names)
        self._dry.note("user", before.mail, old, new)
        different = differences.of_user(before, after)
        self._others("user", before.mail, (old, new), different, self._hidden_of_users)

    async def _users_rename(self, old: str, new: str) -> None:
        found = await self._unit.users.get(old)
        if found is not None:
            names = await self._names(domain_of(old))
            after = replace(
                found,
                mail=new,
                forwardings=_renamed(found.forwardings, old, new),
                name=self._renamed_name(found.name, old, new),
                surname=self._renamed_name(found.surname, old, new),
            )
            self._dry.note("user", found.mail, self._user(found, names), self._user(after, names))

    def _renamed_name(self, name: str, old: str, new: str) -> str:
        """Return a name for a new address: in LDAP the local part means that there is none."""
        is_default = self._in_ldap and name == local_part_of(old)
        return local_part_of(new) if is_default else name

    async def _users_remove(self, mail: str, _removal: Any) -> None:
        found = await self._unit.users.get(mail)
        if found is not None:
            view = self._user(found, await self._names(domain_of(mail)))
            self._dry.note("user", found.mail, view | {"password": MASK}, None)

    async def _users_save_all(
        self, domain: str, changes: Mapping[str, Any], *, but: Collection[str]
    ) -> None:
        names = await self._names(domain)
        values = {DIRECT_FIELDS.get(name, name): value for name, value in changes.items()}
        after, exempt = "", set(map(fold, but))
        while not self._dry.more:
            page = await self._unit.users.records(domain, after, _PAGE, disabled_only=False)
            for user in page:
                if fold(user.mail) not in exempt:
                    self._note_user(user, replace(user, **values), names)
            if len(page) < _PAGE:
                return
            after = page[-1].mail

    async def _users_set_suspended(
        self, domain: str, *, suspended: bool
    ) -> Callable[[Any], None] | None:
        old, new = ("no", "yes") if suspended else ("yes", "no")

        def then(different: bool) -> None:
            if different:
                self._dry.note("users", domain, {"suspended": old}, {"suspended": new})

        return then

    # Domains

    async def _domains_add(self, domain: Any, owner: str, **_: Any) -> None:
        none = canonical.counters(users=0, aliases=0, lists=0, allocated_quota=0)
        view = canonical.domain(domain, [owner] if owner else []) | none
        self._dry.note("domain", domain.name, None, view)

    async def _domains_save(self, before: Any, after: Any, **_: Any) -> None:
        old, new = canonical.domain(before, ()), canonical.domain(after, ())
        self._dry.note("domain", before.name, old, new)
        self._others("domain", before.name, (old, new), differences.of_domain(before, after))

    async def _domains_remove(self, name: str, _removal: Any) -> None:
        found = await self._unit.domains.get(name)
        if found is None:
            return
        admins = await self._unit.domains.admins_of([found.name])
        usage = await self._unit.domains.usage(found.name)
        counters = canonical.counters(
            users=usage.users,
            aliases=usage.aliases,
            lists=usage.lists,
            allocated_quota=usage.allocated_quota,
        )
        view = canonical.domain(found, admins.get(found.name, ())) | counters
        self._dry.note("domain", found.name, view, None)

    async def _domains_add_admins(self, name: str, mails: Collection[str]) -> None:
        known = await self._admins_of(name)
        self._note_admins(name, known, known | set(mails), inactive=False)

    async def _domains_remove_admins(self, name: str, mails: Collection[str]) -> None:
        known, stored = await self._admins_of(name), await self._unit.domains.admins(name)
        # Rights that are not active are no admins in a view, and go all the same.
        inactive = not (set(mails) & stored) <= known
        self._note_admins(name, known, known - set(mails), inactive=inactive)

    async def _admins_of(self, name: str) -> set[str]:
        # LDAP does not show what the same write has planned.
        earlier = self._dry.noted("domain", name, "admins")
        if earlier is not None:
            return set(earlier.new)
        return set((await self._unit.domains.admins_of([name])).get(name, ()))

    def _note_admins(self, name: str, old: set[str], new: set[str], *, inactive: bool) -> None:
        change = Change(sorted(old), sorted(new), told_anyway=inactive)
        self._dry.note_field("domain", name, "admins", change)

    # Admins, aliases, lists

    def _admin(self, admin: Any) -> dict[str, Any]:
        return canonical.without(canonical.admin(admin), self._hidden_of_admins)

    async def _admins_add(self, admin: Any) -> None:
        self._dry.note("admin", admin.mail, None, self._admin(admin) | {"password": MASK})

    async def _admins_save(self, before: Any, after: Any) -> None:
        old, new = self._admin(before), self._admin(after)
        self._dry.note("admin", before.mail, old, new)
        different = differences.of_admin(before, after)
        self._others("admin", before.mail, (old, new), different, self._hidden_of_admins)

    async def _admins_remove(self, mail: str) -> None:
        found = await self._unit.admins.get(mail)
        if found is not None:
            self._dry.note("admin", found.mail, self._admin(found) | {"password": MASK}, None)

    async def _aliases_add(self, alias: Any) -> None:
        self._dry.note("alias", alias.address, None, canonical.alias(alias))

    async def _aliases_save(self, before: Any, after: Any) -> None:
        old, new = canonical.alias(before), canonical.alias(after)
        self._dry.note("alias", before.address, old, new)
        self._others("alias", before.address, (old, new), differences.of_alias(before, after))

    async def _aliases_rename(self, old: str, new: str) -> None:
        found = await self._unit.aliases.get(old)
        if found is not None:
            after = replace(
                found,
                address=new,
                members=_renamed(found.members, old, new),
                name=self._renamed_name(found.name, old, new),
            )
            self._dry.note("alias", found.address, canonical.alias(found), canonical.alias(after))

    async def _aliases_remove(self, address: str) -> None:
        found = await self._unit.aliases.get(address)
        if found is not None:
            self._dry.note("alias", found.address, canonical.alias(found), None)

    async def _maillists_add(self, item: Any) -> None:
        self._dry.note("maillist", item.address, None, canonical.maillist(item))

    async def _maillists_save(self, before: Any, after: Any) -> None:
        old, new = canonical.maillist(before), canonical.maillist(after)
        self._dry.note("maillist", before.address, old, new)

    async def _maillists_remove(self, address: str) -> None:
        found = None
        if self._unit.maillists is not None:
            found = await self._unit.maillists.get(address)
        if found is not None:
            self._dry.note("maillist", found.address, canonical.maillist(found), None)

    async def _lists_add(self, item: Any) -> None:
        self._dry.note("ml", item.address, None, canonical.mailing_list(item))

    async def _lists_save(self, before: Any, after: Any) -> None:
        old, new = canonical.mailing_list(before), canonical.mailing_list(after)
        self._dry.note("ml", before.address, old, new)

    async def _lists_remove(self, address: str) -> None:
        found = await self._unit.lists.get(address)
        if found is not None:
            self._dry.note("ml", found.address, canonical.mailing_list(found), None)

    async def _deleted_mailboxes_set_date(self, box: Any, day: Any) -> None:
        old, new = {"delete_date": box.delete_date}, {"delete_date": day}
        self._dry.note("deleted_mailbox", box.mail, old, new)

    # What they need

    async def _names(self, domain: str) -> Collection[str]:
        found = await self._unit.domains.get(domain)
        return found.names if found is not None else ()

    def _others(
        self,
        kind: str,
        account: str,
        views: tuple[View, View],
        changed: Iterable[str],
        hidden: Collection[str] = (),
    ) -> None:
        """Note changes that the views do not show: passwords, and what only one storage has."""
        old, new = views
        shown = {name for name in old if old.get(name) != new.get(name)}
        left = dict.fromkeys(name for name in changed if name not in shown | _SHOWN_ELSEWHERE)
        for name in left:
            secret = "passw" in name.lower()
            if secret or canonical.without({name: None}, hidden):
                value = MASK if secret else None
                self._dry.note_field(kind, account, name, Change(value, value, told_anyway=True))


def _renamed(addresses: Iterable[str], old: str, new: str) -> frozenset[str]:
    """Return addresses with another one for an account itself."""
    return frozenset(new if fold(address) == fold(old) else address for address in addresses)
