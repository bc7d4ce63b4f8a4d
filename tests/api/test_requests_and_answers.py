"""How requests are read and how answers look, whatever the operation."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from iredapi.operations import domains, users
from iredapi.web import responses
from tests.clients import PASSWORD, ROOT, Client, Service, serving
from tests.servers.store import Store

pytestmark = pytest.mark.stores("sqlite")

FORM = "application/x-www-form-urlencoded"
USER = "user/u@ex.com"
NOTHING = {"_success": True, "_changed": []}


@pytest_asyncio.fixture(loop_scope="session")
async def there(root: Client) -> Client:
    """The global admin, with ex.com, u@ex.com and list@ex.com."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", USER, password=PASSWORD, name="U")
    await root.ok("POST", "alias/list@ex.com")
    return root


async def raw(client: Client, method: str, path: str, body: bytes, kind: str | None) -> httpx.Response:  # fmt: skip  # noqa: E501
    headers = {} if kind is None else {"Content-Type": kind}
    return await client.http.request(method, path, content=body, headers=headers)


def assert_failure(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """A failure is JSON of the documented shape, and nothing else."""
    assert response.headers["content-type"] == "application/json"
    answer: dict[str, Any] = response.json()
    assert (response.status_code, answer["_msg"]) == (status, code), answer
    assert answer["_success"] is False
    assert answer.keys() <= {"_success", "_msg", "_detail", "_errors", "_request_id"}
    assert answer["_request_id"] == response.headers["x-request-id"]
    assert len(response.content) < 4096
    return answer


# How parameters arrive ---------------------------------------------------------------------------


def multipart(**fields: str) -> tuple[bytes, str]:
    parts = "".join(
        f'--XX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    return f"{parts}--XX--\r\n".encode(), "multipart/form-data; boundary=XX"


CARRIERS = {
    "form": (urlencode({"name": "Jørn & Co", "gn": "J"}).encode(), FORM),
    "form with charset": (
        urlencode({"name": "Jørn & Co", "gn": "J"}).encode(),
        f"{FORM}; charset=UTF-8",
    ),
    "form without a type": (urlencode({"name": "Jørn & Co", "gn": "J"}).encode(), None),
    "form as text": (urlencode({"name": "Jørn & Co", "gn": "J"}).encode(), "text/plain"),
    "form with raw UTF-8": ("name=Jørn %26 Co&gn=J".encode(), FORM),
    "form with a line end": (b"name=J%C3%B8rn+%26+Co&gn=J\r\n", FORM),
    "multipart": multipart(name="Jørn & Co", gn="J"),
    "json": (json.dumps({"name": "Jørn & Co", "gn": "J"}).encode(), "application/json"),
    "json with charset": (
        b'{"name":"J\xc3\xb8rn & Co","gn":"J"}',
        "application/json; charset=utf-8",
    ),
    "json without a type": (b' {"name":"J\xc3\xb8rn & Co","gn":"J"}', None),
    "json of a kind": (b'{"name":"J\\u00f8rn & Co","gn":"J"}', "application/merge-patch+json"),
    "json in capitals": (b'{"name":"J\\u00f8rn & Co","gn":"J"}', "Application/JSON"),
}


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_carriers(there: Client, carrier: str) -> None:
    body, kind = CARRIERS[carrier]
    response = await raw(there, "PUT", USER, body, kind)
    assert response.json() == {"_success": True, "_changed": ["gn", "name"]}
    profile = await there.ok("GET", USER)
    assert (profile["name"], profile["first_name"]) == ("Jørn & Co", "J")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_parameters_in_the_query(service: Service, there: Client, method: str) -> None:
    paths = {"POST": "user/q@ex.com", "PUT": USER, "DELETE": USER}
    params = {"POST": {"password": PASSWORD, "name": "Q"}, "PUT": {"name": "Q"}}
    status, answer = await there.call(
        method, paths[method], params=params.get(method, {"keep_mailbox_days": "9"})
    )
    assert (status, answer.pop("_changed", ["name"]), answer) == (200, ["name"], {"_success": True})
    if method == "DELETE":
        row = (await service.store.rows("SELECT delete_date FROM deleted_mailboxes"))[0]
        assert row["delete_date"] is not None
    else:
        assert (await there.ok("GET", paths[method]))["name"] == "Q"


async def test_login_in_the_query(service: Service, there: Client) -> None:
    client = service.client()
    status, _ = await client.call("POST", "login", params={"username": ROOT, "password": PASSWORD})
    assert status == 200
    await client.ok("GET", "domains")


async def test_login_in_the_query_can_be_switched_off(store: Store, there: Client) -> None:
    async with serving(store, query_login=False) as strict:
        client = strict.client()
        params = {"username": ROOT, "password": PASSWORD}
        status, answer = await client.call("POST", "login", params=params)
        assert (status, answer["_msg"]) == (400, "REQUIRED")
        assert (await client.call("POST", "login", data=params))[0] == 200


@pytest.mark.parametrize("kind", ["data", "json", "files"])
async def test_body_wins_over_query(there: Client, kind: str) -> None:
    body: Any = {"name": "body", "gn": "body"}
    if kind == "files":
        body = {name: (None, value) for name, value in body.items()}
    status, _ = await there.call("PUT", USER, params={"name": "query", "sn": "query"}, **{kind: body})  # fmt: skip  # noqa: E501
    assert status == 200
    profile = await there.ok("GET", USER)
    assert [profile[key] for key in ("name", "first_name", "last_name")] == [
        "body",
        "body",
        "query",
    ]


@pytest.mark.parametrize(
    "body, kind",
    [
        (b"name=first&gn=x&name=last", FORM),
        (b'{"name":"first","name":"last"}', "application/json"),
        (
            multipart(name="first")[0].removesuffix(b"--XX--\r\n") + multipart(name="last")[0],
            multipart()[1],
        ),
        (b"name=&name=last", FORM),
    ],
)
async def test_last_duplicate_wins(there: Client, body: bytes, kind: str) -> None:
    assert (await raw(there, "PUT", USER, body, kind)).status_code == 200
    assert (await there.ok("GET", USER))["name"] == "last"
    query = "?name=first&name=last2"
    assert (await there.call("PUT", USER + query))[0] == 200
    assert (await there.ok("GET", USER))["name"] == "last2"


async def test_json_lists(there: Client) -> None:
    for members, expected in (
        ("a@x.com,b@x.com", ["a@x.com", "b@x.com"]),
        (" a@x.com , ,b@x.com,, ", ["a@x.com", "b@x.com"]),
        (["a@x.com", "b@x.com"], ["a@x.com", "b@x.com"]),
        ([" a@x.com ", "", "b@x.com", "a@x.com"], ["a@x.com", "b@x.com"]),
        ([], []),
        ("", []),
        (None, []),
    ):
        await there.ok("PUT", "alias/list@ex.com", members="z@x.com")
        status, answer = await there.call("PUT", "alias/list@ex.com", json={"members": members})
        assert (status, answer) == (200, {"_success": True, "_changed": ["members"]})
        assert (await there.ok("GET", "alias/list@ex.com"))["members"] == expected


async def test_json_booleans_numbers_and_null(there: Client) -> None:
    changes = {"isGlobalAdmin": True, "quota": 7, "language": None, "accountStatus": False}
    await there.ok("PUT", USER, language="de_DE")
    status, answer = await there.call("PUT", USER, json=changes)
    assert status == 200, answer
    profile = await there.ok("GET", USER)
    assert (profile["isglobaladmin"], profile["quota"]) == (1, 7)
    assert (profile["language"], profile["accountStatus"]) == ("", "disabled")


async def test_lesson_44_numbers_are_whole_and_in_range(there: Client) -> None:
    for value in ("1.5", "1e3", "9223372036854775808", "-1", "0x10", "\u0661", "1 0", "NaN", "+1"):
        refused = await there.refused("PUT", USER, quota=value)
        assert refused == (400, "INVALID_NUMBER", ["quota"]), value
    assert await there.refused("PUT", USER, quota="") == (400, "EMPTY_NOT_ALLOWED", ["quota"])
    long = f"1{'0' * 5000}"
    for text_ in f'1.5 1e300 -1 {2**63} {2**200} {long} true null [] {{}} [["1"]]'.split():
        body = f'{{"quota":{text_}}}'.encode()
        response = await raw(there, "PUT", USER, body, "application/json")
        assert response.status_code == 400, text_
    assert (await there.ok("GET", USER))["quota"] == 0


async def test_lesson_44_blanks_around_a_number(there: Client) -> None:
    await there.ok("PUT", USER, quota=" 5 ")
    assert (await there.ok("GET", USER))["quota"] == 5


async def test_absent_is_not_empty(there: Client) -> None:
    await there.ok("PUT", USER, name="N", gn="G", senderBcc="b@x.com", aliases="al@ex.com")
    await there.ok("PUT", USER, sn="S")
    profile = await there.ok("GET", USER)
    assert (profile["name"], profile["sender_bcc"], profile["aliases"]) == (
        "N",
        "b@x.com",
        ["al@ex.com"],
    )
    await there.ok("PUT", USER, name="", senderBcc="", aliases="")
    profile = await there.ok("GET", USER)
    assert (profile["name"], profile["sender_bcc"], profile["aliases"]) == ("", "", [])
    assert profile["first_name"] == "G"


@pytest.mark.parametrize("body", [b"senderBcc", b"senderBcc=", b"&senderBcc=&"])
async def test_a_name_without_a_value_is_empty(there: Client, body: bytes) -> None:
    await there.ok("PUT", USER, senderBcc="b@x.com")
    assert (await raw(there, "PUT", USER, body, FORM)).status_code == 200
    assert (await there.ok("GET", USER))["sender_bcc"] == ""


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_no_body_no_type(there: Client, method: str) -> None:
    new = f"new-{method.lower()}@ex.com"
    request = there.http.build_request(method, f"alias/list@ex.com/change_email/{new}")
    request.headers.pop("content-length", None)
    response = await there.http.send(request)
    assert response.json() == {"_success": True, "_changed": ["mail"]}
    assert (await there.call("PUT", f"alias/{new}"))[1] == {"_success": True, "_changed": []}


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n"])
async def test_an_empty_body_of_any_type(there: Client, body: bytes) -> None:
    for kind in (FORM, "application/json", "multipart/form-data; boundary=X", "image/png"):
        assert (await raw(there, "PUT", USER, body, kind)).json() == NOTHING, kind


async def test_unknown_parameters_are_ignored(there: Client) -> None:
    unknown = {
        "givenname": "x",
        "title": "Dr.",
        "__proto__": "x",
        "name ": "x",
        "NAME": "x",
        "": "x",
    }
    ignored = {"_success": True, "_changed": [], "_ignored": sorted(unknown)}
    assert (await there.call("PUT", USER, data=unknown))[1] == ignored
    assert (await there.call("PUT", USER, json=unknown))[1] == ignored
    assert (await there.call("PUT", USER, params=unknown))[1] == ignored
    assert (await there.ok("GET", USER))["name"] == "U"
    assert await there.ok("GET", "domains", name_only="yes", pages="x", page="2") == ["ex.com"]


async def test_unknown_parameters_with_an_object_in_json(there: Client) -> None:
    """An unknown parameter is ignored: a client that sends its whole record is served."""
    status, answer = await there.call("PUT", USER, json={"name": "N", "extra": {"a": [1, {}]}})
    assert (status, answer["_changed"], answer["_ignored"]) == (200, ["name"], ["extra"])


# Older names and words ---------------------------------------------------------------------------

LEGACY = [
    # noun, parameter as it was, value, key of the profile, what it is then
    ("user", "cn", "Old", "name", "Old"),
    ("user", "mailQuota", "17", "quota", 17),
    ("user", "preferredLanguage", "de_DE", "language", "de_DE"),
    ("user", "givenName", "Old", "first_name", "Old"),
    ("user", "employeeNumber", "4711", "employeeid", "4711"),
    ("user", "employee_id", "4711", "employeeid", "4711"),
    ("user", "mailbox_format", "mdbox", "mailboxformat", "mdbox"),
    ("user", "mailbox_folder", "Mail", "mailboxfolder", "Mail"),
    ("user", "domainGlobalAdmin", "global", "isglobaladmin", 1),
    ("user", "domainGlobalAdmin", "yes", "isglobaladmin", 1),
    ("domain", "cn", "Old", "description", "Old"),
    ("domain", "preferredLanguage", "de_DE", "settings", {"default_language": "de_DE"}),
    ("domain", "enableService", "self-service", "settings", {"enabled_services": ["self-service"]}),
    ("domain", "backupmx", "yes", "backupmx", 1),
    ("alias", "cn", "Old", "name", "Old"),
    ("admin", "cn", "Old", "name", "Old"),
    ("admin", "preferredLanguage", "de_DE", "language", "de_DE"),
    ("admin", "domainGlobalAdmin", "global", "isglobaladmin", 1),
]
PLACES = {
    "user": USER,
    "domain": "domain/ex.com",
    "alias": "alias/list@ex.com",
    "admin": "admin/a@admins.test",
}
CANONICAL = {"cn": "name", "mailQuota": "quota", "preferredLanguage": "language"}


@pytest.mark.parametrize(
    "noun, old, value, key, expected", LEGACY, ids=[f"{r[0]}-{r[1]}-{r[2]}" for r in LEGACY]
)
async def test_legacy_names(
    there: Client, noun: str, old: str, value: str, key: str, expected: Any
) -> None:
    if noun == "admin":
        await there.ok("POST", PLACES[noun], password=PASSWORD)
    await there.ok("PUT", PLACES[noun], **{old: value})
    assert (await there.ok("GET", PLACES[noun]))[key] == expected


@pytest.mark.parametrize(
    "path, form, key, expected",
    [
        ("domain/new.com", {"cn": "Old", "preferredLanguage": "de_DE"}, "description", "Old"),
        ("domain/new.com", {"senderBcc": "b@x.com"}, "sender_bcc", "b@x.com"),
        ("domain/new.com", {"recipientBcc": "b@x.com"}, "recipient_bcc", "b@x.com"),
        ("user/n@ex.com", {"cn": "Old"}, "name", "Old"),
        ("user/n@ex.com", {"mailQuota": "17"}, "quota", 17),
        ("user/n@ex.com", {"preferredLanguage": "de_DE"}, "language", "de_DE"),
        ("user/n@ex.com", {"accountStatus": "disabled"}, "active", 0),
        ("user/n@ex.com", {"accountStatus": "enabled"}, "active", 1),
        ("user/n@ex.com", {"mailbox_format": "sdbox"}, "mailboxformat", "sdbox"),
        ("user/n@ex.com", {"domainGlobalAdmin": "yes"}, "isglobaladmin", 1),
        ("alias/n@ex.com", {"cn": "Old"}, "name", "Old"),
        ("admin/n@admins.test", {"cn": "Old"}, "name", "Old"),
        ("admin/n@admins.test", {"domainGlobalAdmin": "global"}, "isglobaladmin", 1),
    ],
)
async def test_legacy_names_at_creation(
    there: Client, path: str, form: dict[str, str], key: str, expected: Any
) -> None:
    """compatibility.md, item 11: accepted on create and update."""
    needs_password = path.startswith(("user/", "admin/"))
    await there.ok("POST", path, **form, **({"password": PASSWORD} if needs_password else {}))
    assert (await there.ok("GET", path))[key] == expected


async def test_legacy_services(there: Client) -> None:
    await there.ok("PUT", "domain/ex.com", enableService="self-service")
    await there.ok("PUT", "domain/ex.com", disableService="self-service")
    assert (await there.ok("GET", "domain/ex.com"))["settings"] == {}
    await there.ok("PUT", "domain/ex.com", enableService="self-service")
    await there.ok("PUT", "domain/ex.com", removeAllServices="")
    assert (await there.ok("GET", "domain/ex.com"))["settings"] == {}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("carrier", ["data", "json", "params"])
async def test_canonical_name_wins(there: Client, order: int, carrier: str) -> None:
    both = dict([("cn", "old"), ("name", "new")][::order])
    await there.call("PUT", USER, **{carrier: both})
    assert (await there.ok("GET", USER))["name"] == "new"


async def test_canonical_name_in_the_query_wins_over_an_old_one_in_the_body(there: Client) -> None:
    await there.call("PUT", USER, params={"name": "new"}, data={"cn": "old"})
    assert (await there.ok("GET", USER))["name"] == "new"


async def test_words_of_status(there: Client) -> None:
    active = ("active", "enabled", "enable", "yes", "true", "1", "Active", " YES ")
    disabled = ("disabled", "disable", "inactive", "no", "false", "0", "DISABLED", "No")
    for one, other in zip(active, disabled, strict=True):
        await there.ok("PUT", USER, accountStatus=other)
        assert (await there.ok("GET", USER))["active"] == 0, other
        await there.ok("PUT", USER, accountStatus=one)
        assert (await there.ok("GET", USER))["active"] == 1, one
    for word in ("", "maybe", "2", "yes,no", "activ", "ja"):
        status, _, names = await there.refused("PUT", USER, accountStatus=word)
        assert (status, names) == (400, ["accountStatus"])


# Misprints of the specification that people copy: clear errors, never silence.


async def test_misprint_of_remove_alias_domain(there: Client) -> None:
    await there.ok("PUT", "domain/ex.com", addAliasDomain="al.com")
    status, answer = await there.call("PUT", "domain/ex.com", data={"removeAllServices": "al.com"})
    assert (status, answer["_errors"][0]["param"]) == (400, "removeAllServices")
    assert "removeAliasDomain" in answer["_errors"][0]["detail"]
    assert (await there.ok("GET", "domain/ex.com"))["alias_domains"] == ["al.com"]


async def test_misprint_of_max_password_length(there: Client) -> None:
    """``minPasswordLength`` where the longest was meant: a minimum above the maximum."""
    await there.ok("PUT", "domain/ex.com", maxPasswordLength=16)
    status, _, names = await there.refused("PUT", "domain/ex.com", minPasswordLength=64)
    assert status == 400
    assert "minPasswordLength" in names
    status, _, _ = await there.refused(
        "PUT", "domain/ex.com", minPasswordLength=64, maxPasswordLength=16
    )
    assert status == 400


@pytest.mark.parametrize("name", ["enableUserProfile", "disableUserProfile"])
async def test_misprint_of_enable_user_preference(there: Client, name: str) -> None:
    """Words of a user's preferences in the parameter of the admins' profiles."""
    status, _, names = await there.refused("PUT", "domain/ex.com", **{name: "personal_info"})
    assert (status, names) == (400, [name])


@pytest.mark.parametrize(
    "value", ["{SSHA}bfxqKqOOKODJw/bGqMo54f9Q/iOvQoftOQrqWA==", "{SSHA512}x", "{CRYPT}$2b$05$x"]
)
async def test_lesson_29_hash_in_the_parameter_password(
    service: Service, there: Client, value: str
) -> None:
    before = await service.store.rows("SELECT password FROM mailbox")
    for method, path in (("PUT", USER), ("POST", "user/n@ex.com"), ("POST", "admin/n@admins.test"), ("PUT", f"admin/{ROOT}"), ("PUT", "users/ex.com")):  # fmt: skip  # noqa: E501
        refused = await there.refused(method, path, password=value)
        assert refused == (400, "PASSWORD_IS_A_HASH", ["password"]), path
    assert await service.store.rows("SELECT password FROM mailbox") == before


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("noun", ["user", "alias"])
async def test_change_email_answers_both_verbs(there: Client, method: str, noun: str) -> None:
    old = {"user": "u@ex.com", "alias": "list@ex.com"}[noun]
    await there.ok(method, f"{noun}/{old}/change_email/other@ex.com")
    await there.ok("GET", f"{noun}/other@ex.com")


# Conflicts and companions ------------------------------------------------------------------------


def conflicts() -> list[tuple[str, str, str]]:
    """Every declared pair of parameters that exclude each other."""
    from iredapi.schemas.aliases import AliasEdit
    from iredapi.schemas.domains import DomainEdit
    from iredapi.schemas.params import Params
    from iredapi.schemas.users import UserDraft, UserEdit

    forms: dict[str, type[Params]]
    forms = {USER: UserEdit, "domain/ex.com": DomainEdit, "alias/list@ex.com": AliasEdit}
    found = [(f"PUT {path}", a, b) for path, form in forms.items() for a, b in form.conflicts]
    return found + [("POST user/n@ex.com", a, b) for a, b in UserDraft.conflicts]


async def test_conflicts(there: Client) -> None:
    for call, one, other in conflicts():
        method, path = call.split()
        for values in (("", ""), ("x", "x")):
            status, code, names = await there.refused(
                method, path, **dict(zip((one, other), values, strict=True))
            )
            # "primarymx" without its companion is a second mistake.
            assert (status, code) in {(400, "CONFLICTING_PARAMETERS"), (400, "INVALID_PARAMETERS")}
            assert {one, other} <= set(names)


def test_conflicts_are_those_of_the_specification() -> None:
    pairs = {frozenset(pair[1:]) for pair in conflicts()}
    for reset, *others in (
        ("forwarding", "addForwarding", "removeForwarding"),
        ("aliases", "addAlias", "removeAlias"),
        ("services", "addService", "removeService"),
        ("members", "addMember", "removeMember"),
        ("aliasDomains", "addAliasDomain", "removeAliasDomain"),
        ("transport", "is_backupmx", "primarymx"),
        ("password", "password_hash"),
    ):
        assert all(frozenset((reset, other)) in pairs for other in others), reset


@pytest.mark.parametrize(
    "path, alone, missing",
    [
        ("domain/ex.com", {"primarymx": "mx.x.com"}, "is_backupmx"),
        ("admin/a@admins.test", {"maxQuota": "5"}, "quotaUnit"),
        ("admin/a@admins.test", {"quotaUnit": "GB"}, "maxQuota"),
    ],
)
async def test_companions(there: Client, path: str, alone: dict[str, str], missing: str) -> None:
    await there.ok("POST", "admin/a@admins.test", password=PASSWORD)
    status, answer = await there.call("PUT", path, data=alone)
    assert (status, answer["_msg"]) == (400, "MISSING_COMPANION")
    assert answer["_errors"][0]["param"] == next(iter(alone))
    assert missing in answer["_errors"][0]["detail"]


async def test_additions_and_removals_go_together(there: Client) -> None:
    await there.ok("PUT", "alias/list@ex.com", members="a@x.com,b@x.com")
    await there.ok("PUT", "alias/list@ex.com", addMember="c@x.com", removeMember="a@x.com")
    assert (await there.ok("GET", "alias/list@ex.com"))["members"] == ["b@x.com", "c@x.com"]


async def test_all_wrong_parameters_are_named(there: Client) -> None:
    status, code, names = await there.refused(
        "PUT", USER, quota="much", senderBcc="nobody", accountStatus="maybe", name="x" * 300
    )
    assert (status, code) == (400, "INVALID_PARAMETERS")
    assert names == ["accountStatus", "name", "quota", "senderBcc"]


# Paths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mount", ["/api", "/iredadmin/api"])
async def test_paths(service: Service, there: Client, mount: str) -> None:
    for path in (
        "user/u@ex.com", "user/u@ex.com/", "user//u@ex.com", "/user/u@ex.com//",
        "user/u%40ex.com", "user/U@EX.COM", "user/U%40Ex.Com/", "user/%75@ex.com",
    ):  # fmt: skip
        response = await there.http.get(f"http://server{mount}/{path}")
        assert response.status_code == 200, path
        assert response.json()["_data"]["username"] == "u@ex.com"
        assert "location" not in response.headers


@pytest.mark.parametrize("path", ["//api//domains//", "/api/domains/", "//iredadmin//api//domains"])
async def test_slashes(there: Client, path: str) -> None:
    request = there.http.build_request("GET", "http://server/")
    request.url = request.url.copy_with(raw_path=path.encode())
    assert (await there.http.send(request)).json() == {
        "_success": True, "_data": (await there.ok("GET", "domains")),
    }  # fmt: skip


async def test_prefixes_are_a_setting(store: Store, there: Client) -> None:
    async with serving(store, prefixes=["/mail/v1"]) as other:
        client = await other.client(mount="/mail/v1").login()
        await client.ok("GET", "domains")
        for path in ("/api/domains", "/iredadmin/api/domains", "/mail/v10/domains"):
            response = await client.http.get(f"http://server{path}")
            assert response.status_code in {401, 404}
            assert response.json()["_success"] is False


UNKNOWN = (
    "/api/nothing /api/user /api/user/ /api/user/a@b.com/x /nothing /iredadmin/api/nothing "
    "/iredadmin /apix /api/../api/domainsx /api/%2F%2F /api/user/%00 "
    "/docs-assets/nothing /docs-assets/../../pyproject.toml /docs-assets/%2e%2e/%2e%2e/__init__.py"
).split()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_unknown_routes(there: Client, method: str) -> None:
    # GET /api leads to the docs page.
    for path in UNKNOWN if method == "GET" else [*UNKNOWN, "/api", "/api/user/.."]:
        request = there.http.build_request(method, "http://server/")
        request.url = request.url.copy_with(raw_path=path.encode())
        response = await there.http.send(request)
        assert response.headers["content-type"] == "application/json", (path, response.text)
        assert response.json()["_success"] is False, path
        assert response.status_code in {400, 404, 405}, path


async def test_wrong_method(there: Client) -> None:
    for method, path in (
        ("PATCH", "user/u@ex.com"), ("POST", "domains"), ("GET", "login"), ("PUT", "login"),
        ("DELETE", "users/ex.com"), ("GET", "domain/admins/ex.com"), ("TRACE", "domains"),
        ("OPTIONS", "domains"), ("BREW", "domains"),
    ):  # fmt: skip
        response = await there.http.request(method, path)
        assert_failure(response, 405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"], (method, path)


async def test_unknown_routes_for_strangers(service: Service, there: Client) -> None:
    response = await service.client().http.get("nothing")
    assert_failure(response, 404, "NO_SUCH_OPERATION")


async def test_head(there: Client) -> None:
    """The headers of GET, and no body; also where there is none of ours, and for a failure."""
    for path in (
        "domains", USER, "users/ex.com", "user/nobody@ex.com", "nothing",
        "http://server/livez", "http://server/readyz", "http://server/docs", "http://server/",
        "http://server/openapi.json", "http://server/docs-assets/swagger-ui.css",
    ):  # fmt: skip
        head, get = [await there.http.request(method, path) for method in ("HEAD", "GET")]
        assert (head.status_code, head.content) == (get.status_code, b""), path
        for response in (head, get):
            for name in ("x-request-id", "date"):
                response.headers.pop(name, None)
        assert head.headers == get.headers, path
    for path in ("login", "verify_password/user/u@ex.com"):
        assert (await there.http.head(path)).status_code == 405
    assert (await there.http.put("domains")).headers["allow"] == "GET, HEAD"


async def test_head_of_a_long_list_reads_one_page(service: Service, there: Client) -> None:
    await _fill(service, 1100)
    response = await there.http.head("users/ex.com")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == "application/json"


async def test_the_document_is_made_once(there: Client) -> None:
    """Strangers may ask for it: it is encoded once, and a client that has it gets no second one."""
    first = await there.http.get("http://server/openapi.json")
    again = await there.http.get("http://server/openapi.json")
    assert first.content == again.content
    assert first.json()["paths"]
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for known in (tag, f'"x", W/{tag}'):
        response = await there.http.get(
            "http://server/openapi.json", headers={"If-None-Match": known}
        )
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == tag
    response = await there.http.get("http://server/openapi.json", headers={"If-None-Match": '"x"'})
    assert response.status_code == 200
    started = time.perf_counter()
    for _ in range(20):
        await there.http.get("http://server/openapi.json")
    # 40 ms each, when it was made of its parts every time.
    assert time.perf_counter() - started < 0.4


# Hostile bodies ----------------------------------------------------------------------------------

BROKEN_JSON = [
    b"{", b"[", b"[]", b'"text"', b"1", b"null", b"{'name': 1}", b'{"name": }', b'{"name":"x"}}',
    b"{" + b'"a":{' * 5000, b"[" * 100_000, b'{"a":' + b"[" * 100_000, b'{"name":"\x00"}',
    b'{"name":"x\ny"}', b"\xff\xfe{", b'{"name":"\xff"}', b"\x80", b'{"name":NaN',
]  # fmt: skip


async def test_broken_json(there: Client) -> None:
    for body in BROKEN_JSON:
        response = await raw(there, "PUT", USER, body, "application/json")
        assert_failure(response, 400, "INVALID_REQUEST")
    assert (await there.ok("GET", USER))["name"] == "U"


async def test_half_a_surrogate_pair(there: Client) -> None:
    for body in (
        rb'{"name":"\ud800"}',
        rb'{"\udc00":"x"}',
        rb'{"members":["\ud83d"]}',
        rb'{"x":"\udfff"}',
    ):
        for path in (USER, "alias/list@ex.com"):
            assert_failure(
                await raw(there, "PUT", path, body, "application/json"), 400, "INVALID_REQUEST"
            )
        whole = rb'{"name":"\ud83d\ude00"}'
        assert (await raw(there, "PUT", USER, whole, "application/json")).status_code == 200


async def test_nul_and_control_characters(there: Client) -> None:
    for body, kind in (
        (b"name=a%00b", FORM),
        (rb'{"name":"a\u0000b"}', "application/json"),
        multipart(name="a\0b"),
        (b"name=a\0b", FORM),
        (b"name=a%0Ab", FORM),
        (b"name=%7F", FORM),
    ):
        assert (await raw(there, "PUT", USER, body, kind)).status_code == 400
    assert (await there.ok("GET", USER))["name"] == "U"


async def test_lesson_20_line_ends_in_every_kind_of_value(there: Client) -> None:
    before = await there.ok("GET", USER)
    good = {
        "password": PASSWORD,
        "transport": "smtp:x.com",
        "language": "de_DE",
        "aliases": "x@ex.com",
        "maildir": "/var/vmail/vmail1/x",
    }
    for field in (
        "password",
        "senderBcc",
        "forwarding",
        "transport",
        "language",
        "aliases",
        "employeeid",
        "maildir",
    ):
        value = good.get(field, "x@x.com")
        for bad in ("\n", "\r", "\0", "\u2028", "\n\n"):
            for hostile in (f"{value}{bad}x", f"x{bad}{value}"):
                status, _, names = await there.refused("PUT", USER, **{field: hostile})
                assert (status, names) == (400, [field]), repr(hostile)
    assert await there.ok("GET", USER) == before


async def test_lesson_20_whole_values_of_domains(there: Client) -> None:
    before = await there.ok("GET", "domain/ex.com")
    for field, good in (
        ("transport", "smtp:x.com"),
        ("primarymx", "mx.x.com"),
        ("outboundRelay", "[mx.x.com]:25"),
        ("catchall", "x@x.com"),
        ("senderBcc", "x@x.com"),
        ("addAliasDomain", "al.com"),
    ):
        more = {"is_backupmx": "yes"} if field == "primarymx" else {}
        for bad in ("\nx", "\rx", "\0", "\n* evil:", " evil"):
            status, _, names = await there.refused(
                "PUT", "domain/ex.com", **{field: good + bad}, **more
            )
            assert (status, names) == (400, [field]), repr(bad)
    assert await there.ok("GET", "domain/ex.com") == before


async def test_invalid_utf8(there: Client) -> None:
    for body, kind in (
        (b"name=%ff", FORM),
        (b"name=\xff", FORM),
        (b"%ff=x", FORM),
        (b"name=%c3%28", FORM),
    ):
        assert_failure(await raw(there, "PUT", USER, body, kind), 400, "INVALID_REQUEST")
        query = f"{USER}?{body.decode('latin-1')}" if b"\xff" not in body else f"{USER}?name=%ff"
        assert_failure(await there.http.put(query), 400, "INVALID_REQUEST")


@pytest.mark.parametrize("bad", ["%FF", "%C3", "%ED%A0%80"])
async def test_invalid_utf8_in_the_path(there: Client, bad: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        response = await there.http.request(method, f"user/{bad}@ex.com")
        assert response.headers["content-type"] == "application/json"
        assert response.status_code in {400, 404}
    response = await there.http.get(f"domain/{bad}.com")
    assert response.status_code in {400, 404}


def _multiparts() -> list[tuple[bytes, str]]:
    body, kind = multipart(name="x")
    file = (
        b'--XX\r\nContent-Disposition: form-data; name="name"; filename="f"\r\n\r\nx\r\n--XX--\r\n'
    )
    return [
        (body, "multipart/form-data"), (body, "multipart/form-data; boundary="),
        (body, "multipart/form-data; boundary=YY"), (body[:-8], kind), (b"x", kind),
        (file, kind), (b"--XX\r\n\r\n", kind), (b"--XX" * 10_000, kind),
        (body, "multipart/form-data; boundary=" + "X" * 5000),
        (body.replace(b'; name="name"', b""), kind),
        (body.replace(b"\r\n\r\n", b"\r\n" + b"X-A: b\r\n" * 2000 + b"\r\n"), kind),
        (body, "multipart/form-data; boundary=\xff"),
    ]  # fmt: skip


async def test_broken_multipart(there: Client) -> None:
    """Above all: a body that was cut is no body without parameters."""
    accepted = []
    for number, (body, kind) in enumerate(_multiparts()):
        headers = {"Content-Type": kind.encode("latin-1")}
        response = await there.http.put(USER, content=body, headers=headers)  # type: ignore[arg-type]
        if response.json()["_success"]:
            accepted.append(number)
        else:
            assert_failure(response, 400, "INVALID_REQUEST")
    assert accepted == []
    assert (await there.ok("GET", USER))["name"] == "U"


async def test_lesson_25_other_content_types(there: Client) -> None:
    for kind in (
        "image/png", "text/html", "application/xml", "x" * 5000, "application/octet-stream",
        "multipart/mixed; boundary=XX", "/", "application/json/x",
    ):  # fmt: skip
        answer = assert_failure(
            await raw(there, "PUT", USER, b"name=x", kind), 400, "INVALID_REQUEST"
        )
        assert len(answer["_detail"]) < 200


async def test_lesson_25_content_type_in_bounded_time(there: Client) -> None:
    """GHSA-93gm-qmq6-w238: options that make a regular expression run for ever."""
    started = time.perf_counter()
    for option in ('x="' + "\\" * 60_000, ";" * 60_000, "a=" * 30_000, 'a="' + '\\"' * 30_000):
        kind = f"multipart/form-data; {option}"
        assert (await raw(there, "PUT", USER, b"x", kind)).status_code == 400
        await raw(there, "PUT", USER, b"name=x", f"{FORM}; {option}")
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("count, status", [(1000, 200), (1001, 400), (100_000, 400)])
@pytest.mark.parametrize("carrier", ["form", "json", "multipart", "query"])
async def test_lesson_25_many_fields(there: Client, carrier: str, count: int, status: int) -> None:
    names = [f"f{number}" for number in range(count)]
    if carrier == "query":
        if count > 5000:
            return  # no server takes such a line
        response = await there.http.put(f"{USER}?{'&'.join(names)}")
    elif carrier == "form":
        response = await raw(there, "PUT", USER, "&".join(names).encode(), FORM)
    elif carrier == "json":
        body = json.dumps(dict.fromkeys(names, "")).encode()
        response = await raw(there, "PUT", USER, body, "application/json")
    else:
        if count > 5000:
            names = names[:5000]
        response = await raw(there, "PUT", USER, *multipart(**dict.fromkeys(names, "")))
    if status == 200:
        assert response.status_code == 200, response.text
    else:
        assert_failure(response, 400, "INVALID_REQUEST")


async def test_oversized_body(there: Client) -> None:
    for kind in (FORM, "application/json", multipart()[1], None):
        body = b"name=" + b"x" * (8 * 1024 * 1024)
        assert_failure(await raw(there, "PUT", USER, body, kind), 413, "REQUEST_TOO_LARGE")


async def test_oversized_body_without_a_length(there: Client) -> None:
    """A chunked body is counted while it arrives; what is declared is believed at once."""
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(50):
            sent += 1024 * 1024
            yield b"x" * 1024 * 1024

    response = await there.http.put(USER, content=chunks())
    assert_failure(response, 413, "REQUEST_TOO_LARGE")
    assert sent < 12 * 1024 * 1024
    for length in ("99999999999", "9" * 5000, "8388609"):
        response = await there.http.put(USER, content=b"x", headers={"Content-Length": length})
        assert_failure(response, 413, "REQUEST_TOO_LARGE")


async def test_body_limit_is_a_setting(store: Store, there: Client) -> None:
    async with serving(store, body_limit=1024) as small:
        client = await small.client().login()
        body = b"name=x&x=" + b"x" * (1024 - 9)
        assert (await raw(client, "PUT", USER, body, FORM)).status_code == 200
        assert (await raw(client, "PUT", USER, body + b"x", FORM)).status_code == 413


async def test_long_lists(there: Client) -> None:
    many = ",".join(f"m{number}@x.com" for number in range(10_001))
    refused = await there.refused("PUT", "alias/list@ex.com", members=many)
    assert refused == (400, "INVALID_VALUE", ["members"])


# Answers -----------------------------------------------------------------------------------------


async def test_success_says_nothing_but_success(there: Client) -> None:
    assert await there.call("PUT", USER, data={"name": "x"}) == (
        200,
        {"_success": True, "_changed": ["name"]},
    )
    response = await there.http.get("domains")
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"_success", "_data"}
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "server" not in response.headers


async def test_skipped_is_told(there: Client) -> None:
    status, answer = await there.call(
        "PUT", "alias/list@ex.com", data={"members": "u@ex.com,nobody@ex.com,x@x.com"}
    )
    assert status == 200
    assert answer == {
        "_success": True,
        "_changed": ["members"],
        "_skipped": [{"param": "members", "value": "nobody@ex.com", "reason": "NO_SUCH_ACCOUNT"}],
    }
    status, answer = await there.call("PUT", "alias/list@ex.com", data={"addMember": "no@ex.com"})
    assert answer["_skipped"][0]["param"] == "addMember"


STATUSES = [
    # method, path, form, status, code
    ("PUT", USER, {"quota": "x"}, 400, "INVALID_NUMBER"),
    ("POST", "user/a b@ex.com", {"password": PASSWORD}, 400, "INVALID_MAIL"),
    ("POST", "domain/nothing", {}, 400, "INVALID_DOMAIN_NAME"),
    ("POST", "user/n@ex.com", {}, 400, "REQUIRED"),
    ("POST", "login", {"username": ROOT}, 400, "REQUIRED"),
    ("POST", "login", {"username": ROOT, "password": ""}, 400, "EMPTY_PASSWORD"),
    ("POST", "login", {"username": "root", "password": "x"}, 400, "INVALID_USERNAME"),
    ("POST", "login", {"username": ROOT, "password": "x"}, 401, "INVALID_CREDENTIALS"),
    ("POST", f"verify_password/user/{USER[5:]}", {"password": "x"}, 403, "INVALID_CREDENTIALS"),
    ("POST", f"verify_password/admin/{ROOT}", {"password": "x"}, 403, "INVALID_CREDENTIALS"),
    ("POST", "verify_password/user/no@ex.com", {"password": "x"}, 404, "NO_SUCH_ACCOUNT"),
    ("GET", "user/no@ex.com", {}, 404, "NO_SUCH_ACCOUNT"),
    ("PUT", "user/no@ex.com", {"name": "x"}, 404, "NO_SUCH_ACCOUNT"),
    ("DELETE", "user/no@ex.com", {}, 404, "NO_SUCH_ACCOUNT"),
    ("GET", "user/no@nowhere.com", {}, 404, "NO_SUCH_ACCOUNT"),
    ("GET", "alias/no@ex.com", {}, 404, "NO_SUCH_ACCOUNT"),
    ("GET", "admin/no@admins.test", {}, 404, "NO_SUCH_ACCOUNT"),
    ("GET", "domain/no.com", {}, 404, "NO_SUCH_DOMAIN"),
    ("DELETE", "domain/no.com", {}, 404, "NO_SUCH_DOMAIN"),
    ("GET", "users/no.com", {}, 404, "NO_SUCH_DOMAIN"),
    ("POST", "user/u@no.com", {"password": PASSWORD}, 404, "NO_SUCH_DOMAIN"),
    ("GET", "nothing", {}, 404, "NO_SUCH_OPERATION"),
    ("PATCH", USER, {}, 405, "METHOD_NOT_ALLOWED"),
    ("POST", USER, {"password": PASSWORD}, 409, "ALREADY_EXISTS"),
    ("POST", "alias/u@ex.com", {}, 409, "ALREADY_EXISTS"),
    ("POST", "domain/ex.com", {}, 409, "ALREADY_EXISTS"),
    ("POST", f"admin/{ROOT}", {"password": PASSWORD}, 409, "ALREADY_EXISTS"),
    ("DELETE", f"admin/{ROOT}", {}, 409, "CANNOT_REMOVE_YOURSELF"),
    ("POST", "user/u@ex.com/change_email/u@other.com", {}, 400, "CROSS_DOMAIN_NOT_ALLOWED"),
    ("DELETE", "user/u@ex.com/keep_mailbox_days/-1", {}, 400, "INVALID_NUMBER"),
    ("POST", "admin/x@ex.com", {"password": PASSWORD}, 400, "CAN_NOT_BE_LOCAL_DOMAIN"),
]  # fmt: skip


async def test_statuses(there: Client) -> None:
    for method, path, form, status, code in STATUSES:
        payload: dict[str, Any] = {"params" if method == "GET" else "data": form}
        assert_failure(await there.http.request(method, path, **payload), status, code)


async def test_password_policy_codes_are_joined(there: Client) -> None:
    _, answer = await there.call("PUT", USER, data={"password": "short"})
    codes = "PW_SHORTER_THAN_MIN_LENGTH,PW_NO_UPPERCASE,PW_NO_DIGIT_NUMBER,PW_NO_SPECIAL_CHAR"
    assert answer["_msg"] == codes
    assert [item["code"] for item in answer["_errors"]] == codes.split(",")


async def test_always_200(old_client: Client) -> None:
    for method, path, form, _, code in STATUSES:
        payload: dict[str, Any] = {"params" if method == "GET" else "data": form}
        assert_failure(await old_client.http.request(method, path, **payload), 200, code)


@pytest_asyncio.fixture(loop_scope="session")
async def old_client(store: Store, there: Client) -> AsyncIterator[Client]:
    """A client of a service that answers 200 to everything it has handled."""
    async with serving(store, always_200=True) as old:
        yield await old.client().login()


async def test_always_200_spells_login_required_with_a_blank(store: Store, there: Client) -> None:
    async with serving(store, always_200=True) as old:
        for method, path in (("GET", "domains"), ("PUT", "user/x@y.com")):
            status, answer = await old.client().call(method, path)
            assert (status, answer["_msg"]) == (200, "LOGIN REQUIRED")


async def test_always_200_keeps_the_rest(old_client: Client) -> None:
    assert_failure(
        await raw(old_client, "PUT", USER, b"{", "application/json"), 200, "INVALID_REQUEST"
    )
    big = b"x" * (8 * 1024 * 1024 + 1)
    assert_failure(await raw(old_client, "PUT", USER, big, FORM), 200, "REQUEST_TOO_LARGE")


async def test_request_id_is_taken_over(there: Client) -> None:
    for given in ("abcdef-123.X_", "a" * 8, "f" * 64):
        response = await there.http.get("user/no@ex.com", headers={"X-Request-Id": given})
        assert response.headers["x-request-id"] == given == response.json()["_request_id"]


async def test_request_id_is_made(there: Client) -> None:
    for given in ("", "short", "x" * 65, "with blank", "a\tb-cdefg", "<script>alert", 'a"bcdefgh'):
        response = await there.http.get("user/no@ex.com", headers={"X-Request-Id": given})
        made = response.headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{16}", made)
        assert response.json()["_request_id"] == made
    ok = await there.http.get("domains")
    assert re.fullmatch("[0-9a-f]{16}", ok.headers["x-request-id"])
    assert ok.headers["x-request-id"] != made


# Crashes -----------------------------------------------------------------------------------------

SECRET = "s3cret-in-the-exception"


@pytest.mark.parametrize("always_200", [False, True])
async def test_crash(
    store: Store,
    there: Client,
    monkeypatch: pytest.MonkeyPatch,
    always_200: bool,
) -> None:
    async def crash(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError(SECRET)

    async with serving(store, always_200=always_200) as service:
        client = await service.client().login()
        monkeypatch.setattr(users, "profile", crash)
        monkeypatch.setattr(domains, "update", crash)
        for method, path in (("GET", USER), ("PUT", "domain/ex.com")):
            response = await client.http.request(
                method, path, headers={"X-Request-Id": "my-own-id"}
            )
            answer = assert_failure(response, 500, "SERVER_ERROR")
            assert answer["_request_id"] == "my-own-id"
            assert SECRET not in response.text
            assert "Traceback" not in response.text
            assert response.headers["cache-control"] == "no-store"
        monkeypatch.undo()
        assert (await client.ok("GET", USER))["username"] == "u@ex.com"


async def test_crash_in_the_middle_of_a_write_changes_nothing(
    service: Service, there: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await service.store.rows("SELECT * FROM mailbox")
    real = users.remove

    async def late(*args: Any, **kwargs: Any) -> None:
        await real(*args, **kwargs)
        raise RuntimeError(SECRET)

    monkeypatch.setattr(users, "remove", late)
    assert_failure(await there.http.delete(USER), 500, "SERVER_ERROR")
    assert await service.store.rows("SELECT * FROM mailbox") == before
    assert await service.store.rows("SELECT * FROM deleted_mailboxes") == []


# Lists -------------------------------------------------------------------------------------------


async def _fill(service: Service, count: int) -> list[str]:
    mails = [f"m{number:05}@ex.com" for number in range(count)]
    async with service.store.connect() as connection:
        await connection.execute(
            text(
                "INSERT INTO mailbox (username, domain, password, active)"
                " VALUES (:mail, 'ex.com', 'x', :active)"
            ),
            [{"mail": mail, "active": int(n % 3 > 0)} for n, mail in enumerate(mails)],
        )
    return mails


@pytest.mark.parametrize("count", [1000, 2001])
async def test_streamed_lists(
    service: Service, root: Client, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that is streamed is the list that was not."""
    await root.ok("POST", "domain/ex.com")
    mails = await _fill(service, count)
    assert await root.ok("GET", "users/ex.com", email_only="yes") == mails
    disabled = await root.ok("GET", "users/ex.com", email_only="yes", disabled_only="yes")
    assert disabled == mails[::3]
    streamed = await root.call("GET", "users/ex.com")
    monkeypatch.setattr(responses, "PAGE", 100_000)
    whole = await root.call("GET", "users/ex.com")
    assert streamed == whole
    assert [user["username"] for user in whole[1]["_data"]] == mails


async def test_streamed_domains_and_aliases(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"d{number:04}.com" for number in range(25)]
    await service.store.insert("domain", *({"domain": name} for name in names))
    aliases = [f"a{number:04}@{names[0]}" for number in range(25)]
    await service.store.insert("alias", *({"address": a, "domain": names[0]} for a in aliases))
    for address in aliases:
        row = {"address": address, "domain": names[0], "is_list": 1}
        await service.store.insert(
            "forwardings", {**row, "forwarding": "x@x.com"}, {**row, "forwarding": "y@x.com"}
        )
    whole = {path: await root.call("GET", path) for path in ("domains", f"aliases/{names[0]}")}
    for page in (1, 7, 25, 26):
        monkeypatch.setattr(responses, "PAGE", page)
        for path, answer in whole.items():
            assert await root.call("GET", path) == answer
        assert await root.ok("GET", "domains", name_only="yes") == names
        assert await root.ok("GET", f"aliases/{names[0]}", email_only="yes") == aliases
    assert whole[f"aliases/{names[0]}"][1]["_data"][3]["members"] == ["x@x.com", "y@x.com"]


async def test_failure_in_the_middle_of_a_list_is_told(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``_success`` is the last key: whoever has read to the end knows."""
    from iredapi.errors import ServerDown

    await root.ok("POST", "domain/ex.com")
    await _fill(service, 10)
    monkeypatch.setattr(responses, "PAGE", 4)
    real = users.mails
    calls = 0

    async def failing(*args: Any, **kwargs: Any) -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ServerDown
        return await real(*args, **kwargs)

    monkeypatch.setattr(users, "mails", failing)
    response = await root.http.get("users/ex.com", params={"email_only": "yes"})
    answer = response.json()
    assert list(answer)[-1] == "_success"
    assert (answer["_success"], answer["_msg"]) == (False, "SERVER_DOWN")
    assert answer["_request_id"] == response.headers["x-request-id"]
    assert len(answer["_data"]) == 4


async def test_strict_requests_that_read(service: Service, root: Client) -> None:
    """A misspelt parameter would choose everything: `strict=yes` makes it an error."""
    await root.ok("POST", "domain/ex.com")
    calls = ("domains", "users/ex.com", "domain/ex.com", "usage", "search?q=ex", "whoami")
    for path in calls:
        params = {"serach": "ali", "limt": "5"}
        mark = "&" if "?" in path else "?"
        query = "&".join(f"{name}={value}" for name, value in params.items())
        for strict in ("", "&strict=no"):
            status, _ = await root.call("GET", f"{path}{mark}{query}{strict}")
            assert status == 200, path
        status, answer = await root.call("GET", f"{path}{mark}{query}&strict=yes")
        assert (status, answer["_msg"]) == (400, "IGNORED_PARAMETER"), path
        assert [item["param"] for item in answer["_errors"]] == ["limt", "serach"]
        head = await root.http.head(f"{path}{mark}{query}&strict=yes")
        assert head.status_code == 400
        status, _ = await root.call("GET", f"{path}{mark}strict=yes")
        assert status == 200, path
        status, answer = await root.call("GET", f"{path}{mark}strict=perhaps")
        assert (status, [item["param"] for item in answer["_errors"]]) == (400, ["strict"])
    _, answer = await root.call("GET", "users/ex.com?serach=ali&strict=yes")
    assert answer["_errors"][0]["detail"].endswith("Was search meant?")
    # Older names and those of lists are known.
    await root.ok("GET", "domains", name_only="yes", strict="yes")
