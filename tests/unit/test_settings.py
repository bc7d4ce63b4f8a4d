"""The settings: where they come from, what is refused, and how."""

from __future__ import annotations

import os
import sys
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
        ({"webhook_ca_file": __file__}, "IREDAPI_WEBHOOK_CA_FILE"),
        ({"webhook_ca_file": "/nowhere"}, "IREDAPI_WEBHOOK_CA_FILE"),
        ({"webhook_ports": "0"}, "IREDAPI_WEBHOOK_PORTS"),
        ({"webhook_networks": "10.0.0.1/24"}, "IREDAPI_WEBHOOK_NETWORKS"),
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
        ({"dns_mx": "mail.example.com,mail"}, "IREDAPI_DNS_MX"),
        ({"dns_spf": "v=spf1 ipv4:192.0.2.1"}, "IREDAPI_DNS_SPF"),
        ({"dns_spf": "mx"}, "IREDAPI_DNS_SPF"),
        ({"dns_dmarc": "p=none"}, "IREDAPI_DNS_DMARC"),
        ({"dns_autoconfig": "192.0.2.1"}, "IREDAPI_DNS_AUTOCONFIG"),
        ({"dns_autodiscover": "a b.test"}, "IREDAPI_DNS_AUTODISCOVER"),
        ({"dns_tls_rpt": "a@b.test"}, "IREDAPI_DNS_TLS_RPT"),
        ({"ownership_web_networks": "10.0.0.1/8"}, "IREDAPI_OWNERSHIP_WEB_NETWORKS"),
        ({"metrics_networks": "10.0.0.1/8"}, "IREDAPI_METRICS_NETWORKS"),
        ({"metrics_token": "a-secret-of-15-"}, "IREDAPI_METRICS_TOKEN"),
        ({"metrics_token": "a-secret-of-more-than-16 # who"}, "IREDAPI_METRICS_TOKEN"),
        ({"metrics_token": "a-secret-of-more-than-16-…"}, "IREDAPI_METRICS_TOKEN"),
        ({"traces": "often"}, "IREDAPI_TRACES"),
    ],
)
def test_a_refusal_names_the_setting_and_shows_no_secret(given: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as refused:
        load(**given)
    assert "secret" not in str(refused.value)


def test_traces_need_a_protocol_that_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(traces="yes").traces
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert not load().traces
    with pytest.raises(ConfigurationError, match=r"IREDAPI_TRACES: .*_PROTOCOL.*http/protobuf"):
        load(traces="yes")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    assert load(traces="yes").traces


def test_traces_need_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    # As in an environment without it.
    monkeypatch.setattr(sys.modules["opentelemetry"], "__path__", [])
    assert not load().traces
    with pytest.raises(ConfigurationError, match=r"IREDAPI_TRACES: install iredapi\[otel\]"):
        load(traces="yes")


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


_TWO = "postgresql+asyncpg://u:p%40@/d?host=h1%3A5432&host=h2%3A6432"


@pytest.mark.parametrize(
    "given, complete",
    [
        ("postgresql://u:p%40@h1,h2:6432/d", _TWO),
        ("postgresql://u:p%40@/d?host=h1,h2&port=5432,6432", _TWO),
        ("postgresql://u:p%40@/d?host=h1:5432&host=h2:6432", _TWO),
        (
            "postgresql://u@h1,h2/d?port=6432&target_session_attrs=any",
            "postgresql+asyncpg://u@/d?host=h1%3A6432&host=h2%3A6432&target_session_attrs=any",
        ),
        (
            "mysql://u:p@[::1]:3307,10.0.0.2/d",
            "mysql+aiomysql://u:p@/d?charset=utf8mb4&host=%5B%3A%3A1%5D%3A3307&host=10.0.0.2%3A3306",
        ),
        (
            "postgresql://u@%2Frun%2Fpostgresql/d",
            "postgresql+asyncpg://u@/d?host=%2Frun%2Fpostgresql",
        ),
        ("postgresql://u@[::1]:6432/d", "postgresql+asyncpg://u@[::1]:6432/d"),
    ],
)
def test_urls_may_name_several_hosts(given: str, complete: str) -> None:
    assert async_url(given) == complete
    assert async_url(complete) == complete


@pytest.mark.parametrize(
    "url, says",
    [
        ("postgresql://u:secret@h1,,h2/d", "a host is missing"),
        ("postgresql://u:secret@h1:x,h2/d", "the port is not a number"),
        ("mysql://u:secret@h1:99999,h2/d", "the port is not one of"),
        ("postgresql://u:secret@::1,h2/d", "an IPv6 address"),
        ("postgresql://u:secret@h1,h2/d?host=h3", "host: it stands before"),
        ("postgresql://u:secret@h1,h2,h3/d?port=1,2", "port: give one for all"),
        ("postgresql://u:secret@h1:1,h2/d?port=1,2", "port: the hosts have"),
        ("postgresql://u:secret@h/d?target_session_attrs=standby", "target_session_attrs: any"),
        ("mysql://u:secret@h/d?target_session_attrs=any", "target_session_attrs: no such option"),
        ("postgresql://u:secret@h/d?statement_cache_size=few", "statement_cache_size: a number"),
        ("postgresql://u:secret@h/d?colour=red", "colour: no such option"),
        ("mysql://u:secret@h/d?colour=red", "colour: no such option"),
        ("sqlite:////d?colour=red", "colour: no such option"),
        ("postgresql://u:secret@h/d?passfile=a&passfile=b", "passfile: it stands"),
        ("mysql://u:secret@h/d?unix_socket=", "unix_socket: it has no value"),
        ("postgresql://u:a?secret=b@h/d", "an @ stands after the ?"),
        ("mysql://u:secret@/d?host=/run/mysqld.sock", "host: the option for a socket"),
        ("postgresql://u:secret@h/d?sslmode=perhaps", "sslmode"),
    ],
)
def test_mistakes_in_urls_are_named(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(vmail_url=url)
    assert f"IREDAPI_VMAIL_URL: {says}" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_secrets_are_not_shown() -> None:
    assert "hush" not in repr(load(admin_password="hush", vmail_url="mysql://u:hush@h/d"))


def test_every_setting_has_a_description() -> None:
    assert [n for n, field in Settings.model_fields.items() if not field.description] == []
