"""Cookies: what is read from a request and an answer, whatever came, and what may be set."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws.protocol import Headers, Request, Response, encode_headers, set_cookie
from trio_ws.protocol._cookies import MAX_COOKIES

DEFAULTS = b"; Path=/; Secure; HttpOnly; SameSite=Lax"


def cookies(*values: str | bytes) -> dict[str, str]:
    """Return the cookies of a request with these `Cookie` headers."""
    raw = [value if isinstance(value, bytes) else value.encode() for value in values]
    return Request("GET", "/", Headers((b"cookie", value) for value in raw)).cookies


# Reading


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a=b", {"a": "b"}),
        ("a=b; c=d", {"a": "b", "c": "d"}),
        ("a=b;c=d", {"a": "b", "c": "d"}),
        (" a = b \t;\tc=d", {"a": "b", "c": "d"}),
        ("a=b=c==", {"a": "b=c=="}),
        ("a=", {"a": ""}),
        ("", {}),
        (";;; ;", {}),
        # the first is the one with the longest path
        ("a=near; a=far", {"a": "near"}),
        # what is broken loses itself alone
        ("no pair; a=b", {"a": "b"}),
        ("=nameless; a=b", {"a": "b"}),
        ('a="; b=c', {"a": '"', "b": "c"}),
        ("a\\=\x01; b=c", {"a\\": "\x01", "b": "c"}),
        # nothing is undone: one cookie never swallows the next
        (
            '$Version=1; a="x; session=secret; b=y"',
            {"$Version": "1", "a": '"x', "session": "secret", "b": 'y"'},
        ),
        ('a="\\073"', {"a": '"\\073"'}),
        ("a=%20", {"a": "%20"}),
        ("a=b, c=d", {"a": "b, c=d"}),
        # names are as they are
        ("A=1; a=2", {"A": "1", "a": "2"}),
        ("user[name]=x", {"user[name]": "x"}),
    ],
)
def test_reading(value: str, expected: dict[str, str]) -> None:
    assert cookies(value) == expected


def test_several_headers_are_one_list() -> None:
    assert cookies("a=1; b=2", "a=3; c=4") == {"a": "1", "b": "2", "c": "4"}
    assert cookies() == {}


@pytest.mark.parametrize("space", [b"\xa0", b"\x85", b"\x0b", b"\x1c"])
def test_only_spaces_and_tabs_are_no_part_of_a_name(space: bytes) -> None:
    assert "__Host-session" not in cookies(space + b"__Host-session=forged")


def test_there_is_an_end_to_reading() -> None:
    many = [f"c{i}=v" for i in range(MAX_COOKIES + 10)]
    assert len(cookies("; ".join(many))) == MAX_COOKIES
    assert cookies("; ".join(["a=b", *many]))["a"] == "b"


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_whatever_comes_something_is_read(values: list[bytes]) -> None:
    for name, value in cookies(*values).items():
        assert name == name.strip(" \t")
        assert ";" not in name + value
        assert name


def test_cookies_of_an_answer() -> None:
    headers = Headers(
        [
            (b"set-cookie", b"a=1; Path=/; HttpOnly"),
            (b"x-other", b"b=2"),
            (b"set-cookie", b"c=3"),
            (b"set-cookie", b"nothing; a=b"),
            (b"set-cookie", b"a=4; Secure"),
        ]
    )
    assert Response(101, headers).cookies == {"a": "4", "c": "3"}


# Setting


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, DEFAULTS),
        ({"max_age": 60}, b"; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ({"max_age": 0}, b"; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ({"path": "/a b"}, b"; Path=/a b; Secure; HttpOnly; SameSite=Lax"),
        ({"path": None, "secure": False, "http_only": False, "same_site": None}, b""),
        ({"domain": "a-b.example"}, b"; Path=/; Domain=a-b.example; Secure; HttpOnly; SameSite=Lax"),
        ({"same_site": "strict"}, b"; Path=/; Secure; HttpOnly; SameSite=Strict"),
        ({"same_site": "none"}, b"; Path=/; Secure; HttpOnly; SameSite=None"),
    ],
)
def test_setting(options: dict[str, Any], expected: bytes) -> None:
    assert set_cookie("name", "value", **options) == (b"set-cookie", b"name=value" + expected)


def test_what_is_set_can_be_sent_and_comes_back() -> None:
    value = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '",;\\')
    name, line = set_cookie("!#$%&'*+-.^_`|~0Az", value)
    assert encode_headers([(name, line)]) == [(name, line)]
    answer = Response(200, Headers([(name, line)]))
    (pair,) = answer.cookies.items()
    assert cookies("=".join(pair)) == answer.cookies == {"!#$%&'*+-.^_`|~0Az": value}


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a;b", "a\r\nb", "ä", '"a"'])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a cookie"):
        set_cookie(name, "value")


@pytest.mark.parametrize(
    "value", ["a b", "a;b", "a,b", 'a"b', "a\\b", "a\r\nSet-Cookie: b=c", "a\n", "\0", "ä", "\x7f"]
)
def test_values_that_cannot_be_are_not_repeated(value: str) -> None:
    with pytest.raises(ValueError, match=r"^the value of the cookie name has characters") as error:
        set_cookie("name", value)
    assert value not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "a"}, "path begins"),
        ({"path": "/a;b"}, "path begins"),
        ({"path": "/a\r\nb"}, "path begins"),
        ({"path": "/\n"}, "path begins"),
        ({"path": ""}, "path begins"),
        ({"domain": "a;b"}, "domain is"),
        ({"domain": ".a"}, "domain is"),
        ({"domain": "a\n"}, "domain is"),
        ({"domain": ""}, "domain is"),
        ({"max_age": -1}, "max_age is"),
        ({"same_site": "Loose"}, "same_site is"),
        ({"same_site": "none", "secure": False}, "unless it is secure"),
        ({"value": "v" * 4096}, "longer than 4096"),
        ({"name": "__Secure-a", "secure": False}, "promises secure"),
        ({"name": "__Host-a", "secure": False}, "promises secure"),
        ({"name": "__host-a", "domain": "a.example"}, "no domain"),
        ({"name": "__Host-a", "path": "/b"}, "the path /"),
    ],
)
def test_what_browsers_would_drop(options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"name": "name", "value": "value", **options}
    with pytest.raises(ValueError, match=re.escape(message)):
        set_cookie(**arguments)


def test_names_that_keep_what_they_promise() -> None:
    assert set_cookie("__Host-a", "b")[1] == b"__Host-a=b" + DEFAULTS
    assert set_cookie("__Secure-a", "b", path="/c", domain="d.example")[1].startswith(
        b"__Secure-a=b; Path=/c; Domain"
    )
