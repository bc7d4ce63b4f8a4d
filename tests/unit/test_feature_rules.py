"""Rules that depend on features of a storage: services, telephone numbers, lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iredapi.domain import aliases, canonical, domains, maillists, phones, services, users
from iredapi.domain.domains import Domain
from iredapi.domain.features import LDAP, SQL, Feature
from iredapi.domain.maillists import MailList
from iredapi.domain.users import User
from iredapi.errors import ApiError, InvalidParameters, NotSupported

_OTHERS = ("domainadmin", "smtptls", "vpn", "sieve", "lmtp", "unknown")
_NAMES = st.lists(
    st.sampled_from(
        sorted({*services.COLUMNS, *services.CONDITIONS, *services.INTERNAL} | set(_OTHERS))
    ),
    max_size=6,
).map(tuple)
EX = Domain("ex.com", alias_domains=frozenset({"al.com"}))


@given(_NAMES, _NAMES, _NAMES)
def test_sql_ignores_unknown_services(
    reset: tuple[str, ...], add: tuple[str, ...], gone: tuple[str, ...]
) -> None:
    before = User("u@ex.com")
    for changes in ({"services": reset}, {"add_service": add, "remove_service": gone}):
        after = users.revise(before, changes, EX, features=SQL)
        assert after.custom_services == frozenset()
        assert after.services <= services.MANAGED


@given(_NAMES, _NAMES, _NAMES)
def test_services_of_sql_have_the_same_effect_in_ldap(
    reset: tuple[str, ...], add: tuple[str, ...], gone: tuple[str, ...]
) -> None:
    """Services with columns in SQL change the same words in LDAP."""
    before = User("u@ex.com", custom_services=services.LDAP_DEFAULT)
    known = {
        "services": tuple(name for name in reset if name in services.COLUMNS),
        "add_service": tuple(name for name in add if name in services.COLUMNS),
        "remove_service": tuple(name for name in gone if name in services.COLUMNS),
    }
    for params in (("services",), ("add_service", "remove_service")):
        changes = {name: known[name] for name in params}
        on_sql = users.revise(before, changes, EX, features=SQL)
        on_ldap = users.revise(before, changes, EX, features=LDAP)
        assert on_ldap.services == on_sql.services
        assert on_ldap.custom_services >= services.CONDITIONS


@given(_NAMES, _NAMES)
def test_admin_and_internal_services_cannot_be_set(
    present: tuple[str, ...], names: tuple[str, ...]
) -> None:
    _, words = services.split_names(present)
    for changes in ({"services": names}, {"add_service": names}, {"remove_service": names}):
        columns, custom = services.revised(services.MANAGED, words, changes)
        assert not (columns | custom) & (services.INTERNAL | {"domainadmin"})
        assert columns <= services.MANAGED
        assert not custom & services.MANAGED


def test_resets_of_a_domain() -> None:
    before = Domain("ex.com", settings={"enabled_services": "mail,senderbcc"})
    rules = domains.Rules()
    for features, words in ((SQL, None), (LDAP, "mail,senderbcc")):
        after = domains.revise(before, {"services": ()}, rules, features)
        assert after.settings.get("enabled_services") == words
    more = {"add_service": ("domainalias", "vpn"), "remove_service": ("mail",)}
    assert domains.revise(before, more, rules, LDAP).settings == {
        "enabled_services": "domainalias,senderbcc"
    }
    # In SQL other stored services are kept.
    assert domains.revise(before, more, rules, SQL).settings == {"enabled_services": "senderbcc"}


@pytest.mark.parametrize(
    "text,numbers",
    [
        ("", ()),
        (" , -,", ()),
        ("2,1", ("1", "2")),
        ("1 2,12,1-2", ("1 2",)),
        ("EXT 5,ext5", ("EXT 5",)),
        ("+49 30 1, +49-30-1,+49301", ("+49 30 1",)),
    ],
)
def test_numbers(text: str, numbers: tuple[str, ...]) -> None:
    assert phones.numbers(text) == numbers


@given(st.lists(st.sampled_from(["1 2", "12", "1-2", "x", "X", "-", "", "+1"]), max_size=6))
def test_numbers_do_not_depend_on_the_order(items: list[str]) -> None:
    found = phones.numbers(",".join(items))
    assert phones.numbers(",".join(reversed(items))) == found
    assert phones.numbers(",".join(found)) == found


@pytest.mark.parametrize("text", ["#1", "1_2", "é", "1;2", "1\t2"])
def test_only_ldap_limits_characters_of_numbers(text: str) -> None:
    before = User("u@ex.com")
    assert users.revise(before, {"mobile": text}, EX, features=SQL).mobile == text
    with pytest.raises(ApiError, match="INVALID_TEXT"):
        users.revise(before, {"mobile": text}, EX, features=LDAP)


def test_policies_of_aliases() -> None:
    aliases.check({"access_policy": "public"}, SQL)
    aliases.check({"name": "N"}, LDAP)
    aliases.check({"access_policy": "public"}, LDAP)
    aliases.check({"access_policy": ""}, LDAP)
    with pytest.raises(NotSupported):
        aliases.check({"access_policy": "domain"}, LDAP)
    with pytest.raises(InvalidParameters, match="EMPTY_NOT_ALLOWED"):
        aliases.check({"access_policy": ""}, SQL)


def test_feature_values_are_distinct() -> None:
    assert set(Feature) == LDAP | SQL
    assert not LDAP & SQL


def test_lists() -> None:
    made = maillists.draft(
        "l@ex.com",
        {"members": ("u@ex.com", "l@ex.com", "l+x@al.com", "x@far.org", "u@al.com")},
        EX,
    )
    assert made.members == {"u@ex.com", "x@far.org", "u@al.com"}
    assert made.internal == {"u@ex.com"}
    changed = maillists.revise(
        made, {"access_policy": "domain", "remove_member": ("x@far.org",)}, EX
    )
    assert changed.access_policy == "domain"
    assert changed.external == {"u@al.com"}
    assert canonical.maillist(MailList("l@ex.com", active=False))["accountStatus"] == "disabled"


@pytest.mark.parametrize(
    "stored,read",
    [
        ("", "public"),
        ("MembersOnly", "membersonly"),
        ("allowedOnly", "moderatorsonly"),
        ("nonsense", "public"),
    ],
)
def test_stored_policies(stored: str, read: str) -> None:
    assert maillists.policy(stored) == read
