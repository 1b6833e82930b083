"""The documentation site: Sphinx, MyST and Furo. `./run docs` builds it; every warning is an error."""

import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

project = "isoflop"
author = "the isoflop authors"
html_show_copyright = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
nitpicky = True
# Types of other packages, and of modules that are not public API, have no page here.
nitpick_ignore_regex = [(r"py:.*", r".*")]

myst_heading_anchors = 3

default_role = "code"  # `name` in a docstring
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "model_config"}  # of pydantic
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
maximum_signature_line_length = 80

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "isoflop"
html_show_sphinx = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"
linkcheck_timeout = 20


class DiagramsAsLists(SphinxTransform):
    """A diagram in Mermaid, which code hosts draw, becomes a list: what each box points to."""

    default_priority = 400

    def apply(self, **_: object) -> None:
        """Replace every literal block of the language mermaid."""
        for block in list(self.document.findall(nodes.literal_block)):
            if block.get("language") == "mermaid":
                block.replace_self(arrows(block.astext()))


def arrows(diagram: str) -> nodes.bullet_list:
    """A list of the boxes of a diagram that point to others."""
    targets: dict[str, list[str]] = {}
    for source, target in re.findall(r"([\w.]+) (?:-->|==>) ([\w.]+)", diagram):
        targets.setdefault(source, []).append(target)
    items = []
    for source, names in targets.items():
        paragraph = nodes.paragraph("", "", nodes.literal(text=source), nodes.Text(" imports "))
        for i, name in enumerate(names):
            paragraph += [nodes.Text(", ")] * (i > 0) + [nodes.literal(text=name)]
        items.append(nodes.list_item("", paragraph))
    return nodes.bullet_list("", *items)


def setup(app: Sphinx) -> None:
    """Register the transform."""
    app.add_transform(DiagramsAsLists)
