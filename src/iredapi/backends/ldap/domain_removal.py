"""Remove a mail domain with all its accounts, in bulk steps (see ``write_plan.BulkStep``)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from iredapi.backends.ldap import alias_domain_addresses, references
from iredapi.backends.ldap.client import Change, Entry, Op, Scope
from iredapi.backends.ldap.dn_layout import (
    ACCOUNTS,
    DOMAIN,
    USER,
    both,
    ends,
    equal,
    everything,
    real_users,
)
from iredapi.backends.ldap.escaping import depth
from iredapi.backends.ldap.session import Session, address_in, words
from iredapi.backends.ldap.user_mapping import mailbox_path
from iredapi.backends.ldap.write_plan import Rename
from iredapi.backends.protocols.values import Removal
from iredapi.domain.addresses import domain_of


async def remove_domain(session: Session, name: str, entry: Entry, removal: Removal) -> None:
    """Plan the end of a domain; ``entry`` is the domain's own.

    Bulk steps only: a removal that fails half-way is not undone, the same request completes it. The
    domain is disabled first, so that Postfix accepts no mail for accounts that are half removed.
    """
    moment = session.iredadmin.moment()
    async for page in session.pages(session.tree.base, Scope.SUB, real_users(name), ("*",)):
        paths = {address_in(user, name): mailbox_path(user) for user in page}
        await session.iredadmin.queue(name, paths, removal, moment)
    aliases = words(entry, "domainAliasName")
    # Other programs store domains as alias domains, too: their accounts stay.
    names = sorted({name} | aliases - await alias_domain_addresses.hosted(session, aliases, name))
    await session.iredadmin.forget_domain(names)
    managers = words(entry, "domainAdmin")
    own = both(DOMAIN, equal("domainName", name))
    off = Change(Op.REPLACE, "accountStatus", ("disabled",))
    session.change_found(session.tree.domain(name), own, lambda _: (off,), ("1.1",), Scope.BASE)
    standalone = await references.standalone(session, names)
    references.forget_domains(session, name, names, standalone)
    await _demote(session, name, [mail for mail in managers if domain_of(mail) != name])
    await _move_out(session, name, names)
    session.change_found(session.tree.base, everything(name), lambda _: None, ("1.1",))
    session.delete_subtree(session.tree.domain(name))
    session.after.append(partial(session.iredadmin.date_later, name, removal, moment))


async def _move_out(session: Session, name: str, names: Collection[str]) -> None:
    """Plan to move accounts of other domains that lie below this domain's entry to their own."""
    found = await session.find(
        session.tree.domain(name), Scope.SUB, both(ACCOUNTS, f"(!{ends('mail', f'@{name}')})")
    )
    for entry in sorted(found, key=lambda entry: -depth(entry.dn)):
        mail = entry.value("mail").lower()
        domain = None if domain_of(mail) in names else await session.domain(domain_of(mail))
        if domain is None:
            continue
        kinds = words(entry, "objectClass")
        new_dn = session.tree.alias(mail)
        if "mailuser" in kinds:
            new_dn = session.tree.user(mail)
        elif "maillist" in kinds:
            new_dn = session.tree.mail_list(mail)
        if await session.entry(new_dn) is not None:
            continue
        session.plan.append(Rename(entry.dn, new_dn))
        for group in await session.holders(
            session.tree.base, Scope.SUB, "(objectClass=mailList)", "member", [entry.dn]
        ):
            session.edit(session.remember(group)).swap("member", entry.dn, new_dn)


async def _demote(session: Session, name: str, mails: Sequence[str]) -> None:
    """Plan to remove the service of admins from mail users who manage no other domain."""
    managing: set[str] = set()
    for other in await session.holders(
        session.tree.base, Scope.ONE, DOMAIN, "domainAdmin", mails, ("domainName", "domainAdmin")
    ):
        if other.value("domainName").lower() != name:
            managing |= words(other, "domainAdmin")
    lost = Change(Op.DELETE, "enabledService", ("domainadmin",))
    for mail in sorted(set(mails) - managing):
        session.change_found(
            session.tree.base,
            both(USER, equal("mail", mail), "(enabledService=domainadmin)",
                 "(!(domainGlobalAdmin=yes))"),
            lambda _: (lost,),
            ("1.1",),
        )  # fmt: skip
