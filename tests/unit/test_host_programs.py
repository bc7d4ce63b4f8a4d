"""Which Dovecot, mlmmj and SQL server a host has, and what ``init`` and settings make of that."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from iredapi.config import import_iredadmin, loading
from iredapi.config.errors import ConfigurationError
from iredapi.config.host_programs import Host, Program, release
from iredapi.config.settings import Settings
from iredapi.doctor import versions
from tests.servers.process import find_program

LDAP: dict[str, Any] = {
    "backend": "ldap", "ldap_uri": "ldap://h", "ldap_base_dn": "o=domains,dc=x",
    "ldap_bind_dn": "cn=x", "ldap_bind_password": "x",
}  # fmt: skip
Install = Callable[[str, str], Path]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Put a program that prints a text into a host below ``tmp_path``."""

    def put(name: str, printed: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{printed}\n")
        path.chmod(0o755)
        return path

    return put


@pytest.mark.parametrize(
    "printed, wanted",
    [
        ("echo '2.3.19.1 (9b53102964)'", "2.3.19.1"),
        ("echo '2.4.1-4 (7d8c0e5759)'", "2.4.1"),
        ("echo 'dovecot: 2.4.5' >&2", "2.4.5"),
        ("echo nothing; exit 3", None),
        ("exit 127", None),
    ],
)
def test_dovecot_says_its_version(
    install: Install, tmp_path: Path, printed: str, wanted: str | None
) -> None:
    path = install("usr/sbin/dovecot", printed)
    found = Host(str(tmp_path), path="").dovecot()
    assert found == (wanted and Program("Dovecot", wanted, str(path)))


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("# iRedMail\ndovecot_config_version = 2.4.1\nprotocols {\n}\n", "2.4.1"),
        ("protocols = imap\n#dovecot_config_version = 2.4.0\n", "2.3"),
    ],
)
def test_the_configuration_tells_it_without_the_program(
    tmp_path: Path, text: str, wanted: str
) -> None:
    path = tmp_path / "etc/dovecot/dovecot.conf"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert Host(str(tmp_path), path="").dovecot() == Program("Dovecot", wanted, str(path))


def test_an_empty_host(tmp_path: Path) -> None:
    host = Host(str(tmp_path), path="")
    assert (host.dovecot(), host.mlmmj(), list(host.sql_servers())) == (None, None, [])
    assert "set IREDAPI_DOVECOT_VERSION" in import_iredadmin.found_on(host)[0]
    shown = versions.of_host(Settings(_env_file=None, data_dir=tmp_path), host)
    assert shown["Dovecot"].startswith("not known")
    assert shown["mlmmj"] == "not known"


def test_mlmmj_and_sql_servers(install: Install, tmp_path: Path) -> None:
    """mlmmj's programs say their version only when they are called with their full path."""
    install("usr/bin/mlmmj-sub", 'case $0 in /*) echo "mlmmj-sub version 1.5.2";; esac')
    install("usr/lib/postgresql/17/bin/postgres", "echo 'postgres (PostgreSQL) 17.12 (Debian)'")
    install("usr/sbin/mariadbd", "echo 'mariadbd  Ver 11.8.9-MariaDB for debian'")
    lines = import_iredadmin.found_on(Host(str(tmp_path), path=""))
    assert [line.split(" (")[0] for line in lines[:3]] == [
        "Found mlmmj 1.5.2", "Found PostgreSQL 17.12", "Found MariaDB 11.8.9",
    ]  # fmt: skip


@pytest.mark.needs("doveadm")
def test_the_installed_dovecot() -> None:
    program = find_program("dovecot")
    assert program is not None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = Host().dovecot()
    assert found is not None
    assert said.stdout.startswith(found.version)


@pytest.mark.parametrize(
    "version, wanted",
    [("", ""), ("2.3", "2.3"), ("2.3.21", "2.3"), ("2.4.1", "2.4"), ("2.5", "2.4"), ("3.0", "2.4")],
)
def test_releases(version: str, wanted: str) -> None:
    assert release(version) == wanted
    assert Settings(_env_file=None, dovecot_version=version).dovecot_release == wanted


@pytest.mark.parametrize("value", ["new", "2", "2.2.36", "2.4-1", "v2.4", " 2.4", "2.4."])
def test_no_version(value: str) -> None:
    with pytest.raises(ValidationError, match=r"2\.3"):
        Settings(_env_file=None, dovecot_version=value)


@pytest.mark.parametrize(
    "installed, given, check",
    [
        ("2.4.1", {}, "dovecot"),
        ("2.3.19", {}, "slapd"),
        ("2.4.1", {"IREDAPI_DOVECOT_VERSION": "2.3"}, "slapd"),
    ],
)
def test_commands_find_out_what_is_not_set(
    install: Install, monkeypatch: pytest.MonkeyPatch, installed: str, given: dict[str, str],
    check: str,
) -> None:  # fmt: skip
    """A setting has precedence. Dovecot 2.4 reads ``userPassword``: it takes every scheme."""
    place = install("usr/sbin/dovecot", f"echo '{installed} (abc)'").parent
    monkeypatch.setenv("PATH", str(place))
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    if check == "slapd":
        with pytest.raises(ConfigurationError, match="OpenLDAP cannot check ARGON2ID"):
            loading.load(**LDAP, password_scheme="ARGON2ID")
        settings = loading.load(**LDAP)
    else:
        settings = loading.load(**LDAP, password_scheme="ARGON2ID")
    assert settings.dovecot_version == (given.get("IREDAPI_DOVECOT_VERSION") or installed)
    assert settings.slapd_checks_passwords is (check == "slapd")
    found = import_iredadmin.password_check({"IREDAPI_BACKEND": "ldap"}, Host().dovecot())
    assert found == ("slapd" if installed.startswith("2.3") else "dovecot")
    assert import_iredadmin.password_check({"IREDAPI_BACKEND": "sql"}, Host().dovecot()) == ""
