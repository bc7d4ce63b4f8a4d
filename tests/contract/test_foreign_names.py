"""Names that other programs store twice: domains as alias domains, and rows whose flags lie."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients import Client, Service
from tests.servers import rich
from tests.servers.openldap import domain_dn
from tests.servers.snapshot import Difference, difference, dump
from tests.servers.store import Store


async def _two_domains(store: Store, root: Client) -> None:
    """``far.com``, with everything that can be damaged, beside ``ex.com``."""
    for domain in ("ex.com", "far.com"):
        await root.ok("POST", f"domain/{domain}")
        await root.ok("POST", f"user/u@{domain}", password="Corr3ct-Horse")
    await root.ok("POST", "user/v@far.com", password="Corr3ct-Horse")
    await root.ok("PUT", "user/u@far.com", addAlias="bob@far.com", addForwarding="v@far.com")
    await root.ok("POST", "alias/list@far.com", members="u@far.com")
    await root.ok("POST", "throttle/far.com/outbound", period="60", max_msgs="5")
    await root.ok("PUT", "spampolicy/user/u@far.com", spam_tag2_level="5")
    await root.ok("PUT", "spampolicy/global", spam_tag2_level="7")
    used = {"username": "u@far.com", "domain": "far.com", "bytes": 1000, "messages": 1}
    await store.insert("used_quota", used, database=store.accounts)
    if store.openldap is None:
        await root.ok("PUT", "domain/far.com", outboundRelay="[192.0.2.9]:25")
        await rich.add_route(store, "@far.com", "v@far.com", domain="far.com")


async def _alias_domains(store: Store, *names: str) -> None:
    """Store alias domains of ``ex.com`` as another program does."""
    for name in names:
        if store.openldap is None:
            await store.insert("alias_domain", {"alias_domain": name, "target_domain": "ex.com"})
        else:
            store.openldap.modify(domain_dn("ex.com"), add={"domainAliasName": name})
            shown = store.openldap.entry(domain_dn("ex.com")) or {}
            if "domainalias" not in shown.get("enabledService", []):
                store.openldap.modify(domain_dn("ex.com"), add={"enabledService": "domainalias"})


def _of_far(found: Difference) -> Difference:
    """Return what changed of far.com and of everybody; not the name of the alias domain."""
    return {
        name: values
        for name, values in found.items()
        if not name.startswith(("-alias_domain", "~domain ex.com", "-sender_relayhost @al.com"))
        and ("far.com" in name or "@." in str(values) or name.startswith(("-policy", "-users")))
    }


@pytest.mark.parametrize("how", ["reset", "named", "delete", "catchall", "relay"])
async def test_a_domain_that_is_an_alias_domain_keeps_what_it_has(
    service: Service, root: Client, how: str
) -> None:
    """The alias domain ends; the domain of that name loses nothing, and is not changed."""
    store = service.store
    await _two_domains(store, root)
    await _alias_domains(store, "far.com", "al.com")
    service.context.invalidate_caches()
    before = await dump(store)
    shown = await root.ok("GET", "domain/ex.com", view="canonical")
    assert set(shown["aliasDomains"]) == {"al.com", "far.com"}
    assert not shown["catchall"]
    if how == "delete":
        await root.ok("DELETE", "domain/ex.com")
    elif how == "named":
        await root.ok("PUT", "domain/ex.com", removeAliasDomain="far.com,al.com")
    elif how == "reset":
        await root.ok("PUT", "domain/ex.com", aliasDomains="")
    elif how == "catchall":
        await root.ok("PUT", "domain/ex.com", catchall="u@ex.com")
        await root.ok("PUT", "domain/ex.com", catchall="")
    elif store.openldap is None:
        await root.ok("PUT", "domain/ex.com", outboundRelay="[192.0.2.8]:25")
        await root.ok("PUT", "domain/ex.com", outboundRelay="")
    assert _of_far(difference(before, await dump(store))) == {}
    if how in ("named", "reset"):
        assert (await root.ok("GET", "domain/ex.com", view="canonical"))["aliasDomains"] == []


@pytest.mark.stores("openldap")
@pytest.mark.parametrize("how", ["reset", "delete"])
async def test_an_alias_domain_of_two_domains_stays_that_of_the_other(
    service: Service, root: Client, how: str
) -> None:
    """In LDAP nothing keeps programs from giving two domains one alias domain."""
    store = service.store
    await _two_domains(store, root)
    await root.ok("PUT", "domain/far.com", addAliasDomain="al.com")
    row = {"account": "@al.com", "kind": "outbound", "period": 60, "max_msgs": 5}
    await store.insert("throttle", row, database="iredapd")
    await _alias_domains(store, "al.com")
    before = await dump(store)
    if how == "reset":
        await root.ok("PUT", "domain/ex.com", aliasDomains="")
    else:
        await root.ok("DELETE", "domain/ex.com")
    found = difference(before, await dump(store))
    assert _of_far(found) == {}
    assert not [name for name in found if "throttle" in name]


@pytest.mark.parametrize("name", ["", ".", " "])
@pytest.mark.sql_only("OpenLDAP stores no empty values, and its lookups have no account '@.'")
async def test_an_alias_domain_without_a_name_is_nobody(
    service: Service, root: Client, name: str
) -> None:
    """``@`` and such a name is the account of everybody, whose settings stay."""
    store = service.store
    await _two_domains(store, root)
    await rich.add_route(store, "far.com", "outside@gmail.com", domain="far.com")
    await store.execute("UPDATE forwardings SET dest_domain = '' WHERE address = 'far.com'")
    for action in ("reset", "delete"):
        await _alias_domains(store, name)
        before = await dump(store)
        if action == "reset":
            await root.ok("PUT", "domain/ex.com", aliasDomains="")
        else:
            await root.ok("DELETE", "domain/ex.com")
        found = difference(before, await dump(store))
        assert _of_far(found) == {}, action
        assert f"-alias_domain {name}" in found


async def test_a_domain_that_is_its_own_alias_domain_can_be_changed(
    service: Service, root: Client
) -> None:
    """Nobody named the alias domain; it is refused only when it is new."""
    store = service.store
    await _two_domains(store, root)
    sent = {"addAliasDomain": "ex.com"}
    assert (await root.refused("PUT", "domain/ex.com", **sent))[2] == ["addAliasDomain"]
    await _alias_domains(store, "ex.com")
    before = await dump(store)
    await root.ok("PUT", "domain/ex.com", name="New")
    await root.ok("PUT", "domain/ex.com", removeAliasDomain="ex.com")
    found = difference(before, await dump(store))
    assert {name for name in found if "u@ex.com" in name} == set(), found
    assert (await root.ok("GET", "domain/ex.com", view="canonical"))["aliasDomains"] == []


FLAGS: dict[str, dict[str, int]] = {
    "none": {"is_list": 0, "is_forwarding": 0, "is_alias": 0},
    "two": {"is_list": 2, "is_forwarding": 2, "is_alias": 2},
    "all": {"is_list": 1, "is_forwarding": 1, "is_alias": 1},
    "alias": {"is_list": 0, "is_forwarding": 0, "is_alias": 1},
    "list": {"is_list": 1, "is_forwarding": 0, "is_alias": 0},
}


async def _flagged(store: Store, root: Client, flags: dict[str, int]) -> None:
    await root.ok("POST", "domain/ex.com")
    for mail in ("u@ex.com", "v@ex.com"):
        await root.ok("POST", f"user/{mail}", password="Corr3ct-Horse")
    await root.ok("PUT", "user/u@ex.com", addForwarding="x@far.org", addAlias="bob@ex.com")
    await root.ok("PUT", "user/v@ex.com", addForwarding="u@ex.com")
    await root.ok("POST", "alias/list@ex.com", members="u@ex.com,x@far.org")
    for mail in ("u@ex.com", "v@ex.com", "list@ex.com"):
        await root.ok("POST", f"throttle/{mail}/outbound", period="60", max_msgs="5")
    columns = ", ".join(f"{name} = {value}" for name, value in flags.items())
    await store.execute(f"UPDATE forwardings SET {columns}")


async def _routes(store: Store) -> set[tuple[str, str]]:
    rows = await store.rows("SELECT address, forwarding FROM forwardings WHERE active = 1")
    return {(row["address"], row["forwarding"]) for row in rows}


@pytest.mark.sql_only("the flags of rows of forwardings")
@pytest.mark.parametrize("flags", FLAGS)
async def test_renaming_takes_the_routes_along_whatever_their_flags(
    service: Service, root: Client, flags: str
) -> None:
    store = service.store
    await _flagged(store, root, FLAGS[flags])
    await root.ok("POST", "user/u@ex.com/change_email/n@ex.com")
    await root.ok("POST", "alias/list@ex.com/change_email/crew@ex.com")
    assert await _routes(store) == {
        ("n@ex.com", "n@ex.com"), ("n@ex.com", "x@far.org"), ("bob@ex.com", "n@ex.com"),
        ("v@ex.com", "v@ex.com"), ("v@ex.com", "n@ex.com"),
        ("crew@ex.com", "n@ex.com"), ("crew@ex.com", "x@far.org"),
    }  # fmt: skip


@pytest.mark.sql_only("the flags of rows of forwardings")
@pytest.mark.parametrize("flags", FLAGS)
async def test_only_addresses_of_nobody_are_alias_addresses(
    service: Service, root: Client, flags: str
) -> None:
    """Removing alias addresses takes no member, no forwarding, and no policy of an account."""
    store = service.store
    await _flagged(store, root, FLAGS[flags])
    shown = await root.ok("GET", "user/u@ex.com", view="canonical")
    assert shown["aliases"] == ["bob@ex.com"]
    assert (await root.ok("GET", "user/u@ex.com"))["aliases"] == ["bob@ex.com"]
    routes, before = await _routes(store), await dump(store)
    await root.ok("PUT", "user/u@ex.com", aliases="")
    assert await _routes(store) == routes - {("bob@ex.com", "u@ex.com")}
    found = difference(before, await dump(store))
    assert {name for name in found if "throttle" in name} == set()
    before = await dump(store)
    await root.ok("DELETE", "user/u@ex.com")
    removed: Any = [row for row in before["iredapd", "throttle"] if row["account"] == "u@ex.com"]
    found = difference(before, await dump(store))
    assert {name for name in found if name.startswith("-throttle ")} == {
        f"-throttle {row['id']}" for row in removed
    }
