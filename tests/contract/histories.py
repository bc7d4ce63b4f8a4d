"""Histories of requests, and what a storage shows of itself after one: ``view=canonical``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.store import Store

COUNTERS = {"existingUsers", "existingAliases", "existingLists", "allocatedQuota"}
SINGLE = {"domains": "domain", "users": "user", "aliases": "alias"}
HASH = (
    "{SSHA512}q+0R05jSyeEetqfhSwLRarIfsiOlYByGxXfT1DhSYYQAOVxCYtj8vjUCOPr8coR9K4m25vl/jq85oHB7JtUI"
    "swKzHUCh+DRv"
)


@dataclass(frozen=True)
class Step:
    """One request that changes something; ``form`` has wire names."""

    method: str
    path: str
    form: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{self.method} {self.path} {self.form}"


def step(method: str, path: str, **form: str) -> Step:
    return Step(method, path, form)


# fmt: off
RICH: Sequence[Step] = (
    # Domains: all that can be said of a new one, and of one that is there.
    step("POST", "domain/ex.com", name="Ex Ltd — Ü", quota="20480", language="de_DE",
         transport="lmtp:inet:127.0.0.1:24", defaultQuota="512", maxUserQuota="4096",
         numberOfUsers="50", numberOfAliases="40", numberOfLists="-1",
         senderBcc="Out@Far.org", recipientBcc="in@far.org"),
    step("POST", "domain/plain.com"),
    step("POST", "domain/backup.com"),
    step("POST", "domain/gone.com", name="Gone"),
    step("POST", "domain/off.com", numberOfUsers="-1"),
    step("PUT", "domain/backup.com", is_backupmx="yes", primarymx="192.0.2.10"),
    step("PUT", "domain/backup.com", is_backupmx="no"),
    step("PUT", "domain/backup.com", is_backupmx="yes"),
    step("PUT", "domain/ex.com", aliasDomains="al.com,bl.com"),
    step("PUT", "domain/ex.com", addAliasDomain="cl.com", removeAliasDomain="bl.com"),
    step("PUT", "domain/ex.com", services="self-service", minPasswordLength="9",
         maxPasswordLength="60", outboundRelay="smtp:[192.0.2.20]:25"),
    step("PUT", "domain/plain.com", addService="self-service", name="Plain & Söhne",
         outboundRelay="relay.example.net"),
    step("PUT", "domain/off.com", name="Off", quota="9", language="fr_FR", defaultQuota="4",
         maxUserQuota="5", numberOfUsers="6", numberOfAliases="7", numberOfLists="8",
         senderBcc="x@far.org", recipientBcc="y@far.org"),
    step("PUT", "domain/off.com", name="", quota="0", language="", defaultQuota="0",
         maxUserQuota="0", numberOfUsers="0", numberOfAliases="0", senderBcc=""),
    step("PUT", "domain/plain.com", removeService="self-service", outboundRelay=""),
    step("PUT", "domain/ex.com", disableDomainProfile="bcc,relay,throttle",
         disableUserProfile="bcc,forwarding", disableUserPreference="wblist,quarantine"),
    step("PUT", "domain/ex.com", enableDomainProfile="relay", enableUserProfile="forwarding",
         enableUserPreference="wblist"),
    # Users.
    step("POST", "user/alice@ex.com", password=PASSWORD, name="Alice Ä", language="en_US",
         quota="1024", accountStatus="active", isGlobalAdmin="no", mailboxFormat="mdbox",
         mailboxFolder="Mail", maildir="/var/vmail/vmail1/Ex.com/alice-2020"),
    step("POST", "user/bob@ex.com", password_hash=HASH),
    step("POST", "user/carol@ex.com", password_hash=HASH, quota="0"),
    step("POST", "user/dave@ex.com", password_hash=HASH, accountStatus="disabled"),
    step("POST", "user/eve.o-x_y@ex.com", password_hash=HASH, isGlobalAdmin="yes"),
    step("POST", "user/zoe@plain.com", password_hash=HASH, quota="77"),
    step("POST", "user/yan@plain.com", password_hash=HASH),
    step("POST", "user/gone@gone.com", password_hash=HASH),
    step("PUT", "user/alice@ex.com", name="", gn="Alïce", sn="Liddell", employeeid="4711-é",
         transport="dovecot", mobile="+49 170 2, +49 170 1,+49-170-1",
         telephoneNumber="030 1", senderBcc="a@far.org", recipientBcc="b@far.org"),
    step("PUT", "user/alice@ex.com", forwarding="alice@ex.com,bob@ex.com,far@far.org",
         aliases="al@ex.com,al@al.com,sales@ex.com"),
    step("PUT", "user/alice@ex.com", addForwarding="carol@ex.com,nobody@ex.com",
         removeForwarding="far@far.org", addAlias="ally@cl.com", removeAlias="sales@ex.com"),
    step("PUT", "user/bob@ex.com", services="imaptls,smtpsecured,deliver,managesieve",
         forwarding="only@far.org", sn="", gn="", name="Bob"),
    step("PUT", "user/carol@ex.com", removeService="pop3,pop3tls,sogo,managesievetls",
         forwarding=""),
    step("PUT", "user/carol@ex.com", addService="pop3,sogo", mailboxFormat="sdbox",
         mailboxFolder="Box1", maildir="/var/vmail/vmail1/elsewhere/carol", quota="333"),
    step("PUT", "user/zoe@plain.com", accountStatus="disabled", password=PASSWORD,
         language="fr_FR"),
    step("PUT", "user/yan@plain.com", password_hash=HASH, isGlobalAdmin="yes"),
    step("PUT", "user/eve.o-x_y@ex.com", isGlobalAdmin="no"),
    step("PUT", "users/plain.com", accountStatus="active", language="it_IT",
         transport="lmtp:inet:127.0.0.1:24"),
    step("PUT", "users/plain.com", password=PASSWORD),
    # Aliases.
    step("POST", "alias/team@ex.com", name="Team", accountStatus="active",
         members="alice@ex.com,bob@ex.com,far@far.org,nobody@ex.com,bob@al.com"),
    step("POST", "alias/all@ex.com", members="team@ex.com,all@ex.com,zoe@plain.com"),
    step("POST", "alias/quiet@ex.com", accountStatus="disabled"),
    step("POST", "alias/old@ex.com", name="Old", members="alice@ex.com"),
    step("PUT", "alias/team@ex.com", addMember="carol@ex.com", removeMember="far@far.org", name=""),
    step("PUT", "alias/quiet@ex.com", accountStatus="active", members="dave@ex.com,x@far.org"),
    step("PUT", "domain/ex.com", catchall="alice@ex.com,team@ex.com,far@far.org"),
    # What is said when they are made.
    step("POST", "domain/made.com", accountStatus="disabled", is_backupmx="yes",
         primarymx="mx.far.org:2525", catchall="far@far.org,nobody@made.com",
         outboundRelay="[192.0.2.21]", aliasDomains="ml.com", services="self-service",
         minPasswordLength="10", maxPasswordLength="40", disableDomainProfile="bcc,relay",
         enableDomainProfile="relay", disableUserProfile="bcc", enableUserProfile="relay",
         disableUserPreference="wblist", enableUserPreference="quarantine", suspend="yes"),
    step("POST", "domain/make.com", addAliasDomain="mk.com", removeAliasDomain="x.com",
         addService="self-service", removeService="self-service"),
    step("POST", "user/first@make.com", password_hash=HASH, gn="G", sn="S", employeeid="E",
         mobile="1", telephoneNumber="2", transport="dovecot", senderBcc="s@far.org",
         recipientBcc="r@far.org", forwarding="first@mk.com,far@far.org,nobody@make.com",
         aliases="one@make.com,two@mk.com", services="imaptls,deliver"),
    step("POST", "user/second@make.com", password_hash=HASH, addForwarding="first@make.com",
         removeForwarding="x@far.org", addAlias="one@make.com,three@make.com",
         removeAlias="two@mk.com", addService="imap", removeService="pop3,pop3tls"),
    step("POST", "user/third@make.com", password_hash=HASH, forwarding="far@far.org",
         suspend="yes"),
    step("PUT", "user/second@make.com", suspend="yes"),
    step("PUT", "domain/plain.com", suspend="yes"),
    step("PUT", "user/yan@plain.com", removeService="imap", suspend="no"),
    step("POST", "alias/both@make.com", addMember="first@make.com,far@far.org",
         removeMember="x@far.org"),
    step("PUT", "users/make.com", quota="55"),
    # Addresses change, and everything that names them.
    step("POST", "user/bob@ex.com/change_email/robert@ex.com"),
    step("POST", "alias/team@ex.com/change_email/crew@ex.com"),
    # Admins.
    step("POST", "admin/one@admins.org", password=PASSWORD, name="One", accountStatus="active",
         language="de_DE", isGlobalAdmin="no", maxDomains="5", maxQuota="20", quotaUnit="GB",
         maxUsers="100", maxAliases="-1", maxLists="7", disableViewingMailLog="yes",
         disableManagingQuarantinedMails="yes"),
    step("POST", "admin/two@admins.org", password=PASSWORD, isGlobalAdmin="yes", maxDomains="3"),
    step("POST", "admin/three@admins.org", password=PASSWORD, maxUsers="3"),
    step("PUT", "admin/one@admins.org", disableViewingMailLog="no", maxLists="0", maxQuota="30",
         quotaUnit="TB", name=""),
    step("PUT", "admin/two@admins.org", accountStatus="disabled", language="", name="Zwei"),
    step("PUT", "domain/admins/ex.com",
         addAdmin="one@admins.org,alice@ex.com,zoe@plain.com,three@admins.org"),
    step("PUT", "domain/admins/plain.com", addAdmin="one@admins.org,alice@ex.com"),
    step("PUT", "domain/admins/gone.com", addAdmin="three@admins.org,zoe@plain.com"),
    step("PUT", "domain/admins/ex.com", removeAdmin="three@admins.org"),
    step("PUT", "domain/admins/plain.com", removeAllAdmins=""),
    # Things go.
    step("DELETE", "user/dave@ex.com/keep_mailbox_days/7"),
    step("DELETE", "alias/old@ex.com"),
    step("DELETE", "admin/three@admins.org"),
    step("DELETE", "domain/gone.com", keep_mailbox_days="3"),
    step("PUT", "domain/off.com", accountStatus="disabled", transport=""),
)
# fmt: on


async def play(client: Client, history: Sequence[Step]) -> list[str]:
    """Send a history; return what was answered, without what is different each time."""
    answers = []
    for item in history:
        status, answer = await client.call(item.method, item.path, data=item.form)
        answer.pop("_request_id", None)
        answers.append(f"{item} -> {status} {answer}")
    return answers


async def _get(client: Client, path: str, **params: str) -> bytes:
    response = await client.http.get(path, params={"view": "canonical", **params})
    assert response.status_code == 200, response.text
    return response.content


async def everything(client: Client) -> dict[str, bytes]:
    """Return the canonical JSON of all accounts, as it was sent, by path."""
    found = {"domains": await _get(client, "domains")}
    found["domains?disabled_only"] = await _get(client, "domains", disabled_only="yes")
    for domain in await client.ok("GET", "domains", name_only="yes"):
        found[f"domain/{domain}"] = await _get(client, f"domain/{domain}")
        for many, single in (("users", "user"), ("aliases", "alias")):
            path = f"{many}/{domain}"
            found[path] = await _get(client, path)
            found[f"{path}?disabled_only"] = await _get(client, path, disabled_only="yes")
            for mail in await client.ok("GET", path, email_only="yes"):
                found[f"{single}/{mail}"] = await _get(client, f"{single}/{mail}")
    for mail in ("one", "two", "three"):
        path = f"admin/{mail}@admins.org"
        if (await client.call("GET", path))[0] == 200:
            found[path] = await _get(client, path)
    return found


def lists_and_profiles(shown: dict[str, bytes]) -> Iterator[str]:
    """Name the items of lists that are not what their own profile is, but for counters."""
    data = {path: json.loads(body)["_data"] for path, body in shown.items()}
    for path, items in data.items():
        kind = SINGLE.get(path.partition("/")[0].partition("?")[0])
        for item in items if kind else ():
            single = data[f"{kind}/{item.get('mail') or item['domain']}"]
            if item != {key: value for key, value in single.items() if key not in COUNTERS}:
                yield f"{path}: {item} {single}"
            if path.endswith("disabled_only") and item["accountStatus"] != "disabled":
                yield f"{path}: {item}"


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> Iterator[str]:
    """Name what is not the same, byte by byte, and how."""
    for path in sorted(one.keys() | other.keys()):
        if one.get(path) != other.get(path):
            yield f"{path}: {one.get(path)!r} != {other.get(path)!r}"


async def outcome(store: Store, history: Sequence[Step], **settings: Any) -> ChangeResult:
    """Empty a store and play a history on it."""
    await store.reset()
    # Paths of mailboxes would differ in their second.
    async with serving(store, maildir_append_timestamp=False, **settings) as service:
        return await outcome_on(service, history)


async def outcome_on(service: Service, history: Sequence[Step]) -> ChangeResult:
    """Play a history on an empty store."""
    client = await service.root()
    return ChangeResult(await play(client, history), await everything(client))


@dataclass(frozen=True)
class ChangeResult:
    """What a history left behind."""

    answers: list[str]
    shown: dict[str, bytes]
