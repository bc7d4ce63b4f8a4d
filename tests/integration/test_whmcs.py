"""The provisioning module for WHMCS, run by the real PHP against a real service."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.clients import PASSWORD, ROOT
from tests.servers import php
from tests.servers.api import ApiProcess
from tests.servers.certificates import Authority
from tests.servers.forwarder import forwarding
from tests.servers.mail_checks import mail_of
from tests.servers.store import ALL_STORES, Store

pytestmark = [pytest.mark.stores(*ALL_STORES), pytest.mark.needs("php")]
MODULE = Path(__file__).parents[2] / "integrations" / "whmcs" / "iredapi.php"
DOMAIN, ADMIN = "ex.com", "postmaster@ex.com"
OTHER = f"{PASSWORD}-2"
OPTIONS = ("3", "4", "-1", "300", "50", "100", "postmaster", "100", "30")
SUCCESS = "success"


class Panel:
    """One server entry of WHMCS, whose access hash is a token of the service."""

    def __init__(self, address: str) -> None:
        self.api = httpx.Client(base_url=f"{address}/api", trust_env=False, timeout=60)
        self.port = urlsplit(address).port
        form = {"username": ROOT, "password": PASSWORD}
        assert self.api.post("login", data=form).status_code == 200
        self.token = self.new_token()

    def new_token(self, owner: str = ROOT, **limits: str) -> str:
        form = {"username": owner, "password": PASSWORD}
        with httpx.Client(base_url=self.api.base_url, trust_env=False) as api:
            assert api.post("login", data=form).status_code == 200
            made = api.post("tokens", data={"label": "whmcs", **limits}).json()
        token: str = made["_data"]["token"]
        return token

    def read(self, path: str) -> Any:
        """A canonical profile, or the code of the refusal."""
        answer = self.api.get(path, params={"view": "canonical"}).json()
        return answer.get("_data", answer.get("_msg"))

    def server(self, **more: Any) -> dict[str, Any]:
        """The parameters of a server entry: all that TestConnection and UsageUpdate get."""
        return {
            "server": True,
            "serverid": 2,
            "serverip": "",
            "serverhostname": "127.0.0.1",
            "serverusername": "",
            "serverpassword": "",
            "serveraccesshash": self.token,
            "serversecure": False,
            "serverhttpprefix": "http",
            "serverport": self.port,
        } | more

    def params(self, service: int = 7, domain: str = DOMAIN, **more: Any) -> dict[str, Any]:
        """The parameters that WHMCS documents for its modules; ``options``: of the product."""
        options = more.pop("options", OPTIONS)
        return (
            self.server()
            | {
                "accountid": service,
                "serviceid": service,
                "addonId": 0,
                "userid": 1,
                "domain": domain,
                "username": "excom",
                "password": PASSWORD,
                "packageid": 3,
                "pid": 3,
                "status": "Active",
                "type": "other",
                "producttype": "other",
                "moduletype": "iredapi",
                **{f"configoption{number}": value for number, value in enumerate(options, 1)},
                "customfields": {},
                "configoptions": {},
                "clientsdetails": {"firstname": "Zoë", "lastname": "Example", "companyname": ""},
            }
            | more
        )

    def run(self, *calls: Any, rows: Any = (), module: Path = MODULE) -> dict[str, Any]:
        """Call functions, in one process; what is logged has no secrets."""
        found = php.result(php.start(module, list(calls), list(rows)))
        for entry in found["logged"]:
            text = entry["request"] + entry["response"] + str(entry["processed"])
            assert PASSWORD not in text
            assert self.token not in text
            assert entry["module"] == "iredapi"
        return found

    def call(self, function: str, **params: Any) -> Any:
        """Call one function and return its result."""
        return self.run([function, self.params(**params)])["results"][0]

    def twice(self, function: str, **params: Any) -> None:
        """A function succeeds, and so it does when it is called again."""
        call = [function, self.params(**params)]
        assert self.run(call, call)["results"] == [SUCCESS, SUCCESS]


@pytest.fixture(name="panel")
def _panel(api: ApiProcess) -> Panel:
    return Panel(api.address)


def limits(panel: Panel) -> tuple[Any, ...]:
    found = panel.read(f"domain/{DOMAIN}")
    names = ("numberOfUsers", "numberOfAliases", "numberOfLists", "quota", "defaultQuota")
    return (*(found[name] for name in names), found["maxUserQuota"], found["suspended"])


async def test_the_life_of_a_service(
    panel: Panel, store: Store, request: pytest.FixtureRequest
) -> None:
    """All functions, each of them twice: the second call is harmless."""
    expect = mail_of(ADMIN, store, request)
    described = panel.run(["MetaData", {}], ["ConfigOptions", {}])["results"]
    assert described[0]["APIVersion"] == "1.1"
    assert len(described[1]) == len(OPTIONS)
    assert panel.call("TestConnection") == {"success": True, "error": ""}

    created = ["CreateAccount", panel.params()]
    row = {"id": 7, "server": 2, "domain": "Ex.com", "username": "excom"}
    row |= {"diskusage": 0, "disklimit": 0, "bwusage": 0, "bwlimit": 0, "lastupdate": ""}
    strange = row | {"id": 8, "server": 1}
    done = panel.run(created, created, rows=[row, strange])
    assert done["results"] == [SUCCESS, SUCCESS]
    assert [item["username"] for item in done["rows"]] == [ADMIN, "excom"]
    assert limits(panel) == (3, 4, -1, 300, 50, 100, "no")
    domain = panel.read(f"domain/{DOMAIN}")
    assert (domain["name"], domain["admins"]) == ("Zoë Example [WHMCS 7]", [ADMIN])
    user = panel.read(f"user/{ADMIN}")
    assert (user["name"], user["quota"]) == ("Zoë Example", 100)
    assert [item["domain"] for item in panel.read("usage")] == [DOMAIN]
    expect("yes", "yes", "yes", 1)

    # An unpaid bill: mail still arrives.
    panel.twice("SuspendAccount", suspendreason="Overdue on Payment")
    assert limits(panel)[-1] == "yes"
    expect("no", "no", "yes")
    panel.twice("UnsuspendAccount")
    expect("yes", "yes", "yes", 3)
    panel.twice("SuspendAccount")
    expect("no", "no", "yes")
    panel.twice("UnsuspendAccount")

    larger = ("9", "", "5", "1000", "70", "0", *OPTIONS[6:])
    panel.twice("ChangePackage", options=larger, configoptions={"Mailboxes": "11"})
    assert limits(panel) == (11, 4, 5, 1000, 70, 0, "no")

    panel.twice("ChangePassword", password=OTHER, username=ADMIN)
    expect("yes", "yes", "yes", 5, password=OTHER)
    # Creating it again gives the customer no old password.
    panel.twice("CreateAccount")
    expect("yes", "yes", "yes", 6, password=OTHER)

    counted = {"username": ADMIN, "bytes": 5 * 2**20 + 1, "messages": 9, "domain": DOMAIN}
    await store.insert("used_quota", counted, database=store.accounts)
    done = panel.run(["UsageUpdate", panel.server()], rows=[row, strange])
    assert done["results"] == [SUCCESS]
    changed = {"diskusage": 6, "disklimit": 300, "lastupdate": "raw now()"}
    assert done["rows"][0] == row | changed
    assert done["rows"][1] == strange

    panel.twice("TerminateAccount")
    assert panel.read(f"domain/{DOMAIN}") == "NO_SUCH_DOMAIN"
    expect("no", "no", "no", password=OTHER)
    (box,) = panel.read("deleted_mailboxes")
    assert (box["mail"], box["keep_forever"]) == (ADMIN, "no")
    # The same again, while the answers of before are still kept.
    panel.twice("CreateAccount")
    expect("yes", "yes", "yes", 1)
    panel.twice("TerminateAccount")


@pytest.mark.stores(*(ALL_STORES if "INTEGRATIONS" in os.environ else ("sqlite",)))
async def test_lost_answers_and_calls_at_the_same_time(panel: Panel, store: Store) -> None:
    """There is one domain and one admin, and each was created once."""
    lost = set[bytes]()

    def loses(first: bytes) -> bool:
        line = first.partition(b"\r\n")[0]
        new = line.startswith((b"POST", b"DELETE")) and line not in lost
        lost.add(line)
        return new

    assert panel.port is not None
    with forwarding(panel.port, loses=loses) as line:
        through = panel.params(serverport=line.port)
        processes = [php.start(MODULE, [["CreateAccount", through]], []) for _ in range(2)]
        assert [php.result(process)["results"] for process in processes] == [[SUCCESS]] * 2
        assert {item.split()[0] for item in lost} == {b"GET", b"POST", b"PUT"}
        panel.twice("CreateAccount")
        created = "SELECT username FROM log WHERE event = 'create' AND domain = 'ex.com'"
        names = [row["username"] for row in await store.rows(created, "iredadmin")]
        assert sorted(names) == ["", ADMIN]  # of the domain, of the user
        assert panel.run(["TerminateAccount", through])["results"] == [SUCCESS]
    assert panel.read(f"domain/{DOMAIN}") == "NO_SUCH_DOMAIN"


@pytest.mark.stores("sqlite")
def test_refusals_are_sentences(panel: Panel) -> None:
    calls: list[tuple[str, tuple[str, ...], dict[str, Any]]] = []

    def say(function: str, *words: str, **params: Any) -> None:
        calls.append((function, words, panel.params(**params)))

    def said() -> None:
        """Make the calls; nothing but these sentences is the result."""
        results = panel.run(*([name, params] for name, _, params in calls))["results"]
        for (function, words, _), result in zip(calls, results, strict=True):
            text = result["error"] if function == "TestConnection" else result
            assert all(word in text for word in words), text
            assert text.endswith("success" if words == (SUCCESS,) else "."), text
            assert text[0].isupper() or words == (SUCCESS,), text
        calls.clear()

    say("TestConnection", "API token", "INVALID_TOKEN", serveraccesshash="iredapi_wrong")
    say("TestConnection", "API token", serveraccesshash=" ")
    say("TestConnection", "one token", serveraccesshash="a\r\nX-Header: b")
    say("TestConnection", "read", serveraccesshash=panel.new_token(readOnly="yes"))
    say("CreateAccount", SUCCESS, domain="limited.com", service=6)
    said()

    # An admin who is not global and may create two domains.
    reseller = {"password": PASSWORD, "maxDomains": "2"}
    assert panel.api.post("admin/reseller@admins.test", data=reseller).status_code == 200
    token = panel.new_token("reseller@admins.test")
    for name in ("Create", "Create", "Suspend", "Unsuspend", "Terminate"):
        say(f"{name}Account", SUCCESS, domain="r.com", service=5, serveraccesshash=token)
    say("TerminateAccount", "PERMISSION_DENIED", domain="r.com", serveraccesshash=token)
    say("CreateAccount", "ALREADY_EXISTS", domain="limited.com", serveraccesshash=token)

    limited = panel.new_token(domains="limited.com")
    say("TestConnection", "create domains", serveraccesshash=limited)
    say("CreateAccount", "PERMISSION_DENIED", serveraccesshash=limited)
    say("CreateAccount", SUCCESS, domain="l.com", serveraccesshash="", serverpassword=panel.token)
    say("TestConnection", "unencrypted", serverhostname="mail.test")
    say("TestConnection", "hostname", serverhostname="")
    say("TestConnection", "hostname", serverhostname="a/b")

    # Wrong values.
    say("CreateAccount", "numberOfUsers", "INVALID_NUMBER", options=("x", *OPTIONS[1:]))
    say("CreateAccount", "domain", domain=" ")
    say("CreateAccount", "INVALID_DOMAIN_NAME", domain="a b")
    said()
    assert panel.read(f"domain/{DOMAIN}") == "NO_SUCH_DOMAIN"
    say("CreateAccount", "PW_", password="short")
    # What was begun is finished.
    say("CreateAccount", SUCCESS)

    # The domain of somebody else: of another service, or made by hand.
    for name in ("SuspendAccount", "UnsuspendAccount", "TerminateAccount", "ChangePackage"):
        say(name, "service 7", service=9)
    say("ChangePassword", "service 7", service=9)
    say("CreateAccount", "exists already", service=9)
    said()
    assert panel.api.post("domain/hand.com", data={"name": "By hand"}).status_code == 200
    say("CreateAccount", "exists already", domain="hand.com")
    say("SuspendAccount", SUCCESS, domain="hand.com")
    for name in ("SuspendAccount", "ChangePackage", "ChangePassword"):
        say(name, "no mail domain none.com", domain="none.com")
    said()
    assert panel.read("domain/hand.com")["suspended"] == "yes"
    assert panel.api.delete(f"user/{ADMIN}").status_code == 200
    say("ChangePassword", "NO_SUCH_ACCOUNT")
    said()


@pytest.mark.stores("sqlite")
def test_certificates_are_verified(panel: Panel, tmp_path: Path) -> None:
    authority = Authority()
    context = authority.server("127.0.0.1", tmp_path)
    trusting = Path(shutil.copy(MODULE, tmp_path))
    for host in ("127.0.0.1", "localhost"):
        (tmp_path / f"{host}.pem").write_bytes(authority.certificate)
    assert panel.port is not None
    with forwarding(panel.port, tls=context) as line:
        right = panel.server(serverport=line.port, serversecure="on")
        wrong = right | {"serverhostname": "localhost"}
        results = panel.run(["TestConnection", right])["results"]
        results += panel.run(["TestConnection", right], ["TestConnection", wrong], module=trusting)[
            "results"
        ]
    assert [result["success"] for result in results] == [False, True, False]
    assert "certificate" in results[0]["error"]
    assert "localhost" in results[2]["error"]
