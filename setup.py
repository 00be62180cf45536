"""Compiles the codec where there is a compiler, and knows nothing else: the rest stands in pyproject.toml.

`_codec.py` and `_encode.py` are compiled as they are under second names, with the types of a .pxd each; a machine without a compiler
gets the same package in Python alone.
"""

from __future__ import annotations

import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = {"_codec_c": "_codec.py", "_encode_c": "_encode.py", "_mask_c": "_mask_c.pyx"}

# without debugging information, which Python's own flags ask for: five of six bytes of a module would be that
FLAGS = ["/O2"] if sys.platform == "win32" else ["-O3", "-g0"]

modules = cythonize(
    [
        Extension(f"trio_ws.protocol.{name}", [f"trio_ws/protocol/{source}"], extra_compile_args=FLAGS)
        for name, source in SOURCES.items()
    ],
    build_dir="build",
    force=True,  # that a module depends on its .pxd is more than Cython sees, and it takes a second
    # annotations are for the type checkers: an `int` of theirs may be larger than a machine's
    compiler_directives={
        "language_level": 3,
        "annotation_typing": False,
        "boundscheck": False,
        "wraparound": False,
    },
)
for module in modules:
    module.optional = True  # not above: cythonize() makes new extensions, and forgets this

setup(ext_modules=modules)
