"""``ETag``, ``If-None-Match``, ``If-Match``: no write of another client is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.clients import PASSWORD, Client, Service
from tests.published.calls import PARAMETERS
from tests.servers.store import ALL_STORES

pytestmark = pytest.mark.stores(*ALL_STORES)

PROFILES = {
    "domain/ex.com": ({"name": "One"}, {"quota": "5000"}),
    "user/u@ex.com": ({"name": "One"}, {"addForwarding": "x@far.org"}),
    "admin/a@far.org": ({"name": "One"}, {"language": "de_DE"}),
    "alias/al@ex.com": ({"name": "One"}, {"addMember": "x@far.org"}),
    "ml/list@ex.com": ({"name": "One"}, {"only_subscriber_can_post": "no"}),
    "maillist/ml@ex.com": ({"name": "One"}, {"addMember": "x@far.org"}),
}
"""Each profile with two changes of different things."""


def kinds(service: Service) -> list[str]:
    ldap_only = () if service.store.name == "openldap" else ("maillist/ml@ex.com",)
    return [path for path in PROFILES if path not in ldap_only]


@pytest.fixture
async def there(service: Service, root: Client) -> Client:
    await root.ok("POST", "domain/ex.com")
    for path in kinds(service)[1:]:
        secret = {"password": PASSWORD} if path.startswith(("user", "admin")) else {}
        await root.ok("POST", path, **secret)
    return root


async def tag_of(client: Client, path: str, view: str = "native") -> str:
    response = await client.http.get(path, params={"view": view})
    assert response.status_code == 200
    return response.headers["etag"]


async def put(client: Client, path: str, tag: str, form: dict[str, str]) -> httpx.Response:
    return await client.http.put(path, data=form, headers={"If-Match": tag})


def assert_failed(response: httpx.Response) -> None:
    assert (response.status_code, response.json()["_msg"]) == (412, "PRECONDITION_FAILED")


async def test_a_write_needs_the_current_tag(service: Service, there: Client) -> None:
    """In both views, for every kind of account: after a change the former tags are too old."""
    for path in kinds(service):
        for view in ("native", "canonical"):
            first, second = PROFILES[path]
            if view == "canonical":
                first, second = {"name": "Two"}, {"name": "Three"}
            tag = await tag_of(there, path, view)
            assert await tag_of(there, path, view) == tag, path
            done = await put(there, path, tag, first)
            assert (done.status_code, len(done.json()["_changed"])) == (200, 1), (path, done.text)
            assert await tag_of(there, path, view) != tag, path

            before = (await there.http.get(path, params={"view": view})).content
            for old in (tag, f'"x", {tag}', f"W/{tag}", '"s"', '""'):
                assert_failed(await put(there, path, old, second))
            assert (await there.http.get(path, params={"view": view})).content == before, path

            newest = await tag_of(there, path, view)
            assert (await put(there, path, f'{tag},"x" , {newest}', second)).status_code == 200
            assert (await put(there, path, "*", first)).status_code == 200


async def test_every_parameter_that_is_changed_changes_both_tags(
    service: Service, there: Client
) -> None:
    """Also those that a view does not show."""
    await there.ok("POST", "user/alice@ex.com", password=PASSWORD)
    for path in kinds(service):
        kind = path.partition("/")[0]
        if kind == "ml":
            continue  # one view for all storages, and it shows everything but subscribers

        async def tags(path: str = path) -> list[str]:
            views = ("native", "canonical")
            return [(await tag_of(there, path, view)).partition("-")[0] for view in views]

        before = await tags()
        more = {"addService": ["vpn"]} if kind == "user" else {}
        for name, values in {**PARAMETERS[kind], **more}.items():
            status, answer = await there.call("PUT", path, data={name: values[0]})
            after = await tags()
            changed = status == 200 and answer["_changed"] != []
            differs = [new != old for new, old in zip(after, before, strict=True)]
            assert differs == [changed] * 2, (path, name, answer)
            before = after


async def test_of_two_parallel_writes_one_is_made(service: Service, there: Client) -> None:
    for path in kinds(service):
        first, second = PROFILES[path]
        tag = await tag_of(there, path)
        both = await asyncio.gather(put(there, path, tag, first), put(there, path, tag, second))
        assert sorted(answer.status_code for answer in both) == [200, 412], path


async def test_a_new_password_is_a_change(service: Service, there: Client) -> None:
    """Although no profile shows it, and the times of changes have whole seconds."""
    for path in ("user/u@ex.com", "admin/a@far.org"):
        tags = [await tag_of(there, path, view) for view in ("native", "canonical")]
        await there.ok("PUT", path, password=f"{PASSWORD}-2")
        for tag in tags:
            assert_failed(await put(there, path, tag, {"password": f"{PASSWORD}-3"}))
        now = await tag_of(there, path)
        forms: list[dict[str, Any]] = [{"password": f"{PASSWORD}-{n}"} for n in (4, 5)]
        both = await asyncio.gather(*(put(there, path, now, form) for form in forms))
        assert sorted(answer.status_code for answer in both) == [200, 412], path


async def test_what_is_no_change_of_the_account(service: Service, there: Client) -> None:
    """Counters are in the answer, so ``If-None-Match`` sees them; ``If-Match`` does not."""
    tag = await tag_of(there, "domain/ex.com")
    await there.ok("POST", "user/another@ex.com", password=PASSWORD)
    assert await tag_of(there, "domain/ex.com") != tag
    fresh = await there.http.get("domain/ex.com", headers={"If-None-Match": tag})
    assert (fresh.status_code, fresh.json()["_success"]) == (200, True)
    assert (await put(there, "domain/ex.com", tag, {"name": "One"})).status_code == 200


async def test_deletions_and_renames(service: Service, there: Client) -> None:
    for path in reversed(kinds(service)):
        tag = await tag_of(there, path)
        assert (await put(there, path, tag, {"name": "New"})).status_code == 200
        for method, where in (("DELETE", path), ("POST", f"{path}/change_email/n@ex.com")):
            if method == "POST" and not path.startswith(("user/", "alias/")):
                continue
            assert_failed(await there.http.request(method, where, headers={"If-Match": tag}))
        assert_failed(
            await there.http.put(
                "domain/admins/ex.com", data={"addAdmin": "a@far.org"}, headers={"If-Match": tag}
            )
        )
        now = {"If-Match": await tag_of(there, path)}
        assert (await there.http.delete(path, headers=now)).status_code == 200, path
        gone = await there.http.delete(path, headers=now)
        assert gone.status_code == 404, path


async def test_what_the_client_has_is_not_sent_again(service: Service, there: Client) -> None:
    for path in kinds(service):
        for view in ("native", "canonical"):
            tag = await tag_of(there, path, view)
            for method in ("GET", "HEAD"):
                for known in (tag, f'"x", W/{tag}', "*"):
                    response = await there.http.request(
                        method, path, params={"view": view}, headers={"If-None-Match": known}
                    )
                    assert (response.status_code, response.content) == (304, b""), (path, known)
                    assert response.headers["etag"] == tag
            other = await there.http.get(
                path, params={"view": view}, headers={"If-None-Match": '"x"'}
            )
            assert (other.status_code, other.headers["etag"]) == (200, tag)


async def test_headers_that_cannot_hold(service: Service, there: Client) -> None:
    """A malformed header is an error; a condition is never ignored; rights come first."""
    for malformed in ("abc", '"a" "b"', '"a', "", "*, *", "W/*"):
        response = await put(there, "user/u@ex.com", malformed, {"name": "New"})
        assert (response.status_code, response.json()["_msg"]) == (400, "INVALID_REQUEST")
    assert (await there.ok("GET", "user/u@ex.com", view="canonical"))["name"] == "u"
    for method, path in (("PUT", "users/ex.com"), ("POST", "user/new@ex.com")):
        response = await there.http.request(
            method, path, data={"password": PASSWORD}, headers={"If-Match": "*"}
        )
        assert_failed(response)
    assert (await there.call("GET", "user/new@ex.com"))[0] == 404
    missing = await put(there, "user/nobody@ex.com", "*", {"name": "New"})
    assert missing.status_code == 404
    await there.ok("POST", "domain/other.com")
    stranger = await service.admin_of("other.com")
    assert (await put(stranger, "user/u@ex.com", '"s"', {"name": "New"})).status_code == 403


async def test_the_tag_does_not_depend_on_who_asks(service: Service, there: Client) -> None:
    """Its first part: what a global admin and the domain's admin see may differ."""
    own = await service.admin_of("ex.com")
    tags = [await tag_of(client, "user/u@ex.com") for client in (there, own)]
    assert len({tag.partition("-")[0] for tag in tags}) == 1
    assert (await put(own, "user/u@ex.com", tags[0], {"name": "New"})).status_code == 200


async def test_a_domain_with_mailing_lists(service: Service, there: Client) -> None:
    """Its lists are removed one by one before it: not even the first one with an old tag."""
    tag = await tag_of(there, "domain/ex.com")
    await there.ok("PUT", "domain/ex.com", name="New")
    assert_failed(await there.http.delete("domain/ex.com", headers={"If-Match": tag}))
    assert (await there.ok("GET", "ml/list@ex.com"))["accountStatus"] == "active"
    now = {"If-Match": await tag_of(there, "domain/ex.com")}
    assert (await there.http.delete("domain/ex.com", headers=now)).status_code == 200
    assert (await there.call("GET", "ml/list@ex.com"))[0] == 404
