"""The choice between the transports in Python and the same ones compiled; it must not know what makes it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._accel import accelerated

if TYPE_CHECKING or not accelerated:
    from ._base import Transport
    from ._poller import Poller

    if sys.platform != "win32":  # there is neither epoll nor kqueue
        from ._socket import SocketTransport
else:
    from ._base_c import Transport
    from ._poller_c import Poller

    if sys.platform != "win32":
        from ._socket_c import SocketTransport

__all__ = ["Poller", "SocketTransport", "Transport"]
