"""What goes, and what changes its name, with an account: every table of ``vmail`` in one place.

The order is the sheet's: what is copied elsewhere is copied first, the account itself goes last.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Table, and_, exists, or_, select

from iredapi.backends.protocols import Removal
from iredapi.backends.sql import mailboxes
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.dialect import domain_of
from iredapi.backends.sql.store import Store, chunks, demotable, now
from iredapi.domain.addresses import domain_of as domain_part

_BCC_USER = (t.sender_bcc_user, t.recipient_bcc_user)
_BCC_DOMAIN = (t.sender_bcc_domain, t.recipient_bcc_domain)


async def remove_user(store: Store, mail: str, removal: Removal) -> None:
    """Remove a mail user and everything that points to it."""
    await mailboxes.queue(store, removal, t.mailbox.c.username == mail)
    await _forget_address(store, mail)
    for table in _BCC_USER:
        await store.delete(table, table.c.username == mail)
    await store.delete(t.sender_relayhost, t.sender_relayhost.c.account == mail)
    for table in (store.quota_table, t.last_login):
        await store.delete(table, table.c.username == mail)
    s, a = t.share_folder.c, t.anyone_shares.c
    await store.delete(t.share_folder, or_(s.from_user == mail, s.to_user == mail))
    await store.delete(t.anyone_shares, a.from_user == mail)
    await store.delete(
        t.domain_admins, t.domain_admins.c.username == mail, _not_standalone(t.domain_admins)
    )
    await store.delete(t.mailbox, t.mailbox.c.username == mail)


def _not_standalone(table: Table) -> ColumnElement[bool]:
    """Spare the rights of a standalone admin that has the same address as a mail user."""
    a = t.admin.c
    return ~exists(select(a.username).where(a.username == table.c.username))


async def remove_alias(store: Store, address: str) -> None:
    """Remove an alias account and everything that points to it."""
    await _forget_address(store, address)
    await store.delete(t.moderators, t.moderators.c.address == address)
    # Postfix looks a sender's relay host up for any address.
    await store.delete(t.sender_relayhost, t.sender_relayhost.c.account == address)
    await store.delete(t.alias, t.alias.c.address == address)


async def remove_list(store: Store, address: str) -> None:
    """Remove a mailing list and everything that points to it, its other addresses too."""
    await _forget_address(store, address)
    for table in (t.moderators, t.maillist_owners, t.maillists):
        await store.delete(table, table.c.address == address)
    await store.delete(t.sender_relayhost, t.sender_relayhost.c.account == address)


async def _forget_address(store: Store, mail: str) -> None:
    f = t.forwardings.c
    bereft = await store.column(
        select(f.address).where(f.forwarding == mail, f.is_forwarding == 1, f.address != mail)
    )
    await store.delete(t.forwardings, or_(f.address == mail, f.forwarding == mail))
    await _restore_self_rows(store, bereft)
    await store.delete(t.moderators, t.moderators.c.moderator == mail)
    await store.delete(t.maillist_owners, t.maillist_owners.c.owner == mail)
    for table in (*_BCC_USER, *_BCC_DOMAIN):
        await store.delete(table, table.c.bcc_address == mail)


async def _restore_self_rows(store: Store, addresses: list[str]) -> None:
    """Give users whose last forwarding went away their self row: mail needs a destination."""
    f, m = t.forwardings.c, t.mailbox.c
    for some in chunks(addresses):
        users = await store.rows(
            select(m.username, m.domain, m.active).where(
                m.username.in_(some),
                ~exists(select(f.address).where(f.address == m.username, f.is_forwarding == 1)),
            )
        )
        await store.insert_missing(
            t.forwardings,
            [
                {
                    "address": user["username"],
                    "forwarding": user["username"],
                    "domain": user["domain"],
                    "dest_domain": user["domain"],
                    "is_forwarding": 1,
                    "active": user["active"],
                }
                for user in users
            ],
        )


async def remove_domain(store: Store, name: str, removal: Removal) -> None:
    """Remove a domain, its accounts, its alias domains, and everything that points to them."""
    f, a = t.forwardings.c, t.alias_domain.c
    names = [
        name, *await store.column(select(a.alias_domain).where(a.target_domain == name))
    ]  # fmt: skip

    def inside(column: ColumnElement[Any]) -> ColumnElement[bool]:
        return domain_of(column).in_(names)

    await mailboxes.queue(store, removal, t.mailbox.c.domain == name)
    bereft = await store.column(
        select(f.address).where(
            f.domain != name,
            f.is_forwarding == 1,
            or_(f.dest_domain.in_(names), inside(f.forwarding)),
        )
    )
    await store.delete(
        t.forwardings,
        or_(
            f.domain == name,
            f.dest_domain.in_(names),
            f.address == name,
            inside(f.address),
            inside(f.forwarding),
        ),
    )
    await _restore_self_rows(store, bereft)
    for table in (t.moderators, t.maillist_owners):
        await store.delete(table, or_(table.c.domain == name, table.c.dest_domain.in_(names)))
    for table in (t.maillists, t.alias):
        await store.delete(table, table.c.domain == name)
    for table in (*_BCC_USER, *_BCC_DOMAIN):
        await store.delete(table, or_(table.c.domain == name, inside(table.c.bcc_address)))
    relay = t.sender_relayhost.c.account
    await store.delete(t.sender_relayhost, inside(relay))
    for table in (store.quota_table, t.last_login):
        await store.delete(table, or_(table.c.domain == name, domain_of(table.c.username) == name))
    s = t.share_folder.c
    await store.delete(t.share_folder, or_(inside(s.from_user), inside(s.to_user)))
    await store.delete(t.anyone_shares, inside(t.anyone_shares.c.from_user))
    d = t.domain_admins.c
    managers = await store.column(select(d.username).where(d.domain == name))
    users = select(t.mailbox.c.username).where(t.mailbox.c.domain == name)
    await store.delete(t.domain_admins, d.domain == name)
    await store.delete(t.domain_admins, d.username.in_(users), _not_standalone(t.domain_admins))
    await store.delete(t.mailbox, t.mailbox.c.domain == name)
    for some in chunks(managers):
        await store.update(t.mailbox, {"isadmin": 0}, t.mailbox.c.username.in_(some), *demotable())
    await store.delete(t.alias_domain, or_(a.target_domain == name, a.alias_domain == name))
    await store.delete(t.domain, t.domain.c.domain == name)


async def rename_user(store: Store, old: str, new: str) -> None:
    """Carry a mail user over to another address of its domain; its mailbox path stays."""
    m = t.mailbox.c
    domain = domain_part(new)
    await store.update(
        t.mailbox, {"username": new, "domain": domain, "modified": now()}, m.username == old
    )
    await _rename_address(store, old, new, is_forwarding=1)
    for table in _BCC_USER:
        await _rename(store, table, "username", old, new, domain="domain")
    await _rename(store, t.sender_relayhost, "account", old, new)
    # Rights that are left of the new address belong to nobody.
    await store.delete(
        t.domain_admins, t.domain_admins.c.username == new, _not_standalone(t.domain_admins)
    )
    await _rename(
        store, t.domain_admins, "username", old, new, other="domain",
        where=[_not_standalone(t.domain_admins)],
    )  # fmt: skip
    # Dovecot's triggers do not act on UPDATE, so the domain is written too.
    for table in (store.quota_table, t.last_login):
        await _rename(store, table, "username", old, new, domain="domain")
    await _rename(store, t.share_folder, "from_user", old, new, other="to_user")
    await _rename(store, t.share_folder, "to_user", old, new, other="from_user")
    await _rename(store, t.anyone_shares, "from_user", old, new)


async def rename_alias(store: Store, old: str, new: str) -> None:
    """Carry an alias account over to another address of its domain."""
    domain = domain_part(new)
    await store.update(
        t.alias,
        {"address": new, "domain": domain, "modified": now()},
        t.alias.c.address == old,
    )
    await _rename_address(store, old, new, is_list=1)
    await _rename(store, t.moderators, "address", old, new, other="moderator", domain="domain")
    await _rename(store, t.sender_relayhost, "account", old, new)


async def _rename_address(store: Store, old: str, new: str, **flags: int) -> None:
    """Change an address where it stands as a source (rows with these flags) and as a target."""
    await _rename(
        store, t.forwardings, "address", old, new, other="forwarding", domain="domain",
        where=[t.forwardings.c[name] == value for name, value in flags.items()],
    )  # fmt: skip
    await _rename(
        store, t.forwardings, "forwarding", old, new, other="address", domain="dest_domain"
    )
    await _rename(store, t.moderators, "moderator", old, new, other="address", domain="dest_domain")
    await _rename(
        store, t.maillist_owners, "owner", old, new, other="address", domain="dest_domain"
    )
    for table in (*_BCC_USER, *_BCC_DOMAIN):
        await _rename(store, table, "bcc_address", old, new, unique=False)


async def _rename(
    store: Store,
    table: Table,
    column: str,
    old: str,
    new: str,
    *,
    other: str = "",
    domain: str = "",
    unique: bool = True,
    where: list[ColumnElement[bool]] | None = None,
) -> None:
    """Change a value of a column that is unique, alone or together with ``other``.

    A dangling row that has the new value already would collide with the renamed one: it goes.
    """
    if not store.schema.has(table):
        return
    mine = and_(table.c[column] == old, *(where or []))
    if unique and not other:
        if await store.column(select(table.c[column]).where(mine)):
            await store.delete(table, table.c[column] == new)
    elif unique:
        beside = await store.column(select(table.c[other]).where(mine))
        for some in chunks(beside):
            await store.delete(table, table.c[column] == new, table.c[other].in_(some))
    values = {column: new}
    if domain:
        values[domain] = domain_part(new)
    await store.update(table, values, mine)
