"""The glossary: which bold words are terms, what their entries say, and that the course's page is right."""

import re
from urllib.parse import unquote

import pytest
from notebooks import ROOT, code, notebook, save, text

from tools import chapters, glossary

PAGE = "ch01_intro/glossary.md"


def page(root, *cells, name="ch02", folder="ch02_text_data", written=""):
    """The glossary of a course of one lesson, whose first cell is a title; `written`: the page before."""
    save(notebook(text("# Chapter\n\n**What is it?**"), *cells), root / folder / f"{name}.ipynb")
    (root / "ch01_intro").mkdir(exist_ok=True)
    if written:
        (root / PAGE).write_text(written, encoding="utf-8")
    assert glossary.main([], root) == 0
    return (root / PAGE).read_text(encoding="utf-8")


def lines(page):
    """The entries of a page: term -> definition."""
    return {term: says for term, says in glossary.definitions(page).values()}


def test_an_entry_keeps_its_definition_and_has_a_link_to_its_heading(tmp_path):
    lesson = [
        text("## 2.1 Words as vectors\n\nWe begin. A **token** is a piece of text. We go on."),
        text("### And now?\n\nA **stride** is\na step."),
    ]
    found = page(tmp_path, *lesson, written="- **token**: A piece of text. → [old](x.md)\n")
    link = "../ch02_text_data/ch02.ipynb"
    assert f"## S\n\n- **stride**: TO WRITE → [2.1 Words as vectors]({link}#And-now%3F)" in found
    place = f"[2.1 Words as vectors]({link}#2.1-Words-as-vectors)"
    assert f"- **token**: A piece of text. → {place}\n" in found
    assert found.startswith("# Glossary\n") and found.index("## S") < found.index("## T")
    assert page(tmp_path, *lesson) == found


def test_a_synonym_stays_and_what_no_lesson_explains_goes(tmp_path):
    written = "- **OOV**: see **token**.\n- **gone**: A word of yesterday. → [2.2](x.md)\n"
    found = page(tmp_path, text("## 2.1 A\n\nA **token** is one."), written=written)
    assert lines(found) == {"OOV": "see **token**.", "token": "TO WRITE"}


def test_a_term_defined_twice_is_refused(tmp_path, capsys):
    page(tmp_path, text("## 2.1 A\n\nA **token** is one."))
    (tmp_path / PAGE).write_text("- **token**: One.\n- **Tokens**: Two.\n", encoding="utf-8")
    assert glossary.main([], tmp_path) == 1
    assert "**Tokens** is defined twice" in capsys.readouterr().err


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
            "## 2.1 A\n\n```mermaid\nA **node** is here.\n```\n\n| a **cell** |\n|---|\n\n`**kwargs` and `**more`"
        ),
        code("'a **string** is here.'"),
    )
    assert lines(found) == {}


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
    found = page(tmp_path, text("## 2.1 A\n\nA **logit** is a score. A **logit** is two."))
    assert lines(found) == {"Logits": "TO WRITE"} or lines(found) == {"logits": "TO WRITE"}
    assert found.index("[2.1 A]") < found.index("[A.1 X]") and found.count("[2.1 A]") == 1


def test_a_second_notebook_of_a_chapter_is_read_too(tmp_path):
    more = notebook(text("# More"), text("## 2.9 B\n\nA **stride** is a step."))
    save(more, tmp_path / "ch02_text_data" / "ch02_more.ipynb")
    found = page(tmp_path, text("## 2.1 A\n\nA **token** is a piece."))
    assert set(lines(found)) == {"stride", "token"}
    assert "→ [2.9 B](../ch02_text_data/ch02_more.ipynb#2.9-B)" in found


def test_a_stale_page_is_told(tmp_path, capsys):
    page(tmp_path, text("## 2.1 A\n\nA **token** is a piece."))
    assert glossary.main(["--check"], tmp_path) == 0
    (tmp_path / PAGE).write_text("# Glossary\n")
    capsys.readouterr()
    assert glossary.main(["--check"], tmp_path) == 1
    assert "+- **token**: TO WRITE" in capsys.readouterr().out


# --- the course's own page


def test_the_glossary_is_that_of_the_lessons(capsys):
    assert glossary.main(["--check"], ROOT) == 0, capsys.readouterr().out


def course_page():
    return (ROOT / glossary.PAGE).read_text(encoding="utf-8")


def test_every_term_has_a_definition_of_its_own():
    found = lines(course_page())
    short = [term for term, says in found.items() if len(says.split()) < 4 and says[:4] != "see "]
    assert [term for term, says in found.items() if says == glossary.MISSING] == [] == short
    assert all(says.endswith(".") for says in found.values())


def test_a_synonym_names_a_term_that_is_there():
    found = glossary.definitions(course_page())
    for term, says in found.values():
        if says.startswith("see "):
            assert glossary.key(glossary.BOLD.search(says)[1]) in found, term


@pytest.mark.parametrize(
    "term",
    "residual connection|multi-head attention|subword|out-of-vocabulary|positional encoding|hyperparameter|"
    "hidden dimension|cross-attention|foundation model|contextual embedding|static embedding|RNN|BERT|GPT|"
    "large language model|byte pair encoding|logit|shortcut|LLM|BPE|OOV|positional embedding|greedy decoding|"
    "KV cache|layer normalization|weight tying|self-attention|special token|fine-tuning|pretraining".split(
        "|"
    ),
)
def test_the_words_of_the_field_are_there(term):
    assert glossary.key(term) in glossary.definitions(course_page())


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
    places = re.findall(r"\]\((\S+?)#(\S+?)\)", course_page())
    assert len(places) > 60
    for address, anchor in places:
        assert (ROOT / "ch01_intro" / address).exists()
        assert unquote(anchor) in headings[address.split("/")[-1]], anchor
