"""Any text is a URL that can be asked for as it is and reads the same when written down, or `InvalidURL`.

Wherever a redirect leads, it is to a host that its Location names, never out of TLS, never with credentials for another
origin, and its failure is a `RedirectError`.

The first byte chooses where the redirect comes from; the rest is the URL, and the Location.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial

from tests.fuzz.fuzz_kit import Choices
from tests.protocol.handshake_kit import KEY
from trio_ws import InvalidURL, RedirectError
from trio_ws._config import ClientConfig
from trio_ws._redirects import Route
from trio_ws._url import WebSocketURL, join_url, parse_url
from trio_ws.protocol import ClientHandshake, Headers, Response

CHOICES = 2
_TARGET = re.compile(r"/[!-\"$-~]*")
_HOST = re.compile(r"[a-z0-9\-._~!$&'()*+,;=]{1,254}|[0-9a-f:.]{2,45}(%[A-Za-z0-9\-._~]+)?")
_BASES = tuple(
    parse_url(text)
    for text in (
        "ws://a.example/b/c?d",
        "wss://a.example:8443/",
        "ws://[2001:db8::1]/x",
        "ws+unix:/run/socket:/x",
    )
)
_CONFIG = ClientConfig.of(
    {"max_redirects": 3, "extra_headers": {"X-Secret": "1", "X-Known": "2"}, "redirect_headers": ["x-known"]}
)


def check(data: bytes) -> None:
    choices = Choices(data, CHOICES)
    base = choices.one_of(*_BASES)
    status = choices.one_of(301, 302, 303, 307, 308)
    with suppress(UnicodeDecodeError):
        text = choices.rest.decode()
        for read in (parse_url, partial(join_url, base)):
            try:
                url = read(text)
            except InvalidURL:
                continue
            _is_sound(url)
    _follow(base, Response(status, Headers([(b"location", choices.rest)])))


def _is_sound(url: WebSocketURL) -> None:
    assert _TARGET.fullmatch(url.target)
    assert 0 < url.port < 65536
    assert _HOST.fullmatch(url.host)
    if url.socket is not None:
        assert url.socket.startswith("/")
        assert "\0" not in url.socket
    ClientHandshake(host=url.authority, target=url.target, key=KEY)
    again = parse_url(str(url))
    assert again.target == url.target
    assert (again.secure, again.host, again.port, again.socket) == (
        url.secure,
        url.host.partition("%")[0],
        url.port,
        url.socket,
    )
    if url.authorization is not None:
        assert re.fullmatch(r"Basic [A-Za-z0-9+/]+={0,2}", url.authorization)
        assert "@" not in url.authority


def _follow(base: WebSocketURL, response: Response) -> None:
    route = Route(base, _CONFIG)
    try:
        route.follow(response)
    except RedirectError:
        assert route.url == base
        return
    url = route.url
    _is_sound(url)
    assert url.secure or not base.secure
    assert url.socket == base.socket
    assert url.authorization is None
    names = {name.lower() for name, _ in route.headers}
    assert names == ({b"x-secret", b"x-known"} if url.origin == base.origin else {b"x-known"})
    if url.host != base.host and url.host.isascii() and "xn--" not in url.host and ":" not in url.host:
        location = response.headers.get("location", "").lower()
        assert url.host in location or not location.isascii()


def seeds() -> dict[str, bytes]:
    texts = {
        "plain": "ws://example.org/",
        "secure": "wss://Example.ORG:8443/a/b?c=d&e",
        "http": "https://example.org",
        "ipv4": "ws://192.0.2.1:80/",
        "ipv6": "ws://[2001:DB8::1]:8080/",
        "zone": "ws://[fe80::1%25eth0]/",
        "zone_odd": "ws://[fe80::1%2525]/",
        "user": "ws://me:secret@example.org/",
        "user_percent": "wss://m%40e:s%3Aecret@example.org/",
        "user_two_ats": "ws://a@b@example.org/",
        "backslash": "ws://example.org\\@evil.example/",
        "fragment": "ws://example.org/#a",
        "no_host": "ws:///path",
        "no_slashes": "ws:example.org",
        "port_0": "ws://example.org:0/",
        "port_large": "ws://example.org:65536/",
        "port_letters": "ws://example.org:80a/",
        "port_zeros": "ws://example.org:00080/",
        "idna": "ws://b\u00fccher.example/\u00e4?\u00f6",
        "idna_mapped": "ws://B\u00dcCHER\u3002example/",
        "idna_slash": "ws://a\u2100b.example/",
        "dot": "ws://example.org./",
        "dots": "ws://a..b/",
        "long_label": f"ws://{'a' * 64}.example/",
        "unix": "ws+unix:/run/my%20socket:/chat?x",
        "unix_two_slashes": "ws+unix:/%2Frun/socket:/",
        "unix_four_slashes": "ws+unix:%2F///a:/",
        "unix_nul": "ws+unix:/run/%00:/",
        "unix_secure": "wss+unix:/run/s",
        "relative": "../e?f",
        "query": "?q",
        "absolute_path": "/x/./y/../z",
        "other_host": "//evil.example/x",
        "three_slashes": "///evil.example/x",
        "backslashes": "\\\\evil.example/x",
        "newline": "ws://a\r\nX: y",
        "tab": "w\ts://a/",
        "script": "javascript:alert(1)",
        "file": "file:///etc/passwd",
        "brackets": "ws://[::1]evil.example/",
        "open_bracket": "ws://[::1/",
        "colon_path": "a:b/c",
        "empty": "",
    }
    found = {name: bytes([0, 1]) + text.encode() for name, text in texts.items()}
    found["latin_1"] = bytes([1, 2]) + b"wss://example.org/\xe4"
    for name in ("plain", "relative", "unix", "other_host"):
        found[f"{name}_from_tls"] = bytes([1, 3]) + texts[name].encode()
        found[f"{name}_from_unix"] = bytes([3, 4]) + texts[name].encode()
    return found
