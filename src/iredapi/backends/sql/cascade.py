"""What goes, and what changes its name, with an account: every table of ``vmail`` in one place.

What is copied elsewhere is copied first, the account itself goes last. Rows belong to an account in
whatever spelling they name it: Postfix folds what it asks for and what it is answered. Only where
somebody else has the same name in other letters, the rows in exactly this spelling go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, exists, literal, or_, select

from iredapi.backends.protocols.values import Removal
from iredapi.backends.sql import mailbox_paths
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository, demotable
from iredapi.database.dialect import domain_of
from iredapi.database.repository import chunks, now
from iredapi.database.text_matching import is_like
from iredapi.domain.addresses import domain_of as domain_part
from iredapi.domain.addresses import fold

Chosen = Callable[[ColumnElement[Any]], ColumnElement[bool]]

_BCC_USER = (t.sender_bcc_user, t.recipient_bcc_user)
_BCC_DOMAIN = (t.sender_bcc_domain, t.recipient_bcc_domain)


async def _meaning(store: AccountRepository, name: str) -> Chosen:
    """Return what chooses the rows that mean an account that is there."""
    if name != fold(name):
        columns = [t.mailbox.c.username, t.alias.c.address]
        if store.schema.has(t.maillists):
            columns.append(t.maillists.c.address)
        for column in columns:
            like = await store.column(
                select(column).where(
                    is_like(column, [name]), *await store.at_home(column.table.c.domain, name)
                )
            )
            if set(like) - {name}:
                return lambda column: column == name
    return lambda column: is_like(column, [name])


async def remove_user(store: AccountRepository, mail: str, removal: Removal) -> None:
    """Remove a mail user and everything that points to it."""
    means = await _meaning(store, mail)
    await mailbox_paths.queue(store, removal, t.mailbox.c.username == mail)
    await _forget_address(store, means)
    for table in _BCC_USER:
        await store.delete(table, means(table.c.username))
    await store.delete(t.sender_relayhost, means(t.sender_relayhost.c.account))
    # Dovecot writes these itself, folded.
    for table in (store.quota_table, t.last_login):
        await store.delete(table, table.c.username == mail)
    s, a = t.share_folder.c, t.anyone_shares.c
    await store.delete(t.share_folder, or_(means(s.from_user), means(s.to_user)))
    await store.delete(t.anyone_shares, means(a.from_user))
    await store.delete(
        t.domain_admins, means(t.domain_admins.c.username), _not_standalone(t.domain_admins)
    )
    await store.delete(t.mailbox, t.mailbox.c.username == mail)


def _not_standalone(table: Table) -> ColumnElement[bool]:
    """Spare the rights of a standalone admin that has the same address as a mail user."""
    a = t.admin.c
    return ~exists(select(a.username).where(a.username == table.c.username))


async def remove_alias(store: AccountRepository, address: str) -> None:
    """Remove an alias account and everything that points to it."""
    means = await _meaning(store, address)
    await _forget_address(store, means)
    await store.delete(t.moderators, means(t.moderators.c.address))
    # Postfix looks a sender's relay host up for any address.
    await store.delete(t.sender_relayhost, means(t.sender_relayhost.c.account))
    await store.delete(t.alias, t.alias.c.address == address)


async def remove_list(store: AccountRepository, address: str) -> None:
    """Remove a mailing list and everything that points to it, its other addresses too."""
    means = await _meaning(store, address)
    await _forget_address(store, means)
    for table in (t.moderators, t.maillist_owners):
        await store.delete(table, means(table.c.address))
    await store.delete(t.maillists, t.maillists.c.address == address)
    await store.delete(t.sender_relayhost, means(t.sender_relayhost.c.account))


async def _forget_address(store: AccountRepository, means: Chosen) -> None:
    f = t.forwardings.c
    bereft = await store.column(
        select(f.address).where(means(f.forwarding), f.is_forwarding == 1, ~means(f.address))
    )
    await store.delete(t.forwardings, or_(means(f.address), means(f.forwarding)))
    await _restore_self_rows(store, bereft)
    await store.delete(t.moderators, means(t.moderators.c.moderator))
    await store.delete(t.maillist_owners, means(t.maillist_owners.c.owner))
    for table in (*_BCC_USER, *_BCC_DOMAIN):
        await store.delete(table, means(table.c.bcc_address))


async def _restore_self_rows(store: AccountRepository, addresses: list[str]) -> None:
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


async def remove_domain(store: AccountRepository, name: str, removal: Removal) -> None:
    """Remove a domain, its accounts, its alias domains, and everything that points to them."""
    f, a, d = t.forwardings.c, t.alias_domain.c, t.domain.c
    like = await store.column(select(d.domain).where(is_like(d.domain, [name])))
    # Somebody else's domain has the same name in other letters.
    alone = not set(like) - {name} or name == fold(name)

    def among(column: ColumnElement[Any], some: Collection[str]) -> ColumnElement[bool]:
        return is_like(column, some) if alone else column.in_(some)

    def here(column: ColumnElement[Any]) -> ColumnElement[bool]:
        return among(column, [name])

    names = [name, *await store.column(select(a.alias_domain).where(here(a.target_domain)))]

    def inside(column: ColumnElement[Any]) -> ColumnElement[bool]:
        return among(domain_of(column), names)

    await mailbox_paths.queue(store, removal, here(t.mailbox.c.domain))
    bereft = await store.column(
        select(f.address).where(
            ~here(f.domain),
            f.is_forwarding == 1,
            or_(among(f.dest_domain, names), inside(f.forwarding)),
        )
    )
    await store.delete(
        t.forwardings,
        or_(
            here(f.domain),
            among(f.dest_domain, names),
            here(f.address),
            inside(f.address),
            inside(f.forwarding),
        ),
    )
    await _restore_self_rows(store, bereft)
    for table, person in ((t.moderators, "moderator"), (t.maillist_owners, "owner")):
        await store.delete(
            table,
            or_(
                here(table.c.domain),
                among(table.c.dest_domain, names),
                inside(table.c.address),
                inside(table.c[person]),
            ),
        )
    for table in (t.maillists, t.alias):
        await store.delete(table, here(table.c.domain))
    for table in (*_BCC_USER, *_BCC_DOMAIN):
        await store.delete(table, or_(here(table.c.domain), inside(table.c.bcc_address)))
    relay = t.sender_relayhost.c.account
    await store.delete(t.sender_relayhost, inside(relay))
    for table in (store.quota_table, t.last_login):
        await store.delete(table, or_(here(table.c.domain), inside(table.c.username)))
    s = t.share_folder.c
    await store.delete(t.share_folder, or_(inside(s.from_user), inside(s.to_user)))
    await store.delete(t.anyone_shares, inside(t.anyone_shares.c.from_user))
    rights = t.domain_admins.c
    managers = await store.column(select(rights.username).where(here(rights.domain)))
    users = select(t.mailbox.c.username).where(here(t.mailbox.c.domain))
    await store.delete(t.domain_admins, here(rights.domain))
    await store.delete(
        t.domain_admins, rights.username.in_(users), _not_standalone(t.domain_admins)
    )
    await store.delete(t.mailbox, here(t.mailbox.c.domain))
    for some in chunks(managers):
        await store.update(t.mailbox, {"isadmin": 0}, t.mailbox.c.username.in_(some), *demotable())
    await store.delete(t.alias_domain, or_(here(a.target_domain), here(a.alias_domain)))
    await store.delete(t.domain, d.domain == name)


async def rename_user(store: AccountRepository, old: str, new: str) -> None:
    """Carry a mail user over to another address of its domain; its mailbox path stays."""
    m, means = t.mailbox.c, await _meaning(store, old)
    domain = domain_part(new)
    await store.update(
        t.mailbox, {"username": new, "domain": domain, "modified": now()}, m.username == old
    )
    await _rename_address(store, means, new, is_forwarding=1)
    for table in _BCC_USER:
        await _rename(store, table, "username", means, new, domain="domain")
    await _rename(store, t.sender_relayhost, "account", means, new)
    # Rights that are left of the new address belong to nobody.
    await store.delete(
        t.domain_admins, t.domain_admins.c.username == new, _not_standalone(t.domain_admins)
    )
    await _rename(
        store, t.domain_admins, "username", means, new, other="domain",
        where=[_not_standalone(t.domain_admins)],
    )  # fmt: skip
    # Dovecot's triggers do not act on UPDATE, so the domain is written too.
    for table in (store.quota_table, t.last_login):
        await _rename(store, table, "username", means, new, domain="domain")
    await _rename(store, t.share_folder, "from_user", means, new, other="to_user")
    await _rename(store, t.share_folder, "to_user", means, new, other="from_user")
    await _rename(store, t.anyone_shares, "from_user", means, new)


async def rename_alias(store: AccountRepository, old: str, new: str) -> None:
    """Carry an alias account over to another address of its domain."""
    domain, means = domain_part(new), await _meaning(store, old)
    await store.update(
        t.alias,
        {"address": new, "domain": domain, "modified": now()},
        t.alias.c.address == old,
    )
    await _rename_address(store, means, new, is_list=1)
    await _rename(store, t.moderators, "address", means, new, other="moderator", domain="domain")
    await _rename(store, t.sender_relayhost, "account", means, new)


async def _rename_address(store: AccountRepository, means: Chosen, new: str, **flags: int) -> None:
    """Change an address where it stands as a source (rows with these flags) and as a target."""
    await _rename(
        store, t.forwardings, "address", means, new, other="forwarding", domain="domain",
        where=[t.forwardings.c[name] == value for name, value in flags.items()],
    )  # fmt: skip
    await _rename(
        store, t.forwardings, "forwarding", means, new, other="address", domain="dest_domain"
    )
    await _rename(
        store, t.moderators, "moderator", means, new, other="address", domain="dest_domain"
    )
    await _rename(
        store, t.maillist_owners, "owner", means, new, other="address", domain="dest_domain"
    )
    for table in (*_BCC_USER, *_BCC_DOMAIN):
        await _rename(store, table, "bcc_address", means, new, unique=False)


async def _rename(
    store: AccountRepository,
    table: Table,
    column: str,
    means: Chosen,
    new: str,
    *,
    other: str = "",
    domain: str = "",
    unique: bool = True,
    where: list[ColumnElement[bool]] | None = None,
) -> None:
    """Change a value of a column that is unique, alone or together with ``other``.

    A dangling row that has the new value already would collide with the renamed one: it goes. So
    do all but one of the rows that have the old value in several spellings.
    """
    if not store.schema.has(table):
        return
    own, mine = table.c[column], and_(means(table.c[column]), *(where or []))
    if unique:
        beside = table.c[other] if other else literal("")
        rows = await store.rows(select(own.label("own"), beside.label("beside")).where(mine))
        kept: dict[str, str] = {}
        for row in sorted(rows, key=lambda row: (row["own"] != fold(row["own"]), row["own"])):
            if kept.setdefault(row["beside"], row["own"]) != row["own"]:
                same = [] if not other else [table.c[other] == row["beside"]]
                await store.delete(table, own == row["own"], *same)
        for some in chunks(kept):
            others = [] if not other else [table.c[other].in_(some)]
            await store.delete(table, own == new, ~means(own), *others)
    values = {column: new}
    if domain:
        values[domain] = domain_part(new)
    await store.update(table, values, mine)
