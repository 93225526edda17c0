"""The documentation's settings: `python -m sphinx -W docs build/docs` builds it, without a network."""

from sphinx.ext.napoleon import Config, GoogleDocstring

import mpt

project = "mpt"
copyright = "the mpt authors"
version = release = mpt.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "myst_nb"]

html_theme = "furo"
html_title = f"mpt {release}"
html_copy_source = False
html_show_sphinx = False

# The notebook is shown as it was executed, with its outputs.
nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # which knows tables
myst_heading_anchors = 3
exclude_patterns = ["build", "runs"]

default_role = "code"  # docstrings write code between single backticks
autodoc_member_order = "bysource"
maximum_signature_line_length = 88

# The signature has the fields' types already, and shapes such as "*rows N" are no markup.
GOOGLE = Config(napoleon_use_ivar=True, napoleon_attr_annotations=False)


def google(app, what, name, obj, options, lines):
    """Reads a docstring's Args, Returns and Raises.

    Not a field's: Napoleon would take what stands before its first colon for its type.
    """
    if what != "attribute":
        lines[:] = GoogleDocstring(lines, GOOGLE, app, what, name, obj, options).lines()


def unnamed(app, what, name, obj, skip, options):
    """The fields of a named tuple stand in its own docstring."""
    return True if (obj.__doc__ or "").startswith("Alias for field number") else None


def setup(app):
    app.connect("autodoc-process-docstring", google)
    app.connect("autodoc-skip-member", unnamed)
