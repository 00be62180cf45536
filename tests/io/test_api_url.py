"""WebSocket URLs: what is taken for one, and what comes of its parts."""

import pytest

from trio_ws._url import ascii_host, make_target, parse_url


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
    ],
)
def test_parts_of_a_url(url: str, host: str, port: int, target: str, authority: str) -> None:
    parsed = parse_url(url)
    assert (parsed.host, parsed.port, parsed.target) == (host, port, target)
    assert parsed.authority == authority
    assert parsed.secure == url.lower().startswith("wss")
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
        ("http://example.org/", "ws or wss, not 'http'"),
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
        ("ws://example.org:http/", "Port"),
        ("ws://[::1/", "IPv6"),
        ("ws://[nonsense:]/", "IPv6"),
        ("ws://a..b/", "cannot be a host name"),
        ("ws://.example.org/", "cannot be a host name"),
        (f"ws://{'a' * 64}.example/", "cannot be a host name"),
        ("ws://" + 64 * "\u00e4" + ".example/", "cannot be a host name"),
    ],
)
def test_what_is_no_url(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_url(url)


@pytest.mark.parametrize(
    ("resource", "target"), [("/a?b", "/a?b"), ("a", "/a"), ("", "/"), ("?b", "/?b"), ("/\u00e4", "/%C3%A4")]
)
def test_resources(resource: str, target: str) -> None:
    assert make_target(resource) == target


@pytest.mark.parametrize("resource", ["/a#b", "/a b", "/a\r\nb", "/\x00"])
def test_what_cannot_be_asked_for(resource: str) -> None:
    with pytest.raises(ValueError, match="cannot be asked for"):
        make_target(resource)


@pytest.mark.parametrize("host", ["localhost", "::1", "fe80::1%lo", "127.0.0.1"])
def test_hosts_that_stay_as_they_are(host: str) -> None:
    assert ascii_host(host) == host
