"""The choice between the codec in Python and the same codec compiled; the only file that knows there are two.

The environment variable ``TRIO_WS_ACCEL`` decides when this is imported: ``auto``, the default, takes the compiled one
where it was built, ``1`` insists on it, ``0`` does without.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._codec import Decoder
    from ._encode import encode_chunks, encode_frame, encode_message, encode_payload
    from ._mask import apply_mask

    accelerated: bool
else:
    wanted = os.environ.get("TRIO_WS_ACCEL", "auto")
    if wanted not in ("auto", "0", "1"):
        raise ImportError(f"TRIO_WS_ACCEL must be auto, 0 or 1, not {wanted!r}")
    accelerated = wanted != "0"
    if accelerated:
        try:
            from ._codec_c import Decoder
            from ._encode_c import encode_chunks, encode_frame, encode_message, encode_payload
            from ._mask_c import apply_mask
        except ImportError as error:
            if wanted == "1":
                raise ImportError(
                    "TRIO_WS_ACCEL=1 asks for the compiled codec, which is not here: reinstall trio_ws where there are a "
                    "C compiler and Python's headers, or do without it by TRIO_WS_ACCEL=auto"
                ) from error
            accelerated = False
    if not accelerated:
        from ._codec import Decoder
        from ._encode import encode_chunks, encode_frame, encode_message, encode_payload
        from ._mask import apply_mask

__all__ = [
    "Decoder",
    "accelerated",
    "apply_mask",
    "encode_chunks",
    "encode_frame",
    "encode_message",
    "encode_payload",
]
