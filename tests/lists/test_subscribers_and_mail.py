"""Subscribers, real mail, removed accounts, outages, hostile input."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from email.header import decode_header, make_header
from email.message import EmailMessage
from typing import Any

import pytest

from tests.lists.conftest import DOMAIN, TEAM, Lists
from tests.servers.process import find_program
from tests.servers.store import ALL_STORES

pytestmark = [pytest.mark.needs("mlmmj"), pytest.mark.stores(*ALL_STORES)]


def post(
    lists: Lists, sender: str, subject: str = "Hello", address: str = TEAM, command: str = ""
) -> None:
    """Hand a message to mlmmj as Postfix's pipe does; mlmmj-receive runs mlmmj-process.

    ``command`` is an address with an extension of the list's name.
    """
    recipient = command or address
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, recipient, subject
    mail["Message-ID"] = f"<{time.time_ns()}@else.test>"
    mail["X-Secret"] = "remove me"
    mail.set_content("Good morning.")
    program = find_program("mlmmj-receive")
    assert program is not None
    subprocess.run(
        [program, "-F", "-L", str(lists.directory(address))],
        input=bytes(mail),
        check=True,
        capture_output=True,
        env={"SENDER": sender, "DELIVERED": recipient, "PATH": "/usr/bin:/bin"}
        | ({} if command else {"EXTENSION": ""}),
        timeout=60,
    )


@pytest.mark.stores("sqlite")
async def test_a_post_reaches_a_subscriber(lists: Lists) -> None:
    await lists.create(
        subscribers="ann@else.test,bob@else.test",
        require_confirm="no",
        subject_prefix="[team]",
        custom_headers="X-Floor: 2",
        remove_headers="X-Secret",
    )
    await asyncio.to_thread(post, lists, "ann@else.test")
    mail = await asyncio.to_thread(lists.sink.to, "bob@else.test")
    assert mail["Subject"] == "[team] Hello"
    assert mail["X-Floor"] == "2"
    assert mail["X-Secret"] is None
    assert mail["Reply-To"] == TEAM
    assert "Good morning." in mail.get_payload()
    # The sender gets no copy, and only subscribers may post.
    lists.sink.mails.clear()
    await asyncio.to_thread(post, lists, "eve@else.test", "Spam")
    refusal = await asyncio.to_thread(lists.sink.to, "eve@else.test")
    assert "Spam" in str(refusal)
    assert not [rcpt for rcpt, _ in lists.sink.mails if "bob@else.test" in rcpt]


@pytest.mark.stores("sqlite")
async def test_other_letters_in_headers_are_encoded(lists: Lists) -> None:
    """mlmmj copies them unchanged into headers of mail, which must be ASCII."""
    headers = [
        "X-Empty-Case: abc",
        "X-Ort: Köln am schönen  Rhein",
        "X-Wer: Jörg Müller <j@d.test>",
    ]
    prefix = "[Grüße aus Köln] "
    await lists.create(
        subscribers="ann@else.test,bob@else.test",
        require_confirm="no",
        subject_prefix=prefix,
        custom_headers="\n".join(headers),
    )
    for name in ("prefix", "customheaders"):
        assert (lists.control(name) or "é").isascii(), name
    await asyncio.to_thread(post, lists, "ann@else.test")
    mail = await asyncio.to_thread(lists.sink.to, "bob@else.test")
    assert mail.as_bytes().isascii()
    assert str(make_header(decode_header(mail["Subject"]))) == "[Grüße aus Köln]  Hello"
    assert str(make_header(decode_header(mail["X-Ort"]))) == "Köln am schönen  Rhein"
    assert mail["X-Wer"].endswith(" <j@d.test>")
    # Responses have them as they were sent, and can be sent back.
    for view in ({}, {"view": "canonical"}):
        shown = await lists.get(**view)
        assert shown["subject_prefix"] == prefix
        assert [line for line in shown["custom_headers"] if line.startswith("X-")] == headers
    before = {path.name: path.read_text() for path in (lists.directory() / "control").iterdir()}
    await lists.update(subject_prefix=prefix, custom_headers="\n".join(shown["custom_headers"]))
    after = {path.name: path.read_text() for path in (lists.directory() / "control").iterdir()}
    assert after == before
    # Headers encoded by others are not encoded again.
    for text in ("=?utf-8?q?=5BK=C3=B6ln=5D?=", "=?iso-8859-1?q?K=F6ln?=", "=?utf-8?q?broken"):
        await lists.update(subject_prefix=text)
        assert (await lists.get())["subject_prefix"] == text
        assert lists.control("prefix") == f"{text}\n"


@pytest.mark.parametrize("when", ["created", "updated"])
async def test_a_subscriber_is_asked_to_confirm(lists: Lists, when: str) -> None:
    """The default: a mail asks for confirmation, and its answer subscribes."""
    if when == "created":
        await lists.create(subscribers="ann@else.test", subscription="digest")
    else:
        await lists.create()
        await lists.update(add_subscribers="ann@else.test", subscription="digest")
    assert lists.subscribers("-d") == []
    mail = await asyncio.to_thread(lists.sink.to, "ann@else.test")
    # mlmmj 1.5 no longer has the address in it.
    cookie = r"team\+[a-z-]*confsub-[a-z-]*[0-9a-f]{16}(-ann=else\.test)?@list\.test"
    found = re.search(cookie, str(mail))
    assert found is not None, str(mail)
    await asyncio.to_thread(post, lists, "ann@else.test", command=found[0])
    assert lists.subscribers("-d") == ["ann@else.test"]


async def test_subscribers_are_added_and_removed(lists: Lists) -> None:
    await lists.create(subscribers="ann@else.test,o'neil@else.test", require_confirm="no")
    await lists.update(add_subscribers="bob@else.test", require_confirm="no", subscription="nomail")
    await lists.update(add_subscribers="cat@else.test", require_confirm="no", subscription="digest")
    shown = (await lists.get(with_subscribers="yes"))["subscribers"]
    assert [item for item in shown if "'" not in item["mail"]] == [
        {"mail": "ann@else.test", "subscription": "normal"},
        {"mail": "bob@else.test", "subscription": "nomail"},
        {"mail": "cat@else.test", "subscription": "digest"},
    ]
    # Another kind replaces the first, without duplicate mail or a second question.
    await lists.update(add_subscribers="ann@else.test,bob@else.test", subscription="digest")
    assert "ann@else.test" not in lists.subscribers()
    assert lists.subscribers("-n") == []
    assert lists.subscribers("-d") == ["ann@else.test", "bob@else.test", "cat@else.test"]
    await lists.update(remove_subscribers="ann@else.test,BOB@else.test,ghost@else.test")
    assert lists.subscribers("-d") == ["cat@else.test"]
    status, code, params = await lists.root.refused("PUT", f"ml/{TEAM}", remove_subscribers="ALL")
    assert (status, code, params) == (400, "INVALID_MAIL", ["remove_subscribers"])
    for param in ("add_subscribers", "remove_subscribers"):
        refused = await lists.root.refused("PUT", f"ml/{TEAM}", **{param: "nobody"})
        assert refused == (400, "INVALID_MAIL", [param])
    refused = await lists.root.refused("POST", f"ml/b@{DOMAIN}", subscribers="nobody")
    assert refused == (400, "INVALID_MAIL", ["subscribers"])
    status, _, params = await lists.root.refused("GET", f"ml/{TEAM}", with_subscribers="x")
    assert (status, params) == (400, ["with_subscribers"])


@pytest.mark.stores("sqlite")
@pytest.mark.list_servers("mlmmjadmin")
async def test_addresses_that_the_list_server_ignores_are_skipped(lists: Lists) -> None:
    answer = await lists.create(subscribers="o'neil@else.test,ann@else.test", require_confirm="no")
    assert answer["_skipped"] == [
        {"param": "subscribers", "value": "o'neil@else.test", "reason": "INVALID_MAIL"}
    ]
    assert lists.subscribers() == ["ann@else.test"]


async def test_sixty_at_once(lists: Lists) -> None:
    """Parallel requests lose no subscriber, with a list server without locks."""
    await lists.create()
    mails = [f"m{number:02}@else.test" for number in range(60)]
    await asyncio.gather(
        *(lists.update(add_subscribers=mail, require_confirm="no") for mail in mails)
    )
    assert lists.subscribers() == mails


@pytest.mark.stores("sqlite")
@pytest.mark.list_servers("spool")
async def test_mlmmj_itself_is_a_writer_too(lists: Lists) -> None:
    """Concurrent subscriptions by mail to the same file are kept, because of its locks."""
    await lists.create()
    program = find_program("mlmmj-sub")
    assert program is not None
    ours = [f"m{number:02}@else.test" for number in range(40)]
    theirs = [f"m{number:02}@mail.test" for number in range(40)]

    async def by_mail(mail: str) -> None:
        process = await asyncio.create_subprocess_exec(
            program, "-L", str(lists.directory()), "-a", mail, "-f", "-q", "-s"
        )
        assert await process.wait() == 0

    await asyncio.gather(
        *(lists.update(add_subscribers=mail, require_confirm="no") for mail in ours),
        *(by_mail(mail) for mail in theirs),
    )
    assert lists.subscribers() == sorted(ours + theirs)


_REMOVAL = """
import fcntl, os, sys, time
path = sys.argv[1]
folder, name = os.path.split(path)
with open(f"{folder}/.{name}.lock", "w") as guard:
    fcntl.lockf(guard, fcntl.LOCK_EX)
    with open(path, "r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        kept = [line for line in file if line != "leaves@else.test\\n"]
        print("read", flush=True)
        time.sleep(1.5)
        with open(f"{path}.new", "w") as new:
            new.writelines(kept)
        os.rename(f"{path}.new", path)
"""


@pytest.mark.stores("sqlite")
@pytest.mark.list_servers("spool")
async def test_a_removal_by_mail_delays_a_change(lists: Lists) -> None:
    """A slow mlmmj-unsub: an address added between its read and its write is kept."""
    await lists.create(subscribers="leaves@else.test,lynn@else.test", require_confirm="no")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _REMOVAL, str(lists.directory() / "subscribers.d" / "l"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    await lists.update(add_subscribers="late@else.test", require_confirm="no")
    assert await process.wait() == 0
    assert lists.subscribers() == ["late@else.test", "lynn@else.test"]


async def test_many_subscribers(lists: Lists) -> None:
    """100,000: more at once than fits is refused, the rest is handled in parts."""
    await lists.create()
    mails = [f"{number % 10}m{number}@else.test" for number in range(100_000)]
    status, code, params = await lists.root.refused(
        "PUT", f"ml/{TEAM}", add_subscribers=",".join(mails), require_confirm="no"
    )
    assert (status, code, params) == (400, "INVALID_VALUE", ["add_subscribers"])
    status, code, params = await lists.root.refused(
        "PUT", f"ml/{TEAM}", add_subscribers=",".join(mails[:1001])
    )
    assert (status, code, params) == (400, "INVALID_VALUE", ["add_subscribers"])
    directory = lists.directory() / "subscribers.d"
    for letter in "0123456789":
        some = sorted(mail for mail in mails[10_000:] if mail[0] == letter)
        (directory / letter).write_text("".join(f"{mail}\n" for mail in some))
        (directory / letter).chmod(0o600)
    await lists.update(add_subscribers=",".join(mails[:10_000]), require_confirm="no")
    shown = (await lists.get(with_subscribers="yes"))["subscribers"]
    assert [item["mail"] for item in shown] == sorted(mails)


# People ------------------------------------------------------------------------------------------


async def offices(lists: Lists) -> Any:
    shown = await lists.get(with_subscribers="yes")
    rows = (
        await lists.people("maillist_owners", "owner"),
        await lists.people("moderators", "moderator"),
    )
    assert rows == (sorted(shown["owner"]), sorted(shown["moderators"]))
    return (
        shown["owner"],
        shown["moderators"],
        shown["subscription_moderators"],
        shown["subscribers"],
    )


async def staffed(lists: Lists) -> str:
    await lists.user("bob")
    bob = f"bob@{DOMAIN}"
    await lists.create(
        owner=f"{bob},ann@else.test",
        moderators=bob,
        subscription_moderators=bob,
        moderated="yes",
        subscribers=bob,
        require_confirm="no",
        subscription="digest",
    )
    return bob


async def test_a_renamed_user_keeps_offices_and_subscriptions(lists: Lists) -> None:
    bob, new = await staffed(lists), f"robert@{DOMAIN}"
    answer = await lists.root.ok("PUT", f"user/{bob}/change_email/{new}")
    assert "_skipped" not in answer
    assert await offices(lists) == (
        ["ann@else.test", new],
        [new],
        [new],
        [{"mail": new, "subscription": "digest"}],
    )


async def test_a_deleted_user_has_neither(lists: Lists) -> None:
    bob = await staffed(lists)
    answer = await lists.root.ok("DELETE", f"user/{bob}")
    assert "_skipped" not in answer
    # A moderated list needs a moderator: the owner.
    ann = ["ann@else.test"]
    assert await offices(lists) == (ann, ann, [], [])
    assert (await lists.get())["moderate_subscription"] == "yes"


async def test_users_are_managed_while_the_list_server_is_down(lists: Lists) -> None:
    bob = await staffed(lists)
    lists.stop()
    answer = await lists.root.ok("PUT", f"user/{bob}/change_email/robert@{DOMAIN}")
    assert answer["_skipped"][0]["param"] == "mailing_lists"
    answer = await lists.root.ok("DELETE", f"user/robert@{DOMAIN}")
    assert answer["_skipped"][0]["reason"] in {"MLMMJADMIN_UNREACHABLE", "LIST_SPOOL_ERROR"}
    lists.start()


@pytest.mark.stores("sqlite")
async def test_new_users_join_the_default_lists(lists: Lists) -> None:
    await lists.create()
    await lists.store.execute("UPDATE domain SET settings = :s", s=f"default_mailing_lists:{TEAM};")
    await lists.user("bob")
    assert lists.subscribers() == [f"bob@{DOMAIN}"]
    await lists.root.ok("DELETE", f"ml/{TEAM}")
    rows = await lists.store.rows("SELECT settings FROM domain")
    assert TEAM not in rows[0]["settings"]
    await lists.user("cat")


# Domains -----------------------------------------------------------------------------------------


async def test_a_removed_domain_takes_its_lists_along(lists: Lists) -> None:
    await lists.root.ok("POST", "domain/other.test")
    await lists.root.ok("POST", "user/boss@other.test", password="Corr3ct-Horse")
    await lists.create()
    await lists.create(f"b@{DOMAIN}")
    await lists.create("c@other.test", owner=f"x@{DOMAIN},boss@other.test", moderators="")
    await lists.root.ok("DELETE", f"domain/{DOMAIN}")
    assert not lists.directory().exists()
    assert not lists.directory(f"b@{DOMAIN}").exists()
    assert len(list(lists.archive.glob(f"{DOMAIN}/*"))) == 2
    assert await lists.row() is None
    assert await lists.root.ok("GET", "mls/other.test", email_only="yes") == ["c@other.test"]
    assert lists.control("owner", "c@other.test") == "boss@other.test\n"


async def test_a_domain_with_lists_is_kept_while_the_list_server_is_down(lists: Lists) -> None:
    await lists.root.ok("POST", "domain/bare.test")
    await lists.create()
    before = await lists.row(), await lists.routes()
    lists.stop()
    started = time.monotonic()
    for path in (f"domain/{DOMAIN}", f"domain/{DOMAIN}/keep_mailbox_days/3"):
        status, code, _ = await lists.root.refused("DELETE", path)
        assert (status, code) == (503, stopped_server(lists))
    assert time.monotonic() - started < 10
    assert (await lists.row(), await lists.routes()) == before
    await lists.root.ok("DELETE", "domain/bare.test")
    lists.start()
    await lists.root.ok("DELETE", f"domain/{DOMAIN}")
    assert await lists.row() is None


def stopped_server(lists: Lists) -> str:
    return "LIST_SPOOL_ERROR" if lists.kind == "spool" else "MLMMJADMIN_UNREACHABLE"


async def test_other_calls_work_while_the_list_server_is_down(lists: Lists) -> None:
    await lists.create()
    lists.stop()
    for method, path, form in (
        ("GET", f"ml/{TEAM}", {}),
        ("POST", f"ml/new@{DOMAIN}", {}),
        ("PUT", f"ml/{TEAM}", {"name": "x"}),
        ("PUT", f"ml/{TEAM}", {"accessPolicy": "public"}),
        ("DELETE", f"ml/{TEAM}", {}),
    ):
        status, code, _ = await lists.root.refused(method, path, **form)
        assert (status, code) == (503, stopped_server(lists)), (method, form)
    assert [route[3] for route in await lists.routes()] == [1]
    assert len(await lists.root.ok("GET", f"mls/{DOMAIN}")) == 1
    await lists.update(accountStatus="disabled", newsletter_description="x")
    await lists.user("bob")
    lists.start()
    shown = await lists.get()
    assert (shown["accountStatus"], shown["newsletter_description"]) == ("disabled", "x")
    assert not lists.directory(f"new@{DOMAIN}").exists()


@pytest.mark.stores("sqlite")
@pytest.mark.list_servers("mlmmjadmin")
async def test_a_hung_list_server_does_not_block(lists: Lists) -> None:
    await lists.create()
    lists.admin.fail("GET", "", "hang", times=99)
    started = time.monotonic()
    status, code, _ = await lists.root.refused("GET", f"ml/{TEAM}")
    assert (status, code) == (503, "MLMMJADMIN_TIMEOUT")
    assert time.monotonic() - started < 5  # the tests' time-out is one second


@pytest.mark.stores("sqlite")
@pytest.mark.list_servers("mlmmjadmin")
async def test_its_texts_do_not_leave_the_house(lists: Lists) -> None:
    await lists.create()
    lists.admin.fail("PUT", "", "error", times=9)
    status, answer = await lists.root.call("PUT", f"ml/{TEAM}", data={"name": "x"})
    assert status == 503
    assert "secret" not in str(answer)


# Hostile input -----------------------------------------------------------------------------------

NAMES = [
    "..",
    "a..b",
    "%2e%2e",
    "x%2f..%2f..%2fother",
    "team%2fcontrol",
    "a+b",
    "a%2bb",
    ".hidden",
    "-rf",
    "a%00b",
    "a%0ab",
    "%2f",
    "_x",
    "a#b",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.stores("sqlite")
async def test_no_name_leaves_its_directory(lists: Lists, name: str) -> None:
    await lists.create()
    before = sorted(path for path in lists.spool.rglob("*"))
    calls = len(lists.admin.calls)
    for method in ("GET", "POST", "PUT", "DELETE"):
        status, answer = await lists.root.call(
            method, f"ml/{name}@{DOMAIN}", **({} if method == "GET" else {"data": {"name": "x"}})
        )
        assert status in (400, 404), (method, answer)
    assert sorted(path for path in lists.spool.rglob("*")) == before
    assert len(lists.admin.calls) == calls


@pytest.mark.parametrize("mail", ["/etc@else.test", "./x@else.test", "../a@else.test"])
@pytest.mark.stores("sqlite")
async def test_no_subscriber_leaves_the_directory(lists: Lists, mail: str) -> None:
    await lists.create()
    before = sorted(path for path in lists.spool.rglob("*"))
    for param in ("add_subscribers", "remove_subscribers"):
        await lists.root.call("PUT", f"ml/{TEAM}", data={param: mail, "require_confirm": "no"})
    assert sorted(path for path in lists.spool.rglob("*")) == before


@pytest.mark.stores("sqlite")
async def test_a_large_footer_is_complete(lists: Lists) -> None:
    footer = "ü" * 65_536
    await lists.create(footer_text=footer, footer_html=footer)
    assert (await lists.get())["footer_text"] == footer
    status, code, params = await lists.root.refused("PUT", f"ml/{TEAM}", footer_text=footer + "x")
    assert (status, code, params) == (400, "INVALID_TEXT", ["footer_text"])
    assert (await lists.get())["footer_text"] == footer
