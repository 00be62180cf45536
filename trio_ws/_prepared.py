"""A message that is encoded once for all who receive it; knows nothing of who they are, nor how it gets to them.

Compressed payloads are shared as well: each is made by a fresh compressor, so it refers to nothing before it and any peer
with the same terms can inflate it. A peer that takes contexts over remembers it, which our compressor for that connection
does not; so that one is given back, and the next message that needs one gets a fresh one. Compressing for each connection
instead would take 64 us for 4 KiB of JSON, ten times as long as sending it, to save 1 to 5 % of its bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .protocol import Role, encode_payload

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .protocol import Protocol, Recipe


class PreparedMessage:
    """A message that is encoded, and compressed on equal terms, once for all connections that it is sent on.

    `WebSocketConnection.send_message` and `broadcast` take it. Clients mask each message anew, and therefore share its
    compression alone.

    Args:
        message: `str` is sent as text, any contiguous buffer as binary; a buffer may be changed afterwards.
        compress: whether to compress it where that was agreed on. None, the default, leaves it to each connection's
            threshold, and False is for what must stay secret from those who see how long messages are.

    Raises:
        ValueError: `message` is neither text nor a contiguous buffer, or is text that UTF-8 cannot encode.
    """

    __slots__ = ("_compress", "_compressed", "_frames", "_opcode", "_payload", "size")

    def __init__(self, message: str | Buffer, *, compress: bool | None = None) -> None:
        try:
            self._opcode, self._payload = encode_payload(message)
        except TypeError as error:
            raise ValueError(
                f"a message is text or a contiguous buffer, not {type(message).__name__}"
            ) from error
        self._compress = compress
        #: Bytes of the message, as it is before it is compressed.
        self.size = len(self._payload)
        # A server's frames and all payloads by how they were compressed; None: not at all.
        self._frames: dict[Recipe | None, tuple[bytes, ...]] = {}
        self._compressed: dict[Recipe, bytes] = {}

    def lacks(self, protocol: Protocol) -> bool:
        """Say whether it has to be compressed for a connection, and was not for one with the same terms."""
        recipe = self._recipe_for(protocol)
        return recipe is not None and recipe not in self._compressed

    def compress(self, recipe: Recipe) -> None:
        """Compress it in one way. May be called in any thread: what is done twice comes out the same."""
        self._compressed[recipe] = recipe.deflate(self._payload)

    def encode_for(self, protocol: Protocol) -> tuple[bytes, ...]:
        """Return its frame for a connection on which a message may be sent now, and which it has to be sent on."""
        recipe = None if protocol.deflater is None else self._recipe_for(protocol)
        frame = self._frames.get(recipe)
        if frame is None or protocol.role is Role.CLIENT:
            frame = self._encode(protocol, recipe)
        protocol.count_message(self.size)
        if recipe is not None and (deflater := protocol.deflater) is not None and deflater.takeover:
            deflater.release()
        return frame

    def _recipe_for(self, protocol: Protocol) -> Recipe | None:
        """Return how it is to be compressed for a connection; None is for not at all."""
        deflater = protocol.deflater
        return deflater.recipe if deflater and deflater.wants(self.size, self._compress) else None

    def _encode(self, protocol: Protocol, recipe: Recipe | None) -> tuple[bytes, ...]:
        payload = self._payload
        if recipe is not None:
            if recipe not in self._compressed:
                self.compress(recipe)
            payload = self._compressed[recipe]
        frame = protocol.send_payload(self._opcode, payload, recipe is not None)
        if protocol.role is Role.SERVER:
            self._frames[recipe] = frame
        return frame
