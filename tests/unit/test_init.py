"""The env file made from iRedAdmin's settings: what is read, mapped and written."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from iredapi.config import env_file, import_iredadmin
from iredapi.config.errors import ConfigurationError
from iredapi.config.loading import load
from iredapi.config.settings import Settings

# As the installer leaves it: names occur twice, the real values are appended.
SAMPLE = '''
"""Configuration of the panel."""
from libs.default_settings import *

############################
# General settings.
#
webmaster = 'postmaster@example.com'
default_language = 'en_US'
storage_base_directory = '/var/vmail/vmail1/'
default_mta_transport = 'dovecot'
min_passwd_length = 10
max_passwd_length = "0"

backend = 'mysql'
vmail_db_host = '127.0.0.1'
vmail_db_port = "3307"
vmail_db_name = 'vmail'
vmail_db_user = 'vmailadmin'
vmail_db_password = 'placeholder'

iredadmin_db_host = 'localhost'
iredadmin_db_port = 3306
iredadmin_db_name = 'iredadmin'
iredadmin_db_user = 'iredadmin'
iredadmin_db_password = "it's"

amavisd_enable_logging = True
amavisd_db_host = ''
amavisd_db_port = ''
amavisd_db_name = ''
amavisd_db_user = ''
amavisd_db_password = 'pw'

iredapd_enabled = True
iredapd_db_host = '10.0.0.7'
iredapd_db_port = '3306'
iredapd_db_name = 'iredapd'
iredapd_db_user = 'iredapd'
iredapd_db_password = 'pw'

mlmmjadmin_api_auth_token = ''
if True:
    vmail_db_password = 'not at the top level'

vmail_db_password = "p@ss:/?#[]%+ $x${y}'\\"\\\\`é"
mlmmjadmin_api_auth_token = 't#ok"en \\\\ ${HOME} $x'
DEFAULT_PASSWORD_SCHEME = 'BCRYPT'
print("never executed")
raise SystemExit
'''

PASSWORD = "p@ss:/?#[]%+ $x${y}'\"\\`é"
TOKEN = 't#ok"en \\ ${HOME} $x'

Write = Callable[..., Path]


@pytest.fixture
def source(tmp_path: Path) -> Write:
    def write(*lines: str, sample: str = SAMPLE) -> Path:
        path = tmp_path / "settings.py"
        path.write_text(sample + "\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def mapped(path: Path) -> dict[str, str]:
    return import_iredadmin.configuration(import_iredadmin.read_iredadmin(path)).values


def warned(path: Path) -> str:
    return "\n".join(import_iredadmin.configuration(import_iredadmin.read_iredadmin(path)).warnings)


# Reading


def test_the_last_literal_wins_and_nothing_is_executed(source: Write) -> None:
    found = import_iredadmin.read_iredadmin(source())
    assert found.values["vmail_db_password"] == PASSWORD
    assert found.values["mlmmjadmin_api_auth_token"] == TOKEN


def test_every_kind_of_literal_is_read(source: Write) -> None:
    found = import_iredadmin.read_iredadmin(
        source("a = b = 'x' 'y'", "c: int = 3", "d = ['x', 'y']", "e = -1", "f = open('x')")
    )
    assert {name: found.values.get(name) for name in "abcdef"} == {
        "a": "xy", "b": "xy", "c": 3, "d": ["x", "y"], "e": -1, "f": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [b"server {\n  listen 443 'secret';\n}\n", b"\0\0", b"# coding: nonsense\n", b"(" * 5000],
)
def test_what_is_not_python_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "settings.py"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="not a Python file") as refused:
        import_iredadmin.read_iredadmin(path)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        import_iredadmin.read_iredadmin(tmp_path / "settings.py")


@pytest.mark.parametrize(
    "text, names",
    [
        ("x = 1", ["`backend`", "`vmail_db_password`"]),
        ("backend = 'mysql'", ["`vmail_db_password`"]),
        ("backend = 'pgsql'\nvmail_db_password = ''", ["`vmail_db_password`"]),
        ("vmail_db_password = 'x'", ["`backend`"]),
        ("backend = 'oracle'\nvmail_db_password = 'x'", ["`backend`", "oracle"]),
        (
            "backend = 'ldap'\nldap_uri = 'ldap://127.0.0.1'",
            ["`ldap_basedn`", "`ldap_bind_dn`", "`ldap_bind_password`"],
        ),
        ("backend = 'mysql'\nvmail_db_password = 'x'\nvmail_db_port = 'a'", ["`vmail_db_port`"]),
        ("backend = 'mysql'\nvmail_db_password = 'x'\nvmail_db_port = 70000", ["`vmail_db_port`"]),
        ("backend = 'mysql'\nvmail_db_password = ['x']", ["`vmail_db_password`"]),
    ],
)
def test_a_refusal_names_the_setting(source: Write, text: str, names: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        mapped(source(sample=text))
    for name in names:
        assert name in str(refused.value)


# Mapping


def test_mysql(source: Write) -> None:
    values = mapped(source())
    vmail = make_url(values["IREDAPI_VMAIL_URL"])
    assert (vmail.drivername, vmail.host, vmail.port) == ("mysql", "127.0.0.1", 3307)
    assert (vmail.username, vmail.password, vmail.database) == ("vmailadmin", PASSWORD, "vmail")
    assert make_url(values["IREDAPI_IREDADMIN_URL"]).password == "it's"
    # What is empty gets the default.
    assert values["IREDAPI_AMAVISD_URL"] == "mysql://amavisd:pw@127.0.0.1:3306/amavisd"
    assert values["IREDAPI_IREDAPD_URL"] == "mysql://iredapd:pw@10.0.0.7:3306/iredapd"
    assert values["IREDAPI_STORAGE_BASE_DIRECTORY"] == "/var/vmail/vmail1"
    assert values["IREDAPI_DEFAULT_TRANSPORT"] == "dovecot"
    assert values["IREDAPI_MIN_PASSWORD_LENGTH"] == "10"
    assert values["IREDAPI_MAX_PASSWORD_LENGTH"] == "0"
    assert values["IREDAPI_PASSWORD_SCHEME"] == "BCRYPT"
    assert values["IREDAPI_MLMMJADMIN_TOKEN"] == TOKEN
    assert values["IREDAPI_MLMMJADMIN_URL"] == "http://127.0.0.1:7790/api"


def test_postgresql_with_nothing_but_the_password() -> None:
    found = import_iredadmin.IredadminSettings(
        Path("x"), {"backend": "pgsql", "vmail_db_password": "x"}
    )
    values, warnings = import_iredadmin.configuration(found)
    assert values == {
        "IREDAPI_DATA_DIR": "/var/lib/iredapi",
        "IREDAPI_BACKEND": "sql",
        "IREDAPI_VMAIL_URL": "postgresql://vmailadmin:x@127.0.0.1:5432/vmail",
    }
    assert [line.split()[0] for line in warnings] == [
        "`amavisd_db_password`", "`iredapd_db_password`", "`iredadmin_db_password`",
    ]  # fmt: skip


# As on a server with OpenLDAP: what else there is, is in MariaDB.
LDAP_SAMPLE = """
backend = 'ldap'
ldap_uri = 'ldap://127.0.0.1:389'
ldap_basedn = 'o=domains,dc=example,dc=com'
ldap_domainadmin_dn = 'o=domainAdmins,dc=example,dc=com'
ldap_bind_dn = 'cn=vmailadmin,dc=example,dc=com'
ldap_bind_password = 'placeholder'
iredadmin_db_password = 'pw'
amavisd_db_password = 'pw'
iredapd_db_password = 'pw'
ldap_bind_password = "it's"
"""


def test_ldap(source: Write, tmp_path: Path) -> None:
    values = mapped(source(sample=LDAP_SAMPLE))
    assert values == {
        "IREDAPI_DATA_DIR": "/var/lib/iredapi",
        "IREDAPI_BACKEND": "ldap",
        "IREDAPI_LDAP_URI": "ldap://127.0.0.1:389",
        "IREDAPI_LDAP_BASE_DN": "o=domains,dc=example,dc=com",
        "IREDAPI_LDAP_ADMIN_BASE_DN": "o=domainAdmins,dc=example,dc=com",
        "IREDAPI_LDAP_BIND_DN": "cn=vmailadmin,dc=example,dc=com",
        "IREDAPI_LDAP_BIND_PASSWORD": "it's",
        "IREDAPI_AMAVISD_URL": "mysql://amavisd:pw@127.0.0.1:3306/amavisd",
        "IREDAPI_IREDAPD_URL": "mysql://iredapd:pw@127.0.0.1:3306/iredapd",
        "IREDAPI_IREDADMIN_URL": "mysql://iredadmin:pw@127.0.0.1:3306/iredadmin",
    }
    assert warned(source(sample=LDAP_SAMPLE)) == ""
    output = tmp_path / "iredapi.env"
    env_file.write(output, values)
    assert load(output).ldap_bind_password.get_secret_value() == "it's"


@pytest.mark.parametrize(
    "uri, ours",
    [
        ("ldaps://ldap.example.com", "ldap://ldap.example.com:389"),
        ("ldaps://127.0.0.1:636/", "ldap://127.0.0.1:389"),
        ("LDAPS://[::1]:636", "ldap://[::1]:389"),
    ],
)
def test_ldaps_is_unverified_starttls_for_iredadmin(source: Write, uri: str, ours: str) -> None:
    path = source(f"ldap_uri = '{uri}'", sample=LDAP_SAMPLE)
    values = mapped(path)
    assert values["IREDAPI_LDAP_URI"] == ours
    assert values["IREDAPI_LDAP_STARTTLS"] == "true"
    assert values["IREDAPI_LDAP_VERIFY"] == "false"
    assert "StartTLS" in warned(path)
    assert "IREDAPI_LDAP_CA_FILE" in warned(path)


def test_ldap_without_members_dns_and_without_an_address(source: Write) -> None:
    lines = ("ldap_uri = ''", "ldap_domainadmin_dn = ''", "LDAP_ADD_MEMBER_DN_TO_GROUP = False")
    values = mapped(source(*lines, sample=LDAP_SAMPLE))
    assert values["IREDAPI_LDAP_URI"] == "ldap://127.0.0.1:389"
    assert values["IREDAPI_LDAP_MEMBER_DNS"] == "false"
    assert "IREDAPI_LDAP_ADMIN_BASE_DN" not in values


@pytest.mark.parametrize("uri", ["ldapi:///", "127.0.0.1", "ldap://", "ldap://a b", "ldap://a:x"])
def test_an_ldap_address_that_is_none(source: Write, uri: str) -> None:
    with pytest.raises(ConfigurationError, match="`ldap_uri`"):
        mapped(source(f"ldap_uri = '{uri}'", sample=LDAP_SAMPLE))


@pytest.mark.parametrize(
    "backend, host, url",
    [
        ("pgsql", "::1", "postgresql://vmailadmin:x@[::1]:5432/vmail"),
        ("pgsql", "/run/postgresql", "postgresql://vmailadmin:x@/vmail?host=%2Frun%2Fpostgresql"),
        ("mysql", "/run/m.sock", "mysql://vmailadmin:x@/vmail?unix_socket=%2Frun%2Fm.sock"),
    ],
)
def test_hosts(backend: str, host: str, url: str) -> None:
    values = {"backend": backend, "vmail_db_password": "x", "vmail_db_host": host}
    found = import_iredadmin.IredadminSettings(Path("x"), values)
    assert import_iredadmin.configuration(found).values["IREDAPI_VMAIL_URL"] == url


def test_a_server_without_iredapd_or_amavisd(source: Write) -> None:
    values = mapped(
        source(
            "iredapd_enabled = False",
            "iredapd_db_host = None",
            "amavisd_enable_logging = False",
            "amavisd_enable_quarantine = False",
            "amavisd_enable_policy_lookup = False",
        )
    )
    assert "IREDAPI_IREDAPD_URL" not in values
    assert "IREDAPI_AMAVISD_URL" not in values


def test_options_that_an_administrator_adds(source: Write) -> None:
    values = mapped(
        source(
            "API_HIDDEN_USER_PROFILES = []",
            "API_HIDDEN_ADMIN_PROFILES = ['password', 'settings']",
            "SQL_TBL_USED_QUOTA = 'quota2'",
            "SET_PASSWORD_CHANGE_DATE_FOR_NEW_USER = False",
            "MAILDIR_HASHED = False",
            "PASSWORD_HAS_NUMBER = False",
            "password_has_letter = False",
            "RESTFUL_API_CLIENTS = ['10.0.0.1', '172.16.0.0/12', 'fd00::/8', '192.168', "
            "'10.1.1.4-7']",
            "MLMMJADMIN_API_BASE_URL = 'http://127.0.0.1:7791/api'",
        )
    )
    assert values["IREDAPI_HIDDEN_USER_FIELDS"] == ""
    assert values["IREDAPI_HIDDEN_ADMIN_FIELDS"] == "password,settings"
    assert values["IREDAPI_USED_QUOTA_TABLE"] == "quota2"
    assert values["IREDAPI_SET_PASSWORD_CHANGE_DATE"] == "false"
    assert values["IREDAPI_MAILDIR_HASHED"] == "false"
    assert values["IREDAPI_PASSWORD_HAS_NUMBER"] == "false"
    assert values["IREDAPI_PASSWORD_HAS_LETTER"] == "false"
    assert values["IREDAPI_ALLOWED_NETWORKS"] == (
        "10.0.0.1/32,172.16.0.0/12,fd00::/8,192.168.0.0/16,10.1.1.4/30"
    )
    assert values["IREDAPI_MLMMJADMIN_URL"] == "http://127.0.0.1:7791/api"


@pytest.mark.parametrize(
    "line",
    [
        "RESTFUL_API_CLIENTS = ['10.0.0.x']",
        "RESTFUL_API_CLIENTS = ['10.0.0.1/24']",
        "RESTFUL_API_CLIENTS = ['10.0.0.9-3']",
        "RESTFUL_API_CLIENTS = ['-']",
        "RESTFUL_API_CLIENTS = [1]",
        "RESTFUL_API_CLIENTS = clients()",
        "RESTFUL_API_CLIENTS = ['10.0.0.1']\nRESTFUL_API_CLIENTS += clients()",
    ],
)
def test_an_allow_list_that_is_not_understood_never_opens_the_api(source: Write, line: str) -> None:
    with pytest.raises(ConfigurationError, match="RESTFUL_API_CLIENTS"):
        mapped(source(line))


def test_an_unknown_scheme_keeps_the_default_and_says_so(source: Write) -> None:
    path = source("DEFAULT_PASSWORD_SCHEME = 'NTLM'")
    assert "IREDAPI_PASSWORD_SCHEME" not in mapped(path)
    assert "DEFAULT_PASSWORD_SCHEME" in warned(path)
    assert "NTLM" in warned(path)


def test_what_is_computed_is_told(source: Write) -> None:
    assert "`mailbox_format` in line" in warned(source("mailbox_format = gethostname()"))
    assert "webmaster" not in warned(source("webmaster = 'x' + y"))


def test_messages_hold_no_passwords(source: Write) -> None:
    path = source("DEFAULT_PASSWORD_SCHEME = 'NTLM'", "mailbox_format = gethostname()")
    assert PASSWORD not in warned(path)
    assert TOKEN not in warned(path)


# Writing


def systemd(text: str) -> dict[str, str]:
    """Read an EnvironmentFile as systemd does (``parse_env_file`` of its src/basic/env-file.c).

    In double quotes a backslash is taken away before ``"``, ``\\``, `````` and ``$`` only, before a
    newline both go; ``$`` is not expanded in an EnvironmentFile.
    """
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        if text[position] in "#;":
            position = text.index("\n", position) + 1
            continue
        if text[position] == "\n":
            position += 1
            continue
        equals = text.index("=", position)
        name, position = text[position:equals], equals + 1
        assert text[position] == '"', "we write double quotes only"
        position += 1
        value = ""
        while text[position] != '"':
            if text[position] == "\\":
                position += 1
                if text[position] not in '"\\`$\n':
                    value += "\\"
                if text[position] == "\n":
                    position += 1
                    continue
            value += text[position]
            position += 1
        assert text[position + 1] == "\n"
        values[name] = value
        position += 2
    return values


VALUE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30) | st.text(
    "\"'\\`${}#; =aHOME%n", max_size=30
)


@given(st.dictionaries(st.sampled_from(["IREDAPI_A", "IREDAPI_B", "IREDAPI_C"]), VALUE))
def test_systemd_and_dotenv_read_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]
) -> None:
    text = env_file.render(values, heading="Heading\nof \"two lines' $x")
    assert systemd(text) == values
    path = tmp_path_factory.mktemp("env") / "env"
    path.write_text(text, encoding="utf-8", newline="")
    assert dotenv_values(path, interpolate=False, encoding="utf-8") == values


@given(VALUE)
def test_the_settings_read_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, value: str
) -> None:
    path = tmp_path_factory.mktemp("env") / "env"
    text = env_file.render({"IREDAPI_ADMIN_PASSWORD": value, "IREDAPI_PORT": "81"})
    path.write_text(text, encoding="utf-8", newline="")
    settings = load(path)
    assert settings.admin_password.get_secret_value() == value
    assert settings.port == 81


@settings_of_hypothesis(deadline=None)
@given(password=VALUE.filter(bool))
def test_any_password_arrives_in_the_url(
    tmp_path_factory: pytest.TempPathFactory, password: str
) -> None:
    directory = tmp_path_factory.mktemp("env")
    (directory / "settings.py").write_text(
        f"backend = 'pgsql'\nvmail_db_password = {password!r}\n", encoding="utf-8"
    )
    env_file.write(directory / "env", mapped(directory / "settings.py"))
    assert make_url(load(directory / "env").urls()["vmail"]).password == password


def test_control_characters_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="IREDAPI_A"):
        env_file.render({"IREDAPI_A": "a\nb"})


def test_the_whole_way(source: Write, tmp_path: Path) -> None:
    values = mapped(source())
    output = tmp_path / "new" / "iredapi.env"
    env_file.write(output, values, heading="Written by a test")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert [path.name for path in output.parent.iterdir()] == ["iredapi.env"]
    assert systemd(output.read_text(encoding="utf-8")) == values
    settings = load(output)
    vmail = make_url(settings.urls()["vmail"])
    assert (vmail.drivername, vmail.password) == ("mysql+aiomysql", PASSWORD)
    assert settings.mlmmjadmin_token.get_secret_value() == TOKEN
    assert settings.password_scheme == "BCRYPT"
    assert not settings.embedded
    assert list(settings.urls()) == ["vmail", "amavisd", "iredapd", "iredadmin", "state"]


def test_every_name_that_is_written_is_a_setting(source: Write) -> None:
    names = {f"IREDAPI_{name.upper()}" for name in Settings.model_fields}
    ours = {
        *import_iredadmin._TEXTS.values(),
        *import_iredadmin._NUMBERS.values(),
        *import_iredadmin._SWITCHES.values(),
        *import_iredadmin._LISTS.values(),
    }
    assert {f"IREDAPI_{name}" for name in ours} <= names
    assert mapped(source("RESTFUL_API_CLIENTS = ['::1']")).keys() <= names
    lines = ("ldap_uri = 'ldaps://x'", "LDAP_ADD_MEMBER_DN_TO_GROUP = False")
    assert mapped(source(*lines, sample=LDAP_SAMPLE)).keys() <= names


def test_a_file_that_exists_stays_unless_forced(tmp_path: Path) -> None:
    output = tmp_path / "iredapi.env"
    output.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="--force"):
        env_file.write(output, {"IREDAPI_PORT": "1"})
    assert output.read_text(encoding="utf-8") == "mine"
    env_file.write(output, {"IREDAPI_PORT": "1"}, force=True)
    assert load(output).port == 1
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_the_file_of_a_package_is_replaced_and_its_group_may_read_on(tmp_path: Path) -> None:
    """It belongs to root and the group of the service."""
    output = tmp_path / "iredapi.env"
    output.write_text(f"# Settings.\n\n{env_file.PACKAGED}\n", encoding="utf-8")
    output.chmod(0o640)
    env_file.write(output, {"IREDAPI_PORT": "8001"})
    assert dotenv_values(output) == {"IREDAPI_PORT": "8001"}
    assert stat.S_IMODE(output.stat().st_mode) == 0o640
    with pytest.raises(ConfigurationError, match="--force"):
        env_file.write(output, {"IREDAPI_PORT": "8002"})


@pytest.mark.parametrize(
    "text", [b"export X=1", b"IREDAPI_PORT", b"IREDAPI_DATA_DIR=/srv", b"# \xff"]
)
def test_a_file_with_anything_else_stays(text: bytes, tmp_path: Path) -> None:
    output = tmp_path / "iredapi.env"
    output.write_bytes(text)
    with pytest.raises(ConfigurationError, match="--force"):
        env_file.write(output, {"IREDAPI_PORT": "8001"})
    assert output.read_bytes() == text


def test_a_configuration_that_the_server_refuses_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="IREDAPI_VMAIL_URL"):
        env_file.write(tmp_path / "iredapi.env", {"IREDAPI_VMAIL_URL": "oracle://x@y/z"})
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        env_file.write(tmp_path / "file" / "iredapi.env", {"IREDAPI_PORT": "1"})


def test_mailing_lists(source: Write) -> None:
    found = mapped(source())
    assert found["IREDAPI_MLMMJADMIN_URL"] == "http://127.0.0.1:7790/api"
    assert "IREDAPI_MLMMJADMIN_VERIFY_TLS" not in found
    lines = ("MLMMJADMIN_API_BASE_URL = 'https://lists.test/api'",
             "MLMMJADMIN_API_VERIFY_SSL = False", "MLMMJ_MTA_TRANSPORT_NAME = 'lists'")  # fmt: skip
    found = mapped(source(*lines))
    assert found["IREDAPI_MLMMJADMIN_URL"] == "https://lists.test/api"
    assert found["IREDAPI_MLMMJADMIN_VERIFY_TLS"] == "false"
    assert found["IREDAPI_MLMMJ_TRANSPORT"] == "lists"


# What is beside the file, and what is computed


MINIMUM = "backend = 'mysql'\nvmail_db_password = 'pw'\n"


@pytest.mark.parametrize(
    "lines",
    [
        "from custom_settings import *",
        "try:\n    from custom_settings import *\nexcept ImportError:\n    pass",
        "from custom_settings import *\nfrom custom_settings import RESTFUL_API_CLIENTS",
        "import os\nif True:\n    from custom_settings import *",
        "from libs.default_settings import *\nfrom local import *\nfrom custom_settings import *",
    ],
)
def test_modules_beside_the_file_are_read(source: Write, tmp_path: Path, lines: str) -> None:
    """In their order: the last assignment wins, wherever it stands."""
    (tmp_path / "custom_settings.py").write_text(
        "RESTFUL_API_CLIENTS = ['10.0.0.1']\nmin_passwd_length = 14\n"
        "DEFAULT_PASSWORD_SCHEME = 'BCRYPT'\nraise SystemExit('never executed')\n"
    )
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "__init__.py").write_text("RESTFUL_API_CLIENTS = ['10.9.9.9']\n")
    before = "RESTFUL_API_CLIENTS = []\nmin_passwd_length = 8\n"
    found = mapped(source(sample=f"{MINIMUM}{before}{lines}\n"))
    assert found["IREDAPI_ALLOWED_NETWORKS"] == "10.0.0.1/32"
    assert found["IREDAPI_MIN_PASSWORD_LENGTH"] == "14"
    assert found["IREDAPI_PASSWORD_SCHEME"] == "BCRYPT"
    after = mapped(source(sample=f"{MINIMUM}{lines}\nmin_passwd_length = 9\n"))
    assert after["IREDAPI_MIN_PASSWORD_LENGTH"] == "9"
    assert after["IREDAPI_ALLOWED_NETWORKS"] == "10.0.0.1/32"


@pytest.mark.parametrize(
    "lines, expected",
    [
        ("N = '10.0.0.'\nRESTFUL_API_CLIENTS = [N + '1', f'{N}2']", "10.0.0.1/32,10.0.0.2/32"),
        ("RESTFUL_API_CLIENTS = ['10.0.0.1'] + ['10.0.0.2']", "10.0.0.1/32,10.0.0.2/32"),
        ("RESTFUL_API_CLIENTS = []\nRESTFUL_API_CLIENTS += ('10.0.0.1',)", "10.0.0.1/32"),
        ("RESTFUL_API_CLIENTS = []\nRESTFUL_API_CLIENTS.append('10.0.0.1')", "10.0.0.1/32"),
        ("X = []\nRESTFUL_API_CLIENTS = X\nX.append('10.0.0.1')", "10.0.0.1/32"),
        ("RESTFUL_API_CLIENTS, y = ['10.0.0.1'], 2", "10.0.0.1/32"),
        ("RESTFUL_API_CLIENTS = ('10.0.0.1', '10.0.0.2')", "10.0.0.1/32,10.0.0.2/32"),
        ("if False:\n    RESTFUL_API_CLIENTS = []\nelse:\n    RESTFUL_API_CLIENTS = ['10.0.0.1']",
         "10.0.0.1/32"),
        ("try:\n    from no import *\nexcept ImportError:\n    RESTFUL_API_CLIENTS = '10.0.0.1'",
         "10.0.0.1/32"),
        # A restriction to nobody in particular is none to everybody.
        ("RESTRICT_API_ACCESS = True", "255.255.255.255/32"),
        ("RESTRICT_API_ACCESS = True\nRESTFUL_API_CLIENTS = []", "255.255.255.255/32"),
    ],
)  # fmt: skip
def test_what_can_be_computed_is(source: Write, lines: str, expected: str) -> None:
    path = source(sample=f"{MINIMUM}{lines}\n")
    assert mapped(path)["IREDAPI_ALLOWED_NETWORKS"] == expected
    assert ("nobody" in warned(path)) == expected.startswith("255")


LIST = "RESTFUL_API_CLIENTS = []\n"


@pytest.mark.parametrize(
    "lines",
    [
        "from custom_settings import *",  # not beside the file
        "from libs.more import *",
        "import os\nif os.path.exists('x'):\n    from custom_settings import *",
        "RESTFUL_API_CLIENTS = os.environ.get('CLIENTS', '').split()",
        "import os\nRESTFUL_API_CLIENTS = os.environ['CLIENTS']",
        "RESTFUL_API_CLIENTS = [clients()]",
        "RESTFUL_API_CLIENTS = f'{clients()}'",
        "RESTFUL_API_CLIENTS = open('clients').read()",
        f"{LIST}if production:\n    RESTFUL_API_CLIENTS = ['10.0.0.1']",
        f"{LIST}for x in y:\n    RESTFUL_API_CLIENTS.append(x)",
        f"{LIST}with a:\n    RESTFUL_API_CLIENTS = ['10.0.0.1']",
        f"{LIST}try:\n    RESTFUL_API_CLIENTS = ['10.0.0.1']\nexcept Exception:\n    pass",
        f"{LIST}RESTFUL_API_CLIENTS.append(clients())",
        f"{LIST}RESTFUL_API_CLIENTS += clients()",
        f"{LIST}RESTFUL_API_CLIENTS[:] = ['10.0.0.1']",
        f"{LIST}RESTFUL_API_CLIENTS.insert(0, '10.0.0.1')",
        f"{LIST}fill(RESTFUL_API_CLIENTS)",
        f"{LIST}def f():\n  global RESTFUL_API_CLIENTS\n  RESTFUL_API_CLIENTS = ['1.1.1.1']\nf()",
        f"{LIST}exec(open('custom_settings.py').read())",
        f"{LIST}globals().update(RESTFUL_API_CLIENTS=['10.0.0.1'])",
        "from absent import RESTFUL_API_CLIENTS",
        "RESTFUL_API_CLIENTS = ['']",
        "import os\nRESTRICT_API_ACCESS = os.environ.get('X') == 'yes'",
        "import os\nmin_passwd_length = int(os.environ['LENGTH'])",
        "DEFAULT_PASSWORD_SCHEME = scheme()",
        "API_HIDDEN_USER_PROFILES = hidden()",
        "require_domain_ownership_verification = ask()",
        "import os\nvmail_db_host = os.environ['SQL_HOST']",
        "from custom_settings import vmail_db_name",
    ],
)
def test_what_cannot_be_known_is_never_the_more_open_reading(source: Write, lines: str) -> None:
    path = source(sample=f"{MINIMUM}{lines}\n")
    with pytest.raises(ConfigurationError, match=r"settings\.py: .*line|settings\.py: `REST|func"):
        mapped(path)


def test_an_unreadable_module_is_named_and_nothing_of_it_is_shown(
    source: Write, tmp_path: Path
) -> None:
    (tmp_path / "custom_settings.py").write_text("this is no Python s3cret\n")
    with pytest.raises(ConfigurationError, match=r"custom_settings\.py: not a Python file") as no:
        mapped(source(sample=f"{MINIMUM}from custom_settings import *\n"))
    assert "s3cret" not in str(no.value)


def test_modules_in_a_circle(source: Write, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("from two import *\n")
    (tmp_path / "two.py").write_text("from one import *\n")
    with pytest.raises(ConfigurationError, match="circle"):
        mapped(source(sample=f"{MINIMUM}from one import *\n"))


def test_a_database_at_an_unknown_place_is_not_used(source: Write) -> None:
    path = source("import os", "amavisd_db_host = os.environ['SQL_HOST']")
    assert "IREDAPI_AMAVISD_URL" not in mapped(path)
    assert "amavisd" in warned(path)


def test_nginx_of_the_same_host_is_trusted(
    source: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_iredadmin, "NGINX", (tmp_path / "nginx",))
    assert "IREDAPI_TRUSTED_PROXIES" not in mapped(source())
    (tmp_path / "nginx" / "templates").mkdir(parents=True)
    template = tmp_path / "nginx" / "templates" / "iredadmin.tmpl"
    template.write_text("location ~ ^/iredadmin(.*) {\n    uwsgi_pass 127.0.0.1:7791;\n}\n")
    assert mapped(source())["IREDAPI_TRUSTED_PROXIES"] == "127.0.0.1,::1"


def test_what_will_be_501_and_what_comes_next_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"IREDAPI_VMAIL_URL": "x", "IREDAPI_IREDAPD_URL": "x"}
    said = "\n".join(import_iredadmin.not_served(values))
    assert "/api/ml)" in said
    assert "IREDAPI_AMAVISD_URL" in said
    assert "IREDAPI_IREDAPD_URL" not in said
    monkeypatch.setattr(import_iredadmin, "PACKAGED_UNIT", Path("/no/such.service"))
    steps = "\n".join(import_iredadmin.next_steps(Path("/x.env"), values))
    for word in (
        "chown",
        "doctor --env-file /x.env",
        "systemctl",
        "nginx",
        "TRUSTED",
        "admin create",
    ):
        assert word in steps


def test_the_next_steps_after_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = tmp_path / "iredapi.service"
    unit.touch()
    monkeypatch.setattr(import_iredadmin, "PACKAGED_UNIT", unit)
    steps = "\n".join(import_iredadmin.next_steps(Path("/etc/iredapi/iredapi.env"), {}))
    assert "systemctl enable --now iredapi" in steps
    assert "/usr/share/doc/iredapi/examples/nginx.conf" in steps
    for word in ("chown", "cp ", "deploy/"):
        assert word not in steps
