"""What Sphinx is to do with the pages."""

import tomllib
from pathlib import Path

_PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]

project = "FlowWorker"
release = _PROJECT["version"]
extensions = ["myst_parser"]
root_doc = "index"
nitpicky = True

# Anchors as GitHub makes them.
myst_heading_anchors = 6

html_theme = "furo"
html_title = f"FlowWorker {release}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]
