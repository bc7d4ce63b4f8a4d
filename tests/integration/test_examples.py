"""The requests of the published examples, of the README and of docs/clients.md work as they stand.

Legacy names on purpose: this is what people have copied into their scripts since 2016.
"""

from __future__ import annotations

import http.cookiejar
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients import PASSWORD, ROOT
from tests.servers.api import ApiProcess
from tests.servers.store import Store

README = Path(__file__).parents[2] / "README.md"
Answer = dict[str, Any]
Send = Callable[..., Answer]
Client = Callable[[str, str, Path], Send]
"""``send(method, path, *words)``: words are "name=value" as they stand after ``-d``."""

VARIANTS = [
    pytest.param(mount, slash, id=f"{mount[1:].replace('/', '-')}{'-slash' if slash else ''}")
    for mount in ("/api", "/iredadmin/api")
    for slash in ("", "/")
]


def curl(base: str, slash: str, cookies: Path) -> Send:
    """curl with a cookie file. It says so when the answer was a redirect or was no JSON."""

    def send(method: str, path: str, *words: str, more: tuple[str, ...] = ()) -> Answer:
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "60"]
        # Both, as the examples do: -b reads the file, -c writes it.
        command += ["-b", str(cookies), "-c", str(cookies)]
        command += ["-X", method, *more]
        for word in words:
            command += ["-d", word]
        command += ["-w", "\n%{http_code} %{content_type}", f"{base}{path}{slash}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90)
        body, _, trailer = done.stdout.rpartition("\n")
        assert trailer == "200 application/json", done.stdout
        answer: Answer = json.loads(body)
        return answer

    return send


def python_requests(base: str, slash: str, cookies: Path) -> Send:
    """requests with ``cookies=``, as the examples do; the cookies survive in a file."""
    jar = http.cookiejar.LWPCookieJar(str(cookies))

    def send(method: str, path: str, *words: str, more: tuple[str, ...] = ()) -> Answer:
        if cookies.exists():
            jar.load(ignore_discard=True)
        form = dict(word.split("=", 1) for word in words)
        response = requests.request(
            method, f"{base}{path}{slash}", data=form or None, cookies=jar,
            timeout=60, allow_redirects=False, proxies={"http": ""},
        )  # fmt: skip
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        if path == "/login":
            for cookie in response.cookies:
                jar.set_cookie(cookie)
            jar.save(ignore_discard=True)
        answer: Answer = response.json()
        return answer

    return send


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("client", [curl, python_requests])
@pytest.mark.parametrize("mount, slash", VARIANTS)
async def test_lesson_49_published_examples(
    store: Store, api: ApiProcess, tmp_path: Path, client: Client, mount: str, slash: str
) -> None:
    await work_through(store, client(f"{api.address}{mount}", slash, tmp_path / "cookies"), client)
    assert "iredapi_session" in (tmp_path / "cookies").read_text()


@pytest.mark.stores("postgresql", "mariadb")
@pytest.mark.parametrize(
    "client, mount, slash",
    [
        pytest.param(curl, "/iredadmin/api", "", id="curl"),
        pytest.param(curl, "/api", "/", id="curl-slash"),
        pytest.param(python_requests, "/api", "", id="requests"),
        pytest.param(python_requests, "/iredadmin/api", "/", id="requests-slash"),
    ],
)
async def test_published_examples_on_servers(
    store: Store, api: ApiProcess, tmp_path: Path, client: Client, mount: str, slash: str
) -> None:
    await work_through(store, client(f"{api.address}{mount}", slash, tmp_path / "cookies"), client)


@pytest.mark.stores("sqlite", "openldap")
def test_examples_of_the_readme(api: ApiProcess, tmp_path: Path) -> None:
    """The shell commands of the section "Examples" of README.md succeed as they are written."""
    section = README.read_text(encoding="utf-8").split("\n## Examples\n")[1].split("\n## ")[0]
    commands = section.split("```sh\n")[1].split("```")[0]
    assert "http://127.0.0.1:8000/api" in commands
    script = (
        "curl() { command curl -s --noproxy '*' --max-time 60 -w '\\n%{http_code}\\n' \"$@\"; }\n"
        f"curl -c cookies -d username={ROOT} -d password={PASSWORD} {api.address}/api/login\n"
        f"curl -b cookies -X POST {api.address}/api/domain/example.com\n"
        + commands.replace("http://127.0.0.1:8000", api.address)
    )
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=90,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    sent = [line for line in script.splitlines() if line.startswith("curl -")]
    assert [line for line in lines if re.fullmatch("[0-9]{3}", line)] == ["200"] * len(sent)
    assert sum('"_changed":[]' in line for line in lines) == 0, lines
    assert "mail,domain,status,quota" in done.stdout


@pytest.mark.stores("sqlite", "openldap")
def test_the_client_without_a_generator(api: ApiProcess, tmp_path: Path) -> None:
    """The program of docs/clients.md makes a user, reads the list, and is told of a refusal."""
    page = README.with_name("docs").joinpath("clients.md").read_text(encoding="utf-8")
    program = page.split("```python\n")[1].split("```")[0]
    assert "https://mail.example.com/" in program
    session = requests.Session()
    session.trust_env = False
    for path, form in (
        ("login", {"username": ROOT, "password": PASSWORD}),
        ("domain/example.com", {}),
        ("user/bob@example.com", {"password": PASSWORD, "quota": "5"}),
        ("tokens", {"label": "client"}),
    ):
        answer = session.post(f"{api.address}/api/{path}", data=form, timeout=60).json()
        assert answer["_success"], answer
    token = answer["_data"]["token"]
    (tmp_path / "client.py").write_text(
        f"TOKEN, PASSWORD = {token!r}, {PASSWORD!r}\n"
        + program.replace("https://mail.example.com/", f"{api.address}/").replace(
            "timeout=90", "timeout=90, trust_env=False"
        )
        + "\ntry:\n    call('POST', 'user/bob@example.com', json={'password': PASSWORD})\n"
        "except Refused as refused:\n    print(refused.args[0])\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "client.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    lines = ["alice@example.com 1024", "bob@example.com 5", "ALREADY_EXISTS"]
    assert (done.returncode, done.stdout.splitlines()) == (0, lines), done.stderr


async def work_through(store: Store, raw: Send, client: Client) -> None:
    """All the examples, in one history."""

    def send(method: str, path: str, *words: str, more: tuple[str, ...] = ()) -> Any:
        answer = raw(method, path, *words, more=more)
        assert answer["_success"] is True, answer
        return answer.get("_data")

    # 1: the login, and a cookie that a later process reads from the file.
    send("POST", "/login", f"username={ROOT}", f"password={PASSWORD}")

    # 2, 3: domains.
    send("POST", "/domain/example.com", "cn=ABC Inc.", "quota=20480")
    domain = send("GET", "/domain/example.com")
    assert (domain["description"], domain["maxquota"]) == ("ABC Inc.", 20480)
    send("POST", "/domain/test.com", "defaultQuota=1024")
    assert send("GET", "/domain/test.com")["settings"] == {"default_user_quota": 1024}

    # 4: a user, with an unencoded blank.
    send(
        "POST", "/user/zhang@example.com",
        "password=A@StrongPassword2", "cn=Zhang Huangbin", "mailQuota=1024",
    )  # fmt: skip
    user = send("GET", "/user/zhang@example.com")
    assert (user["name"], user["quota"]) == ("Zhang Huangbin", 1024)
    send("POST", "/verify_password/user/zhang@example.com", "password=A@StrongPassword2")

    # 5: all the legacy names at once.
    send(
        "POST", "/user/zhb@test.com",
        "cn=Zhang Huangbin", "password=WHDZ2@5yxORvVqzY", "preferredLanguage=zh_CN",
        "mailQuota=2048",
    )  # fmt: skip
    user = send("GET", "/user/zhb@test.com")
    assert (user["language"], user["quota"]) == ("zh_CN", 2048)

    # 6, 7: updates; a name that is not ASCII, URL-encoded.
    send("PUT", "/user/zhang@example.com", "cn=John Smith", "mailQuota=2048")
    user = send("GET", "/user/zhang@example.com")
    assert (user["name"], user["quota"]) == ("John Smith", 2048)
    if client is curl:
        send("PUT", "/user/zhang@example.com", more=("--data-urlencode", "cn=Jørn"))
    else:
        send("PUT", "/user/zhang@example.com", "cn=Jørn")
    assert send("GET", "/user/zhang@example.com")["name"] == "Jørn"

    # 8: new names beside old ones.
    send(
        "PUT", "/user/zhb@test.com",
        "cn=Zhang", "password=WHDZ2@5yxORvVqzYY", "transport=dovecot", "language=en_US",
        "quota=2048",
    )  # fmt: skip
    user = send("GET", "/user/zhb@test.com")
    assert (user["name"], user["transport"], user["language"]) == ("Zhang", "dovecot", "en_US")
    send("POST", "/verify_password/user/zhb@test.com", "password=WHDZ2@5yxORvVqzYY")

    # 9: an alias.
    send("POST", "/alias/sales@example.com", "cn=My Alias")
    assert send("GET", "/alias/sales@example.com")["name"] == "My Alias"

    # A large body: curl asks first whether it may send it.
    members = ",".join(f"member{number}@gmail.com" for number in range(60_000 // 20))
    expecting = ("-H", "Expect: 100-continue") if client is curl else ()
    send("PUT", "/alias/sales@example.com", f"members={members}", more=expecting)
    assert len(send("GET", "/alias/sales@example.com")["members"]) == 3000

    # 11: deletions, without a body.
    send("DELETE", "/user/zhang@example.com")
    send("DELETE", "/user/zhb@test.com")
    send("DELETE", "/alias/sales@example.com")
    send("DELETE", "/domain/example.com")
    send("DELETE", "/domain/test.com")
    assert send("GET", "/domains") == []
    assert await store.rows("SELECT username FROM mailbox") == []


@pytest.mark.stores("sqlite")
async def test_one_cookie_file_for_both_mounts(
    store: Store, api: ApiProcess, tmp_path: Path
) -> None:
    """The cookie's path covers both mounts; curl does not send it to a path that it does not."""
    cookies = tmp_path / "cookies"
    login = curl(f"{api.address}/iredadmin/api", "", cookies)
    assert login("POST", "/login", f"username={ROOT}", f"password={PASSWORD}")["_success"]
    other = curl(f"{api.address}/api", "", cookies)
    assert other("GET", "/domains") == {"_success": True, "_data": []}


@pytest.mark.stores("sqlite")
async def test_no_body_no_type_no_length(store: Store, api: ApiProcess, tmp_path: Path) -> None:
    """``curl -X POST`` without ``-d`` sends neither; a header that is removed neither."""
    send = curl(f"{api.address}/api", "", tmp_path / "cookies")
    send("POST", "/login", f"username={ROOT}", f"password={PASSWORD}")
    bare = ("-H", "Content-Type:", "-H", "Content-Length:")
    assert send("POST", "/domain/ex.com", more=bare)["_success"]
    assert send("POST", "/alias/a@ex.com", more=bare)["_success"]
    assert send("POST", "/alias/a@ex.com/change_email/b@ex.com", more=bare)["_success"]
    assert send("PUT", "/alias/b@ex.com/change_email/c@ex.com", more=bare)["_success"]
    chunked = ("-H", "Transfer-Encoding: chunked", "-H", "Content-Type:")
    assert send("PUT", "/alias/c@ex.com", "cn=Chunked", more=chunked)["_success"]
    assert send("GET", "/alias/c@ex.com")["_data"]["name"] == "Chunked"
