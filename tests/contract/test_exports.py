"""Exports: in parts, of the own domains only; test_round_trip.py compares the storages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iredapi.operations import account_exports, policy_exports
from tests.clients import PASSWORD, Client, Service, serving
from tests.contract.histories import HASH
from tests.contract.test_statement_counts import counted
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
Record = dict[str, Any]
ORDER = (
    "domain", "admin", "user", "alias", "ml", "maillist", "membership",
    "throttle", "greylisting", "wblist", "spampolicy",
)  # fmt: skip
LATER = {"catchall", "forwarding", "members", "moderators", "owner", "subscription_moderators"}
UNHIDDEN: dict[str, Any] = {"hidden_user_fields": "", "hidden_admin_fields": ""}
POLICIES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("POST", "throttle/global/outbound", {"period": "60", "max_msgs": "9"}),
    ("POST", "throttle/ex.com/inbound", {"period": "61", "msg_size": "10", "max_rcpts": "3"}),
    ("POST", "throttle/u@ex.com/external", {"period": "62", "max_quota": "0"}),
    ("POST", "greylisting/ex.com", {"status": "enable"}),
    ("POST", "greylisting/u@ex.com", {"status": "disable"}),
    ("POST", "greylisting/ex.com/whitelists", {"senders": "@far.org,192.0.2.1"}),
    ("PUT", "spampolicy/domain/ex.com", {"spam_score": "4.5", "bypass_virus_checks": "no"}),
    ("PUT", "spampolicy/user/u@ex.com", {"quarantine_spam": "yes"}),
    ("POST", "wblist/inbound/whitelist/ex.com", {"addresses": "@far.org,a@far.org"}),
    ("POST", "wblist/outbound/blacklist/u@ex.com", {"addresses": "b@far.org"}),
    ("POST", "wblist/inbound/blacklist/global", {"addresses": "@bad.org"}),
)
OF_EX: list[Record] = [
    {"type": "throttle", "account": "ex.com", "direction": "inbound", "period": 61, "msg_size": 10,
     "max_msgs": -1, "max_quota": -1, "max_rcpts": 3},
    {"type": "throttle", "account": "u@ex.com", "direction": "external", "period": 62,
     "msg_size": -1, "max_msgs": -1, "max_quota": 0, "max_rcpts": -1},
    {"type": "greylisting", "account": "ex.com", "status": "enable"},
    {"type": "greylisting", "account": "u@ex.com", "status": "disable"},
    {"type": "greylisting", "account": "ex.com", "senders": ["192.0.2.1", "@far.org"]},
    {"type": "wblist", "account": "ex.com", "direction": "inbound", "kind": "whitelist",
     "addresses": ["@far.org", "a@far.org"]},
    {"type": "wblist", "account": "u@ex.com", "direction": "outbound", "kind": "blacklist",
     "addresses": ["b@far.org"]},
    {"type": "spampolicy", "account": "ex.com", "bypass_virus_checks": "no", "spam_score": 4.5},
    {"type": "spampolicy", "account": "u@ex.com", "quarantine_spam": "yes"},
]  # fmt: skip


async def exported(client: Client, path: str = "export") -> list[Record]:
    answer = await client.http.get(path)
    assert (answer.status_code, answer.headers["vary"]) == (200, "Accept"), answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    found = [json.loads(line) for line in answer.text.splitlines()]
    told: set[tuple[str, str]] = set()
    first: list[Record] = []
    again: list[Record] = []
    for record in found:
        name = (record["type"], record.get("mail") or record.get("domain", ""))
        (again if name in told and "account" not in record else first).append(record)
        told.add(name if record["type"] != "membership" else ("", ""))
    places = [ORDER.index(record["type"]) for record in first]
    assert places == sorted(places)
    for record in again:
        # What names accounts that come later is said again after them.
        (whole,) = [r for r in first if r.items() >= record.items()]
        assert found.index(whole) < found.index(record)
        assert record.keys() <= {"type", "mail", "domain", *LATER}
    return first


@pytest.fixture(name="filled")
async def _filled(service: Service, root: Client) -> Client:
    for domain in ("ex.com", "other.com"):
        await root.ok("POST", f"domain/{domain}")
        for name in ("u", "v", "w"):
            await root.ok("POST", f"user/{name}@{domain}", password_hash=HASH)
    for method, path, form in POLICIES:
        await root.ok(method, path, **form)
    await root.ok("POST", "throttle/u@other.com/inbound", period="63", max_msgs="1")
    return root


async def test_policies(filled: Client, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    own = [r for r in await exported(filled, "export/ex.com") if "account" in r]
    assert own == OF_EX
    every = [r for r in await exported(filled) if "account" in r]
    more = [record for record in every if record not in OF_EX]
    assert {(r["type"], r["account"]) for r in more} == {
        ("throttle", "global"), ("throttle", "u@other.com"), ("greylisting", "global"),
        ("spampolicy", "global"), ("wblist", "global"),
    }  # fmt: skip
    # Read in small parts it is the same.
    monkeypatch.setattr(account_exports, "PAGE", 2)
    monkeypatch.setattr(policy_exports, "PAGE", 1)
    parts = await exported(filled)
    assert [r for r in parts if "account" in r] == every
    users = [record["mail"] for record in parts if record["type"] == "user"]
    assert users == [f"{name}@{domain}" for name in "uvw" for domain in ("ex.com", "other.com")]


async def test_rights(filled: Client, service: Service) -> None:
    """A normal admin gets the own domains, without hashes, admins, and rights of others."""
    await filled.ok("PUT", "domain/admins/ex.com", addAdmin="v@ex.com")
    await filled.ok("PUT", "domain/admins/other.com", addAdmin="v@ex.com")
    admin = await service.admin_of("ex.com")
    assert await admin.refused("GET", "export") == (403, "PERMISSION_DENIED", [])
    for name in ("other.com", "never.com"):
        assert await admin.refused("GET", f"export/{name}") == (403, "PERMISSION_DENIED", [])
    assert await filled.refused("GET", "export/never.com") == (404, "NO_SUCH_DOMAIN", [])
    found = await exported(admin, "export/EX.com")
    text = json.dumps(found)
    assert "other.com" not in text
    assert "global" not in [record.get("account") for record in found]
    assert not [record for record in found if record["type"] == "admin"]
    assert [r["managedDomains"] for r in found if r.get("mail") == "v@ex.com"] == [["ex.com"]]
    await filled.ok("PUT", "domain/ex.com", disableDomainProfile="throttle")
    await filled.ok("PUT", "domain/ex.com", disableUserProfile="greylisting")
    limited = await exported(admin, "export/ex.com")
    assert [(r["type"], r["account"]) for r in limited if "account" in r][:2] == [
        ("greylisting", "ex.com"), ("greylisting", "ex.com"),
    ]  # fmt: skip


async def test_hashes(store: Store) -> None:
    """For global admins only, where they are not hidden, and not for limited tokens."""
    async with serving(store, **UNHIDDEN) as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "user/u@ex.com", password_hash=HASH)
        limited = await root.ok("POST", "tokens", label="x", days="1")
        endless = await root.ok("POST", "tokens", label="x")
        admin = await service.admin_of("ex.com")
        for token, expected in ((limited, None), (endless, HASH)):
            client = service.client()
            client.http.headers["Authorization"] = f"Bearer {token['token']}"
            found = await exported(client, "export/ex.com")
            assert [r.get("password_hash") for r in found if r["type"] == "user"] == [expected]
        assert HASH not in json.dumps(await exported(admin, "export/ex.com"))
    async with serving(store) as service:
        assert "password_hash" not in json.dumps(await exported(await service.root()))


async def test_a_constant_number_of_statements(filled: Client, service: Service) -> None:
    await filled.ok("POST", "alias/list@other.com", members="u@other.com")
    few = await counted(service, exported(filled, "export/other.com"))
    for number in range(8):
        mail = f"more{number}@other.com"
        await filled.ok("POST", f"user/{mail}", password_hash=HASH)
        await filled.ok("POST", f"alias/list{number}@other.com", members=mail)
        await filled.ok("POST", f"throttle/{mail}/inbound", period="64")
    many = await counted(service, exported(filled, "export/other.com"))
    assert few.total() == many.total(), (many - few, few - many)


async def test_lists(filled: Client, service: Service) -> None:
    form = {"subscribers": "a@far.org,v@ex.com", "require_confirm": "no", "owner": "u@ex.com"}
    await filled.ok("POST", "ml/team@ex.com", subject_prefix="[team]", **form)
    await filled.ok("PUT", "ml/team@ex.com", add_subscribers="d@far.org", require_confirm="no",
                    subscription="digest")  # fmt: skip
    found = await exported(filled, "export/ex.com")
    (team,) = [record for record in found if record["type"] == "ml"]
    view = await filled.ok("GET", "ml/team@ex.com", view="canonical")
    assert team == {"type": "ml", **view}
    assert [r for r in found if r["type"] == "membership"] == [
        {"type": "membership", "list": "team@ex.com", "mail": mail, "subscription": kind}
        for mail, kind in (("a@far.org", "normal"), ("d@far.org", "digest"), ("v@ex.com", "normal"))
    ]


async def test_as_json(filled: Client) -> None:
    answer = await filled.http.get("export/ex.com", headers={"Accept": "application/json"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"_success": True, "_data": await exported(filled, "export/ex.com")}
    assert PASSWORD not in answer.text
