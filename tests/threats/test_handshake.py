"""Requests for a WebSocket that a server must not accept, and odd ones that it may, seen from outside on a real port."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

from tests.threats.answers_kit import MARK, acceptance, handshake_with, refusal, request_with, with_value
from tests.threats.threat_kit import Victim
from trio_ws.testing import handshake_request

Name = TypeVar("Name", bound=Hashable)

SAMPLE_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3
VERSION = "Sec-WebSocket-Version"

HEADERS = {
    "Host": b"localhost",
    "Upgrade": b"websocket",
    "Connection": b"Upgrade",
    "Sec-WebSocket-Key": SAMPLE_KEY.encode(),
    VERSION: b"13",
    "Origin": b"http://localhost",
    "Sec-WebSocket-Protocol": b"chat",
    "Sec-WebSocket-Extensions": b"foo",
    "Cookie": b"a=b",
    "X-Name": b"a",
}
# Where each of these stands for one byte, in the middle of a value that is right but for it.
BREAKS_HTTP = {
    "NUL": b"\x00",
    "bare CR": b"\r",
    "vertical tab": b"\x0b",
    "form feed": b"\x0c",
    "folded by a space": b"\r\n ",
    "folded by a tab": b"\r\n\t",
    "a line of its own": b"\r\nnonsense\r\nX: ",
    "LF and nonsense": b"\nnonsense",
}
ODD_BYTES = {"FF": b"\xff", "escape": b"\x1b", "01": b"\x01", "DEL": b"\x7f", "C1": b"\x85", "NBSP": b"\xa0"}
# RFC 9110 5.5 lets a recipient keep the other control characters, and what is no ASCII, where no meaning hangs on them.
FREE = {"Cookie", "X-Name"}


async def statuses(victim: Victim, requests: Mapping[Name, bytes]) -> dict[Name, int]:
    """Return the statuses of the answers to some requests, each on a connection of its own."""
    return {name: (await refusal(victim, data)).status for name, data in requests.items()}


def broken(name: str, by: bytes) -> bytes:
    value = HEADERS[name]
    return with_value(name, value[: len(value) // 2] + by + value[len(value) // 2 :])


async def test_what_could_end_a_header_elsewhere_is_refused_in_every_header(target: Victim) -> None:
    requests = {f"{how} in {name}": broken(name, by) for name in HEADERS for how, by in BREAKS_HTTP.items()}
    assert await statuses(target, requests) == dict.fromkeys(requests, 400)


async def test_any_byte_in_any_header_is_answered(target: Victim) -> None:
    named = {(name, how): broken(name, by) for name in HEADERS for how, by in ODD_BYTES.items()}
    for name, how in list(named):
        if name in FREE:
            await acceptance(target, named.pop((name, how)))
    special = {"Upgrade": 426, "Connection": 426, VERSION: 426, "Origin": 403}
    assert await statuses(target, named) == {key: special.get(key[0], 400) for key in named}


NAMES = {
    "space before the colon": b"X-Name : a",
    "tab before the colon": b"X-Name\t: a",
    "space before the name": b" X-Name: a",
    "no name": b": a",
    "no colon": b"X-Name",
    "NUL": b"X\x00Name: a",
    "FF": b"X\xffName: a",
    "bare CR": b"X\rName: a",
    "space": b"X Name: a",
    "control character": b"X\x01Name: a",
    "CR alone on a line": b"\r",
    "quotes": b'"X": a',
    "a second request": b"GET /" + MARK.encode() + b" HTTP/1.1",
}


async def test_names_of_headers_that_others_may_read_otherwise_are_refused(target: Victim) -> None:
    requests = {name: request_with(line) for name, line in NAMES.items()}
    assert await statuses(target, requests) == dict.fromkeys(requests, 400)


STARTS = {
    "FF in the target": (b"GET /\xff HTTP/1.1", 400),
    "NUL in the target": (b"GET /\x00 HTTP/1.1", 400),
    "CR in the target": (b"GET /\r HTTP/1.1", 400),
    "escape in the target": (b"GET /\x1b HTTP/1.1", 400),
    "space in the target": (b"GET /a b HTTP/1.1", 400),
    "no target": (b"GET HTTP/1.1", 400),
    "empty target": (b"GET  HTTP/1.1", 400),
    "target of 8 KiB": (b"GET /" + b"a" * 8192 + b" HTTP/1.1", 414),
    "fragment": (b"GET /a#b HTTP/1.1", 400),
    "asterisk": (b"GET * HTTP/1.1", 400),
    "authority": (b"GET localhost:80 HTTP/1.1", 400),
    "no slash": (b"GET a HTTP/1.1", 400),
    "absolute without a host": (b"GET http:///a HTTP/1.1", 400),
    "FF in the method": (b"G\xffT / HTTP/1.1", 400),
    "NUL in the method": (b"G\x00T / HTTP/1.1", 400),
    "no method": (b" / HTTP/1.1", 400),
    "tabs": (b"GET\t/\tHTTP/1.1", 400),
    "FF in the version": (b"GET / HTTP/1.\xff", 400),
    "more behind the version": (b"GET / HTTP/1.1 a", 400),
    "space behind the version": (b"GET / HTTP/1.1 ", 400),
    "version in lower case": (b"GET / http/1.1", 400),
    "long version": (b"GET / HTTP/1.10", 400),
    "no minor version": (b"GET / HTTP/1", 400),
    "no version": (b"GET /", 400),
    "other protocol": (b"GET / SIP/2.0", 400),
    "HTTP/1.0": (b"GET / HTTP/1.0", 426),
    "HTTP/0.9": (b"GET / HTTP/0.9", 426),
    "HTTP/2.0": (b"GET / HTTP/2.0", 505),
    "HTTP/3.0": (b"GET / HTTP/3.0", 505),
    "POST": (b"POST / HTTP/1.1", 405),
    "PUT": (b"PUT / HTTP/1.1", 405),
    "DELETE": (b"DELETE / HTTP/1.1", 405),
    "PATCH": (b"PATCH / HTTP/1.1", 405),
    "TRACE": (b"TRACE / HTTP/1.1", 405),
    "OPTIONS": (b"OPTIONS * HTTP/1.1", 405),
    "CONNECT": (b"CONNECT localhost:80 HTTP/1.1", 405),
    "lower case": (b"get / HTTP/1.1", 405),
    "unknown method": (MARK.upper().encode() + b" / HTTP/1.1", 405),
}


async def test_a_request_line_that_asks_for_something_else_is_refused(target: Victim) -> None:
    answers = {name: await refusal(target, request_with(start=start)) for name, (start, _) in STARTS.items()}
    assert {name: each.status for name, each in answers.items()} == {
        name: status for name, (_, status) in STARTS.items()
    }
    for answer in answers.values():
        assert answer.headers.get("allow") == ("GET" if answer.status == 405 else None)


async def test_the_answer_to_a_head_request_has_no_body(target: Victim) -> None:
    answer = await refusal(target, request_with(start=b"HEAD / HTTP/1.1"), method="HEAD")
    assert (answer.status, answer.body) == (405, b"")


FIELDS: dict[str, tuple[str, str | list[str] | None, int]] = {
    "no Host": ("Host", None, 400),
    "two Hosts": ("Host", ["localhost", "localhost"], 400),
    "two other Hosts": ("Host", ["localhost", "evil.example"], 400),
    "two hosts in one": ("Host", "localhost, evil.example", 400),
    "empty Host": ("Host", "", 400),
    "path in Host": ("Host", "localhost/a", 400),
    "user in Host": ("Host", "evil@localhost", 400),
    "scheme in Host": ("Host", "http://localhost", 400),
    "space in Host": ("Host", "local host", 400),
    "text in port": ("Host", "localhost:http", 400),
    "negative port": ("Host", "localhost:-1", 400),
    "long port": ("Host", "localhost:123456", 400),
    "open bracket": ("Host", "[::1", 400),
    "bad IDNA": ("Host", "xn--\xff.example", 400),
    "dots and a slash": ("Host", "../../etc", 400),
    "no Upgrade": ("Upgrade", None, 426),
    "empty Upgrade": ("Upgrade", "", 426),
    "h2c": ("Upgrade", "h2c", 426),
    "TLS": ("Upgrade", "TLS/1.0", 426),
    "websocket with a version": ("Upgrade", "websocket/13", 426),
    "longer": ("Upgrade", "websockets", 426),
    "shorter": ("Upgrade", "web", 426),
    "two words": ("Upgrade", "websocket h2c", 426),
    "quoted": ("Upgrade", '"websocket"', 426),
    "no Connection": ("Connection", None, 426),
    "empty Connection": ("Connection", "", 426),
    "keep-alive": ("Connection", "keep-alive", 426),
    "close": ("Connection", "close", 426),
    "longer Connection": ("Connection", "upgraded", 426),
    "quoted Connection": ("Connection", '"upgrade"', 426),
    "the other token": ("Connection", "websocket", 426),
    "no key": ("Sec-WebSocket-Key", None, 400),
    "empty key": ("Sec-WebSocket-Key", "", 400),
    "15 bytes": ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j", 400),
    "17 bytes": ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZTE=", 400),
    "4 KiB of key": ("Sec-WebSocket-Key", "A" * 4096 + "==", 400),
    "no base64": ("Sec-WebSocket-Key", "!!!!!!!!!!!!!!!!!!!!!!==", 400),
    "base64 for URLs": ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j_-==", 400),
    "no padding": ("Sec-WebSocket-Key", SAMPLE_KEY.rstrip("="), 400),
    "two keys": ("Sec-WebSocket-Key", [SAMPLE_KEY, SAMPLE_KEY], 400),
    "two other keys": ("Sec-WebSocket-Key", [SAMPLE_KEY, "AQIDBAUGBwgJCgsMDQ4PEC=="], 400),
    "keys in a list": ("Sec-WebSocket-Key", f"{SAMPLE_KEY}, {SAMPLE_KEY}", 400),
    "no version": (VERSION, None, 426),
    "version 0": (VERSION, "0", 426),
    "version 7": (VERSION, "7", 426),
    "version 12": (VERSION, "12", 426),
    "version 14": (VERSION, "14", 426),
    "version 013": (VERSION, "013", 426),
    "version +13": (VERSION, "+13", 426),
    "version -13": (VERSION, "-13", 426),
    "version 13.0": (VERSION, "13.0", 426),
    "version 1 3": (VERSION, "1 3", 426),
    "other digits": (VERSION, "\xb9\xb3", 426),
    "versions in a list": (VERSION, "13, 8", 426),
    "two versions": (VERSION, ["13", "8"], 426),
    "the version twice": (VERSION, ["13", "13"], 426),
    "version of 4000 digits": (VERSION, "9" * 4000, 426),
    "subprotocol twice": ("Sec-WebSocket-Protocol", "a, a", 400),
    "no subprotocol": ("Sec-WebSocket-Protocol", ",", 400),
    "space in a subprotocol": ("Sec-WebSocket-Protocol", "a b", 400),
    "malformed extension": ("Sec-WebSocket-Extensions", "a; b=;c", 400),
    "open quotes": ("Sec-WebSocket-Extensions", 'a; b="c', 400),
    "no extension": ("Sec-WebSocket-Extensions", "", 400),
}


async def test_a_header_that_is_missing_doubled_or_wrong_is_refused(target: Victim) -> None:
    answers = {
        case: await refusal(target, handshake_with({name: value}))
        for case, (name, value, _) in FIELDS.items()
    }
    assert {case: each.status for case, each in answers.items()} == {
        case: status for case, (_, _, status) in FIELDS.items()
    }
    for case, answer in answers.items():
        upgrade = answer.status == 426
        assert answer.headers.get("upgrade") == ("websocket" if upgrade else None)
        assert answer.headers["connection"] == ("close, Upgrade" if upgrade else "close")
        told = answer.headers.get("sec-websocket-version")
        assert told == ("13, 8" if FIELDS[case][0] == VERSION else None)


ORIGINS = {
    "other host": "http://evil.example",
    "host at the front": "http://localhost.evil.example",
    "host at the end": "http://evillocalhost",
    "subdomain": "http://evil.localhost",
    "null": "null",
    "other port": "http://localhost:8080",
    "port of the other scheme": "http://localhost:443",
    "user": "http://localhost@evil.example",
    "user is the host": "http://evil.example@localhost",
    "path": "http://localhost/",
    "fragment": "http://evil.example#localhost",
    "backslash": "http://localhost\\.evil.example",
    "other scheme": "file://localhost",
    "extension": "chrome-extension://localhost",
    "no scheme": "localhost",
    "two in one": "http://localhost, http://evil.example",
    "two in one with a space": "http://localhost http://evil.example",
    "wildcard": "*",
    "empty": "",
    "junk": "://" + MARK,
    "trailing dot": "http://localhost.",
    "long port": "http://localhost:000000000080",
}


async def test_a_page_of_another_origin_may_not_connect_by_default(target: Victim) -> None:
    requests = {name: handshake_request(Origin=origin) for name, origin in ORIGINS.items()}
    assert await statuses(target, requests) == dict.fromkeys(requests, 403)


async def test_two_origins_are_refused(target: Victim) -> None:
    for second in ("http://localhost", "http://evil.example"):
        answer = await refusal(target, handshake_request(Origin=["http://localhost", second]))
        assert answer.status == 400


async def test_version_8_is_held_to_its_own_origin_header(target: Victim) -> None:
    other = handshake_request(Sec_WebSocket_Version="8", Sec_WebSocket_Origin="http://evil.example")
    assert (await refusal(target, other)).status == 403


ATTRIBUTES = [
    "constructor",
    "__class__",
    "__proto__",
    "toString",
    "hasOwnProperty",
    "__init__",
    "__dict__",
    "self",
]
ACCEPTED: dict[str, dict[str, str | list[str]]] = {
    "same origin": {"Origin": "http://localhost"},
    "same origin over TLS that ends before": {"Origin": "https://localhost"},
    "same origin with its port": {"Origin": "http://localhost:80"},
    "same origin in capitals": {"Origin": "HTTP://LOCALHOST"},
    "same origin with another port": {"Origin": "http://localhost:8080", "Host": "localhost:8080"},
    "keep-alive, Upgrade": {"Connection": "keep-alive, Upgrade"},
    "upgrade in capitals": {"Connection": "UPGRADE"},
    "many tokens": {"Connection": "a," * 3000 + "upgrade", "Upgrade": "a/1," * 1500 + "websocket"},
    "Connection in two headers": {"Connection": ["keep-alive", "Upgrade"]},
    "WebSocket": {"Upgrade": "WebSocket"},
    "h2c, websocket": {"Upgrade": "h2c, websocket"},
    "version 8": {VERSION: "8"},
    "expectation": {"Expect": "100-continue"},
    "empty body": {"Content-Length": "0"},
    "subprotocols like attributes": {"Sec-WebSocket-Protocol": ", ".join(ATTRIBUTES)},
    "extensions like attributes": {"Sec-WebSocket-Extensions": ", ".join(ATTRIBUTES)},
    "parameters like attributes": {
        "Sec-WebSocket-Extensions": "".join(f"permessage-deflate; {name}, " for name in ATTRIBUTES)
    },
    "values like attributes": {
        "Sec-WebSocket-Extensions": "".join(
            f"permessage-deflate; server_max_window_bits={name}, " for name in ATTRIBUTES
        )
    },
    "many offers": {"Sec-WebSocket-Extensions": ", ".join(f"x{number}; a; b=1" for number in range(500))},
    "many subprotocols": {"Sec-WebSocket-Protocol": ", ".join(f"x{number}" for number in range(1000))},
    "headers like attributes": dict.fromkeys(ATTRIBUTES, "a"),
}  # fmt: skip


async def test_odd_but_valid_requests_are_accepted(target: Victim) -> None:
    for name, fields in ACCEPTED.items():
        headers = await acceptance(target, handshake_with(fields))
        # nothing was chosen that the server does not know
        assert set(headers) == {"upgrade", "connection", "sec-websocket-accept"}, name
        assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3


TARGETS = [
    b"/%zz%00%ff",
    b"/../../etc/passwd",
    b"//evil.example",
    b"/?" + b"a" * 8000,
    b"http://localhost/a",
    b"ws://localhost",
    b"/<script>",
    b"/%0d%0aSet-Cookie:a=b",
]


async def test_odd_targets_are_only_targets(target: Victim) -> None:
    for path in TARGETS:
        headers = await acceptance(target, request_with(start=b"GET %s HTTP/1.1" % path))
        assert set(headers) == {"upgrade", "connection", "sec-websocket-accept"}


async def test_a_later_minor_version_is_accepted(target: Victim) -> None:
    await acceptance(target, request_with(start=b"GET / HTTP/1.2"))


async def test_lines_may_end_in_lf_alone(target: Victim) -> None:
    """RFC 9112 2.2 lets a recipient take it; nothing of the head is read in another way for that."""
    await acceptance(target, handshake_request().replace(b"\r\n", b"\n"))


PLAIN = {
    "page": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426),
    "page of HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", 426),
    "word of HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 405),
    "HTTP/2 by upgrade": (
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        426,
    ),
    "TLS": (bytes.fromhex("1603010200010001fc0303") + bytes(512), 400),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 400),
    "SMTP": (b"EHLO localhost\r\n\r\n", 400),
    "SOCKS 5": (b"\x05\x01\x00", 400),
    "SOCKS 4": (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", 400),
    "PROXY": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + handshake_request(), 400),
    "RDP": (bytes.fromhex("030000130ee000000000000100080003000000"), 400),
    "blank lines": (b"\r\n" * 1000, 400),
    "spaces": (b" " * 65536, 400),
    "NULs": (bytes(65536), 400),
    "FF": (b"\xff" * 65536, 414),
    "CRs": (b"\r" * 65536, 400),
    "colons": (b":" * 65536, 414),
}  # fmt: skip


async def test_what_is_no_websocket_at_all_is_answered_and_parted_with(target: Victim) -> None:
    requests = {name: data for name, (data, _) in PLAIN.items()}
    expected = {name: status for name, (_, status) in PLAIN.items()}
    assert await statuses(target, requests) == expected
