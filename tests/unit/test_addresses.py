"""Valid and invalid addresses and domain names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iredapi.domain import addresses
from iredapi.domain.addresses import InvalidAddress

LONG_LABEL = "a" * 63
LONG_DOMAIN = ".".join([LONG_LABEL] * 3 + ["a" * 58, "com"])

ACCOUNTS = [
    "john.d@ex.com", "j@ex.com", "1@ex.com", "_a@ex.com", "#a@ex.com", "a&b#c@ex.com",
    "a-b_c@ex.com", "a@sub.ex-ample.com", "a@xn--bcher-kva.example", "a@ex.museum",
    f"{'a' * 64}@ex.com", "a@1.2.3.com",
]  # fmt: skip
EXTENDED = [
    "u+x@ex.com", "sender=ex.com@list.org", "a/b@x400.org", "!a@ex.com", "a'b@ex.com", "a%b@ex.com",
    "{a}|~`^?*$@ex.com",
]  # fmt: skip
NEVER = [
    "", "a", "@", "a@", "@ex.com", "a@ex", "a b@ex.com", "a@e x.com", "a@ex.com\nb", "a\n@ex.com",
    "a@ex..com", "a@.ex.com", "a@ex.com.", "a@-ex.com", "a@ex-.com", "a@ex.-c", "a@ex.c",
    "a@ex.123", "a@[10.0.0.1]", "a@10.0.0.1", "ü@b.com", "a@b@ex.com", f"{'a' * 65}@ex.com",
    f"a@{'a' * 64}.com", f"a@{LONG_DOMAIN}", "a\0@ex.com", "a@ex.com\0", "a\x7f@ex.com",
    "a@ex.com,b@ex.com", "a;b@ex.com:", "<a@ex.com>", "a@ex.com ;", "\u0410@ex.com",
]  # fmt: skip
DOTS = [".a@ex.com", "a.@ex.com", "a..b@ex.com"]


@pytest.mark.parametrize("mail", ACCOUNTS)
def test_new_accounts(mail: str) -> None:
    assert addresses.new_account(mail) == mail
    assert addresses.any_mail(mail) == mail
    assert addresses.existing_mail(mail) == mail


@pytest.mark.parametrize("mail", EXTENDED)
def test_any_mail(mail: str) -> None:
    assert addresses.any_mail(mail) == mail
    assert addresses.existing_mail(mail) == mail
    with pytest.raises(InvalidAddress):
        addresses.new_account(mail)


@pytest.mark.parametrize("mail", NEVER)
def test_invalid_addresses(mail: str) -> None:
    for read in (addresses.new_account, addresses.any_mail, addresses.existing_mail):
        with pytest.raises(InvalidAddress):
            read(mail)


@pytest.mark.parametrize("mail", DOTS)
def test_dots(mail: str) -> None:
    for read in (addresses.new_account, addresses.any_mail):
        with pytest.raises(InvalidAddress):
            read(mail)
    # Older tools stored it, so it can be read and removed.
    assert addresses.existing_mail(mail) == mail


def test_postfix_bounces_a_leading_hyphen() -> None:
    for read in (addresses.new_account, addresses.any_mail):
        with pytest.raises(InvalidAddress):
            read("-a@ex.com")
    assert addresses.existing_mail("-a@ex.com") == "-a@ex.com"


def test_case_and_blanks() -> None:
    for read in (addresses.new_account, addresses.any_mail, addresses.existing_mail):
        assert read(" John.D@EX.Com\n") == "john.d@ex.com"
    assert addresses.domain_name("  EX.Com ") == "ex.com"


def test_total_length() -> None:
    assert len(LONG_DOMAIN) == 254
    assert addresses.domain_name(LONG_DOMAIN[1:]) == LONG_DOMAIN[1:]
    local = "a" * 64
    for length, fits in ((57, True), (58, False)):
        mail = f"{local}@{LONG_LABEL}.{LONG_LABEL}.{'a' * length}.com"
        assert len(mail) == (254 if fits else 255)
        if fits:
            assert addresses.any_mail(mail) == mail
        else:
            with pytest.raises(InvalidAddress):
                addresses.any_mail(mail)


@pytest.mark.parametrize(
    "text,name",
    [
        ("ex.com", "ex.com"),
        ("EX.COM", "ex.com"),
        ("a.b-c.d1.com", "a.b-c.d1.com"),
        ("1.com", "1.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("ex.xn--p1ai", "ex.xn--p1ai"),
        ("пример.рф", "xn--e1afmkfd.xn--p1ai"),
        (f"{LONG_LABEL}.com", f"{LONG_LABEL}.com"),
    ],
)
def test_domains(text: str, name: str) -> None:
    assert addresses.domain_name(text) == name
    assert addresses.existing_domain(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "", "com", "ex", ".", "..", ".com", "ex.com.", "ex..com", "-ex.com", "ex-.com", "ex.c-",
        "e x.com", "ex.com\nx", "a@ex.com", "ex.com/x", "10.0.0.1", "[10.0.0.1]", "ex.1", "ex.c",
        f"{'a' * 64}.com", LONG_DOMAIN, "ex.com:25", "*.com", "ex%2ecom", "e'x.com", "e\\x.com",
        "\u200dex.com", "ex。", "a\0.com",
    ],
)  # fmt: skip
def test_invalid_domains(text: str) -> None:
    for read in (addresses.domain_name, addresses.existing_domain):
        with pytest.raises(InvalidAddress):
            read(text)


def test_underscores_only_in_existing_domains() -> None:
    assert addresses.existing_domain("_dmarc.ex_ample.com") == "_dmarc.ex_ample.com"
    with pytest.raises(InvalidAddress):
        addresses.domain_name("ex_ample.com")


def test_parts() -> None:
    assert addresses.domain_of("a@b@c.com") == "c.com"
    assert addresses.local_part_of("a@b@c.com") == "a@b"
    assert addresses.unique(["b", "a", "b"]) == ("b", "a")


@given(st.text(max_size=80))
def test_parsed_addresses_have_safe_characters(text: str) -> None:
    """No character with a special meaning for Postfix or a database is accepted."""
    for read in (addresses.new_account, addresses.any_mail, addresses.existing_mail):
        try:
            mail = read(text)
        except InvalidAddress:
            continue
        assert mail.isascii()
        assert mail.isprintable()
        assert mail == mail.lower()
        assert " " not in mail
        assert mail.count("@") == 1
        assert len(mail) <= 254
        assert read(mail) == mail


@given(st.text(max_size=80))
def test_parsed_domains_have_safe_characters(text: str) -> None:
    for read in (addresses.domain_name, addresses.existing_domain):
        try:
            name = read(text)
        except InvalidAddress:
            continue
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_")
        assert all(0 < len(label) <= 63 for label in name.split("."))
        assert read(name) == name
