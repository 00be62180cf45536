"""A client that follows redirects, within limits: `python redirects.py URL`."""

import sys

import trio

from trio_ws import RedirectError, Response, open_websocket_url


def check(url: str, response: Response) -> None:
    print(f"{response.status}: on to {url}")
    if "/internal/" in url:
        raise PermissionError(f"not to {url}")


async def main() -> None:
    try:
        async with open_websocket_url(
            sys.argv[1],
            max_redirects=3,
            on_redirect=check,
            auth=("ann", "secret"),  # stays with the server that the URL names
            extra_headers={"X-Trace-Id": "42"},
            redirect_headers=["X-Trace-Id"],  # goes along to others
        ) as ws:
            print(f"connected to {ws.url}: {await ws.get_message()}")
    except RedirectError as error:
        print(f"{error.headers.get('Location')}: {error.detail}")


if __name__ == "__main__":
    trio.run(main)
