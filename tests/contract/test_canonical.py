"""``view=canonical``: the same history gives the same bytes on every storage."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import TypeAdapter

from iredapi.domain.actors import SYSTEM
from iredapi.observability import query_counter
from iredapi.operations import aliases, domains, users
from iredapi.schemas.admins import AdminEdit
from iredapi.schemas.aliases import AliasDraft, AliasEdit
from iredapi.schemas.canonical import (
    CanonicalAdmin,
    CanonicalAlias,
    CanonicalDomain,
    CanonicalUser,
)
from iredapi.schemas.domains import DomainAdmins, DomainDraft, DomainEdit, Keep
from iredapi.schemas.params import Params
from iredapi.schemas.users import UserDraft, UserEdit, UsersEdit
from iredapi.web import responses
from tests.clients import Client, Service
from tests.contract.histories import (
    HASH,
    RICH,
    ChangeResult,
    Step,
    differences,
    everything,
    lists_and_profiles,
    outcome,
    step,
)
from tests.servers.store import Store
from tests.statements import unclocked

NOT_EVERYWHERE = {"accessPolicy", "moderators", "addModerator", "removeModerator", "restore"}
"""LDAP cannot hold it for aliases; `restore` is tested with the deleted mailboxes."""
FORMS: tuple[tuple[str, str, type[Params]], ...] = (
    ("POST", "domain/", DomainDraft),
    ("PUT", "domain/", DomainEdit),
    ("PUT", "domain/admins/", DomainAdmins),
    ("DELETE", "domain/", Keep),
    ("POST", "user/", UserDraft),
    ("PUT", "user/", UserEdit),
    ("PUT", "users/", UsersEdit),
    ("POST", "alias/", AliasDraft),
    ("PUT", "alias/", AliasEdit),
)
SHAPES = {
    "domain": CanonicalDomain,
    "domains": CanonicalDomain,
    "user": CanonicalUser,
    "users": CanonicalUser,
    "alias": CanonicalAlias,
    "aliases": CanonicalAlias,
    "admin": CanonicalAdmin,
}

_on_sqlite: dict[str, ChangeResult] = {}


async def expected(sqlite_store: Store) -> ChangeResult:
    """What the rich history leaves on SQLite; played once."""
    if "rich" not in _on_sqlite:
        _on_sqlite["rich"] = await outcome(sqlite_store, RICH)
    return _on_sqlite["rich"]


def test_the_history_has_every_parameter() -> None:
    for method, start, form in FORMS:
        used = {name for item in RICH if _is(item, method, start) for name in item.form}
        assert set(form.wire_names().values()) - NOT_EVERYWHERE - used == set(), (method, start)
    of_admins = {
        (item.method, name) for item in RICH if item.path.startswith("admin/") for name in item.form
    }
    assert {name for _, name in of_admins} == set(AdminEdit.wire_names().values())


def _is(item: Step, method: str, start: str) -> bool:
    within_admins = item.path.startswith("domain/admins/")
    return (
        item.method == method
        and item.path.startswith(start)
        and within_admins == (start == "domain/admins/")
    )


async def test_the_same_on_every_storage(store: Store, sqlite_store: Store) -> None:
    wanted = await expected(sqlite_store)
    found = await outcome(store, RICH)
    assert found.answers == wanted.answers
    assert list(differences(found.shown, wanted.shown)) == []


async def test_the_history_worked(sqlite_store: Store) -> None:
    """Otherwise the same failure everywhere would look like success."""
    found = await expected(sqlite_store)
    assert [line for line in found.answers if "-> 200 " not in line] == []
    data = {path: json.loads(body)["_data"] for path, body in found.shown.items()}
    assert data["domain/ex.com"] == {
        "domain": "ex.com",
        "name": "Ex Ltd — Ü",
        "accountStatus": "active",
        "suspended": "no",
        "quota": 20480,
        "numberOfUsers": 50,
        "numberOfAliases": 40,
        "numberOfLists": -1,
        "defaultQuota": 512,
        "maxUserQuota": 4096,
        "minPasswordLength": 9,
        "maxPasswordLength": 60,
        "language": "de_DE",
        "transport": "lmtp:inet:127.0.0.1:24",
        "is_backupmx": "no",
        "primarymx": "",
        "outboundRelay": "[192.0.2.20]:25",
        "senderBcc": "out@far.org",
        "recipientBcc": "in@far.org",
        "catchall": ["alice@ex.com", "crew@ex.com", "far@far.org"],
        "aliasDomains": ["al.com", "cl.com"],
        "services": ["self-service"],
        "disabledDomainProfile": ["bcc", "throttle"],
        "disabledUserProfile": ["bcc"],
        "disabledUserPreference": ["quarantine"],
        "admins": ["alice@ex.com", "one@admins.org", "zoe@plain.com"],
        "existingUsers": 4,
        "existingAliases": 3,
        "existingLists": 0,
        "allocatedQuota": 1024 + 512 + 333 + 512,
    }
    assert data["domain/backup.com"]["is_backupmx"] == "yes"
    assert data["user/alice@ex.com"] == {
        "mail": "alice@ex.com",
        "name": "alice",
        "gn": "Alïce",
        "sn": "Liddell",
        "accountStatus": "active",
        "quota": 1024,
        "language": "en_US",
        "employeeid": "4711-é",
        "telephoneNumber": ["030 1"],
        "mobile": ["+49 170 1", "+49 170 2"],
        "isGlobalAdmin": "no",
        "managedDomains": ["ex.com"],
        "transport": "dovecot",
        "forwarding": ["alice@ex.com", "carol@ex.com", "robert@ex.com"],
        "aliases": ["al@ex.com", "ally@cl.com"],
        "senderBcc": "a@far.org",
        "recipientBcc": "b@far.org",
        "suspended": "no",
        "services": sorted(
            "smtp smtpsecured pop3 pop3secured pop3tls imap imapsecured imaptls managesieve "
            "managesievesecured managesievetls deliver sogo sogowebmail sogocalendar "
            "sogoactivesync".split()
        ),
        "mailboxFormat": "mdbox",
        "mailboxFolder": "Mail",
        "maildir": "/var/vmail/vmail1/ex.com/alice-2020",
    }
    assert data["user/robert@ex.com"]["services"] == [
        "deliver", "imaptls", "managesieve", "smtpsecured",
    ]  # fmt: skip
    assert data["alias/crew@ex.com"] == {
        "mail": "crew@ex.com",
        "name": "crew",
        "accountStatus": "active",
        "members": ["alice@ex.com", "bob@al.com", "carol@ex.com", "robert@ex.com"],
        "moderators": [],
    }
    assert data["admin/one@admins.org"] == {
        "mail": "one@admins.org",
        "name": "one",
        "accountStatus": "active",
        "language": "de_DE",
        "isGlobalAdmin": "no",
        "maxDomains": 5,
        "maxQuota": 30,
        "quotaUnit": "TB",
        "maxUsers": 100,
        "maxAliases": -1,
        "maxLists": 0,
        "disableViewingMailLog": "no",
        "disableManagingQuarantinedMails": "yes",
        "managedDomains": ["ex.com"],
    }
    listed = {
        path: [item.get("mail") or item["domain"] for item in items]
        for path, items in data.items()
        if isinstance(items, list)
    }
    assert listed["domains"] == [
        "backup.com", "ex.com", "made.com", "make.com", "off.com", "plain.com",
    ]  # fmt: skip
    assert listed["domains?disabled_only"] == ["made.com", "off.com"]
    users = ["alice@ex.com", "carol@ex.com", "eve.o-x_y@ex.com", "robert@ex.com"]
    assert listed["users/ex.com"] == users
    assert listed["aliases/ex.com"] == ["all@ex.com", "crew@ex.com", "quiet@ex.com"]
    assert list(lists_and_profiles(found.shown)) == []


_IN_ALIAS_DOMAINS = [
    step("POST", "domain/a.com", addAliasDomain="al.com"),
    step("POST", "user/u@a.com", password_hash=HASH),
    *(
        step("PUT", "user/u@a.com", **form)
        for form in (
            {"addAlias": "u@a.com,u@al.com"},
            {"removeAlias": "u@al.com"},
            {"aliases": "u@al.com,u@a.com"},
            {"addAlias": "w@al.com,u@al.com"},
            {"aliases": "w@al.com,u@al.com"},
        )
    ),
]


async def test_a_users_own_name_in_an_alias_domain(store: Store, sqlite_store: Store) -> None:
    """It reaches the user already, so it is not stored as an alias address."""
    found = await outcome(store, _IN_ALIAS_DOMAINS)
    for line, changed, code in zip(
        found.answers[2:],
        ([], [], [], ["aliases"], []),
        ("ALREADY_EXISTS", "NOT_FOUND", "ALREADY_EXISTS", "ALREADY_EXISTS", "ALREADY_EXISTS"),
        strict=True,
    ):
        assert f"'_changed': {changed}," in line
        assert f"'value': 'u@al.com', 'reason': '{code}'" in line
    assert json.loads(found.shown["user/u@a.com"])["_data"]["aliases"] == ["w@al.com"]
    wanted = await outcome(sqlite_store, _IN_ALIAS_DOMAINS)
    assert found.answers == wanted.answers
    assert list(differences(found.shown, wanted.shown)) == []


async def test_nothing_but_the_listed_schema(sqlite_store: Store) -> None:
    for path, body in (await expected(sqlite_store)).shown.items():
        shape = SHAPES[path.partition("/")[0].partition("?")[0]]
        schema = TypeAdapter[Any](shape).json_schema(by_alias=True)
        assert schema["additionalProperties"] is False
        data = json.loads(body)["_data"]
        for item in data if isinstance(data, list) else [data]:
            Draft202012Validator(schema).validate(item)
            assert "password" not in item


# Random histories --------------------------------------------------------------------------------

_DOMAINS = ("a.com", "b.com")
_LOCALS = ("u", "v", "w")
_MAILS = [f"{local}@{domain}" for domain in (*_DOMAINS, "al.com") for local in _LOCALS]
_mails = st.lists(st.sampled_from([*_MAILS, "far@far.org"]), max_size=3).map(",".join)
# In an alias domain, names that no account of the domain has: OpenLDAP stores an alias address of
# the domain in its alias domains too, and cannot tell such a one from one that was sent.
_aliases = st.lists(
    st.sampled_from([*_MAILS[: 2 * len(_LOCALS)], "x@al.com", "y@al.com", "far@far.org"]),
    max_size=3,
).map(",".join)
_own = st.sampled_from([mail for mail in _MAILS if not mail.endswith("al.com")])
_names = st.sampled_from(["", "N", "Ü b", "a,b", "x:y;z"])
# OpenLDAP stores services of any name, and tells of a change.
_services = st.lists(
    st.sampled_from(["imap", "imaptls", "deliver", "managesieve", "sogo"]), max_size=3
).map(",".join)
_numbers = st.sampled_from(["0", "1", "-1", "7", "2048"])
_status = st.sampled_from(["active", "disabled"])


def _forms(**fields: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({}, optional=fields)


def _steps(
    method: str, paths: st.SearchStrategy[str], forms: st.SearchStrategy[dict[str, str]]
) -> st.SearchStrategy[Step]:
    return st.builds(Step, st.just(method), paths, forms)


_domain_paths = st.sampled_from([f"domain/{name}" for name in _DOMAINS])
_user_paths = _own.map("user/{}".format)
_alias_paths = _own.map("alias/{}".format)
_random = st.lists(
    st.one_of(
        _steps(
            "PUT",
            _domain_paths,
            _forms(
                name=_names,
                accountStatus=_status,
                quota=_numbers,
                numberOfUsers=_numbers,
                defaultQuota=_numbers,
                maxUserQuota=_numbers,
                catchall=_mails,
                addAliasDomain=st.just("al.com"),
                removeAliasDomain=st.just("al.com"),
                senderBcc=st.sampled_from(["", "far@far.org"]),
                is_backupmx=st.sampled_from(["yes", "no"]),
                addService=_services,
                disableUserProfile=st.sampled_from(["bcc", "bcc,relay"]),
                enableUserProfile=st.just("bcc"),
            ),
        ),
        _steps(
            "PUT",
            st.sampled_from([f"domain/admins/{name}" for name in _DOMAINS]),
            _forms(addAdmin=_mails, removeAdmin=_mails, removeAllAdmins=st.just("")),
        ),
        _steps("POST", _user_paths, _forms(quota=_numbers, name=_names, accountStatus=_status)),
        _steps(
            "PUT",
            _user_paths,
            _forms(
                name=_names,
                sn=_names,
                quota=_numbers,
                accountStatus=_status,
                addForwarding=_mails,
                removeForwarding=_mails,
                addAlias=_aliases,
                removeAlias=_aliases,
                addService=_services,
                removeService=_services,
                mobile=st.sampled_from(["", "1,2", "1-2, 12", "2,1"]),
                recipientBcc=st.sampled_from(["", "far@far.org"]),
                isGlobalAdmin=st.sampled_from(["yes", "no"]),
            ),
        ),
        _steps("PUT", _user_paths, _forms(forwarding=_mails, aliases=_aliases, services=_services)),
        _steps("POST", _alias_paths, _forms(name=_names, members=_mails, accountStatus=_status)),
        _steps(
            "PUT",
            _alias_paths,
            _forms(name=_names, addMember=_mails, removeMember=_mails, accountStatus=_status),
        ),
        _steps("DELETE", st.one_of(_user_paths, _alias_paths), st.just({})),
        _steps(
            "PUT",
            st.sampled_from([f"users/{name}" for name in _DOMAINS]),
            _forms(accountStatus=_status, language=st.sampled_from(["", "de_DE"])),
        ),
        _steps(
            "POST",
            st.tuples(
                st.sampled_from(["user", "alias"]),
                st.sampled_from(_DOMAINS),
                st.permutations(_LOCALS),
            ).map(lambda t: f"{t[0]}/{t[2][0]}@{t[1]}/change_email/{t[2][1]}@{t[1]}"),
            st.just({}),
        ),
    ),
    min_size=5,
    max_size=25,
)


def _whole(history: list[Step]) -> list[Step]:
    start = [step("POST", f"domain/{name}", quota="5000") for name in _DOMAINS]
    start += [step("POST", f"user/{mail}", password_hash=HASH) for mail in _MAILS[:2]]
    new = [
        Step(item.method, item.path, {"password_hash": HASH, **item.form})
        if item.method == "POST" and item.path.startswith("user/")
        else item
        for item in history
    ]
    return start + new


@settings(
    max_examples=12,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=_random)
async def test_random_histories(
    selected_store: Store, sqlite_store: Store, history: list[Step]
) -> None:
    whole = _whole(history)
    wanted = await outcome(sqlite_store, whole)
    assert list(lists_and_profiles(wanted.shown)) == []
    if selected_store is not sqlite_store:
        found = await outcome(selected_store, whole)
        assert found.answers == wanted.answers
        assert list(differences(found.shown, wanted.shown)) == []


# Long lists ---------------------------------------------------------------------------------------


async def _many(root: Client, number: int) -> None:
    await root.ok("POST", "domain/many.com")
    for index in range(number):
        await root.ok("POST", f"user/u{index:03}@many.com", password_hash=HASH)
        await root.ok("POST", f"alias/a{index:03}@many.com", members=f"u{index:03}@many.com")
        await root.ok("POST", f"domain/d{index:03}.com", name=f"D{index}")


async def test_lists_come_in_pages(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await _many(root, 11)
    whole = await everything(root)
    for size in (1, 4, 11, 12):
        monkeypatch.setattr(responses, "PAGE", size)
        for path in ("users/many.com", "aliases/many.com", "domains"):
            shown = await root.ok("GET", path, view="canonical")
            assert shown == json.loads(whole[path])["_data"], (path, size)


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_a_page_costs_the_same_whatever_its_length(service: Service, root: Client) -> None:
    counts: dict[str, list[int]] = {}
    reads: dict[str, Callable[..., Awaitable[list[Any]]]] = {
        "users": partial(users.canonical_views, domain="many.com"),
        "aliases": partial(aliases.canonical_views, domain="many.com"),
        "domains": domains.canonical_views,
    }
    await _many(root, 9)
    # Tables are looked at once, and connections prepared.
    for path in ("domains", "users/many.com", "aliases/many.com"):
        await root.ok("GET", path, view="canonical")
    with query_counter.listening() as seen:
        for limit in (1, 3, 9):
            for name, read in reads.items():
                seen.clear()
                given: dict[str, Any] = {"after": "", "limit": limit, "disabled_only": False}
                read_page: Any = partial(read, **given)
                found = await service.context.read(SYSTEM, read_page)
                assert len(found) == limit
                counts.setdefault(name, []).append(len(unclocked(seen)))
    assert {name for name, numbers in counts.items() if len(set(numbers)) > 1} == set(), counts
    assert all(0 < numbers[0] <= 4 for numbers in counts.values()), counts
