"""Whatever a `Cookie` or `Set-Cookie` header holds, it is read into names and values of which none takes in another's.

What `set_cookie` takes comes back as it was, in one line and as one cookie; all else is a `ValueError`.

The first bytes choose the attributes of the cookie to set; the rest are the values of headers, one a line.
"""

from __future__ import annotations

import re

from tests.fuzz.fuzz_kit import Choices
from trio_ws.protocol import set_cookie
from trio_ws.protocol._cookies import MAX_COOKIES, parse_cookies, parse_set_cookies

CHOICES = 4
#: What would end a header, or be another attribute.
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
#: RFC 6265 5.2, as a pattern: spaces and tabs around a name and a value are no part of them, and nothing else is space.
_PAIR = re.compile(r"(?:\A|;)[ \t]*([^;=]*?)[ \t]*=[ \t]*([^;]*?)[ \t]*(?=;|\Z)")


def check(data: bytes) -> None:
    choices = Choices(data, CHOICES)
    lines = choices.rest.decode("latin-1").split("\n")
    _reads(lines)
    _writes(choices, lines)


def _reads(lines: list[str]) -> None:
    found = parse_cookies(lines)
    assert len(found) <= MAX_COOKIES
    for name, value in found.items():
        assert name
        assert not {";", "="} & {*name}
        assert ";" not in value
        assert any(name in line and value in line for line in lines)
    if len(";".join(lines).split(";")) <= MAX_COOKIES:
        pairs = [(name, value) for line in lines for name, value in _PAIR.findall(line) if name]
        assert found == dict(reversed(pairs))
    again = parse_cookies([f"{name}={value}" for name, value in found.items()])
    assert again == found
    # one line more says no less, whatever stands before it and however it ends
    if len(";".join(lines).split(";")) < MAX_COOKIES and "fresh" not in found:
        assert parse_cookies([*lines, "fresh=1"]) == found | {"fresh": "1"}
        assert parse_cookies(["fresh=1", *lines]) == {"fresh": "1"} | found
    for name, value in parse_set_cookies(lines).items():
        assert name
        assert ";" not in name + value


def _writes(choices: Choices, lines: list[str]) -> None:
    name, value, path, domain = (lines + [""] * 4)[:4]
    secure, http_only = choices.flags(2)
    try:
        header, octets = set_cookie(
            name,
            value,
            max_age=choices.one_of(None, 0, 3600, -1),
            path=path or None,
            domain=domain or None,
            secure=secure,
            http_only=http_only,
            same_site=choices.one_of("lax", "strict", "none", None),
        )
    except ValueError:
        return
    assert header == b"set-cookie"
    assert not _CONTROL.search(octets)
    text = octets.decode("ascii")
    assert parse_set_cookies([text]) == {name: value}
    assert parse_cookies([f"{name}={value}"]) == {name: value}
    attributes = [part.partition("=")[0] for part in text.split("; ")[1:]]
    assert len(attributes) == len({*attributes})
    assert {*attributes} <= {"Max-Age", "Path", "Domain", "Secure", "HttpOnly", "SameSite"}
    assert ("Path" in attributes) is bool(path)
    assert ("Domain" in attributes) is bool(domain)
    assert ("Secure" in attributes) is secure
    assert ("HttpOnly" in attributes) is http_only


def seeds() -> dict[str, bytes]:
    texts = {
        "one": "a=b",
        "some": "session=31d4d96e407aad42; lang=en-US",
        "two_lines": "a=b; c=d\ne=f",
        "same_name": "a=1; a=2",
        "quotes": 'a="b; c=d"; e=f',
        "open_quote": 'a="b; c=d',
        "no_name": "=b; c",
        "no_value": "a=; b=",
        "equals": "a=b=c",
        "spaces": " a = b ;\tc\t=\td",
        "no_break_space": "a\xa0=b; \x85c=d",
        "commas": "a=b, c=d",
        "dollar": "$Version=1; a=b; $Path=/",
        "semicolons": ";" * 300,
        "many": "; ".join(f"c{number}={number}" for number in range(300)),
        "set": "a=b; Path=/; Max-Age=5; Secure",
        "to_set": "name\nvalue\n/path\nexample.org",
        "to_set_host": "__Host-id\nvalue\n/",
        "to_set_secure": "__Secure-id\nvalue",
        "to_set_injection": "name\nvalue\n/; Domain=evil.example",
        "to_set_comma": "name\na,b",
        "to_set_wrong": "na me\nvalue\nno/slash\n-a.b",
        "to_set_latin_1": "name\n\xe4",
    }
    found = {name: bytes([3, 1, 0, 0]) + text.encode("latin-1") for name, text in texts.items()}
    found["to_set_insecure"] = bytes([0, 0, 2, 0]) + b"name\nvalue\n/"
    found["to_set_negative"] = bytes([1, 3, 3, 0]) + b"name\nvalue"
    return found
