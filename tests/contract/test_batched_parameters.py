"""Each parameter of a user gives the same rows, whether requests share their work or not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import pytest

from iredapi.backends.sql.user_mapping import COLUMNS
from iredapi.domain.user_parameters import new_row_parameters, own_row_parameters
from iredapi.runtime.user_batcher import UserBatcher
from iredapi.schemas.users import UserEdit
from tests.clients import PASSWORD, Client, Service
from tests.servers.snapshot import MOMENTS, dump
from tests.servers.store import Store

pytestmark = pytest.mark.stores("sqlite", "postgresql", "mariadb")

_HASH: Final = "{SSHA}oM4EGbuWWdQXyxIYOqSb5TfAGVpLtlXw"
VALUES: Final[Mapping[str, tuple[str, str]]] = {
    "name": ("Alice", "Bob"),
    "password": (PASSWORD, "An0ther-Horse"),
    "password_hash": (_HASH, _HASH.replace("oM4", "oM5")),
    "language": ("de_DE", "fr_FR"),
    "quota": ("5", "7"),
    "account_status": ("disabled", "active"),
    "is_global_admin": ("yes", "no"),
    "mailbox_format": ("mdbox", "maildir"),
    "mailbox_folder": ("Mail", "Maildir"),
    "maildir": ("/var/vmail/vmail1/{me}", "/var/vmail/vmail1/{me}/more"),
    "gn": ("Alice", ""),
    "sn": ("Example", "Other"),
    "employeeid": ("4711", "4712"),
    "transport": ("dovecot", ""),
    "forwarding": ("x@else.test", "{me}@a.test,y@else.test"),
    "add_forwarding": ("x@else.test", "y@else.test"),
    "remove_forwarding": ("{me}@a.test", "{me}@a.test"),
    "sender_bcc": ("x@else.test", "y@else.test"),
    "recipient_bcc": ("x@else.test", ""),
    "aliases": ("{me}-1@a.test,{me}-2@a.test", "{me}-2@a.test"),
    "add_alias": ("{me}-1@a.test", "{me}-2@a.test"),
    "remove_alias": ("{me}-1@a.test", "{me}-1@a.test"),
    "services": ("imap,deliver", "pop3"),
    "add_service": ("imap", "pop3"),
    "remove_service": ("imap,pop3", "smtp"),
    "telephone_number": ("+49 30 1", "+49 30 2"),
    "mobile": ("+49 170 1", ""),
    "suspend": ("yes", "no"),
}
"""A value for a new user, and another one."""


def _form(param: str, value: str, me: str) -> dict[str, str]:
    alias = UserEdit.model_fields[param].alias or param
    return {alias: value.replace("{me}", me)}


def _plain(value: Any, column: str, me: str) -> Any:
    """Return a value without what may be different: who, when, where, and salt."""
    if isinstance(value, datetime):
        return value.year > 1990
    if not isinstance(value, str):
        return None if column in MOMENTS else value
    if column in MOMENTS:
        return value > "1990"
    if column == "password":
        return value.partition("}")[0]
    if re.search(r"-\d{4}(\.\d\d){5}", value):
        return "generated"
    return value.replace(me, "me")


async def _rows(store: Store, me: str) -> list[tuple[str, list[tuple[str, Any]]]]:
    """All rows that name somebody."""
    found = []
    for (_, table), rows in (await dump(store)).items():
        for row in rows:
            if any(isinstance(value, str) and me in value for value in row.values()):
                values = {name: _plain(row[name], name, me) for name in row if name != "id"}
                found.append((table, sorted(values.items())))
    return sorted(found, key=repr)


async def test_batched_and_unbatched_requests_write_the_same_rows(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every parameter, at creation and in a change, by a global and by a normal admin."""
    assert set(VALUES) == set(UserEdit.model_fields)
    await root.ok("POST", "domain/a.test")
    admin = await service.admin_of("a.test")
    batched: list[bool] = []
    alone = False
    for name in ("create", "change"):
        original = getattr(UserBatcher, name)

        async def tried(self: UserBatcher, *given: Any, _original: Any = original) -> Any:
            found = None if alone else await _original(self, *given)
            batched.append(found is not None)
            return found

        monkeypatch.setattr(UserBatcher, name, tried)
    changed, created = set[str](), set[str]()
    for client, who in ((root, "root"), (admin, "some")):
        for param, (first, second) in VALUES.items():
            if client is admin and param in {"is_global_admin", "maildir"}:
                continue
            number = f"{who}{sorted(VALUES).index(param):02}"
            both = f"one{number}", f"two{number}"
            for me in both:
                alone = me.startswith("two")
                base = {} if param.startswith("password") else {"password_hash": _HASH}
                form = base | _form(param, first, me)
                await root.ok("POST", f"user/{me}@a.test", **form)
                if batched.pop():
                    created.add(param)
            made = [await _rows(service.store, me) for me in both]
            assert made[0] == made[1], param
            for me in both:
                alone = me.startswith("two")
                await client.ok("PUT", f"user/{me}@a.test", **_form(param, second, me))
                if batched.pop():
                    changed.add(param)
            rows = [await _rows(service.store, me) for me in both]
            assert rows[0] == rows[1], param
    row = frozenset(COLUMNS)
    assert changed == own_row_parameters(row)
    assert created == new_row_parameters(row | {"active"})
