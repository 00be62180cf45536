"""Compiles what handles every message where there is a compiler, and knows nothing else: the rest is in pyproject.toml.

`_codec.py` is compiled as it is under a second name, with the types of `_codec_c.pxd`, and so are the others; a machine
without a compiler gets the same package in Python alone.
"""

from __future__ import annotations

import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

# the source of each compiled module in the package; trio_ws/_accel.py has the same names
SOURCES = {
    "protocol._mask_c": "protocol/_mask_c.pyx",
    "protocol._encode_c": "protocol/_encode.py",
    "protocol._codec_c": "protocol/_codec.py",
    "protocol._protocol_c": "protocol/_protocol.py",
    "transport._base_c": "transport/_base.py",
    "transport._poller_c": "transport/_poller.py",
    "transport._socket_c": "transport/_socket.py",
    "_inbox_c": "_inbox.py",
    "_ending_c": "_ending.py",
    "_link_c": "_link.py",
}

# without debugging information, which Python's own flags ask for: five of six bytes of a module would be that
FLAGS = ["/O2"] if sys.platform == "win32" else ["-O3", "-g0"]

modules = cythonize(
    [
        Extension(f"trio_ws.{name}", [f"trio_ws/{source}"], extra_compile_args=FLAGS)
        for name, source in SOURCES.items()
    ],
    build_dir="build",
    force=True,  # that _codec.py depends on _codec_c.pxd is more than Cython sees, and it takes some seconds
    # annotations are for the type checkers: an `int` of theirs may be larger than a machine's
    compiler_directives={
        "language_level": 3,
        "annotation_typing": False,
        "boundscheck": False,
    },
)
for module in modules:
    module.optional = True  # not above: cythonize() makes new extensions, and forgets this

setup(ext_modules=modules)
