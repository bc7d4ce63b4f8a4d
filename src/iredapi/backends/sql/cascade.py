"""Removing and renaming accounts in every table of ``vmail``.

What has to be kept elsewhere is copied first; the row of the account is deleted last. Rows of other
tables belong to an account in any spelling of its name, because Postfix folds keys and results to
lower case. Rows must match exactly only when another account has the name in another spelling.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    case,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
)

from iredapi.backends.protocols.values import Removal
from iredapi.backends.sql import mailbox_paths
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository, demotable
from iredapi.backends.sql.routes import is_forward, is_member
from iredapi.database.dialect import domain_of
from iredapi.database.repository import chunks, now
from iredapi.database.text_matching import as_bytes, is_like
from iredapi.domain.addresses import can_have_accounts, fold, without
from iredapi.domain.addresses import domain_of as domain_part

Matcher = Callable[[ColumnElement[Any]], ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class _Renaming:
    matches: Matcher
    """Matches a column with the old name."""
    new: str


_BCC_USER = (t.sender_bcc_user, t.recipient_bcc_user)
_BCC_DOMAIN = (t.sender_bcc_domain, t.recipient_bcc_domain)


async def _match_spellings(store: AccountRepository, name: str) -> Matcher:
    """Return a function that matches a column with an existing account's name."""
    if name != fold(name):
        columns = [t.mailbox.c.username, t.alias.c.address]
        if store.schema.has(t.maillists):
            columns.append(t.maillists.c.address)
        for column in columns:
            like = await store.column(
                select(column).where(
                    is_like(column, [name]), *await store.within_domain(column.table.c.domain, name)
                )
            )
            if set(like) - {name}:
                return lambda column: column == name
    return lambda column: is_like(column, [name])


async def remove_user(store: AccountRepository, mail: str, removal: Removal) -> None:
    """Remove a mail user and everything that points to it."""
    matches = await _match_spellings(store, mail)
    await mailbox_paths.queue_for_removal(store, removal, t.mailbox.c.username == mail)
    await _remove_references(store, matches)
    for table in _BCC_USER:
        await store.delete(table, matches(table.c.username))
    await store.delete(t.sender_relayhost, matches(t.sender_relayhost.c.account))
    # Dovecot writes these tables itself, with the folded name.
    for table in (store.quota_table, t.last_login):
        await store.delete(table, table.c.username == mail)
    s, a = t.share_folder.c, t.anyone_shares.c
    await store.delete(t.share_folder, or_(matches(s.from_user), matches(s.to_user)))
    await store.delete(t.anyone_shares, matches(a.from_user))
    await store.delete(
        t.domain_admins, matches(t.domain_admins.c.username), _not_standalone(t.domain_admins)
    )
    await store.delete(t.mailbox, t.mailbox.c.username == mail)


def _not_standalone(table: Table) -> ColumnElement[bool]:
    """Match rows of ``domain_admins`` whose name is not that of a standalone admin."""
    a = t.admin.c
    return ~exists(select(a.username).where(a.username == table.c.username))


async def remove_alias(store: AccountRepository, address: str) -> None:
    """Remove an alias account and everything that points to it."""
    matches = await _match_spellings(store, address)
    await _remove_references(store, matches)
    await store.delete(t.moderators, matches(t.moderators.c.address))
    # Postfix looks up the relay host of any sender address.
    await store.delete(t.sender_relayhost, matches(t.sender_relayhost.c.account))
    await store.delete(t.alias, t.alias.c.address == address)


async def remove_list(store: AccountRepository, address: str) -> None:
    """Remove a mailing list, its further addresses, and everything that points to it."""
    matches = await _match_spellings(store, address)
    await _remove_references(store, matches)
    for table in (t.moderators, t.maillist_owners):
        await store.delete(table, matches(table.c.address))
    await store.delete(t.maillists, t.maillists.c.address == address)
    await store.delete(t.sender_relayhost, matches(t.sender_relayhost.c.account))


async def _remove_references(store: AccountRepository, matches: Matcher) -> None:
    f = t.forwardings.c
    left_without_route = await store.column(
        select(f.address).where(matches(f.forwarding), f.is_forwarding == 1, ~matches(f.address))
    )
    await store.delete(t.forwardings, or_(matches(f.address), matches(f.forwarding)))
    await _restore_self_rows(store, left_without_route)
    await store.delete(t.moderators, matches(t.moderators.c.moderator))
    await store.delete(t.maillist_owners, matches(t.maillist_owners.c.owner))
    for table in (*_BCC_USER, *_BCC_DOMAIN):
        await store.delete(table, matches(table.c.bcc_address))


async def _restore_self_rows(store: AccountRepository, addresses: list[str]) -> None:
    """Insert ``address → address`` for users without any forwarding: mail needs a destination."""
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


async def hosted(store: AccountRepository, names: Collection[str]) -> set[str]:
    """Return the names of mail domains that are stored under these names, in any spelling."""
    d = t.domain.c
    found: set[str] = set()
    for some in chunks(names):
        found.update(await store.column(select(d.domain).where(is_like(d.domain, some))))
    return found


async def without_hosted(
    store: AccountRepository, alias_domains: Collection[str]
) -> frozenset[str]:
    """Return the alias domains whose addresses and settings belong to their target."""
    own = frozenset(filter(can_have_accounts, alias_domains))
    return without(own, await hosted(store, own)) if own else own


async def remove_domain(store: AccountRepository, name: str, removal: Removal) -> None:
    """Remove a domain, its accounts, its alias domains, and everything that points to them."""
    f, a, d = t.forwardings.c, t.alias_domain.c, t.domain.c
    quota, seen = store.quota_table.c, t.last_login.c
    like = await store.column(select(d.domain).where(is_like(d.domain, [name])))
    # False: another domain has the same name in another spelling.
    unique = not set(like) - {name} or name == fold(name)

    def among(column: ColumnElement[Any], some: Collection[str]) -> ColumnElement[bool]:
        return is_like(column, some) if unique else column.in_(some)

    def here(column: ColumnElement[Any]) -> ColumnElement[bool]:
        return large[column][0] if column in large else among(column, [name])

    large: dict[ColumnElement[Any], tuple[ColumnElement[bool], ColumnElement[bool]]] = {}
    aliases = await store.column(select(a.alias_domain).where(here(a.target_domain)))
    names = [name, *sorted(await without_hosted(store, aliases))]
    for column in (t.mailbox.c.domain, f.domain, f.dest_domain, quota.domain, seen.domain):
        if unique and store.schema.has(column.table):
            # By their index; reading all rows takes much longer.
            own = await store.like(column, [name])
            large[column] = (own, own if len(names) == 1 else await store.like(column, names))

    def inside(
        column: ColumnElement[Any], domain: ColumnElement[Any] | None = None
    ) -> ColumnElement[bool]:
        found = among(domain_of(column), names)
        if domain is None or domain not in large:
            return found
        # ``domain`` is nearly always the domain of the address, and is compared faster.
        address, at_domain = as_bytes(column), as_bytes(literal_column("'@'").concat(domain))
        end = func.substr(address, func.length(address) - func.length(domain))
        return case((end == at_domain, large[domain][1]), else_=found)

    await mailbox_paths.queue_for_removal(store, removal, here(t.mailbox.c.domain))
    to_here = large[f.dest_domain][1] if unique else among(f.dest_domain, names)
    left_without_route = await store.column(
        select(f.address).where(
            ~here(f.domain),
            f.is_forwarding == 1,
            or_(to_here, inside(f.forwarding, f.dest_domain)),
        )
    )
    await store.delete(
        t.forwardings,
        or_(
            here(f.domain),
            to_here,
            inside(f.address, f.domain),
            inside(f.forwarding, f.dest_domain),
        ),
    )
    await _restore_self_rows(store, left_without_route)
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
        await store.delete(
            table, or_(here(table.c.domain), inside(table.c.username, table.c.domain))
        )
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
    """Rename a mail user within its domain; its mailbox stays in the same directory."""
    m, renaming = t.mailbox.c, _Renaming(await _match_spellings(store, old), new)
    domain = domain_part(new)
    await _rename_address(store, renaming, is_forward())
    await store.update(
        t.mailbox, {"username": new, "domain": domain, "modified": now()}, m.username == old
    )
    for table in _BCC_USER:
        await _rename(store, table, "username", renaming, domain="domain")
    await _rename(store, t.sender_relayhost, "account", renaming)
    # Left-over rights of the new address, which belong to no account.
    await store.delete(
        t.domain_admins, t.domain_admins.c.username == new, _not_standalone(t.domain_admins)
    )
    await _rename(
        store, t.domain_admins, "username", renaming, other="domain",
        where=[_not_standalone(t.domain_admins)],
    )  # fmt: skip
    # The triggers that set ``domain`` do not run on UPDATE, so it is written here.
    for table in (store.quota_table, t.last_login):
        await _rename(store, table, "username", renaming, domain="domain")
    await _rename(store, t.share_folder, "from_user", renaming, other="to_user")
    await _rename(store, t.share_folder, "to_user", renaming, other="from_user")
    await _rename(store, t.anyone_shares, "from_user", renaming)


async def rename_alias(store: AccountRepository, old: str, new: str) -> None:
    """Rename an alias account within its domain."""
    domain, renaming = domain_part(new), _Renaming(await _match_spellings(store, old), new)
    await _rename_address(store, renaming, is_member())
    await store.update(
        t.alias,
        {"address": new, "domain": domain, "modified": now()},
        t.alias.c.address == old,
    )
    await _rename(store, t.moderators, "address", renaming, other="moderator", domain="domain")
    await _rename(store, t.sender_relayhost, "account", renaming)


async def _rename_address(
    store: AccountRepository, renaming: _Renaming, own: ColumnElement[bool]
) -> None:
    """Rename an address as a source (in rows of the account) and as a destination.

    ``own`` looks for accounts with the address, so call it while the account has the old one.
    """
    await _rename(
        store, t.forwardings, "address", renaming, other="forwarding", domain="domain",
        where=[own],
    )  # fmt: skip
    await _rename(
        store, t.forwardings, "forwarding", renaming, other="address", domain="dest_domain"
    )
    await _rename(store, t.moderators, "moderator", renaming, other="address", domain="dest_domain")
    await _rename(
        store, t.maillist_owners, "owner", renaming, other="address", domain="dest_domain"
    )
    for table in (*_BCC_USER, *_BCC_DOMAIN):
        await _rename(store, table, "bcc_address", renaming, unique=False)


async def _rename(
    store: AccountRepository,
    table: Table,
    column: str,
    renaming: _Renaming,
    *,
    other: str = "",
    domain: str = "",
    unique: bool = True,
    where: list[ColumnElement[bool]] | None = None,
) -> None:
    """Rename an account in a column that is unique, alone or together with ``other``.

    ``unique`` False: the column is not unique. Rows that would violate the unique key are deleted:
    those that have the new name already, and all but one of those that have the old name in several
    spellings. ``domain`` is the column of the account's domain, if there is one.
    """
    if not store.schema.has(table):
        return
    matches, new = renaming.matches, renaming.new
    own, mine = table.c[column], and_(matches(table.c[column]), *(where or []))
    if unique:
        other_value = table.c[other] if other else literal("")
        rows = await store.rows(
            select(own.label("own"), other_value.label("other_value")).where(mine)
        )
        kept: dict[str, str] = {}
        for row in sorted(rows, key=lambda row: (row["own"] != fold(row["own"]), row["own"])):
            if kept.setdefault(row["other_value"], row["own"]) != row["own"]:
                same = [] if not other else [table.c[other] == row["other_value"]]
                await store.delete(table, own == row["own"], *same)
        for some in chunks(kept):
            others = [] if not other else [table.c[other].in_(some)]
            await store.delete(table, own == new, ~matches(own), *others)
    values = {column: new}
    if domain:
        values[domain] = domain_part(new)
    await store.update(table, values, mine)
