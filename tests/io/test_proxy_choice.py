"""Which proxy a URL gets: what the URLs of proxies may be, and what the environment's variables mean."""

import copy
import os
import pickle

import pytest

from trio_ws import Headers, ProxyError
from trio_ws._config import ClientConfig
from trio_ws._proxies import choose_proxy, parse_proxy
from trio_ws._url import parse_url
from trio_ws.transport import Proxy


@pytest.fixture(autouse=True)
def no_proxies_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the machine's own environment says."""
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("REQUEST_METHOD", raising=False)


async def choose(url: str, proxy: str | bool | None = True) -> str | None:
    """Return the URL of the proxy for a URL."""
    found = await choose_proxy(parse_url(url), ClientConfig(proxy=proxy))
    return None if found is None else str(found)


# The URLs of proxies


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.example", Proxy("http", "proxy.example", 80)),
        ("http://proxy.example:3128/", Proxy("http", "proxy.example", 3128)),
        ("HTTP://Proxy.Example", Proxy("http", "proxy.example", 80)),
        ("proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("proxy.example", Proxy("http", "proxy.example", 80)),
        ("ann:secret@proxy.example", Proxy("http", "proxy.example", 80, "ann", "secret")),
        ("https://proxy.example", Proxy("https", "proxy.example", 443)),
        ("socks4://proxy.example", Proxy("socks4", "proxy.example", 1080)),
        ("socks4a://ann@proxy.example", Proxy("socks4a", "proxy.example", 1080, "ann")),
        ("socks5://proxy.example:1", Proxy("socks5", "proxy.example", 1)),
        ("socks5h://proxy.example", Proxy("socks5h", "proxy.example", 1080)),
        ("socks://proxy.example", Proxy("socks5h", "proxy.example", 1080)),
        ("socks5://a:b@proxy.example", Proxy("socks5", "proxy.example", 1080, "a", "b")),
        ("http://[2001:db8::1]:3128", Proxy("http", "2001:db8::1", 3128)),
        ("http://[fe80::1%25eth0]", Proxy("http", "fe80::1%eth0", 80)),
        ("http://bücher.example", Proxy("http", "xn--bcher-kva.example", 80)),
        ("http://an%40n:p%3As%2Fs%C3%A9@h", Proxy("http", "h", 80, "an@n", "p:s/sé")),
        ("http://ann@h", Proxy("http", "h", 80, "ann")),
        ("http://:secret@h", Proxy("http", "h", 80, None, "secret")),
        ("http://@h", Proxy("http", "h", 80)),
        ("socks5://:@h", Proxy("socks5", "h", 1080)),
    ],
)
async def test_the_url_of_a_proxy(url: str, proxy: Proxy) -> None:
    assert parse_proxy(url) == proxy
    assert await choose_proxy(parse_url("ws://127.0.0.1/"), ClientConfig(proxy=url)) == proxy


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "http://:3128",
        "http://user:secret@",
        "http://h:99999",
        "http://h:0",
        "http://h:secret",
        "http://user:sec/ret@h",
        "http://user:secret@h/path",
        "http://user:secret@h?query",
        "http://user:secret@h#fragment",
        "http://user:secret@h h",
        "http://user:sec\\ret@h",
        "http://user:secret@h\r\nX: y",
        "http://user:secret%ff@h",
        "http://us%3aer:secret@h",
        "http://user:secret@[::1",
        "http://user:secret@a..b",
        "ftp://user:secret@h",
        "ws://user:secret@h",
        "socks6://user:secret@h",
        "socks4://user:secret@h",
        "socks4a://us%00er@h",
        "socks5://user@h",
        "socks5://:secret@h",
        "socks5h://user:secr%C3%A9t@h",
        f"socks5://user:{'secret' * 43}@h",
    ],
)
async def test_what_is_not_the_url_of_a_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"proxy|host|SOCKS") as caught:
        await choose("ws://example.org/", url)
    said = str(caught.value)
    assert "secret" not in said
    assert "user" not in said.replace("username", "")
    if url and "\0" not in url:
        monkeypatch.setenv("HTTP_PROXY", url)
        with pytest.raises(ValueError, match="http_proxy in the environment"):
            await choose("ws://example.org/")


def test_passwords_are_not_shown() -> None:
    proxy = parse_proxy("http://ann:secret@proxy.example:3128")
    assert str(proxy) == "http://proxy.example:3128"
    assert str(parse_proxy("https://[::1]")) == "https://[::1]:443"
    for shown in (str(proxy), repr(proxy), repr(ClientConfig(proxy="http://ann:secret@proxy.example:3128"))):
        assert "secret" not in shown


@pytest.mark.parametrize("proxy", [3, b"http://h", object()])
def test_what_is_no_choice_at_all(proxy: str) -> None:
    with pytest.raises(TypeError, match="proxy"):
        ClientConfig.of({"proxy": proxy})


# The environment


@pytest.mark.parametrize(
    ("variables", "ws", "wss"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": "http://a"}, "http://a:80", None),
        ({"HTTPS_PROXY": "http://a"}, None, "http://a:80"),
        ({"WS_PROXY": "http://a", "HTTP_PROXY": "http://b"}, "http://a:80", None),
        ({"WSS_PROXY": "http://a", "HTTPS_PROXY": "http://b"}, None, "http://a:80"),
        ({"ALL_PROXY": "http://a"}, "http://a:80", "http://a:80"),
        ({"ALL_PROXY": "socks5://a"}, "socks5://a:1080", "socks5://a:1080"),
        ({"SOCKS_PROXY": "a:1"}, "socks5h://a:1", "socks5h://a:1"),
        ({"SOCKS_PROXY": "http://a:1"}, "socks5h://a:1", "socks5h://a:1"),
        ({"SOCKS_PROXY": "socks4://a", "ALL_PROXY": "http://b"}, "socks4://a:1080", "socks4://a:1080"),
        ({"HTTP_PROXY": "http://a", "ALL_PROXY": "http://b"}, "http://a:80", "http://b:80"),
        ({"HTTP_PROXY": "http://a", "http_proxy": "http://b"}, "http://b:80", None),
        ({"HTTP_PROXY": "http://a", "http_proxy": ""}, None, None),
        ({"http_proxy": "a:3128"}, "http://a:3128", None),
        ({"HTTP_PROXY": "http://a", "REQUEST_METHOD": "GET"}, None, None),
        ({"http_proxy": "http://a", "REQUEST_METHOD": "GET"}, "http://a:80", None),
        ({"HTTPS_PROXY": "http://a", "REQUEST_METHOD": "GET"}, None, "http://a:80"),
        ({"FTP_PROXY": "http://a"}, None, None),
    ],
    ids=str,
)
async def test_variables(
    variables: dict[str, str], ws: str | None, wss: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert await choose("ws://example.org/") == ws
    assert await choose("wss://example.org/") == wss
    assert await choose("ws://example.org/", None) is None
    assert await choose("ws://example.org/", False) is None
    assert await choose("ws://example.org/", "https://mine") == "https://mine:443"


@pytest.mark.parametrize(
    ("exceptions", "reached_directly", "not_so"),
    [
        (
            "example.org",
            ["example.org", "EXAMPLE.org", "www.example.org", "example.org.", "example.org:81"],
            [],
        ),
        ("example.org", [], ["notexample.org", "example.org.uk", "example.com", "org", "192.0.2.1"]),
        (".example.org", ["example.org", "www.example.org"], ["notexample.org"]),
        ("Example.Org.", ["example.org", "www.example.org"], []),
        ("bücher.example", ["xn--bcher-kva.example", "bücher.example"], ["example"]),
        (
            "a.example , b.example,,c.example d.example",
            [f"{x}.example" for x in "abcd"],
            ["e.example", "example"],
        ),
        ("*", ["example.org", "192.0.2.1", "[2001:db8::1]"], []),
        ("x.example,*", ["example.org"], []),
        ("*.example.org", [], ["example.org", "www.example.org"]),
        ("example.org:8080", ["example.org:8080", "www.example.org:8080"], ["example.org", "example.org:80"]),
        ("*:8080", ["example.org:8080", "192.0.2.1:8080"], ["example.org"]),
        ("192.0.2.1", ["192.0.2.1", "192.0.2.1:81", "[::ffff:192.0.2.1]"], ["192.0.2.11", "example.org"]),
        ("192.0.2.0/24", ["192.0.2.0", "192.0.2.255"], ["192.0.3.0", "[2001:db8::1]"]),
        ("192.0.2.77/25", ["192.0.2.1"], ["192.0.2.128"]),
        ("192.0.2.0/24:8080", ["192.0.2.1:8080"], ["192.0.2.1"]),
        ("192.0.2.1:8080", ["192.0.2.1:8080"], ["192.0.2.1"]),
        ("2001:db8::1", ["[2001:db8::1]", "[2001:DB8:0::1]:81"], ["[2001:db8::2]"]),
        ("[2001:db8::1]", ["[2001:db8::1]"], ["[2001:db8::2]"]),
        ("[2001:db8::1]:8080", ["[2001:db8::1]:8080"], ["[2001:db8::1]"]),
        ("2001:db8::/32", ["[2001:db8:ffff::]"], ["[2001:db9::]", "192.0.2.1"]),
        ("[2001:db8::]/32", ["[2001:db8:ffff::]"], ["[2001:db9::]"]),
        ("fe80::/10", ["[fe80::1%25eth0]"], []),
        ("192.0.2.0/99,a..b,.,:,[,example.org:99999999,::::", [], ["192.0.2.1", "example.org", "[::2]"]),
        ("", [], ["example.org"]),
    ],
    ids=str,
)
async def test_exceptions(
    exceptions: str, reached_directly: list[str], not_so: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://a")
    monkeypatch.setenv("NO_PROXY", exceptions)
    for host in reached_directly:
        assert await choose(f"ws://{host}/") is None, host
        assert await choose(f"ws://{host}/", "http://mine") == "http://mine:80"
    for host in not_so:
        assert await choose(f"ws://{host}/") == "http://a:80", host


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "127.0.0.1",
        "127.9.9.9",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ],
)
async def test_this_machine_is_behind_no_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://a")
    assert await choose(f"ws://{host}/") is None
    assert await choose(f"ws://{host}/", "http://mine") == "http://mine:80"
    assert await choose("ws://notlocalhost/") == "http://a:80"
    assert await choose("ws://128.0.0.1/") == "http://a:80"


async def test_settings_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS and Windows, where no variable says anything: stood in for here, as there are none on Linux."""
    asked: list[str] = []

    def has_exception(host: str) -> bool:
        asked.append(host)
        return host == "inside.example"

    monkeypatch.setattr("trio_ws._proxies.getproxies", lambda: {"https": "http://a:1", "socks": "http://b:2"})
    monkeypatch.setattr("trio_ws._proxies.proxy_bypass", has_exception)
    assert await choose("wss://outside.example/") == "http://a:1"
    assert await choose("ws://outside.example/") == "socks5h://b:2"
    assert await choose("wss://inside.example/") is None
    assert asked == ["outside.example", "outside.example", "inside.example"]
    monkeypatch.setenv("HTTPS_PROXY", "http://a:1")
    assert await choose("wss://inside.example/") == "http://a:1"


def test_the_error_can_be_copied() -> None:
    error = ProxyError("no way", 407, Headers([(b"proxy-authenticate", b"Basic")]), b"who?")
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert isinstance(again, ProxyError)
        assert (str(again), again.status_code, again.headers, again.body) == (
            "no way",
            407,
            error.headers,
            b"who?",
        )
    assert (ProxyError("no way").headers, ProxyError("no way").body) == ([], None)
