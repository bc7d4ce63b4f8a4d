"""The file of `iredapi apply`: what it may say, and what is refused before anything is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from iredapi.client import desired_state
from iredapi.client.desired_state import Desired
from iredapi.config.errors import ConfigurationError


def read(directory: Path, text: str, **environment: str) -> Desired:
    path = directory / "f.yaml"
    path.write_text(text)
    return desired_state.read(path, environment)


def test_values(tmp_path: Path) -> None:
    """Yes and no of YAML are those of the API; kinds come in the order in which they are made."""
    found = read(
        tmp_path,
        """
aliases: {A@EX.com: {members: [1, yes]}}
users: {u@ex.com: {quota: 1.5, suspended: on, name: , password_env: P}}
domains: {ex.com: {disabledUserPreference: [wblist, forwarding]}}
""",
        P="secret",
    )
    domain, user, alias = found.accounts
    assert domain.params == {
        "disableUserPreference": ["wblist", "forwarding"],
        "enableUserPreference": ["personal_info", "quarantine", "rcvd_mails", "spampolicy"],
    }
    assert (user.params, user.password) == (
        {"quota": "1.5", "suspend": "yes", "name": ""},
        "secret",
    )
    assert (alias.name, alias.params) == ("a@ex.com", {"members": ["1", "yes"]})
    assert found.sections == {"alias", "user", "domain"}
    assert "secret" not in repr(found)


def test_texts_that_look_like_numbers_stay_as_they_are(tmp_path: Path) -> None:
    text = "users: {u@ex.com: {mobile: [+49123, 0123], employeeid: 007, gn: 12:30, "
    (user,) = read(tmp_path, text + "name: 2026-11-30, quota: 1_000}}").accounts
    assert user.params == {
        "mobile": "+49123,0123", "employeeid": "007", "gn": "12:30", "name": "2026-11-30",
        "quota": "1_000",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text, error",
    [
        ("users: {u@ex.com: {password: x}}", "user u@ex.com: no password belongs into a file"),
        ("users: {u@ex.com: {password_env: X}}", "user u@ex.com: the environment has no X"),
        ("users: {u@ex.com: {password_env: P, password_hash: y}}", "user u@ex.com: password_env"),
        ("user: {}", "there is no section user; there are domains, users"),
        ("users: {u@ex.com: {quota: 1}, u@ex.com: {quota: 2}}", "line 1: u@ex.com is there twice"),
        ("users: [u@ex.com]", "users: names with values are expected"),
        ("users: {u@ex.com: {name: {a: b}}}", "user u@ex.com: name: a text, a number"),
        ("users: {", "line 1: "),
        ("policies: {ex.com: {throtle: {}}}", "policies: ex.com: there is no throtle"),
        ("policies: {ex.com: {throttle: {up: {}}}}", "there is no up; there are inbound"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text, P="secret")
    assert error in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        desired_state.read(tmp_path / "none", {})
