"""``POST /api/import``: a result for each line, and nothing but what the single calls would do."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from iredapi.domain.passwords import Scheme, hash_password
from iredapi.web import import_body
from tests.clients import PASSWORD, Client, Service
from tests.contract.dry_runs import everything
from tests.servers.store import ALL_STORES

pytestmark = pytest.mark.stores(*ALL_STORES)
HASH = "{SSHA512}q+0R05jSyeEetqfhSwLRarIfsiOlYByGxXfT1DhSYYQAOVxCYtj8vjUCOPr8coR9K4m25vl/jq85oHB7JtUIswKzHUCh+DRv"  # noqa: E501
Record = dict[str, Any]


def ndjson(*records: Record) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


async def sent(
    client: Client, body: Any, kind: str = "application/x-ndjson", **params: str
) -> list[Record]:
    """Send a file; return the lines of the answer."""
    headers = {"Content-Type": kind} if kind else {}
    response = await client.http.post("import", content=body, params=params, headers=headers)
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


async def imported(client: Client, *records: Record, **params: str) -> list[str]:
    """Import records; return the result of each, with the code of one that failed."""
    lines = await sent(client, ndjson(*records), **params)
    assert [line["line"] for line in lines[:-1]] == list(range(1, len(records) + 1))
    assert lines[-1]["_success"] is True, lines[-1]
    return [f"{line['result']} {line.get('code', '')}".strip() for line in lines[:-1]]


def user(local: str, **values: Any) -> Record:
    return {"type": "user", "mail": f"{local}@ex.com", "password_hash": HASH, **values}


def every_type(*, in_ldap: bool) -> list[Record]:
    found: list[Record] = [
        {"type": "domain", "domain": "ex.com", "name": "Example", "quota": 9000,
         "numberOfUsers": 50, "aliasDomains": ["alias.org"], "disabledUserProfile": ["relay"]},
        {"type": "admin", "mail": "boss@admins.net", "password_hash": HASH, "name": "Boss",
         "maxUsers": 7, "managedDomains": ["ex.com"]},
        *(user(f"u{n}", name=f"User {n}", quota=100) for n in range(6)),
        user("rich", gn="Ri", sn="Ch", mobile=["1", "2"], aliases=["r@ex.com"],
             forwarding=["rich@ex.com", "far@far.org"], managedDomains=["ex.com"],
             services=["deliver", "imap", "imaptls"], suspended="no", transport="", quota=100),
        {"type": "user", "mail": "plain@ex.com", "password": PASSWORD, "usage": {"bytes": 1},
         "quota": 100},
        {"type": "alias", "mail": "all@ex.com", "members": ["u1@ex.com", "x@far.org"]},
        {"type": "ml", "mail": "news@ex.com", "name": "News", "owner": ["u1@ex.com"],
         "subject_prefix": "[news]"},
        {"type": "membership", "list": "news@ex.com", "mail": "u2@ex.com"},
        {"type": "membership", "list": "news@ex.com", "mail": "y@far.org"},
        {"type": "membership", "list": "news@ex.com", "mail": "z@far.org",
         "subscription": "digest"},
        {"type": "throttle", "account": "ex.com", "direction": "outbound", "period": 60,
         "max_msgs": 5, "msg_size": -1, "max_quota": -1, "max_rcpts": -1},
        {"type": "greylisting", "account": "u1@ex.com", "status": "disable",
         "senders": ["@far.org"]},
        {"type": "wblist", "account": "global", "direction": "inbound", "kind": "blacklist",
         "addresses": ["bad@far.org", "192.0.2.1"]},
        {"type": "spampolicy", "account": "ex.com", "bypass_spam_checks": "yes",
         "spam_score": 4.5},
    ]  # fmt: skip
    if in_ldap:
        found.append({"type": "maillist", "mail": "staff@ex.com", "members": ["u1@ex.com"]})
    return found


async def test_a_file_of_every_type(root: Client, service: Service) -> None:
    """All is done; sent again, with either rule, nothing is written and nothing is logged."""
    records = every_type(in_ldap=service.store.name == "openldap")
    lines = await sent(root, ndjson(*records))
    assert [line for line in lines[:-1] if line["result"] != "done"] == []
    assert lines[9]["_ignored"] == ["usage"]
    assert lines[-1] == {
        "_success": True,
        "summary": {
            "lines": len(records), "done": len(records), "unchanged": 0, "skipped": 0, "failed": 0
        },
    }  # fmt: skip
    shown = await root.ok("GET", "user/rich@ex.com", view="canonical")
    assert shown["aliases"] == ["r@ex.com"]
    assert shown["forwarding"] == ["far@far.org", "rich@ex.com"]
    assert shown["managedDomains"] == ["ex.com"]
    assert (await root.ok("GET", "admin/boss@admins.net", view="canonical"))["maxUsers"] == 7
    assert (await root.ok("GET", "user/u5@ex.com", view="canonical"))["quota"] == 100
    assert await root.ok("GET", "greylisting/u1@ex.com/whitelists") == ["@far.org"]
    listed = await root.ok("GET", "ml/news@ex.com", with_subscribers="yes")
    assert {item["mail"]: item["subscription"] for item in listed["subscribers"]} == {
        "u2@ex.com": "normal", "y@far.org": "normal", "z@far.org": "digest"
    }  # fmt: skip
    before = await everything(service.store, service)
    for rule in ("skip", "update", "fail"):
        again = await sent(root, ndjson(*records), on_existing=rule)
        other = [line for line in again[:-1] if line["result"] != "unchanged"]
        # The list of greylisted senders and the like are compared by their operations.
        assert other == [], rule
        assert await everything(service.store, service) == before, rule
    if service.store.name != "openldap":
        (why,) = await imported(root, {"type": "maillist", "mail": "staff@ex.com"})
        assert why == "failed NOT_SUPPORTED_BY_BACKEND"


async def test_what_is_there_with_other_values(root: Client, service: Service) -> None:
    old = user("a", name="Old", quota=100)
    domain = {"type": "domain", "domain": "ex.com", "transport": "relay:a.example.net"}
    alias = {"type": "alias", "mail": "s@ex.com", "members": ["a@ex.com"]}
    assert await imported(root, domain, old, alias) == ["done"] * 3
    new = user("a", name="New", quota="200", isGlobalAdmin=False)
    later = (domain | {"transport": "dovecot"}, new, alias | {"members": ["b@far.org"]})
    before = await everything(service.store, service)
    lines = await sent(root, ndjson(*later))
    assert [line["result"] for line in lines[:-1]] == ["skipped"] * 3
    assert lines[1]["different"] == ["name", "quota"]
    failed = ["failed ALREADY_EXISTS"] * 3
    assert await imported(root, *later, on_existing="fail") == failed
    assert await everything(service.store, service) == before
    assert await imported(root, *later, on_existing="update") == ["done"] * 3
    shown = await root.ok("GET", "user/a@ex.com", view="canonical")
    assert (shown["name"], shown["quota"]) == ("New", 200)
    assert (await root.ok("GET", "domain/ex.com", view="canonical"))["transport"] == "dovecot"
    assert await imported(root, *later, on_existing="update") == ["unchanged"] * 3
    plain = {"type": "user", "mail": "a@ex.com", "password": f"{PASSWORD}-2"}
    assert await imported(root, plain) == ["unchanged"]
    assert await imported(root, plain, plain, on_existing="update") == ["done", "unchanged"]
    await root.ok("POST", "verify_password/user/a@ex.com", password=f"{PASSWORD}-2")


async def test_a_wrong_line_does_not_stop_the_others(root: Client) -> None:
    body = b"\n".join(
        [
            ndjson({"type": "domain", "domain": "ex.com", "numberOfUsers": 3}).strip(),
            b"{broken",
            b'["a list"]',
            b"",
            ndjson({"mail": "a@ex.com"}, {"type": "users", "mail": "a@ex.com"}).strip(),
            ndjson(user("a"), user("a"), user("two words"), user("b")).strip(),
            b'{"type":"user","mail":"' + b"x" * (1024 * 1024) + b'"}',
            ndjson({"type": "user"}, {"type": "user", "mail": "c@ex.com"}).strip(),
            ndjson(user("c", quota="many"), user("c", services={"a": 1})).strip(),
            ndjson(user("d"), user("e"), {"type": "user", "mail": "f@none.org"}).strip(),
            ndjson(user("f") | {"mail": "f@none.org"}, user("b", name="B")).strip(),
        ]
    )
    lines = await sent(root, body)
    found = [
        (line["line"], line["result"], line.get("code"), line.get("param")) for line in lines[:-1]
    ]
    assert found == [
        (1, "done", None, None),
        (2, "failed", "INVALID_REQUEST", None),
        (3, "failed", "INVALID_REQUEST", None),
        (5, "failed", "INVALID_VALUE", "type"),
        (6, "failed", "INVALID_VALUE", "type"),
        (7, "done", None, None),
        (8, "unchanged", None, None),
        (9, "failed", "INVALID_MAIL", "mail"),
        (10, "done", None, None),
        (11, "failed", "REQUEST_TOO_LARGE", None),
        (12, "failed", "REQUIRED", "mail"),
        (13, "failed", "REQUIRED", "password"),
        (14, "failed", "INVALID_NUMBER", "quota"),
        (15, "failed", "INVALID_VALUE", "services"),
        (16, "done", None, None),
        (17, "failed", "EXCEEDED_DOMAIN_ACCOUNT_LIMIT", None),
        (18, "failed", "REQUIRED", "password"),
        (19, "failed", "NO_SUCH_DOMAIN", None),
        (20, "skipped", "ALREADY_EXISTS", None),
    ]
    assert lines[-1]["summary"]["failed"] == 13


async def test_each_line_needs_the_rights_of_the_single_call(
    root: Client, service: Service
) -> None:
    for name in ("ex.com", "other.com"):
        await root.ok("POST", f"domain/{name}")
    await root.ok("POST", "user/there@other.com", password=PASSWORD)
    admin = await service.admin_of("ex.com")
    token = await admin.ok("POST", "tokens", label="reads", readOnly="yes")
    before = await everything(service.store, service)
    foreign: list[Record] = [
        {"type": "user", "mail": "a@other.com", "password_hash": HASH},
        {"type": "user", "mail": "there@other.com", "name": "Mine now"},
        {"type": "domain", "domain": "other.com", "name": "Mine now"},
        {"type": "domain", "domain": "new.com"},
        {"type": "admin", "mail": "x@admins.net", "password_hash": HASH},
        {"type": "alias", "mail": "a@other.com", "members": []},
        {"type": "ml", "mail": "l@other.com"},
        {"type": "membership", "list": "l@other.com", "mail": "a@ex.com"},
        {"type": "throttle", "account": "global", "direction": "inbound", "period": 60},
        {"type": "wblist", "account": "other.com", "direction": "inbound", "kind": "whitelist",
         "addresses": "a@far.org"},
        user("x", isGlobalAdmin="yes"),
        user("x", managedDomains=["other.com"]),
        user("x", maildir="/var/vmail/vmail1/x"),
    ]  # fmt: skip
    for rule in ("skip", "update", "fail"):
        lines = await sent(admin, ndjson(*foreign), on_existing=rule)
        assert {line.get("code") for line in lines[:-1]} == {"PERMISSION_DENIED"}, rule
    assert await everything(service.store, service) == before
    assert await imported(admin, user("x"), user("y", name="Y")) == ["done", "done"]
    reader = service.client()
    reader.http.headers["Authorization"] = f"Bearer {token['token']}"
    response = await reader.http.post("import", content=ndjson(user("z")))
    assert response.status_code == 403
    response = await service.client().http.post("import", content=ndjson(user("z")))
    assert response.status_code == 401


async def test_a_dry_run_tells_what_the_import_would_do(root: Client, service: Service) -> None:
    await root.ok("POST", "domain/ex.com", numberOfUsers="5")
    await imported(root, user("a", name="A"))
    records = [
        user("a", name="B"), user("b"), user("c", forwarding=["x@far.org"]),
        user("d", quota="many"), {"type": "alias", "mail": "b@ex.com"},
        {"type": "domain", "domain": "new.com"},
        {"type": "user", "mail": "n@new.com", "password_hash": HASH},
        {"type": "ml", "mail": "news@ex.com"},
        {"type": "throttle", "account": "ex.com", "direction": "inbound", "period": 60},
    ]  # fmt: skip
    before = await everything(service.store, service)
    dry = await imported(root, *records, dry_run="yes", on_existing="update")
    assert await everything(service.store, service) == before
    # A dry run does not see what earlier lines would have made.
    assert dry[4] == "done"
    real = await imported(root, *records, on_existing="update")
    assert real[4] == "failed ALREADY_EXISTS"
    assert [*dry[:4], *dry[5:]] == [*real[:4], *real[5:]]


async def test_csv_and_gzip(root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    rows = (
        "mail;name;quota;forwarding;password_hash\r\n"
        f'a@ex.com;"A;\r\nB";100;a@ex.com,x@far.org;{HASH}\r\n'
        f"b@ex.com;B;;;{HASH}\r\n"
        "c@ex.com;C\r\n"
    ).encode()
    lines = await sent(root, rows, "text/csv")
    assert [(line["line"], line["result"]) for line in lines[:-1]] == [
        (2, "failed"), (4, "done"), (5, "failed")
    ]  # fmt: skip
    rows = rows.replace(b";\r\nB", b"; B")
    packed = gzip.compress(rows[:100]) + gzip.compress(rows[100:])
    response = await root.http.post(
        "import", content=packed, headers={"Content-Encoding": "gzip"}, params={"format": "csv"}
    )
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert [line["result"] for line in lines[:-1]] == ["done", "unchanged", "failed"]
    shown = await root.ok("GET", "user/a@ex.com", view="canonical")
    assert (shown["name"], shown["forwarding"]) == ("A; B", ["a@ex.com", "x@far.org"])
    for body, headers in (
        (packed[:-9], {"Content-Encoding": "gzip"}),
        (b"x", {"Content-Encoding": "gzip"}),
        (b"x", {"Content-Encoding": "br"}),
        (b"mail,mail\n", {"Content-Type": "text/csv"}),
        (b"\xff,\xfe\n", {"Content-Type": "text/csv"}),
        (b"x", {"Content-Type": "multipart/form-data; boundary=x"}),
        (ndjson(user("z")), {"Idempotency-Key": "abc"}),
    ):
        answer = await root.http.post("import", content=body, headers=headers)
        last = json.loads(answer.text.splitlines()[-1])
        assert last["_success"] is False, (headers, answer.text)
    for name, value in (("on_existing", "merge"), ("format", "xml"), ("dry_run", "maybe")):
        assert (await root.http.post("import", params={name: value})).status_code == 400


async def test_strict_refuses_what_has_no_effect(root: Client) -> None:
    await root.ok("POST", "domain/ex.com", maxUserQuota="50")
    odd = user("a", colour="red", quota=100)
    lines = await sent(root, ndjson(odd), strict="yes")
    assert (lines[0]["code"], lines[0]["param"]) == ("IGNORED_PARAMETER", "colour")
    adjusted = user("a", quota=100)
    assert await imported(root, adjusted, strict="yes") == ["failed VALUE_ADJUSTED"]
    lines = await sent(root, ndjson(odd))
    assert lines[0]["_ignored"] == ["colour"]
    assert lines[0]["_adjusted"][0]["param"] == "quota"


async def test_a_name_that_no_storage_takes(root: Client) -> None:
    """Only its line fails: PostgreSQL would refuse the look-up of all lines around it."""
    await root.ok("POST", "domain/ex.com")
    no = "\0"
    results = await imported(
        root, {"type": "domain", "domain": f"{no}.com"}, {"type": "domain", "domain": "x.com"},
        user("a"), user(no), user(f"b{no}", colour="red"), user("c"),
        {"type": "alias", "mail": f"{no}@ex.com"}, {"type": "admin", "mail": f"{no}@a.org"},
        {"type": "ml", "mail": f"{no}@ex.com"},
        {"type": "membership", "list": f"{no}@ex.com", "mail": "a@ex.com"},
        {"type": "throttle", "account": f"{no}@ex.com", "direction": "inbound"},
    )  # fmt: skip
    wrong = "failed INVALID_MAIL"
    assert results == [
        "failed INVALID_DOMAIN_NAME", "done", "done", wrong, wrong, "done", *[wrong] * 5
    ]  # fmt: skip


async def test_lines_about_subscribers(root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "ml/l@ex.com")
    line = {"type": "membership", "list": "l@ex.com"}
    sent_lines = (
        line | {"mail": "a@far.org", "subscription": None},
        line | {"mail": "b@far.org", "subscription": " Digest"},
        line | {"mail": "c@far.org", "subscription": "weekly"},
        line | {"mail": "d@far.org", "subscription": ["digest"]},
        line | {"mail": "e@far.org", "colour": "red"},
    )
    lines = await sent(root, ndjson(*sent_lines))
    assert [one["result"] for one in lines[:-1]] == ["done", "done", "failed", "failed", "done"]
    assert lines[4]["_ignored"] == ["colour"]
    again = ["unchanged", "unchanged", "failed INVALID_VALUE", "failed INVALID_VALUE"]
    assert await imported(root, *sent_lines) == [*again, "unchanged"]
    strict = [*again, "failed IGNORED_PARAMETER"]
    assert await imported(root, *sent_lines, strict="yes") == strict
    shown = await root.ok("GET", "ml/l@ex.com", with_subscribers="yes")
    assert {one["mail"]: one["subscription"] for one in shown["subscribers"]} == {
        "a@far.org": "normal", "b@far.org": "digest", "e@far.org": "normal"
    }  # fmt: skip


async def test_the_same_value_in_other_words(root: Client, service: Service) -> None:
    """It is unchanged, whatever is to happen to other values."""
    crypt = hash_password(PASSWORD, Scheme.SHA512_CRYPT)
    records = [
        {"type": "domain", "domain": "ex.com"}, {"type": "domain", "domain": "x.com"},
        user("a", cn="A"),
        {"type": "user", "mail": "b@ex.com", "password_hash": HASH.replace("SSHA", "ssha")},
        {"type": "user", "mail": "c@ex.com", "password_hash": crypt},
        {"type": "admin", "mail": "d@far.org", "password_hash": crypt},
        user("e", managedDomains="ex.com x.com"),
        user("f", colour="red"),
        user("g", services=["imap", "chat"]),
        {"type": "alias", "mail": "h@ex.com", "cn": "H"},
    ]  # fmt: skip
    if service.store.name != "openldap":
        records.append({"type": "alias", "mail": "i@ex.com", "accessPolicy": "domain"})
    assert await imported(root, *records) == ["done"] * len(records)
    answer = await root.http.get("export")
    exported = [json.loads(line) for line in answer.text.split("\n") if line]
    assert len(exported) > len(records)
    for rule in ("skip", "fail", "update"):
        for some in (records, exported):
            lines = await sent(root, ndjson(*some), on_existing=rule)
            other = [line for line in lines[:-1] if line["result"] != "unchanged"]
            if service.store.name != "openldap":
                # SQL does not store the service; only an update knows.
                other = [line for line in other if line.get("different") != ["services"]]
                other = [line for line in other if line.get("mail") != "g@ex.com"]
            assert other == [], rule
    lines = await sent(root, ndjson(records[7]))
    assert lines[0]["_ignored"] == ["colour"]
    assert await imported(root, records[7], strict="yes") == ["failed IGNORED_PARAMETER"]


async def test_an_admin_imports_what_it_has_exported(root: Client, service: Service) -> None:
    """Rights in other domains are not told to it, and not taken away by it."""
    both = user("u", managedDomains=["ex.com", "other.com"])
    domains = [{"type": "domain", "domain": name} for name in ("ex.com", "other.com")]
    boss = {"type": "user", "mail": "boss@ex.com", "password": PASSWORD}
    records = (*domains, both, boss | {"managedDomains": ["ex.com"]})
    assert await imported(root, *records) == ["done"] * 4
    admin = await service.client().login("boss@ex.com")
    lines = (await admin.http.get("export/ex.com")).text.split("\n")
    exported = [json.loads(line) for line in lines if line]
    assert exported[2]["managedDomains"] == ["ex.com"]
    for rule in ("skip", "update"):
        assert {*await imported(admin, *exported, on_existing=rule)} == {"unchanged"}
    none = {"type": "user", "mail": "u@ex.com", "managedDomains": []}
    assert await imported(admin, none, on_existing="update") == ["done"]
    shown = await root.ok("GET", "user/u@ex.com", view="canonical")
    assert shown["managedDomains"] == ["other.com"]


async def test_rights_in_a_domain_that_is_not_there(root: Client) -> None:
    """The account is not made either, on no storage; a dry run says the same."""
    await root.ok("POST", "domain/ex.com")
    there = user("a", managedDomains=["never.com"])
    admin = {"type": "admin", "mail": "a@far.org", "password_hash": HASH}
    records = (there, admin | {"managedDomains": "never.com"})
    for dry_run in ("yes", "no"):
        results = await imported(root, *records, dry_run=dry_run)
        assert results == ["failed NO_SUCH_DOMAIN"] * 2
    for path in ("user/a@ex.com", "admin/a@far.org"):
        assert (await root.refused("GET", path))[1] == "NO_SUCH_ACCOUNT"
    new = {"type": "domain", "domain": "never.com"}
    of_user = {"type": "throttle", "account": "a@ex.com", "direction": "inbound", "period": 60}
    for dry_run in ("yes", "no"):
        results = await imported(root, new, *records, of_user, dry_run=dry_run)
        assert results == ["done"] * 4


async def test_users_share_transactions(
    root: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ordinary new users of a domain; those with forwardings have a transaction of their own."""
    commits = 0
    transaction = await service.context.backend.begin()
    await transaction.close()
    kind: Any = type(transaction)
    original = kind.commit

    async def counted(self: Any) -> None:
        nonlocal commits
        commits += 1
        await original(self)

    monkeypatch.setattr(kind, "commit", counted)
    await root.ok("POST", "domain/ex.com")
    commits = 0
    plain = [user(f"u{n}", name=f"U {n}", quota=10) for n in range(40)]
    assert await imported(root, *plain) == ["done"] * 40
    assert commits == 1
    usage = await root.ok("GET", "domain/ex.com", view="canonical")
    assert (usage["existingUsers"], usage["allocatedQuota"]) == (40, 400)
    found = await root.ok("GET", "log", event="create", limit="100")
    assert len([item for item in found if item["account"].startswith("u")]) == 40
    commits = 0
    assert await imported(root, *plain) == ["unchanged"] * 40
    assert commits == 0


async def test_a_file_that_is_cut_is_completed_by_sending_it_again(
    root: Client, service: Service
) -> None:
    records = [{"type": "domain", "domain": "ex.com"}, *(user(f"u{n}") for n in range(20))]
    body, told = ndjson(*records), asyncio.Event()
    half = [{"type": "http.request", "body": body[: len(body) // 2], "more_body": True}]
    cookies = "; ".join(f"{name}={value}" for name, value in root.http.cookies.items())
    scope = {
        "type": "http", "method": "POST", "path": "/api/import", "raw_path": b"/api/import",
        "query_string": b"", "scheme": "http", "client": ("127.0.0.1", 40000),
        "server": ("server", 80), "http_version": "1.1", "root_path": "",
        "headers": [(b"host", b"server"), (b"cookie", cookies.encode())],
    }  # fmt: skip

    async def receive() -> Record:
        if half:
            return half.pop()
        await told.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            told.set()

    await service.app(scope, receive, send)
    there = await root.ok("GET", "users/ex.com", email_only="yes")
    assert there == sorted(f"u{n}@ex.com" for n in range(len(there)))
    assert there
    results = await imported(root, *records)
    assert results == ["unchanged"] * (1 + len(there)) + ["done"] * (20 - len(there))


async def test_a_client_that_sends_nothing_more(
    root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_body, "IDLE_SECONDS", 0.2)
    await root.ok("POST", "domain/ex.com")

    async def slow() -> AsyncIterator[bytes]:
        yield ndjson(user("a"))
        await asyncio.sleep(5)
        yield ndjson(user("b"))

    lines = await sent(root, slow())
    assert (lines[0]["result"], lines[-1]["_msg"]) == ("done", "REQUEST_TIMEOUT")
    assert lines[-1]["summary"]["done"] == 1


async def test_few_imports_at_the_same_time(root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    go, begun = asyncio.Event(), asyncio.Barrier(3)

    async def waiting() -> AsyncIterator[bytes]:
        await begun.wait()
        await go.wait()
        yield ndjson(user("a"))

    running = [asyncio.ensure_future(sent(root, waiting())) for _ in range(2)]
    await begun.wait()
    response = await root.http.post("import", content=ndjson(user("b")))
    assert (response.status_code, response.json()["_msg"]) == (503, "OVERLOADED")
    assert (await root.ok("GET", "whoami"))["username"]
    go.set()
    results = sorted(lines[0]["result"] for lines in await asyncio.gather(*running))
    assert results in (["done", "unchanged"], ["done", "done"])
    assert await imported(root, user("b")) == ["done"]
