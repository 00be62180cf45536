"""Headers and the lists in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws.protocol._headers import (
    Headers,
    check_subprotocols,
    encode_headers,
    format_extensions,
    is_token,
    parse_extensions,
    parse_subprotocols,
    split_list,
)

TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcXYZ"
TOKENS = st.text(TOKEN_CHARACTERS, min_size=1, max_size=12)
EXTENSIONS = st.lists(
    st.tuples(TOKENS, st.lists(st.tuples(TOKENS, st.none() | TOKENS), max_size=4)), min_size=1, max_size=4
)


def test_headers_are_found_in_any_case_and_in_order() -> None:
    headers = Headers([(b"set-cookie", b"a"), (b"host", b"h\xff"), (b"set-cookie", b"b")])
    assert headers.get("Set-Cookie") == "a"
    assert headers.get_all("SET-COOKIE") == ["a", "b"]
    assert headers.get("Host") == "h\xff"
    assert headers.get("absent") is None
    assert headers.get("absent", "default") == "default"
    assert headers.get_all("__class__") == []
    assert headers.get("名") is None


@pytest.mark.parametrize("text", ["permessage-deflate", "__class__", "constructor", "!#$%&'*+-.^_`|~09azAZ"])
def test_token(text: str) -> None:
    assert is_token(text)


@pytest.mark.parametrize(
    "text", ["", " ", "a b", "a\n", "a,", 'a"', "a;", "a=", "é", "a/b", "a\x00", "(", "@", "٣"]
)
def test_not_a_token(text: str) -> None:
    assert not is_token(text)


@pytest.mark.parametrize(
    "given",
    [
        {"X-A": "é"},
        {b"X-A": b"\xe9"},
        {"X-A": b"\xe9"},
        [("X-A", "é")],
        [(b"X-A", b"\xe9")],
        [(b"X-A", " \té ")],
    ],
)
def test_encode_headers_takes_text_and_bytes_in_mappings_and_pairs(given: dict[str, str]) -> None:
    assert encode_headers(given) == [(b"X-A", b"\xe9")]


def test_encode_headers_keeps_order_and_repetition() -> None:
    pairs = [("Set-Cookie", "a"), ("X-Empty", ""), ("Set-Cookie", "b")]
    assert encode_headers(pairs) == [(b"Set-Cookie", b"a"), (b"X-Empty", b""), (b"Set-Cookie", b"b")]


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\n", "é", "a\x00", b"\xff", b"a\r"])
def test_names_that_cannot_be_sent(name: str | bytes) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a header"):
        encode_headers([(name, "v")])


@pytest.mark.parametrize("end", ["\r\nc", "\r", "\n", "\x00", "\x0b", "\x7f", "\x1f"])
def test_values_that_would_break_the_head(end: str) -> None:
    for value in ("hunter2" + end, b"hunter2" + end.encode()):
        with pytest.raises(
            ValueError, match="header Authorization must not contain control characters"
        ) as caught:
            encode_headers([("Authorization", value)])
        assert "hunter2" not in str(caught.value)


def test_values_beyond_latin_1() -> None:
    with pytest.raises(ValueError, match="header X-A must be latin-1"):
        encode_headers({"X-A": "名"})


def test_split_list() -> None:
    assert split_list([" a ,\tb,,", "c", "", ","]) == ["a", "b", "c"]


def test_subprotocols() -> None:
    assert parse_subprotocols([]) == []
    assert parse_subprotocols(["chat, superchat", "v1.x"]) == ["chat", "superchat", "v1.x"]
    assert parse_subprotocols([",a,,b,"]) == ["a", "b"]  # RFC 9110 5.6.1: empty elements do not count
    assert check_subprotocols(iter(["b", "a"])) == ("b", "a")


@pytest.mark.parametrize(
    "values", [[""], [","], ["a b"], ["a;b"], ["a", "a"], ["a,b,a"], ["é"], ["a\x00"], ['"a"']]
)
def test_bad_subprotocols(values: list[str]) -> None:
    with pytest.raises(ValueError, match="subprotocol"):
        parse_subprotocols(values)


EXTENSION_LISTS: list[tuple[str, list[tuple[str, list[tuple[str, str | None]]]]]] = [
    ("foo", [("foo", [])]),
    (" foo\t", [("foo", [])]),
    ("foo, bar,baz", [("foo", []), ("bar", []), ("baz", [])]),
    (",foo,,\t,bar,", [("foo", []), ("bar", [])]),
    ("foo,foo", [("foo", []), ("foo", [])]),
    ("foo;a;b=c ;\td=1, bar;e", [("foo", [("a", None), ("b", "c"), ("d", "1")]), ("bar", [("e", None)])]),
    ('foo; a="b"', [("foo", [("a", "b")])]),
    ('foo; a="b\\c"', [("foo", [("a", "bc")])]),
    ("foo; a; a=1", [("foo", [("a", None), ("a", "1")])]),
    ("__class__; constructor", [("__class__", [("constructor", None)])]),
]


@pytest.mark.parametrize(("value", "expected"), EXTENSION_LISTS)
def test_parse_extensions(value: str, expected: list[tuple[str, list[tuple[str, str | None]]]]) -> None:
    assert parse_extensions(value) == expected


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("", "names no extension"),
        (" ,\t,", "names no extension"),
        ("foo bar", "'b' at position 4"),
        ("foo;", "';' at position 3"),
        ("foo;,bar", "';' at position 3"),
        ("foo; a=", "'=' at position 6"),
        ("foo; a =b", "'=' at position 7"),
        ("foo; a= b", "'=' at position 6"),
        ("foo; a=b=c", "'=' at position 8"),
        ("=foo", "'=' at position 0"),
        ("foo; =a", "';' at position 3"),
        ("foé", "'é' at position 2"),
        ("foo\x00", r"'\\x00' at position 3"),
        ('"foo"', "'\"' at position 0"),
        ('foo; a="b', "'=' at position 6"),
        ('foo; a="b\\"', "'=' at position 6"),
        ('foo; a=""', "value at position 8 is not a token"),
        ('foo; a="b c"', "value at position 8 is not a token"),
        ('foo; a="b,c"', "value at position 8 is not a token"),
        ('foo; a="b"c', "'c' at position 10"),
    ],
)
def test_extensions_that_cannot_be_parsed(value: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_extensions(value)


@given(EXTENSIONS)
def test_extensions_survive_the_header(extensions: list[tuple[str, list[tuple[str, str | None]]]]) -> None:
    assert parse_extensions(format_extensions(extensions)) == extensions


@given(st.text(alphabet=st.sampled_from('ab,;= \t"\\\x00é'), max_size=30))
def test_any_text_is_a_list_or_a_value_error(value: str) -> None:
    try:
        extensions = parse_extensions(value)
    except ValueError:
        return
    assert parse_extensions(format_extensions(extensions)) == extensions


@pytest.mark.parametrize(
    "value",
    [
        "a" + " " * 800_000 + "b",
        "a" + "; " * 400_000,
        'a; b="' + "\\" * 800_000,
        'a; b="' + "\\a" * 400_000 + "é",
        "a," * 400_000 + ";",
        "a;b=" * 200_000,
        "," * 800_000 + ";",
    ],
    ids=lambda value: value[:8],
)
def test_no_value_takes_more_than_linear_time(value: str) -> None:
    """A step back at every position would be some hundred billion of them, and never come to an end."""
    with pytest.raises(ValueError, match="position"):
        parse_extensions(value)
