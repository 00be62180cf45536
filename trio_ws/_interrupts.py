"""Classes whose steps Ctrl-C never cuts in two; knows nothing of what they do.

Trio raises `KeyboardInterrupt` wherever the code of a task happens to be, which may be between two lines that belong
together: a connection that had sent its close frame and not yet set its deadline would wait for ever. In a protected
function, and all that it calls, it comes at the next checkpoint of the main task instead, as in Trio's own primitives.
That is a mark on the code, and costs nothing when it runs.
"""

from __future__ import annotations

from types import FunctionType
from typing import TypeVar

from trio.lowlevel import enable_ki_protection

_Class = TypeVar("_Class", bound=type)


def uninterrupted(cls: _Class) -> _Class:
    """Protect what a class defines itself: its methods, and what its properties do."""
    for each in vars(cls).values():
        function = each.fget if isinstance(each, property) else each
        if isinstance(function, FunctionType):
            enable_ki_protection(function)
    return cls
