"""Who may send to an alias that others may not: rows of ``moderators``, which iRedAPD obeys."""

from __future__ import annotations

import pytest

from tests.clients import PASSWORD, Client, Service
from tests.servers.store import Store

DOMAIN = "ex.com"
ALIAS, BOSS, ANN = f"all@{DOMAIN}", f"boss@{DOMAIN}", f"ann@{DOMAIN}"
FAR, WILD = "far@else.org", "*@partner.org"


async def rows(store: Store, address: str = ALIAS) -> list[str]:
    """What iRedAPD finds for an alias; each row has the domains that removals look at."""
    found = await store.rows("SELECT * FROM moderators WHERE address = :a", a=address)
    for row in found:
        assert row["domain"] == DOMAIN
        assert row["dest_domain"] == row["moderator"].partition("@")[2]
    return sorted(row["moderator"] for row in found)


async def arranged(root: Client) -> None:
    await root.ok("POST", f"domain/{DOMAIN}")
    for mail in (BOSS, ANN):
        await root.ok("POST", f"user/{mail}", password=PASSWORD)


@pytest.mark.sql_only("No daemon reads who may send to an alias in LDAP.")
async def test_their_life(store: Store, root: Client) -> None:
    await arranged(root)
    form = {"accessPolicy": "moderatorsonly", "members": f"{BOSS},{ANN}"}
    answer = await root.ok(
        "POST", f"alias/{ALIAS}", **form, moderators=f"{BOSS},{FAR},{WILD},ghost@{DOMAIN}"
    )
    assert answer["_skipped"] == [
        {"param": "moderators", "value": f"ghost@{DOMAIN}", "reason": "NO_SUCH_ACCOUNT"}
    ]

    async def are(*people: str, address: str = ALIAS) -> None:
        assert await rows(store, address) == sorted(people)
        for view in ({}, {"view": "canonical"}):
            shown = await root.ok("GET", f"alias/{address}", **view)
            assert shown["moderators"] == sorted(people)
        (listed,) = await root.ok("GET", f"aliases/{DOMAIN}", view="canonical")
        assert listed["moderators"] == sorted(people)

    await are(BOSS, FAR, WILD)
    await root.ok("PUT", f"alias/{ALIAS}", name="Everybody")
    await are(BOSS, FAR, WILD)
    await root.ok("PUT", f"alias/{ALIAS}", addModerator=f"*@{DOMAIN},{ANN}", removeModerator=WILD)
    await are(BOSS, FAR, ANN, f"*@{DOMAIN}")
    answer = await root.ok("PUT", f"alias/{ALIAS}", removeModerator=f"*@{DOMAIN},{WILD}")
    assert answer["_skipped"] == [
        {"param": "removeModerator", "value": WILD, "reason": "NOT_FOUND"}
    ]
    for wrong in ("addModerator", "removeModerator"):
        refused = await root.refused("PUT", f"alias/{ALIAS}", **{"moderators": FAR, wrong: ANN})
        assert refused == (400, "CONFLICTING_PARAMETERS", sorted(["moderators", wrong]))
    # They go and move with their accounts, and with the alias.
    await root.ok("POST", f"user/{BOSS}/change_email/chief@{DOMAIN}")
    await are(f"chief@{DOMAIN}", FAR, ANN)
    await root.ok("DELETE", f"user/{ANN}")
    await are(f"chief@{DOMAIN}", FAR)
    await root.ok("POST", f"alias/{ALIAS}/change_email/new@{DOMAIN}")
    await are(f"chief@{DOMAIN}", FAR, address=f"new@{DOMAIN}")
    assert await rows(store) == []
    await root.ok("PUT", f"alias/new@{DOMAIN}", moderators="")
    await are(address=f"new@{DOMAIN}")
    await root.ok("PUT", f"alias/new@{DOMAIN}", moderators=FAR)
    await root.ok("DELETE", f"alias/new@{DOMAIN}")
    assert await rows(store, f"new@{DOMAIN}") == []


@pytest.mark.stores("openldap")
async def test_ldap_has_none(service: Service, root: Client) -> None:
    await arranged(root)
    for param in ("moderators", "addModerator"):
        refused = await root.refused("POST", f"alias/{ALIAS}", **{param: BOSS})
        assert refused == (501, "NOT_SUPPORTED_BY_BACKEND", [param])
    await root.ok("POST", f"alias/{ALIAS}", members=BOSS, moderators="")
    assert (await root.ok("GET", f"alias/{ALIAS}", view="canonical"))["moderators"] == []
    before = service.store.directory.dump()
    refused = await root.refused("PUT", f"alias/{ALIAS}", moderators=BOSS, name="New")
    assert refused == (501, "NOT_SUPPORTED_BY_BACKEND", ["moderators"])
    assert service.store.directory.dump() == before
