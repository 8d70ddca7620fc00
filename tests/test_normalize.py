"""The normal form of notebooks: what it keeps, what it drops, what it refuses."""

import copy

import nbformat
import pytest
from nbformat.v4 import new_output
from notebooks import code, notebook, save, text

from tools import normalize as tool
from tools.normalize import NotARun, id_from_code, id_from_text, normal_form, slug

ONE = code("1 + 1", "one", ["2"], 1)
TWO = code("2 + 2", "two", ["4"], 2)


def test_a_normal_notebook_stays_as_it_is(tmp_path):
    path = save(normal_form(notebook(text("# Title", "title"), ONE, TWO)), tmp_path / "a.ipynb")
    before = path.read_bytes()
    assert not tool.normalize(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("counts", [(None, 2), (1, None), (2, 1), (1, 1), (1, 3), (2, 3), (0, 1)])
def test_counts_of_no_clean_run_are_refused(counts):
    cells = [code("a", "a", (), counts[0]), code("b", "b", (), counts[1])]
    with pytest.raises(NotARun, match="run top to bottom"):
        normal_form(notebook(*cells))


def test_a_result_of_another_run_is_refused():
    stale = copy.deepcopy(TWO)
    stale.outputs[0].execution_count = 7
    with pytest.raises(NotARun, match="code cell 2 .* count 7"):
        normal_form(notebook(ONE, stale))


def test_foreign_metadata_goes_and_tags_stay():
    cell = code("1", "one", (), 1, tags=["nbval-ignore-output"])
    cell.metadata.execution = {"iopub.execute_input": "2026-11-21T09:00:00Z"}
    cell.metadata.collapsed = False
    nb = notebook(cell)
    nb.metadata.widgets = {"state": {}}
    nb.metadata.language_info = {"name": "python", "version": "3.11.7"}
    nb.metadata.kernelspec = {"name": "mine", "display_name": "Mine"}
    nb.nbformat_minor = 4
    tidy = normal_form(nb)
    assert set(tidy.metadata) == {"kernelspec", "language_info"}
    assert tidy.metadata.kernelspec["name"] == "python3"
    assert tidy.metadata.language_info == {"name": "python"}
    assert tidy.cells[0].metadata == {"tags": ["nbval-ignore-output"]}
    assert (tidy.nbformat, tidy.nbformat_minor) == (4, 5)


def test_outputs_keep_what_is_compared_and_pictures():
    data = {
        "text/plain": "It ends at 3.",
        "image/png": "aGVsbG8=",
        "image/jpeg": "aGVsbG8=",
        "application/vnd.jupyter.widget-view+json": {"model_id": "4f1d"},
    }
    about = {"image/png": {"alt": "It ends at 3.", "width": 640, "needs": 1}, "isolated": True}
    outputs = [
        new_output("stream", name="stdout", text="a\n"),
        new_output("stream", name="stdout", text="b \n"),
        new_output("display_data", data=data, metadata=about),
        new_output("stream", name="stdout", text="c\n"),
    ]
    cell = normal_form(notebook(code("f()", "f", outputs, 1))).cells[0]
    assert [output.get("text") for output in cell.outputs] == ["a\nb \n", None, "c\n"]
    assert set(cell.outputs[1].data) == {"text/plain", "image/png"}
    assert cell.outputs[1].metadata == {"image/png": {"alt": "It ends at 3.", "width": 640}}


def test_trailing_blanks_of_the_source_go():
    tidy = normal_form(notebook(text("a  \nb\t\n\nc", "words"), code("x = 1\n\n", "x", (), 1)))
    assert [cell.source for cell in tidy.cells] == ["a\nb\n\nc", "x = 1"]


def test_readable_ids_stay_and_the_others_are_made():
    cells = [
        text("## 2.5 Byte pair encoding, *merge* by merge\n\nwords", "8f3a21bc"),
        text("Why is that so?", "a1b2c3d4-0000-4111-8222-123456789abc"),
        code("#| promote\nclass GPTDatasetV1:\n    pass", "Xy_9", (), 1),
        code("#| promote\nWORD_PATTERN = 'x'", "deadbeef", (), 2),
        code("import re\nfrom a import b", "0" * 8, (), 3),
        text("Why is that so?", "kept-as-it-is"),
        code("x = train(text)\nx", "kept-too", (), 4),
        code("x = train(text)\nx", "long-" * 9, (), 5),
    ]
    nb = notebook(*cells)
    nb.cells[0].id = "8f3a21bc"  # notebook() has names of its own for such ids
    nb.cells[6].id = "kept-as-it-is"
    ids = [cell.id for cell in normal_form(nb).cells]
    assert ids == [
        "byte-pair-encoding-merge-by-merge",
        "why-is-that-so",
        "gpt-dataset-v1",
        "word-pattern",
        "imports",
        "kept-as-it-is",
        "x-train-text-x",
        "x-train-text-x-2",
    ]


def test_a_notebook_without_ids_gets_them(tmp_path):
    nb = notebook(text("# One"), text("# One"), text("..."))
    for cell in nb.cells:
        del cell["id"]
    nb.nbformat_minor = 4
    path = save(nb, tmp_path / "old.ipynb")
    assert tool.normalize(path)
    assert [cell.id for cell in nbformat.read(path, 4).cells] == ["one", "one-2", "cell"]


@pytest.mark.parametrize(
    "made",
    [
        slug("A" * 100),
        slug("extraordinarily long-winded headings characteristically overflow"),
        slug("Ünïcode … don't"),
        slug("日本"),
        id_from_text("<details><summary>Answer</summary> yes"),
        id_from_code("%matplotlib inline"),
        id_from_code("# why\nx"),
        slug("3 times"),
    ],
)
def test_made_ids_are_valid(made):
    assert tool.is_readable(made), made


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    nb = notebook(ONE)
    nb.metadata.widgets = {}
    path = save(nb, tmp_path / "ch02_text_data" / "ch02.ipynb")
    before = path.read_bytes()
    assert tool.main(["--check"]) == 1
    assert "ch02.ipynb: not in normal form; run:" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert tool.main([]) == 0 and path.read_bytes() != before
    assert tool.main(["--check"]) == 0

    save(notebook(TWO), path)
    before = path.read_bytes()
    assert tool.main([]) == 1
    assert "has the execution count 2: run top to bottom" in capsys.readouterr().out
    assert path.read_bytes() == before
