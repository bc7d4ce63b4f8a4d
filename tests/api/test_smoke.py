"""A client makes, changes and deletes one account of each kind, on every database."""

from __future__ import annotations

from tests.clients import PASSWORD, Client, Service


async def test_from_nothing_to_nothing(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com", name="ABC Inc.", quota="20480")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD, name="Jørn", quota="1024")
    await root.ok("PUT", "domain/ex.com", addAliasDomain="al.com", catchall="u@ex.com",
                  senderBcc="b@x.com", outboundRelay="smtp:[10.0.0.2]:25")  # fmt: skip
    domain = await root.ok("GET", "domain/ex.com", view="canonical")
    assert domain["aliasDomains"] == ["al.com"]
    assert domain["outboundRelay"] == "[10.0.0.2]:25"
    assert domain["allocatedQuota"] == 1024
    await root.ok("PUT", "user/u@ex.com", addForwarding="x@gmail.com", recipientBcc="r@x.com")
    await root.ok("PUT", "user/u@ex.com", addAlias="bob@ex.com,c@al.com", isGlobalAdmin="yes")
    await root.ok("PUT", "user/u@ex.com", removeService="imaptls", gn="J")
    user = await root.ok("GET", "user/u@ex.com", view="canonical")
    assert user["name"] == "Jørn"
    assert user["forwarding"] == ["u@ex.com", "x@gmail.com"]
    assert user["aliases"] == ["bob@ex.com", "c@al.com"]
    assert "imaptls" not in user["services"]
    await root.ok("POST", "alias/list@ex.com", members="u@ex.com,x@gmail.com")
    await root.ok("PUT", "users/ex.com", accountStatus="disabled", language="de_DE")
    await root.ok("PUT", "users/ex.com", accountStatus="active", password=PASSWORD)
    user_admin = await service.client().login("u@ex.com")
    assert await user_admin.ok("GET", "domains", name_only="yes") == ["ex.com"]
    await root.ok("PUT", "user/u@ex.com", isGlobalAdmin="no")
    assert (await user_admin.refused("GET", "domains"))[:2] == (401, "LOGIN_REQUIRED")
    await root.ok("POST", "user/u@ex.com/change_email/n@ex.com")
    assert (await root.ok("GET", "alias/list@ex.com"))["members"] == ["n@ex.com", "x@gmail.com"]
    assert await root.ok("GET", "users/ex.com", email_only="yes") == ["n@ex.com"]
    await root.ok("DELETE", "user/n@ex.com/keep_mailbox_days/30")
    await root.ok("DELETE", "domain/ex.com")
    assert await root.ok("GET", "domains") == []
    log = await service.store.rows(
        "SELECT msg FROM log WHERE admin = 'root@admins.test'", "iredadmin"
    )
    assert len(log) == 14
    assert all(row["msg"].startswith("[API] ") for row in log)
