"""The Ansible collection: built, installed and run by the real ansible-core.

``make integrations-test`` (``INTEGRATIONS=1``) runs everything on every storage.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml

from iredapi import __version__
from tests import ansible_core
from tests.clients import PASSWORD, ROOT
from tests.servers.api import ApiProcess, add_root, running_on, share_sqlite
from tests.servers.certificates import Authority
from tests.servers.forwarder import forwarding
from tests.servers.store import ALL_STORES, Store

FULL = "INTEGRATIONS" in os.environ
pytestmark = [
    pytest.mark.stores(*(ALL_STORES if FULL else ("sqlite",))),
    pytest.mark.needs("ansible"),
    # In one group: only one worker of the test run waits for pip.
    pytest.mark.xdist_group("ansible"),
]
COLLECTION = Path(__file__).parents[2] / "integrations" / "ansible"
PLAYBOOKS = Path(__file__).parent / "data" / "ansible"
MODULES = ("domain", "user", "alias", "list", "admin")
RECAP = re.compile(r"localhost +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=0")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the collection as ``ansible-galaxy`` builds and installs it."""
    directory = tmp_path_factory.mktemp("ansible")
    ansible_core.run(
        directory, "ansible-galaxy", "collection", "build", str(COLLECTION), "--output-path", "."
    )
    (archive,) = directory.glob("*.tar.gz")
    assert archive.name == f"iredapi-mail-{__version__}.tar.gz"
    ansible_core.run(
        directory,
        *("ansible-galaxy", "collection", "install", "--offline", "--no-deps"),
        *("-p", "collections", str(archive)),
    )
    shutil.copytree(PLAYBOOKS, directory, dirs_exist_ok=True)
    return directory


class Playbooks:
    """A service, and playbooks that are run against it."""

    def __init__(self, store: Store, place: Path, address: str) -> None:
        self.place = place
        self.address = address
        self.api = httpx.Client(base_url=f"{address}/api", trust_env=False, timeout=60)
        form = {"username": ROOT, "password": PASSWORD}
        assert self.api.post("login", data=form).status_code == 200
        self.token = self.api.post("tokens", data={"label": "a"}).json()["_data"]["token"]
        self.lists = 2 if store.name == "openldap" else 1
        self._variables = {"url": address, "password": PASSWORD, "ldap": store.name == "openldap"}

    def run(self, name: str, *options: str, expected: int = 0, **given: Any) -> str:
        variables = {"changed": False, "checked": False, **self._variables, **given}
        output = ansible_core.run(
            self.place,
            *("ansible-playbook", f"{name}.yml", "-e", json.dumps(variables), *options),
            expected=expected,
            ANSIBLE_IREDAPI_TOKEN=self.token,
        )
        for secret in (self.token, PASSWORD):
            assert secret not in output
        return output

    def changes(self, number: int, name: str, *options: str, **given: Any) -> str:
        """Run a playbook that must succeed and say ``changed`` so often; returns its output."""
        output = self.run(name, *options, **given)
        recap = RECAP.search(output)
        assert recap is not None, output
        assert int(recap[1]) == number, output
        return output

    def read(self, path: str, **query: str) -> Any:
        """A canonical profile, or the code of the refusal."""
        answer = self.api.get(path, params={"view": "canonical", **query}).json()
        return answer.get("_data", answer.get("_msg"))

    def everything(self) -> list[Any]:
        paths = ("domain/ex.com", "user/boss@ex.com", "admin/reseller@admins.test")
        found = [
            self.read(path) for path in (*paths, "alias/sales@ex.com", "maillist/staff@ex.com")
        ]
        return [*found, self.read("ml/news@ex.com", with_subscribers="yes")]


@pytest.fixture(scope="module")
def _services() -> Iterator[dict[str, tuple[ApiProcess, ExitStack]]]:
    found: dict[str, tuple[ApiProcess, ExitStack]] = {}
    yield found
    for _, stack in found.values():
        stack.close()


@pytest_asyncio.fixture(loop_scope="session")
async def playbooks(
    store: Store,
    place: Path,
    tmp_path_factory: pytest.TempPathFactory,
    _services: dict[str, tuple[ApiProcess, ExitStack]],
) -> Playbooks:
    """A service with mailing lists, started once for each kind of store."""
    if store.name not in _services:
        stack, spool = ExitStack(), str(tmp_path_factory.mktemp("spool"))
        given = {"IREDAPI_MLMMJ_SPOOL": spool, "IREDAPI_MLMMJ_SMTP_PORT": "1"}
        _services[store.name] = stack.enter_context(running_on(store, **given)), stack

        def stop() -> None:
            del _services[store.name]
            stack.close()

        share_sqlite(store, stop)
    await add_root(store)
    return Playbooks(store, place, _services[store.name][0].address)


async def test_a_playbook(playbooks: Playbooks) -> None:
    """Check mode changes nothing, the first run does, the second one finds nothing to do."""
    everybody = 4 + playbooks.lists
    if FULL:
        playbooks.changes(everybody, "present", "--check")
        assert playbooks.read("domains") == []
    playbooks.changes(everybody, "present")
    before = playbooks.everything()
    domain, user, admin, alias, maillist, news = before
    assert (domain["quota"], domain["numberOfUsers"], domain["admins"]) == (
        3000, 5, ["boss@ex.com", "reseller@admins.test"],
    )  # fmt: skip
    assert domain["disabledUserProfile"] == ["bcc", "forwarding"]
    assert (user["aliases"], user["quota"]) == (["chief@ex.com"], 100)
    assert (admin["maxDomains"], admin["managedDomains"]) == (5, ["ex.com"])
    assert alias["members"] == ["boss@ex.com", "x@far.org"]
    assert {"X-Team: news", "X-Floor: 2, 3"} <= set(news["custom_headers"])
    assert [(item["mail"], item["subscription"]) for item in news["subscribers"]] == [
        ("boss@ex.com", "normal"), ("x@far.org", "normal"),
    ]  # fmt: skip
    if playbooks.lists == 2:
        assert maillist["members"] == ["boss@ex.com", "x@far.org"]
    playbooks.changes(0, "present")
    assert playbooks.everything() == before

    output = playbooks.changes(everybody, "present", "--check", "--diff", changed=True)
    for line in (
        '-    "quota": 3000',
        '+    "quota": 4000',
        '-    "name": "Customer"',
        '+    "suspended": "yes"',
        '+    "password": "*** (another one)"',
        '-        "chief@ex.com"',
        '-    "maxDomains": 5',
        '-        "x@far.org"',
        '+    "subscriber y@far.org": "digest"',
        '+    "disable_archive": "yes"',
    ):
        assert line in output, output
    assert playbooks.everything() == before

    if not FULL:
        return
    # A real run tells the same.
    really = playbooks.changes(everybody, "present", "--diff", changed=True)
    assert shown(really) == shown(output)
    domain, user, admin, alias, maillist, news = playbooks.everything()
    assert (domain["quota"], domain["suspended"]) == (4000, "yes")
    assert domain["disabledUserProfile"] == ["bcc", "throttle"]
    assert (user["aliases"], admin["maxDomains"], admin["managedDomains"]) == ([], 6, [])
    assert alias["members"] == ["boss@ex.com"]
    assert [(item["mail"], item["subscription"]) for item in news["subscribers"]] == [
        ("x@far.org", "digest"), ("y@far.org", "digest"),
    ]  # fmt: skip
    assert news["disable_archive"] == "yes"
    playbooks.changes(0, "present", changed=True)
    for password in (PASSWORD, f"{PASSWORD}-2"):
        form = {"password": password}
        verified = playbooks.api.post("verify_password/user/boss@ex.com", data=form)
        assert (verified.status_code == 200) is (password != PASSWORD)
    playbooks.changes(everybody, "absent", "--check")
    assert playbooks.read("domain/ex.com")["existingUsers"] == 1
    playbooks.changes(everybody, "absent")
    assert set(map(str, playbooks.everything())) <= {
        "NO_SUCH_DOMAIN", "NO_SUCH_ACCOUNT", "NOT_SUPPORTED_BY_BACKEND",
    }  # fmt: skip
    playbooks.changes(0, "absent")


def shown(output: str) -> list[str]:
    """The lines of the differences."""
    return [line for line in output.splitlines() if line.startswith(("+", "-"))]


async def test_refusals(playbooks: Playbooks) -> None:
    assert playbooks.api.post("domain/ex.com", data={"name": "Ex"}).status_code == 200
    playbooks.run("refused")
    assert playbooks.read("domain/ex.com")["name"] == "Ex"
    assert playbooks.read("aliases/ex.com")[0]["members"] == ["x@far.org"]
    assert playbooks.read("users/ex.com") == playbooks.read("mls/ex.com") == []


@pytest.mark.stores("sqlite")
async def test_certificates_and_lost_answers(playbooks: Playbooks, tmp_path: Path) -> None:
    """The certificate is verified; what is sent again is carried out once."""
    authority = Authority()
    context = authority.server("127.0.0.1", tmp_path)
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    lost = set[bytes]()

    def loses(first: bytes) -> bool:
        line = first.partition(b"\r\n")[0]
        new = line.startswith(b"POST") and line not in lost
        lost.add(line)
        return new

    port = httpx.URL(playbooks.address).port
    assert port is not None
    with forwarding(port, tls=context, loses=loses) as line:
        module = ["ansible", "localhost", "-m", "iredapi.mail.iredapi_domain", "-a"]
        given = {"domain": "tls.com", "url": f"https://127.0.0.1:{line.port}"}
        given["token"] = playbooks.token

        def run(expected: int, **more: Any) -> str:
            words = json.dumps(given | more)
            return ansible_core.run(playbooks.place, *module, words, expected=expected)

        assert "CERTIFICATE_VERIFY_FAILED" in run(2)
        assert playbooks.read("domain/tls.com") == "NO_SUCH_DOMAIN"
        output = run(0, ca_path=str(tmp_path / "ca.pem"))
        assert '"changed": true' in output
        assert any(line.startswith(b"POST") for line in lost)
        assert playbooks.token not in output
        if FULL:
            assert '"changed": false' in run(0, validate_certs=False)


def test_the_documentation(place: Path) -> None:
    """``ansible-doc`` shows every option of every module, its examples and what it returns."""
    names = [f"iredapi.mail.iredapi_{name}" for name in MODULES]
    output = ansible_core.run(place, "ansible-doc", "--json", *names)
    for name, page in json.loads(output).items():
        options = page["doc"]["options"]
        assert options["token"]["description"], name
        assert all(option["description"] for option in options.values())
        assert {"check_mode", "diff_mode"} <= page["doc"]["attributes"].keys()
        assert {"changed_fields", "account", "code", "errors"} <= page["return"].keys()
        source = (COLLECTION / f"plugins/modules/{name.rpartition('.')[2]}.py").read_text("utf-8")
        assert set(re.findall(r'^        "(\w+)": ', source, re.MULTILINE)) <= options.keys()
        for task in yaml.safe_load(page["examples"]):
            assert task[name].keys() <= options.keys()
    runtime = yaml.safe_load((COLLECTION / "meta/runtime.yml").read_text("utf-8"))
    assert sorted(runtime["action_groups"]["iredapi"]) == sorted(f"iredapi_{m}" for m in MODULES)
