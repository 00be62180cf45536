"""HTTP Basic authentication: who is let in, and what all others are told."""

import base64
import hmac
import re

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.io.api_kit import dialling, echo, serving_in_memory
from trio_ws import ConnectionRejected, Headers, Request, Response, WebSocketRequest, basic_auth
from trio_ws.protocol import encode_headers

USERS = {"ann": "secret", "bob": "pass:word", "zoë": "größe", "empty": "", "": "nameless"}


def basic(user: str, password: str, encoding: str = "utf-8") -> str:
    """Return the value of an `Authorization` header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode(encoding)).decode()


def asking(*values: str) -> Request:
    """Return a request with these `Authorization` headers."""
    return Request("GET", "/", Headers(encode_headers([("authorization", value) for value in values])))


@pytest.mark.parametrize(("user", "password"), USERS.items())
async def test_users_are_let_in(user: str, password: str) -> None:
    request = asking(basic(user, password))
    assert await basic_auth("here", USERS)(request) is None
    assert request.context == {"user": user}


@pytest.mark.parametrize("value", [basic("ann", "secret").replace("Basic ", "bAsIc   ")])
async def test_the_scheme_has_no_case(value: str) -> None:
    assert await basic_auth("here", USERS)(asking(value)) is None


@pytest.mark.parametrize(
    "values",
    [
        (),
        (basic("ann", "Secret"),),
        (basic("ann", ""),),
        (basic("ann", "secret "),),
        (basic("ann", "secret\0"),),
        (basic("bob", "secret"),),
        (basic("Ann", "secret"),),
        (basic("nobody", ""),),
        (basic("nobody", "None"),),
        (basic("zoë", "größe", "latin-1"),),
        (basic("ann", "secret"), basic("ann", "secret")),  # whose word would count?
        (basic("ann", "secret") + ", Basic x",),
        ("",),
        ("Basic",),
        ("Basic ",),
        ("Basic =",),
        ("Basic a",),
        ("Basic YW5u",),  # no colon
        ("Basic YW5uOnNlY3JldA=",),  # "ann:secret", wrongly padded
        ("Basic YW5uOnN!lY3JldA==",),
        ("Basic \xff",),
        ("Bearer YW5uOnNlY3JldA==",),
    ],
)
async def test_all_others_are_asked(values: tuple[str, ...]) -> None:
    request = asking(*values)
    response = await basic_auth("here", USERS)(request)
    assert response is not None
    assert response.status == 401
    assert response.headers.get_all("www-authenticate") == ['Basic realm="here", charset="UTF-8"']
    assert request.context == {}


async def test_controls_are_in_no_name() -> None:
    assert await basic_auth("here", {"a\nb": "c"})(asking(basic("a\nb", "c"))) is not None


@given(
    st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda x: b"Basic " + base64.b64encode(x)))
)
def test_nothing_in_the_header_is_an_exception(value: bytes) -> None:
    async def main() -> None:
        request = Request("GET", "/", Headers([(b"authorization", value)]))
        answer = await basic_auth("here", {})(request)
        assert isinstance(answer, Response)
        assert answer.status == 401

    trio.run(main)


async def test_unknown_users_cost_as_much_as_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int, bool]] = []
    compare = hmac.compare_digest

    def watched(left: bytes, right: bytes) -> bool:
        same = compare(left, right)
        compared.append((len(left), len(right), same))
        return same

    monkeypatch.setattr(hmac, "compare_digest", watched)
    authenticate = basic_auth("here", USERS)
    for user, password in (("ann", "secret"), ("ann", "s"), ("nobody", "s" * 100)):
        await authenticate(asking(basic(user, password)))
    assert compared == [(32, 32, True), (32, 32, False), (32, 32, False)]


async def test_the_mapping_is_looked_at_for_each_request() -> None:
    users: dict[str, str] = {}
    authenticate = basic_auth("here", users)
    assert await authenticate(asking(basic("eve", "new"))) is not None
    users["eve"] = "new"
    assert await authenticate(asking(basic("eve", "new"))) is None


async def test_a_function_decides() -> None:
    asked: list[tuple[str, str]] = []

    async def check(user: str, password: str) -> bool:
        await trio.lowlevel.checkpoint()
        asked.append((user, password))
        return password == "open"

    authenticate = basic_auth("here", check)
    assert await authenticate(asking(basic("ann", "open"))) is None
    assert await authenticate(asking(basic("ann", "a:b"))) is not None
    assert await authenticate(asking("Basic !")) is not None
    assert asked == [("ann", "open"), ("ann", "a:b")]


async def test_realms() -> None:
    response = await basic_auth('a "b" \\ c', {})(asking())
    assert response is not None
    assert response.headers.get("www-authenticate") == r'Basic realm="a \"b\" \\ c", charset="UTF-8"'
    for realm in ("a\r\nb", "ä", "\n", "\x7f"):
        with pytest.raises(ValueError, match=re.escape(repr(realm))):
            basic_auth(realm, {})


def test_credentials_are_a_mapping_or_a_function() -> None:
    with pytest.raises(TypeError, match="a mapping or an async function"):
        basic_auth("here", [("ann", "secret")])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # wrong on purpose


async def test_on_a_server() -> None:
    async def greet(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await ws.send_message(f"hello {request.request.context['user']}")

    async with serving_in_memory(greet, process_request=basic_auth("here", USERS)) as (_, listener):
        async with dialling(listener, extra_headers={"Authorization": basic("ann", "secret")}) as ws:
            assert await ws.get_message() == "hello ann"
        with pytest.RaisesGroup(
            pytest.RaisesExc(ConnectionRejected, check=lambda exc: exc.status_code == 401)
        ):
            async with dialling(listener):
                pass


async def test_a_function_that_fails_is_the_server_s_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def check(_user: str, _password: str) -> bool:
        raise OSError("the database is gone")

    async with serving_in_memory(echo, process_request=basic_auth("here", check)) as (_, listener):
        with pytest.RaisesGroup(
            pytest.RaisesExc(ConnectionRejected, check=lambda exc: exc.status_code == 500)
        ):
            async with dialling(listener, extra_headers={"Authorization": basic("ann", "secret")}):
                pass
    assert "the database is gone" in caplog.text
