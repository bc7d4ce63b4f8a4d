"""The ``settings`` columns: tolerant parsing, and unknown keys are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iredapi.domain import account_settings
from iredapi.domain.account_settings import number, parse, render, to_response, with_value, words

KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
VALUES = st.text(
    st.characters(codec="utf-8", exclude_characters=":;\r\n\0"),
    min_size=1,
    max_size=30,
).map(str.strip).filter(bool)  # fmt: skip


@pytest.mark.parametrize(
    "text,found",
    [
        (None, {}),
        ("", {}),
        (";;", {}),
        ("default_user_quota:1024;", {"default_user_quota": "1024"}),
        ("a:1;b:x,y;", {"a": "1", "b": "x,y"}),
        ("a:1;b:2", {"a": "1", "b": "2"}),
        (" a : 1 ; b:2; ", {"a": "1", "b": "2"}),
        ("timezone:GMT+08:00;a:1;", {"timezone": "GMT+08:00", "a": "1"}),
        ("flag;a:1;", {"flag": None, "a": "1"}),
        (":lost;a:1;", {"a": "1"}),
        ("a:;b:1;", {"a": "", "b": "1"}),
        ("a:1;a:2;", {"a": "2"}),
        ("a:1;\nb:2;\n", {"a": "1", "b": "2"}),
    ],
)
def test_parse(text: str | None, found: dict[str, str | None]) -> None:
    assert parse(text) == found


@pytest.mark.parametrize(
    "text", ["a:1;b:x,y;", "timezone:GMT+08:00;a:1;", "flag;a:1;", "a:;b:1;", ""]
)
def test_unchanged_settings_are_rendered_as_stored(text: str) -> None:
    assert render(parse(text)) == text


def test_unknown_keys_survive_a_change() -> None:
    text = "of_the_future:x:y;flag;default_user_quota:5;b:1;"
    changed = with_value(parse(text), "default_user_quota", 7)
    assert render(changed) == "of_the_future:x:y;flag;default_user_quota:7;b:1;"
    assert render(with_value(changed, "default_user_quota", 0)) == "of_the_future:x:y;flag;b:1;"
    assert render(with_value(changed, "new", ["b", "a"])).endswith("b:1;new:a,b;")


@pytest.mark.parametrize("value", [0, "", [], frozenset()])
def test_empty_values_are_not_stored(value: int | str | list[str]) -> None:
    assert render(with_value(parse("a:1;b:2;"), "a", value)) == "b:2;"
    assert render(with_value({}, "a", value)) == ""


def test_minus_one_is_stored() -> None:
    assert render(with_value({}, "create_max_users", -1)) == "create_max_users:-1;"


@pytest.mark.parametrize("mark", [":", ";", "\n", "\r", "\0"])
def test_items_with_separators_are_dropped(mark: str) -> None:
    assert render(with_value({}, "a", ["x", f"y{mark}z"])) == "a:x;"
    assert render(with_value(parse("a:x;"), "a", [f"y{mark}z"])) == ""


@pytest.mark.parametrize(
    "text,value",
    [
        ("n:5;", 5), ("n:-1;", -1), ("n:0;", 0), ("", 0), ("n;", 0), ("n:;", 0), ("n:x;", 0),
        ("n:5x;", 0), ("n:1.5;", 0), ("n:--5;", 0), ("n:-;", 0), ("n:²;", 0), ("n:٣;", 0),
        ("n: 7 ;", 7), ("n:99999999999999999999;", 0), ("n:5:6;", 0),
    ],
)  # fmt: skip
def test_numbers(text: str, value: int) -> None:
    assert number(parse(text), "n") == value


def test_lists() -> None:
    assert words(parse("l:B, a,,b,;"), "l") == {"a", "b"}
    assert words(parse("l;"), "l") == words({}, "l") == set()


def test_to_response() -> None:
    text = "disabled_user_profiles:relay,bcc;max_user_quota:7;timezone:GMT+08:00;flag;x:1,2;"
    assert to_response(parse(text)) == {
        "disabled_user_profiles": ["bcc", "relay"],
        "max_user_quota": 7,
        "timezone": "GMT+08:00",
        "flag": "",
        "x": "1,2",
    }
    assert to_response(parse("max_user_quota:nonsense;")) == {"max_user_quota": 0}


@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_round_trip(settings: dict[str, str]) -> None:
    text = render(settings)
    assert parse(text) == settings
    assert render(parse(text)) == text


@given(st.text(max_size=100))
def test_any_text_can_be_read(text: str) -> None:
    once = parse(text)
    assert parse(render(once)) == once
    to_response(once)
    for key in once:
        number(once, key)
        words(once, key)


@given(st.dictionaries(KEYS, VALUES, max_size=8), KEYS, st.integers(-1, 10**9))
def test_a_change_touches_one_key(settings: dict[str, str], key: str, value: int) -> None:
    changed = dict(with_value(settings, key, value))
    assert number(changed, key) == value
    changed.pop(key, None)
    assert changed == {name: text for name, text in settings.items() if name != key}
    assert list(changed) == [name for name in settings if name != key]


def test_known_keys_do_not_overlap() -> None:
    assert not account_settings.LISTS & account_settings.NUMBERS
