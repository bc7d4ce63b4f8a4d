"""The commands as an administrator types them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.engine import make_url
from typer.testing import CliRunner, Result

from iredapi import __version__
from iredapi.cli.commands import app
from iredapi.concurrency.ttl_cache import SECONDS
from tests.clients import PASSWORD, ROOT
from tests.servers.api import COMMAND, ApiProcess, add_root, environment, running
from tests.servers.store import Store


def iredapi(
    *arguments: str, given: Mapping[str, str] | None = None, cwd: Path, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=environment(**(given or {})), input=typed,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def post(api: ApiProcess, path: str, **form: str) -> Any:
    return httpx.post(f"{api.address}/api/{path}", data=form, timeout=60, trust_env=False).json()


@contextmanager
def login(api: ApiProcess, username: str, password: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{api.address}/api/", timeout=60, trust_env=False) as client:
        answer = client.post("login", data={"username": username, "password": password}).json()
        assert answer == {"_success": True}
        yield client


def in_process(*arguments: str, typed: str = "") -> Result:
    """Run a command that ends soon, without the second that Python needs to start.

    In a thread of its own, because it may have an event loop of its own.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(CliRunner().invoke, app, list(arguments), typed).result(timeout=60)


def _alive(client: httpx.Client) -> bool:
    time.sleep(0.05)
    try:
        client.get("domains")
    except httpx.TransportError:
        return False
    return True


# serve -------------------------------------------------------------------------------------------


def test_embedded_default(tmp_path: Path) -> None:
    """No configuration at all; the second start keeps the data and shows no password."""
    with running({}, directory=tmp_path) as api:
        assert api.address.startswith("http://127.0.0.1:")
        assert f"API documentation: {api.address}/docs" in api.output
        admin = re.search(r"First admin: (\S+)", api.output)
        password = re.search(r"it cannot be printed again\): (\S+)", api.output)
        assert admin
        assert password
        assert len(password[1]) >= 20
        with login(api, admin[1], password[1]) as client:
            assert client.post("domain/ex.com").json()["_success"]
            user = {"password": PASSWORD}
            assert client.post("user/u@ex.com", data=user).json()["_success"]
        page = httpx.get(f"{api.address}/docs", trust_env=False)
        assert page.status_code == 200
    data = tmp_path / "data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for name in ("vmail", "amavisd", "iredapd", "iredadmin", "state"):
        assert (data / f"{name}.db").is_file()
        assert stat.S_IMODE((data / f"{name}.db").stat().st_mode) & 0o007 == 0
    secret = password[1]
    with running({}, directory=tmp_path) as api:
        assert secret not in api.output
        assert "it cannot be printed again" not in api.output
        with login(api, admin[1], secret) as client:
            assert client.get("user/u@ex.com").json()["_data"]["username"] == "u@ex.com"
            os.kill(api.pid, signal.SIGTERM)
            assert any(not _alive(client) for _ in range(400))


CANARY = "C4nary-Secret"


@pytest.fixture(scope="module")
def chief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """A talkative server with settings of its own."""
    directory = tmp_path_factory.mktemp("chief")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    given = {
        "IREDAPI_PORT": str(port),
        "IREDAPI_DATA_DIR": str(directory / "elsewhere" / "deep"),
        "IREDAPI_ADMIN": "chief@corp.test",
        "IREDAPI_ADMIN_PASSWORD": CANARY,
        "IREDAPI_LOG_LEVEL": "DEBUG",
    }
    with running(given, directory=directory) as api:
        assert api.address == f"http://127.0.0.1:{port}"
        yield api


def test_settings_are_used(chief: ApiProcess) -> None:
    assert "chief@corp.test" in chief.output
    with login(chief, "chief@corp.test", CANARY) as client:
        assert client.get("domains").status_code == 200
    assert (chief.directory / "elsewhere" / "deep" / "vmail.db").is_file()
    assert not (chief.directory / "data").exists()


def test_port_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = in_process("serve", "--port", str(port))
    assert done.exit_code == 2
    assert f"port {port}" in done.stderr
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "data").glob("*.db"))


@pytest.mark.parametrize(
    "given, words",
    [
        ({"IREDAPI_PORT": "many"}, ["IREDAPI_PORT"]),
        ({"IREDAPI_PORT": "70000"}, ["IREDAPI_PORT"]),
        ({"IREDAPI_WORKERS": "2"}, ["IREDAPI_WORKERS", "PostgreSQL"]),
        ({"IREDAPI_VMAIL_URL": "oracle://u:s3cret@h/x"}, ["IREDAPI_VMAIL_URL", "postgresql"]),
        ({"IREDAPI_VMAIL_URL": "s3cret nonsense"}, ["IREDAPI_VMAIL_URL"]),
        ({"IREDAPI_STATE_URL": "mongodb://u:s3cret@h/x"}, ["IREDAPI_STATE_URL"]),
        ({"IREDAPI_ALLOWED_NETWORKS": "10.0.0.0/33"}, ["IREDAPI_ALLOWED_NETWORKS"]),
        ({"IREDAPI_TRUSTED_PROXIES": "proxy"}, ["IREDAPI_TRUSTED_PROXIES"]),
        ({"IREDAPI_LOG_LEVEL": "LOUD"}, ["IREDAPI_LOG_LEVEL"]),
        ({"IREDAPI_PASSWORD_SCHEME": "ROT13"}, ["IREDAPI_PASSWORD_SCHEME", "BCRYPT"]),
        ({"IREDAPI_PREFIXES": "api"}, ["IREDAPI_PREFIXES"]),
        ({"IREDAPI_HOST": "no.such.host.invalid"}, ["IREDAPI_HOST"]),
        ({"IREDAPI_HOST": "192.0.2.1"}, ["IREDAPI_HOST"]),
        ({"IREDAPI_BODY_LIMIT": "-1"}, ["IREDAPI_BODY_LIMIT"]),
        ({"IREDAPI_ALWAYS_200": "perhaps"}, ["IREDAPI_ALWAYS_200"]),
        ({"IREDAPI_BACKEND": "nis"}, ["IREDAPI_BACKEND"]),
        ({"IREDAPI_ADMIN": "nobody"}, ["IREDAPI_ADMIN"]),
        ({"IREDAPI_ADMIN_PASSWORD": "s3cret"}, ["IREDAPI_ADMIN_PASSWORD"]),
        ({"IREDAPI_DATA_DIR": "/proc/nothing"}, ["IREDAPI_DATA_DIR"]),
    ],
    ids=lambda value: "=".join(*value.items()) if isinstance(value, dict) else "",
)
def test_wrong_settings_are_named(
    given: dict[str, str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name, and what is wrong: one sentence, no traceback, no secret."""
    monkeypatch.chdir(tmp_path)
    for name, value in ({"IREDAPI_PORT": "0"} | given).items():
        monkeypatch.setenv(name, value)
    done = in_process("serve")
    assert done.exit_code in {1, 2, 3}, done
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) < 6
    assert "listens on" not in done.stdout


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """A sentence and nothing more; a thread of the driver must not complain behind our back."""
    given = {"IREDAPI_PORT": "0", "IREDAPI_VMAIL_URL": "sqlite:////nowhere/vmail.db"}
    for _ in range(4):
        done = iredapi("serve", given=given, cwd=tmp_path)
        assert done.returncode in {2, 3}
        assert "IREDAPI_VMAIL_URL" in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_env_file_and_options(tmp_path: Path) -> None:
    """Options win over the environment, that over the file."""
    env = tmp_path / "my.env"
    env.write_text(
        f"# comment\nIREDAPI_DATA_DIR={tmp_path / 'fromfile'}\nIREDAPI_ADMIN='file@corp.test'\n"
        'IREDAPI_ADMIN_PASSWORD="Fil3 Password-$x"\nIREDAPI_PORT=1\nIREDAPI_WORKERS=2\n'
    )
    given = {"IREDAPI_PORT": "2", "IREDAPI_HOST": "192.0.2.1", "IREDAPI_WORKERS": "1"}
    words = ("--env-file", str(env), "--port", "0", "--host", "127.0.0.1")
    with (
        running(given, arguments=words, directory=tmp_path) as api,
        login(api, "file@corp.test", "Fil3 Password-$x") as client,
    ):
        assert client.get("domains").status_code == 200
    assert (tmp_path / "fromfile" / "vmail.db").is_file()
    missing = in_process("serve", "--env-file", str(tmp_path / "none"))
    assert missing.exit_code == 2
    assert "no such file" in missing.stderr


def test_lesson_35_output_of_a_talkative_server(chief: ApiProcess) -> None:
    """Credentials in queries, bodies and headers are in no line that the process prints."""
    good = {"username": "chief@corp.test", "password": CANARY}
    with httpx.Client(base_url=f"{chief.address}/api/", timeout=60, trust_env=False) as client:
        assert client.post("login", params=good).json()["_success"]
        assert client.post("domain/ex.com").json()["_success"]
        assert client.post("user/u@ex.com", params={"password": CANARY}).json()["_success"]
        client.put("user/u@ex.com", json={"password": CANARY + "-2"})
        client.put("user/u@ex.com", content=b'{"password": "' + CANARY.encode())
        client.get("nothing", params=good, headers={"Authorization": f"Bearer {CANARY}"})
        client.post("login", data=good | {"password": CANARY + "x"})
        session = client.cookies["iredapi_session"]
    with socket.create_connection(("127.0.0.1", port_of(chief))) as raw:
        raw.sendall(f"GET /api/x?password={CANARY} HTTP/1.1\r\nbroken {CANARY}\r\n\r\n".encode())
        raw.settimeout(10)
        answer = raw.recv(4096)
    assert CANARY.encode() not in answer
    time.sleep(0.2)
    output = chief.output
    assert '"request"' in output
    assert CANARY not in output
    assert session not in output
    assert "{SSHA512}" not in output


def port_of(api: ApiProcess) -> int:
    return int(api.address.rpartition(":")[2])


def test_hostile_requests_on_the_socket(chief: ApiProcess) -> None:
    """The server below us answers on its own when HTTP itself is broken; it stays up."""
    for request in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/domains HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab",
        b"POST /api/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/domains HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * 200_000 + b"\r\n\r\n",
    ):
        with (
            socket.create_connection(("127.0.0.1", port_of(chief)), timeout=10) as raw,
            suppress(OSError),
        ):
            raw.sendall(request)
            raw.shutdown(socket.SHUT_WR)
            raw.recv(4096)
    assert post(chief, "logout") == {"_success": True}
    assert "Traceback" not in chief.output


@pytest.mark.stores("postgresql", "mariadb")
async def test_login_is_valid_on_every_worker(store: Store, api: ApiProcess) -> None:
    """And over a second after the logout, on every worker."""
    answers: list[int] = []
    with login(api, ROOT, PASSWORD) as client:
        cookies = dict(client.cookies)
        for _ in range(2):
            for _ in range(20):
                # A connection each, so that both workers are asked.
                async with httpx.AsyncClient(verify=False, cookies=cookies) as other:  # noqa: S501
                    answers.append((await other.get(f"{api.address}/api/domains")).status_code)
            client.post("logout")
            await asyncio.sleep(SECONDS)
    assert answers == [200] * 20 + [401] * 20


# openapi -----------------------------------------------------------------------------------------


def test_openapi(tmp_path: Path) -> None:
    """It needs no server, no database, and makes no file."""
    done = iredapi("openapi", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    document = json.loads(done.stdout)
    assert document["openapi"].startswith("3.1")
    ids = [op["operationId"] for verbs in document["paths"].values() for op in verbs.values()]
    assert len(ids) == len(set(ids)) >= 28


# admin -------------------------------------------------------------------------------------------


def test_admin_create_and_password(tmp_path: Path) -> None:
    """Also while the server runs."""
    with running({"IREDAPI_ADMIN_PASSWORD": PASSWORD}, directory=tmp_path) as api:
        words = ("admin", "create", "New@Corp.test", "--global", "--password", PASSWORD)
        done = iredapi(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        with login(api, "new@corp.test", PASSWORD) as client:
            profile = client.get("admin/new@corp.test").json()
            assert profile["_success"], profile
            assert profile["_data"]["isglobaladmin"] == 1
            # Not given: read from standard input; all sessions end.
            done = iredapi(
                "admin", "password", "new@corp.test", cwd=tmp_path, typed="N3w-Password\n"
            )
            assert done.returncode == 0, done.stderr
            time.sleep(SECONDS)  # another process may believe for so long what it has read
            assert client.get("domains").status_code == 401
        with login(api, "new@corp.test", "N3w-Password"):
            pass
        done = iredapi("admin", "create", "normal@corp.test", cwd=tmp_path, typed=f"{PASSWORD}\n")
        assert done.returncode == 0, done.stderr
        with login(api, "normal@corp.test", PASSWORD) as client:
            assert client.get("admin/normal@corp.test").status_code == 403


@pytest.mark.parametrize(
    "arguments, typed, word",
    [
        (("create", "nobody"), PASSWORD, "INVALID_MAIL"),
        (("create", "x@corp.test", "--password", "short"), "", "PW_SHORTER_THAN_MIN_LENGTH"),
        (("create", "x@corp.test"), "", "password"),
        (("password", "nobody@corp.test", "--password", PASSWORD), "", "NO_SUCH_ACCOUNT"),
        (("create",), "", "mail"),
    ],
)
def test_admin_errors(
    arguments: tuple[str, ...],
    typed: str,
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = in_process("admin", *arguments, typed=typed)
    assert done.exit_code in {1, 2}
    assert word in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr


# init --------------------------------------------------------------------------------------------


def settings_py(store: Store) -> str:
    """iRedAdmin's settings for a store's databases, as the installer leaves them."""
    kind = {"postgresql": "pgsql", "mariadb": "mysql"}[store.name]
    lines = [
        "# Settings of the panel.",
        "from libs.default_settings import *",
        "",
        "webmaster = 'postmaster@example.com'",
        f"backend = '{kind}'",
        "storage_base_directory = '/var/vmail/vmail1'",
        "default_mta_transport = 'dovecot'",
        "min_passwd_length = 8",
        "max_passwd_length = 0",
        "mlmmjadmin_api_auth_token = ''",
        "amavisd_enable_logging = True",
        "amavisd_enable_quarantine = True",
        "amavisd_quarantine_port = 9998",
        "amavisd_enable_policy_lookup = True",
        "iredapd_enabled = True",
        "fail2ban_enabled = False",
        "vmail_db_password = 'the last one wins'",
    ]
    for number, (name, url) in enumerate(store.urls().items()):
        if name == "state":
            continue
        parsed = make_url(url)
        # Ports come as numbers and as texts, values in either kind of quotes.
        port = f"'{parsed.port}'" if number % 2 else str(parsed.port)
        lines += [
            f'{name}_db_host = "{parsed.host}"',
            f"{name}_db_port = {port}",
            f"{name}_db_name = '{parsed.database}'",
            f"{name}_db_user = '{parsed.username}'",
            f'{name}_db_password = "{parsed.password}"',
        ]
    lines += [
        "DEFAULT_PASSWORD_SCHEME = 'BCRYPT'",
        "mlmmjadmin_api_auth_token = 'token'",
        "raise SystemExit('never executed')",
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.stores("postgresql", "mariadb")
async def test_init_from_iredadmin(store: Store, tmp_path: Path) -> None:
    """From iRedAdmin's file to a login and a new user whose hash has iRedAdmin's scheme."""
    source = tmp_path / "settings.py"
    source.write_text(settings_py(store))
    source.chmod(0o400)
    env = tmp_path / "etc" / "iredapi.env"
    env.parent.mkdir()
    words = ("init", "--from-iredadmin", str(source), "--output", str(env))
    done = iredapi(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for url in store.urls().values():
        assert str(make_url(url).password) not in done.stdout + done.stderr
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    text = env.read_text()
    again = in_process(*words)
    assert (again.exit_code, "--force" in again.stderr) == (2, True)
    assert env.read_text() == text

    await add_root(store)
    given = {"IREDAPI_DATA_DIR": str(tmp_path / "state")}
    with running(given, arguments=("--env-file", str(env)), directory=tmp_path) as api:
        assert "First admin" not in api.output
        with login(api, ROOT, PASSWORD) as client:
            assert client.post("domain/ex.com").json()["_success"]
            answer = client.post("user/u@ex.com", data={"password": PASSWORD}).json()
            assert answer == {"_success": True}
            assert client.get("spampolicy/global").status_code == 200
    rows = await store.rows("SELECT password FROM mailbox WHERE username = 'u@ex.com'")
    assert rows[0]["password"].startswith("{CRYPT}$2b$")
    log = await store.rows("SELECT event FROM log ORDER BY id", "iredadmin")
    assert [row["event"] for row in log][:2] == ["login", "create"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ["backend", "vmail_db_password"]),
        ("backend = 'mysql'\n", ["vmail_db_password"]),
        ("vmail_db_password = 's3cret'\n", ["backend"]),
        ("backend = 'oracle'\nvmail_db_password = 's3cret'\n", ["backend"]),
        ("this is no Python s3cret\n", ["not a Python file"]),
        ("\x00\x01s3cret", ["not a Python file"]),
        (None, ["settings.py"]),
    ],
)
def test_init_refuses_what_is_no_settings_file(
    text: str | None, words: list[str], tmp_path: Path
) -> None:
    source = tmp_path / "settings.py"
    if text is not None:
        source.write_text(text)
    env = tmp_path / "iredapi.env"
    done = in_process("init", "--from-iredadmin", str(source), "--output", str(env))
    assert done.exit_code == 2
    for word in words:
        assert word in done.stderr
    assert "s3cret" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not env.exists()


async def test_init_by_options(tmp_path: Path) -> None:
    env = tmp_path / "iredapi.env"
    url = f"sqlite:///{tmp_path / 'vmail.db'}"
    done = in_process("init", "--vmail-url", url, "--output", str(env))
    assert done.exit_code == 0, done.stderr
    assert url in env.read_text()
    nothing = in_process("init", "--output", str(tmp_path / "other"))
    assert nothing.exit_code == 2
    assert "--from-iredadmin" in nothing.stderr


def test_help() -> None:
    for words in ((), ("serve",), ("init",), ("admin",), ("admin", "create"), ("openapi",)):
        done = in_process(*words, "--help")
        assert done.exit_code == 0
        assert "Usage" in done.stdout


def test_version() -> None:
    done = in_process("--version")
    assert (done.exit_code, done.stdout) == (0, f"iredapi {__version__}\n"), done.stderr


def test_version_needs_neither_settings_nor_packages(tmp_path: Path) -> None:
    """Also where settings are wrong; it is asked often, and must not import what others need."""
    (tmp_path / ".env").write_text("IREDAPI_PORT=none\nIREDAPI_NOTHING=1\n")
    done = subprocess.run(
        [COMMAND[0], "-X", "importtime", *COMMAND[1:], "--version"],
        cwd=tmp_path,
        env=environment(IREDAPI_PORT="none", IREDAPI_ENV_FILE=str(tmp_path / ".env")),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"iredapi {__version__}\n"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "iredapi.cli" in imported
    assert not imported & {"typer", "click", "pydantic", "sqlalchemy", "asyncio", "json"}
