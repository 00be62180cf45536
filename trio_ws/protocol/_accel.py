"""The choice between the protocol in Python and the same compiled; it must not know what makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._accel import accelerated

if TYPE_CHECKING or not accelerated:
    from ._codec import Decoder
    from ._encode import encode_frame, encode_payload
    from ._mask import apply_mask
    from ._protocol import Protocol
else:
    from ._codec_c import Decoder
    from ._encode_c import encode_frame, encode_payload
    from ._mask_c import apply_mask
    from ._protocol_c import Protocol

__all__ = ["Decoder", "Protocol", "apply_mask", "encode_frame", "encode_payload"]
