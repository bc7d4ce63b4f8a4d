"""Standalone admins in LDAP, and the principals of logins."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from iredapi.backends.ldap import references, settings_values
from iredapi.backends.ldap.client import Entry, Scope, Search
from iredapi.backends.ldap.dn_layout import both, either, equal
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.locks import GLOBALS
from iredapi.backends.ldap.profiles import entry_to_response
from iredapi.backends.ldap.session import Session, chunks, flag, words
from iredapi.backends.ldap.user_mapping import stored_hash
from iredapi.backends.protocols.values import Profile
from iredapi.domain.account_settings import Settings
from iredapi.domain.actors import Principal
from iredapi.domain.addresses import domain_of
from iredapi.domain.admins import Admin
from iredapi.domain.inventory import AnyAdmin
from iredapi.domain.passwords import HASH_SEPARATOR

_ADMIN = "(objectClass=mailAdmin)"
_USER = "(objectClass=mailUser)"
_DOMAIN = "(objectClass=mailDomain)"
_WITH_ID: Final = ("*", "entryUUID", "createTimestamp")
"""All attributes, and those that tell an entry from a later one with the same DN."""
_SWITCHES: Final = {
    "disable_viewing_mail_log": "view_mail_log",
    "disable_managing_quarantined_mails": "manage_quarantined_mails",
}
"""Settings that are values of ``disabledService`` in LDAP."""


def record(entry: Entry, managed: Collection[str]) -> Admin:
    """Return the record of a standalone admin."""
    settings = dict(settings_values.parse(entry.values(settings_values.ATTRIBUTE)))
    disabled = words(entry, "disabledService")
    settings |= {key: "yes" for key, service in _SWITCHES.items() if service in disabled}
    return Admin(
        entry.value("mail").lower(),
        password=stored_hash(entry),
        name=entry.value("cn"),
        language=entry.value("preferredLanguage"),
        active=flag(entry, "accountStatus", "active"),
        is_global=flag(entry, "domainGlobalAdmin", "yes"),
        settings=settings,
        managed_domains=frozenset(managed),
    )


class LdapAdmins:
    """See ``protocols.admins.Admins``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tree = session.tree

    async def principal(self, username: str) -> Principal | None:
        admin, user, managed = await asyncio.gather(
            self._session.directory.get(self._tree.admin(username), _WITH_ID),
            self._session.directory.get(self._tree.user(username), _WITH_ID),
            self._managed(username),
        )
        if admin is None and user is None:
            admin, user = await asyncio.gather(
                self._found(self._tree.admin_base, _ADMIN, username),
                self._found(self._tree.base, _USER, username),
            )
        # A standalone admin, even disabled, takes precedence over a mail user of the same address.
        entry = admin or user
        if entry is None or not flag(entry, "accountStatus", "active"):
            return None
        is_global = flag(entry, "domainGlobalAdmin", "yes")
        settings: Settings = {}
        if admin is not None:
            settings = record(admin, ()).settings
        elif not is_global and "domainadmin" not in words(entry, "enabledService"):
            return None
        # Mail users may change their own accountSetting over LDAP: it gives them no rights.
        return Principal(
            username=username,
            password=stored_hash(entry),
            standalone=admin is not None,
            is_global=is_global,
            domains=managed,
            settings=settings,
            account_created_at=entry.value("entryUUID") or entry.value("createTimestamp"),
        )

    async def _found(self, base: str, kind: str, mail: str) -> Entry | None:
        """Return an account that does not have its usual DN."""
        found = await self._session.find(base, Scope.SUB, both(kind, equal("mail", mail)), _WITH_ID)
        return min(found, key=lambda entry: entry.dn, default=None)

    async def _managed(self, mail: str) -> frozenset[str]:
        found = await self._session.holders(
            self._tree.base, Scope.ONE, _DOMAIN, "domainAdmin", [mail], ("domainName",)
        )
        return frozenset(entry.value("domainName").lower() for entry in found)

    async def every(self) -> list[AnyAdmin]:
        names = ("mail", "cn", "preferredLanguage", "accountStatus", "domainGlobalAdmin")
        managed: dict[str, set[str]] = {}
        of_domains = ("domainName", "domainAdmin")
        kind = both(_DOMAIN, "(domainAdmin=*)")
        async for page in self._session.pages(self._tree.base, Scope.ONE, kind, of_domains):
            for domain in page:
                for mail in words(domain, "domainAdmin"):
                    managed.setdefault(mail, set()).add(domain.value("domainName").lower())
        kind = both(_USER, "(|(domainGlobalAdmin=yes)(enabledService=domainadmin))")
        more = (*names, "enabledService", "disabledService", settings_values.ATTRIBUTE)
        found: dict[str, AnyAdmin] = {}
        for base, wanted, standalone in (
            (self._tree.base, kind, False),
            (self._tree.admin_base, _ADMIN, True),
        ):
            async for page in self._session.pages(base, Scope.SUB, wanted, more):
                for entry in page:
                    mail = entry.value("mail").strip().lower()
                    admin = record(entry, managed.get(mail, ()))
                    # Mail users may change their own accountSetting: it gives them no rights.
                    admin = admin if standalone else replace(admin, settings={})
                    found[mail] = AnyAdmin(admin, standalone=standalone)
        return [*found.values()]

    async def hashes(self, mails: Collection[str]) -> Mapping[str, str]:
        names = ("mail", "userPassword")
        searches = _with_mail(self._tree.admin_base, _ADMIN, mails, names)
        found = await self._session.find_all(searches)
        every = (entry for entries in found for entry in entries)
        return {entry.value("mail").strip().lower(): stored_hash(entry) for entry in every}

    async def inside(self, domains: Collection[str]) -> frozenset[str]:
        return await references.standalone(self._session, domains)

    async def exists(self, mails: Collection[str]) -> frozenset[str]:
        users = _with_mail(self._tree.base, _USER, mails)
        found = await self._session.find_all([*self.standalone(mails), *users])
        return frozenset(entry.value("mail").lower() for entries in found for entry in entries)

    def standalone(self, mails: Collection[str]) -> list[Search]:
        """Return the searches for standalone admins with these addresses."""
        return _with_mail(self._tree.admin_base, _ADMIN, mails)

    async def hold(self, mails: Collection[str]) -> None:
        await self._session.lock(*{domain_of(mail) for mail in mails})

    async def get(self, mail: str) -> Admin | None:
        entry = await self._session.admin(mail)
        return None if entry is None else record(entry, await self._managed(mail))

    async def claim(self, mail: str) -> Admin | None:
        await self._session.lock(domain_of(mail))
        return await self.get(mail)

    async def profile(self, mail: str) -> Profile | None:
        entry = await self._session.admin(mail)
        if entry is None:
            return None
        return entry_to_response(entry) | {"managed_domains": sorted(await self._managed(mail))}

    async def password(self, mail: str) -> str | None:
        entry = await self._session.admin(mail)
        if entry is None:
            user = await self._session.account("mailUser", self._tree.user(mail), mail)
            if user is not None and (
                flag(user, "domainGlobalAdmin", "yes")
                or "domainadmin" in words(user, "enabledService")
            ):
                entry = user
        return None if entry is None else stored_hash(entry)

    async def limits_of_user(self, mail: str) -> Settings:  # noqa: ARG002
        # As in ``principal``: users may write this attribute themselves, so it is ignored.
        return {}

    async def slow_hashes(self) -> list[str]:
        marks = "(|(domainGlobalAdmin=yes)(enabledService=domainadmin))"
        attributes = ("mail", "userPassword")
        found = [
            *await self._session.find(self._tree.admin_base, Scope.ONE, _ADMIN, attributes),
            *await self._session.find(self._tree.base, Scope.SUB, f"(&{_USER}{marks})", attributes),
        ]
        return [stored_hash(entry) for entry in found]

    async def rehash(self, mail: str, old: str, new: str, *, standalone: bool) -> bool:
        session = self._session
        await session.lock(domain_of(mail))
        if standalone:
            entry = await session.admin(mail)
        else:
            entry = await session.account("mailUser", self._tree.user(mail), mail)
        if entry is None or stored_hash(entry) != old:
            return False
        # The change names the old value, so it fails if that was changed since.
        session.edit(entry).put_all("userPassword", [new])
        return True

    async def add(self, admin: Admin) -> None:
        blank = Entry(self._tree.admin(admin.mail), {})
        edit = Edit(blank)
        edit.put_all("objectClass", ["mailAdmin"])
        edit.put("mail", admin.mail)
        edit.put("accountStatus", "active" if admin.active else "disabled")
        self._put(edit, Admin(admin.mail, active=admin.active), admin)
        await references.forget_rights(self._session, [admin.mail])
        self._session.add(blank.dn, {change.name: change.values for change in edit.changes()})

    def _put(self, edit: Edit, before: Admin, after: Admin) -> None:
        if before.name != after.name:
            edit.put("cn", after.name)
        if before.language != after.language:
            edit.put("preferredLanguage", after.language)
        if before.active != after.active:
            edit.put("accountStatus", "active" if after.active else "disabled")
        if before.is_global != after.is_global:
            edit.put("domainGlobalAdmin", "yes" if after.is_global else "")
        if before.password != after.password:
            edit.put_all("userPassword", after.password.split(HASH_SEPARATOR))
            today = datetime.now(UTC).replace(tzinfo=None) - datetime(1970, 1, 1)  # noqa: DTZ001
            edit.put("shadowLastChange", str(today.days))
        old, new = dict(before.settings), dict(after.settings)
        for key, service in _SWITCHES.items():
            was, wanted = old.pop(key, None) == "yes", new.pop(key, None) == "yes"
            if was != wanted:
                (edit.add if wanted else edit.discard)("disabledService", [service])
        settings_values.write(edit, old, new)

    async def save(self, before: Admin, after: Admin) -> None:
        entry = await self._session.admin(before.mail)
        if before != after and entry is not None:
            self._put(self._session.edit(entry), before, after)

    async def remove(self, mail: str) -> None:
        entry = await self._session.admin(mail)
        if entry is None:
            return
        for domain in await self._session.holders(
            self._tree.base, Scope.ONE, _DOMAIN, "domainAdmin", [mail]
        ):
            self._session.edit(self._session.remember(domain)).discard("domainAdmin", [mail])
        await self._session.delete(entry)

    async def globals_without(self, mails: Collection[str], *, domain: str = "") -> int:
        await self._session.lock(GLOBALS)
        wanted = "(domainGlobalAdmin=yes)(accountStatus=active)"
        found = [
            *await self._session.find(
                self._tree.admin_base, Scope.SUB, f"(&{_ADMIN}{wanted})", ("mail",)
            ),
            *await self._session.find(self._tree.base, Scope.SUB, f"(&{_USER}{wanted})", ("mail",)),
        ]
        names = {entry.value("mail").lower() for entry in found} - set(mails)
        return sum(not (domain and domain_of(name) == domain) for name in names)


def _with_mail(
    base: str, kind: str, mails: Collection[str], names: Sequence[str] = ("mail",)
) -> list[Search]:
    """Return the searches for entries of a kind with one of these addresses."""
    return [
        (base, Scope.SUB, both(kind, either(equal("mail", mail) for mail in some)), names)
        for some in chunks(mails)
    ]
