"""What one storage exports, any other imports: the same accounts, logins and policies.

The storages are a ring, so each is exported from and imported into.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from iredapi.doctor.findings import Finding
from iredapi.doctor.runner import Examination
from iredapi.domain.addresses import without
from iredapi.domain.passwords import Scheme, check_hash, hash_password
from tests.clients import PASSWORD, Client, Service, serving
from tests.contract.histories import COUNTERS, HASH, RICH, play
from tests.contract.test_exports import POLICIES, UNHIDDEN, Record
from tests.servers.openldap import account_dn
from tests.servers.store import Store, StoreName

RING: tuple[tuple[StoreName, StoreName], ...] = (
    ("postgresql", "openldap"), ("openldap", "mariadb"), ("mariadb", "sqlite"),
    ("sqlite", "postgresql"),
)  # fmt: skip
NOT_HELD = {"policy@odd.com", "odd@odd.com", "two@odd.com"}
"""Accounts that the other storage cannot hold, or that have a hash which nobody can check."""
NOT_IN_LDAP = (Scheme.PBKDF2, Scheme.ARGON2ID)
"""slapd cannot check them."""
SCHEMES = {f"h{place}@odd.com": scheme for place, scheme in enumerate(Scheme)}


@pytest.fixture(name="pair", params=RING, ids="-".join)
def _pair(request: pytest.FixtureRequest) -> tuple[Store, Store]:
    """Two storages."""
    names: tuple[str, str] = request.param
    chosen = request.config.getoption("--stores")
    if chosen and not {*names} <= {*chosen.split(",")}:
        pytest.skip("not chosen with --stores")
    from tests.conftest import need

    for name in names:
        if name != "sqlite":
            need(name)
    one, other = (request.getfixturevalue(f"{name}_store") for name in names)
    return one, other


@asynccontextmanager
async def opened(store: Store, directory: Path) -> AsyncIterator[Service]:
    """The application on an empty store, with a list server of its own."""
    await store.reset()
    spool = directory / store.name
    spool.mkdir(mode=0o700)
    given = {"mlmmj_spool": str(spool), "mlmmj_smtp_port": 1, "maildir_append_timestamp": False}
    async with serving(store, **given, **UNHIDDEN) as service:
        yield service


async def fill(service: Service, root: Client) -> None:
    """Accounts and policies of every kind, with what is rare."""
    await play(root, RICH)
    # The user has another name since, and this address leads nowhere.
    await root.ok("PUT", "alias/crew@ex.com", removeMember="bob@al.com")
    await root.ok("POST", "domain/odd.com")
    for mail, scheme in SCHEMES.items():
        if service.store.name == "openldap" and scheme in NOT_IN_LDAP:
            continue
        hashed = hash_password(PASSWORD, scheme, bcrypt_cost=4)
        await root.ok("POST", f"user/{mail}", password_hash=hashed)
    # They name each other, and come in the wrong order.
    await root.ok("POST", "alias/z@odd.com", members="h0@odd.com")
    await root.ok("POST", "alias/a@odd.com", members="z@odd.com,x@far.org")
    await root.ok("PUT", "user/h0@odd.com", forwarding="h0@odd.com,z@odd.com,h1@odd.com")
    await root.ok("PUT", "domain/odd.com", catchall="z@odd.com")
    form = {"subscribers": "s@far.org,h1@odd.com", "require_confirm": "no", "owner": "a@odd.com"}
    form |= {"moderators": "h1@odd.com"}
    await root.ok("POST", "ml/team@odd.com", subject_prefix="[Tëam]", footer_text="a\nb", **form)
    await root.ok("PUT", "alias/a@odd.com", addMember="team@odd.com")
    for method, path, sent in POLICIES:
        await root.ok(method, path.replace("u@ex.com", "alice@ex.com"), **sent)
    if service.store.name == "openldap":
        await root.ok("POST", "maillist/only@odd.com", members="h1@odd.com")
        await root.ok("PUT", "user/h1@odd.com", addService="xmpp")
        # What other programs store: attributes that no account of the API has, two passwords.
        entry = account_dn("h2@odd.com")
        service.store.directory.modify(entry, replace={"title": "Boss", "street": "Ü 1"})
        await root.ok("POST", "user/two@odd.com", password_hash=HASH)
        both = [hash_password(PASSWORD), HASH]
        service.store.directory.modify(account_dn("two@odd.com"), replace={"userPassword": both})
        return
    policy = {"accessPolicy": "moderatorsonly", "moderators": "h1@odd.com,*@far.org"}
    await root.ok("POST", "alias/policy@odd.com", members="h1@odd.com", **policy)
    # What other programs store: capitals, a hash without its scheme, and one that is unknown.
    await service.store.insert("domain", {"domain": "Caps.com"})
    crypt = hash_password(PASSWORD, Scheme.SHA512_CRYPT)
    for mail, domain, hashed in (
        ("Carl@Caps.com", "Caps.com", crypt.removeprefix("{SHA512-CRYPT}")),
        ("odd@odd.com", "odd.com", "{NO-SUCH-SCHEME}x"),
    ):
        row = {"username": mail, "domain": domain, "password": hashed, "name": "Carl"}
        await service.store.insert("mailbox", row | {"maildir": f"odd/{mail[:3].lower()}/"})
        row = {"address": mail, "forwarding": mail, "domain": domain}
        await service.store.insert("forwardings", {**row, "is_forwarding": 1})


async def is_complete(root: Client, records: list[Record]) -> None:
    """Each record is the view of its account; domain by domain the same is exported."""
    for record in records:
        kind = record["type"]
        if kind not in ("domain", "user", "alias", "admin") or len(record) < 5:
            continue
        if record.get("mail") == "carl@caps.com":
            continue  # SQL looks accounts of a domain in capitals up as they are stored
        view = await root.ok("GET", f"{kind}/{record.get('mail') or record['domain']}",
                             view="canonical")  # fmt: skip
        left_out = {"type", "password_hash", "accessPolicy"}
        (own,) = comparable([{k: v for k, v in record.items() if k not in left_out}])
        unsaid = COUNTERS | ({"admins"} if kind == "domain" else set())
        shown = {key: value for key, value in view.items() if key not in unsaid}
        assert json.dumps(own).lower() == json.dumps({key: shown[key] for key in own}).lower()
        assert own.keys() == shown.keys()
        assert ("password_hash" in record) == (kind in ("user", "admin"))
    by_domain: list[Record] = []
    for name in sorted({r["domain"] for r in records if r["type"] == "domain"}):
        by_domain += await lines_of(root, f"export/{name}")
    # Admins of a domain are told with it; others, and global policies, with everything only.
    assert [r["mail"] for r in by_domain if r["type"] == "admin"] == ["one@admins.org"]
    apart = {"type": "admin", "account": "global"}
    some, single = (
        sorted(str(record) for record in found if not apart.items() & record.items())
        for found in (records, by_domain)
    )
    assert some == single


async def lines_of(root: Client, path: str = "export") -> list[Record]:
    answer = await root.http.get(path)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def imported(root: Client, records: list[Record]) -> list[Record]:
    """Import records from top to bottom; return what is said of each."""
    lines = "".join(f"{json.dumps(record)}\n" for record in records)
    answer = await root.http.post(
        "import", params={"on_existing": "update"}, content=lines,
        headers={"Content-Type": "application/x-ndjson"},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    *results, last = [json.loads(line) for line in answer.text.splitlines()]
    assert last["_success"], last
    return results


def comparable(records: list[Record], unheld: Collection[str] = ()) -> list[Record]:
    """Records without what only one of two storages can hold, sorted."""
    found = []
    for record in records:
        kind = record.get("type")
        if kind == "maillist" or record.get("mail") in unheld:
            continue
        shown = {k: v for k, v in record.items() if k != "accessPolicy" or kind == "ml"}
        if "services" in shown:
            shown["services"] = [name for name in shown["services"] if name != "xmpp"]
        if "password_hash" in shown:
            # slapd knows no {SHA512-CRYPT}.
            named = check_hash(shown["password_hash"])
            shown["password_hash"] = named.replace("{SHA512-CRYPT}", "{CRYPT}")
        found.append(shown)
    return sorted(found, key=str)


async def test_the_same_on_the_other_one(pair: tuple[Store, Store], tmp_path: Path) -> None:
    one, other = pair
    async with opened(one, tmp_path) as source, opened(other, tmp_path) as target:
        root = await source.root()
        await fill(source, root)
        records = await lines_of(root)
        await is_complete(root, records)
        results = await imported(await target.root(), records)
        failed = [result for result in results if result["result"] == "failed"]
        refused = {(result["type"], result.get("mail"), result["code"]) for result in failed}
        unheld = [mail for mail, scheme in SCHEMES.items() if scheme in NOT_IN_LDAP]
        unheld = [*NOT_HELD, *(unheld if "openldap" in (one.name, other.name) else [])]
        expected = {("user", "odd@odd.com", "INVALID_PASSWORD_SCHEME")}
        if other.name == "openldap":
            expected |= {("alias", "policy@odd.com", "NOT_SUPPORTED_BY_BACKEND")}
            code = "INVALID_PASSWORD_SCHEME"
            expected |= {("user", mail, code) for mail in unheld if mail in SCHEMES}
        elif one.name == "openldap":
            expected = {
                ("maillist", "only@odd.com", "NOT_SUPPORTED_BY_BACKEND"),
                ("user", "two@odd.com", "INVALID_PASSWORD_SCHEME"),
            }
        assert refused == expected
        client = await target.root()
        copied = await lines_of(client)
        assert comparable(copied, unheld) == comparable(records, unheld)
        users = ["alice@ex.com", *SCHEMES] + ["carl@caps.com"] * (one.name != "openldap")
        for mail in without(users, unheld):
            await client.ok("POST", f"verify_password/user/{mail}", password=PASSWORD)
        await target.client().login("one@admins.org")
        again = await imported(client, records)
        assert {r["result"] for r in again} - {"failed"} == {"unchanged"}
        found: list[Finding] = []
        result = await Examination(target.settings).run(found.append)
        assert (found, result.status) == ([], 0)
