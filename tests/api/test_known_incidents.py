"""Incidents of comparable systems, by their numbers: those about what is stored and removed.

Those about who may do what are in test_access.py, about sessions, secrets and addresses in
test_sessions.py, about requests and answers in test_requests_and_answers.py, about parallel calls
in test_parallel.py, and about every column in test_update_parameters.py (40) and test_removal.py
(46).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from iredapi.observability import query_counter
from tests.clients import PASSWORD, Client, Service
from tests.statements import unclocked

SOURCE = Path(__file__).parents[2] / "src"

TEXTS = [
    "O'Brien; DROP TABLE mailbox; --", '"quoted" \\ back\\\\slash', "a:b;c,d=e",
    "<script>alert(1)</script>", "Jørn Ünïcode 漢字 😀", "'' OR '1'='1", "$HOME `id` $(id)",
    "\\n\\0", "100% %s %(x)s {0}",
    "  inner   blanks", "x" * 255, "=cmd|' /C calc'!A0", "\u202eright to left", "e\u0301 is é",
]  # fmt: skip


@pytest_asyncio.fixture(loop_scope="session")
async def there(root: Client) -> Client:
    """The global admin, with ex.com, u@ex.com and list@ex.com."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    await root.ok("POST", "alias/list@ex.com")
    return root


async def test_lesson_17_texts_come_back_as_they_went(service: Service, there: Client) -> None:
    """Whatever a text holds, it is data: for every database, field and reader."""
    # Telephone numbers have a syntax of their own in LDAP.
    phones = () if service.store.name == "openldap" else ("mobile", "telephoneNumber")
    for text in TEXTS:
        if not text.isprintable():
            continue
        wanted = text.strip()
        names = ("name", "gn", "sn", "employeeid", *phones)
        await there.ok("PUT", "user/u@ex.com", **dict.fromkeys(names, text))
        view = {"view": "canonical"}
        profile = await there.ok("GET", "user/u@ex.com", **view)
        for name in names:
            if name not in phones:
                assert profile[name] == wanted, name
        if phones:
            native = await there.ok("GET", "user/u@ex.com")
            assert (native["mobile"], native["telephone"]) == (wanted, wanted)
        assert (await there.ok("GET", "users/ex.com", **view))[0]["name"] == wanted
        await there.ok("PUT", "domain/ex.com", name=text)
        assert (await there.ok("GET", "domain/ex.com", **view))["name"] == wanted
        assert (await there.ok("GET", "domains", **view))[0]["name"] == wanted
        await there.ok("PUT", "alias/list@ex.com", name=text)
        assert (await there.ok("GET", "aliases/ex.com", **view))[0]["name"] == wanted
    assert await there.ok("GET", "users/ex.com", email_only="yes") == ["u@ex.com"]


HOSTILE_DOMAINS = [
    "ex.com;x.com", "ex.com:x", "a,b.com", "../ex.com", "ex.com/../x", ".ex.com", "ex..com",
    "-ex.com", "ex-.com", "ex.com-", "ex_.com", "a b.com", "x.c", "1.2.3.4", "ex", "*.com", "%.com",
    "x,ou=Users,domainName=victim.com", "ex.com\n", "ex.com\0", "(x).com", "x" * 64 + ".com",
    ".".join(["x" * 60] * 5) + ".com", "ex.com@x.com", "localhost", "a.b.123",
]  # fmt: skip


@pytest.mark.stores("sqlite")
async def test_lesson_19_names_of_domains(service: Service, there: Client) -> None:
    """A name with a meaning for a path, a filter, a column or a DN is none."""
    before = await service.store.rows("SELECT * FROM domain")
    for name in HOSTILE_DOMAINS:
        status, answer = await there.call("POST", f"domain/{quote(name, safe='')}")
        if name in {"ex.com\n", "x.c"} and status != 400:
            # Blanks at the ends do not matter; a top label of one letter is a matter of taste.
            assert status == 409 or name == "x.c", answer
            await there.call("DELETE", "domain/x.c")
            continue
        assert status in {400, 404}, (name, answer)
        status, _ = await there.call("PUT", "domain/ex.com", data={"addAliasDomain": name})
        # A comma divides a list.
        assert status == 400 or "," in name or name == "ex.com\n", name
    assert await service.store.rows("SELECT * FROM domain") == before


HOSTILE_LOCALS = [
    "..", ".", "../../etc/x", "a/b", "a/../b", "-rf", "~root", "a\\b", '"../x"', "a b", "a\0b",
    "%2e%2e", "\uff0e\uff0e", "a..b", ".a", "a.", "*", "a'b", "a`id`", "$(id)", "x" * 65,
]  # fmt: skip


@pytest.mark.stores("sqlite")
async def test_lesson_23_mailboxes_stay_below_the_base(service: Service, there: Client) -> None:
    """New addresses cannot hold what a path could understand."""
    for local in HOSTILE_LOCALS:
        path = f"user/{quote(local, safe='')}@ex.com"
        status, answer = await there.call("POST", path, data={"password": PASSWORD})
        assert status in {400, 404}, (local, answer)
        rename = f"user/u@ex.com/change_email/{quote(local, safe='')}@ex.com"
        status, answer = await there.call("POST", rename)
        assert status in {400, 404}, (local, answer)
    assert len(await service.store.rows("SELECT * FROM mailbox")) == 1


@pytest.mark.stores("sqlite")
async def test_lesson_23_where_mailboxes_are(service: Service, there: Client) -> None:
    for local in ("a", "ab", "abc", "a.b", "a-b_c", "0", "_", "1x", "a_b", "x" * 64):
        await there.ok("POST", f"user/{quote(local)}@ex.com", password=PASSWORD)
    rows = await service.store.rows("SELECT * FROM mailbox")
    assert len({row["maildir"] for row in rows}) == len(rows) == 11
    for row in rows:
        where = f"{row['storagebasedirectory']}/{row['storagenode']}/{row['maildir']}"
        assert re.fullmatch(r"/var/vmail/vmail1/ex\.com/[a-z0-9_./-]+/", where)
        assert "/../" not in where
        assert "/./" not in where


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("way", ["path", "data", "json", "params"])
async def test_lesson_41_days_are_honoured(service: Service, there: Client, way: str) -> None:
    """However they come; and what is no number of days deletes nothing."""

    async def delete(target: str, days: Any) -> tuple[int, dict[str, Any]]:
        if way == "path":
            days = quote(str(days), safe="") or "%20"
            return await there.call("DELETE", f"{target}/keep_mailbox_days/{days}")
        return await there.call("DELETE", target, **{way: {"keep_mailbox_days": days}})

    before = await service.store.rows("SELECT * FROM mailbox")
    for bad in ("-1", "x", "1.5", "", " ", "99999999999999999999", "36501", "1e3", "\u0661", "yes"):
        for target in ("user/u@ex.com", "domain/ex.com"):
            status, answer = await delete(target, bad)
            assert (status, answer["_success"]) == (400, False), (bad, answer)
    assert await service.store.rows("SELECT * FROM mailbox") == before
    assert await service.store.rows("SELECT * FROM deleted_mailboxes") == []
    assert (await delete("user/u@ex.com", "30"))[0] == 200
    rows = await service.store.rows(
        "SELECT julianday(delete_date) - julianday(date('now')) AS days FROM deleted_mailboxes"
    )
    assert rows[0]["days"] == 30
    await there.ok("POST", "user/v@ex.com", password=PASSWORD)
    assert (await delete("domain/ex.com", "0"))[0] == 200
    rows = await service.store.rows(
        "SELECT delete_date FROM deleted_mailboxes WHERE username = 'v@ex.com'"
    )
    assert rows == [{"delete_date": None}]


async def test_lesson_40_quota_stays(service: Service, there: Client) -> None:
    """What was not sent is not touched (every column: test_update_parameters.py)."""
    await there.ok("PUT", "user/u@ex.com", quota=77, language="de_DE", gn="G", addAlias="a@ex.com")
    await there.ok("PUT", "user/u@ex.com", name="New", password="N3w-Password")
    profile = await there.ok("GET", "user/u@ex.com", view="canonical")
    assert [profile[key] for key in ("quota", "language", "gn", "aliases", "name")] == [
        77, "de_DE", "G", ["a@ex.com"], "New",
    ]  # fmt: skip


async def test_lesson_46_made_again(service: Service, there: Client) -> None:
    """Nothing of an account that went comes back (every table: test_removal.py)."""
    await there.ok("PUT", "alias/list@ex.com", members="u@ex.com,x@gmail.com")
    await there.ok("PUT", "user/u@ex.com", addAlias="a@ex.com", addForwarding="x@gmail.com")
    await there.ok("PUT", "domain/admins/ex.com", addAdmin="u@ex.com")
    await there.ok("POST", "user/u@ex.com/change_email/n@ex.com")
    await there.ok("POST", "user/u@ex.com", password=PASSWORD)
    await there.ok("DELETE", "user/n@ex.com")
    await there.ok("POST", "user/n@ex.com", password=PASSWORD)
    for mail in ("u@ex.com", "n@ex.com"):
        profile = await there.ok("GET", f"user/{mail}", view="canonical")
        assert (profile["aliases"], profile["forwarding"]) == ([], [mail])
        assert profile["managedDomains"] == []
    assert (await there.ok("GET", "alias/list@ex.com"))["members"] == ["x@gmail.com"]
    assert (await there.ok("GET", "domain/ex.com", view="canonical"))["admins"] == []


def test_lesson_22_no_shell() -> None:
    """Nothing of ours evaluates a text or builds SQL by hand; mlmmj's programs get no shell."""
    forbidden = re.compile(
        r"\bsubprocess\b|os\.system|os\.popen|shell=True|(?<![\w.])eval\(|(?<![\w.])exec\(|pickle"
        r"|(?:execute|(?<![\w.])text)\(\s*f[\"']"
    )
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name == "mlmmj_spool.py":
            assert text.count("create_subprocess_exec") == 1  # arguments as a list
            assert "create_subprocess_shell" not in text
            text = text.replace("asyncio.subprocess.DEVNULL", "")
        if path.name == "host_programs.py":
            # Asks mail programs for their versions: a path and an option of ours, as a list.
            assert text.count("subprocess.run(\n                [path, option],") == 1
            text = text.replace("subprocess", "", 4)
        assert forbidden.findall(text) == [], path


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_lesson_45_size_costs_no_statements(service: Service, there: Client) -> None:
    """Making an account and reading a page cost as many statements at 3000 users as at one.

    Times at a hundred thousand and more are what ``make bench`` measures.
    """

    async def cost(name: str) -> tuple[int, int]:
        # Whether the caller was just read would depend on the clock.
        service.context.invalidate_caches()
        with query_counter.listening() as made:
            await there.ok("POST", f"user/{name}@ex.com", password=PASSWORD)
        service.context.invalidate_caches()
        with query_counter.listening() as read:
            await there.call("GET", "user/u@ex.com")
        return len(unclocked(made)), len(unclocked(read))

    await there.ok("POST", "user/warm@ex.com", password=PASSWORD)
    few = await cost("few")
    rows = [
        {"username": f"m{n}@ex.com", "password": "x", "domain": "ex.com", "settings": ""}
        for n in range(3000)
    ]
    await service.store.insert("mailbox", *rows)
    assert await cost("many") == few
