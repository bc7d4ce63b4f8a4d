"""The calls of the corpus: every published operation, every parameter with a good and a bad value.

They are made once, by ``record``; the test replays what ``answers.jsonl`` has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

PASSWORD = "Corr3ct-Horse"


@dataclass(frozen=True)
class Call:
    """One request. ``who`` names a client with cookies of its own."""

    who: str
    method: str
    path: str
    form: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "data"
    """How the form is sent: ``data``, ``json`` or ``params``."""

    @property
    def name(self) -> str:
        """What a reader needs to find the call."""
        form = ", ".join(f"{name}={value}" for name, value in self.form.items())
        return f"{self.who}: {self.method} {self.path} {form}".rstrip()


_HASH = (
    "{SSHA512}q+0R05jSyeEetqfhSwLRarIfsiOlYByGxXfT1DhSYYQAOVxCYtj8vjUCOPr8coR9K4m25vl/jq85oHB7JtUI"
    "swKzHUCh+DRv"
)
# Parameters with values that are sent one after the other; the last ones are wrong.
_DOMAIN = {
    "name": ["Ex Ltd — Ü", ""], "accountStatus": ["disabled", "active", "perhaps"],
    "quota": ["20480", "-1", "x"], "language": ["de_DE", "klingon"],
    "transport": ["dovecot", "smtp:[192.0.2.1]:25", "a b"], "minPasswordLength": ["9", "-2"],
    "maxPasswordLength": ["60", "1"], "defaultQuota": ["512", "x"], "maxUserQuota": ["4096", "-7"],
    "numberOfUsers": ["50", "-1", "0", "many"], "numberOfAliases": ["40", "x"],
    "numberOfLists": ["9", "x"], "senderBcc": ["out@far.org", "", "nobody"],
    "recipientBcc": ["In@Far.org", "", "@"], "is_backupmx": ["yes", "no", "2"],
    "catchall": ["far@far.org,nobody@ex.com", "", "x"],
    "outboundRelay": ["smtp:[192.0.2.20]:25", "", "a b"], "aliasDomains": ["al.com,bl.com", "-x-"],
    "addAliasDomain": ["cl.com", "two.com"], "removeAliasDomain": ["bl.com", "gone.com"],
    "services": ["self-service", ""], "addService": ["self-service", "unknown"],
    "removeService": ["self-service"], "disableDomainProfile": ["bcc,relay", "x"],
    "enableDomainProfile": ["bcc"], "disableUserProfile": ["bcc,forwarding", "x"],
    "enableUserProfile": ["bcc"], "disableUserPreference": ["wblist", "x"],
    "enableUserPreference": ["wblist"],
}  # fmt: skip
_USER = {
    "name": ["Alice Ä", ""], "gn": ["Alïce"], "sn": ["Liddell"],
    "password": ["short", "N3w-Horses"],
    "password_hash": [_HASH, "{MD5}x"], "quota": ["1024", "99999999", "x"],
    "accountStatus": ["disabled", "active", "x"], "language": ["en_US", "x"],
    "employeeid": ["4711-é"], "transport": ["dovecot", "x y"], "isGlobalAdmin": ["no", "x"],
    "forwarding": ["alice@ex.com,far@far.org", "x"], "addForwarding": ["bob@ex.com,nobody@ex.com"],
    "removeForwarding": ["far@far.org", "x@y.zz"], "senderBcc": ["a@far.org", "", "x"],
    "recipientBcc": ["b@far.org", "x"], "aliases": ["al@ex.com,al@al.com", "x@far.org"],
    "addAlias": ["ally@ex.com", "bob@ex.com"], "removeAlias": ["al@ex.com", "never@ex.com"],
    "services": ["imap,imapsecured,deliver", ""], "addService": ["pop3,sogo", "vpn"],
    "removeService": ["pop3"], "mailboxFormat": ["mdbox", "x"], "mailboxFolder": ["Mail", "a/b c"],
    "maildir": ["/var/vmail/vmail1/ex.com/alice-2020", "relative"],
    "telephoneNumber": ["030 1"], "mobile": ["+49 170 1"],
}  # fmt: skip
_ADMIN = {
    "name": ["Boss"], "password": ["short", "N3w-Horses"], "accountStatus": ["disabled", "active"],
    "language": ["de_DE", "x"], "isGlobalAdmin": ["no", "x"], "maxDomains": ["5", "x"],
    "maxQuota": ["10"], "quotaUnit": ["GB", "XB"], "maxUsers": ["5", "-5"], "maxAliases": ["6"],
    "maxLists": ["7"], "disableViewingMailLog": ["yes"],
    "disableManagingQuarantinedMails": ["yes", "x"],
}  # fmt: skip
_ALIAS = {
    "name": ["Team", ""], "accountStatus": ["disabled", "active", "x"],
    "accessPolicy": ["domain", "public", "x"], "members": ["alice@ex.com,far@far.org", "x"],
    "addMember": ["bob@ex.com,nobody@ex.com"], "removeMember": ["far@far.org", "never@far.org"],
}  # fmt: skip
_USERS = {
    "accountStatus": ["active", "x"], "language": ["it_IT", "x"], "transport": ["dovecot", "a b"],
    "password": ["short"],
}  # fmt: skip
_SPAM = {
    "bypass_spam_checks": ["yes", "x"], "bypass_virus_checks": ["no"],
    "bypass_banned_checks": ["yes"], "bypass_header_checks": ["no"], "quarantine_spam": ["yes"],
    "quarantine_virus": ["no"], "quarantine_banned": ["yes"], "quarantine_bad_header": ["no"],
    "prefix_spam_in_subject": ["yes"], "always_insert_x_spam_headers": ["yes"],
    "spam_score": ["5.5", "x"],
}  # fmt: skip
_LIST = {
    "name": ["News", ""], "accountStatus": ["disabled", "active", "x"],
    "accessPolicy": ["membersonly", "public", "x"], "is_newsletter": ["yes", "no"],
    "newsletter_description": ["About us"], "close_list": ["yes", "no"],
    "only_moderator_can_post": ["yes"], "only_subscriber_can_post": ["no", "x"],
    "disable_subscription": ["yes"], "disable_subscription_confirm": ["yes"],
    "disable_digest_subscription": ["yes"], "disable_digest_text": ["yes"],
    "disable_nomail_subscription": ["yes"], "moderated": ["yes", "no"],
    "moderate_non_subscriber_post": ["yes"], "disable_retrieving_old_posts": ["yes"],
    "only_subscriber_can_get_old_posts": ["yes"], "disable_retrieving_subscribers": ["no"],
    "disable_send_copy_to_sender": ["yes"], "notify_owner_when_sub_unsub": ["no"],
    "notify_sender_when_moderated": ["no"], "disable_archive": ["yes"],
    "moderate_subscription": ["yes"], "extra_addresses": ["news2@ex.com", "alice@ex.com"],
    "subscription_moderators": ["alice@ex.com"], "owner": ["alice@ex.com", "x"],
    "moderators": ["alice@ex.com"], "max_message_size": ["4096", "x"],
    "subject_prefix": ["[News]"], "custom_headers": ["X-News: yes"],
    "remove_headers": ["X-Spam:"], "footer_text": ["Bye"], "footer_html": ["<p>Bye</p>"],
    "add_subscribers": ["alice@ex.com,far@far.org", "x"], "remove_subscribers": ["far@far.org"],
}  # fmt: skip
_MAILLIST = {
    "name": ["All", ""], "accessPolicy": ["domain", "public", "x"],
    "members": ["alice@ex.com", "x"], "addMember": ["nobody@ex.com"],
    "removeMember": ["alice@ex.com", "never@ex.com"],
}  # fmt: skip
_THROTTLE: tuple[dict[str, str], ...] = (
    {"period": "60", "max_msgs": "10"}, {"period": "60", "msg_size": "1024"}, {"period": "x"},
    {"max_quota": "7"}, {},
)  # fmt: skip

PARAMETERS = {
    "domain": _DOMAIN, "user": _USER, "admin": _ADMIN, "alias": _ALIAS, "ml": _LIST,
    "maillist": _MAILLIST,
}  # fmt: skip
"""Values for each parameter of a change, by the kind of account."""


def _of(who: str, path: str, table: Mapping[str, list[str]], *reads: str) -> Iterator[Call]:
    for name, values in table.items():
        for value in values:
            yield Call(who, "PUT", path, {name: value})
        if not path.startswith("spampolicy"):
            yield Call(who, "GET", (reads or (path,))[0])
    yield Call(who, "PUT", path, {"qouta": "5"})
    yield Call(who, "PUT", path)
    for read in reads or (path,):
        yield Call(who, "GET", read)


def _logins() -> Iterator[Call]:
    yield Call("visitor", "GET", "domains")
    yield Call(
        "visitor", "POST", "login", {"username": "root@admins.test", "password": "Wr0ng-One"}
    )
    yield Call("visitor", "POST", "login", {"username": "root@admins.test"})
    yield Call("root", "POST", "login", {"username": "root@admins.test", "password": PASSWORD})
    yield Call("root", "GET", "no/such/path")
    yield Call("root", "POST", "domains")


def _domains() -> Iterator[Call]:
    form = {"name": "Ex", "quota": "9000", "language": "en_US", "numberOfUsers": "20"}
    yield Call("root", "POST", "domain/ex.com", form)
    yield Call("root", "POST", "domain/ex.com", form)
    yield Call(
        "root", "POST", "domain/two.com", {"defaultQuota": "7", "transport": "dovecot"}, "json"
    )
    yield Call("root", "POST", "domain/off.com")
    yield Call("root", "PUT", "domain/off.com", {"accountStatus": "disabled"})
    yield Call("root", "POST", "domain/-bad-.com")
    yield Call("root", "POST", "domain/three.com", {"quota": "x", "language": "y"})
    yield from _of("root", "domain/ex.com", _DOMAIN)
    yield Call("root", "GET", "domain/never.com")
    yield Call("root", "PUT", "domain/never.com", {"name": "x"})


def _admins() -> Iterator[Call]:
    form = {"password": PASSWORD, "name": "Boss"}
    yield Call("root", "POST", "admin/boss@admins.test", form)
    yield Call("root", "POST", "admin/boss@admins.test", form)
    yield Call("root", "POST", "admin/boss@ex.com", form)
    yield Call("root", "POST", "admin/none@admins.test")
    yield from _of("root", "admin/boss@admins.test", _ADMIN)
    yield Call("root", "GET", "admin/never@admins.test")
    for password in ("N3w-Horses", "Wr0ng-One", ""):
        form = {"password": password}
        yield Call("root", "POST", "verify_password/admin/boss@admins.test", form)
    yield Call("root", "PUT", "domain/admins/ex.com", {"addAdmin": "boss@admins.test,x@far.org"})
    yield Call("root", "PUT", "domain/admins/ex.com", {"removeAdmin": "x@far.org"})
    yield Call("root", "PUT", "domain/admins/two.com", {"removeAllAdmins": ""})


def _users() -> Iterator[Call]:
    yield Call("root", "POST", "user/bob@ex.com", {"password_hash": _HASH, "quota": "100"})
    form = {"password": PASSWORD, "name": "Alice", "quota": "200", "cn": "ignored"}
    yield Call("root", "POST", "user/alice@ex.com", form)
    yield Call("root", "POST", "user/alice@ex.com", form)
    yield Call("root", "POST", "user/carol@ex.com", {"name": "no password"})
    yield Call("root", "POST", "user/x@never.com", {"password": PASSWORD})
    yield Call("root", "POST", "user/b%20ad@ex.com", {"password": PASSWORD})
    yield Call("root", "POST", "user/w@two.com", {"password": PASSWORD}, "json")
    yield from _of("root", "user/alice@ex.com", _USER)
    yield Call(
        "root", "PUT", "user/alice@ex.com", {"forwarding": ["a@far.org", "b@far.org"]}, "json"
    )
    yield Call(
        "root", "PUT", "user/alice@ex.com", {"mailQuota": "300", "preferredLanguage": "fr_FR"}
    )
    yield Call("root", "GET", "user/never@ex.com")
    for mail in ("alice@ex.com", "never@ex.com"):
        for password in ("N3w-Horses", "Wr0ng-One"):
            yield Call("root", "POST", f"verify_password/user/{mail}", {"password": password})
    yield from _of("root", "users/two.com", _USERS, "user/w@two.com")
    yield Call("root", "POST", "user/bob@ex.com/change_email/rob@ex.com")
    yield Call("root", "POST", "user/rob@ex.com/change_email/rob@two.com")
    yield Call("root", "POST", "user/rob@ex.com/change_email/alice@ex.com")
    yield Call("root", "POST", "user/rob@ex.com/change_email/bob@ex.com")


def _aliases() -> Iterator[Call]:
    yield Call("root", "POST", "alias/team@ex.com", {"name": "T", "members": "alice@ex.com"})
    yield Call("root", "POST", "alias/team@ex.com", {"members": "alice@ex.com"})
    yield Call("root", "POST", "alias/alice@ex.com")
    yield from _of("root", "alias/team@ex.com", _ALIAS)
    yield Call("root", "GET", "alias/never@ex.com")
    yield Call("root", "POST", "alias/team@ex.com/change_email/crew@ex.com")
    yield Call("root", "POST", "alias/crew@ex.com/change_email/team@ex.com")
    for method in ("GET", "POST", "PUT", "DELETE"):
        yield Call("root", method, "maillist/all@ex.com", {"name": "x"} if method == "PUT" else {})
        yield Call("root", method, "ml/list@ex.com", {"name": "x"} if method == "PUT" else {})
    for what in ("domain/ex.com", "catchall/ex.com", "admin/boss@admins.test", "user/alice@ex.com",
                 "maillist/all@ex.com", "alias/team@ex.com"):  # fmt: skip
        yield Call("root", "GET", f"ldif/{what}")


def _lists(who: str) -> Iterator[Call]:
    forms: list[Mapping[str, str]] = [{}, {"name_only": "yes"}, {"disabled_only": "yes"}]
    for form in (*forms, {"name_only": "x"}, {"unknown": "1"}):
        yield Call(who, "GET", "domains", form, "params")
    for kind in ("users", "aliases", "mls"):
        for form in ({}, {"email_only": "yes"}, {"disabled_only": "yes"}):
            if kind != "mls" or "disabled_only" not in form:
                yield Call(who, "GET", f"{kind}/ex.com", form, "params")
        yield Call(who, "GET", f"{kind}/never.com")
        yield Call(who, "GET", f"{kind}/two.com")


def _policies() -> Iterator[Call]:
    for path in ("global", "domain/ex.com", "user/alice@ex.com"):
        place = f"spampolicy/{path}"
        yield Call("root", "GET", place)
        few = _SPAM if path == "domain/ex.com" else {"spam_score": ["7"], "quarantine_spam": ["no"]}
        yield from _of("root", place, few)
        yield Call("root", "DELETE", place)
        yield Call("root", "GET", place)
    for account in ("global", "ex.com", "alice@ex.com"):
        for direction in ("inbound", "outbound"):
            place = f"throttle/{account}/{direction}"
            yield Call("root", "GET", place)
            for form in _THROTTLE if account == "ex.com" else _THROTTLE[:1]:
                yield Call("root", "POST", place, form)
            yield Call("root", "GET", place)
            for kind in ("whitelist", "blacklist"):
                place = f"wblist/{direction}/{kind}/{account}"
                yield Call("root", "POST", place, {"addresses": "@far.org,bad,x@y.org,10.0.0.1"})
                yield Call("root", "GET", place)
                yield Call("root", "PUT", place, {"addresses": "x@y.org,never@y.org"})
                yield Call("root", "DELETE", place)
        place = f"greylisting/{account}"
        yield Call("root", "GET", place)
        for status in ("enable", "disable", "x"):
            yield Call("root", "POST", place, {"status": status})
        yield Call("root", "GET", place)
        senders = f"{place}/whitelists"
        yield Call("root", "POST", senders, {"senders": "@far.org,10.0.0.0/24,b@y.org"})
        yield Call("root", "POST", senders, {"addSenders": "c@y.org", "removeSenders": "b@y.org"})
        yield Call("root", "GET", senders)
        yield Call("root", "GET", "greylisting/all")
        yield Call("root", "DELETE", place)
    for name in ("domains", "addDomains", "removeDomains"):
        yield Call("root", "POST", "greylisting/whitelist_spf_domains", {name: "far.org"})
    yield Call("root", "GET", "throttle/never@never.com/inbound")
    yield Call("root", "GET", "throttle/ex.com/sideways")


def _normal_admin() -> Iterator[Call]:
    yield Call("boss", "POST", "login", {"username": "boss@admins.test", "password": "N3w-Horses"})
    yield from _lists("boss")
    for path in (
        "domain/two.com", "user/w@two.com", "user/never@two.com", "spampolicy/global",
        "throttle/two.com/inbound", "greylisting/all", "admin/root@admins.test",
    ):  # fmt: skip
        yield Call("boss", "GET", path)
    for method, path, form in (
        ("POST", "domain/four.com", {}), ("POST", "user/n@two.com", {"password": PASSWORD}),
        ("PUT", "user/alice@ex.com", {"isGlobalAdmin": "yes"}),
        ("PUT", "user/alice@ex.com", {"name": "By Boss"}), ("PUT", "domain/ex.com", {"quota": "1"}),
        ("DELETE", "domain/two.com", {}), ("POST", "admin/x@admins.test", {"password": PASSWORD}),
        ("PUT", "domain/ex.com", {"transport": "pipe:x"}), ("DELETE", "user/w@two.com", {}),
    ):  # fmt: skip
        yield Call("boss", method, path, form)


def _removals() -> Iterator[Call]:
    for path in ("user/alice@ex.com/keep_mailbox_days/30", "user/rob@ex.com/keep_mailbox_days/x",
                 "user/bob@ex.com", "user/bob@ex.com", "user/never@ex.com", "alias/team@ex.com",
                 "alias/never@ex.com", "domain/off.com", "domain/two.com/keep_mailbox_days/7",
                 "domain/never.com", "admin/root@admins.test", "admin/boss@admins.test",
                 "admin/never@admins.test", "domain/ex.com"):  # fmt: skip
        yield Call("root", "DELETE", path)
    yield Call("root", "GET", "domains", {"name_only": "yes"}, "params")
    yield Call("boss", "GET", "domains")


def _mailing_lists() -> Iterator[Call]:
    """Lists of both kinds; the unsubscribable ones, and LDIF, are for OpenLDAP."""
    yield Call("root", "POST", "login", {"username": "root@admins.test", "password": PASSWORD})
    yield Call("root", "POST", "domain/ex.com")
    yield Call("root", "POST", "user/alice@ex.com", {"password": PASSWORD})
    for password in (PASSWORD, "Wr0ng-One"):
        form = {"password": password}
        yield Call("root", "POST", "verify_password/user/alice@ex.com", form)
    yield Call("root", "POST", "ml/news@ex.com", {"name": "N", "only_subscriber_can_post": "yes"})
    yield Call("root", "POST", "ml/news@ex.com")
    yield Call("root", "POST", "ml/alice@ex.com")
    for name, values in _LIST.items():
        for value in values:
            form = {name: value}
            if "subscribers" in name:
                form["require_confirm"] = "no"
            yield Call("root", "PUT", "ml/news@ex.com", form)
        yield Call("root", "GET", "ml/news@ex.com")
    yield Call("root", "GET", "ml/news@ex.com", {"with_subscribers": "yes"}, "params")
    yield Call("root", "POST", "maillist/all@ex.com", {"name": "All", "members": "alice@ex.com"})
    yield Call("root", "POST", "maillist/all@ex.com")
    yield from _of("root", "maillist/all@ex.com", _MAILLIST)
    yield Call("root", "PUT", "domain/ex.com", {"catchall": "far@far.org"})
    for path in ("mls/ex.com", "mls/two.com", "user/alice@ex.com", "ldif/domain/ex.com",
                 "ldif/catchall/ex.com", "ldif/user/alice@ex.com", "ldif/user/never@ex.com",
                 "ldif/maillist/all@ex.com", "ldif/alias/never@ex.com"):  # fmt: skip
        yield Call("root", "GET", path)
    yield Call("root", "DELETE", "ml/news@ex.com", {"keep_archive": "no"})
    yield Call("root", "DELETE", "ml/news@ex.com")
    yield Call("root", "DELETE", "maillist/all@ex.com")
    yield Call("root", "DELETE", "domain/ex.com")
    yield Call("root", "POST", "logout")
    yield Call("root", "GET", "domains")
    yield Call("root", "POST", "logout")


def calls() -> list[Call]:
    """Return all calls, in their order."""
    parts = (_logins(), _domains(), _admins(), _users(), _aliases(), _lists("root"), _policies(),
             _normal_admin(), _removals(), _mailing_lists())  # fmt: skip
    return [call for part in parts for call in part]
