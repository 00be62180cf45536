"""Choosing handlers by path and method, from a trie of segments; knows neither connections nor what handlers do.

A path is cut at its slashes first and percent-decoded then, so an encoded slash never makes two segments of one. What
programs read in different ways is refused: segments that lead elsewhere, and escapes that are none (RFC 3986 3.3).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar, cast
from urllib.parse import unquote_to_bytes

from .protocol import Headers, Request, Response

if TYPE_CHECKING:
    from ._request import WebSocketRequest

_Hook: TypeAlias = Callable[[Request], Awaitable[Response | None]]
_Handler: TypeAlias = Callable[..., Awaitable[object]]
_AnyHandler = TypeVar("_AnyHandler", bound=_Handler)
_HttpHandler = TypeVar("_HttpHandler", bound=Callable[..., Awaitable[Response]])

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")
_IS_METHOD = re.compile(r"[A-Z]+(?:-[A-Z]+)*")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SEPARATORS = re.compile(r"[/\\]")  # to a file system, if not here

#: Where `Router.process_request` leaves for `Router.handle` what it has found.
_FOUND: Final = "trio_ws.route"


class _Segment(NamedTuple):
    """A part of a pattern: fixed text, or a parameter, which may be all that is left."""

    text: str
    is_parameter: bool = False
    is_rest: bool = False


class _Target(NamedTuple):
    """A handler, the names of its parameters, and who is asked before it."""

    handler: _Handler
    names: tuple[str, ...]
    hooks: tuple[_Hook, ...]


@dataclass(slots=True)
class _Leaf:
    """What is at one path: a WebSocket, HTTP by method, or both."""

    websocket: _Target | None = None
    http: dict[str, _Target] = field(default_factory=dict[str, _Target])

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing."""
        return self.websocket is None and not self.http

    @property
    def methods(self) -> list[str]:
        """What may be asked for here."""
        methods = {*self.http}
        if "GET" in methods:
            methods.add("HEAD")
        if self.websocket is not None:
            methods.add("GET")
        return sorted(methods)

    def choose(self, request: Request) -> _Target | None:
        """Return what a request is for, if it is for anything."""
        target = self.http.get(
            "GET" if request.method == "HEAD" and "HEAD" not in self.http else request.method
        )
        if self.websocket is None or (self.http and request.method != "GET"):
            return target
        # also what asks for a WebSocket in a wrong way, and will be told how to
        return self.websocket if target is None or _asks_for_websocket(request) else target


@dataclass(slots=True)
class _Node:
    """A place in the trie: what is there, and where the next segment leads."""

    leaf: _Leaf = field(default_factory=_Leaf)
    fixed: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    parameter: _Node | None = None
    rest: _Leaf = field(default_factory=_Leaf)

    def leaf_of(self, pattern: Sequence[_Segment]) -> _Leaf:
        """Return the leaf of a pattern, grown if it was not there."""
        node = self
        for segment in pattern:
            if segment.is_rest:
                return node.rest
            if segment.is_parameter:
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.fixed.setdefault(segment.text, _Node())
        return node.leaf

    def find(self, segments: Sequence[str], at: int = 0) -> tuple[_Leaf, list[str]] | None:
        """Return the most specific leaf for the segments from `at` on, with the values of its parameters, last first.

        It goes no deeper than patterns do, and to no node twice, for each lies behind one way: the cost has a bound.
        """
        if at == len(segments):
            return None if self.leaf.is_empty else (self.leaf, [])
        segment = segments[at]
        found = self.fixed[segment].find(segments, at + 1) if segment in self.fixed else None
        if found is None and self.parameter is not None and segment and "/" not in segment:
            found = self.parameter.find(segments, at + 1)
            if found is not None:
                found[1].append(segment)
        if found is None and not self.rest.is_empty:
            found = self.rest, ["/".join(segments[at:])]
        return found


class Router:
    """A table of handlers by path, for WebSocket and for plain HTTP on the same port.

    A server takes both of its sides, and `handle` refuses to do without `process_request`::

        await serve_websocket(router.handle, host, port, None, process_request=router.process_request)

    A pattern is text that is not percent-encoded, such as ``/café/{room}/{file:path}``. ``{name}`` stands for one segment
    that is not empty, ``{name:path}`` at the end for all that is left, slashes included, even if that is nothing. Values
    are percent-decoded, and passed to the handler by name. Where several patterns match, fixed text wins over a
    parameter, and a parameter over a path, from the left.

    ``%2F`` never separates segments: one with it in it matches only ``{name:path}``, as a slash like the others. Paths
    with a segment that is ``.`` or ``..``, however it is spelled, or with a zero byte, and those that are not
    percent-encoded UTF-8, are answered with 400. So the value of ``{name}`` has no slash, and no value leads upwards.

    An unknown path is answered with 404, an unknown method at a known one with 405, and HEAD by what answers GET. The
    path decides first: a method is not looked for at a pattern that is less specific. Bodies of requests are not read.

    Args:
        process_request: called first with each request; a `Response` it returns is the answer, as with
            `AcceptOptions`. That of a router which is included in another one is called for its own handlers alone, after
            that of the other one.
    """

    def __init__(self, *, process_request: _Hook | None = None) -> None:
        self._hooks = () if process_request is None else (process_request,)
        self._root = _Node()
        self._routes: list[tuple[str, Collection[str], _Target]] = []
        self._is_included = False

    def websocket(self, pattern: str) -> Callable[[_AnyHandler], _AnyHandler]:
        """Return a decorator for a handler of WebSocket requests, such as ``async def chat(request, room)``.

        Args:
            pattern: the paths that it is for.

        Raises:
            RuntimeError: the router is included in another one.
            TypeError: the handler does not take the parameters of the pattern.
            ValueError: the pattern is malformed, or has a handler already.
        """

        def register(handler: _AnyHandler) -> _AnyHandler:
            self._register(pattern, (), handler, ())
            return handler

        return register

    def http(
        self, pattern: str, *, methods: Collection[str] = ("GET",)
    ) -> Callable[[_HttpHandler], _HttpHandler]:
        """Return a decorator for a handler of plain HTTP, such as ``async def health(request) -> Response``.

        At a path that has a WebSocket too, it gets what does not ask for one.

        Args:
            pattern: the paths that it is for.
            methods: the methods that it is for, in upper case.

        Raises:
            RuntimeError: the router is included in another one.
            TypeError: the handler does not take the parameters of the pattern.
            ValueError: the pattern or a method is malformed, or both have a handler already.
        """
        if isinstance(methods, str) or not methods or not all(map(_IS_METHOD.fullmatch, methods)):
            raise ValueError(f"methods is a collection of names in upper case, not {methods!r}")

        def register(handler: _HttpHandler) -> _HttpHandler:
            self._register(pattern, methods, handler, ())
            return handler

        return register

    def include(self, prefix: str, router: Router) -> None:
        """Register each handler of another router as if its pattern began with `prefix`, which may have parameters.

        The pattern ``""`` of the other router stands for the prefix itself. It takes no more handlers from now on, for
        they would be missing here.

        Raises:
            RuntimeError: this router is included in another one.
            TypeError: a handler does not take the parameters of the prefix.
            ValueError: the prefix is malformed or ends with a slash, or a path has a handler already.
        """
        if prefix.endswith("/"):
            raise ValueError(f"a prefix has no slash at its end: {prefix!r}")
        for pattern, methods, target in [*router._routes]:
            self._register(prefix + pattern, methods, target.handler, router._hooks + target.hooks)
        router._is_included = True

    def _register(
        self, pattern: str, methods: Collection[str], handler: _Handler, hooks: tuple[_Hook, ...]
    ) -> None:
        """Register a handler of HTTP for `methods`, or of WebSocket where there are none."""
        if self._is_included:
            raise RuntimeError(
                "this router is included in another one, which would not learn of this handler"
            )
        segments = _parse(pattern)
        target = _Target(handler, tuple(each.text for each in segments if each.is_parameter), hooks)
        _check_signature(pattern, target)
        leaf = self._root.leaf_of(segments)
        if leaf.websocket is not None if not methods else not leaf.http.keys().isdisjoint(methods):
            raise ValueError(f"there is a handler for {pattern!r} already")
        if methods:
            leaf.http |= dict.fromkeys(methods, target)
        else:
            leaf.websocket = target
        self._routes.append((pattern, methods, target))

    async def process_request(self, request: Request) -> Response | None:
        """Answer a request that is not for a WebSocket.

        Cancellation: as for what it calls.
        """
        response = await _ask(self._hooks, request)
        if response is not None:
            return response
        segments = _split(request.path)
        if segments is None:
            return _plain(400, "The path is malformed.")
        found = self._root.find(segments)
        if found is None:
            return _plain(404, "There is nothing at this path.")
        return await self._dispatch(request, *found)

    async def _dispatch(self, request: Request, leaf: _Leaf, values: list[str]) -> Response | None:
        target = leaf.choose(request)
        if target is None:
            allowed = ", ".join(leaf.methods)
            return _plain(405, f"The methods here are: {allowed}.", [(b"allow", allowed.encode())])
        response = await _ask(target.hooks, request)
        if response is not None:
            return response
        parameters = dict(zip(target.names, reversed(values), strict=True))
        if target is leaf.websocket:
            request.context[_FOUND] = self, target.handler, parameters
            return None
        return cast("Response", await target.handler(request, **parameters))

    async def handle(self, request: WebSocketRequest) -> None:
        """Call the handler that `process_request` has found.

        Raises:
            RuntimeError: `process_request` was not called, and with it nothing that guards the handlers.

        Cancellation: as for the handler.
        """
        router, handler, parameters = request.request.context.pop(_FOUND, (None, None, None))
        if router is not self:
            raise RuntimeError(
                "a server with router.handle needs process_request=router.process_request as well"
            )
        await handler(request, **parameters)


async def _ask(hooks: Sequence[_Hook], request: Request) -> Response | None:
    """Return the first answer that one of the hooks gives."""
    for hook in hooks:
        if (response := await hook(request)) is not None:
            return response
    return None


def _parse(pattern: str) -> list[_Segment]:
    """Take a pattern apart.

    Raises:
        ValueError: it is malformed.
    """
    if pattern and not pattern.startswith("/"):
        raise ValueError(f"a pattern begins with a slash, unlike {pattern!r}")
    segments = [_parse_segment(text, pattern) for text in pattern.split("/")[1:]]
    if any(segment.is_rest for segment in segments[:-1]):
        raise ValueError(f"nothing can follow the path in {pattern!r}")
    names = [segment.text for segment in segments if segment.is_parameter]
    if len(set(names)) < len(names):
        raise ValueError(f"a parameter is there twice in {pattern!r}")
    return segments


def _parse_segment(text: str, pattern: str) -> _Segment:
    if found := _PARAMETER.fullmatch(text):
        return _Segment(found[1], is_parameter=True, is_rest=found[2] is not None)
    if "{" in text or "}" in text:
        raise ValueError(f"{text!r} in {pattern!r} is neither {{name}} nor {{name:path}} nor fixed text")
    if text in (".", "..") or "\0" in text:
        raise ValueError(f"no path has the segment {text!r} of {pattern!r}")
    return _Segment(text)


def _check_signature(pattern: str, target: _Target) -> None:
    try:
        inspect.signature(target.handler).bind(None, **dict.fromkeys(target.names))
    except TypeError as exc:
        raise TypeError(f"the handler for {pattern!r} cannot be called with what is in it: {exc}") from exc


def _split(path: str) -> list[str] | None:
    """Return the decoded segments of a path; None: it is malformed, or no path, such as the ``*`` of OPTIONS."""
    if not path.startswith("/") or _BROKEN_ESCAPE.search(path):
        return None
    segments = path.split("/")[1:]
    if "%" in path:
        try:
            segments = [unquote_to_bytes(segment).decode("utf-8") for segment in segments]
        except UnicodeDecodeError:
            return None
    return None if any(map(_leads_elsewhere, segments)) else segments


def _leads_elsewhere(segment: str) -> bool:
    return "\0" in segment or (
        "." in segment and any(part in (".", "..") for part in _SEPARATORS.split(segment))
    )


def _asks_for_websocket(request: Request) -> bool:
    return any(
        item.strip(" \t").lower() == "websocket"
        for value in request.headers.get_all("upgrade")
        for item in value.split(",")
    )


def _plain(status: int, sentence: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> Response:
    content_type = (b"content-type", b"text/plain; charset=utf-8")
    return Response(status, Headers([content_type, *headers]), sentence.encode() + b"\n")
