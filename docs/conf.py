"""Sphinx configuration. The documented package is the installed one, so that what is shown is what is shipped."""

import importlib.metadata

from sphinx.application import Sphinx

import trio_ws

project = "trio_ws"
author = "trio_ws contributors"
copyright = author
release = version = importlib.metadata.version("trio_ws")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "benchmarks", "newsfragments"]  # the page on benchmarks includes what is there
html_theme = "furo"
html_title = f"trio_ws {release}"

# Single backticks in docstrings are code; a name in them need not be one that the reference lists.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "imported-members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes that a docstring lists are not described a second time


def skip_what_trio_ws_exports(app: Sphinx, _what: str, name: str, *_: object) -> bool | None:
    """Leave out of the protocol's page what has its place on that of trio_ws."""
    return True if app.env.docname == "reference/protocol" and name in trio_ws.__all__ else None


def setup(app: Sphinx) -> None:
    """Connect what is defined here to Sphinx."""
    app.connect("autodoc-skip-member", skip_what_trio_ws_exports)
