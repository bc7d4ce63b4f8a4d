"""What Amavisd does with a mail after policies and lists were made through the API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage, Message
from typing import Any

import pytest

from tests.api.amavisd import local_test
from tests.clients import Client, Service
from tests.servers.amavis import FIVE, Amavis

pytestmark = [pytest.mark.stores("postgresql", "mariadb", "openldap"), pytest.mark.needs("amavisd")]
# What SpamAssassin takes for spam, for tests: 1000 points.
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
MARKED: tuple[str, list[str]] = ("[SPAM] Hello", [])
PLAIN: tuple[str, list[str]] = ("Hello", [])
USER, OTHER, FAR = "u@local.test", "other@local.test", "x@remote.test"


@pytest.fixture(scope="session")
def _running() -> Iterator[dict[str, Amavis]]:
    found: dict[str, Amavis] = {}
    yield found
    for item in found.values():
        item.close()


@pytest.fixture
def amavis(service: Service, _running: dict[str, Amavis]) -> Amavis:
    name = service.store.name
    if name not in _running:
        _running[name] = Amavis.start(service.store)
    return _running[name]


def mail(text: str = "Good morning.", *, attached: str = "", subject: str = "Hello") -> Message:
    found = EmailMessage()
    found["From"], found["To"], found["Subject"] = FAR, USER, subject
    found["Date"] = "Sun, 29 Nov 2026 12:00:00 +0000"
    found["Message-ID"] = f"<{time.time_ns()}@remote.test>"
    found.set_content(text)
    if attached:
        found.add_attachment(b"nothing", maintype="application", subtype="x", filename=attached)
    return found


async def sent(
    amavis: Amavis, message: Message, *, sender: str = FAR, recipient: str = USER
) -> tuple[str, list[str]]:
    """Send a mail; the subject that it arrives with (empty: it does not), and what is kept."""
    # The header says whom lists are asked for, too.
    message.replace_header("From", sender)
    arrived = await asyncio.to_thread(amavis.send, sender, recipient, message)
    return ("" if arrived is None else str(arrived["Subject"])), amavis.quarantined


async def test_spam(root: Client, amavis: Amavis) -> None:
    await local_test(root)

    async def policy(where: str, **form: Any) -> tuple[str, list[str]]:
        await root.ok("PUT", f"spampolicy/{where}", **form)
        return await sent(amavis, mail(GTUBE))

    # The global policy of a new server: it is delivered, and marked.
    assert await sent(amavis, mail(GTUBE)) == ("[SPAM] Hello", [])
    assert await policy("domain/local.test", quarantine_spam="yes") == ("", ["spam"])
    assert await policy(f"user/{USER}", quarantine_spam="no") == ("[SPAM] Hello", [])
    assert await sent(amavis, mail(GTUBE), recipient=OTHER) == ("", ["spam"])
    assert await policy(f"user/{USER}", prefix_spam_in_subject="no") == ("Hello", [])
    assert await policy(f"user/{USER}", prefix_spam_in_subject="yes") == ("[SPAM] Hello", [])
    assert await policy(f"user/{USER}", bypass_spam_checks="yes") == ("Hello", [])
    await root.ok("DELETE", f"spampolicy/user/{USER}")
    assert await sent(amavis, mail(GTUBE)) == ("", ["spam"])
    await root.ok("DELETE", "spampolicy/domain/local.test")
    assert await sent(amavis, mail(GTUBE)) == ("[SPAM] Hello", [])


async def test_scores_and_headers(root: Client, amavis: Amavis) -> None:
    await local_test(root)
    assert await sent(amavis, mail(), sender=FIVE) == PLAIN
    for score, expected in (("4", MARKED), ("40", PLAIN), ("4.5", MARKED), ("", PLAIN)):
        await root.ok("PUT", f"spampolicy/user/{USER}", spam_score=score)
        assert await sent(amavis, mail(), sender=FIVE) == expected, score
    await root.ok("PUT", f"spampolicy/user/{USER}", spam_score="3", quarantine_spam="yes")
    assert await sent(amavis, mail(), sender=FIVE) == ("", ["spam"])
    for value in ("yes", "no"):
        await root.ok("PUT", "spampolicy/domain/local.test", always_insert_x_spam_headers=value)
        arrived = await asyncio.to_thread(amavis.send, FAR, OTHER, mail())
        assert arrived is not None
        assert ("X-Spam-Score" in arrived) == (value == "yes")


async def test_banned_files_and_bad_headers(root: Client, amavis: Amavis) -> None:
    await local_test(root)
    letter, banned = mail(attached="letter.txt"), mail(attached="game.exe")
    assert await sent(amavis, letter) == ("Hello", [])
    assert await sent(amavis, banned) == ("", ["banned"])
    path = f"spampolicy/user/{USER}"
    for form, expected in (
        ({"quarantine_banned": "no"}, ("Hello", [])),
        ({"quarantine_banned": "yes"}, ("", ["banned"])),
        ({"bypass_banned_checks": "yes"}, ("Hello", [])),
    ):
        await root.ok("PUT", path, **form)
        found = await sent(amavis, banned)
        assert (found[0].removeprefix("***BANNED*** "), found[1]) == expected, form
    assert await sent(amavis, banned, recipient=OTHER) == ("", ["banned"])
    # Two dates: RFC 5322 forbids it.
    bad = message_from_bytes(b"Date: Sun, 29 Nov 2026 11:00:00 +0000\n" + mail().as_bytes())
    for form, expected in (
        ({}, ("Hello", [])),
        ({"quarantine_bad_header": "yes"}, ("", ["bad_header"])),
        ({"bypass_header_checks": "yes"}, ("Hello", [])),
    ):
        if form:
            await root.ok("PUT", path, **form)
        assert await sent(amavis, bad) == expected, form


async def test_white_and_blacklists(root: Client, amavis: Amavis) -> None:
    await local_test(root)

    async def put(kind: str, account: str, address: str, method: str = "POST") -> None:
        await root.ok(method, f"wblist/inbound/{kind}/{account}", addresses=address)

    assert await sent(amavis, mail()) == PLAIN
    await put("blacklist", "global", FAR)
    assert await sent(amavis, mail()) == MARKED
    assert await sent(amavis, mail(), sender="y@remote.test") == PLAIN
    await put("whitelist", USER, "@remote.test")
    assert await sent(amavis, mail()) == PLAIN
    assert await sent(amavis, mail(GTUBE)) == PLAIN
    assert await sent(amavis, mail(), recipient=OTHER) == MARKED
    # To the one list is from the other.
    await put("blacklist", USER, "@remote.test")
    assert await sent(amavis, mail(), sender="y@remote.test") == MARKED
    await put("blacklist", USER, "@remote.test", "PUT")
    assert await sent(amavis, mail(), sender="y@remote.test") == PLAIN
    await put("blacklist", "global", FAR, "PUT")
    assert await sent(amavis, mail()) == PLAIN
    # The last two are nothing that iRedAPD finds: it is Amavisd alone that looks at them.
    for address, sender in (
        ("@.remote.test", "a@sub.remote.test"),
        ("@.test", "a@other.test"),
        ("@.", "a@any.example"),
        ("o'neil@remote.test", "o'neil@remote.test"),
        ("tag+ged@remote.test", "tag+ged@remote.test"),
    ):
        await put("blacklist", "local.test", address)
        assert await sent(amavis, mail(), sender=sender) == MARKED, address
        await root.ok("DELETE", "wblist/inbound/blacklist/local.test")
        assert await sent(amavis, mail(), sender=sender) == PLAIN, address
    # Outbound lists are none of its business.
    await root.ok("POST", f"wblist/outbound/blacklist/{USER}", addresses=FAR)
    assert await sent(amavis, mail()) == PLAIN
