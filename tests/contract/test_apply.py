"""`iredapi apply`: the second run has nothing to do, for every kind, on every storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from iredapi.client import desired_state
from iredapi.client.api import Api, here
from iredapi.client.plan import Plan, carry_out
from iredapi.client.policy_plan import PolicyPlanner
from iredapi.errors import CODES
from tests.clients import PASSWORD, Client, Service
from tests.contract.histories import HASH
from tests.servers.store import ALL_STORES

pytestmark = pytest.mark.stores(*ALL_STORES)
ALL_KINDS = f"""
domains:
  ex.com:
    name: Ex Ltd
    quota: 10240
    aliasDomains: [al.com]
    catchall: [team@ex.com]
    disabledDomainProfile: [bcc]
    admins: [u@ex.com]
users:
  u@ex.com:
    name: Uwe
    quota: 100
    password_env: PASSWORD_OF_U
    forwarding: [u@ex.com, v@ex.com]
    suspended: no
  v@ex.com:
    password_hash: "{HASH}"
    quota: 50
    aliases: []
aliases:
  all@ex.com:
    members: [team@ex.com, u@ex.com, x@far.org]
  team@ex.com:
    members: [u@ex.com]
lists:
  news@ex.com:
    owner: [u@ex.com]
    subject_prefix: "[news]"
    subscribers: {{a@far.org: digest, b@far.org: normal}}
policies:
  global:
    wblist: {{inbound: {{blacklist: ["@bad.org"]}}}}
  ex.com:
    throttle:
      outbound: {{period: 3600, max_msgs: 100}}
      inbound: none
    greylisting: enable
    greylisting_senders: ["@far.org", 192.0.2.1/32]
    spampolicy: {{spam_score: 4.5, quarantine_spam: yes}}
    wblist:
      inbound: {{whitelist: ["@far.org", 192.0.2.1/32], blacklist: []}}
  u@ex.com:
    greylisting: inherit
    spampolicy: none
"""


@pytest_asyncio.fixture(name="api", loop_scope="session")
async def _api(service: Service) -> AsyncIterator[Api]:
    async with here(service.settings, service.context) as api:
        yield api


class Run:
    """A file that is written, planned and applied again and again."""

    def __init__(self, api: Api, directory: Path) -> None:
        self.api = api
        self.path = directory / "state.yaml"
        self.environment = {"PASSWORD_OF_U": PASSWORD}

    async def plan(self, text: str, *, prune: bool = False) -> Plan:
        self.path.write_text(text)
        planner = PolicyPlanner(self.api, desired_state.read(self.path, self.environment))
        await planner.accounts()
        await planner.policies()
        if prune:
            await planner.unnamed()
        return planner.plan

    async def apply(self, text: str, *, prune: bool = False) -> list[tuple[str, ...]]:
        """Apply, see that nothing is left to do, and return what was done."""
        plan = await self.plan(text, prune=prune)
        assert plan.errors == []
        assert await carry_out(self.api, plan.items) == (len(plan.items), [])
        again = await self.plan(text, prune=prune)
        assert (again.items, again.errors, again.notes) == ([], [], [])
        return [
            (item.action, item.title, *sorted(change.field for change in item.changes))
            for item in plan.items
        ]


@pytest.fixture(name="run")
def _run(api: Api, tmp_path: Path) -> Run:
    return Run(api, tmp_path)


async def test_every_kind_twice(run: Run, root: Client, service: Service) -> None:
    done = await run.apply(ALL_KINDS)
    assert [item[:2] for item in done] == [
        ("create", "domain ex.com"), ("create", "user u@ex.com"), ("create", "user v@ex.com"),
        ("create", "alias all@ex.com"), ("create", "alias team@ex.com"),
        ("create", "ml news@ex.com"), ("change", "domain ex.com"), ("change", "ml news@ex.com"),
        ("change", "wblist inbound blacklist global"), ("change", "throttle outbound ex.com"),
        ("change", "greylisting ex.com"), ("change", "greylisting senders ex.com"),
        ("change", "spampolicy ex.com"), ("change", "wblist inbound whitelist ex.com"),
    ]  # fmt: skip
    domain = await root.ok("GET", "domain/ex.com", view="canonical")
    assert (domain["catchall"], domain["admins"]) == (["team@ex.com"], ["u@ex.com"])
    alias = await root.ok("GET", "alias/all@ex.com", view="canonical")
    assert alias["members"] == ["team@ex.com", "u@ex.com", "x@far.org"]
    people = await root.ok("GET", "ml/news@ex.com", with_subscribers="yes", view="canonical")
    assert [(p["mail"], p["subscription"]) for p in people["subscribers"]] == [
        ("a@far.org", "digest"), ("b@far.org", "normal"),
    ]  # fmt: skip
    await service.client().login("u@ex.com")
    # Only what differs is changed.
    run.environment["PASSWORD_OF_U"] = f"{PASSWORD}-2"
    changed = (
        ALL_KINDS.replace("quota: 50", "quota: 20000")
        .replace("quota: 10240", "quota: 30720")
        .replace("aliasDomains: [al.com]", "aliasDomains: [al.com, bl.com]")
        .replace("aliases: []", "aliases: [w@bl.com]")
        .replace("members: [u@ex.com]", "members: [v@ex.com]")
        .replace("b@far.org: normal", "c@far.org: nomail")
        .replace("max_msgs: 100", "max_msgs: 90")
        .replace("greylisting: enable", "greylisting: inherit")
        .replace('["@far.org", 192.0.2.1/32]', '["@else.org"]')
        .replace("admins: [u@ex.com]", "admins: []")
    )
    assert await run.apply(changed) == [
        ("change", "domain ex.com", "aliasDomains", "quota"),
        ("change", "user u@ex.com", "password"),
        ("change", "user v@ex.com", "aliases", "password_hash", "quota"),
        ("change", "alias team@ex.com", "members"),
        ("change", "domain ex.com", "admins"),
        ("change", "ml news@ex.com", "subscriber b@far.org", "subscriber c@far.org"),
        ("change", "throttle outbound ex.com", "max_msgs"),
        ("change", "greylisting ex.com", "priority", "status"),
        ("change", "greylisting senders ex.com", "192.0.2.1", "@else.org", "@far.org"),
        ("change", "wblist inbound whitelist ex.com", "192.0.2.1", "@far.org"),
        ("change", "wblist inbound whitelist ex.com", "@else.org"),
    ]


async def test_what_the_file_does_not_name(run: Run, root: Client) -> None:
    """It stays, unless it is to be removed; and then only in domains and kinds of the file."""
    for domain in ("ex.com", "other.com"):
        await root.ok("POST", f"domain/{domain}")
        for name in ("u", "v"):
            await root.ok("POST", f"user/{name}@{domain}", password_hash=HASH)
        await root.ok("POST", f"alias/a@{domain}")
        await root.ok("POST", f"ml/l@{domain}")
        await root.ok("POST", f"throttle/u@{domain}/inbound", period="60", max_msgs="1")
        await root.ok("POST", f"wblist/inbound/whitelist/{domain}", addresses="@far.org")
        await root.ok("POST", f"greylisting/u@{domain}/whitelists", senders="@far.org")
    text = "domains: {ex.com: {}}\nusers: {u@ex.com: {}}\n"
    assert await run.apply(text) == []
    assert await run.apply(text, prune=True) == [("remove", "user v@ex.com")]
    text += "aliases:\nlists:\npolicies: {u@ex.com: {spampolicy: none}}\n"
    assert await run.apply(text) == []
    assert await run.apply(text, prune=True) == [
        ("remove", "alias a@ex.com"), ("remove", "ml l@ex.com"),
        ("remove", "throttle inbound u@ex.com"), ("remove", "greylisting senders u@ex.com"),
        ("remove", "wblist inbound whitelist ex.com"),
    ]  # fmt: skip
    assert await root.ok("GET", "users/other.com", email_only="yes") == [
        "u@other.com",
        "v@other.com",
    ]
    assert await root.ok("GET", "throttle/u@other.com/inbound") != {}
    assert await root.ok("GET", "greylisting/u@other.com/whitelists") == ["@far.org"]


WRONG = f"""
users:
  n@ex.com: {{password_hash: "{HASH}", qota: 1}}
  o@ex.com: {{name: O}}
aliases:
  n@ex.com: {{members: [none@ex.com]}}
  n@never.com:
policies:
  ex.com:
    throttle: {{inbound: {{max_msgs: 1}}}}
    wblist: {{inbound: {{blacklist: [no address]}}}}
"""


async def test_what_cannot_be_done(run: Run, root: Client) -> None:
    """All of it is told before anything is done."""
    await root.ok("POST", "domain/ex.com")
    assert (await run.plan(WRONG)).errors == [
        "user n@ex.com: IGNORED_PARAMETER: qota: The operation does not know it. Was quota meant?",
        "user o@ex.com: REQUIRED: password: Send password or password_hash.",
        "alias n@ex.com: members none@ex.com: NO_SUCH_ACCOUNT",
        "alias n@never.com: NO_SUCH_DOMAIN: There is no such mail domain.",
        f"throttle inbound ex.com: REQUIRED: period: {CODES['REQUIRED'].meaning}",
        "wblist inbound blacklist ex.com: no address is no address",
    ]
