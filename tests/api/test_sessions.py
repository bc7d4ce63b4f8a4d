"""Logins and sessions: who, for how long, from which address; and what is never logged."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx
import pytest

from iredapi.config.errors import ConfigurationError
from iredapi.config.loading import load
from iredapi.config.settings import Settings
from iredapi.domain import passwords
from iredapi.domain.passwords import Scheme, hash_password
from iredapi.errors import Overloaded
from iredapi.observability.logging import configure
from iredapi.workflows.admins import set_admin_password
from tests.clients import PASSWORD, ROOT, Client, Service, serving
from tests.servers.store import Store

pytestmark = pytest.mark.stores("sqlite")

COOKIE = "iredapi_session"
LOGIN_REQUIRED = (401, "LOGIN_REQUIRED")
WRONG = {"username": ROOT, "password": "Wr0ng-Password"}
RIGHT = {"username": ROOT, "password": PASSWORD}
_numbers = itertools.count()


def guess(username: str = ROOT) -> dict[str, str]:
    """A wrong password that nobody has tried before."""
    return {"username": username, "password": f"Wr0ng-Password-{next(_numbers)}"}


async def add_user(service: Service, mail: str, password: str = PASSWORD, **columns: Any) -> None:
    """A mail user, written by another program."""
    domain = mail.rpartition("@")[2]
    if not await service.store.rows("SELECT domain FROM domain WHERE domain = :d", d=domain):
        await service.store.insert("domain", {"domain": domain})
    await service.store.insert(
        "mailbox",
        {"username": mail, "domain": domain, "password": hash_password(password), **columns},
    )


async def panel(service: Service, key: str, value: Any) -> None:
    """A row of the panel's settings page; a text is stored as it is."""
    stored = value if isinstance(value, str) else json.dumps({"value": value})
    await service.store.execute(
        "DELETE FROM settings WHERE account = 'global' AND k = :k", "iredadmin", k=key
    )
    await service.store.insert(
        "settings", {"account": "global", "k": key, "v": stored}, database="iredadmin"
    )
    service.context.invalidate_caches()


def cookie_of(response: httpx.Response) -> Morsel[str]:
    (header,) = response.headers.get_list("set-cookie")
    return SimpleCookie(header)[COOKIE]


def hold(client: Client, value: str) -> None:
    client.http.cookies.set(COOKIE, value, domain="server.local", path="/")


# Logging in --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form, status, code",
    [
        ({"username": ROOT, "password": "Wr0ng-Password"}, 401, "INVALID_CREDENTIALS"),
        ({"username": "nobody@admins.test", "password": PASSWORD}, 401, "INVALID_CREDENTIALS"),
        ({"username": "u@ex.com", "password": PASSWORD}, 401, "INVALID_CREDENTIALS"),
        ({"username": "off@ex.com", "password": PASSWORD}, 401, "INVALID_CREDENTIALS"),
        ({"username": "root", "password": PASSWORD}, 400, "INVALID_USERNAME"),
        ({"username": "a@b@c.com", "password": PASSWORD}, 400, "INVALID_USERNAME"),
        ({"username": "", "password": PASSWORD}, 400, "INVALID_USERNAME"),
        ({"username": ROOT, "password": ""}, 400, "EMPTY_PASSWORD"),
        ({"username": ROOT, "password": "   "}, 400, "EMPTY_PASSWORD"),
        ({"username": ROOT}, 400, "REQUIRED"),
        ({"password": PASSWORD}, 400, "REQUIRED"),
        ({}, 400, "REQUIRED"),
    ],
)
async def test_login_codes(
    service: Service, root: Client, form: dict[str, str], status: int, code: str
) -> None:
    await add_user(service, "u@ex.com")
    await add_user(service, "off@ex.com", isadmin=1, isglobaladmin=1, active=0)
    response = await service.client().http.post("login", data=form)
    assert (response.status_code, response.json()["_msg"]) == (status, code)
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("username", [ROOT.upper(), f" {ROOT} ", "Root@Admins.Test"])
async def test_the_name_is_folded(service: Service, root: Client, username: str) -> None:
    assert await service.client().ok("POST", "login", username=username, password=PASSWORD)


async def test_login_is_noted_in_the_panels_log(service: Service, root: Client) -> None:
    rows = await service.store.rows("SELECT * FROM log WHERE event = 'login'", "iredadmin")
    assert [(row["admin"], row["username"], row["ip"]) for row in rows] == [
        (ROOT, ROOT, "127.0.0.1")
    ]


async def test_cookie(service: Service, root: Client) -> None:
    response = await service.client().http.post("login", data=RIGHT)
    morsel = cookie_of(response)
    assert (morsel["path"], morsel["httponly"], morsel["samesite"].lower()) == ("/", True, "strict")
    assert not morsel["secure"]
    assert (morsel["domain"], morsel["expires"], morsel["max-age"]) == ("", "", "")
    assert len(morsel.value) == 43
    # Only its hash is stored.
    rows = await service.store.rows("SELECT * FROM sessions", "state")
    assert morsel.value not in str(rows)


async def test_cookie_over_tls(store: Store, root: Client) -> None:
    async with serving(store, trusted_proxies=["10.0.0.1"]) as service:
        tls = {"X-Forwarded-Proto": "https"}
        trusted = await service.client(address="10.0.0.1").http.post(
            "login", data=RIGHT, headers=tls
        )
        assert cookie_of(trusted)["secure"] is True
        for address, headers in (
            ("10.0.0.2", tls),
            ("10.0.0.1", {}),
            ("10.0.0.1", {"X-Forwarded-Proto": "http"}),
        ):
            client = service.client(address=address)
            response = await client.http.post("login", data=RIGHT, headers=headers)
            assert not cookie_of(response)["secure"]
        transport = httpx.ASGITransport(service.app)
        async with httpx.AsyncClient(transport=transport, base_url="https://server/api") as http:
            assert cookie_of(await http.post("login", data=RIGHT))["secure"] is True


@pytest.mark.parametrize(
    "value", ["x", "a" * 43, "A" * 42 + "=", "", "'; DROP TABLE sessions; --", "é" * 43, "\x01"]
)
async def test_lesson_38_preset_ids_are_never_accepted(
    service: Service, root: Client, value: str
) -> None:
    client = service.client()
    header = {"Cookie": f"{COOKIE}={value}".encode()}
    response = await client.http.get("domains", headers=header)  # type: ignore[arg-type]
    assert (response.status_code, response.json()["_msg"]) == LOGIN_REQUIRED
    response = await client.http.post("login", data=RIGHT, headers=header)  # type: ignore[arg-type]
    assert response.status_code == 200
    assert cookie_of(response).value != value


async def test_lesson_38_every_login_has_a_new_id(service: Service, root: Client) -> None:
    client = service.client()
    first = cookie_of(await client.http.post("login", data=RIGHT)).value
    second = cookie_of(await client.http.post("login", data=RIGHT)).value
    assert first != second
    # The first one is a session of its own: another worker of the client may hold it.
    other = service.client()
    hold(other, first)
    await other.ok("GET", "domains")


async def test_login_does_not_care_for_a_dead_session(service: Service, root: Client) -> None:
    """A client that logs in again with its old cookie in hand is let in."""
    client = await service.client().login()
    await service.store.execute("DELETE FROM sessions", "state")
    assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED
    await client.login()
    await client.ok("GET", "domains")


async def test_logout(service: Service, root: Client) -> None:
    client = await service.client().login()
    value = client.http.cookies[COOKIE]
    response = await client.http.post("logout")
    assert response.json() == {"_success": True}
    assert cookie_of(response).value == ""
    assert cookie_of(response)["path"] == "/"
    # Not only forgotten by the client: it is over.
    thief = service.client()
    hold(thief, value)
    assert (await thief.refused("GET", "domains"))[:2] == LOGIN_REQUIRED
    assert await service.client().ok("POST", "logout") == {"_success": True}
    await root.ok("GET", "domains")


async def test_session_is_not_bound_to_an_address(service: Service, root: Client) -> None:
    other = service.client(address="192.0.2.77")
    hold(other, root.http.cookies[COOKIE])
    await other.ok("GET", "domains")


async def test_two_cookies_of_one_name(service: Service, root: Client) -> None:
    """The last one wins, whatever the other is; neither opens anything by itself."""
    good = root.http.cookies[COOKIE]
    client = service.client()
    for header in (f"{COOKIE}=x; other=1", f"other={good}", f"{COOKIE.upper()}={good}"):
        response = await client.http.get("domains", headers={"Cookie": header})
        assert response.status_code == 401


async def test_parallel_requests_on_one_session(service: Service, root: Client) -> None:
    answers = await asyncio.gather(*(root.call("GET", "domains") for _ in range(40)))
    assert {status for status, _ in answers} == {200}


# How long ----------------------------------------------------------------------------------------


class Clock:
    """Time that passes when told to; what was remembered for a second is forgotten then."""

    def __init__(self, service: Service) -> None:
        self._now = time.time()
        self._service = service

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, value: float) -> None:
        self._now = value
        self._service.context.invalidate_caches()

    def __call__(self) -> float:
        return self._now


@pytest.fixture
def clock(service: Service, monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock(service)
    monkeypatch.setattr(service.context.state.sessions, "_clock", found)
    monkeypatch.setattr(service.context.state.attempts, "_clock", found)
    return found


async def test_idle_end_slides(service: Service, root: Client, clock: Clock) -> None:
    client = await service.client().login()
    for _ in range(5):
        clock.now += 1500
        await client.ok("GET", "domains")
    clock.now += 1801
    assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED


async def test_absolute_end(service: Service, root: Client, clock: Clock) -> None:
    client = await service.client().login()
    started = clock.now
    while clock.now + 1700 < started + 43200:
        clock.now += 1700
        await client.ok("GET", "domains")
    clock.now = started + 43201
    assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED


async def test_ends_are_settings(
    store: Store, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(store, session_idle=60, session_absolute=100) as service:
        clock = Clock(service)
        monkeypatch.setattr(service.context.state.sessions, "_clock", clock)
        client = await service.client().login()
        clock.now += 59
        await client.ok("GET", "domains")
        clock.now += 42
        assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED
        client = await service.client().login()
        clock.now += 61
        assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED


REVOCATIONS = {
    "password": {"password": "N3w-Password"},
    "disabled": {"accountStatus": "disabled"},
    "demoted": {"isGlobalAdmin": "no"},
}


@pytest.mark.parametrize("how", REVOCATIONS)
@pytest.mark.parametrize("noun, mail", [("admin", "g@admins.test"), ("user", "g@ex.com")])
async def test_lesson_14_38_what_ends_a_session(
    service: Service, root: Client, noun: str, mail: str, how: str
) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", f"{noun}/{mail}", password=PASSWORD, isGlobalAdmin="yes")
    clients = [await service.client().login(mail) for _ in range(2)]
    await root.ok("PUT", f"{noun}/{mail}", **REVOCATIONS[how])
    for client in clients:
        assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED
    # It does not come back with the old state either.
    await root.ok("PUT", f"{noun}/{mail}", accountStatus="active", isGlobalAdmin="yes")
    for client in clients:
        assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED
    await root.ok("GET", "domains")


async def test_lesson_14_deleted_admins(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "admin/g@admins.test", password=PASSWORD, isGlobalAdmin="yes")
    await root.ok("POST", "user/g@ex.com", password=PASSWORD, isGlobalAdmin="yes")
    one = await service.client().login("g@admins.test")
    two = await service.client().login("g@ex.com")
    await root.ok("DELETE", "admin/g@admins.test")
    await root.ok("DELETE", "domain/ex.com")
    for client in (one, two):
        assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED


async def test_lesson_14_changes_of_other_programs(service: Service, root: Client) -> None:
    """The panel writes into the database without telling us."""
    await add_user(service, "g@ex.com", isadmin=1, isglobaladmin=1)
    client = await service.client().login("g@ex.com")
    await service.store.execute("UPDATE mailbox SET isglobaladmin = 0, isadmin = 0")
    assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED
    await service.store.execute("UPDATE mailbox SET isglobaladmin = 1")
    client = await service.client().login("g@ex.com")
    await service.store.execute("UPDATE mailbox SET password = :p", p=hash_password("Other-1x"))
    assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED


async def test_own_password_change_ends_the_own_session(service: Service, root: Client) -> None:
    await root.ok("PUT", f"admin/{ROOT}", password="N3w-Password")
    assert (await root.refused("GET", "domains"))[:2] == LOGIN_REQUIRED
    await root.login(ROOT, "N3w-Password")
    await root.ok("GET", "domains")


async def test_password_from_the_command_line_ends_sessions(service: Service, root: Client) -> None:
    await set_admin_password(service.context, ROOT, "N3w-Password")
    assert (await root.refused("GET", "domains"))[:2] == LOGIN_REQUIRED


async def test_bulk_password_change_ends_sessions(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/a@ex.com", password=PASSWORD)
    await root.ok("PUT", "domain/admins/ex.com", addAdmin="a@ex.com")
    client = await service.client().login("a@ex.com")
    await root.ok("PUT", "users/ex.com", password="N3w-Password")
    assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED


async def test_renamed_admin(service: Service, root: Client) -> None:
    """The rights move with the account; the old name's session is over."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/a@ex.com", password=PASSWORD)
    await root.ok("PUT", "domain/admins/ex.com", addAdmin="a@ex.com")
    client = await service.client().login("a@ex.com")
    await root.ok("POST", "user/a@ex.com/change_email/b@ex.com")
    assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED
    client = await service.client().login("b@ex.com")
    assert await client.ok("GET", "domains", name_only="yes") == ["ex.com"]


async def test_standalone_wins_over_mail_user(service: Service, root: Client) -> None:
    """One address, two accounts: the standalone admin is who logs in."""
    await add_user(service, "both@ex.com", "Mail-Us3r", isadmin=1)
    await service.store.insert("domain", {"domain": "other.com"})
    await service.store.insert(
        "admin", {"username": "both@ex.com", "password": hash_password("Standal0ne-")}
    )
    await service.store.insert("domain_admins", {"username": "both@ex.com", "domain": "other.com"})
    client = service.client()
    refused = await client.refused("POST", "login", username="both@ex.com", password="Mail-Us3r")
    assert refused[:2] == (401, "INVALID_CREDENTIALS")
    await client.login("both@ex.com", "Standal0ne-")
    # A session of the one is not carried on by the other.
    await service.store.execute("DELETE FROM admin WHERE username = 'both@ex.com'")
    assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED


async def test_expired_accounts(service: Service, root: Client) -> None:
    await add_user(service, "g@ex.com", isadmin=1, isglobaladmin=1)
    client = await service.client().login("g@ex.com")
    await service.store.execute("UPDATE mailbox SET expired = '2020-01-01 00:00:00'")
    assert (await client.refused("GET", "domains"))[:2] == LOGIN_REQUIRED
    refused = await client.refused("POST", "login", username="g@ex.com", password=PASSWORD)
    assert refused[:2] == (401, "INVALID_CREDENTIALS")


# Guessing ----------------------------------------------------------------------------------------


async def test_lesson_31_throttle(service: Service, root: Client, clock: Clock) -> None:
    client = service.client(address="192.0.2.1")
    for _ in range(10):
        assert (await client.refused("POST", "login", **guess()))[:2] == (
            401,
            "INVALID_CREDENTIALS",
        )
    for form in (guess(), RIGHT):
        response = await client.http.post("login", data=form)
        assert (response.status_code, response.json()["_msg"]) == (429, "TOO_MANY_ATTEMPTS")
        assert 0 < int(response.headers["retry-after"]) <= 900
    # The account is closed for every address, the address for every account.
    elsewhere = service.client(address="192.0.2.2")
    assert (await elsewhere.refused("POST", "login", **RIGHT))[0] == 429
    other = {"username": "x@admins.test", "password": "x"}
    assert (await client.refused("POST", "login", **other))[0] == 429
    assert (await elsewhere.refused("POST", "login", **other))[0] == 401
    # A session that is there is not disturbed.
    await root.ok("GET", "domains")
    clock.now += 901
    await client.login()


async def test_lesson_31_success_clears_the_account(service: Service, root: Client) -> None:
    for turn in range(3):
        for number in range(9):
            client = service.client(address=f"192.0.2.{turn * 10 + number}")
            assert (await client.refused("POST", "login", **guess()))[0] == 401
        # From where it never logged in before; elsewhere it has counters of its own.
        await service.client(address=f"198.51.{turn}.1").login()


async def test_lesson_31_only_success_clears(service: Service, root: Client) -> None:
    """Neither other calls, nor a login of somebody else from the same address."""
    client = service.client(address="192.0.2.1")
    await root.ok("POST", "admin/own@admins.test", password=PASSWORD)
    own = service.client(address="192.0.2.1")
    for _ in range(10):
        assert (await client.refused("POST", "login", **guess()))[0] == 401
        await client.call("POST", "logout")
        await client.call("GET", "domains")
        await client.call("POST", "login", data={"username": ROOT, "password": ""})
        await client.call("POST", "login", data={"username": "nonsense", "password": "x"})
        await own.call("POST", "login", data={"username": "own@admins.test", "password": PASSWORD})
    assert (await client.refused("POST", "login", **RIGHT))[0] == 429


async def test_lesson_31_one_address_many_accounts(service: Service, root: Client) -> None:
    client = service.client(address="192.0.2.1")
    for number in range(10):
        form = {"username": f"a{number}@x.com", "password": "x"}
        assert (await client.refused("POST", "login", **form))[0] == 401
    assert (await client.refused("POST", "login", **RIGHT))[0] == 429


async def test_lesson_31_parallel_guesses(service: Service, root: Client) -> None:
    client = service.client()
    answers = await asyncio.gather(*(client.call("POST", "login", data=guess()) for n in range(40)))
    assert Counter(status for status, _ in answers) == {401: 10, 429: 30}


async def test_parallel_logins_are_no_guesses(service: Service, root: Client) -> None:
    """A provisioning program with many workers logs in with all of them at once."""
    answers = await asyncio.gather(
        *(service.client().call("POST", "login", data=RIGHT) for _ in range(40))
    )
    assert Counter(status for status, _ in answers) == {200: 40}


async def test_throttle_is_a_setting(store: Store, root: Client) -> None:
    async with serving(store, login_failures=2, login_window=60) as service:
        client = service.client()
        for _ in range(2):
            assert (await client.refused("POST", "login", **guess()))[0] == 401
        response = await client.http.post("login", data=RIGHT)
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) <= 60


async def test_lesson_32_unknown_and_wrong_look_the_same(service: Service, root: Client) -> None:
    """Status and body; the hashing costs the same (tests/unit/test_passwords.py)."""
    answers = []
    for username in (ROOT, "nobody@admins.test", "nobody@nowhere.test"):
        status, answer = await service.client().call(
            "POST", "login", data={"username": username, "password": "x"}
        )
        answer.pop("_request_id")
        answers.append((status, answer))
    assert answers[0] == answers[1] == answers[2]


async def test_lesson_30_every_wrong_password_costs_the_same(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever it is, and whatever hash is stored: all kinds that admins have are verified."""
    dear, cheap = hash_password(PASSWORD, Scheme.BCRYPT, bcrypt_cost=4), hash_password(PASSWORD)
    other = hash_password(PASSWORD, Scheme.PBKDF2)
    rights = {"isadmin": 1, "isglobaladmin": 1}
    for mail, hashed, columns in (
        ("dear@ex.com", dear, rights),
        ("other@ex.com", other, rights),
        ("cheap@ex.com", cheap, rights),
        ("none@ex.com", "", rights),
        ("off@ex.com", dear, rights | {"active": 0}),
        ("plain@ex.com", dear, {}),
    ):
        await add_user(service, mail, PASSWORD, **columns)
        await service.store.execute(
            "UPDATE mailbox SET password = :hashed WHERE username = :mail", hashed=hashed, mail=mail
        )
    calls: list[str] = []
    real = passwords.verify_password

    def verify(plain: str, stored: str) -> bool:
        calls.append(stored[1:8])
        return real(plain, stored)

    monkeypatch.setattr(passwords, "verify_password", verify)
    service.context.invalidate_caches()
    names = ["dear@ex.com", "other@ex.com", "cheap@ex.com", "none@ex.com", "off@ex.com"]
    for mail in (*names, "plain@ex.com", "nobody@ex.com", "nobody@nowhere.test", ROOT):
        calls.clear()
        client = service.client(address=f"198.51.100.{len(mail)}")
        assert (await client.refused("POST", "login", **guess(mail)))[0] == 401
        slow = sorted(item for item in calls if item in {"CRYPT}$", "PBKDF2}"})
        assert slow == ["CRYPT}$", "PBKDF2}"], mail
    # A kind that is new here is known from the first login with it.
    await service.store.execute(
        "UPDATE mailbox SET password = :hashed WHERE username = 'other@ex.com'",
        hashed=hash_password(PASSWORD, Scheme.SHA512_CRYPT),
    )
    await service.client(address="203.0.113.7").refused("POST", "login", **guess("other@ex.com"))
    calls.clear()
    await service.client(address="203.0.113.8").refused("POST", "login", **guess("no@ex.com"))
    assert any(item.startswith("SHA512-") for item in calls)
    # The right password takes its own time only.
    calls.clear()
    await service.client().login()
    assert calls == ["SSHA512"]


async def test_a_crowd_makes_no_guess_free(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password counts also when there is no room to take its time."""

    async def busy(*_: Any) -> None:
        raise Overloaded

    monkeypatch.setattr(service.context.hasher, "equalise", busy)
    for _ in range(10):
        refused = await service.client(address="192.0.2.1").refused("POST", "login", **guess())
        assert refused[:2] == (503, "OVERLOADED")
    refused = await service.client(address="192.0.2.1").refused("POST", "login", **guess())
    assert refused[0] == 429


@pytest.mark.parametrize("noun, mail", [("admin", "a@admins.test"), ("user", "u@ex.com")])
async def test_lesson_08_verify_password_is_counted(
    service: Service, root: Client, noun: str, mail: str
) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", f"{noun}/{mail}", password=PASSWORD)
    path = f"verify_password/{noun}/{mail}"
    assert await root.ok("POST", path, password=PASSWORD) == {"_success": True}
    for _ in range(10):
        refused = await root.refused("POST", path, password=guess()["password"])
        assert refused[:2] == (403, "INVALID_CREDENTIALS")
    response = await root.http.post(path, data={"password": PASSWORD})
    assert (response.status_code, response.json()["_msg"]) == (429, "TOO_MANY_ATTEMPTS")
    assert int(response.headers["retry-after"]) > 0
    # The session of who asked goes on, and so do other accounts.
    await root.ok("POST", f"verify_password/admin/{ROOT}", password=PASSWORD)


async def test_lesson_08_verify_password_closes_the_login_too(
    service: Service, root: Client
) -> None:
    await root.ok("POST", "admin/a@admins.test", password=PASSWORD)
    for _ in range(10):
        password = guess()["password"]
        await root.refused("POST", "verify_password/admin/a@admins.test", password=password)
    form = {"username": "a@admins.test", "password": PASSWORD}
    assert (await service.client().refused("POST", "login", **form))[0] == 429


async def test_verify_password_of_nobody_is_no_guess(service: Service, root: Client) -> None:
    for _ in range(12):
        refused = await root.refused("POST", "verify_password/user/no@body.com", password="x")
        assert refused[:2] == (404, "NO_SUCH_ACCOUNT")


HASHES = [
    hash_password("Corr3ct-Horse", scheme, bcrypt_cost=4)
    for scheme in Scheme
    if scheme is not Scheme.ARGON2ID
]


@pytest.mark.parametrize("stored", HASHES, ids=lambda text: text[1 : text.index("}")])
async def test_lesson_27_the_stored_hash_is_no_password(
    service: Service, root: Client, stored: str
) -> None:
    await add_user(service, "g@ex.com", isadmin=1, isglobaladmin=1)
    await service.store.execute("UPDATE mailbox SET password = :p", p=stored)
    for guess in (stored, stored.partition("}")[2], "{PLAIN}" + stored, stored.lower()):
        form = {"username": "g@ex.com", "password": guess}
        assert (await service.client().refused("POST", "login", **form))[0] == 401
        refused = await root.refused("POST", "verify_password/user/g@ex.com", password=guess)
        assert refused[:2] == (403, "INVALID_CREDENTIALS")
        await root.ok("POST", "verify_password/user/g@ex.com", password=PASSWORD)
    await service.client().login("g@ex.com")


@pytest.mark.parametrize(
    "stored",
    ["", " ", "{SSHA512}", "{SSHA512}x", "{NOTHING}x", "{", "{}", "{PLAIN}", "{CRYPT}", "{CRYPT}*",
     "{BLF-CRYPT}$2b$05$short", "!", "*", "x", "{SSHA}" + "A" * 200],
)  # fmt: skip
async def test_lesson_28_malformed_hashes_open_nothing(
    service: Service, root: Client, stored: str
) -> None:
    await add_user(service, "g@ex.com", isadmin=1, isglobaladmin=1)
    await service.store.execute("UPDATE mailbox SET password = :p", p=stored)
    for guess in ("x", stored or "y", PASSWORD, "0"):
        if not guess.strip():
            continue
        form = {"username": "g@ex.com", "password": guess}
        assert (await service.client().refused("POST", "login", **form))[0] == 401
        status, _, _ = await root.refused("POST", "verify_password/user/g@ex.com", password=guess)
        assert status == 403


async def test_lesson_18_hostile_names(service: Service, root: Client) -> None:
    for username in (
        "*)(mail=*",
        "\\2a",
        "a)(|(x=*",
        "' OR 1=1 --",
        "a@b.com' OR 'x'='x",
        "%@admins.test",
        "_oot@admins.test",
        "root@admins.test\0",
        "root@admins.test;",
        "*@admins.test",
    ):
        status, code, _ = await service.client().refused(
            "POST", "login", username=username, password=PASSWORD
        )
        assert (status, code) in {
            (400, "INVALID_USERNAME"),
            (400, "INVALID_TEXT"),
            (401, "INVALID_CREDENTIALS"),
        }
        for path in ("user", "admin", "alias", "verify_password/user"):
            request = root.http.build_request(
                "GET" if "/" not in path else "POST", "x", data={"password": "x"}
            )
            raw = "".join(f"%{byte:02X}" for byte in username.encode())
            request.url = request.url.copy_with(raw_path=f"/api/{path}/{raw}".encode())
            response = await root.http.send(request)
            assert response.status_code in {400, 404}
            assert "SELECT" not in response.text


@pytest.mark.parametrize("length", [64, 72, 73, 200, 1024])
async def test_lesson_39_long_passwords(service: Service, root: Client, length: int) -> None:
    """Nothing is cut: the last character counts."""
    password = ("Aa1-" * 256)[: length - 1] + "x"
    await root.ok("POST", "admin/a@admins.test", password=password)
    await service.client().login("a@admins.test", password)
    for other in (password[:-1], password[:-1] + "y", password[:64], password[:72]):
        if other != password:
            form = {"username": "a@admins.test", "password": other}
            assert (await service.client().refused("POST", "login", **form))[0] == 401


async def test_lesson_39_too_long_for_the_scheme(store: Store, root: Client) -> None:
    async with serving(store, password_scheme="BCRYPT") as service:
        client = await service.root()
        for length, status in ((72, 200), (73, 400)):
            password = ("Aa1-" * 50)[:length]
            answer = await client.call(
                "POST", f"admin/a{length}@admins.test", data={"password": password}
            )
            assert answer[0] == status, answer
            if status == 400:
                assert answer[1]["_msg"] == "PW_GREATER_THAN_MAX_LENGTH"
        await service.client().login("a72@admins.test", ("Aa1-" * 50)[:72])


@pytest.mark.parametrize(
    "password", ["--Aa1 x y-", "-Aa1bcd;", "Aa1<>&%+ =#?", "Aa1\"'\\`x", " Aa1-blanks "]
)
async def test_passwords_with_any_symbol(service: Service, root: Client, password: str) -> None:
    await root.ok("POST", "admin/a@admins.test", password=password)
    await service.client().login("a@admins.test", password)
    status, _ = await service.client().call(
        "POST", "login", params={"username": "a@admins.test", "password": password}
    )
    assert status == 200


# From where --------------------------------------------------------------------------------------


ALLOWED = ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]


async def test_allowed_networks(store: Store, root: Client) -> None:
    async with serving(store, allowed_networks=ALLOWED) as service:
        for address in ("192.0.2.9", "2001:db8::9", "198.51.100.7", "::ffff:192.0.2.9"):
            await service.client(address=address).login()
        for address in (
            "127.0.0.1",
            "192.0.3.1",
            "198.51.100.8",
            "::1",
            "::ffff:10.0.0.1",
            "",
            "testclient",
        ):
            client = service.client(address=address)
            for method, path in (
                ("POST", "login"),
                ("GET", "domains"),
                ("GET", "nothing"),
                ("POST", "logout"),
            ):
                status, answer = await client.call(method, path)
                assert (status, answer["_msg"]) == (403, "NOT_AUTHORIZED")
            for page in ("/docs", "/openapi.json", "/", "/docs-assets/swagger-ui.css"):
                response = await client.http.get(f"http://server{page}")
                assert response.status_code == 403, page


async def test_restful_api_clients_of_the_panel(service: Service, root: Client) -> None:
    await panel(service, "restful_api_clients", ["192.0.2.0/24", "2001:db8::1"])
    await service.client(address="192.0.2.1").login()
    await service.client(address="2001:db8::1").login()
    for address in ("127.0.0.1", "2001:db8::2"):
        client = service.client(address=address)
        assert (await client.refused("POST", "login", **RIGHT))[:2] == (403, "NOT_AUTHORIZED")
    # Somebody who is in already is out at once, too.
    assert (await root.refused("GET", "domains"))[:2] == (403, "NOT_AUTHORIZED")
    await panel(service, "restful_api_clients", [])
    await root.ok("GET", "domains")


async def test_both_lists_must_admit(store: Store, root: Client) -> None:
    async with serving(store, allowed_networks=["192.0.2.0/24"]) as service:
        await panel(service, "restful_api_clients", ["192.0.2.0/25", "127.0.0.1"])
        await service.client(address="192.0.2.1").login()
        for address in ("192.0.2.200", "127.0.0.1"):
            refused = await service.client(address=address).refused("POST", "login", **RIGHT)
            assert refused[:2] == (403, "NOT_AUTHORIZED")


@pytest.mark.parametrize(
    "value",
    [
        ["127.0.0.1", "nonsense"], ["127.0.0.1/33"], ["127.0.0.1/8"], "{broken", "{}", "null",
        {"a": 1}, "[]", '{"value": "127.0.0.1"}', [None], [""],
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["restful_api_clients", "admin_login_ip_list"])
async def test_a_malformed_entry_closes_the_list(
    service: Service, root: Client, key: str, value: Any
) -> None:
    """Fail closed: what cannot be read admits nobody."""
    await panel(service, key, value)
    code = "NOT_AUTHORIZED" if key == "restful_api_clients" else "NOT_ALLOWED_IP"
    assert (await service.client().refused("POST", "login", **RIGHT))[:2] == (403, code)


@pytest.mark.parametrize("value", ["nonsense", "10.0.0.1/33", "10.0.0.1/8", "10.0.0.0/8,x"])
def test_a_malformed_setting_is_named_at_start(value: str) -> None:
    for name in ("allowed_networks", "trusted_proxies"):
        with pytest.raises(ConfigurationError, match=f"IREDAPI_{name.upper()}: ") as caught:
            load(None, **{name: value})
        assert len(str(caught.value).splitlines()) == 1


async def test_admin_login_ip_list(service: Service, root: Client) -> None:
    await root.ok("POST", "admin/a@admins.test", password=PASSWORD)
    await panel(service, "admin_login_ip_list", ["192.0.2.0/24"])
    for mail in (ROOT, "a@admins.test"):
        form = {"username": mail, "password": PASSWORD}
        refused = await service.client().refused("POST", "login", **form)
        assert refused[:2] == (403, "NOT_ALLOWED_IP")
        await service.client(address="192.0.2.1").login(mail)


async def test_global_admin_ip_list(service: Service, root: Client) -> None:
    await root.ok("POST", "admin/a@admins.test", password=PASSWORD)
    await panel(service, "global_admin_ip_list", ["192.0.2.0/24"])
    refused = await service.client().refused("POST", "login", **RIGHT)
    assert refused[:2] == (403, "NOT_ALLOWED_IP")
    await service.client(address="192.0.2.1").login()
    await service.client().login("a@admins.test")


WALKS = [
    # trusted proxies, socket, X-Forwarded-For, client
    ([], "192.0.2.1", "10.9.9.9", "192.0.2.1"),
    ([], "127.0.0.1", "10.9.9.9", "127.0.0.1"),
    (["10.0.0.1"], "192.0.2.1", "10.9.9.9", "192.0.2.1"),
    (["10.0.0.1"], "10.0.0.1", "", "10.0.0.1"),
    (["10.0.0.1"], "10.0.0.1", "198.51.100.1", "198.51.100.1"),
    (["10.0.0.1"], "10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
    (["10.0.0.0/8"], "10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
    (["10.0.0.0/8"], "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
    (["10.0.0.0/8"], "10.0.0.1", "1.1.1.1, nonsense", ""),
    (["10.0.0.0/8"], "10.0.0.1", "1.1.1.1, unknown, 10.0.0.2", ""),
    (["10.0.0.1"], "10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
    (["10.0.0.1"], "::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
    (["::ffff:10.0.0.1"], "10.0.0.1", "198.51.100.1", "198.51.100.1"),
    (["10.0.0.1"], "10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
    (["10.0.0.1"], "10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
    (["10.0.0.1"], "10.0.0.1", "2001:DB8:0:0::1", "2001:db8::1"),
    (["2001:db8::/64"], "2001:db8::1", "198.51.100.1", "198.51.100.1"),
    (["10.0.0.1"], "10.0.0.1", '"198.51.100.1"', "198.51.100.1"),
]


@pytest.mark.parametrize("proxies, peer, header, expected", WALKS)
def test_lesson_34_client_address(
    proxies: list[str], peer: str, header: str, expected: str
) -> None:
    from iredapi.web import client_address

    headers = [(b"x-forwarded-for", header.encode())] if header else []
    headers += [
        (b"x-real-ip", b"1.2.3.4"),
        (b"forwarded", b"for=1.2.3.4"),
        (b"cf-connecting-ip", b"1.2.3.4"),
    ]
    scope = {"client": (peer, 1), "headers": headers, "scheme": "http"}
    found = client_address.resolve(scope, client_address.networks(proxies))[0]
    assert found == expected
    if "," in header:
        # Several headers are one list.
        parts = [(b"x-forwarded-for", part.encode()) for part in header.split(",")]
        scope["headers"] = parts
        assert client_address.resolve(scope, client_address.networks(proxies))[0] == expected


async def test_lesson_34_one_function_for_lists_and_throttle(store: Store, root: Client) -> None:
    async with serving(
        store, trusted_proxies=["10.0.0.1"], allowed_networks=["192.0.2.0/24"]
    ) as service:
        forged = {"X-Forwarded-For": "192.0.2.1"}
        outside = service.client(address="203.0.113.1")
        response = await outside.http.post("login", data=RIGHT, headers=forged)
        assert response.json()["_msg"] == "NOT_AUTHORIZED"
        proxy = service.client(address="10.0.0.1")
        response = await proxy.http.post("login", data=RIGHT)
        assert response.json()["_msg"] == "NOT_AUTHORIZED"
        for number in range(10):
            header = {"X-Forwarded-For": f"{number}.1.1.1, 192.0.2.1"}
            form = {"username": f"x{number}@x.com", "password": "x"}
            response = await proxy.http.post("login", data=form, headers=header)
            assert response.status_code == 401
        response = await proxy.http.post("login", data=RIGHT, headers=forged)
        assert response.status_code == 429
        other = {"X-Forwarded-For": "192.0.2.2"}
        response = await proxy.http.post("login", data=RIGHT, headers=other)
        assert response.status_code == 200
        rows = await service.store.rows("SELECT ip FROM log WHERE event = 'login'", "iredadmin")
        assert rows[-1]["ip"] == "192.0.2.2"


# What is never said ------------------------------------------------------------------------------

CANARY = "C4nary-Secret-Value"


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """A function that gives all that was logged or printed so far, at the most talkative level."""
    configure("DEBUG")
    caplog.set_level(logging.DEBUG)

    def text() -> str:
        # The client of the tests logs its own requests.
        records = [record for record in caplog.records if not record.name.startswith("http")]
        printed = capsys.readouterr()
        return printed.out + printed.err + "\n".join(record.getMessage() for record in records)

    yield text
    configure("ERROR")


async def test_lesson_35_secrets_are_never_logged(
    service: Service, root: Client, shown: Any
) -> None:
    """Canaries in body, query, header, cookie and on error paths; in no log and in no answer."""
    salted = hash_password(CANARY)
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=CANARY)
    texts = []

    async def send(method: str, path: str, **kwargs: Any) -> None:
        texts.append((await root.http.request(method, path, **kwargs)).text)

    for form in ({"password": CANARY}, {"password_hash": salted}):
        for kind in ("data", "json", "params"):
            await send("PUT", "user/u@ex.com", **{kind: form})
            await send("PUT", "user/nobody@ex.com", **{kind: form})
            await send("POST", "user/u@ex.com", **{kind: form})
            await send("PUT", "user/u@ex.com", **{kind: form | {"quota": "much"}})
            await send("PUT", "users/ex.com", **{kind: form})
            await send("POST", f"admin/a-{kind}@admins.test", **{kind: form})
            await send("POST", "domain/ex.com", **{kind: form})
            await send("GET", "domains", params=form)
            await send("GET", "nothing", params=form)
            await send("PATCH", "domains", params=form)
    await send("POST", "verify_password/user/u@ex.com", data={"password": CANARY})
    await send("POST", "verify_password/user/u@ex.com", params={"password": CANARY + "x"})
    await send(
        "PUT",
        "user/u@ex.com",
        content=f'{{"password": "{CANARY}"'.encode(),
        headers={"Content-Type": "application/json"},
    )
    await send("PUT", "user/u@ex.com", json={"password": [CANARY], "name": {"x": CANARY}})
    await send("PUT", "user/u@ex.com", data={"password": f"{{SSHA}}{CANARY}"})
    await send("PUT", "user/u@ex.com", data={"password_hash": f"{{NONSENSE}}{CANARY}"})
    await send("PUT", "user/u@ex.com", data={"password": f"{CANARY}é\n"})
    await send("GET", "domains", headers={"Authorization": f"Bearer {CANARY}", "X-Token": CANARY})
    stranger = service.client()
    for kind in ("data", "json", "params"):
        for username in (ROOT, "nobody@x.com"):
            payload: dict[str, Any] = {kind: {"username": username, "password": CANARY}}
            response = await stranger.http.post("login", **payload)
            texts.append(response.text)
    texts.append(
        (await stranger.http.get("domains", headers={"Cookie": f"{COOKIE}={CANARY}"})).text
    )
    session = root.http.cookies[COOKIE]
    logged = shown()
    assert '"event": "request"' in logged or '"event":"request"' in logged
    panel_log = str(await service.store.rows("SELECT * FROM log", "iredadmin"))
    state = str(await service.store.rows("SELECT * FROM sessions", "state"))
    state += str(await service.store.rows("SELECT * FROM login_attempts", "state"))
    for text in (logged, panel_log, state, "".join(texts)):
        assert CANARY not in text
        assert salted not in text
        assert salted.partition("}")[2] not in text
        assert session not in text
        assert PASSWORD not in text
        assert "{SSHA512}" not in text


async def test_lesson_35_errors_of_the_database(service: Service, root: Client, shown: Any) -> None:
    """A driver's error holds the statement's values: neither is logged, nor told."""
    salted = hash_password(CANARY)
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    texts = []
    for table in ("mailbox", "admin"):
        for verb in ("INSERT", "UPDATE"):
            await service.store.execute(
                f"CREATE TRIGGER refuse_{table}_{verb} BEFORE {verb} ON {table}"
                " BEGIN SELECT RAISE(ABORT, 'refused by a trigger'); END"
            )
    try:
        for method, path, form in (
            ("POST", "user/n@ex.com", {"password_hash": salted}),
            ("PUT", "user/u@ex.com", {"password_hash": salted}),
            ("PUT", "users/ex.com", {"password": CANARY}),
            ("POST", "admin/a@admins.test", {"password": CANARY}),
            ("PUT", f"admin/{ROOT}", {"password": CANARY}),
        ):
            response = await root.http.request(method, path, data=form)
            assert response.status_code >= 400
            texts.append(response.text)
    finally:
        for table in ("mailbox", "admin"):
            for verb in ("INSERT", "UPDATE"):
                await service.store.execute(f"DROP TRIGGER refuse_{table}_{verb}")
    logged = shown()
    for text in (logged, "".join(texts)):
        assert CANARY not in text
        assert salted not in text
        assert "{SSHA512}" not in text
    assert "trigger" not in "".join(texts)


async def test_lesson_35_crashes(
    service: Service, root: Client, shown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback is logged without the values of variables, under the request's id."""
    from iredapi.operations import users

    def crash(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("unforeseen")

    await root.ok("POST", "domain/ex.com")
    monkeypatch.setattr(users, "check_available", crash)
    response = await root.http.post(
        "user/n@ex.com", data={"password": CANARY}, headers={"X-Request-Id": "find-me-here"}
    )
    assert response.status_code == 500
    logged = shown()
    assert "find-me-here" in logged
    assert "RuntimeError" in logged
    assert CANARY not in logged
    assert "{SSHA512}" not in logged


async def test_secret_settings_are_not_shown() -> None:
    settings = Settings(
        _env_file=None,
        vmail_url=f"postgresql://u:{CANARY}@h/vmail",
        admin_password=CANARY,
        mlmmjadmin_url="http://127.0.0.1:7790/api",
        mlmmjadmin_token=CANARY,
    )
    assert CANARY not in repr(settings)
    assert CANARY not in str(settings)


async def test_lesson_36_hashes_are_hidden(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    admin = await service.admin_of("ex.com")
    for client in (root, admin):
        for path in ("user/u@ex.com", "users/ex.com", "domain/ex.com", "domains", f"admin/{ROOT}"):
            _, answer = await client.call("GET", path)
            assert "SSHA512" not in json.dumps(answer)
            assert '"password"' not in json.dumps(answer)


async def test_lesson_36_unhidden_hashes_are_for_global_admins(store: Store, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    async with serving(store, hidden_user_fields=[], hidden_admin_fields=[]) as service:
        admin = await service.admin_of("ex.com")
        chief = await service.root()
        for path in ("user/u@ex.com", "users/ex.com"):
            assert "{SSHA512}" in json.dumps(await chief.ok("GET", path))
            assert "{SSHA512}" not in json.dumps(await admin.ok("GET", path))
        assert "{SSHA512}" in json.dumps(await chief.ok("GET", f"admin/{ROOT}"))
