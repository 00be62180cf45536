"""Where a connection leads, what of the caller's goes there, and on to where a server redirects; it must not wait.

A redirect is followed only if the caller allows any. To another origin, which another port or a subdomain is too, the
caller's headers do not go along, and they stay away if the way leads back. Nothing leads from TLS to where there is
none, or to and from Unix sockets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ._credentials import with_authorization
from ._errors import InvalidURL, RedirectError, TooManyRedirects, connection_rejected
from ._url import WebSocketURL, ascii_host, join_url

if TYPE_CHECKING:
    from ._config import ClientConfig
    from .protocol import Response

#: RFC 9110 15.4; the others leave the choice to a person, or are for what is cached.
STATUSES = frozenset({301, 302, 303, 307, 308})


class Route:
    """The way to a connection.

    Args:
        url: where it begins.
        config: what the caller gives, and allows.

    Attributes:
        url: where the next request goes.
        headers: what of the caller's goes there.
        tls_name: what the server's certificate must be for.

    Raises:
        ValueError: an option makes no sense with such a URL.
    """

    def __init__(self, url: WebSocketURL, config: ClientConfig) -> None:
        if config.server_hostname is not None and not url.secure:
            raise ValueError(f"server_hostname is of no use for {url}: use a wss URL")
        if url.socket is not None and config.ways:
            raise ValueError(f"{config.ways[0]} is of no use for a Unix socket")
        self.url = replace(url, authorization=None)
        self.headers = with_authorization([*config.headers], url.authorization)
        self.tls_name = url.tls_name if config.server_hostname is None else ascii_host(config.server_hostname)
        self._config = config
        self._followed = 0
        self._visited = {self.url}

    def follow(self, response: Response) -> None:
        """Go on to where an answer other than 101 leads.

        Raises:
            ConnectionRejected: it is no redirect, or none is to be followed.
            RedirectError: it leads to where the client does not go.
        """
        locations = response.headers.get_all("location")
        if not self._config.max_redirects or response.status not in STATUSES or not locations:
            raise connection_rejected(response)
        url = self._target(response, locations)
        if self._config.on_redirect is not None:
            self._config.on_redirect(str(url), response)
        if url.origin != self.url.origin:
            self.tls_name = url.tls_name
            portable = self._config.portable
            self.headers = [(name, value) for name, value in self.headers if name.lower() in portable]
        self.url = url
        self._followed += 1
        self._visited.add(url)

    def _target(self, response: Response, locations: list[str]) -> WebSocketURL:
        if self._followed == self._config.max_redirects:
            raise TooManyRedirects(response, f"{self._followed} were followed, as max_redirects allows")
        if self._config.stream is not None:
            raise RedirectError(response, "a stream that was given leads to one place alone")
        if len(locations) > 1:
            raise RedirectError(response, "there are several Locations")
        try:
            # RFC 3987: what is not ASCII should have been percent-encoded; where it was not, it is UTF-8
            url = join_url(self.url, locations[0].encode("latin-1").decode())
        except InvalidURL as exc:
            raise RedirectError(response, str(exc)) from exc
        except UnicodeDecodeError as exc:
            raise RedirectError(response, "the Location is not UTF-8") from exc
        if url.authorization is not None:
            # RFC 9110 4.2.4: in a reference from an untrusted source it should be treated as an error
            raise RedirectError(response, "the Location has a user in it")
        if url.socket != self.url.socket:
            raise RedirectError(response, "no redirect leads to or from a Unix socket")
        if self.url.secure and not url.secure:
            raise RedirectError(response, f"{url} is without TLS")
        if url in self._visited:
            raise TooManyRedirects(response, f"it leads back to {url}")
        return url
