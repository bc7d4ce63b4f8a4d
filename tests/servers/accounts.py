"""What a store holds of accounts, asked past the API in one way on all kinds."""

from __future__ import annotations

from tests.servers.openldap import ADMIN_BASE, BASE
from tests.servers.store import Store


async def global_admins(store: Store) -> list[str]:
    """Return the active global admins, standalone and mail users."""
    if store.openldap is not None:
        tree = store.openldap.dump()
        return sorted(
            entry["mail"][0]
            for entry in tree.values()
            if entry.get("domainGlobalAdmin") == ["yes"] and entry["accountStatus"] == ["active"]
        )
    rows = await store.rows(
        "SELECT username FROM admin WHERE active = 1 AND username IN"
        " (SELECT username FROM domain_admins WHERE domain = 'ALL' AND active = 1)"
        " UNION SELECT username FROM mailbox WHERE active = 1 AND isglobaladmin = 1"
    )
    return sorted(row["username"] for row in rows)


async def standalone_admins(store: Store, mail: str) -> list[str]:
    """Return the standalone admins of a name: one or none."""
    if store.openldap is not None:
        entry = store.openldap.entry(f"mail={mail},{ADMIN_BASE}")
        return [] if entry is None else [mail]
    rows = await store.rows("SELECT username FROM admin WHERE username = :m", m=mail)
    return [row["username"] for row in rows]


async def remove_standalone_admin(store: Store, mail: str) -> None:
    """Take a standalone admin away."""
    if store.openldap is not None:
        store.openldap.delete(f"mail={mail},{ADMIN_BASE}")
        return
    await store.execute("DELETE FROM domain_admins WHERE username = :m", m=mail)
    await store.execute("DELETE FROM admin WHERE username = :m", m=mail)


async def remove_users_and_admins(store: Store) -> None:
    """Take all mail users and standalone admins away; domains stay."""
    if store.openldap is not None:
        tree = store.openldap.dump()
        for dn, entry in tree.items():
            if {"mailUser", "mailAdmin"} & set(entry["objectClass"]):
                store.openldap.delete(dn)
        return
    for table in ("domain_admins", "admin", "mailbox"):
        await store.execute(f"DELETE FROM {table}")


async def holders(store: Store, address: str) -> list[str]:
    """Return who has an address: a user, an alias account, or a user as a further address."""
    if store.openldap is not None:
        found = store.openldap.find(BASE, f"(|(mail={address})(shadowAddress={address}))")
        return sorted(found)
    rows = await store.rows(
        "SELECT username AS address FROM mailbox WHERE username = :a"
        " UNION ALL SELECT address FROM alias WHERE address = :a"
        " UNION ALL SELECT address FROM forwardings WHERE address = :a AND is_alias = 1",
        a=address,
    )
    return [row["address"] for row in rows]


async def domains(store: Store, name: str, *, aliases: bool = True) -> list[str]:
    """Return the domains and alias domains of a name."""
    if store.openldap is not None:
        tree = store.openldap.find(BASE, f"(|(domainName={name})(domainAliasName={name}))")
        return sorted(dn for dn, entry in tree.items() if aliases or entry["domainName"] == [name])
    rows = await store.rows(
        "SELECT domain FROM domain WHERE domain = :d"
        + (" UNION ALL SELECT alias_domain FROM alias_domain WHERE alias_domain = :d") * aliases,
        d=name,
    )
    return [row["domain"] for row in rows]


async def everything_of_domains(store: Store) -> list[str]:
    """Return what there is of domains and accounts in them: nothing on an empty server."""
    if store.openldap is not None:
        return sorted(store.openldap.find(BASE).keys() - {BASE})
    found = []
    for table in ("mailbox", "alias", "forwardings", "domain", "alias_domain"):
        found += [f"{table}: {row}" for row in await store.rows(f"SELECT * FROM {table}")]
    return found


async def routes_of(store: Store, mail: str) -> list[str]:
    """Return what leads to or from an account: targets, members, further addresses."""
    if store.openldap is not None:
        filters = "".join(
            f"({name}={mail})"
            for name in ("mail", "shadowAddress", "mailForwardingAddress", "memberOfGroup")
        )
        found = store.openldap.find(BASE, f"(|{filters})")
        # A user alone has no routes; the entry counts when there is something in it.
        return sorted(
            dn
            for dn, entry in found.items()
            if mail in entry.get("mailForwardingAddress", []) or mail not in entry["mail"]
        )
    rows = await store.rows(
        "SELECT address, forwarding FROM forwardings WHERE address = :a OR forwarding = :a", a=mail
    )
    return [f"{row['address']} → {row['forwarding']}" for row in rows]
