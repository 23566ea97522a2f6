"""Sphinx: built strictly and offline (`make docs`)."""

import inspect
import re
from importlib.metadata import version as _version

from curvae.systems.base import SYSTEMS

project = "curvae"
author = "The curvae developers"
copyright = author
release = version = _version("curvae")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx.ext.mathjax"]
exclude_patterns = ["_build", "skeletons"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "curvae"
html_theme_options = {"navigation_with_keys": True}

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Names outside the package cannot be looked up offline, and what a subpackage does not export has no page;
# every other reference to curvae is checked.
nitpick_ignore_regex = [(r"py:.*", r"(?!curvae\b).*"), (r"py:.*", r"curvae\.\w+\.\w+\.\w+.*")]


def _tidy(app, what, name, obj, options, lines):
    """Shapes stay as in the code, (*L, P), where reStructuredText reads emphasis; "Alias for field" says nothing."""
    for i, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        parts[::2] = [re.sub(r"(?<=[( ])\*(?=\w+[,)])", r"\\*", part) for part in parts[::2]]
        lines[i] = "" if line.startswith("Alias for field number") else "".join(parts)


# Sphinx reads default values from the source, where the argument that register() adds to a system does not stand.
_TAKE_A_PRIOR = {id(each) for each in SYSTEMS.values() if "prior" in inspect.signature(each).parameters}
for _each in SYSTEMS.values():
    del _each.__signature__


def _with_prior(app, what, name, obj, options, signature, returns):
    """The argument again."""
    return (f"{signature[:-1]}, *, prior='normal')", returns) if id(obj) in _TAKE_A_PRIOR and signature else None


def setup(app):
    app.connect("autodoc-process-docstring", _tidy)
    app.connect("autodoc-process-signature", _with_prior)
