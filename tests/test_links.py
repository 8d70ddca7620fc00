"""Links of the notebooks and texts lead somewhere; no stored warning; pictures have their numbers."""

from base64 import b64encode

import pytest
from nbformat.v4 import new_output
from notebooks import code, notebook, save, text

from tools import MY, ROOT, chapters, prose, read
from tools.normalize import notebooks
from tools.site_check import link_faults, output_faults

NOTEBOOKS = notebooks(ROOT)
TEXTS = [
    path
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("[!_]*/**/*.md")])
    if not any(part.startswith(".") or part == MY for part in path.relative_to(ROOT).parts)
]


def named(paths):
    return {"ids": [path.relative_to(ROOT).as_posix() for path in paths]}


@pytest.mark.parametrize("path", NOTEBOOKS + TEXTS, **named(NOTEBOOKS + TEXTS))
def test_local_links_lead_somewhere(path):
    assert list(link_faults(path)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, **named(NOTEBOOKS))
def test_no_warning_is_stored_and_every_picture_has_its_numbers(path):
    assert list(output_faults(path)) == []


def links_of(path):
    return {
        link
        for cell in read(path).cells
        if cell.cell_type == "markdown"
        for link in prose.links(cell.source)
    }


@pytest.mark.parametrize("chapter", chapters(ROOT), ids=lambda one: one.name)
def test_one_can_go_on_from_every_notebook(chapter):
    """From a lesson to its exercises, answers and the next lesson; from those back and on."""
    order = sorted(chapters(ROOT), key=lambda one: one.name != "ch01")  # as on the pages
    place = order.index(chapter) + 1
    on = {f"../{one.folder.name}/{one.notebook.name}" for one in order[place : place + 1]}
    lesson = links_of(chapter.notebook)
    assert {"exercises.ipynb", "solutions.ipynb"} | on <= lesson
    for more in chapter.lessons[1:]:
        assert more.name in lesson
        assert {chapter.notebook.name, "exercises.ipynb"} | on <= links_of(more)
    for name in ("exercises.ipynb", "solutions.ipynb"):
        assert {chapter.notebook.name} | on <= links_of(chapter.folder / name)


LINKS = {
    "[a](gone.md)": "leads nowhere",
    "[a](ch02.ipynb#2.9-Gone)": "leads to no heading there",
    "[a](README.md#gone)": "leads to no heading there",
    "[a](README.md#Two-words)": "leads to no heading there",
    "![a 3](gone.png)": "leads nowhere",
    '<a href="gone.html">a</a>': "leads nowhere",
    "[a](ch02.ipynb#2.1-Cut-it)": None,
    "[a](README.md#two-words)": None,
    "[a](#2.1-Cut-it)": None,
    "[a](https://example.org/gone)": None,
    "```\n[a](gone.md)\n```": None,
}


@pytest.mark.parametrize("source", LINKS)
def test_a_dead_link_is_named(tmp_path, source):
    (tmp_path / "README.md").write_text("# Title\n\n## Two words\n\n```\n# no heading\n```\n")
    path = save(notebook(text("## 2.1 Cut it"), text(source)), tmp_path / "ch02.ipynb")
    found = list(link_faults(path))
    if LINKS[source] is None:
        assert found == []
    else:
        assert len(found) == 1 and found[0].endswith(LINKS[source])


def test_a_dead_link_of_a_text_is_named(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("# Title\n\n[here](#title) [there](#gone) [away](gone.md)\n")
    assert list(link_faults(path)) == [
        "README.md: the link '#gone' leads to no heading there",
        "README.md: the link 'gone.md' leads nowhere",
    ]


def picture(alt):
    data = {"image/png": b64encode(b"x").decode(), "text/plain": alt}
    return new_output("display_data", data=data, metadata={"image/png": {"alt": alt}})


def printed(words, name="stdout"):
    return new_output("stream", name=name, text=words)


OUTPUTS = [
    (printed("x.py:3: UserWarning: careful"), "a warning in the output"),
    (printed("careful", "stderr"), "a warning in the output"),
    ("DeprecationWarning('old')", "a warning in the output"),
    (picture("The loss falls."), "no number in the picture's text 'The loss falls.'"),
    (picture(""), "no number in the picture's text ''"),
    (
        picture("The loss falls: {'seen': 3}"),
        "Python in the picture's text \"The loss falls: {'seen': 3}\"",
    ),
    (picture("It falls at [1, 2]."), "Python in the picture's text 'It falls at [1, 2].'"),
    (picture("The loss falls to 3.1."), None),
    (printed("Warning signs are in chapter 4"), None),
]


@pytest.mark.parametrize("output, message", OUTPUTS)
def test_a_fault_of_an_output_is_named(tmp_path, output, message):
    path = save(notebook(code("f()", "here", [output], count=1)), tmp_path / "ch02.ipynb")
    assert list(output_faults(path)) == (
        [] if message is None else [f"ch02.ipynb, cell 'here': {message}"]
    )
