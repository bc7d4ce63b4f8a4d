"""What was answered with success has happened, and what has not is told: on every storage."""

from __future__ import annotations

import pytest

from tests.clients import Client
from tests.servers.store import ALL_STORES

pytestmark = pytest.mark.stores(*ALL_STORES)
FORM = "application/x-www-form-urlencoded"


# How languages write lists ------------------------------------------------------------------------

MEMBERS = ["a@far.test", "b@far.test", "c@far.test"]
LISTS = {
    "PHP": "members[0]=a@far.test&members[1]=b@far.test&members[2]=c@far.test",
    "PHP, encoded": "members%5B0%5D=a%40far.test&members%5B1%5D=b@far.test,c@far.test",
    "jQuery": "members[]=a@far.test&members[]=b@far.test&members[]=c@far.test",
    "one item": "members[]=a@far.test,b@far.test,c@far.test",
    "Go": "members=a@far.test&members=b@far.test&members=c@far.test",
    "mixed": "members=a@far.test&members[]=b@far.test&members[7]=c@far.test",
    "with an empty one": "members=&members=a@far.test,b@far.test&members=c@far.test",
}


@pytest.mark.parametrize("carrier", ["form", "multipart", "query"])
async def test_lists_as_languages_write_them(root: Client, carrier: str) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "alias/all@ex.com")
    for language, text in LISTS.items():
        await root.ok("PUT", "alias/all@ex.com", members="z@far.test")
        pairs = [pair.partition("=") for pair in text.split("&")]
        if carrier == "query":
            # A list in the body would win; another name there does not matter.
            status, _ = await root.call(
                "PUT", f"alias/all@ex.com?{text}", data={"name": "All", "nothing[1]": "x"}
            )
        elif carrier == "form":
            status, _ = await root.call(
                "PUT",
                "alias/all@ex.com?members[]=query@far.test",
                content=text.encode(),
                headers={"Content-Type": FORM},
            )
        else:
            files = [
                (name.replace("%5B", "[").replace("%5D", "]"), (None, value.replace("%40", "@")))
                for name, _, value in pairs
            ]
            status, _ = await root.call("PUT", "alias/all@ex.com", files=files)
        assert status == 200, language
        profile = await root.ok("GET", "alias/all@ex.com", view="canonical")
        assert profile["members"] == MEMBERS, language
    await root.call("PUT", "alias/all@ex.com?members[]=")
    assert (await root.ok("GET", "alias/all@ex.com", view="canonical"))["members"] == []


async def test_of_what_is_no_list_the_last_one_counts(root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    status, _ = await root.call("PUT", "domain/ex.com?quota=1&quota=2&addAliasDomain=a.test")
    assert status == 200
    status, _ = await root.call(
        "PUT", "domain/ex.com?addAliasDomain[0]=b.test&addAliasDomain[1]=c.test&name[]=x"
    )
    assert status == 200
    found = await root.ok("GET", "domain/ex.com", view="canonical")
    assert (found["quota"], found["name"]) == (2, "")
    assert found["aliasDomains"] == ["a.test", "b.test", "c.test"]


async def test_unicode_names_of_hosts(root: Client) -> None:
    """Postfix asks the DNS for what it finds, and that knows no other letters."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password="Corr3ct-Horse")
    for sent, stored in (
        ("Bücher.example", "xn--bcher-kva.example"),
        ("[bücher.example]:2525", "[xn--bcher-kva.example]:2525"),
        ("bücher.example:25", "xn--bcher-kva.example:25"),
    ):
        await root.ok("PUT", "domain/ex.com", is_backupmx="yes", primarymx=sent, outboundRelay=sent)
        found = await root.ok("GET", "domain/ex.com", view="canonical")
        assert (found["primarymx"], found["outboundRelay"]) == (stored, stored)
        await root.ok("PUT", "domain/ex.com", is_backupmx="no")
        await root.ok("PUT", "domain/ex.com", transport=f"smtp:{sent}")
        await root.ok("PUT", "user/u@ex.com", transport=f"lmtp:inet:{sent}")
        found = await root.ok("GET", "domain/ex.com", view="canonical")
        assert found["transport"] == f"smtp:{stored}"
        found = await root.ok("GET", "user/u@ex.com", view="canonical")
        assert found["transport"] == f"lmtp:inet:{stored}"
    for wrong in ("smtp:bü cher.example", "smtp:[bücher..example]", "bücher"):
        assert (await root.refused("PUT", "domain/ex.com", transport=wrong))[1:] == (
            "INVALID_TRANSPORT",
            ["transport"],
        ), wrong
