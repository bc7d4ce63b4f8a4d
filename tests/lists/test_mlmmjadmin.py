"""The requests to mlmmjadmin keep the rules of the real one.

The stand-in works as a stock iRedMail's does (``bk_none``). These are the rules that also keep its
other modes, and uWSGI in front of it, from doing harm.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from tests.lists.conftest import DOMAIN, TEAM, Lists
from tests.servers.mlmmjadmin import BOOLEANS, TOKEN, Request

pytestmark = [
    pytest.mark.needs("mlmmj"),
    pytest.mark.stores("sqlite", "openldap"),
    pytest.mark.list_servers("mlmmjadmin"),
]
SETTINGS = {
    "name", "owner", "moderators", "moderate_subscription", "subscription_moderators",
    "extra_addresses", "max_message_size", "subject_prefix", "custom_headers", "remove_headers",
    "footer_text", "footer_html", *BOOLEANS,
}  # fmt: skip
LIST = r"/api/[a-z0-9][a-z0-9._-]*@[a-z0-9.-]+"


async def everything(lists: Lists) -> None:
    """Create, change and remove a list, with every parameter of a request."""
    await lists.user("bob", "boss")
    bob = f"bob@{DOMAIN}"
    await lists.create(
        f"TEAM@{DOMAIN.upper()}",
        name="Team ü",
        owner=f"boss@{DOMAIN}",
        moderate_subscription="yes",
        footer_text="Bye\r\nnow",
        custom_headers="X-A: 1\r\nX-B: 2",
        subscribers=",".join(f"s{number}@else.test" for number in range(120)),
    )
    await lists.update(owner=bob)
    await lists.update(moderators=f"{bob},ann@else.test")
    await lists.update(extra_addresses=f"crew@{DOMAIN}")
    await lists.update(extra_addresses="", max_message_size="0", name="")
    await lists.update(accessPolicy="moderatorsonly", moderated="yes", is_newsletter="yes")
    await lists.update(accessPolicy="subdomain", subscription_moderators=bob)
    await lists.update(moderate_subscription="yes", subscription_moderators="", footer_html="")
    await lists.update(moderate_subscription="no", custom_headers="", remove_headers="X-C")
    await lists.update(add_subscribers="O'Neil@else.test,a/b@else.test,x@else.test",
                       require_confirm="no", subscription="digest")  # fmt: skip
    await lists.update(add_subscribers="x@else.test", remove_subscribers="a/b@else.test")
    await lists.get(with_subscribers="yes")
    await lists.root.ok("PUT", f"user/{bob}/change_email/robert@{DOMAIN}")
    await lists.root.ok("DELETE", f"user/robert@{DOMAIN}")
    await lists.root.ok("DELETE", f"ml/{TEAM}")
    await lists.create(f"b@{DOMAIN}")
    await lists.root.ok("DELETE", f"ml/b@{DOMAIN}", keep_archive="no")


async def test_each_call(lists: Lists) -> None:
    await everything(lists)
    requests = lists.admin.requests
    assert {request.method for request in requests} == {"GET", "POST", "PUT", "DELETE"}
    for number, request in enumerate(requests):
        path, form = _checked(request)
        if re.fullmatch(LIST, path):
            if request.method == "POST":
                # Nothing of that name is there: it was asked just before.
                assert (requests[number - 1].method, requests[number - 1].target) == (
                    "GET",
                    f"{request.target}/owners",
                )
            if request.method in ("POST", "PUT"):
                _check_settings(form, new=request.method == "POST")
        elif path.endswith("/subscribers"):
            assert request.method in ("GET", "POST")
        else:
            # No writing to /owners and /moderators: it checks and records nothing.
            assert request.method == "GET"
            assert re.fullmatch(rf"{LIST}/owners|{LIST}/has_subscriber/.+|.+/subscribed", path)


def _checked(request: Request) -> tuple[str, dict[str, str]]:
    """Check the rules of all calls; return path and parameters, from body or query."""
    assert request.headers["x-mlmmjadmin-api-auth-token"] == TOKEN
    assert "transfer-encoding" not in request.headers
    assert request.size < 4096
    split = urlsplit(request.target)
    path = unquote(split.path)
    assert path == path.lower()
    assert ".." not in path
    query = dict(parse_qsl(split.query, keep_blank_values=True))
    if request.method in ("GET", "DELETE"):
        assert request.body == b""
        if request.method == "DELETE":
            assert query in ({"archive": "yes"}, {"archive": "no"})
        elif path.endswith("/subscribed"):
            assert query == {"query_all_lists": "yes"}
        else:
            assert query == {}
        return path, query
    assert query == {}
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert int(request.headers["content-length"]) == len(request.body) > 0
    pairs = parse_qsl(request.body.decode("ascii"), keep_blank_values=True, errors="strict")
    form = dict(pairs)
    assert len(form) == len(pairs)
    if path.endswith("/subscribers"):
        if "add_subscribers" in form:
            assert set(form) == {"add_subscribers", "require_confirm", "subscription"}
            assert form["require_confirm"] in ("yes", "no")
            assert form["subscription"] in ("normal", "digest", "nomail")
        else:
            assert set(form) == {"remove_subscribers"}
        mails = next(iter(form.values())).split(",")
        # Each question is a process, all of a call at once.
        assert form.get("require_confirm") != "yes" or len(mails) <= 50
        assert all(re.fullmatch(r"[a-z0-9/-]+@else\.test|[a-z]+@list\.test", m) for m in mails)
    return path, form


def _check_settings(form: dict[str, str], *, new: bool) -> None:
    assert set(form) <= SETTINGS
    assert "name" in form, "its other modes blank the name that they have stored"
    assert ("owner" in form) == ("moderators" in form), "its LDAP mode fails"
    assert form.get("extra_addresses") != "", "mlmmj would crash on each post"
    assert {form[name] for name in BOOLEANS if name in form} <= {"yes", "no"}
    assert form.get("moderate_subscription", "no") in ("yes", "no")
    assert {"yes"} != {form.get("only_moderator_can_post"), form.get("only_subscriber_can_post")}
    assert re.fullmatch("[0-9]+", form.get("max_message_size", "0"))
    assert not any("\r" in value or "\0" in value for value in form.values())
    assert bool(form.get("footer_text")) == bool(form.get("footer_html"))
    if new:
        # Its own defaults are not those of the documentation.
        assert set(BOOLEANS) <= set(form)
        assert {"owner", "moderators", "max_message_size"} <= set(form)
        assert {"moderate_subscription", "subscription_moderators"} & set(form)
