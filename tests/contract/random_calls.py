"""Random requests that change something, right and wrong ones, on a few accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

from tests.clients import PASSWORD
from tests.contract.histories import HASH, Step, step

Values = dict[str, Sequence[str]]

# fmt: off
BEFORE: Sequence[Step] = (
    step("POST", "domain/one.test", quota="2000", numberOfUsers="5", defaultQuota="100"),
    step("POST", "domain/two.test"),
    step("POST", "user/ann@one.test", password_hash=HASH, name="Ann"),
    step("POST", "user/bob@one.test", password_hash=HASH),
    step("POST", "user/ann@two.test", password_hash=HASH, isGlobalAdmin="yes"),
    step("POST", "alias/all@one.test", members="ann@one.test,far@far.org"),
    step("POST", "ml/news@one.test", subscribers="far@far.org", require_confirm="no"),
)
DOMAINS = ("one.test",) * 8 + ("two.test", "two.test", "three.test", "Two.Test", "bad_.x")
LOCAL_PARTS = ("ann", "bob", "cy", "dee.d", "all", "team", "news", "ANN", "a..b")
KNOWN = {"user": ("ann", "bob", "cy"), "alias": ("all", "team"), "ml": ("news",)}
MAILS = ("ann@one.test", "bob@one.test", "cy@one.test", "ann@two.test", "all@one.test",
         "far@far.org", "near@far.org", "none@one.test", "cy@alias.test", "not a mail", "")
ANYWHERE: Values = {"unknown": ("1",), "strict": ("no", "yes")}
PROFILE: Values = {"name": ("Ann", "", "Ä Ö"), "accountStatus": ("active", "disabled", "maybe")}
OF_DOMAIN: Values = PROFILE | ANYWHERE | {
    "quota": ("0", "300", "5000", "-1"), "numberOfUsers": ("0", "2", "9", "x"),
    "numberOfAliases": ("0", "1", "-1"), "numberOfLists": ("0", "-1"),
    "defaultQuota": ("0", "64"), "maxUserQuota": ("0", "128"), "language": ("de_DE", "xx-yy"),
    "minPasswordLength": ("8", "20"), "maxPasswordLength": ("64",),
    "senderBcc": ("out@far.org", ""), "recipientBcc": ("in@far.org", "no"),
    "catchall": ("ann@one.test,far@far.org", "none@one.test", ""),
    "aliasDomains": ("alias.test", "alias.test,other.test", "two.test", ""),
    "addAliasDomain": ("alias.test", "third.test"), "removeAliasDomain": ("alias.test", "no.test"),
    "services": ("self-service", ""), "transport": ("dovecot", ""),
    "outboundRelay": ("[192.0.2.9]", ""), "is_backupmx": ("yes", "no"),
    "primarymx": ("192.0.2.1",), "suspend": ("yes", "no"),
    "disableUserProfile": ("bcc,forwarding",), "enableUserProfile": ("bcc",),
}
OF_USER: Values = PROFILE | ANYWHERE | {
    "gn": ("G", ""), "sn": ("S", ""), "employeeid": ("4711", ""), "mobile": ("1,2", ""),
    "telephoneNumber": ("030 1", ""), "language": ("fr_FR", "?"),
    "quota": ("0", "100", "1500", "99999", "-1"), "transport": ("dovecot", ""),
    "password": (PASSWORD, "short"), "password_hash": (HASH, "x"),
    "senderBcc": ("out@far.org", ""), "recipientBcc": ("in@far.org", ""),
    "forwarding": ("far@far.org", "ann@one.test,bob@one.test", "none@one.test", ""),
    "addForwarding": ("near@far.org", "none@one.test"), "removeForwarding": ("far@far.org", "no"),
    "aliases": ("cy@one.test", "x1@one.test,x2@one.test", "x@far.org", ""),
    "addAlias": ("x3@one.test", "bob@one.test"), "removeAlias": ("x1@one.test", "none@one.test"),
    "services": ("imaptls,deliver", "nothing"), "addService": ("pop3",), "removeService": ("imap",),
    "isGlobalAdmin": ("yes", "no"), "suspend": ("yes", "no"), "mailboxFolder": ("Mail",),
    "maildir": ("/var/vmail/vmail1/here", "relative"),
}
OF_ALIAS: Values = PROFILE | ANYWHERE | {
    "members": MAILS, "addMember": MAILS, "removeMember": MAILS,
}
OF_LIST: Values = PROFILE | ANYWHERE | {
    "accessPolicy": ("public", "domain", "membersonly", "x"), "max_message_size": ("0", "4096"),
    "owner": ("ann@one.test", "far@far.org", ""), "moderators": ("bob@one.test", ""),
    "subject_prefix": ("[x]", ""), "footer_text": ("Bye", ""), "disable_archive": ("yes", "no"),
    "add_subscribers": ("near@far.org,bob@one.test", "news@one.test"),
    "remove_subscribers": ("far@far.org", "none@far.org"), "require_confirm": ("no", "no", "yes"),
    "subscription": ("digest", "nomail"), "is_newsletter": ("yes", "no"),
}
OF_ADMIN: Values = PROFILE | ANYWHERE | {
    "password": (PASSWORD, PASSWORD, "short"), "language": ("de_DE", ""),
    "isGlobalAdmin": ("yes", "no"),
    "maxDomains": ("0", "5", "x"), "maxUsers": ("9",), "maxQuota": ("20",),
    "quotaUnit": ("GB", "KB"), "disableViewingMailLog": ("yes", "no"),
}
OF_ADMINS: Values = {
    "addAdmin": ("ann@one.test", "one@admins.org", "none@one.test"),
    # Not removeAllAdmins beside addAdmin: who goes and comes again is written anew, and the same.
    "removeAdmin": ("ann@one.test", "one@admins.org", "none@far.org"),
}
OF_ALL_USERS: Values = ANYWHERE | {
    "language": ("it_IT",), "quota": ("50", "5000"), "accountStatus": ("active", "disabled"),
    "transport": ("dovecot", ""), "password": (PASSWORD, "short"),
}
OF_THROTTLE: Values = {
    "period": ("60", "60", "60", "x"), "max_msgs": ("5", "-1"), "max_quota": ("4096",),
    "msg_size": ("100", "y"),
}
OF_SPAM: Values = ANYWHERE | {
    "bypass_spam_checks": ("yes", "no"), "bypass_virus_checks": ("yes",), "spam_score": ("6", "z"),
    "quarantine_spam": ("yes", "no"),
}
ADDRESSES: Values = {"addresses": ("a@far.org", "a@far.org,@b.org,192.0.2.1", "c@far.org,???")}
SENDERS: Values = {
    "senders": ("a@far.org,b@far.org", ""), "addSenders": ("c@far.org,192.0.2.7",),
    "removeSenders": ("a@far.org", "none@far.org"),
}
# fmt: on


class _Draw:
    """Random parts of a request."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def form(self, values: Values, *always: str) -> dict[str, str]:
        wanted = self.random.sample(sorted(values), min(len(values), self.random.randint(1, 2)))
        return {
            name: values[name][0] if name in always else self.random.choice(values[name])
            for name in (*always, *wanted)
        }

    def domain(self) -> str:
        return self.random.choice(DOMAINS)

    def mail(self, kind: str = "") -> str:
        known = KNOWN.get(kind, LOCAL_PARTS) if self.random.random() < 0.8 else LOCAL_PARTS
        return f"{self.random.choice(known)}@{self.domain()}"

    def admin(self) -> str:
        return self.random.choice(("one@admins.org", "two@admins.org", "ann@one.test"))

    def scope(self) -> str:
        return self.random.choice((self.mail(), self.domain(), "global"))

    def write(self, kind: str, name: str, values: Values, *always: str) -> Step:
        method = self.random.choice(("POST", "POST", "PUT", "PUT", "PUT", "PUT", "DELETE"))
        path = f"{kind}/{name}"
        if method == "DELETE":
            return Step(method, path, self.random.choice(({}, {}, {"keep_mailbox_days": "3"})))
        return Step(method, path, self.form(values, *(always if method == "POST" else ())))

    def renamed(self, kind: str) -> Step:
        old = self.mail(kind)
        new = self.random.choice((self.mail(), f"new{self.random.randint(1, 99)}@one.test"))
        return Step("POST", f"{kind}/{old}/change_email/{new}")

    def policy(self) -> Step:
        scope, choice = self.scope(), self.random.choice
        method = choice(("POST", "POST", "POST", "DELETE"))
        kind = choice(("throttle", "wblist", "greylisting", "senders", "spampolicy"))
        path, values = f"greylisting/{scope}/whitelists", SENDERS
        if kind == "throttle":
            path, values = f"throttle/{scope}/{choice(('inbound', 'outbound'))}", OF_THROTTLE
        elif kind == "wblist":
            which = f"{choice(('inbound', 'outbound'))}/{choice(('whitelist', 'blacklist'))}"
            path, values = f"wblist/{which}/{scope}", ADDRESSES
            method = choice(("POST", "POST", "PUT", "DELETE"))
        elif kind == "greylisting":
            path, values = f"greylisting/{scope}", {"status": ("enable", "disable", "x")}
        elif kind == "spampolicy":
            of = "user/" if "@" in scope else "" if scope == "global" else "domain/"
            path, values = f"spampolicy/{of}{scope}", OF_SPAM
            method = choice(("PUT", "PUT", "DELETE"))
        elif method == "DELETE":
            method = "POST"
        return Step(method, path, {} if method == "DELETE" else self.form(values))


def of(seed: str, calls: int) -> Iterator[tuple[str, Step]]:
    """Return who sends each request (empty: a global admin), and the request."""
    draw = _Draw(Random(seed))
    kinds: Sequence[tuple[int, Callable[[], Step]]] = (
        (3, lambda: draw.write("domain", draw.domain(), OF_DOMAIN)),
        (8, lambda: draw.write("user", draw.mail("user"), OF_USER, "password_hash")),
        (4, lambda: draw.write("alias", draw.mail("alias"), OF_ALIAS)),
        (3, lambda: draw.write("ml", draw.mail("ml"), OF_LIST)),
        (1, lambda: draw.write("maillist", draw.mail(), OF_ALIAS)),
        (2, lambda: draw.write("admin", draw.admin(), OF_ADMIN, "password")),
        (1, lambda: Step("PUT", f"domain/admins/{draw.domain()}", draw.form(OF_ADMINS))),
        (1, lambda: Step("PUT", f"users/{draw.domain()}", draw.form(OF_ALL_USERS))),
        (1, lambda: draw.renamed("user")),
        (1, lambda: draw.renamed("alias")),
        (6, draw.policy),
    )
    makers = [make for _, make in kinds]
    weights = [weight for weight, _ in kinds]
    for make in draw.random.choices(makers, weights, k=calls):
        who = draw.random.choice(("",) * 6 + ("of one.test",))
        yield who, make()
