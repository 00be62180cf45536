"""Compiles the codec where there is a compiler, and knows nothing else: the rest stands in pyproject.toml.

`_codec.py` is compiled as it is under a second name, with the types of `_codec_c.pxd`; a machine without a compiler
gets the same package in Python alone.
"""

from __future__ import annotations

import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

OPTIMISE = ["/O2"] if sys.platform == "win32" else ["-O3"]

setup(
    ext_modules=cythonize(
        [
            Extension(f"trio_ws.protocol.{name}", [f"trio_ws/protocol/{source}"], extra_compile_args=OPTIMISE, optional=True)
            for name, source in {"_codec_c": "_codec.py", "_mask_c": "_mask_c.pyx"}.items()
        ],
        build_dir="build",
        # annotations are for the type checkers: an `int` of theirs may be larger than a machine's
        compiler_directives={
            "language_level": 3,
            "annotation_typing": False,
            "boundscheck": False,
            "wraparound": False,
        },
    )
)
