"""WebSocket URLs: what is taken for one, and what comes of its parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws import InvalidURL
from trio_ws._url import WebSocketURL, ascii_host, join_url, make_target, make_url, parse_url


@pytest.mark.parametrize(
    ("url", "host", "port", "target", "authority"),
    [
        ("ws://example.org", "example.org", 80, "/", "example.org"),
        ("wss://example.org", "example.org", 443, "/", "example.org"),
        ("WSS://Example.ORG", "example.org", 443, "/", "example.org"),
        ("ws://example.org:", "example.org", 80, "/", "example.org"),
        ("ws://example.org:80/", "example.org", 80, "/", "example.org"),
        ("ws://example.org:443/", "example.org", 443, "/", "example.org:443"),
        ("wss://example.org:80/", "example.org", 80, "/", "example.org:80"),
        ("ws://example.org./", "example.org.", 80, "/", "example.org."),
        ("ws://my_service:8080/", "my_service", 8080, "/", "my_service:8080"),
        ("ws://192.0.2.1/", "192.0.2.1", 80, "/", "192.0.2.1"),
        ("ws://[2001:db8::1]/", "2001:db8::1", 80, "/", "[2001:db8::1]"),
        ("ws://[2001:db8::1]:8080/", "2001:db8::1", 8080, "/", "[2001:db8::1]:8080"),
        ("ws://[fe80::1%25eth0]/", "fe80::1%eth0", 80, "/", "[fe80::1]"),
        ("ws://[fe80::1%eth0]/", "fe80::1%eth0", 80, "/", "[fe80::1]"),
        ("ws://b\u00fccher.example/", "xn--bcher-kva.example", 80, "/", "xn--bcher-kva.example"),
        ("ws://example.org/a/b?c=d&e", "example.org", 80, "/a/b?c=d&e", "example.org"),
        ("ws://example.org?c=d", "example.org", 80, "/?c=d", "example.org"),
        ("ws://example.org/%20%zz", "example.org", 80, "/%20%zz", "example.org"),
        ('ws://example.org/\u00e4?\u00f6=["]', "example.org", 80, "/%C3%A4?%C3%B6=%5B%22%5D", "example.org"),
        ("ws://example.org//a", "example.org", 80, "//a", "example.org"),
        ("http://example.org/", "example.org", 80, "/", "example.org"),
        ("https://example.org/", "example.org", 443, "/", "example.org"),
        ("https://example.org:80/", "example.org", 80, "/", "example.org:80"),
        ("ws://[2001:DB8::1]/", "2001:db8::1", 80, "/", "[2001:db8::1]"),
        ("ws://[fe80::1%25Eth0]/", "fe80::1%Eth0", 80, "/", "[fe80::1]"),
        ("ws://[fe80::1%2525]/", "fe80::1%25", 80, "/", "[fe80::1]"),
        ("ws://xn--bcher-kva.example/", "xn--bcher-kva.example", 80, "/", "xn--bcher-kva.example"),
        ("ws://stra\u00dfe.example/", "xn--strae-oqa.example", 80, "/", "xn--strae-oqa.example"),
        ("ws://B\u00dcCHER\u3002example/", "xn--bcher-kva.example", 80, "/", "xn--bcher-kva.example"),
        ("ws://b\u00fccher.example./", "xn--bcher-kva.example.", 80, "/", "xn--bcher-kva.example."),
        (f"ws://{'a' * 63}.example/", f"{'a' * 63}.example", 80, "/", f"{'a' * 63}.example"),
        ("ws://example.org:00080/", "example.org", 80, "/", "example.org"),
        ("ws://example.org:65535/", "example.org", 65535, "/", "example.org:65535"),
    ],
)
def test_parts_of_a_url(url: str, host: str, port: int, target: str, authority: str) -> None:
    parsed = parse_url(url)
    assert (parsed.host, parsed.port, parsed.target) == (host, port, target)
    assert parsed.authority == authority
    assert parsed.secure == url.lower().startswith(("wss", "https"))
    assert parsed.socket is None
    assert str(parsed) == f"{parsed.scheme}://{authority}{target}"
    assert parsed.authorization is None


@pytest.mark.parametrize(
    ("user", "authorization"),
    [
        ("user:secret@", "Basic dXNlcjpzZWNyZXQ="),
        ("user@", "Basic dXNlcjo="),
        (":secret@", "Basic OnNlY3JldA=="),
        ("us%40er:%3A%C3%A4@", "Basic dXNAZXI6OsOk"),
        ("@", None),
        (":@", None),
    ],
)
def test_user_and_password(user: str, authorization: str | None) -> None:
    parsed = parse_url(f"ws://{user}example.org/")
    assert parsed.authorization == authorization
    assert str(parsed) == "ws://example.org/"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://example.org/", "ws or wss, not 'ftp'"),
        ("file:///etc/passwd", "ws or wss, not 'file'"),
        ("javascript:alert(1)", "ws or wss"),
        ("example.org", "ws or wss, not ''"),
        ("", "ws or wss"),
        ("ws:example.org", "no valid host"),
        ("ws:///path", "no valid host"),
        ("ws://:80/", "no valid host"),
        ("ws://example.org\\@evil.example/", "no valid host"),
        ("ws://example.org/#part", "fragment"),
        ("ws://example.org/#", "fragment"),
        ("ws://example.org/a b", "percent-encode"),
        ("ws://example.org/a\r\nHost: evil", "percent-encode"),
        ("ws://exam\tple.org/", "percent-encode"),
        (" ws://example.org/", "percent-encode"),
        ("ws://example.org/\x7f", "percent-encode"),
        ("ws://example.org:65536/", "range"),
        ("ws://example.org:0/", "range"),
        ("ws://example.org:-1/", "no valid host, or its port is no number"),
        ("ws://example.org:http/", "its port is no number"),
        ("ws://example.org:1\u0665/", "its port is no number"),
        (f"ws://example.org:{'9' * 5000}/", "its port is no number"),
        ("ws://[::1/", "no valid host"),
        ("ws://[nonsense:]/", "no valid host"),
        ("ws://[192.0.2.1]/", "no valid host"),
        ("ws://[v1.a]/", "not an IPv6 address"),
        ("ws://[::1]evil.example/", "no valid host"),
        ("ws://evil.example[::1]/", "no valid host"),
        ("ws://[fe80::1%25]/", "no valid zone"),
        ("ws://[fe80::1%25a%25b]/", "no valid"),
        ("ws://exam%70le.org/", "cannot be a host name"),
        ("ws://exam<ple.org/", "cannot be a host name"),
        ("ws://exam\u2100ple.org/", "no valid host"),
        ("ws://\u2603.example/", "cannot be a host name"),
        ("ws://example.org../", "cannot be a host name"),
        ("ws://./", "cannot be a host name"),
        (f"ws://{'a.' * 128}example/", "cannot be a host name"),
        ("ws://" + 5000 * "\u00e4." + "example/", "cannot be a host name"),
        ("ws://example.org/\ud800", "not Unicode"),
        ("ws://\ud800.example/", "cannot be a host name"),
        ("ws://a%3Ab:c@example.org/", "cannot be sent"),
        ("ws://a%00:b@example.org/", "cannot be sent"),
        ("ws://a:%ff@example.org/", "cannot be sent"),
        ("ws+unix:", "no path of a Unix socket"),
        ("ws+unix:socket:/a", "no path of a Unix socket"),
        ("ws+unix://host/socket:/a", "no path of a Unix socket"),
        ("ws+unix://user:secret@/socket", "no path of a Unix socket"),
        ("ws+unix:/a%00b:/a", "no path of a Unix socket"),
        ("ws+unix:/a%ffb:/a", "no path of a Unix socket"),
        ("ws+unix:/socket:/a#b", "fragment"),
        ("http+unix:/socket:/a", "ws or wss"),
        ("ws://a..b/", "cannot be a host name"),
        ("ws://.example.org/", "cannot be a host name"),
        (f"ws://{'a' * 64}.example/", "cannot be a host name"),
        ("ws://" + 64 * "\u00e4" + ".example/", "cannot be a host name"),
    ],
)
def test_what_is_no_url(url: str, complaint: str) -> None:
    with pytest.raises(InvalidURL, match=complaint) as raised:
        parse_url(url)
    assert isinstance(raised.value, ValueError)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["ftp://user:secret@a/", "ws://u:secret@a b/", "ws://u@secret@a/#", "ws://u:secret@[::1/"]
)
def test_complaints_do_not_tell_user_and_password(url: str) -> None:
    with pytest.raises(InvalidURL) as raised:
        parse_url(url)
    assert "secret" not in repr(raised.value)
    assert raised.value.__cause__ is None


_PIECES = st.sampled_from(
    [
        "ws",
        "wss+unix",
        "http",
        ":",
        "//",
        "/",
        "@",
        "[",
        "]",
        "::1",
        "%25",
        "%",
        "?",
        "#",
        ".",
        "a",
        "\\",
        "\u00df",
        "80",
    ]
)


@given(st.lists(_PIECES | st.characters()).map("".join))
def test_any_text_is_a_url_or_is_none(text: str) -> None:
    try:
        parsed = parse_url(text)
    except InvalidURL:
        return
    again = parse_url(str(parsed))
    assert (again.host.partition("%")[0], again.port, again.target, again.socket, again.secure) == (
        parsed.host.partition("%")[0],
        parsed.port,
        parsed.target,
        parsed.socket,
        parsed.secure,
    )
    assert parsed.authority.isascii()


@pytest.mark.parametrize(
    ("url", "socket", "target", "text"),
    [
        ("ws+unix:/run/chat:/a?b=c", "/run/chat", "/a?b=c", "ws+unix:/run/chat:/a?b=c"),
        ("ws+unix:///run/chat:/a:b", "/run/chat", "/a:b", "ws+unix:/run/chat:/a:b"),
        ("ws+unix:/run/chat", "/run/chat", "/", "ws+unix:/run/chat:/"),
        ("ws+unix:/run/chat?b", "/run/chat", "/?b", "ws+unix:/run/chat:/?b"),
        ("ws+unix:/run/chat:?b", "/run/chat", "/?b", "ws+unix:/run/chat:/?b"),
        ("ws+unix:/my%20%3A%c3%a4:/a", "/my :\u00e4", "/a", "ws+unix:/my%20%3A%C3%A4:/a"),
    ],
)
@pytest.mark.parametrize("secure", [False, True])
def test_unix_sockets(url: str, socket: str, target: str, text: str, secure: bool) -> None:
    if secure:
        url, text = "wss" + url[2:], "wss" + text[2:]
    parsed = parse_url(url)
    assert (parsed.socket, parsed.target, parsed.secure) == (socket, target, secure)
    assert (parsed.authority, parsed.tls_name) == ("localhost", "localhost")
    assert str(parsed) == text


@pytest.mark.parametrize(
    ("host", "name"),
    [("example.org.", "example.org"), ("fe80::1%eth0", "fe80::1"), ("192.0.2.1", "192.0.2.1")],
)
def test_the_name_of_a_certificate(host: str, name: str) -> None:
    assert make_url(True, host, 443, "/").tls_name == name


@pytest.mark.parametrize(
    ("host", "port"),
    [("", 80), ("[::1]", 80), ("a/b", 80), ("a@b", 80), ("localhost", 0), ("localhost", 65536)],
)
def test_parts_that_make_no_url(host: str, port: int) -> None:
    with pytest.raises(InvalidURL):
        make_url(False, host, port, "/")


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("ws://b.example/x", "ws://b.example/x"),
        ("https://b.example", "wss://b.example/"),
        ("//b.example:81/x", "ws://b.example:81/x"),
        ("/x?y", "ws://a.example:8080/x?y"),
        ("x", "ws://a.example:8080/one/x"),
        ("../x", "ws://a.example:8080/x"),
        ("../../../x", "ws://a.example:8080/x"),
        ("?y", "ws://a.example:8080/one/two?y"),
        ("", "ws://a.example:8080/one/two?q"),
        ("/\u00e4", "ws://a.example:8080/%C3%A4"),
    ],
)
def test_references(reference: str, url: str) -> None:
    assert str(join_url(parse_url("ws://a.example:8080/one/two?q"), reference)) == url


@pytest.mark.parametrize(
    "reference",
    [
        "/x#y",
        "#y",
        "/x y",
        "/x\ty",
        "file:/x",
        "x:y",
        "//",
        "///b.example/x",
        "\\\\b.example/x",
        "/\\b.example/x",
        "//[::1/x",
        "ws:x",
        "\x01ws://b.example/",
    ],
)
def test_references_to_nothing(reference: str) -> None:
    with pytest.raises(InvalidURL):
        join_url(parse_url("ws://a.example/"), reference)


def test_a_path_stays_at_the_same_socket_and_in_the_same_zone() -> None:
    assert str(join_url(parse_url("ws+unix:/run/chat:/one/two"), "three")) == "ws+unix:/run/chat:/one/three"
    zoned = join_url(parse_url("ws://[fe80::1%25eth0]/"), "/x")
    assert zoned == WebSocketURL(False, "fe80::1%eth0", 80, "/x")


@pytest.mark.parametrize(
    ("resource", "target"), [("/a?b", "/a?b"), ("a", "/a"), ("", "/"), ("?b", "/?b"), ("/\u00e4", "/%C3%A4")]
)
def test_resources(resource: str, target: str) -> None:
    assert make_target(resource) == target


@pytest.mark.parametrize("resource", ["/a#b", "/a b", "/a\r\nb", "/\x00", "/\ud800"])
def test_what_cannot_be_asked_for(resource: str) -> None:
    with pytest.raises(InvalidURL, match="cannot be asked for"):
        make_target(resource)


@pytest.mark.parametrize("host", ["localhost", "::1", "fe80::1%lo", "127.0.0.1"])
def test_hosts_that_stay_as_they_are(host: str) -> None:
    assert ascii_host(host) == host
