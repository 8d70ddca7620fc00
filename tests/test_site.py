"""The pages of `make site`: the whole course built once and looked through, and planted faults."""

import re
import shutil
import subprocess
import sys
from base64 import b64encode
from html import escape

import pytest
from nbformat.v4 import new_output
from notebooks import code, notebook, save, text

from tools import ROOT, Refused, chapters, read, site, site_scripts
from tools.site_check import Page, faults

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PIXEL = b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
        "0000000a49444154789c63600000000200014873cd"
        "7c0000000049454e44ae426082"
    )
).decode()


@pytest.fixture(scope="session")
def placeholders(tmp_path_factory):
    """What stands in for MathJax where npm cannot bring them."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "tex-svg.js").write_text("// npm was not there")
    return folder


@pytest.fixture(scope="session")
def drawn():
    """The folder with MathJax; skips without npm or without its registry."""
    try:
        return site_scripts.fetch_scripts()
    except Refused as refused:
        pytest.skip(f"formulas are not looked at: {refused}")


@pytest.fixture(scope="session")
def pages(tmp_path_factory, placeholders):
    """The pages of the whole course; MathJax is looked at in `test_in_a_browser`."""
    out = tmp_path_factory.mktemp("course") / "_site"
    site.build(ROOT, out, placeholders)
    return out


def page_of(path, pages):
    page = pages / path.relative_to(ROOT).with_suffix(".html")
    return page.read_text(encoding="utf-8")


NOTEBOOKS = [
    path
    for chapter in chapters(ROOT)
    for path in (*chapter.lessons, *chapter.folder.glob("[es]*s.ipynb"))
]
IDS = [path.relative_to(ROOT).as_posix() for path in NOTEBOOKS]


def test_the_pages_have_no_fault(pages):
    assert list(faults(pages)) == []


def test_next_leads_from_the_contents_through_every_page_in_course_order(pages):
    path, seen = pages / "index.html", []
    while path not in seen:
        seen.append(path)
        follows = Page(path.read_text(encoding="utf-8")).relations.get("next")
        path = (path.parent / follows).resolve() if follows else path
    assert set(seen) == set(pages.rglob("*.html")) - {pages / "search.html"}
    first, door, *others = chapters(ROOT)  # chapter 1 before appendix A, which can be skipped
    lessons = [
        pages / one.notebook.relative_to(ROOT).with_suffix(".html")
        for one in (door, first, *others)
    ]
    assert (first.name, door.name) == ("appendix_a", "ch01")
    assert sorted(lessons, key=seen.index) == lessons


def test_the_contents_link_to_every_notebook(pages):
    links = Page((pages / "index.html").read_text(encoding="utf-8")).links
    assert {name.replace(".ipynb", ".html") for name in IDS} <= set(links)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_pictures_come_with_their_texts(path, pages):
    wanted = [
        output.metadata["image/png"]["alt"]
        for cell in read(path).cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    shown = Page(page_of(path, pages)).pictures
    assert [alt for source, alt in shown if "_images/" in source] == wanted


@pytest.mark.parametrize("name", ["ch06", "ch07"])
def test_a_box_is_shown_as_questions_with_their_answers(name, pages):
    (path,) = ROOT.glob(f"{name}_*/{name}.ipynb")
    (box,) = [cell for cell in read(path).cells if "import Box" in cell.source]
    page = page_of(path, pages)
    assert escape(box.outputs[0].data["text/plain"], quote=False) in page
    assert "children=(" not in page and "widget-view" not in page


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_marks_are_shown_and_solutions_folded(path, pages):
    page = page_of(path, pages)
    firsts = [cell.source.split("\n")[0].rstrip() for cell in read(path).cells]
    assert page.count('class="cell tag_promote') == firsts.count("#| promote")
    assert page.count('<details class="admonition hide above-input">') == firsts.count(
        "#| solution"
    )
    assert '<span class="c1">#| ' not in page


def test_the_search_knows_the_words(pages):
    index = (pages / "searchindex.js").read_text(encoding="utf-8")
    assert '"softmax"' in index or "softmax:" in index
    assert all(
        read(one.notebook).cells[0].source.split("\n")[0][2:] in index for one in chapters(ROOT)
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: no page was opened in a browser")
def test_in_a_browser(pages, drawn):
    """Every lesson fetches nothing from elsewhere, draws its diagrams, and is no wider than a phone."""
    browsers = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    for script in drawn.iterdir():
        shutil.copyfile(script, pages / "_static" / script.name)
    with browsers.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        for path in [pages / "index.html"] + [
            pages / one.notebook.relative_to(ROOT).with_suffix(".html") for one in chapters(ROOT)
        ]:
            page.goto(path.as_uri())
            page.wait_for_function(
                "document.querySelectorAll('mjx-container').length"
                " == document.querySelectorAll('.math').length"
            )
            assert page.locator("mjx-merror").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.goto((pages / "search.html").as_uri() + "?q=softmax")
        page.wait_for_selector("#search-results li a")
        browser.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


# A course of one chapter, and what can be wrong with it.


def course(root, *cells, below=()):
    (root / "README.md").write_text("# A course\n\nIn short.\n\n## Commands\n\n`make`\n")
    first = text("# Chapter 2: Text\n\n**What is text?**\n\nAn hour to read. Builds on nothing.")
    save(notebook(first, *cells), root / "ch02_text_data" / "ch02.ipynb")
    for name, cell in below:
        save(notebook(text("# More"), cell), root / "ch02_text_data" / name)
    return root


def picture(**metadata):
    data = {"image/png": PIXEL, "text/plain": "One point at 3."}
    return new_output("display_data", data=data, metadata={"image/png": metadata})


def test_a_small_course(tmp_path, placeholders):
    (tmp_path / "glossary.md").write_text(
        "# Words\n\n[a](ch02_text_data/ch02.ipynb#2.1-Cut-it%2C-%28%E2%88%92%29%3F) [b](#so--and-so)\n\n## So – and so\n"
    )
    cells = [
        text("## 2.1 Cut it, (−)?\n\nSee [the data](words.txt), and [all](../ch02_text_data/)."),
        code("#| promote\nimport re", count=1),
        code("words = [re.split](..)", count=1),  # looks like a link to a folder
        code("f()", count=2, outputs=[picture(alt="One point at 3.", width=700)]),
    ]
    course(tmp_path, *cells, below=[("solutions.ipynb", code("#| solution\nx = 1", count=1))])
    (tmp_path / "ch02_text_data" / "words.txt").write_text("a b")
    site.build(tmp_path, tmp_path / "out", placeholders)
    assert list(faults(tmp_path / "out")) == []
    lesson = (tmp_path / "out" / "ch02_text_data" / "ch02.html").read_text(encoding="utf-8")
    assert 'alt="One point at 3."' in lesson
    assert lesson.count('<span class="p">](</span>') == 1
    index = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "What is text?" in index and "An hour to read." in index and "glossary.html" in index


FRAME = """<table><thead><tr><th></th><th>loss</th></tr></thead>
<tbody><tr><th>0</th><td>3.1</td></tr></tbody></table>"""


@pytest.fixture(scope="module")
def small(tmp_path_factory, placeholders):
    """A course of one chapter with everything that has faults in furo's and myst-nb's own pages; its root."""
    root = tmp_path_factory.mktemp("small")
    about = "[Sol](ch02_text_data/solutions.ipynb) [plan](lecturers.md)"
    (root / "lecturers.md").write_text(
        "# For lecturers\n\nMarmalade.\n\n| | a |\n|---|---|\n| b | 1 |\n"
    )
    frame = new_output("execute_result", {"text/html": FRAME}, execution_count=1)
    course(
        root,
        text("See [solutions.ipynb](solutions.ipynb)."),
        code("f()", count=1, outputs=[frame]),
        below=[
            ("exercises.ipynb", code("x = ...", count=1)),
            ("solutions.ipynb", code("#| solution\nbergamot = 1", count=1)),
        ],
    )
    (root / "README.md").write_text(f"# A course\n\nIn short.\n\n## Commands\n\n{about}\n")
    site.build(root, root / "all", placeholders)
    site.build(root, root / "students", placeholders, students=True)
    return root


def html_of(root, name):
    return (root / name).read_text(encoding="utf-8")


def test_the_pages_can_be_read_aloud(small):
    """What axe-core found on the pages of furo, myst-nb and pandas: `accessible` in pages/conf.py."""
    for name in ("ch02_text_data/ch02", "ch02_text_data/solutions", "lecturers", "index", "search"):
        page = html_of(small, f"all/{name}.html")
        headings = re.findall(r'<\w+[^>]* role="heading"[^>]*>', page)
        assert len(headings) == 3 and all('aria-level="2"' in one for one in headings)
        assert re.findall('<aside aria-label="([^"]*)" class="(sidebar|toc)-drawer', page) == [
            ("All pages", "sidebar"),
            ("This page", "toc"),
        ]
        assert page.count("<aside") == 2 and page.count("<h1") == 1
        assert "<summary aria-label" not in page
        assert not re.search(r"<th\b[^>]*>(\s|<p></p>)*</th>", page)
    lesson = html_of(small, "all/ch02_text_data/ch02.html")
    assert "<th>loss</th>" in lesson and "<th>0</th>" in lesson  # only what is empty is no heading
    assert "Show the solution" in html_of(small, "all/ch02_text_data/solutions.html")


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not here: no script was run")
def test_boxes_that_scroll_are_reached_by_keyboard(small):
    """scroll.js on a page of four boxes, of which two are wider than their places, one after the other narrow."""
    assert "scroll.js" in html_of(small, "all/ch02_text_data/ch02.html")
    page = """
    const box = (scrollWidth) => ({ scrollWidth, clientWidth: 50, has: {},
      setAttribute(name, value) { this.has[name] = value; }, removeAttribute(name) { delete this.has[name]; } });
    const [code, narrow, table, shrunk] = [box(90), box(50), box(51), box(60)];
    const boxes = { pre: [code, narrow], ".cell_input pre": [code], ".table-wrapper": [table, shrunk] };
    globalThis.document = { querySelectorAll: (one) => boxes[one] ?? [], querySelector: () => "article" };
    globalThis.ResizeObserver = class { constructor(again) { this.again = again; } observe(what) {
      this.again(); shrunk.scrollWidth = 50; this.again();
      console.log(what + JSON.stringify([code, narrow, table, shrunk].map((one) => one.has))); } };
    """
    script = (ROOT / "pages" / "static" / "scroll.js").read_text(encoding="utf-8")
    done = subprocess.run(["node", "-e", page + script], capture_output=True, text=True)
    reached = '{"tabindex":"0","role":"group","aria-label":"%s"}'
    expected = f"article[{reached % 'Code'},{{}},{reached % 'Table'},{{}}]"
    assert (done.stdout.strip(), done.stderr) == (expected, "")


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not here: no script was run")
@pytest.mark.parametrize(
    "hash, marked, opened_at",
    [
        ("", ["tall: a tall house", "house: a tall house"], ["tall: a tall house"]),
        ("", ["tall: tall", "house: house", "tall: a tall house"], ["tall: a tall house"]),
        ("", ["tall: tall", "house: house"], ["tall: tall"]),  # not together
        ("", ["tall: folded tall", "tall: tall"], ["tall: tall"]),
        ("#here", ["tall: tall"], []),
        ("", [], []),
    ],
)
def test_a_page_opens_at_what_the_search_has_found(small, hash, marked, opened_at):
    """found.js on a page with marked words, each with the paragraph around it; they are marked after a while."""
    assert "found.js" in html_of(small, "all/ch02_text_data/ch02.html")
    page = f"""
    let marked = [];
    const word = (one) => ({{ textContent: one.split(": ")[0], checkVisibility: () => !one.includes("folded"),
      closest: () => ({{ textContent: one.split(": ")[1] }}), scrollIntoView: () => console.log(one) }});
    globalThis.location = {{ hash: "{hash}" }};
    globalThis.document = {{ querySelectorAll: () => marked, querySelector: () => "article" }};
    globalThis.MutationObserver = class {{ constructor(look) {{ this.look = look; }} disconnect() {{ this.look = () => 0; }}
      observe() {{ for (const now of [[], {marked}, {marked}]) {{
        marked = now.map(word); this.look([], this); }} }} }};
    """
    script = (ROOT / "pages" / "static" / "found.js").read_text(encoding="utf-8")
    done = subprocess.run(["node", "-e", page + script], capture_output=True, text=True)
    assert (done.stdout.splitlines(), done.stderr) == (opened_at, "")


def test_going_on_from_exercises_meets_no_solution(small):
    links = {
        name: Page(html_of(small, f"all/{name}.html")).relations.get("next")
        for name in ("ch02_text_data/ch02", "ch02_text_data/exercises", "lecturers")
    }
    assert list(links.values()) == [
        "exercises.html",
        "../README.html",
        "ch02_text_data/solutions.html",
    ]


def test_every_notebook_can_be_fetched_from_its_page_and_code_be_copied(small):
    for name in ("ch02", "exercises", "solutions"):
        page = html_of(small, f"all/ch02_text_data/{name}.html")
        assert f'<a href="{name}.ipynb" download>Get this notebook</a>' in page
        assert "copybutton.js" in page
        notebook = f"ch02_text_data/{name}.ipynb"
        assert (small / "all" / notebook).read_bytes() == (small / notebook).read_bytes()
    assert "Get this notebook" not in html_of(small, "all/README.html")
    copied = html_of(small, "all/_static/copybutton.js")
    assert "div.highlight:not(.cell_output *) pre" in copied  # of code, not of its outputs


def test_students_get_no_solution_in_any_way(small):
    pages = small / "students"
    assert list(faults(pages)) == []
    files = [path.relative_to(pages).as_posix() for path in pages.rglob("*") if path.is_file()]
    assert not [name for name in files if "solution" in name or "lecturers" in name]
    assert "ch02_text_data/exercises.ipynb" in files
    for name in files:
        if (
            name.endswith((".html", ".ipynb", "searchindex.js"))
            and name != "ch02_text_data/ch02.ipynb"
        ):
            text = html_of(pages, name).lower()
            for word in (
                "bergamot",
                "marmalade",
                "solutions.html",
                "lecturers.html",
                ">solutions<",
            ):
                assert word not in text, (name, word)
    assert "See solutions.ipynb." in html_of(pages, "ch02_text_data/ch02.html")
    both = html_of(small, "all/searchindex.js")  # where a word that is found would be
    assert "bergamot" in both and "marmalad" in both


def test_a_picture_without_text_is_named(tmp_path, placeholders):
    site.build(
        course(tmp_path, code("f()", count=1, outputs=[picture()])), tmp_path / "out", placeholders
    )
    [fault] = faults(tmp_path / "out")
    assert fault.startswith("ch02_text_data/ch02.html: the picture ") and "no alt text" in fault


def test_a_warning_of_sphinx_is_an_error_and_the_old_pages_stay(tmp_path, placeholders):
    site.build(course(tmp_path), tmp_path / "out", placeholders)
    before = sorted((tmp_path / "out").rglob("*"))
    course(tmp_path, text("[nothing](../ch03_none/ch03.ipynb)"))
    with pytest.raises(Refused, match="ch02.ipynb.*ch03_none"):
        site.build(tmp_path, tmp_path / "out", placeholders)
    assert sorted((tmp_path / "out").rglob("*")) == before
    assert not list(tmp_path.glob(".pages-*"))


@pytest.mark.parametrize("name", ["thesis.txt", "searchindex.js"])  # of other pages by Sphinx
def test_a_folder_with_other_things_is_left_alone(tmp_path, placeholders, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(Refused, match="other things than pages"):
        site.build(course(tmp_path), tmp_path / "out", placeholders)
    assert (tmp_path / "out" / name).read_text() == "mine"


@pytest.mark.parametrize("start", ["No title", "# Title only\n"])
def test_a_readme_of_another_form_is_refused(tmp_path, placeholders, start):
    course(tmp_path)
    (tmp_path / "README.md").write_text(start)
    with pytest.raises(Refused, match="README.md: it must begin"):
        site.build(tmp_path, tmp_path / "out", placeholders)


def test_the_command_says_what_is_wrong_and_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(site, "fetch_scripts", lambda: tmp_path)
    monkeypatch.setattr(site, "build", lambda root, out, *more: small_pages(out, ""))
    assert site.main([str(tmp_path)]) == 0
    assert "index.html in any browser" in capsys.readouterr().out
    (tmp_path / "lost.html").write_text("")
    assert site.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == "lost.html: not reached from the contents page\n"

    assert site.main(["--students", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "lost.html: not reached from the contents page\n"

    def without_npm():
        raise Refused("npm is missing")

    monkeypatch.setattr(site, "fetch_scripts", without_npm)
    assert site.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == "npm is missing\n"


FAULTS = {
    '<img src="a.png">': "the picture 'a.png' has no alt text",
    '<img src="a.png" alt=" ">': "the picture 'a.png' has no alt text",
    '<img src="a.png" alt="a.png">': "the picture 'a.png' has no alt text",
    '<img src="https://x.org/a.png" alt="3">': "fetches 'https://x.org/a.png' from elsewhere",
    '<img src="b.png" alt="3">': "fetches 'b.png', which is not there",
    '<img src="a.png" srcset="//x.org/a.png 2x" alt="3">': "fetches '//x.org/a.png' from elsewhere",
    '<script src="https://cdn.org/x.js"></script>': "fetches 'https://cdn.org/x.js' from elsewhere",
    '<script>import("https://cdn.org/x.js")</script>': "fetches 'https://cdn.org/x.js'",
    '<link rel="stylesheet" href="//cdn.org/x.css">': "fetches '//cdn.org/x.css' from elsewhere",
    '<link rel="preload" href="https://cdn.org/f">': "fetches 'https://cdn.org/f' from elsewhere",
    "<style>@import 'https://cdn.org/x.css'</style>": "fetches 'https://cdn.org/x.css'",
    '<p style="background: url(http://x.org/a)">x</p>': "fetches 'http://x.org/a' from elsewhere",
    '<iframe src="https://x.org"></iframe>': "fetches 'https://x.org' from elsewhere",
    '<a href="gone.html">x</a>': "the link 'gone.html' leads nowhere",
    '<a href="#gone">x</a>': "the link '#gone' leads to a page without this place",
    '<a href="index.html#gone">x</a>': "leads to a page without this place",
}


def small_pages(folder, body):
    (folder / "index.html").write_text(f'<h1 id="top">Contents</h1>{body}', encoding="utf-8")
    (folder / "a.png").write_bytes(b"")
    return folder


@pytest.mark.parametrize("body", FAULTS)
def test_a_fault_of_a_page_is_named(tmp_path, body):
    [fault] = faults(small_pages(tmp_path, body))
    assert fault.startswith("index.html: ") and FAULTS[body] in fault


def test_a_page_that_no_link_reaches_is_named(tmp_path):
    (tmp_path / "lost.html").write_text('<a href="index.html#top">back</a>')
    assert list(faults(small_pages(tmp_path, ""))) == [
        "lost.html: not reached from the contents page"
    ]


def test_a_style_sheet_that_fetches_is_named(tmp_path):
    (tmp_path / "x.css").write_text("@font-face { src: url(https://fonts.org/f.woff2) }")
    [fault] = faults(small_pages(tmp_path, ""))
    assert fault == "x.css: fetches 'https://fonts.org/f.woff2' from elsewhere"


def test_what_is_no_fault(tmp_path):
    body = (
        '<a href="https://x.org/paper">paper</a> <a href="#top">top</a> <a href="b%20c.html">next</a>'
        '<img src="a.png?v=1" alt="Loss 3.1 to 2.2"> <img src="data:image/png;base64,AA" alt="4">'
        '<link rel="next" href="b%20c.html"><script>const a = "b"</script>'
    )
    (tmp_path / "b c.html").write_text('<a href="index.html">up</a>')
    assert list(faults(small_pages(tmp_path, body))) == []


# MathJax.


def test_without_npm_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Refused, match="npm is missing: .*Install Node.js"):
        site_scripts.fetch_scripts(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for npm is a shell script")
@pytest.mark.parametrize(
    "script, message",
    [
        ('touch "$5/x.tgz"; echo \'[{"filename": "x.tgz"}]\'', "mathjax.* with other bytes"),
        ("echo no network >&2; exit 1", "npm could not fetch mathjax.*: no network"),
        (
            'echo \'{"error": {"summary": "offline"}}\'; exit 1',
            "could not fetch mathjax.*: offline",
        ),
    ],
)
def test_what_npm_brings_is_checked(tmp_path, monkeypatch, script, message):
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(npm))
    with pytest.raises(Refused, match=message):
        site_scripts.fetch_scripts(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
