"""A server that keeps hashes of passwords, and checks them in threads, as hashing takes its time on purpose."""

import hashlib
import hmac
import os

import trio

from trio_ws import WebSocketRequest, basic_auth, serve_websocket


def hash_password(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def new_entry(password: str) -> tuple[bytes, bytes]:
    salt = os.urandom(16)
    return salt, hash_password(password, salt)


ENTRIES = {"ann": new_entry("correct horse battery staple")}
NOBODYS_ENTRY = new_entry(os.urandom(16).hex())


async def check(user: str, password: str) -> bool:
    # with an entry for those that do not exist, so that it takes as long for them
    salt, expected = ENTRIES.get(user, NOBODYS_ENTRY)
    found = await trio.to_thread.run_sync(hash_password, password, salt)
    return hmac.compare_digest(found, expected) and user in ENTRIES


async def greet(request: WebSocketRequest) -> None:
    ws = await request.accept()
    await ws.send_message(f"hello {request.request.context['user']}")


async def main() -> None:
    await serve_websocket(greet, "127.0.0.1", 8765, None, process_request=basic_auth("greetings", check))


if __name__ == "__main__":
    trio.run(main)
