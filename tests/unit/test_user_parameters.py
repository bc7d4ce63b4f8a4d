"""The parameters of users that can be written in batches are derived from their rules."""

from __future__ import annotations

from typing import Any

import pytest

from iredapi.domain import changed_parameters, revisions, user_parameters, users
from iredapi.domain.domains import Domain
from iredapi.domain.mailbox_paths import Location
from iredapi.domain.user_parameters import FIELDS
from iredapi.domain.users import User
from iredapi.schemas.users import UserDraft, UserEdit

VALUES: dict[str, Any] = {
    "account_status": False, "quota": 5, "is_global_admin": True, "mailbox_format": "mdbox",
    "mailbox_folder": "Mail", "maildir": "/var/vmail/vmail1/x", "sender_bcc": "x@else.test",
    "recipient_bcc": "x@else.test",
    **dict.fromkeys(("forwarding", "add_forwarding", "remove_forwarding"), ("u@a.test",)),
    **dict.fromkeys(("aliases", "add_alias", "remove_alias"), ("b@a.test",)),
    **dict.fromkeys(("services", "add_service", "remove_service"), ("imap",)),
}  # fmt: skip
"""Sent values; parameters that are not here get a text."""


def test_fields_of_every_parameter_are_declared() -> None:
    """A new parameter of a form needs an entry in FIELDS."""
    assert set(FIELDS) == set(UserEdit.model_fields) == set(UserDraft.model_fields) - {"restore"}


def test_the_log_knows_the_value_of_every_parameter() -> None:
    changed = set().union(*FIELDS.values()) - {"held_by_domain"}  # the parameter is the domain's
    names = changed_parameters.of_user_fields(changed)
    user = User("u@a.test")
    items = revisions.of_user(names, user, user).described()
    assert [item["param"] for item in items if not {"old", "new"} <= item.keys()] == []


@pytest.mark.parametrize("param", sorted(FIELDS))
def test_a_parameter_changes_its_declared_fields_only(param: str) -> None:
    before = User("u@a.test", forwardings=frozenset({"u@a.test", "v@a.test"}),
                  aliases=frozenset({"b@a.test", "c@a.test"}), services=frozenset({"smtp", "imap"}),
                  marks_agree=False)  # fmt: skip
    if param.startswith("add_"):
        before = User("u@a.test", forwardings=frozenset({"v@a.test"}), services=frozenset())
    secret = param in {"password", "password_hash"}
    after = users.revise(
        before,
        {param: VALUES.get(param, "other")},
        Domain("a.test"),
        password="{SSHA}x" if secret else "",
        location=Location("/var/vmail", "vmail1", "x") if param == "maildir" else None,
    )
    changed = {name for name in before.__slots__ if getattr(before, name) != getattr(after, name)}
    assert changed
    assert changed <= FIELDS[param]


def test_a_new_parameter_is_batched_when_its_field_is_in_the_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unless another rule decides on it."""
    row = frozenset({"name", "nickname"})
    monkeypatch.setattr(
        user_parameters, "DIRECT_FIELDS", {**user_parameters.DIRECT_FIELDS, "nick": "nickname"}
    )
    monkeypatch.setattr(user_parameters, "FIELDS", {**FIELDS, "nick": frozenset({"nickname"})})
    user_parameters.own_row_parameters.cache_clear()
    user_parameters.new_row_parameters.cache_clear()
    try:
        assert (
            user_parameters.own_row_parameters(row)
            == user_parameters.new_row_parameters(row)
            == {"name", "nick"}
        )
        user_parameters.own_row_parameters.cache_clear()
        user_parameters.new_row_parameters.cache_clear()
        monkeypatch.setattr(
            user_parameters, "PROFILE_OF", {**user_parameters.PROFILE_OF, "nick": "relay"}
        )
        assert (
            user_parameters.own_row_parameters(row)
            == user_parameters.new_row_parameters(row)
            == {"name"}
        )
    finally:
        user_parameters.own_row_parameters.cache_clear()
        user_parameters.new_row_parameters.cache_clear()


def test_parameters_that_depend_on_other_rows_are_not_batched() -> None:
    """The quota depends on the domain's other users, the status on rows of forwardings."""
    everything = frozenset(User.__slots__)
    assert user_parameters.own_row_parameters(everything).isdisjoint(
        {"quota", "is_global_admin", "maildir", "transport", "sender_bcc", "forwarding", "services"}
    )
    assert "account_status" not in user_parameters.own_row_parameters(everything - {"active"})
