"""Servers behind nginx and HAProxy: WebSocket through them, and what they tell of the client.

Each proxy is started for one test. It inherits its listening socket, which has a port of the kernel's choice and takes
connections before the proxy is ready, so nothing has to be waited for.
"""

import ipaddress
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Unpack

import pytest
import trio

from tests.interop.interop_kit import Certificates
from trio_ws import (
    ConnectionClosed,
    ConnectionRejected,
    Endpoint,
    HandshakeError,
    ServerOptions,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    open_websocket_url,
    serve_websocket,
    wrap_client_stream,
)
from trio_ws.transport import open_unix_listener

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the client has an address of its own on Linux alone"
)

PATIENCE = 20  # seconds for each test
STOP_TIMEOUT = 5  # seconds that a proxy gets to end

#: The client's address. All of 127.0.0.0/8 is the loopback; the proxies connect from 127.0.0.1.
CLIENT = "127.0.0.2"

# The user counts where the tests run as root: another one could not get at their folder.
NGINX = """
daemon off;
user root;
pid nginx.pid;
error_log stderr;
{modules}
events {{}}
{section}
"""
HTTP = """
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port} {tls};
        location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
            proxy_set_header Host $http_host;
            {headers}
        }}
    }}
}}
"""
STREAM = """
stream {{
    server {{
        listen 127.0.0.1:{port};
        proxy_pass {upstream};
        proxy_protocol on;
    }}
}}
"""
HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen proxy
    bind fd@{fd}
    server upstream {upstream} {option}
"""


# --- Proxies --------------------------------------------------------------------------------------------------------


def find(name: str) -> str:
    """Return the path of a program; it may be where only root looks."""
    program = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/bin")
    if program is None:
        pytest.skip(f"there is no {name}")
    return program


@contextmanager
def listening() -> Generator[socket.socket]:
    """A socket to be inherited, which takes connections already."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@contextmanager
def running(
    command: Sequence[str], sock: socket.socket, folder: Path, environment: Mapping[str, str]
) -> Generator[None]:
    """Run a proxy, and take its listening socket away from this process."""
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[sock.fileno()],
            env=environment,
        )
    sock.close()
    try:
        yield
        assert process.poll() is None
    except BaseException as exc:
        exc.add_note(log.read_text())
        raise
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def nginx(folder: Path, section: str, modules: str = "", **fields: object) -> Generator[int]:
    """Run nginx with one section of its configuration, and yield its port."""
    program = find("nginx")
    with listening() as sock:
        port: int = sock.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(modules=modules, section=section.format(port=port, **fields)))
        command = [program, "-p", str(folder), "-c", str(config), "-e", "stderr"]
        # what a new nginx is given by the one that it replaces
        with running(command, sock, folder, {"NGINX": f"{sock.fileno()};"}):
            yield port


@contextmanager
def nginx_for_http(folder: Path, upstream: str, *, tls: str = "", headers: str = "") -> Generator[int]:
    with nginx(folder, HTTP, upstream=upstream, tls=tls, headers=headers) as port:
        yield port


@contextmanager
def nginx_for_tcp(folder: Path, upstream: str) -> Generator[int]:
    """Run nginx as a proxy of TCP that speaks version 1 of the PROXY protocol."""
    version = subprocess.run([find("nginx"), "-V"], capture_output=True, text=True, check=True).stderr
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    if not re.search(r"--with-stream(?!=|_)", version) and not module.exists():
        pytest.skip("this nginx has no module for streams")
    load = f"load_module {module};" if module.exists() else ""
    with nginx(folder, STREAM, load, upstream=upstream) as port:
        yield port


@contextmanager
def haproxy(folder: Path, upstream: str, option: str) -> Generator[int]:
    """Run HAProxy as a proxy of TCP."""
    program = find("haproxy")
    with listening() as sock:
        port: int = sock.getsockname()[1]
        config = folder / "haproxy.cfg"
        config.write_text(HAPROXY.format(fd=sock.fileno(), upstream=upstream, option=option))
        with running([program, "-db", "-f", str(config)], sock, folder, {}):
            yield port


# --- Both ends ------------------------------------------------------------------------------------------------------


async def echo(request: WebSocketRequest) -> None:
    """Accept, tell who the client is taken for, and send everything back; close by a code if a message is one."""
    if request.path == "/forbidden":
        await request.reject(403, body=b"not you")
        return
    ws = await request.accept()
    client = request.client.address if isinstance(request.client, Endpoint) else request.client
    remote = request.remote.address if isinstance(request.remote, Endpoint) else request.remote
    await ws.send_message(f"{client} through {remote}")
    async for message in ws:
        if isinstance(message, str) and message.isdigit():
            await ws.aclose(int(message), "as you wish")
        else:
            await ws.send_message(message)


@asynccontextmanager
async def serving(
    ssl_context: ssl.SSLContext | None = None, **options: Unpack[ServerOptions]
) -> AsyncGenerator[str, None]:
    """A server on the loopback; yields its address."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[WebSocketServer]) -> None:
                await serve_websocket(echo, "127.0.0.1", 0, ssl_context, task_status=task_status, **options)

            server = await nursery.start(run)
            yield f"127.0.0.1:{server.port}"
            await server.aclose(drain=1)


@asynccontextmanager
async def dialling(
    port: int, headers: Mapping[str, str] | None = None, ssl_context: ssl.SSLContext | None = None
) -> AsyncGenerator[WebSocketConnection, None]:
    """A client with an address of its own."""
    stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=CLIENT)
    if ssl_context is not None:
        stream = trio.SSLStream(stream, ssl_context, server_hostname="127.0.0.1")
    async with (
        trio.open_nursery() as nursery,
        await wrap_client_stream(
            nursery, stream, f"127.0.0.1:{port}", "/", extra_headers=headers or {}
        ) as ws,
    ):
        yield ws


async def told(
    port: int, headers: Mapping[str, str] | None = None, ssl_context: ssl.SSLContext | None = None
) -> str | bytes:
    """Return who the server takes the client for, and from whom it came."""
    async with dialling(port, headers, ssl_context) as ws:
        return await ws.get_message()


# --- WebSocket through nginx ----------------------------------------------------------------------------------------


@pytest.fixture(params=["ws", "wss"])
def scheme(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@asynccontextmanager
async def behind_nginx(
    scheme: str, folder: Path, certificates: Certificates
) -> AsyncGenerator[tuple[str, ssl.SSLContext | None], None]:
    """A server behind nginx, which ends TLS if the scheme asks for it; yields its URL and a context that trusts it."""
    pem = certificates.certificate
    tls, context = "", None
    if scheme == "wss":
        tls, context = f"ssl; ssl_certificate {pem}; ssl_certificate_key {pem}", certificates.client
    async with serving() as upstream:
        with nginx_for_http(folder, upstream, tls=tls) as port:
            yield f"{scheme}://127.0.0.1:{port}", context


async def test_messages(scheme: str, tmp_path: Path, certificates: Certificates) -> None:
    large = bytes(range(256)) * 4096  # 1 MiB: more than any buffer of nginx
    async with (
        behind_nginx(scheme, tmp_path, certificates) as (url, context),
        open_websocket_url(url, context) as ws,
    ):
        assert await ws.get_message() == "127.0.0.1 through 127.0.0.1"
        for message in ("hello", "", b"\0\xff", "ä" * 2**19, large):
            await ws.send_message(message)
            assert await ws.get_message() == message
        assert await ws.ping() is not None


async def test_an_origin_is_compared_with_the_host_that_nginx_was_asked_for(
    scheme: str, tmp_path: Path, certificates: Certificates
) -> None:
    async with behind_nginx(scheme, tmp_path, certificates) as (url, context):
        origin = url.replace("ws", "http", 1)
        async with open_websocket_url(url, context, origin=origin) as ws:
            assert await ws.get_message() == "127.0.0.1 through 127.0.0.1"
        with pytest.raises(ConnectionRejected) as rejected:
            async with open_websocket_url(url, context, origin="https://evil.example"):
                pass
        assert rejected.value.status_code == 403


async def test_closing(scheme: str, tmp_path: Path, certificates: Certificates) -> None:
    async with behind_nginx(scheme, tmp_path, certificates) as (url, context):
        for code in (1000, 1011, 3000, 4999):
            async with open_websocket_url(url, context) as ws:
                await ws.get_message()
                await ws.send_message(str(code))
                with pytest.raises(ConnectionClosed) as closed:
                    await ws.get_message()
            assert closed.value.reason is not None
            assert (closed.value.reason.code, closed.value.reason.reason) == (code, "as you wish")
            async with open_websocket_url(url, context) as ws:
                await ws.get_message()
                await ws.aclose(code, "enough")
            assert ws.closed is not None
            assert ws.closed.code == code


async def test_rejections(scheme: str, tmp_path: Path, certificates: Certificates) -> None:
    async with behind_nginx(scheme, tmp_path, certificates) as (url, context):
        with pytest.raises(ConnectionRejected) as rejected:
            async with open_websocket_url(f"{url}/forbidden", context):
                pass
        assert (rejected.value.status_code, rejected.value.body) == (403, b"not you")


async def test_a_certificate_of_nobody_is_refused(tmp_path: Path, certificates: Certificates) -> None:
    async with behind_nginx("wss", tmp_path, certificates) as (url, _):
        with pytest.raises(HandshakeError, match=r"(?i)certificate"):
            async with open_websocket_url(url, ssl.create_default_context()):
                pass


# --- What proxies tell of the client --------------------------------------------------------------------------------

X_FORWARDED_FOR = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
FORWARDED = 'proxy_set_header Forwarded "$http_forwarded, for=$remote_addr;proto=$scheme";'
FORGED = {"X-Forwarded-For": "10.9.9.9, 192.0.2.1", "Forwarded": 'for=10.9.9.9, for="192.0.2.1'}


@pytest.mark.parametrize("forged", [{}, FORGED])
async def test_x_forwarded_for(forged: dict[str, str], tmp_path: Path) -> None:
    async with serving(trusted_proxies=["127.0.0.1"]) as upstream:
        with nginx_for_http(tmp_path, upstream, headers=X_FORWARDED_FOR) as port:
            assert await told(port, forged) == f"{CLIENT} through 127.0.0.1"


@pytest.mark.parametrize("forged", [{}, FORGED])
async def test_forwarded(forged: dict[str, str], tmp_path: Path) -> None:
    async with serving(trusted_proxies=["127.0.0.1"], forwarded_header="forwarded") as upstream:
        with nginx_for_http(tmp_path, upstream, headers=FORWARDED) as port:
            assert await told(port, forged) == f"{CLIENT} through 127.0.0.1"


async def test_nobody_is_believed_by_default(tmp_path: Path) -> None:
    async with serving() as upstream:
        with nginx_for_http(tmp_path, upstream, headers=X_FORWARDED_FOR) as port:
            assert await told(port, FORGED) == "127.0.0.1 through 127.0.0.1"


async def test_two_proxies(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.mkdir()
    outer.mkdir()
    async with serving(trusted_proxies=["127.0.0.1"]) as upstream:
        with (
            nginx_for_http(inner, upstream, headers=X_FORWARDED_FOR) as port,
            nginx_for_http(outer, f"127.0.0.1:{port}", headers=X_FORWARDED_FOR) as port,
        ):
            assert await told(port, FORGED) == f"{CLIENT} through 127.0.0.1"


async def test_through_a_unix_socket(tmp_path: Path) -> None:
    listener = await open_unix_listener(tmp_path / "socket", mode=0o666)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server = WebSocketServer(echo, [listener], trusted_proxies=["unix"])
            await nursery.start(server.run)
            with nginx_for_http(tmp_path, f"unix:{tmp_path}/socket:", headers=X_FORWARDED_FOR) as port:
                assert await told(port, FORGED) == f"{CLIENT} through "
            await server.aclose(drain=1)


@contextmanager
def proxy_of(kind: str, folder: Path, upstream: str) -> Generator[int]:
    """Run a proxy that speaks the PROXY protocol."""
    if kind == "nginx":
        with nginx_for_tcp(folder, upstream) as port:
            yield port
    else:
        option = {"haproxy 1": "send-proxy", "haproxy 2": "send-proxy-v2"}[kind]
        with haproxy(folder, upstream, option) as port:
            yield port


PROXIES = ["nginx", "haproxy 1", "haproxy 2"]


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("trusted", [[], ["127.0.0.1"]])
async def test_the_proxy_protocol(kind: str, trusted: list[str], tmp_path: Path) -> None:
    async with serving(proxy_protocol=True, trusted_proxies=trusted) as upstream:
        with proxy_of(kind, tmp_path, upstream) as port:
            assert await told(port, FORGED) == f"{CLIENT} through {CLIENT}"


@pytest.mark.parametrize("kind", PROXIES)
async def test_the_proxy_protocol_before_tls(kind: str, tmp_path: Path, certificates: Certificates) -> None:
    async with serving(certificates.server, proxy_protocol=True) as upstream:
        with proxy_of(kind, tmp_path, upstream) as port:
            assert await told(port, FORGED, certificates.client) == f"{CLIENT} through {CLIENT}"


async def test_what_haproxy_sends_with_the_addresses_is_passed_over(tmp_path: Path) -> None:
    async with serving(proxy_protocol=True) as upstream:
        option = "send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl,cert-cn"
        with haproxy(tmp_path, upstream, option) as port:
            assert await told(port) == f"{CLIENT} through {CLIENT}"


async def test_haproxys_own_connections(tmp_path: Path) -> None:
    """A check of the server's health is said to be the proxy's own; the server goes on with it as with any other."""
    seen: list[Endpoint | str] = []
    checked = trio.Event()

    async def health(request: WebSocketRequest) -> None:
        seen.append(request.remote)
        await request.reject(200)
        checked.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[WebSocketServer]) -> None:
                await serve_websocket(
                    health, "127.0.0.1", 0, None, task_status=task_status, proxy_protocol=True
                )

            server = await nursery.start(run)
            key = "dGhlIHNhbXBsZSBub25jZQ=="
            option = (
                "send-proxy-v2 check inter 100ms\n    option httpchk\n"
                "    http-check send meth GET uri / ver HTTP/1.1 hdr Host localhost hdr Upgrade websocket"
                f" hdr Connection Upgrade hdr Sec-WebSocket-Version 13 hdr Sec-WebSocket-Key {key}"
            )
            with haproxy(tmp_path, f"127.0.0.1:{server.port}", option):
                await checked.wait()
            await server.aclose(drain=1)
    assert isinstance(seen[0], Endpoint)
    assert seen[0].address == ipaddress.ip_address("127.0.0.1")
