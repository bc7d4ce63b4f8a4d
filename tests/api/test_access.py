"""Who may do what: the readable matrix is the table in the code, and what really happens.

``access_matrix.txt`` is written by hand. The numbers of ``lesson`` are those of incidents
of comparable systems (tests/unit/test_known_incidents_covered.py).
"""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from iredapi.app import create_app
from iredapi.auth import permissions
from iredapi.auth.permissions import RULES, Action, Target, check
from iredapi.domain.actors import Actor
from iredapi.domain.passwords import hash_password
from iredapi.domain.scopes import scope
from iredapi.errors import LoginRequired, PermissionDenied
from iredapi.workflows.admins import create_admin, set_admin_password
from tests.clients import PASSWORD, Client, Service
from tests.servers.store import DATABASES

pytestmark = pytest.mark.stores("sqlite")

MATRIX = Path(__file__).parent / "access_matrix.txt"
HASH = hash_password(PASSWORD)
ANSWERS = ("yes", "no", "login")


# The matrix and the table ------------------------------------------------------------------------


def matrix() -> dict[tuple[str, str, str], str]:
    """(action, target, persona) → yes, no or login."""
    lines = [line.split() for line in MATRIX.read_text(encoding="utf-8").splitlines()]
    rows = [line for line in lines if line and line[0] != "#"]
    header, *rows = rows
    found = {}
    for action, target, *answers in rows:
        assert set(answers) <= set(ANSWERS), (action, target)
        for persona, answer in zip(header[2:], answers, strict=True):
            assert (action, target, persona) not in found
            found[action, target, persona] = answer
    return found


CELLS = matrix()
PERSONAS = list(dict.fromkeys(persona for _, _, persona in CELLS))
ROWS = list(dict.fromkeys((action, target) for action, target, _ in CELLS))

ACTORS: dict[str, Actor | None] = {
    "anonymous": None,
    "global": Actor("global@admins.test", is_global=True, domains=frozenset()),
    "global-user": Actor("global-user@g.com", is_global=True, domains=frozenset()),
    "admin-of-a": Actor("admin-of-a@admins.test", is_global=False, domains=frozenset({"a.com"})),
    "creator": Actor(
        "creator@admins.test",
        is_global=False,
        domains=frozenset({"a.com"}),
        settings={"create_new_domains": "yes"},
    ),
    "user-admin": Actor("user-admin@a.com", is_global=False, domains=frozenset({"a.com"})),
    "of-nothing": Actor("of-nothing@admins.test", is_global=False, domains=frozenset()),
    "limited": Actor(
        "global@admins.test", is_global=True, domains=frozenset(), token="x", limited=True
    ),
}


def bearer(service: Service, secret: str, *, address: str = "127.0.0.1") -> Client:
    """A client that sends a token."""
    client = service.client(address=address)
    client.http.headers["Authorization"] = f"Bearer {secret}"
    return client


def targets(target: str) -> Target:
    own, _, new = target.partition(">")
    domain = {"own": "a.com", "foreign": "b.com"}.get(own, "")
    new_domain = {"own": "a.com", "foreign": "b.com"}.get(new, "")
    return Target(
        domain=domain,
        mail=f"u@{domain}" if domain else "",
        new_mail=f"n@{new_domain}" if new_domain else "",
        scope=scope(domain or target) if domain or target == "global" else None,
    )


def test_the_matrix_is_the_table() -> None:
    """Every action is in the file, for every persona; and the file says what the table says."""
    assert {action for action, _ in ROWS} == set(Action) == set(RULES)
    assert set(PERSONAS) == set(ACTORS)
    assert len(CELLS) == len(ROWS) * len(PERSONAS)
    wrong = []
    for (action, target, persona), expected in CELLS.items():
        try:
            check(ACTORS[persona], Action(action), targets(target))
            answer = "yes"
        except LoginRequired:
            answer = "login"
        except PermissionDenied:
            answer = "no"
        if answer != expected:
            wrong.append(f"{action} {target} {persona}: file {expected}, table {answer}")
    assert not wrong


def test_every_target_is_in_the_matrix() -> None:
    """An action on a domain or an account has a row for an own and for a foreign one."""
    for action in Action:
        have = {target for name, target in ROWS if name == action}
        if action.endswith(".rename"):
            assert have == {"own>own", "own>foreign", "foreign>own", "foreign>foreign"}
        elif have != {"-"}:
            assert have - {"global"} == {"own", "foreign"}, action


# Routes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    action: Action


def routes(app: Any) -> list[Route]:
    """Every route of the API with the action that it names."""
    return [
        Route(route.method, route.path, route.action)
        for router in app.operations
        for route in router.routes
    ]


def targets_of(route: Route) -> list[str]:
    """The targets of the action's rows that this path can name."""
    named = set(re.findall(r"{(\w+)}", route.path)) & {"account", "domain", "mail"}
    found = [target for action, target in ROWS if action == route.action]
    if found == ["-"]:
        return found
    return [
        target
        for target in found
        if ("account" in named or not named if target == "global" else bool(named))
    ]


def examples(app: FastAPI, route: Route) -> dict[str, str]:
    """The documented examples of what the path names."""
    operation = app.openapi()["paths"][f"/api{route.path}"][route.method.lower()]
    return {
        parameter["name"]: str(parameter["example"])
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "path"
    }


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    from iredapi.config.settings import Settings

    return create_app(Settings(_env_file=None, data_dir=tmp_path_factory.mktemp("none")))


def test_every_route_names_an_action(app: FastAPI) -> None:
    """And every action has a route; no route of the API is outside of what was looked at."""
    all_routes = routes(app)
    assert {route.action for route in all_routes} == set(Action)
    document = app.openapi()
    documented = {
        (method.upper(), path) for path, verbs in document["paths"].items() for method in verbs
    }
    assert documented == {(route.method, f"/api{route.path}") for route in all_routes}


def test_only_login_and_logout_are_public() -> None:
    assert set(permissions.PUBLIC) == {Action.LOGIN, Action.LOGOUT}


# Live answers ------------------------------------------------------------------------------------


FORMS: dict[Action, dict[str, str]] = {
    Action.ADMIN_CREATE: {"password": PASSWORD},
    Action.ADMIN_UPDATE: {"name": "New"},
    Action.ADMIN_VERIFY_PASSWORD: {"password": PASSWORD},
    Action.SEARCH_READ: {"q": "ab"},
    Action.TOKEN_CREATE: {"label": "x"},
    Action.WEBHOOK_CREATE: {"label": "x", "url": "https://billing.example.com/"},
    Action.ALIAS_CREATE: {"members": "x@gmail.com"},
    Action.ALIAS_UPDATE: {"addMember": "y@gmail.com"},
    Action.DOMAIN_ADMINS: {"removeAdmin": "somebody@admins.test"},
    Action.DOMAIN_UPDATE: {"name": "New"},
    Action.LOGIN: {"username": "global@admins.test", "password": PASSWORD},
    Action.ML_CREATE: {"name": "New"},
    Action.ML_UPDATE: {"name": "New"},
    Action.USERS_UPDATE: {"language": "de_DE"},
    Action.USER_CREATE: {"password_hash": HASH},
    Action.USER_UPDATE: {"name": "New"},
    Action.USER_VERIFY_PASSWORD: {"password": PASSWORD},
}


class World:
    """Fresh targets for each call, and a client for each persona."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.store = service.store
        self.clients: dict[str, Client] = {}
        self._numbers = itertools.count()

    async def build(self) -> None:
        for name in ("a.com", "b.com", "g.com"):
            await self.domain(name)
        for persona, actor in ACTORS.items():
            self.clients[persona] = self.service.client()
            if actor is None:
                continue
            mail = actor.username
            if actor.limited:
                made = await (await self.service.client().login(mail)).ok(
                    "POST", "tokens", label="x", days="1"
                )
                self.clients[persona] = bearer(self.service, made["token"])
                continue
            settings = "".join(f"{key}:{value};" for key, value in actor.settings.items())
            if mail.endswith("@admins.test"):
                await self.store.insert(
                    "admin", {"username": mail, "password": HASH, "settings": settings}
                )
            else:
                await self.user(mail, isadmin=1, isglobaladmin=int(actor.is_global))
            for domain in {"ALL"} if actor.is_global else actor.domains:
                await self.grant(mail, domain)
            await self.clients[persona].login(mail)

    async def grant(self, mail: str, domain: str) -> None:
        await self.store.insert("domain_admins", {"username": mail, "domain": domain, "active": 1})
        self.service.context.invalidate_caches()

    async def domain(self, name: str) -> None:
        # Mailboxes that were deleted in the second of the domain's creation are nobody's.
        await self.store.insert("domain", {"domain": name, "created": "2020-01-01 00:00:00"})

    async def user(self, mail: str, **columns: Any) -> None:
        domain = mail.rpartition("@")[2]
        await self.store.insert(
            "mailbox", {"username": mail, "domain": domain, "password": HASH, **columns}
        )
        await self.forwarding(mail, mail, is_forwarding=1)

    async def alias(self, address: str) -> None:
        domain = address.rpartition("@")[2]
        await self.store.insert("alias", {"address": address, "domain": domain})
        await self.forwarding(address, "x@gmail.com", is_list=1)

    async def mailing_list(self, address: str) -> None:
        await (await self.service.root()).ok("POST", f"ml/{address}")

    async def forwarding(self, address: str, to: str, **flags: int) -> None:
        row = {"address": address, "forwarding": to, "domain": address.rpartition("@")[2]}
        await self.store.insert("forwardings", row | flags)

    async def token(self, name: str, owner: str) -> None:
        row: dict[str, Any] = dict.fromkeys(("secret_hash", "account"), name * 4)
        row |= {"id": name, "owner": owner, "role": "normal", "label": "x", "domains": "*"}
        row |= {"networks": "", "hint": "x", "created": 1.0, "old_until": 0.0, "read_only": 0}
        await self.store.insert("tokens", row, database="state")

    async def session(self, name: str, owner: str) -> None:
        now = time.time()
        row: dict[str, Any] = {"id_hash": name * 4, "credential": "x" * 64, "username": owner}
        row |= {"role": "normal", "client": "", "created": now, "seen": now, "expires": now + 99}
        await self.store.insert("sessions", row, database="state")

    async def path(self, route: Route, target: str, persona: str) -> str:
        """Make what the call needs, and return its path."""
        number = next(self._numbers)
        kind, _, new_kind = target.partition(">")
        actor = ACTORS[persona]
        names = {"own": "a.com", "foreign": "b.com"}
        values = {**examples(self.service.app, route), "number": "30"}
        if route.action is Action.DOMAIN_CREATE:
            values["domain"] = f"new{number}.com"
        elif route.action is Action.DOMAIN_DELETE:
            values["domain"] = f"old{number}.com"
            await self.domain(values["domain"])
            if kind == "own" and actor and not actor.is_global:
                await self.grant(actor.username, values["domain"])
                # What the session knows of its owner is read at each request.
        elif "{domain}" in route.path:
            values["domain"] = names[kind]
        elif "{account}" in route.path:
            values["account"] = names.get(kind, kind)
        if route.path.startswith(("/admin/", "/verify_password/admin/", "/ldif/admin/")):
            own = actor.username if actor else "of-nothing@admins.test"
            values["mail"] = own if kind == "own" else f"x{number}@admins.test"
            if kind == "foreign":
                await self.store.insert("admin", {"username": values["mail"], "password": HASH})
        elif "{mail}" in route.path:
            values["mail"] = f"m{number}@{names[kind]}"
            if not route.action.endswith(".create"):
                make = self.alias if "/alias/" in route.path else self.user
                make = self.mailing_list if route.path.startswith("/ml/") else make
                await make(values["mail"])
        if "{mailbox_id}" in route.path:
            values["mailbox_id"] = str(number + 1000)
            mailbox = {"id": number + 1000, "username": "x@a.com", "domain": "a.com"}
            await self.store.insert("deleted_mailboxes", mailbox | {"maildir": f"/m/{number}"})
        if "{token_id}" in route.path:
            values["token_id"] = f"{number:016x}"
            await self.token(values["token_id"], actor.username if actor else "nobody@x.com")
        if "{webhook_id}" in route.path:
            values["webhook_id"] = f"{number:016x}"
        if "{session_id}" in route.path:
            values["session_id"] = f"{number:016x}"
            await self.session(values["session_id"], actor.username if actor else "nobody@x.com")
        if "{new_mail}" in route.path:
            values["new_mail"] = f"n{number}@{names[new_kind]}"
        return re.sub(r"{(\w+)}", lambda found: values[found[1]], route.path)

    async def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Every row of every table, but for the state of sessions and throttles."""
        found = {}
        for database in DATABASES[:-1]:
            tables = await self.store.rows(
                "SELECT name FROM sqlite_master WHERE type = 'table'", database
            )
            for table in tables:
                name = table["name"]
                found[f"{database}.{name}"] = await self.store.rows(
                    f'SELECT * FROM "{name}"', database
                )
        return found


@pytest_asyncio.fixture(loop_scope="session")
async def world(service: Service) -> World:
    built = World(service)
    await built.build()
    return built


def verdict(status: int, answer: dict[str, Any]) -> str:
    if (status, answer.get("_msg")) == (401, "LOGIN_REQUIRED"):
        return "login"
    if status == 403 and answer.get("_msg") in {"PERMISSION_DENIED", "LIMITED_TOKEN"}:
        return "no"
    return "yes"


POLICIES = ("spampolicy.", "throttle.", "wblist.", "greylisting")
LDAP_ONLY = ("maillist.", "maillists.", "ldif.")
# Off by default; with events: tests/contract/test_webhooks.py.
OFF = ("events.", "webhook.", "webhooks.", "webhook_deliveries.")
# What is allowed by the table and then refused by a rule.
REFUSED_LATER = {
    ("deleted_mailbox.update", "-", "of-nothing"): 404,
    ("session.end", "-", "*"): 404,  # the call before has ended all sessions but one
    ("admin.read", "own", "global-user"): 404,  # not a standalone admin
    ("admin.update", "own", "global-user"): 404,
    ("admin.delete", "own", "global"): 409,  # yourself
    ("admin.delete", "own", "global-user"): 409,
    ("admin.delete", "own", "limited"): 409,
    ("token.read", "-", "limited"): 404,  # a wider one
    ("token.rotate", "-", "limited"): 404,
    ("token.revoke", "-", "limited"): 404,
    ("user.rename", "own>foreign", "*"): 400,
    ("user.rename", "foreign>own", "*"): 400,
    ("alias.rename", "own>foreign", "*"): 400,
    ("alias.rename", "foreign>own", "*"): 400,
}


@pytest.mark.parametrize("persona", PERSONAS)
async def test_live_answers(world: World, persona: str) -> None:
    """The matrix holds on every route; what is refused changes nothing and leaves no log."""
    calls = []
    for route in routes(world.service.app):
        for target in targets_of(route):
            if route.action is Action.LOGOUT:
                continue  # below, on its own
            expected = CELLS[route.action, target, persona]
            calls.append((route, target, expected, await world.path(route, target, persona)))
    before = await world.rows()
    client = world.clients[persona]
    wrong = []
    # First all that must be refused.
    for route, target, expected, path in sorted(calls, key=lambda call: call[2] == "yes"):
        if expected == "yes" and before:
            after = await world.rows()
            assert [name for name in before if before[name] != after[name]] == []
            before = {}
        form = FORMS.get(route.action, {})
        if route.action is Action.LOGIN and (actor := ACTORS[persona]):
            form = form | {"username": actor.username}  # or all later calls are somebody else's
        payload = {"params" if route.method == "GET" else "data": form}
        status, answer = await client.call(route.method, path, **payload)
        name = f"{route.method} {path} ({route.action} {target})"
        if route.method == "GET":
            head = await client.http.head(path, params=form)
            if (head.status_code, head.content) != (status, b""):
                wrong.append(f"HEAD, not {name}: {status}, is {head.status_code} {head.content!r}")
        if verdict(status, answer) != expected:
            wrong.append(f"{name}: expected {expected}, is {status} {answer}")
        elif expected == "yes":
            later = [REFUSED_LATER.get((route.action, target, who)) for who in (persona, "*")]
            # The policies want forms of their own: it is enough that they were let in.
            lenient = route.action.startswith(POLICIES)
            wanted = next((code for code in later if code), 200)
            if route.action.startswith((*LDAP_ONLY, *OFF)):
                wanted = 501
            if (status >= 500 and status != wanted) or (status != wanted and not lenient):
                wrong.append(f"{name}: {status} {answer}")
        else:
            # Nothing is told but the code: no parameter was looked at, no account looked for.
            extra = answer.keys() - {"_success", "_msg", "_detail", "_request_id"}
            if extra or "errors" in answer:
                wrong.append(f"{name}: tells {extra}")
    assert not wrong, "\n".join(wrong)
    status, answer = await client.call("POST", "logout")
    assert (status, answer) == (200, {"_success": True})


@pytest.mark.parametrize("persona", ["admin-of-a", "creator", "user-admin", "of-nothing"])
async def test_a_missing_target_looks_like_a_foreign_one(world: World, persona: str) -> None:
    """An unknown name is refused with the same words as a forbidden one."""
    client = world.clients[persona]
    for route in routes(world.service.app):
        if "foreign" not in targets_of(route):
            continue
        answers = []
        for domain in ("b.com", "nowhere.com"):
            values = examples(world.service.app, route) | {"domain": domain, "account": domain}
            values |= {"mail": f"m@{domain}", "new_mail": f"n@{domain}", "number": "1"}
            path = route.path.format(**values)
            if domain == "b.com" and not route.action.endswith(".create"):
                await world.store.execute("DELETE FROM mailbox WHERE username = 'm@b.com'")
                await world.store.execute("DELETE FROM alias WHERE address = 'm@b.com'")
                await (world.alias if "/alias/" in path else world.user)("m@b.com")
                await world.store.execute("DELETE FROM forwardings")
            form = FORMS.get(route.action, {})
            payload = {"params" if route.method == "GET" else "data": form}
            status, answer = await client.call(route.method, path, **payload)
            answer.pop("_request_id")
            answers.append((status, answer))
        assert answers[0] == answers[1], route
        assert answers[0][0] == 403, route


async def test_rights_come_before_parameters(world: World) -> None:
    """Who may not do a thing learns nothing about its parameters."""
    nonsense = {"quota": "much", "accountStatus": "perhaps", "name": "\x00"}
    for persona in ("anonymous", "admin-of-a"):
        for method, path in (("PUT", "user/u@b.com"), ("POST", "user/u@b.com"), ("PUT", "domain/b.com")):  # fmt: skip  # noqa: E501
            status, answer = await world.clients[persona].call(method, path, data=nonsense)
            assert status in {401, 403}
            assert "_errors" not in answer


# Lessons -----------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def admin(world: World) -> Client:
    """The normal admin of a.com who may create domains."""
    return world.clients["creator"]


async def unchanged(world: World, before: dict[str, Any], *but: str) -> None:
    after = await world.rows()
    assert [name for name in before if before[name] != after[name] and name not in but] == []


async def test_lesson_01_domain_of_somebody_else(world: World, admin: Client) -> None:
    before = await world.rows()
    for path in ("domain/b.com", "domain/b.com/keep_mailbox_days/1", "domain/nowhere.com"):
        assert (await admin.refused("DELETE", path))[:2] == (403, "PERMISSION_DENIED")
    await unchanged(world, before)


async def test_lesson_02_neighbouring_handlers(world: World, admin: Client) -> None:
    await world.user("u@b.com")
    before = await world.rows()
    for method, path in (
        ("POST", "verify_password/user/u@b.com"),
        ("POST", "verify_password/user/u@a.com"),
        ("POST", "verify_password/admin/global@admins.test"),
        ("POST", "user/u@b.com/change_email/n@b.com"),
        ("POST", "user/u@b.com/change_email/n@a.com"),
        ("PUT", "user/u@a.com/change_email/n@b.com"),
        ("PUT", "users/b.com"),
        ("PUT", "domain/admins/b.com"),
    ):
        refused = await admin.refused(method, path, password=PASSWORD, language="de_DE")
        assert refused[:2] == (403, "PERMISSION_DENIED"), path
    await unchanged(world, before)


async def test_lesson_03_no_name_means_everything(world: World, admin: Client) -> None:
    before = await world.rows()
    for path in ("domain/ALL", "domain/global", "users/ALL", "domain/admins/ALL"):
        for method in ("GET", "PUT", "POST", "DELETE"):
            status, answer = await admin.call(method, path, data={"addAdmin": "user-admin@a.com"})
            assert status in {400, 403, 404, 405}, (method, path, answer)
    await unchanged(world, before)


async def test_lesson_04_account_with_a_higher_role(world: World, admin: Client) -> None:
    """A global admin inside the own domain is out of reach of its normal admins."""
    await world.user("boss@a.com", isadmin=1, isglobaladmin=1)
    await world.grant("boss@a.com", "ALL")
    before = await world.rows()
    for form in (
        {"password": PASSWORD},
        {"password_hash": HASH},
        {"name": "X"},
        {"accountStatus": "disabled"},
        {"isGlobalAdmin": "no"},
        {"forwarding": "thief@gmail.com"},
        {"addAlias": "x@a.com"},
    ):
        status, code, _ = await admin.refused("PUT", "user/boss@a.com", **form)
        assert (status, code) == (403, "PERMISSION_DENIED_UPDATE_GLOBAL_ADMIN_PROFILE")
    await unchanged(world, before)


@pytest.mark.parametrize("mark", ["only the column", "only the ALL row"])
async def test_lesson_04_either_mark_is_enough(world: World, admin: Client, mark: str) -> None:
    """Installer, howto and panel mark global admins in different ways."""
    await world.user("boss@a.com", isadmin=1, isglobaladmin=int(mark == "only the column"))
    if mark == "only the ALL row":
        await world.grant("boss@a.com", "ALL")
    before = await world.rows()
    for method, path, form in (
        ("PUT", "user/boss@a.com", {"password": PASSWORD}),
        ("DELETE", "user/boss@a.com", {}),
        ("POST", "user/boss@a.com/change_email/n@a.com", {}),
        ("DELETE", "domain/a.com", {}),
    ):
        status, code, _ = await admin.refused(method, path, **form)
        assert (status, code) == (403, "PERMISSION_DENIED_UPDATE_GLOBAL_ADMIN_PROFILE"), path
    await unchanged(world, before)


async def test_lesson_04_bulk_spares_global_admins(world: World, admin: Client) -> None:
    await world.user("boss@a.com", isadmin=1, isglobaladmin=1)
    await world.user("plain@a.com")
    status, answer = await admin.call(
        "PUT", "users/a.com", data={"accountStatus": "disabled", "password": "N3w-Password"}
    )
    assert status == 200, answer
    assert {item["value"] for item in answer["_skipped"]} == {"boss@a.com"}
    rows = await world.store.rows("SELECT username, active, password FROM mailbox")
    by_name = {row["username"]: row for row in rows}
    assert (by_name["boss@a.com"]["active"], by_name["boss@a.com"]["password"]) == (1, HASH)
    assert by_name["plain@a.com"]["active"] == 0
    assert by_name["plain@a.com"]["password"] != HASH


async def test_lesson_04_admin_of_more_than_i_manage(world: World, admin: Client) -> None:
    """Its password would open a domain that is not mine."""
    await world.user("both@a.com", isadmin=1)
    await world.grant("both@a.com", "a.com")
    await world.grant("both@a.com", "b.com")
    before = await world.rows()
    for form in ({"password": PASSWORD}, {"password_hash": HASH}):
        refused = await admin.refused("PUT", "user/both@a.com", **form)
        assert refused == (403, "PERMISSION_DENIED", list(form))
    await unchanged(world, before)
    _, answer = await admin.call("PUT", "users/a.com", data={"password": "N3w-Password"})
    assert "both@a.com" in {item["value"] for item in answer["_skipped"]}


@pytest.mark.parametrize(
    "form",
    [
        {"managed_domains": "a.com,b.com"},
        {"managedDomains": "b.com"},
        {"settings": "create_new_domains:yes;"},
        {"isadmin": "1", "isglobaladmin": "1"},
        {"is_global": "yes", "is_admin": "yes"},
        {"domain": "b.com", "username": "u@b.com", "mail": "u@b.com"},
        {"maxDomains": "100", "create_new_domains": "yes"},
    ],
    ids=lambda form: next(iter(form)),
)
async def test_lesson_05_fields_that_give_rights(
    world: World, admin: Client, form: dict[str, str]
) -> None:
    """What is no parameter is ignored, never stored."""
    await admin.ok("POST", "user/new@a.com", password_hash=HASH, **form)
    await admin.ok("PUT", "user/new@a.com", **form)
    row = (await world.store.rows("SELECT * FROM mailbox WHERE username = 'new@a.com'"))[0]
    assert (row["isadmin"], row["isglobaladmin"], row["settings"]) == (0, 0, "")
    assert row["domain"] == "a.com"
    admins = await world.store.rows("SELECT * FROM domain_admins WHERE username = 'new@a.com'")
    assert admins == []


@pytest.mark.parametrize("name", ["isGlobalAdmin", "domainGlobalAdmin"])
async def test_lesson_05_07_global_admin_field(world: World, admin: Client, name: str) -> None:
    await world.user("u@a.com")
    before = await world.rows()
    for method, path in (("POST", "user/new@a.com"), ("PUT", "user/u@a.com")):
        more = {"password_hash": HASH} if method == "POST" else {}
        refused = await admin.refused(method, path, **{name: "yes"}, **more)
        assert refused[:2] == (403, "PERMISSION_DENIED")
    await unchanged(world, before)


@pytest.mark.parametrize("name", ["isGlobalAdmin", "domainGlobalAdmin"])
async def test_saying_that_nobody_is_global_is_no_change(
    world: World, admin: Client, name: str
) -> None:
    """Some clients always send it."""
    await admin.ok("POST", "user/new@a.com", password_hash=HASH, **{name: "no"})
    await admin.ok("PUT", "user/new@a.com", **{name: "no"})
    row = (await world.store.rows("SELECT * FROM mailbox WHERE username = 'new@a.com'"))[0]
    assert (row["isadmin"], row["isglobaladmin"]) == (0, 0)


async def test_refused_parameters_have_their_wire_names(world: World, admin: Client) -> None:
    """``param`` is the name as a client sends it."""
    await world.user("u@a.com")
    await world.store.execute(
        "UPDATE domain SET settings = 'disabled_user_profiles:bcc,aliases;"
        "disabled_domain_profiles:bcc,catchall;' WHERE domain = 'a.com'"
    )
    status, _, names = await admin.refused(
        "PUT", "user/u@a.com", isGlobalAdmin="yes", senderBcc="x@gmail.com", addAlias="x@a.com"
    )
    assert (status, names) == (403, ["addAlias", "isGlobalAdmin", "senderBcc"])
    status, _, names = await admin.refused(
        "PUT", "domain/a.com", senderBcc="x@gmail.com", disableDomainProfile="bcc", catchall=""
    )
    assert (status, names) == (403, ["catchall", "disableDomainProfile", "senderBcc"])


async def test_lesson_06_admin_rights_for_others(world: World, admin: Client) -> None:
    await world.user("stranger@b.com")
    await world.user("u@a.com")
    before = await world.rows()
    for mail in ("stranger@b.com", "of-nothing@admins.test", "nobody@nowhere.com"):
        refused = await admin.refused("PUT", "domain/admins/a.com", addAdmin=f"u@a.com,{mail}")
        assert refused == (403, "PERMISSION_DENIED", ["addAdmin"])
    await unchanged(world, before)
    await admin.ok("PUT", "domain/admins/a.com", addAdmin="u@a.com")
    assert "u@a.com" in (await admin.ok("GET", "domain/a.com"))["admins"]


async def test_lesson_08_verify_password_is_global(world: World) -> None:
    await world.user("u@a.com")
    for persona in ("admin-of-a", "creator", "user-admin", "of-nothing"):
        client = world.clients[persona]
        for path in ("verify_password/user/u@a.com", "verify_password/admin/global@admins.test"):
            for password in (PASSWORD, "Wr0ng-Password"):
                refused = await client.refused("POST", path, password=password)
                assert refused[:2] == (403, "PERMISSION_DENIED")


async def test_lesson_09_the_last_global_admin_itself(world: World) -> None:
    await world.store.execute("DELETE FROM mailbox WHERE username = 'global-user@g.com'")
    await world.store.execute("DELETE FROM domain_admins WHERE username = 'global-user@g.com'")
    before = await world.rows()
    for method, path, form in (
        ("PUT", "admin/global@admins.test", {"isGlobalAdmin": "no"}),
        ("PUT", "admin/global@admins.test", {"accountStatus": "disabled"}),
        ("PUT", "admin/global@admins.test", {"domainGlobalAdmin": "no"}),
    ):
        refused = await world.clients["global"].refused(method, path, **form)
        assert refused[:2] == (409, "LAST_GLOBAL_ADMIN")
    await unchanged(world, before)


async def test_lesson_09_the_last_global_mail_user(world: World) -> None:
    """Also through its domain, and through the bulk operation."""
    await world.store.execute("DELETE FROM admin WHERE username = 'global@admins.test'")
    await world.store.execute("DELETE FROM domain_admins WHERE username = 'global@admins.test'")
    before = await world.rows()
    for method, path, form in (
        ("PUT", "user/global-user@g.com", {"isGlobalAdmin": "no"}),
        ("PUT", "user/global-user@g.com", {"accountStatus": "disabled"}),
        ("DELETE", "user/global-user@g.com", {}),
        ("DELETE", "domain/g.com", {}),
        ("PUT", "users/g.com", {"accountStatus": "disabled"}),
    ):
        refused = await world.clients["global-user"].refused(method, path, **form)
        assert refused[0] == 409
        assert refused[1] in {"LAST_GLOBAL_ADMIN", "CANNOT_REMOVE_YOURSELF"}
    await unchanged(world, before)


async def test_lesson_09_disabled_ones_do_not_count(world: World) -> None:
    root = world.clients["global"]
    await root.ok("PUT", "user/global-user@g.com", accountStatus="disabled")
    refused = await root.refused("PUT", "admin/global@admins.test", isGlobalAdmin="no")
    assert refused[:2] == (409, "LAST_GLOBAL_ADMIN")


async def test_lesson_10_sources_are_mine(world: World, admin: Client) -> None:
    """An address at which mail arrives is in a domain that the admin manages."""
    await world.user("u@a.com")
    await world.alias("l@a.com")
    before = await world.rows()
    for method, path, form in (
        ("POST", "alias/x@b.com", {}),
        ("POST", "user/x@b.com", {"password_hash": HASH}),
        ("PUT", "user/u@a.com", {"addAlias": "x@b.com"}),
        ("PUT", "user/u@a.com", {"aliases": "ok@a.com,x@b.com"}),
        ("PUT", "user/u@a.com", {"addAlias": "x@nowhere.com"}),
        ("POST", "user/u@a.com/change_email/x@b.com", {}),
        ("POST", "alias/l@a.com/change_email/x@b.com", {}),
        ("PUT", "domain/a.com", {"addAliasDomain": "b.com"}),
        ("PUT", "domain/a.com", {"aliasDomains": "b.com"}),
    ):
        status, _, _ = await admin.refused(method, path, **form)
        assert status in {400, 403, 409}
    await unchanged(world, before)


_LOCALS = st.text(
    st.sampled_from('abA.@"\\ %+é/?#*\u212a') | st.characters(codec="utf-8"), max_size=12
)


@given(local=_LOCALS, domain=st.sampled_from(["b.com", "B.COM", "a.com.b.com", "nowhere.com", "A"]))
def test_lesson_11_owner_is_the_part_after_the_last_at(local: str, domain: str) -> None:
    actor = ACTORS["admin-of-a"]
    assert actor is not None
    assert not actor.manages_account(f"{local}@{domain}")
    assert not actor.manages_account(f"u@a.com@{domain}")
    assert not actor.manages_account(local.replace("@", ""))


async def test_lesson_11_strange_addresses(world: World, admin: Client) -> None:
    """What has an owner in doubt is refused before anything is looked up."""
    from urllib.parse import quote

    before = await world.rows()
    for mail in (
        "u@a.com@b.com",
        '"u@a.com"@b.com',
        "u@a.com%40b.com",
        "u@b.com@a.com",
        '"x@b.com,"@a.com',
        "u@a.com\x00@b.com",
        "u@b.com\n@a.com",
        "u@b.com#@a.com",
        "@a.com",
        "u@",
        "a.com",
    ):
        path = quote(mail, safe="")
        for method, start, form in (
            ("GET", "user", {}),
            ("POST", "user", {"password_hash": HASH}),
            ("PUT", "user", {"name": "X"}),
            ("DELETE", "user", {}),
            ("POST", "alias", {}),
        ):
            status, answer = await admin.call(method, f"{start}/{path}", data=form)
            assert status in {400, 403, 404}, answer
    await unchanged(world, before)


async def test_lesson_11_upper_case_and_idn_are_the_same_domain(
    world: World, admin: Client
) -> None:
    await world.domain("xn--bcher-kva.com")
    await admin.ok("POST", "user/New@A.COM", password_hash=HASH)
    assert (await admin.ok("GET", "user/NEW@a.com"))["username"] == "new@a.com"
    assert (await admin.ok("GET", "user/new@a\u3002com"))["username"] == "new@a.com"
    for name in ("bücher.com", "BÜCHER.com", "xn--bcher-kva.com", "XN--BCHER-KVA.COM"):
        assert (await admin.refused("GET", f"domain/{name}"))[0] == 403
    await world.grant("creator@admins.test", "xn--bcher-kva.com")
    for name in ("bücher.com", "BÜCHER.com", "xn--bcher-kva.com"):
        assert (await admin.ok("GET", f"domain/{name}"))["domain"] == "xn--bcher-kva.com"


async def test_lesson_12_the_command_line_obeys_the_same_rules(world: World) -> None:
    """The command line calls the same operations, so their rules hold there, too."""
    from iredapi.errors import ApiError

    context = world.service.context
    with pytest.raises(ApiError, match="CAN_NOT_BE_LOCAL_DOMAIN"):
        await create_admin(context, "x@a.com", PASSWORD)
    with pytest.raises(ApiError, match="ALREADY_EXISTS"):
        await create_admin(context, "creator@admins.test", PASSWORD)
    with pytest.raises(ApiError, match="PW_SHORTER"):
        await create_admin(context, "x@admins.test", "short")
    with pytest.raises(ApiError, match="NO_SUCH_ACCOUNT"):
        await set_admin_password(context, "nobody@admins.test", PASSWORD)


async def test_lesson_15_maildir(world: World, admin: Client) -> None:
    """Only a global admin may place a mailbox."""
    await world.user("u@a.com")
    before = await world.rows()
    for path in (
        "/var/vmail/vmail1/a.com/x",
        "/var/vmail/vmail1/b.com/victim",
        "/var/vmail/vmail1",
        "/etc",
    ):
        for method, target in (("PUT", "user/u@a.com"), ("POST", "user/n@a.com")):
            more = {"password_hash": HASH} if method == "POST" else {}
            refused = await admin.refused(method, target, maildir=path, **more)
            assert refused == (403, "PERMISSION_DENIED", ["maildir"])
    await unchanged(world, before)


async def test_lesson_15_maildir_stays_below_the_storage(world: World) -> None:
    """And never equals, contains or lies in another account's."""
    await world.user(
        "victim@b.com", storagebasedirectory="/var/vmail", storagenode="vmail1",
        maildir="b.com/victim/",
    )  # fmt: skip
    await world.user("u@a.com")
    before = await world.rows()
    root = world.clients["global"]
    for path in (
        "/etc/passwd",
        "/var/vmail/vmail1",
        "/var/vmail/vmail1/",
        "/var/vmail/vmail10/x",
        "/var/vmail/vmail1/../x",
        "/var/vmail/vmail1/a.com/../../x",
        "/var/vmail/vmail1/./x/..",
        "/var/vmail/vmail1/b.com/victim",
        "/var/vmail/vmail1/b.com/victim/",
        "/var/vmail/vmail1/b.com/victim/sub",
        "/var/vmail/vmail1/B.com/Victim",
        "/var/vmail/vmail1/b.com",
        "/var/vmail/vmail1/x\x00",
        "/var/vmail/vmail1/x\ny",
        "relative/path",
        "",
    ):
        for method, target in (("PUT", "user/u@a.com"), ("POST", "user/n@a.com")):
            more = {"password_hash": HASH} if method == "POST" else {}
            status, code, names = await root.refused(method, target, maildir=path, **more)
            assert (status, names) == (400, ["maildir"]), code
    await unchanged(world, before)


async def test_lesson_14_rights_are_those_of_now(world: World, admin: Client) -> None:
    """Taken rights are gone at the next request of the old session."""
    await admin.ok("GET", "domain/a.com")
    root = world.clients["global"]
    await root.ok("PUT", "domain/admins/a.com", removeAdmin="creator@admins.test")
    assert (await admin.refused("GET", "domain/a.com"))[:2] == (403, "PERMISSION_DENIED")
    assert await admin.ok("GET", "domains") == []
    await root.ok("PUT", "admin/creator@admins.test", maxDomains="0")
    assert (await admin.refused("POST", "domain/new.com"))[:2] == (403, "PERMISSION_DENIED")


async def test_an_alias_domain_is_not_a_target(world: World, admin: Client) -> None:
    """It is 404 for whoever manages it; it is never managed by a normal admin."""
    root = world.clients["global"]
    await root.ok("PUT", "domain/a.com", addAliasDomain="al.com")
    before = await world.rows()
    for method, path in (("GET", "domain/al.com"), ("PUT", "domain/al.com"), ("DELETE", "domain/al.com"), ("GET", "users/al.com"), ("PUT", "users/al.com"), ("GET", "aliases/al.com"), ("PUT", "domain/admins/al.com")):  # fmt: skip  # noqa: E501
        assert (await root.refused(method, path))[:2] == (404, "NO_SUCH_DOMAIN"), path
        assert (await admin.refused(method, path))[:2] == (403, "PERMISSION_DENIED"), path
    await unchanged(world, before)
