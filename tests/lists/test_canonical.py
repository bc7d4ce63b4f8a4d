"""``view=canonical`` of subscribable lists: the same bytes over every storage and list server."""

from __future__ import annotations

import orjson
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from iredapi.domain.list_footers import fixed_headers
from iredapi.domain.lists import FLAGS
from iredapi.schemas.canonical import CanonicalList, CanonicalStoredList
from tests.lists.conftest import DOMAIN, TEAM, Lists
from tests.servers.store import ALL_STORES

pytestmark = [pytest.mark.needs("mlmmj"), pytest.mark.stores(*ALL_STORES)]
STORED = {
    "mail": TEAM,
    "name": "Team Ü",
    "accountStatus": "disabled",
    "accessPolicy": "moderatorsonly",
    "is_newsletter": "yes",
    "newsletter_description": "News & more",
    "max_message_size": 1000,
    "owner": ["ann@else.test", f"zoe@{DOMAIN}"],
    "moderators": ["ann@else.test", "bob@else.test"],
    "extra_addresses": [f"crew@{DOMAIN}"],
}
ON = {"only_moderator_can_post", "moderated", "close_list", "disable_archive",
      "disable_retrieving_old_posts", "only_subscriber_can_get_old_posts",
      "disable_retrieving_subscribers", "disable_send_copy_to_sender"}  # fmt: skip
WHOLE = {
    **STORED,
    "subscription_moderators": ["ann@else.test", "bob@else.test"],
    "moderate_subscription": "yes",
    "subject_prefix": "[t]",
    "custom_headers": sorted([*fixed_headers(TEAM), "X-A: 1", "X-B: 2"]),
    "remove_headers": ["X-C:"],
    "footer_text": "bye",
    "footer_html": "<p>bye</p>",
    **{name: "yes" if name in ON else "no" for name in FLAGS},
}


async def test_the_same_everywhere(lists: Lists) -> None:
    await lists.user("zoe")
    await lists.create(
        name="Team Ü",
        accountStatus="disabled",
        accessPolicy="moderatorsonly",
        is_newsletter="yes",
        newsletter_description="News & more",
        max_message_size="1000",
        owner=f"zoe@{DOMAIN},ann@else.test",
        moderators="bob@else.test,ann@else.test",
        extra_addresses=f"crew@{DOMAIN}",
        subscription_moderators="bob@else.test,ann@else.test",
        subject_prefix="[t]",
        custom_headers="X-B: 2\nX-A: 1",
        remove_headers="X-C",
        footer_text="bye",
        footer_html="<p>bye</p>",
        moderated="yes",
        close_list="yes",
        disable_archive="yes",
    )
    await lists.create(f"plain@{DOMAIN}")
    shown = await lists.root.http.get(f"ml/{TEAM}", params={"view": "canonical"})
    text = shown.json()
    assert text["_data"] == WHOLE
    assert shown.content == orjson.dumps({"_success": True, "_data": WHOLE})
    listed = await lists.root.http.get(f"mls/{DOMAIN}", params={"view": "canonical"})
    first, second = listed.json()["_data"]
    assert first == {
        "mail": f"plain@{DOMAIN}",
        "name": "plain",
        "accountStatus": "active",
        "accessPolicy": "membersonly",
        "is_newsletter": "no",
        "newsletter_description": "",
        "max_message_size": 0,
        "owner": [f"postmaster@{DOMAIN}"],
        "moderators": [f"postmaster@{DOMAIN}"],
        "extra_addresses": [],
    }
    assert second == STORED
    assert list(second) == list(STORED)
    Draft202012Validator(CanonicalList.model_json_schema(by_alias=True)).validate(text["_data"])
    for item in (first, second):
        Draft202012Validator(CanonicalStoredList.model_json_schema(by_alias=True)).validate(item)


async def test_with_subscribers(lists: Lists) -> None:
    await lists.create(subscribers="ann@else.test", require_confirm="no")
    shown = await lists.get(view="canonical", with_subscribers="yes")
    assert shown["subscribers"] == [{"mail": "ann@else.test", "subscription": "normal"}]
    Draft202012Validator(CanonicalList.model_json_schema(by_alias=True)).validate(shown)
    assert {"mlid", "created"}.isdisjoint(shown)
    refused = await lists.root.refused("GET", f"ml/{TEAM}", view="other")
    assert refused == (400, "INVALID_VALUE", ["view"])
