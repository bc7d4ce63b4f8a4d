"""The settings: where they come from, what is refused, and how."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from iredapi.config import loading
from iredapi.config.errors import ConfigurationError
from iredapi.config.loading import load
from iredapi.config.parsing import async_url
from iredapi.config.settings import Settings


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the machine that runs the tests."""
    for name in list(os.environ):
        if name.startswith("IREDAPI_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(loading, "ENV_FILE", tmp_path / "absent.env")


def test_nothing_configured_is_the_embedded_default() -> None:
    chosen = load()
    assert chosen.embedded
    assert chosen.uses_sqlite
    assert chosen.host == "127.0.0.1"
    assert list(chosen.urls()) == ["vmail", "amavisd", "iredapd", "iredadmin", "state"]
    assert all(url.startswith("sqlite+aiosqlite:////") for url in chosen.urls().values())


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "env"
    path.write_text('IREDAPI_PORT="1"\nIREDAPI_HOST="h"\nIREDAPI_WORKERS="1"\nOTHER="x"\n')
    monkeypatch.setenv("IREDAPI_PORT", "2")
    assert (load(path).port, load(path).host) == (2, "h")
    assert load(path, port=3).port == 3


def test_the_default_file_is_read_when_it_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "env").write_text("IREDAPI_PORT=5\n")
    monkeypatch.setattr(loading, "ENV_FILE", tmp_path / "env")
    assert load().port == 5


def test_a_file_asked_for_by_name_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        load(tmp_path / "env")


def test_nothing_in_the_file_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # systemd does not expand either, and both must read the same.
    monkeypatch.setenv("NAME", "expanded")
    (tmp_path / "env").write_text('IREDAPI_ADMIN_PASSWORD="a${NAME}$NAME"\n')
    assert load(tmp_path / "env").admin_password.get_secret_value() == "a${NAME}$NAME"


@pytest.mark.parametrize(
    "given, name",
    [
        ({"port": 65536}, "IREDAPI_PORT"),
        ({"prefixes": "api"}, "IREDAPI_PREFIXES"),
        ({"prefixes": ""}, "IREDAPI_PREFIXES"),
        ({"prefixes": "[1"}, "IREDAPI_PREFIXES"),
        ({"allowed_networks": "10.0.0.1/24"}, "IREDAPI_ALLOWED_NETWORKS"),
        ({"trusted_proxies": "localhost"}, "IREDAPI_TRUSTED_PROXIES"),
        ({"log_level": "LOUD"}, "IREDAPI_LOG_LEVEL"),
        ({"vmail_url": "oracle://u:secret@h/d"}, "IREDAPI_VMAIL_URL"),
        ({"state_url": "u:secret@h/d"}, "IREDAPI_STATE_URL"),
        ({"storage_base_directory": "vmail"}, "IREDAPI_STORAGE_BASE_DIRECTORY"),
        ({"storage_base_directory": "/a\nb"}, "IREDAPI_STORAGE_BASE_DIRECTORY"),
        ({"password_scheme": "NTLM"}, "IREDAPI_PASSWORD_SCHEME"),
        ({"workers": 2}, "PostgreSQL"),
    ],
)
def test_a_refusal_names_the_setting_and_shows_no_secret(given: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as refused:
        load(**given)
    assert "secret" not in str(refused.value)


def test_several_workers_need_servers_for_accounts_and_state() -> None:
    url = "postgresql://u:p@h/d"
    with pytest.raises(ConfigurationError, match="IREDAPI_STATE_URL"):
        load(workers=2, vmail_url=url)
    assert load(workers=2, vmail_url=url, state_url=f"{url}2").workers == 2


def test_the_state_database_is_our_own() -> None:
    url = "postgresql://u:p@h/d"
    with pytest.raises(ConfigurationError, match="IREDAPI_STATE_URL: it must be"):
        load(vmail_url=url, state_url=url)


def test_lists_are_written_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IREDAPI_TRUSTED_PROXIES", " 127.0.0.1 ,, ::1 ")
    monkeypatch.setenv("IREDAPI_ALLOWED_NETWORKS", '["10.0.0.0/8"]')
    monkeypatch.setenv("IREDAPI_HIDDEN_USER_FIELDS", "")
    chosen = load()
    assert [str(item) for item in chosen.networks("trusted_proxies")] == ["127.0.0.1/32", "::1/128"]
    assert [str(item) for item in chosen.networks("allowed_networks")] == ["10.0.0.0/8"]
    assert chosen.hidden_user_fields == []


@pytest.mark.parametrize(
    "url, driver",
    [
        ("postgresql://u:p@h/d", "postgresql+asyncpg"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql+asyncpg"),
        ("mysql://u:p@h/d", "mysql+aiomysql"),
        ("mariadb://u:p@h/d", "mysql+aiomysql"),
        ("sqlite:////var/x.db", "sqlite+aiosqlite"),
    ],
)
def test_urls_get_the_asynchronous_driver(url: str, driver: str) -> None:
    complete = async_url(url)
    assert make_url(complete).drivername == driver
    assert async_url(complete) == complete
    charset = make_url(complete).query.get("charset")
    assert charset == ("utf8mb4" if "mysql" in driver else None)


def test_passwords_survive_in_urls() -> None:
    password = "p@:/?#%+ ${x}"
    url = make_url("postgresql://u@h/d").set(password=password)
    given = url.render_as_string(hide_password=False)
    assert make_url(load(vmail_url=given).urls()["vmail"]).password == password


def test_secrets_are_not_shown() -> None:
    assert "hush" not in repr(load(admin_password="hush", vmail_url="mysql://u:hush@h/d"))


def test_every_setting_has_a_description() -> None:
    assert [n for n, field in Settings.model_fields.items() if not field.description] == []
