"""Rules of the mail domain that need no storage: transports, paths, limits, services, sets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iredapi.backends.sql.tables import ENABLE_COLUMNS, SOGO_COLUMNS
from iredapi.domain import limits, mailbox_paths, services, transports
from iredapi.domain.actors import Actor
from iredapi.domain.limits import Allocation, Totals
from iredapi.domain.mailbox_paths import InvalidMaildir, Layout
from iredapi.domain.set_parameters import resettable
from iredapi.domain.transports import InvalidTransport
from iredapi.errors import ApiError

# -- transports ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "dovecot", "lmtp:unix:private/dovecot-lmtp", "lmtp:inet:127.0.0.1:24", "smtp:", "relay:",
        "smtp:[10.0.0.1]:25", "relay:[2001:db8::1]", "mlmmj:ex.com/list", "error:5.1.1 x"[:11],
        "x" * 255,
    ],
)  # fmt: skip
def test_transports(text: str) -> None:
    assert transports.transport(f" {text} ") == text


@pytest.mark.parametrize(
    "text", ["", ":", ":x", "a b", "a:b c", "a\nb", "a:\nb", "ä", "a:ä", "x" * 256, "a\0", "a,b"]
)
def test_invalid_transports(text: str) -> None:
    with pytest.raises(InvalidTransport):
        transports.transport(text)


@pytest.mark.parametrize(
    "text,ordinary",
    [
        ("dovecot", True),
        ("lmtp:unix:private/dovecot-lmtp", True),
        ("LMTP:UNIX:private/dovecot-lmtp", True),
        ("lmtp:inet:127.0.0.1:24", True),
        ("smtp:[10.0.0.1]", True),
        ("relay:", True),
        ("lmtp:inet:10.0.0.1:24", True),
        ("lmtp:unix:/var/run/other", False),
        ("LMTP:UNIX:/var/run/other", False),
        ("mlmmj:ex.com/list", False),
        ("error:no", False),
        ("discard:", False),
        ("pipe:x", False),
        ("local:", False),
        ("smtpx:[10.0.0.1]", False),
        ("dovecot:x", False),
        ("smtp", False),
    ],
)
def test_ordinary_transports(text: str, ordinary: bool) -> None:
    assert transports.is_ordinary(text) is ordinary


@pytest.mark.parametrize(
    "text,hop",
    [
        ("10.0.0.1", "[10.0.0.1]"),
        ("10.0.0.1:25", "[10.0.0.1]:25"),
        ("[10.0.0.1]", "[10.0.0.1]"),
        ("[10.0.0.1]:025", "[10.0.0.1]:25"),
        ("2001:DB8::1", "[2001:db8::1]"),
        ("[2001:db8::1]:25", "[2001:db8::1]:25"),
        ("MX.example.net", "mx.example.net"),
        ("mx.example.net:587", "mx.example.net:587"),
        ("[mx.example.net]:587", "[mx.example.net]:587"),
        ("localhost", "localhost"),
    ],
)
def test_next_hops(text: str, hop: str) -> None:
    assert transports.next_hop(text) == hop
    assert transports.next_hop(hop) == hop


@pytest.mark.parametrize(
    "text",
    [
        "", "a b", "a\nb", "[", "[]", "[a", "a]", "[[a]]", "a:", "a:x", "a:0", "a:65536", ":25",
        "300.1.1.1", "10.0.0", "-a.com", "a-.com", "a..com", "a_b.com", "a.com:25:25", "smtp:a.com",
        "user@a.com", "a" * 64 + "." + "b" * 200, "[10.0.0.1]x", "ä.com", "10.0.0.1/24",
    ],
)  # fmt: skip
def test_invalid_next_hops(text: str) -> None:
    with pytest.raises(InvalidTransport):
        transports.next_hop(text)


def test_backup_mx() -> None:
    assert transports.backup_mx("") == "relay:"
    assert transports.backup_mx("10.0.0.1") == "relay:[10.0.0.1]"


def test_prefix_of_a_relay() -> None:
    assert transports.outbound_relay("SMTP:[10.0.0.1]:25") == "[10.0.0.1]:25"
    assert transports.outbound_relay("SMTP:10.0.0.1", keep_prefix=True) == "smtp:[10.0.0.1]"
    assert transports.outbound_relay("dunno", keep_prefix=True) == "DUNNO"
    for text in ("smtp:smtp:a.com", "smtp:", "error:x", "smtp:a b"):
        with pytest.raises(InvalidTransport):
            transports.outbound_relay(text)


def test_own_host_name() -> None:
    assert transports.is_server("mail.ex.com", "Mail.EX.com")
    assert not transports.is_server("ex.com", "mail.ex.com")
    assert not transports.is_server("ex.com", "")
    assert not transports.is_server("ex.com", "not a name")


@given(st.text(max_size=60))
def test_stored_hops_are_one_word(text: str) -> None:
    for read in (transports.next_hop, transports.outbound_relay, transports.transport):
        try:
            value = read(text)
        except InvalidTransport:
            continue
        assert value.isascii()
        assert value.isprintable()
        assert " " not in value
        assert value
        assert read(value) == value


# -- mailbox paths ---------------------------------------------------------------------------------

NOW = datetime(2026, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    "mail,maildir",
    [
        ("john.d@ex.com", "ex.com/j/o/h/john.d-2026.01.02.03.04.05/"),
        ("j.d@ex.com", "ex.com/j/_/d/j.d-2026.01.02.03.04.05/"),
        ("ab@ex.com", "ex.com/a/b/_/ab-2026.01.02.03.04.05/"),
        ("a@ex.com", "ex.com/a/_/_/a-2026.01.02.03.04.05/"),
    ],
)
def test_generated_paths(mail: str, maildir: str) -> None:
    location = mailbox_paths.generate(mail, mailbox_paths.DEFAULT, NOW)
    assert (location.base, location.node, location.maildir) == ("/var/vmail", "vmail1", maildir)
    assert location.path == f"/var/vmail/vmail1/{maildir}".rstrip("/")


@pytest.mark.parametrize(
    "layout,maildir",
    [
        (Layout(hashed=False), "ex.com/john-2026.01.02.03.04.05/"),
        (Layout(append_timestamp=False), "ex.com/j/o/h/john/"),
        (Layout(prepend_domain=False), "j/o/h/john-2026.01.02.03.04.05/"),
        (Layout(domain_hashed=True, append_timestamp=False), "e/x/ex.com/j/o/h/john/"),
        (
            Layout(domain_hashed=True, prepend_domain=False, append_timestamp=False),
            "j/o/h/john/",
        ),
    ],
)
def test_layouts(layout: Layout, maildir: str) -> None:
    assert mailbox_paths.generate("john@ex.com", layout, NOW).maildir == maildir


def test_domains_with_short_labels() -> None:
    layout = Layout(domain_hashed=True, hashed=False, append_timestamp=False)
    assert mailbox_paths.generate("j@a.com", layout, NOW).maildir == "a/_/a.com/j/"
    assert mailbox_paths.generate("j@a-b.com", layout, NOW).maildir == "a/_/a-b.com/j/"


def test_base_directories() -> None:
    for base, columns in (
        ("/var/vmail/vmail1/", ("/var/vmail", "vmail1")),
        ("/mail", ("/", "mail")),
    ):
        location = mailbox_paths.generate("j@ex.com", Layout(base=base), NOW)
        assert (location.base, location.node) == columns
        assert location.path.startswith(base.rstrip("/") + "/ex.com/")


@pytest.mark.parametrize(
    "text,columns",
    [
        ("/var/vmail/vmail1/ex.com/u", ("/var/vmail", "vmail1", "ex.com/u")),
        ("/VAR/vmail/vmail1/Ex.com/U/ ", ("/var/vmail", "vmail1", "ex.com/u")),
        ("/srv/mail/ex.com/u", ("/", "srv", "mail/ex.com/u")),
    ],
)
def test_parsed_paths(text: str, columns: tuple[str, str, str]) -> None:
    layout = Layout(roots=("/var/vmail/vmail1", "/srv/mail/"))
    location = mailbox_paths.parse_location(text, layout)
    assert (location.base, location.node, location.maildir) == columns
    assert location.path == text.strip().lower().rstrip("/")


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "ex.com/u", "/etc/passwd", "/var/vmail/vmail1", "/var/vmail/vmail1/",
        "/var/vmail/vmail1/../x", "/var/vmail/vmail1/./x", "/var/vmail/vmail1//x",
        "/var/vmail/vmail10/x", "/var/vmail/vmail1/a b", "/var/vmail/vmail1/a\nb",
        "/var/vmail/vmail1/%d", "/var/vmail/vmail1/~u", "/var/vmail/vmail1/a;b",
        "/var/vmail/vmail1/ä", "/var/vmail/vmail1/" + "x" * 250, "//var/vmail/vmail1/x",
    ],
)  # fmt: skip
def test_refused_paths(text: str) -> None:
    with pytest.raises(InvalidMaildir):
        mailbox_paths.parse_location(text, mailbox_paths.DEFAULT)


@pytest.mark.parametrize(
    "one,other,found",
    [
        ("/a/b", "/a/b", True), ("/a", "/a/b", True), ("/a/b", "/a", True),
        ("/a/b", "/a/bc", False), ("/a/b", "/a/c", False),
    ],
)  # fmt: skip
def test_overlap(one: str, other: str, found: bool) -> None:
    assert mailbox_paths.overlap(one, other) is found


# -- limits ----------------------------------------------------------------------------------------


def _refused(function: Any, *args: Any) -> str:
    with pytest.raises(ApiError) as caught:
        function(*args)
    return str(caught.value.code)


def test_account_limits() -> None:
    limits.check_account_limit(0, 10**6)
    limits.check_account_limit(5, 4)
    assert _refused(limits.check_account_limit, 5, 5) == "EXCEEDED_DOMAIN_ACCOUNT_LIMIT"
    assert _refused(limits.check_account_limit, -1, 0) == "NOT_ALLOWED"


@pytest.mark.parametrize(
    "wanted,default,most,of_domain,allocated,quota",
    [
        (None, 0, 0, 0, 0, 0),
        (None, 1024, 0, 0, 0, 1024),
        (None, 1024, 512, 0, 0, 512),
        (None, 0, 512, 0, 0, 512),
        (0, 1024, 0, 0, 0, 0),
        (0, 1024, 512, 0, 0, 512),
        (700, 1024, 512, 0, 0, 512),
        (300, 1024, 512, 0, 0, 300),
        (300, 0, 0, 1000, 700, 300),
        # No quota sent: what is left.
        (None, 1024, 0, 1000, 700, 300),
        (None, 0, 0, 1000, 0, 1000),
        (None, 200, 0, 1000, 700, 200),
    ],
)
def test_quota_of_new_users(
    wanted: int | None, default: int, most: int, of_domain: int, allocated: int, quota: int
) -> None:
    assert limits.quota_of_new_user(wanted, default, most, of_domain, allocated) == quota


def test_quota_beyond_the_domain() -> None:
    code = "EXCEEDED_DOMAIN_QUOTA_SIZE"
    assert _refused(limits.quota_of_new_user, 301, 0, 0, 1000, 700) == code
    assert _refused(limits.quota_of_new_user, 0, 0, 0, 1000, 0) == code
    assert _refused(limits.quota_of_new_user, None, 0, 0, 1000, 1000) == code
    assert _refused(limits.quota_of_new_user, None, 0, 0, 1000, 2000) == code
    assert limits.quota_of_user(300, 0, 1000, 700) == 300
    assert limits.quota_of_user(0, 0, 0, 700) == 0
    assert limits.quota_of_user(0, 256, 1000, 700) == 256
    assert _refused(limits.quota_of_user, 301, 0, 1000, 700) == code
    assert _refused(limits.quota_of_user, 0, 0, 1000, 0) == code
    for wanted, said in ((301, "The domain has 300"), (0, "The quota 0 is unlimited, and the")):
        with pytest.raises(ApiError, match=said):
            limits.quota_of_user(wanted, 0, 1000, 700)


@pytest.mark.parametrize(
    "before,after,raised",
    [
        (5, 6, True), (5, 5, False), (5, 4, False), (5, 0, True), (0, 5, False), (0, 0, False),
        (-1, 5, True), (5, -1, False), (-1, 0, True), (0, -1, False),
    ],
)  # fmt: skip
def test_raised_limits(before: int, after: int, raised: bool) -> None:
    assert limits.is_raised(before, after) is raised


@pytest.mark.parametrize(
    "settings,megabytes",
    [
        ({}, 0),
        ({"create_max_quota": "10"}, 10),
        ({"create_max_quota": "10", "create_quota_unit": "GB"}, 10 * 1024),
        ({"create_max_quota": "2", "create_quota_unit": " tb "}, 2 * 1024 * 1024),
        ({"create_max_quota": "10", "create_quota_unit": "what"}, 10),
        ({"create_max_quota": "-1", "create_quota_unit": "GB"}, -1),
    ],
)
def test_quota_limit_of_admins(settings: dict[str, str], megabytes: int) -> None:
    assert limits.quota_limit(settings) == megabytes


def _actor(**settings: str) -> Actor:
    return Actor("a@b.test", is_global=False, domains=frozenset({"ex.com"}), settings=settings)


NOBODY = Totals(0, Allocation())


@pytest.mark.parametrize(
    "settings,others,wanted,code",
    [
        ({"create_max_domains": "1"}, Totals(1, Allocation()), Allocation(), "EXCEED_LIMIT_DOMAIN"),
        ({"create_max_domains": "-1"}, NOBODY, Allocation(), "EXCEED_LIMIT_DOMAIN"),
        ({"create_max_quota": "10"}, NOBODY, Allocation(quota=11), "EXCEED_LIMIT_QUOTA"),
        ({"create_max_quota": "10"}, NOBODY, Allocation(quota=0), "EXCEED_LIMIT_QUOTA"),
        ({"create_max_quota": "10"}, Totals(1, Allocation(quota=5)), Allocation(quota=6),
         "EXCEED_LIMIT_QUOTA"),
        ({"create_max_users": "10"}, Totals(1, Allocation(users=5)), Allocation(users=6),
         "EXCEED_LIMIT_USERS"),
        ({"create_max_users": "10"}, NOBODY, Allocation(), "EXCEED_LIMIT_USERS"),
        ({"create_max_aliases": "-1"}, NOBODY, Allocation(aliases=1), "EXCEED_LIMIT_ALIASES"),
        ({"create_max_lists": "1"}, NOBODY, Allocation(lists=2), "EXCEED_LIMIT_LISTS"),
    ],
)  # fmt: skip
def test_limits_of_admins(
    settings: dict[str, str], others: Totals, wanted: Allocation, code: str
) -> None:
    assert _refused(limits.check_admin_limits, _actor(**settings), others, wanted) == code
    # Limits that are not raised are not checked; nor are global admins.
    if code != "EXCEED_LIMIT_DOMAIN":
        limits.check_admin_limits(_actor(**settings), others, wanted, wanted)
    root = Actor("r@b.test", is_global=True, domains=frozenset(), settings=settings)
    limits.check_admin_limits(root, others, wanted)


def test_domains_within_limits() -> None:
    actor = _actor(create_max_domains="2", create_max_quota="1", create_quota_unit="GB",
                   create_max_users="10", create_max_aliases="-1")  # fmt: skip
    wanted = Allocation(quota=524, users=5, aliases=-1)
    limits.check_admin_limits(actor, Totals(1, Allocation(quota=500, users=5)), wanted)
    assert limits.is_limited(actor)
    assert not limits.is_limited(_actor(create_new_domains="yes"))
    limits.check_admin_limits(_actor(), Totals(99, Allocation()), Allocation())


# -- services --------------------------------------------------------------------------------------


def test_columns_of_services() -> None:
    assert services.columns(["deliver"]) == {"deliver", "lda", "lmtp"}
    assert services.columns(["managesieve"]) == {"managesieve", "sieve"}
    assert services.columns(["managesievetls"]) == {"sievetls"}
    assert services.columns(["smtptls", "mail", "vpn", "doveadm", "lib-storage", ""]) == set()


def test_only_real_columns_and_never_internal_ones() -> None:
    real = {name.removeprefix("enable") for name in (*ENABLE_COLUMNS, *SOGO_COLUMNS)}
    internal = {
        "internal", "doveadm", "lib-storage", "quota-status", "indexer-worker", "dsync",
    }  # fmt: skip
    assert services.MANAGED | internal == real
    assert not services.MANAGED & internal
    assert {f"enable{name}" for name in services.YES_NO_COLUMNS} == set(SOGO_COLUMNS)


@pytest.mark.parametrize(
    "disabled,off",
    [
        ({"imapsecured"}, {"imapsecured", "imaptls"}),
        ({"pop3secured"}, {"pop3secured", "pop3tls"}),
        ({"imap", "pop3"}, {"imap", "pop3"}),
        ({"managesieve"}, {"managesieve", "sieve"}),
        ({"managesievesecured"}, {"managesievesecured", "sievesecured", "sievetls"}),
        ({"sogo", "smtp", "smtpsecured"}, {"sogo", "smtp", "smtpsecured"}),
        ({"unknown"}, set()),
    ],
)
def test_services_off_at_creation(disabled: set[str], off: set[str]) -> None:
    assert services.disabled_at_creation(disabled) == off


def test_service_names() -> None:
    everything = services.service_names(services.MANAGED, services.MANAGED)
    assert everything == list(services.COLUMNS)
    assert "deliver" not in services.service_names(services.MANAGED - {"lmtp"}, services.MANAGED)
    # A server without a column: the rest of a service counts, a service without columns is not.
    there = services.MANAGED - {"lda", "sogowebmail"}
    found = services.service_names(there, there)
    assert "deliver" in found
    assert "sogowebmail" not in found


# -- sets ------------------------------------------------------------------------------------------

WORDS = st.frozensets(st.sampled_from("abcdefg"))


@given(WORDS, WORDS, WORDS)
def test_reset_add_and_remove(
    present: frozenset[str], some: frozenset[str], gone: frozenset[str]
) -> None:
    names = ("all", "add", "remove")
    assert resettable(present, {"all": tuple(some)}, *names) == some
    assert resettable(present, {"add": tuple(some)}, *names) == present | some
    assert resettable(present, {"remove": tuple(gone)}, *names) == present - gone
    both = {"add": tuple(some), "remove": tuple(gone)}
    assert resettable(present, both, *names) == (present - gone) | some
    assert resettable(present, {}, *names) == present
    only = frozenset("ab")
    assert resettable(present, {"add": tuple(some)}, *names, only=only) == present | (some & only)
    assert resettable(present, {"all": tuple(some)}, *names, only=only) == some & only
