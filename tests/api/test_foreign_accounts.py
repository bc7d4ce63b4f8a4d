"""Policies under accounts that other programs write: ``@.domain``, or another's spam policy."""

from __future__ import annotations

from tests.api.amavisd import add_address, add_user, users
from tests.clients import PASSWORD, Client, Service


async def test_domain_with_all_below_it(service: Service, root: Client) -> None:
    """The daemons ask for ``@.ex.com``, too: it is shown, and goes with the domain's own."""
    store = service.store
    await root.ok("POST", "domain/ex.com")
    account = "@.ex.com"

    async def plant() -> None:
        limits = {"account": account, "kind": "outbound", "priority": 50, "period": 60}
        await store.insert("throttle", {**limits, "max_msgs": 7}, database="iredapd")
        row = {"account": account, "sender": "@.", "priority": 50, "active": 0}
        await store.insert("greylisting", row, database="iredapd")
        row = {"account": account, "sender": "192.0.2.1/32", "comment": ""}
        await store.insert("greylisting_whitelists", row, database="iredapd")
        await store.insert("policy", {"policy_name": account, "spam_tag2_level": 4},
                           database="amavisd")  # fmt: skip
        (policy,) = await store.rows(
            "SELECT id FROM policy WHERE policy_name = :a", "amavisd", a=account
        )
        user = await add_user(store, account, policy_id=policy["id"], priority=3)
        remote = await add_address(store, "x@far.org", 10)
        row = {"rid": user, "sid": remote, "wb": "B"}
        await store.insert("wblist", row, database="amavisd")

    await plant()
    throttle = await root.ok("GET", "throttle/ex.com/outbound")
    assert (throttle["account"], throttle["max_msgs"]) == (account, 7)
    greylisting = await root.ok("GET", "greylisting/ex.com")
    assert greylisting == {"account": account, "status": "disable"}
    assert await root.ok("GET", "greylisting/ex.com/whitelists") == ["192.0.2.1/32"]
    policy = await root.ok("GET", "spampolicy/domain/ex.com")
    assert (policy["account"], policy["spam_score"]) == (account, 4)
    assert await root.ok("GET", "wblist/inbound/blacklist/ex.com") == ["x@far.org"]

    await root.ok("PUT", "wblist/inbound/blacklist/ex.com", addresses="x@far.org")
    await root.ok("POST", "greylisting/ex.com/whitelists", removeSenders="192.0.2.1/32")
    assert await root.ok("GET", "wblist/inbound/blacklist/ex.com") == []
    assert await root.ok("GET", "greylisting/ex.com/whitelists") == []
    for path in ("throttle/ex.com/outbound", "greylisting/ex.com", "spampolicy/domain/ex.com"):
        await root.ok("DELETE", path)
    assert await root.ok("GET", "throttle/ex.com/outbound") == {}
    assert (await root.ok("GET", "greylisting/ex.com"))["status"] == "inherit"
    assert await root.ok("GET", "spampolicy/domain/ex.com") == {}

    await store.execute("DELETE FROM users WHERE priority = 3", "amavisd")
    await store.execute("DELETE FROM mailaddr", "amavisd")
    await plant()
    await root.ok("POST", "greylisting/ex.com/whitelists", senders="@good.org")
    assert await root.ok("GET", "greylisting/ex.com/whitelists") == ["@good.org"]
    await root.ok("DELETE", "wblist/inbound/blacklist/ex.com")
    assert await root.ok("GET", "wblist/inbound/blacklist/ex.com") == []
    await root.ok("DELETE", "domain/ex.com")
    assert await users(store) == []
    for table in ("throttle", "greylisting", "greylisting_whitelists"):
        where = " WHERE account = '@.ex.com'"
        assert await store.rows(f"SELECT * FROM {table}{where}", "iredapd") == []


async def test_tied_to_anothers_policy(service: Service, root: Client) -> None:
    """Amavisd follows the number: the policy is shown, is the base of one's own, and ends."""
    store = service.store
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    row = {"id": 77, "policy_name": "strict", "spam_tag2_level": 3, "bypass_virus_checks": "N"}
    await store.insert("policy", row, database="amavisd")
    await add_user(store, "u@ex.com", policy_id=77, priority=10)
    shown = await root.ok("GET", "spampolicy/user/u@ex.com")
    assert (shown["account"], shown["spam_score"]) == ("strict", 3)
    await root.ok("PUT", "spampolicy/user/u@ex.com", bypass_spam_checks="yes")
    shown = await root.ok("GET", "spampolicy/user/u@ex.com")
    assert (shown["account"], shown["spam_score"]) == ("u@ex.com", 3)
    assert (shown["bypass_spam_checks"], shown["bypass_virus_checks"]) == ("yes", "no")
    (other,) = await store.rows("SELECT * FROM policy WHERE id = 77", "amavisd")
    assert other["bypass_spam_checks"] is None
    await store.execute("UPDATE users SET policy_id = 77 WHERE priority = 10", "amavisd")
    await root.ok("DELETE", "spampolicy/user/u@ex.com")
    assert await root.ok("GET", "spampolicy/user/u@ex.com") == {}
    (other,) = await store.rows("SELECT * FROM policy WHERE id = 77", "amavisd")
    assert other["policy_name"] == "strict"
