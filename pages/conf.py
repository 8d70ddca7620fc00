"""Sphinx's settings for the pages of the course; tools/site.py lays out what it reads."""

import os
import re
from pathlib import PurePosixPath

import tools  # noqa: F401 (MyST-NB starts faster after it)

# isort: split
from myst_nb.core.render import NbElementRenderer

project = "Build a large language model"
html_title = project
project_copyright = "the authors of the course; code and texts: Apache License 2.0"
extensions = ["myst_nb", "sphinx_copybutton"]
copybutton_selector = "div.highlight:not(.cell_output *) pre"  # code, no outputs
templates_path = ["templates"]
nb_execution_mode = "off"  # the notebooks hold their outputs
nb_ipywidgets_js = {}  # a CDN would serve it
nb_merge_streams = True
nb_code_prompt_show = "Show the solution"
nb_code_prompt_hide = "Hide the solution"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_heading_slug_func = "tools.site_check.page_anchor"
html_theme = "furo"
html_static_path = ["static", os.environ["PAGES_SCRIPTS"]]
html_css_files = ["style.css"]
html_js_files = [(name, {"defer": "defer"}) for name in ("scroll.js", "found.js")]
html_copy_source = False
html_show_sourcelink = False
html_use_index = False
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}  # it loads parts that are not here


render_image = NbElementRenderer.render_image


def render_image_with_alt(self, data):
    """myst-nb 1.4 leaves out the alternative text that an output's metadata holds."""
    [image] = render_image(self, data)
    about = data.output_metadata[data.mime_type]
    image["alt"] = about.get("alt", "")
    if about.get("width", 0) > 600:
        image["classes"].append("wide")
    return [image]


def accessible(page):
    """A page's HTML, mended where Sphinx, furo and myst-nb leave a screen reader without a word.

    The titles in the list of pages have a level, its two sidebars names of their own, "Show the solution"
    is read out as it is written, and a table's empty corner is not announced as a heading.
    """
    page = re.sub(r'role="heading"(?! aria-level)', 'role="heading" aria-level="2"', page)
    for place, name in {"sidebar": "All pages", "toc": "This page"}.items():
        aside = f'class="{place}-drawer'
        page = page.replace(f"<aside {aside}", f'<aside aria-label="{name}" {aside}')
    page = page.replace(' aria-label="Toggle hidden content"', "")
    return re.sub(r"<th\b([^>]*)>((?:\s|<p></p>)*)</th>", r"<td\1>\2</td>", page)


# Lines of the pages found are fetched from them, which a browser refuses without a server.
SEARCH = 'if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;'


def complete(app, pagename, templatename, context, doctree):
    """What the templates use; a line for the search."""
    context["accessible"] = accessible
    if doctree is not None and app.env.doc2path(pagename).endswith(".ipynb"):
        context["notebook"] = f"{PurePosixPath(pagename).name}.ipynb"  # tools/site.py lays it there
    if pagename == "search":
        app.add_js_file(None, body=SEARCH)


def setup(app):
    NbElementRenderer.render_image = render_image_with_alt
    app.connect("html-page-context", complete)
