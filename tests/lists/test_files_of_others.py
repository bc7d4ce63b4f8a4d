"""Files written by imports, editors and scripts are read as mlmmj reads them."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from iredapi.config.host_programs import Host
from tests.lists.conftest import TEAM, Lists
from tests.lists.test_subscribers_and_mail import post
from tests.servers.process import find_program

pytestmark = [
    pytest.mark.needs("mlmmj"),
    pytest.mark.stores("sqlite"),
    pytest.mark.list_servers("spool"),
]
FILES = {
    "subscribers.d/imported": b"imp@else.test\nann@else.test\n",
    "subscribers.d/b": b"Bob@Else.TEST\r\nbea@else.test\r\n",
    "subscribers.d/c": b"cat@else.test\n\ncat@else.test\n  carl@else.test \ncora@else.test",
    "subscribers.d/.hidden": b"hid@else.test\n",
    "subscribers.d/d.new": b"dan@else.test\n",
    "subscribers.d/odd": "jos\u00e9@else.test\nroot@localhost\nnobody\na b@else.test\n".encode(),
    "digesters.d/export.txt": b"Dig@else.test\r\ncat@else.test\n",
    "nomailsubs.d/x": b"\n\nnom@else.test\n\n",
}


def write(lists: Lists) -> dict[str, list[str]]:
    """Write the files; return the subscribers in each directory."""
    found: dict[str, list[str]] = {}
    for name, content in FILES.items():
        path = lists.directory() / name
        path.write_bytes(content)
        path.chmod(0o600)
        lines = content.decode().replace("\r", "").split("\n")
        found.setdefault(path.parent.name, []).extend(filter(None, map(str.strip, lines)))
    return found


def listed(lists: Lists, option: str) -> list[str]:
    """What mlmmj-list prints, line by line."""
    program = find_program("mlmmj-list")
    assert program is not None
    command = [program, "-L", str(lists.directory()), option]
    printed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    return sorted(line.strip().lower() for line in printed.split("\n") if line.strip())


async def test_everybody_is_listed_and_can_be_removed(lists: Lists) -> None:
    await lists.create()
    people = write(lists)
    options = {"subscribers.d": "-s", "digesters.d": "-d", "nomailsubs.d": "-n"}
    versions = {"subscribers.d": "normal", "digesters.d": "digest", "nomailsubs.d": "nomail"}
    for directory, option in options.items():
        assert listed(lists, option) == sorted(mail.lower() for mail in people[directory])
    shown = (await lists.get(with_subscribers="yes"))["subscribers"]
    expected = {
        (mail.lower(), versions[directory]) for directory in people for mail in people[directory]
    }
    assert [(item["mail"], item["subscription"]) for item in shown] == sorted(expected)
    left = {mail for mail, _ in expected}
    for mail in sorted(left):
        # As in the response, or in another case.
        answer = await lists.update(remove_subscribers=mail.upper() if mail.isascii() else mail)
        assert "_skipped" not in answer, mail
        left.discard(mail)
        found = {item for option in options.values() for item in listed(lists, option)}
        assert found == left, mail
    answer = await lists.update(remove_subscribers="ann@else.test")
    assert answer["_skipped"] == [
        {"param": "remove_subscribers", "value": "ann@else.test", "reason": "NOT_FOUND"}
    ]
    refused = await lists.root.refused("PUT", f"ml/{TEAM}", remove_subscribers="nobody")
    assert refused == (400, "INVALID_MAIL", ["remove_subscribers"])


async def test_an_added_subscriber_gets_its_own_line(lists: Lists) -> None:
    await lists.create()
    people = write(lists)["subscribers.d"]
    new = "cid@else.test,BOB@else.test,imp@else.test,cora@else.test,zoe@else.test"
    await lists.update(add_subscribers=new, require_confirm="no")
    added = ["cid@else.test", "zoe@else.test"]
    assert listed(lists, "-s") == sorted([*map(str.lower, people), *added])
    # They change the kind of their subscription wherever they stand.
    await lists.update(add_subscribers=new, require_confirm="no", subscription="digest")
    assert not set(new.lower().split(",")) & set(listed(lists, "-s"))
    assert set(new.lower().split(",")) <= set(listed(lists, "-d"))


@pytest.mark.parametrize("blank", ["\n", "\r\n"])
@pytest.mark.parametrize("at", [0, 1, 7], ids=["first", "between", "last"])
async def test_a_blank_line_among_the_headers_goes_with_the_next_change(
    lists: Lists, at: int, blank: str
) -> None:
    """mlmmj copies it into each post, where it ends the header."""
    await lists.create(
        subscribers="ann@else.test,bob@else.test", require_confirm="no", custom_headers="X-A: 1"
    )
    file = lists.directory() / "control" / "customheaders"
    before = file.read_text()
    lines = before.splitlines(keepends=True)
    assert len(lines) == 7
    file.write_text("".join([*lines[:at], blank, *lines[at:]]), newline="")
    await lists.update(name="Team")
    assert sorted(file.read_text().splitlines()) == sorted(before.splitlines())
    await asyncio.to_thread(post, lists, "ann@else.test")
    mail = await asyncio.to_thread(lists.sink.to, "bob@else.test")
    assert (mail.get_content_type(), mail["X-A"]) == ("text/plain", "1")
    assert mail["Content-Type"]
    assert str(mail.get_payload()).strip() == "Good morning."


_WAITING = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    print("opened", flush=True)
    sys.stdin.readline()
    fcntl.lockf(file, fcntl.LOCK_EX)
    file.seek(0, 2)
    file.write(b"late@else.test\\n")
"""


@pytest.mark.parametrize("gone", ["lea@else.test", "lea@else.test,lou@else.test"])
async def test_a_subscription_by_mail_during_a_removal_is_kept(lists: Lists, gone: str) -> None:
    """mlmmj-sub has opened the file, and gets its lock after us: it must still be that file."""
    await lists.create(subscribers="lea@else.test,lou@else.test", require_confirm="no")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WAITING, str(lists.directory() / "subscribers.d" / "l"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    await lists.update(remove_subscribers=gone)
    await lists.update(add_subscribers="lisa@else.test", require_confirm="no")
    await process.communicate(b"\n")
    left = {"lea@else.test", "lou@else.test"} - set(gone.split(","))
    assert lists.subscribers() == sorted({*left, "late@else.test", "lisa@else.test"})


async def test_mlmmj_subscribes_and_unsubscribes_meanwhile(lists: Lists) -> None:
    names = [f"m{number:02}" for number in range(20)]
    ours_gone, theirs_gone, kept = (
        [f"{name}@{domain}.test" for name in names] for domain in ("a", "b", "c")
    )
    ours, theirs = ([f"{name}@{domain}.test" for name in names] for domain in ("d", "e"))
    await lists.create(
        subscribers=",".join([*ours_gone, *theirs_gone, *kept]), require_confirm="no"
    )

    async def run(name: str, mail: str, *options: str) -> None:
        program = find_program(name)
        assert program is not None
        process = await asyncio.create_subprocess_exec(
            program, "-L", str(lists.directory()), "-a", mail, "-q", "-s", *options,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await process.wait() == 0

    # Its own programs lose each other's work, so they come one after the other.
    async def mlmmj() -> None:
        for old, new in zip(theirs_gone, theirs, strict=True):
            await run("mlmmj-unsub", old)
            await run("mlmmj-sub", new, "-f")

    await asyncio.gather(
        mlmmj(),
        *(lists.update(remove_subscribers=mail) for mail in ours_gone),
        *(lists.update(add_subscribers=mail, require_confirm="no") for mail in ours),
    )
    assert lists.subscribers() == sorted([*kept, *ours, *theirs])


async def test_a_post_that_is_on_its_way_reaches_everybody(lists: Lists) -> None:
    """mlmmj-send reads 100 subscribers, sends, and continues at the byte where it stopped."""
    await lists.create()
    mails = [f"m{number:03}@else.test" for number in range(150)]
    path = lists.directory() / "subscribers.d" / "m"
    path.write_text("".join(f"{mail}\n" for mail in mails))
    path.chmod(0o600)
    with path.open() as sending:
        for _ in range(100):
            sending.readline()
        place = sending.tell()
        await lists.update(remove_subscribers="m003@else.test,m120@else.test")
        sending.seek(place)
        rest = sending.read().split()
    assert rest == [mail for mail in mails[100:] if mail != "m120@else.test"]
    assert lists.subscribers() == [m for m in mails if m[:4] not in {"m003", "m120"}]
    # A short list has no gaps.
    await lists.update(remove_subscribers=",".join(mails[60:]))
    await lists.update(remove_subscribers=mails[0])
    assert path.read_text().split() == mails[1:3] + mails[4:60]


SIZES = {
    "10240 bytes\n": 10240,
    " 10240\r\n": 10240,
    "": 0,
    "0\n": 1,
    "\n": 1,
    "none\n": 1,
    "-5\n": 1,
    "1e9\n": 1,
    "2147483647\n": 2147483647,
    "2147483648\n": 1,
    "4294977536\n": 10240,
}
STRICT = ("10240 bytes\n", "")
"""mlmmj 1.5 refuses every post with these; a list that another program made like that is shown as
1.3 reads it."""


async def test_a_limit_is_shown_as_mlmmj_reads_it(lists: Lists) -> None:
    await lists.create(subscribers="ann@else.test,bob@else.test", require_confirm="no")
    control = lists.directory() / "control" / "maxmailsize"
    program = await asyncio.to_thread(Host().mlmmj)
    assert program is not None
    strict = not program.version.startswith(("1.3.", "1.4."))
    for content, shown in SIZES.items():
        control.write_text(content)
        assert (await lists.get())["max_message_size"] == shown, content
        lists.sink.mails.clear()
        await asyncio.to_thread(post, lists, "ann@else.test")
        # A post of some hundred bytes reaches the other one, or is refused to the sender.
        refused = shown == 1 or (strict and content in STRICT)
        who = "ann@else.test" if refused else "bob@else.test"
        await asyncio.to_thread(lists.sink.to, who)
    answer = await lists.root.refused("PUT", f"ml/{TEAM}", max_message_size="2147483648")
    assert (answer[0], answer[2]) == (400, ["max_message_size"])
    await lists.update(max_message_size="2147483647")
    assert lists.control("maxmailsize") == "2147483647\n"
    await lists.update(max_message_size="0")
    assert lists.control("maxmailsize") is None


async def test_a_prefix_and_removed_headers_are_shown_as_mlmmj_reads_them(lists: Lists) -> None:
    await lists.create(subscribers="ann@else.test,bob@else.test", require_confirm="no")
    control = lists.directory() / "control"
    (control / "prefix").write_bytes(b"[team]\r\nnot this\r\n")
    (control / "delheaders").write_bytes(b"X-Other\r\n\n X-Secret:\n")
    shown = await lists.get()
    assert (shown["subject_prefix"], shown["remove_headers"]) == ("[team]", ["X-Other"])
    await asyncio.to_thread(post, lists, "ann@else.test")
    mail = await asyncio.to_thread(lists.sink.to, "bob@else.test")
    assert (mail["Subject"], mail["X-Secret"]) == ("[team] Hello", "remove me")
    await lists.update(remove_headers="X-Secret")
    assert lists.control("delheaders") == "X-Secret:\n"
