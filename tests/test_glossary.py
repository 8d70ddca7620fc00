"""The glossary: which bold words are terms, what their entries say, and that the course's page is right."""

import re
from urllib.parse import unquote

import pytest
from notebooks import ROOT, code, notebook, save, text

from tools import chapters, glossary


def page(root, *cells, name="ch02", folder="ch02_text_data"):
    """The glossary of a course of one lesson, whose first cell is a title."""
    save(notebook(text("# Chapter\n\n**What is it?**"), *cells), root / folder / f"{name}.ipynb")
    (root / "ch01_intro").mkdir(exist_ok=True)
    assert glossary.main([], root) == 0
    return (root / "ch01_intro/glossary.md").read_text(encoding="utf-8")


def lines(page):
    """The entries of a page without their links, a dictionary."""
    found = re.findall(r"^- \*\*(.+?)\*\*: (.*)$", page, re.MULTILINE)
    return {term: re.sub(r" \(\[.*?\]\(.*?\)\)", "", says) for term, says in found}


def test_an_entry_has_the_sentence_and_a_link_to_its_heading(tmp_path):
    found = page(
        tmp_path,
        text("## 2.1 Words as vectors\n\nWe begin. A **token** is a piece of text. We go on."),
        text("### And now?\n\nA **stride** is\na step."),
    )
    link = "../ch02_text_data/ch02.ipynb"
    assert (
        f"## S\n\n- **stride**: A stride is a step. ([2.1 Words as vectors]({link}#And-now%3F))"
        in found
    )
    assert (
        f"- **token**: A token is a piece of text. ([2.1 Words as vectors]({link}#2.1-Words-as-vectors))"
        in found
    )
    assert found.startswith("# Glossary\n") and found.index("## S") < found.index("## T")


def test_a_sentence_that_points_back_takes_along_the_one_before(tmp_path):
    found = page(
        tmp_path,
        text("## 2.1 A\n\nUnused. So each word gets a list. Such a list is an **embedding**."),
        code("1 + 1"),
        text("It is read by row. This is a **lookup**:"),
        code("2 + 2"),
        text("This is a **buffer**."),
    )
    assert lines(found) == {
        "embedding": "Each word gets a list. Such a list is an embedding.",
        "lookup": "Such a list is an embedding. It is read by row. This is a lookup.",
        "buffer": "It is read by row. This is a lookup. This is a buffer.",
    }


def test_a_new_heading_is_not_pointed_across(tmp_path):
    found = page(tmp_path, text("## 2.1 A\n\nOld."), text("## 2.2 B\n\nThis is a **lookup**."))
    assert lines(found) == {"lookup": "This is a lookup."}


@pytest.mark.parametrize(
    "bold",
    [
        "Trap: a mask of ones.",
        "Trap: no mask",
        "Why?",
        "forward, backward, step",
        "before training the loss must be log V",
        "end.",
    ],
)
def test_what_is_bold_and_no_term(tmp_path, bold):
    assert lines(page(tmp_path, text(f"## 2.1 A\n\nSome **{bold}** text."))) == {}


def test_the_title_cell_and_all_from_the_summary_on_define_nothing(tmp_path):
    found = page(tmp_path, text("## Summary\n\nA **token** again."), text("A **stride** again."))
    assert lines(found) == {}


def test_code_tables_diagrams_and_code_cells_define_nothing(tmp_path):
    found = page(
        tmp_path,
        text(
            "## 2.1 A\n\n```text\nA **node** is here.\n```\n\n| a **cell** |\n|---|\n\n`**kwargs` and `**more`"
        ),
        code("'a **string** is here.'"),
    )
    assert lines(found) == {}


def test_list_items_stand_alone_and_begin_with_a_capital(tmp_path):
    found = page(
        tmp_path,
        text(
            "## 2.1 A\n\nThree:\n- the **query** asks;\n- the **key** is found.\n1. one **value**"
        ),
    )
    assert lines(found) == {
        "query": "The query asks.",
        "key": "The key is found.",
        "value": "One value",
    }


def test_names_keep_their_letters(tmp_path):
    source = "## 2.1 A\n\n**GELU** bends. Then **Top-k** keeps. **Byte pairs** merge. **course-gpt** is ours. **F1** counts."
    found = lines(page(tmp_path, text(source)))
    assert set(found) == {"GELU", "top-k", "byte pairs", "course-gpt", "F1"}


def test_a_term_of_two_lessons_is_one_line_chapters_before_appendices(tmp_path):
    page(
        tmp_path,
        text("## A.1 X\n\n**Logits** are scores."),
        name="appendix_a",
        folder="appendix_a_pytorch",
    )
    found = page(tmp_path, text("## 2.1 A\n\nA **logit** is a score."))
    assert lines(found) == {"logit": "A logit is a score. Logits are scores."}
    assert found.index("[2.1 A]") < found.index("[A.1 X]")


def test_a_second_notebook_of_a_chapter_is_read_too(tmp_path):
    more = notebook(text("# More"), text("## 2.9 B\n\nA **stride** is a step."))
    save(more, tmp_path / "ch02_text_data" / "ch02_more.ipynb")
    found = page(tmp_path, text("## 2.1 A\n\nA **token** is a piece."))
    assert lines(found) == {"stride": "A stride is a step.", "token": "A token is a piece."}
    assert "([2.9 B](../ch02_text_data/ch02_more.ipynb#2.9-B))" in found


def test_a_section_explains_a_term_once(tmp_path):
    found = page(tmp_path, text("## 2.1 A\n\nA **token** is one. A **token** is two."))
    assert lines(found) == {"token": "A token is one."}


def test_links_of_the_lesson_become_text(tmp_path):
    found = page(tmp_path, text("## 2.1 A\n\nA **token**, see [there](x.md), is a piece."))
    assert lines(found) == {"token": "A token, see there, is a piece."}


def test_a_stale_page_is_told(tmp_path, capsys):
    page(tmp_path, text("## 2.1 A\n\nA **token** is a piece."))
    assert glossary.main(["--check"], tmp_path) == 0
    (tmp_path / "ch01_intro/glossary.md").write_text("# Glossary\n")
    capsys.readouterr()
    assert glossary.main(["--check"], tmp_path) == 1
    assert "+- **token**: A token is a piece." in capsys.readouterr().out


# --- the course's own page


def test_the_glossary_is_that_of_the_lessons(capsys):
    assert glossary.main(["--check"], ROOT) == 0, capsys.readouterr().out


def test_no_entry_is_left_without_a_sentence_or_points_to_one_that_is_not_there():
    for chapter in chapters(ROOT):
        for entry in glossary.entries(chapter):
            assert len(entry.text.split()) > 4 and entry.text[-1] in '.?")', entry
            assert not glossary.POINTS_BACK.match(entry.text), f"it points back: {entry}"


def test_every_place_is_a_heading_of_its_lesson():
    headings = {}
    for chapter in chapters(ROOT):
        for path in chapter.lessons:
            cells = glossary.read(path).cells
            parts = [part for cell in cells for part in glossary.paragraphs(cell.source)]
            headings[path.name] = {
                part.lstrip("#").strip().replace("`", "").replace(" ", "-")
                for part in parts
                if part.startswith("#")
            }
    text = (ROOT / glossary.PAGE).read_text(encoding="utf-8")
    places = re.findall(r"\]\((\S+?)#(\S+?)\)\)", text)
    assert len(places) > 60
    for address, anchor in places:
        assert (ROOT / "ch01_intro" / address).exists()
        assert unquote(anchor) in headings[address.split("/")[-1]], anchor
