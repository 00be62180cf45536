"""The choice between the codec in Python and the same codec compiled; the only file that knows there are two.

The environment variable ``TRIO_WS_ACCEL`` decides: ``auto``, the default, takes the compiled one where it was built,
``1`` insists on it, ``0`` does without.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._codec import Decoder, encode_frame, encode_header
    from ._mask import apply_mask

    accelerated: bool
else:
    wanted = os.environ.get("TRIO_WS_ACCEL", "auto")
    if wanted not in ("auto", "0", "1"):
        raise ImportError(f"TRIO_WS_ACCEL must be auto, 0 or 1, not {wanted!r}")
    try:
        if wanted == "0":
            raise ImportError("not wanted")
        from ._codec_c import Decoder, encode_frame, encode_header
        from ._mask_c import apply_mask

        accelerated = True
    except ImportError:
        if wanted == "1":
            raise
        from ._codec import Decoder, encode_frame, encode_header
        from ._mask import apply_mask

        accelerated = False

__all__ = ["Decoder", "accelerated", "apply_mask", "encode_frame", "encode_header"]
