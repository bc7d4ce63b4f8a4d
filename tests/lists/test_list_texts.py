"""Texts that mlmmj mails: names of variables that mlmmj 1.5 no longer knows are not used."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from iredapi.doctor import list_checks
from iredapi.doctor.findings import Finding
from iredapi.doctor.runner import Examination, Result
from tests.lists.conftest import TEAM, Lists
from tests.lists.test_concurrent_subscriptions import run
from tests.lists.test_subscribers_and_mail import post

pytestmark = [pytest.mark.needs("mlmmj"), pytest.mark.stores("sqlite")]
CODE: Final = "LIST_TEXT_OUTDATED"
OLD: Final = {
    "confirm": "Reply-To: $confaddr$\nSubject: Confirm\n\n$confirmaddr$ $listaddr$ $$confaddr\n",
    "gatekeep-sub": "Subject: Ask\n\n$moderateaddr$\n- $moderators$\n",
    "wait-sub": "Subject: Wait\n\n- $moderators$\n",
    "moderate-post": "Subject: Post\n\n$moderateaddr$ $moderators$\n$originalmail$\n",
    "notify-sub": "Subject: New\n\n$newsub$ \u00e9\n",
    "notify-unsub": "Subject: Gone\n\n$oldsub$\n",
    "probe": "Subject: Probe\n\n$bouncenumbers$\n",
    "digest": "Subject: Digest\n\n$digestthreads$\n",
    "help": "Subject: Help\n\n$listaddr$ $helpaddr$ $listowner$\n",
}
NEW: Final = OLD | {
    "confirm": "Reply-To: $confirmaddr$\nSubject: Confirm\n\n$confirmaddr$ $listaddr$ $$confaddr\n",
    "gatekeep-sub": "Subject: Ask\n\n$permitaddr$\n- %gatekeepers%\n",
    "wait-sub": "Subject: Wait\n\n- %gatekeepers%\n",
    "moderate-post": "Subject: Post\n\n$releaseaddr$ %moderators%\n %originalmail 100%\n",
    "notify-sub": "Subject: New\n\n$subaddr$ \u00e9\n",
    "notify-unsub": "Subject: Gone\n\n$subaddr$\n",
    "probe": "Subject: Probe\n\n%bouncenumbers%\n",
    "digest": "Subject: Digest\n\n%digestthreads%\n",
}


def texts(lists: Lists, address: str = TEAM) -> dict[str, str]:
    return {path.name: path.read_text() for path in (lists.directory(address) / "text").iterdir()}


async def examined(
    lists: Lists, programs: Path, *, fix: bool = False, code: str = CODE
) -> list[Finding]:
    """What the doctor reports about texts; ``programs`` is the directory of mlmmj."""
    settings = lists.service.settings.model_copy(update={"mlmmj_programs": str(programs)})
    found: list[Finding] = []
    result = await Examination(settings, fix=fix, only=[code]).run(found.append)
    assert isinstance(result, Result)
    assert result.status == int(any(not finding.fixed for finding in found))
    return found


def version(place: Path, printed: str) -> Path:
    """A directory of mlmmj in another version."""
    place.mkdir()
    program = place / "mlmmj-sub"
    program.write_text(f"#!/bin/sh\necho {printed}\n")
    program.chmod(0o755)
    return place


@pytest.mark.list_servers("spool")
async def test_a_new_list_has_texts_for_every_mlmmj(lists: Lists) -> None:
    await lists.create()
    # The texts of Debian 12 have $confaddr$.
    assert [name for name, text in texts(lists).items() if "$confaddr$" in text] == []
    assert "$confirmaddr$" in texts(lists)["confirm"]
    await lists.update(add_subscribers="ann@else.test")
    mail = await asyncio.to_thread(lists.sink.to, "ann@else.test")
    assert "team+confsub-" in str(mail["Reply-To"])
    assert "$" not in str(mail.get_payload())


@pytest.mark.list_servers("spool")
async def test_outdated_texts_are_reported_and_renewed(lists: Lists, tmp_path: Path) -> None:
    await lists.create()
    await lists.create("new@list.test")
    folder = lists.directory() / "text"
    for name, text in OLD.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o640)
    others = texts(lists, "new@list.test")
    assert await examined(lists, version(tmp_path / "old", "mlmmj-sub version 1.3.0")) == []
    newer = version(tmp_path / "new", "mlmmj-sub version 1.5.2")
    (found,) = await examined(lists, newer)
    assert (found.code, found.subject, found.fixed) == (CODE, TEAM, False)
    assert "moderate-post: $moderateaddr$ $moderators$ $originalmail$" in found.detail
    assert "help" not in found.detail
    silent = version(tmp_path / "silent", "mlmmj-sub")
    (unknown,) = await examined(lists, silent)
    assert unknown.detail == f"{found.detail}; the version of mlmmj is not known"
    assert OLD.items() <= texts(lists).items()
    (fixed,) = await examined(lists, newer, fix=True)
    assert fixed.fixed
    assert NEW.items() <= texts(lists).items()
    assert {(folder / name).stat().st_mode & 0o777 for name in OLD} == {0o640}
    assert await examined(lists, newer) == []
    assert texts(lists, "new@list.test") == others


@pytest.mark.list_servers("spool")
async def test_a_text_of_others_is_not_changed_through_a_link(lists: Lists, tmp_path: Path) -> None:
    await lists.create()
    shared = tmp_path / "shared"
    shared.write_text(OLD["confirm"])
    path = lists.directory() / "text" / "confirm"
    path.unlink()
    path.symlink_to(shared)
    newer = version(tmp_path / "new", "mlmmj-sub version 1.6.0")
    (found,) = await examined(lists, newer, fix=True)
    assert not found.fixed
    assert shared.read_text() == OLD["confirm"]


@pytest.mark.list_servers("spool")
async def test_empty_lines_among_subscribers_are_filled(lists: Lists, tmp_path: Path) -> None:
    """With every version: mlmmj-unsub of 1.5 removes other bytes of such a file."""
    await lists.create(subscribers="zoe@else.test", require_confirm="no")
    contents = {
        "subscribers.d/m": "m1@else.test\n\nm2@else.test\n\n\n\n\nm3@else.test\n",
        "digesters.d/odd": "\nd1@else.test\n\nd2@else.test\n",
        "nomailsubs.d/n": "n1@else.test\n     \nn2@else.test",
    }
    for name, text in contents.items():
        (lists.directory() / name).write_text(text)
    older = version(tmp_path / "old", "mlmmj-sub version 1.3.0")
    code = "LIST_FILE_EMPTY_LINES"
    (found,) = await examined(lists, older, code=code)
    assert (found.subject, found.detail) == (TEAM, "subscribers.d/m, digesters.d/odd")
    assert (lists.directory() / "digesters.d/odd").read_text() == contents["digesters.d/odd"]
    (found,) = await examined(lists, older, fix=True, code=code)
    assert found.fixed
    assert await examined(lists, older, code=code) == []
    for name, text in contents.items():
        assert sorted((lists.directory() / name).read_text().split()) == text.split()
    await run(lists, "mlmmj-unsub", "m2@else.test", "-q", "-s")
    await run(lists, "mlmmj-unsub", "d1@else.test", "-q", "-s")
    assert lists.subscribers() == ["m1@else.test", "m3@else.test", "zoe@else.test"]
    assert lists.subscribers("-d") == ["d2@else.test"]


@pytest.mark.list_servers("spool")
async def test_empty_lines_among_headers_are_removed(lists: Lists, tmp_path: Path) -> None:
    """With every version: mlmmj copies them into each post."""
    await lists.create(
        subscribers="ann@else.test,bob@else.test", require_confirm="no", custom_headers="X-A: 1"
    )
    file = lists.directory() / "control" / "customheaders"
    before = file.read_text()
    code = "LIST_HEADERS_EMPTY_LINES"
    older = version(tmp_path / "old", "mlmmj-sub version 1.3.0")
    assert await examined(lists, older, code=code) == []
    broken = before.replace("\n", "\n\n", 1) + " \n"
    file.write_text(broken)
    (found,) = await examined(lists, older, code=code)
    assert (found.subject, found.detail) == (TEAM, "control/customheaders")
    assert file.read_text() == broken
    file.rename(tmp_path / "shared")
    file.symlink_to(tmp_path / "shared")
    (found,) = await examined(lists, older, fix=True, code=code)
    assert not found.fixed
    assert file.read_text() == broken
    (tmp_path / "shared").replace(file)
    (found,) = await examined(lists, older, fix=True, code=code)
    assert found.fixed
    assert file.read_text() == before
    assert await examined(lists, older, code=code) == []
    await asyncio.to_thread(post, lists, "ann@else.test")
    mail = await asyncio.to_thread(lists.sink.to, "bob@else.test")
    assert mail["Content-Type"]
    assert mail["X-A"] == "1"
    file.unlink()
    assert await examined(lists, older, code=code) == []


@pytest.mark.list_servers("mlmmjadmin")
async def test_lists_of_mlmmjadmin_are_examined_where_iredmail_keeps_them(
    lists: Lists, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lists.create()
    for name, text in OLD.items():
        (lists.directory() / "text" / name).write_text(text)
    newer = version(tmp_path / "new", "mlmmj-sub version 1.5.0")
    monkeypatch.setattr(list_checks, "_IREDMAIL", lists.spool)
    owner = (lists.directory() / "text" / "confirm").stat().st_uid
    (found,) = await examined(lists, newer, fix=True)
    assert (found.subject, found.fixed) == (TEAM, True)
    assert NEW.items() <= texts(lists).items()
    assert (lists.directory() / "text" / "confirm").stat().st_uid == owner
    monkeypatch.setattr(list_checks, "_IREDMAIL", tmp_path / "none")
    assert await examined(lists, newer) == []


@pytest.mark.list_servers("spool")
async def test_renewed_texts_are_mailed_with_their_values(lists: Lists, tmp_path: Path) -> None:
    """By the mlmmj of this host, whichever it is."""
    await lists.create(notify_owner_when_sub_unsub="yes")
    folder = lists.directory() / "text"
    for name, text in OLD.items():
        (folder / name).write_text(text)
    newer = version(tmp_path / "new", "mlmmj-sub version 1.5.2")
    await examined(lists, newer, fix=True)
    await run(lists, "mlmmj-sub", "bob@else.test")
    notice = await asyncio.to_thread(lists.sink.to, "team+owner@list.test")
    assert "bob@else.test" in str(notice.get_payload(decode=True))
    await lists.update(subscription_moderators="gate@else.test", moderate_subscription="yes")
    await run(lists, "mlmmj-sub", "cat@else.test")
    asked = await asyncio.to_thread(lists.sink.to, "gate@else.test")
    body = str(asked.get_payload(decode=True))
    assert "team+permit-" in body
    assert "- gate@else.test" in body
